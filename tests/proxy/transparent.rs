//! Servers see clients' own addresses: three networks, the proxy's with `scripts/transparent`, in this process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

use pen_dsr::config::Config;
use pen_dsr::config::proxy::{Address, ListenConfig, Method, TransportProtocol};

use crate::harness::{PATIENCE, Running, backend, patient, patient_timeouts, start, uninterrupted};

const CLIENT: [&str; 2] = ["198.51.100.7", "2001:db8:1::7"];
const PROXY: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
const SERVER: [&str; 2] = ["10.9.0.7", "fd09::7"];

/// Waits for the links at $links: under load the kernel takes its time until they carry something, and without that their
/// addresses are of no use yet.
const LINKS_ARE_UP: &str = "for link in $links; do
        tries=900
        until ip -brief link show dev $link | grep -q ' UP '; do
            tries=$((tries - 1)); [ $tries -gt 0 ] || { echo \"$link does not come up\" >&2; exit 1; }
            sleep 0.05
        done
    done";

/// The processes of this thread are in its network.
fn shell(command: &str) -> bool {
    let output = Command::new("sh").args(["-ec", command]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.is_ok_and(|output| {
        if !output.status.success() {
            println!("{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    })
}

/// A thread in a network of its own, with one link, to do things there.
struct Host {
    jobs: Sender<Box<dyn FnOnce() + Send>>,
}

impl Host {
    /// With the end `link` of a link of this thread's network, which it calls `eth0`, set up by `commands`.
    fn new(link: &str, commands: String) -> Host {
        let (jobs, todo): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let (tell, told) = channel::<Pid>();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(gettid()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let thread = told.recv().unwrap();
        assert!(shell(&format!("ip link set {link} netns {thread} name eth0")));
        let host = Host { jobs };
        let commands = format!("ip link set lo up; ip link set eth0 up; {commands}; links=eth0; {LINKS_ARE_UP}");
        assert!(host.run(move || shell(&commands)));
        host
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || tell.send(job()).unwrap())).unwrap();
        told.recv().unwrap()
    }
}

/// Runs `test` in the proxy's network, between a client's and a server's.
fn between_hosts(name: &'static str, test: impl FnOnce(Host, Host) + Send + 'static) {
    let run = move || {
        if let Err(e) = unshare(CloneFlags::CLONE_NEWNET) {
            return Err(format!("no network namespace ({e})"));
        }
        let set_up = "command -v nft; ip link set lo up
            ip link add c0 type veth peer name c1; ip link add s0 type veth peer name s1
            ip link set c0 up; ip link set s0 up
            ip address add 198.51.100.1/24 dev c0; ip address add 2001:db8:1::1/64 dev c0 nodad
            ip address add 10.9.0.1/24 dev s0; ip address add fd09::1/64 dev s0 nodad
            scripts/transparent up";
        if !shell(set_up) {
            return Err("no ip, nft or veth".to_owned());
        }
        let addresses =
            |[v4, v6]: [&str; 2]| format!("ip address add {v4}/24 dev eth0; ip address add {v6}/64 dev eth0 nodad");
        let client = Host::new("c1", addresses(CLIENT));
        let server = Host::new(
            "s1",
            addresses(SERVER) + "; ip route add default via 10.9.0.1; ip route add default via fd09::1",
        );
        assert!(shell(&format!("links='c0 s0'; {LINKS_ARE_UP}")));
        test(client, server);
        Ok(())
    };
    match std::thread::spawn(run).join() {
        Ok(Ok(())) => {}
        Ok(Err(why)) => println!("SKIPPED {name}: {why}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn at(addresses: [&str; 2], family: usize, port: u16) -> SocketAddr {
    SocketAddr::new(addresses[family].parse().unwrap(), port)
}

/// A transparent listener at port `own`, for servers at these ports.
fn proxy(family: usize, transport: TransportProtocol, ports: &[u16], own: u16) -> Running {
    let mut config = Config::default();
    for (n, port) in ports.iter().enumerate() {
        let mut server = backend(&format!("be{n}"), at(SERVER, family, *port));
        server.prio = n as u32;
        config.balance.backends.push(server);
    }
    config.proxy.threads = 2;
    config.proxy.timeouts = patient_timeouts();
    config.proxy.selection.method = Method::Prio;
    let listener = ListenConfig::new(Address::Ip(at(PROXY, family, own)), transport);
    config.proxy.listeners.push(ListenConfig { transparent: true, ..listener });
    start(&config)
}

/// Listens, and does not wait for ever.
fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
    listener
}

#[test]
fn a_server_sees_the_clients_own_address_and_port_over_tcp() {
    between_hosts("a_server_sees_the_clients_own_address_and_port_over_tcp", |client, server| {
        for family in 0..2 {
            let listener = server.run(move || listen(at(SERVER, family, 80)));
            let served = std::thread::spawn(move || {
                let (mut stream, peer) = listener.accept().unwrap();
                patient(&stream);
                let mut question = [0; 5];
                stream.read_exact(&mut question).unwrap();
                stream.write_all(peer.to_string().as_bytes()).unwrap();
                peer
            });
            // Nobody listens at port 81: the refusal has to come back, too.
            let proxy = proxy(family, TransportProtocol::Tcp, &[81, 80], 9000);
            let there = proxy.address;
            let (own, answer) = client.run(move || {
                let mut stream = TcpStream::connect(there).unwrap();
                patient(&stream);
                stream.write_all(b"hello").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                (stream.local_addr().unwrap(), answer)
            });
            assert_eq!(answer, own.to_string());
            assert_eq!(served.join().unwrap(), own);
        }
    });
}

#[test]
fn a_client_from_one_port_at_two_listeners_keeps_its_address_with_both() {
    between_hosts("a_client_from_one_port_at_two_listeners_keeps_its_address_with_both", |client, server| {
        let listener = server.run(move || listen(at(SERVER, 0, 80)));
        let served = std::thread::spawn(move || {
            let (first, second) = (listener.accept().unwrap(), listener.accept().unwrap());
            [first.1, second.1]
        });
        let first = proxy(0, TransportProtocol::Tcp, &[80], 9000);
        let second = proxy(0, TransportProtocol::Tcp, &[80], 9001);
        let there = [first.address, second.address];
        let (own, _streams) = client.run(move || {
            let own = at(CLIENT, 0, 40_000);
            let connect = |there: SocketAddr| {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_reuse_address(true).unwrap();
                socket.bind(&own.into()).unwrap();
                socket.connect(&there.into()).unwrap();
                socket
            };
            (own, there.map(connect))
        });
        let seen = served.join().unwrap();
        assert!(seen.contains(&own), "{seen:?}");
        assert!(seen.iter().all(|peer| peer.ip() == own.ip()) && seen[0] != seen[1], "{seen:?}");
    });
}

#[test]
fn a_server_sees_the_clients_own_address_and_port_over_udp() {
    between_hosts("a_server_sees_the_clients_own_address_and_port_over_udp", |client, server| {
        for family in 0..2 {
            let socket = server.run(move || UdpSocket::bind(at(SERVER, family, 53)).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // To everybody who they are; more than once, as what is late is sent again.
            std::thread::spawn(move || {
                let mut buffer = [0; 100];
                while let Ok((_, peer)) = uninterrupted(|| socket.recv_from(&mut buffer)) {
                    let _ = socket.send_to(peer.to_string().as_bytes(), peer);
                }
            });
            // Nobody is at port 54: what the server's host says about that is for a socket with the client's address.
            let proxy = proxy(family, TransportProtocol::Udp, &[54, 53], 9000);
            let there = proxy.address;
            let (own, answer) = client.run(move || {
                let socket = UdpSocket::bind(at(CLIENT, family, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let mut buffer = [0; 100];
                // As clients do: neighbours may not know each other yet, and what says that nobody is at a port may be held back.
                let again = || socket.send_to(b"hello", there).and_then(|_| socket.recv_from(&mut buffer)).ok();
                let tries = PATIENCE.as_secs() as usize;
                let (length, from) = std::iter::repeat_with(again).take(tries).flatten().next().expect("an answer");
                assert_eq!(from, there);
                (socket.local_addr().unwrap(), String::from_utf8_lossy(&buffer[..length]).into_owned())
            });
            assert_eq!(answer, own.to_string());
        }
    });
}

//! Datagrams find their server, and answers their client.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use pen_dsr::config::Config;
use pen_dsr::config::proxy::{Address, ListenConfig, Method, TransportProtocol};
use pen_dsr::proxy::datagram::Reason;

use crate::harness::{PATIENCE, Running, backend, patient_timeouts, start, uninterrupted};
use crate::process::{wait_to_see, wait_until};

/// The longest datagram over IPv4 (65,535 bytes without its headers).
const LONGEST: usize = 65_507;

fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Answers each datagram with its name and what it got, until this goes.
struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<HashSet<SocketAddr>>>,
}

impl Server {
    fn new(address: &str, name: &'static str) -> Server {
        let socket = socket(address);
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut seen = HashSet::new();
            let mut buffer = vec![0; 65_535];
            while !ended.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                seen.insert(from);
                let answer = if name.is_empty() {
                    buffer[..length].to_vec()
                } else {
                    [name.as_bytes(), &buffer[..length]].concat()
                };
                socket.send_to(&answer, from).unwrap();
            }
            seen
        });
        Server { address, over, thread: Some(thread) }
    }

    /// Ends it, as if it were killed; who it has heard of.
    fn kill(mut self) -> HashSet<SocketAddr> {
        self.over.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An address of that IP that nobody has, and nobody is given who asks for any: its port is below those.
fn free(ip: &str) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes may do the same.
    let start = 12_000 + std::process::id() % 8000;
    let ports = std::iter::repeat_with(|| start as u16 + NEXT.fetch_add(1, Relaxed));
    let mut addresses = ports.map(|port| SocketAddr::new(ip.parse().unwrap(), port));
    addresses.find(|address| UdpSocket::bind(address).is_ok()).expect("a free port")
}

/// One listener for datagrams at `ip`.
fn config(ip: &str, servers: &[SocketAddr]) -> Config {
    let mut config = Config::default();
    for (n, server) in servers.iter().enumerate() {
        config.balance.backends.push(backend(&format!("be{n}"), *server));
    }
    config.proxy.threads = 1;
    config.proxy.timeouts = patient_timeouts();
    config.proxy.listeners.push(ListenConfig::new(Address::Ip(free(ip)), TransportProtocol::Udp));
    config
}

/// What is answered to `question`.
fn ask(client: &UdpSocket, proxy: SocketAddr, question: &[u8]) -> Vec<u8> {
    client.send_to(question, proxy).unwrap();
    let mut buffer = vec![0; 65_535];
    let (length, from) = uninterrupted(|| client.recv_from(&mut buffer)).unwrap();
    assert_eq!(from, proxy, "an answer from somewhere else");
    buffer.truncate(length);
    buffer
}

fn dropped(proxy: &Running, reason: Reason) -> u64 {
    proxy.proxy.shared().datagrams.dropped(reason)
}

fn clients(proxy: &Running) -> u32 {
    proxy.proxy.shared().datagrams.clients()
}

#[test]
fn a_question_is_answered_by_each_family_to_each() {
    for (listener, server) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")] {
        let server = Server::new(server, "one:");
        let proxy = start(&config(listener, &[server.address]));
        let client = socket(listener);
        assert_eq!(ask(&client, proxy.address, b"hello"), b"one:hello");
        let tally = &proxy.proxy.shared().datagrams;
        let counters = [&tally.to_servers, &tally.bytes_to_servers, &tally.to_clients, &tally.bytes_to_clients];
        wait_until("it is counted", || counters.map(|n| n.load(Relaxed)) == [1, 5, 1, 9]);
        let first = Arc::clone(&proxy.proxy.plan().servers[0]);
        let of_server = || (first.sent.load(Relaxed), first.received.load(Relaxed), first.connections());
        wait_to_see("so it is of the server", of_server, |&seen| seen == (5, 9, 1));
    }
}

#[test]
fn empty_and_longest_datagrams_arrive_whole() {
    let server = Server::new("127.0.0.1", "");
    let proxy = start(&config("127.0.0.1", &[server.address]));
    let client = socket("127.0.0.1");
    let longest: Vec<u8> = (0..LONGEST).map(|n| (n % 251) as u8).collect();
    for question in [&longest[..0], &longest[..1], &longest[..1472], &longest[..9000], &longest] {
        assert!(ask(&client, proxy.address, question) == question, "{} bytes", question.len());
    }
    assert_eq!(proxy.proxy.shared().datagrams.all_dropped(), 0);
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let server = Server::new("127.0.0.1", "");
    let proxy = start(&config("0.0.0.0", &[server.address]));
    let client = socket("127.0.0.1");
    // Every address of 127.0.0.0/8 is this host's, on Linux; the same client is another one at each of them.
    let addresses =
        if cfg!(target_os = "linux") { &["127.0.0.1", "127.0.0.2", "127.9.9.9"][..] } else { &["127.0.0.1"] };
    for _ in 0..2 {
        for address in addresses {
            let ip: IpAddr = address.parse().unwrap();
            let there = SocketAddr::new(ip, proxy.address.port());
            assert_eq!(ask(&client, there, address.as_bytes()), address.as_bytes());
        }
    }
    assert_eq!(clients(&proxy) as usize, addresses.len());
    let proxy = start(&config("::", &[server.address]));
    let client = socket("::1");
    assert_eq!(ask(&client, SocketAddr::new("::1".parse().unwrap(), proxy.address.port()), b"v6"), b"v6");
}

#[test]
fn a_server_that_refuses_is_left_out_and_the_question_asked_elsewhere() {
    let server = Server::new("127.0.0.1", "two:");
    let mut config = config("127.0.0.1", &[free("127.0.0.1"), server.address]);
    config.proxy.selection.method = Method::Prio; // the first one as long as it is thought well
    config.proxy.selection.track = false;
    config.balance.backends[1].prio = 1;
    let proxy = start(&config);
    for _ in 0..10 {
        let client = socket("127.0.0.1");
        // Once, with no retry of the client's.
        assert_eq!(ask(&client, proxy.address, b"hello"), b"two:hello");
    }
    let servers = &proxy.proxy.plan().servers;
    assert_eq!(servers[0].failed.load(Relaxed), 1, "tried again although it is left out");
    assert_eq!((servers[0].connections(), servers[1].connections()), (0, 10));
    assert_eq!(proxy.proxy.shared().datagrams.all_dropped(), 0);
}

#[test]
fn a_server_that_dies_is_replaced_in_the_middle() {
    let (one, two) = (Server::new("127.0.0.1", "one:"), Server::new("127.0.0.1", "two:"));
    let mut config = config("127.0.0.1", &[one.address, two.address]);
    config.proxy.selection.method = Method::Prio;
    config.balance.backends[1].prio = 1;
    let proxy = start(&config);
    let client = socket("127.0.0.1");
    assert_eq!(ask(&client, proxy.address, b"a"), b"one:a");
    one.kill();
    // As clients do: what says that nobody is at a port may be held back by a limit that all of the machine share.
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 100];
    let again = || client.send_to(b"b", proxy.address).and_then(|_| client.recv(&mut buffer)).ok();
    let tries = PATIENCE.as_secs() as usize;
    let length = std::iter::repeat_with(again).take(tries).flatten().next().expect("an answer");
    assert_eq!(&buffer[..length], b"two:b");
    // From now on it is known, and nothing has to be asked again.
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&client, proxy.address, b"b"), b"two:b");
    }
    assert_eq!(clients(&proxy), 1);
}

#[test]
fn a_client_of_a_server_that_checks_find_down_gets_another() {
    let (one, two) = (Server::new("127.0.0.1", "one:"), Server::new("127.0.0.1", "two:"));
    let mut config = config("127.0.0.1", &[one.address, two.address]);
    config.proxy.selection.method = Method::Prio;
    config.balance.backends[1].prio = 1;
    let proxy = start(&config);
    let client = socket("127.0.0.1");
    assert_eq!(ask(&client, proxy.address, b"a"), b"one:a");
    let servers = &proxy.proxy.plan().servers;
    servers[0].set_healthy(false);
    assert_eq!(ask(&client, proxy.address, b"b"), b"two:b");
    // With nobody else it keeps what it has.
    servers[1].set_healthy(false);
    assert_eq!(ask(&client, proxy.address, b"c"), b"two:c");
}

#[test]
fn with_no_server_datagrams_are_dropped_and_counted() {
    let config = config("127.0.0.1", &[free("127.0.0.1"), free("127.0.0.1")]);
    let proxy = start(&config);
    let client = socket("127.0.0.1");
    client.send_to(b"hello", proxy.address).unwrap();
    wait_until("it is dropped once all have refused", || dropped(&proxy, Reason::NoServer) == 1);
    wait_until("the client is forgotten", || clients(&proxy) == 0);
    for server in &proxy.proxy.plan().servers {
        server.set_healthy(false);
    }
    for _ in 0..10 {
        client.send_to(b"hello", proxy.address).unwrap();
    }
    wait_until("nobody is asked", || dropped(&proxy, Reason::NoServer) == 11);
    assert_eq!(clients(&proxy), 0);
}

#[test]
fn a_thousand_clients_each_get_their_own_answers() {
    let servers = [Server::new("127.0.0.1", ""), Server::new("127.0.0.1", ""), Server::new("127.0.0.1", "")];
    let mut config = config("127.0.0.1", &servers.each_ref().map(|server| server.address));
    config.proxy.threads = 2;
    let proxy = start(&config);
    let sockets: Vec<UdpSocket> = (0..1000).map(|_| socket("127.0.0.1")).collect();
    for round in 0..3 {
        // Some at a time: what the kernel has no room for would be nobody's fault.
        for (part, clients) in sockets.chunks(50).enumerate() {
            let question = |n: usize| format!("client {n} of {part} in {round}");
            for (n, client) in clients.iter().enumerate() {
                client.send_to(question(n).as_bytes(), proxy.address).unwrap();
            }
            let mut buffer = [0; 100];
            for (n, client) in clients.iter().enumerate() {
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], question(n).as_bytes());
            }
        }
    }
    let tally = &proxy.proxy.shared().datagrams;
    assert_eq!((tally.clients(), tally.begun.load(Relaxed), tally.all_dropped()), (1000, 1000, 0));
    let connections = proxy.proxy.plan().servers.iter().map(|server| server.connections()).sum::<u32>();
    assert_eq!(connections, 1000);
    // Each client had one socket, the same for all its questions.
    let heard: usize = servers.into_iter().map(|server| server.kill().len()).sum();
    assert_eq!(heard, 1000);
}

#[test]
fn a_client_that_is_silent_is_forgotten() {
    let server = Server::new("127.0.0.1", "");
    let mut config = config("127.0.0.1", &[server.address]);
    // Longer than the machine may stand still between a question and its answer.
    config.proxy.timeouts.udp = Duration::from_secs(6);
    let proxy = start(&config);
    let client = socket("127.0.0.1");
    ask(&client, proxy.address, b"hello");
    assert_eq!(proxy.proxy.shared().datagrams.begun.load(Relaxed), 1);
    wait_until("it is forgotten", || clients(&proxy) == 0);
    wait_until("so is its connection", || proxy.proxy.plan().servers[0].connections() == 0);
    ask(&client, proxy.address, b"hello");
    assert_eq!(proxy.proxy.shared().datagrams.begun.load(Relaxed), 2);
}

#[test]
fn a_silent_server_costs_nothing_but_its_clients_time() {
    let silent = socket("127.0.0.1");
    let mut config = config("127.0.0.1", &[silent.local_addr().unwrap()]);
    config.proxy.timeouts.udp = Duration::from_millis(200);
    let proxy = start(&config);
    let client = socket("127.0.0.1");
    for _ in 0..100 {
        client.send_to(b"anybody?", proxy.address).unwrap();
    }
    let mut buffer = [0; 100];
    for _ in 0..100 {
        silent.recv(&mut buffer).unwrap();
    }
    wait_until("it is forgotten", || clients(&proxy) == 0);
    assert_eq!(proxy.proxy.plan().servers[0].failed.load(Relaxed), 0);
}

#[test]
fn when_there_is_no_room_answered_clients_give_way_and_waiting_ones_do_not() {
    let (server, silent) = (Server::new("127.0.0.1", ""), socket("127.0.0.1"));
    let mut config = config("127.0.0.1", &[server.address]);
    config.proxy.limits.udp_clients = 3;
    let proxy = start(&config);
    let sockets: Vec<UdpSocket> = (0..5).map(|_| socket("127.0.0.1")).collect();
    for client in &sockets[..3] {
        ask(client, proxy.address, b"a");
    }
    // Not at once: whoever has just been answered may have more to ask.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(ask(&sockets[3], proxy.address, b"later"), b"later");
    assert_eq!(proxy.proxy.shared().datagrams.evicted.load(Relaxed), 1);
    assert_eq!(clients(&proxy), 3);

    config.balance.backends[0] = backend("silent", silent.local_addr().unwrap());
    let proxy = start(&{
        config.proxy.listeners[0].address = Address::Ip(free("127.0.0.1"));
        config
    });
    for client in &sockets[..3] {
        client.send_to(b"a", proxy.address).unwrap();
        silent.recv(&mut [0; 10]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(1100));
    sockets[4].send_to(b"a", proxy.address).unwrap();
    wait_until("those that wait keep their places", || dropped(&proxy, Reason::Limit) == 1);
    assert_eq!(clients(&proxy), 3);
}

#[test]
fn an_access_list_keeps_clients_out() {
    let server = Server::new("127.0.0.1", "");
    let mut config = config("127.0.0.1", &[server.address]);
    // A list that nobody has written permits nobody.
    config.proxy.listeners[0].client_acl = Some(1);
    let proxy = start(&config);
    let client = socket("127.0.0.1");
    client.send_to(b"hello", proxy.address).unwrap();
    wait_until("it is denied", || dropped(&proxy, Reason::Denied) == 1);
}

#[test]
fn a_burst_of_one_client_arrives_in_order() {
    let silent = socket("127.0.0.1");
    socket2::SockRef::from(&silent).set_recv_buffer_size(4 << 20).unwrap();
    let proxy = start(&config("127.0.0.1", &[silent.local_addr().unwrap()]));
    let client = socket("127.0.0.1");
    client.connect(proxy.address).unwrap();
    for n in 0..100u32 {
        client.send(&n.to_be_bytes()).unwrap();
    }
    let mut last = None;
    let mut buffer = [0; 100];
    for _ in 0..100 {
        assert_eq!(silent.recv(&mut buffer).unwrap(), 4);
        let n = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        assert_eq!(n, last.map_or(0, |last: u32| last + 1));
        last = Some(n);
    }
}

#[test]
fn a_reload_keeps_clients_and_takes_new_listeners_in() {
    let (one, two) = (Server::new("127.0.0.1", "one:"), Server::new("127.0.0.1", "two:"));
    let mut config = config("127.0.0.1", &[one.address]);
    let mut proxy = start(&config);
    let client = socket("127.0.0.1");
    assert_eq!(ask(&client, proxy.address, b"a"), b"one:a");
    // One listener and one server more.
    let second = free("127.0.0.1");
    config.proxy.listeners.push(ListenConfig::new(Address::Ip(second), TransportProtocol::Udp));
    config.balance.backends.push(backend("be1", two.address));
    let prepared = proxy.proxy.plan_for(&config, true).unwrap();
    proxy.proxy.adopt(prepared, &config);
    assert_eq!(ask(&client, proxy.address, b"b"), b"one:b");
    ask(&socket("127.0.0.1"), second, b"c");
    assert_eq!(clients(&proxy), 2);
    // The server that it has goes: another one from the next datagram on.
    config.balance.backends.remove(0);
    let prepared = proxy.proxy.plan_for(&config, true).unwrap();
    proxy.proxy.adopt(prepared, &config);
    assert_eq!(ask(&client, proxy.address, b"d"), b"two:d");
    // The listener goes.
    config.proxy.listeners.remove(0);
    let prepared = proxy.proxy.plan_for(&config, true).unwrap();
    proxy.proxy.adopt(prepared, &config);
    wait_until("its socket is closed", || {
        let again = UdpSocket::bind(proxy.address);
        again.is_ok()
    });
}

#[test]
fn drained_it_passes_on_what_is_still_answered_and_ends() {
    let late = socket("127.0.0.1");
    let proxy = start(&config("127.0.0.1", &[late.local_addr().unwrap()]));
    let client = socket("127.0.0.1");
    client.send_to(b"question", proxy.address).unwrap();
    let (_, from) = late.recv_from(&mut [0; 100]).unwrap();
    proxy.proxy.drain();
    assert!(!proxy.proxy.is_over());
    late.send_to(b"answer", from).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    wait_until("it ends", || proxy.proxy.is_over());
}

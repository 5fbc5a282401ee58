use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs `test` in a network of its own, with a link to 10.9.0.0/24 and fd09::/64.
fn in_own_network(name: &str, test: impl FnOnce() + Send + 'static) {
    let run = move || {
        if let Err(e) = unshare(CloneFlags::CLONE_NEWNET) {
            return Err(format!("no network namespace ({e})"));
        }
        let set_up = "ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v1 up && ip link set v0 up \
                      && ip address add 10.9.0.1/24 dev v0 && ip address add fd09::1/64 dev v0 nodad";
        if !shell(set_up) {
            return Err("no ip, or no veth".to_owned());
        }
        test();
        Ok(())
    };
    match std::thread::spawn(run).join() {
        Ok(Ok(())) => {}
        Ok(Err(why)) => println!("SKIPPED {name}: {why}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The processes of this thread are in its network.
fn shell(command: &str) -> bool {
    let output = Command::new("sh").args(["-c", command]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.is_ok_and(|output| {
        if !output.status.success() {
            println!("{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    })
}

const SERVERS: [&str; 2] = ["10.9.0.7", "fd09::7"];

fn missing() -> Vec<String> {
    return_path(&SERVERS.map(|server| server.parse().unwrap()))
}

#[test]
fn what_is_missing_of_the_return_path_is_told_until_the_script_has_set_it_up() {
    in_own_network("what_is_missing_of_the_return_path_is_told_until_the_script_has_set_it_up", || {
        if !shell("command -v nft") {
            println!("SKIPPED what_is_missing_of_the_return_path_is_told_until_the_script_has_set_it_up: no nft");
            return;
        }
        let before = missing();
        assert_eq!(before.len(), 4, "{before:#?}");
        assert!(before.iter().all(|line| line.contains("scripts/transparent up")), "{before:#?}");

        assert!(shell("ip rule add fwmark 1 lookup 100"));
        let half = missing();
        assert!(half.iter().any(|line| line.contains("route add local default dev lo table 100")), "{half:#?}");
        assert!(shell("ip rule delete fwmark 1 lookup 100"));

        assert!(shell("scripts/transparent up --server 10.9.0.0/24"));
        let half = missing();
        assert!(half.iter().all(|line| line.contains("IPv6")) && half.len() == 2, "{half:#?}");
        assert!(shell("scripts/transparent up && scripts/transparent up"));
        assert_eq!(missing(), [""; 0]);
        assert!(shell("ip -6 rule delete fwmark 1 lookup 100"));
        assert_eq!(missing().len(), 1);
        assert!(shell("scripts/transparent down && scripts/transparent down"));
        assert_eq!(missing(), before);
    });
}

#[test]
fn a_server_on_this_machine_is_told_of() {
    in_own_network("a_server_on_this_machine_is_told_of", || {
        assert!(shell("scripts/transparent up"));
        let missing = return_path(&["10.9.0.1".parse().unwrap(), "fd09::7".parse().unwrap()]);
        assert!(missing.len() == 1 && missing[0].contains("address of this machine"), "{missing:#?}");
    });
}

#[test]
fn a_filter_that_drops_marked_packets_is_told_of() {
    in_own_network("a_filter_that_drops_marked_packets_is_told_of", || {
        assert!(shell("scripts/transparent up"));
        // With a mark, the way back to the server is looked for in the table of marked packets, and is not there.
        if !shell("sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.all.src_valid_mark=1") {
            println!("SKIPPED a_filter_that_drops_marked_packets_is_told_of: no sysctl");
            return;
        }
        let missing = missing();
        assert!(missing.iter().any(|line| line.contains("src_valid_mark")), "{missing:#?}");
    });
}

#[test]
fn a_socket_gets_an_address_that_this_host_does_not_have() {
    in_own_network("a_socket_gets_an_address_that_this_host_does_not_have", || {
        for client in ["198.51.100.77:40000", "[2001:db8::77]:40000"] {
            let client: SocketAddr = client.parse().unwrap();
            for kind in [Type::STREAM, Type::DGRAM] {
                let socket = || Socket::new(Domain::for_address(client), kind, None).unwrap();
                let address = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap();
                let (first, second) = (socket(), socket());
                bind_foreign(&first, client).unwrap();
                assert_eq!(address(&first), client);
                bind_foreign(&second, client).unwrap();
                assert_eq!(address(&second).ip(), client.ip());
                // Connections to two servers may share it; two UDP sockets may not.
                assert_eq!(address(&second).port() == client.port(), kind == Type::STREAM);
                let third = socket();
                bind_foreign(&third, SocketAddr::new(client.ip(), 0)).unwrap();
                let server: SocketAddr = if client.is_ipv4() { "10.9.0.7:9" } else { "[fd09::7]:9" }.parse().unwrap();
                third.set_nonblocking(true).unwrap();
                let _ = third.connect(&server.into());
                assert_eq!(address(&third).ip(), client.ip());
                assert_ne!(address(&third).port(), 0);
            }
        }
    });
}

#[test]
fn a_socket_of_the_other_family_is_refused() {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    assert!(bind_foreign(&socket, "[2001:db8::77]:40000".parse().unwrap()).is_err());
}

#[test]
fn an_answer_to_a_clients_address_comes_back() {
    in_own_network("an_answer_to_a_clients_address_comes_back", || {
        // The other end of the link is a host of its own, whose gateway is here.
        let (ready, wait) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let server = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            gone.recv().unwrap();
            assert!(shell(
                "ip link set lo up; ip link set v1 up && ip address add 10.9.0.7/24 dev v1 && ip route add default via 10.9.0.1"
            ));
            let socket = UdpSocket::bind((Ipv4Addr::new(10, 9, 0, 7), 53)).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(45))).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            let mut buffer = [0; 64];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..n], from).unwrap();
            from
        });
        let thread = wait.recv().unwrap();
        assert!(shell(&format!("ip link set v1 netns {thread}")));
        go.send(()).unwrap();
        wait.recv().unwrap();
        assert!(shell("scripts/transparent up"));
        assert_eq!(return_path(&["10.9.0.7".parse().unwrap()]), [""; 0]);

        let client: SocketAddr = "198.51.100.77:5353".parse().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        bind_foreign(&socket, client).unwrap();
        let socket = UdpSocket::from(socket);
        socket.connect("10.9.0.7:53").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(45))).unwrap();
        socket.send(b"hello").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
        assert_eq!(server.join().unwrap(), client);
    });
}

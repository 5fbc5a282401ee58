//! Many at once, and too many: idle connections, descriptors that run out, peers that never read, limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{SockRef, Socket};

use crate::harness::{NEVER, free_address, patient, serve, uninterrupted};
use crate::process::wait_until;
use crate::program::{PATIENT, Program, listen, server};
use crate::scratch::Scratch;

/// Idle connections; this process has two descriptors for each, as the program has.
const IDLE: usize = 9000;

/// A server that says each byte again.
fn echo() -> SocketAddr {
    serve(|mut stream| {
        let mut buffer = [0; 4096];
        stream.set_read_timeout(None).unwrap();
        while let Ok(n) = stream.read(&mut buffer)
            && n > 0
            && stream.write_all(&buffer[..n]).is_ok()
        {}
    })
    .0
}

fn program(
    scratch: &Scratch,
    more: &str,
    servers: &[(SocketAddr, &str)],
    descriptors: Option<u32>,
) -> (Program, SocketAddr) {
    let address = free_address();
    let mut toml = String::new();
    for (n, (at, options)) in servers.iter().enumerate() {
        toml += &format!("{}{options}\n", server(&format!("be{n}"), *at));
    }
    toml += &listen(address.to_string(), more);
    if !more.contains("[proxy.timeouts]") {
        toml += PATIENT;
    }
    (Program::limited(scratch, &toml, descriptors), address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    patient(&stream);
    stream
}

/// Is what is said on it said again? `false`: it has been ended, in order or not.
fn answers(mut stream: &TcpStream) -> bool {
    if stream.write_all(b"x").is_err() {
        return false;
    }
    match uninterrupted(|| stream.read(&mut [0; 1])) {
        Ok(n) => n == 1,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("left waiting"),
        Err(_) => false,
    }
}

fn status(program: &Program, words: &str) -> bool {
    program.ctl("status").contains(words)
}

#[test]
fn thousands_of_idle_connections_are_kept_and_each_is_still_served() {
    // In a process of its own: it takes most of the descriptors that one may have, and other tests need some.
    const OWN: &str = "PEN_DSR_OWN_PROCESS";
    if std::env::var_os(OWN).is_none() {
        let name = "crowd::thousands_of_idle_connections_are_kept_and_each_is_still_served";
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(own.args(["--exact", name, "--nocapture"]).env(OWN, "1").status().unwrap().success());
        return;
    }
    // Its type is another one on each system.
    let wanted = 2 * IDLE as libc::rlim_t + 500;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < wanted {
        return println!(
            "SKIPPED proxy::crowd: {IDLE} idle connections: a process may have {hard} descriptors, not {wanted}"
        );
    }
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).listen(4096).unwrap();
    let address = listener.local_addr().unwrap();
    // One thread for all: each connection says one byte, and gets it back.
    let server = thread::spawn(move || {
        let mut all = Vec::new();
        while all.len() < IDLE {
            all.push(listener.accept().unwrap().0);
        }
        for stream in &mut all {
            patient(stream);
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
        all
    });
    let scratch = Scratch::new("crowd");
    let (program, proxy) = program(&scratch, "", &[(address, "")], None);
    let (before, open) = (program.memory(), program.descriptors());
    let clients: Vec<TcpStream> = (0..IDLE).map(|_| connect(proxy)).collect();
    wait_until("all of them", || status(&program, &format!("proxy: {IDLE} connections of clients")));
    let each = (program.memory() - before) / IDLE as u64;
    println!("{each} bytes for each of {IDLE} idle connections");
    assert!(each < 8192, "{each} bytes");
    // All at once, the last first.
    for mut client in clients.iter().rev() {
        client.write_all(b"a").unwrap();
    }
    for mut client in clients.iter() {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"a");
    }
    drop(server.join().unwrap());
    drop(clients);
    wait_until("their end", || status(&program, "proxy: 0 connections of clients"));
    wait_until("their descriptors", || program.descriptors() <= open + 64);
}

#[test]
fn without_descriptors_left_clients_wait_and_are_served_when_there_are_some_again() {
    /// Of the program; two for each connection, and some of its own.
    const DESCRIPTORS: u32 = 64;
    let scratch = Scratch::new("crowd");
    let (program, address) =
        program(&scratch, "[proxy]\nthreads = 1\n[proxy.tcp]\nsplice = false\n", &[(echo(), "")], Some(DESCRIPTORS));
    let mut waiting: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    wait_until("the want of descriptors", || !status(&program, "accepting paused 0 times"));
    for mut client in &waiting {
        client.set_nonblocking(true).unwrap();
        client.write_all(b"x").unwrap();
    }
    // What was accepted is served; the others wait.
    let mut served = Vec::new();
    wait_until("some to be served", || {
        served.extend(waiting.extract_if(.., |client| matches!(client.read(&mut [0]), Ok(1))));
        served.len() >= 10
    });
    println!("{} served, {} waiting", served.len(), waiting.len());
    // Nobody is forgotten. The last two may have got descriptors that are to be left.
    served.truncate(served.len() - 2);
    for mut client in waiting {
        // Who has been served makes room.
        drop(served.pop());
        client.set_nonblocking(false).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 1);
        served.insert(0, client);
    }
    assert!(status(&program, " 0 turned away"));
    drop(served);
    wait_until("their end", || status(&program, "proxy: 0 connections of clients"));
    let client = connect(address);
    assert!(answers(&client));
}

#[test]
fn a_peer_that_never_reads_takes_bounded_memory() {
    const CLIENTS: usize = 40;
    // One server never reads, the other one never stops talking, to clients that do not read.
    let (deaf, _) = serve(|stream| {
        thread::sleep(NEVER);
        drop(stream);
    });
    let (talker, _) = serve(|mut stream| while stream.write_all(&[b'a'; 65536]).is_ok() {});
    let scratch = Scratch::new("crowd");
    for (server, mode, splice) in [
        (deaf, "", true),
        (deaf, "", false),
        (talker, "", true),
        (talker, "", false),
        (deaf, "mode = \"http\"\n", true),
    ] {
        let (program, address) =
            program(&scratch, &format!("{mode}[proxy.tcp]\nsplice = {splice}\n"), &[(server, "")], None);
        let before = program.memory();
        let clients: Vec<Socket> = (0..CLIENTS).map(|_| Socket::from(connect(address))).collect();
        let head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
        let mut moved = true;
        for client in &clients {
            client.set_nonblocking(true).unwrap();
            let _ = client.send(head);
        }
        // Until nothing moves for a while.
        while moved {
            thread::sleep(Duration::from_millis(200));
            moved = false;
            for client in &clients {
                while server == deaf && client.send(&[b'a'; 65536]).is_ok() {
                    moved = true;
                }
            }
        }
        let each = program.memory().saturating_sub(before) / CLIENTS as u64;
        println!("{each} bytes for each connection that stands still ({mode:?}, splice {splice})");
        assert!(each < 300 << 10, "{each} bytes");
    }
}

#[test]
fn who_asks_and_asks_and_reads_no_answer_takes_bounded_memory() {
    const CLIENTS: usize = 20;
    // Each request of a few bytes is answered with many.
    let (server, _) = serve(|mut stream| {
        let body = vec![b'a'; 200_000];
        let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
        let mut last = [0; 4];
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte) {
            last.rotate_left(1);
            last[3] = byte[0];
            if &last == b"\r\n\r\n" && stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let scratch = Scratch::new("crowd");
    let (program, address) = program(&scratch, "mode = \"http\"\n", &[(server, "")], None);
    let before = program.memory();
    let clients: Vec<Socket> = (0..CLIENTS).map(|_| Socket::from(connect(address))).collect();
    let requests = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut moved = true;
    while moved {
        moved = false;
        for client in &clients {
            client.set_nonblocking(true).unwrap();
            while client.send(&requests).is_ok() {
                moved = true;
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    let each = program.memory().saturating_sub(before) / CLIENTS as u64;
    println!("{each} bytes for each connection whose answers are not read");
    assert!(each < 400 << 10, "{each} bytes");
}

#[test]
fn too_many_are_refused_in_good_order_and_served_when_there_is_room() {
    let scratch = Scratch::new("crowd");
    for (limits, server) in [("[proxy]\nthreads = 2\n[proxy.limits]\nconnections = 5\n", ""), ("", "hard = 5")] {
        let (_program, address) = program(&scratch, limits, &[(echo(), server)], None);
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..5 {
            clients.push(connect(address));
            assert!(answers(&clients[clients.len() - 1]));
        }
        for _ in 0..3 {
            assert!(!answers(&connect(address)), "one too many: {limits}{server}");
        }
        clients.pop();
        wait_until("room", || answers(&connect(address)));
    }
    // Who speaks HTTP is told so. (Without a request there is nothing to answer, and the limit of a server counts requests.)
    let (program, address) =
        program(&scratch, "mode = \"http\"\n[proxy.limits]\nconnections = 1\n", &[(echo(), "")], None);
    let _first = connect(address);
    wait_until("it", || status(&program, "proxy: 1 connections of clients"));
    let mut second = connect(address);
    let mut said = String::new();
    second.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
}

#[test]
fn beyond_the_soft_limit_new_clients_go_elsewhere() {
    let scratch = Scratch::new("crowd");
    // Loops that choose at the same moment do not see each other's choice yet.
    let more = "[proxy]\nthreads = 1\n[proxy.selection]\ntrack = false\nmethod = \"prio\"\n";
    let (program, address) = program(&scratch, more, &[(echo(), "soft = 3\nprio = 1"), (echo(), "prio = 2")], None);
    let mut clients = Vec::new();
    for _ in 0..8 {
        // One after the other: event loops that choose at the same time do not know of each other.
        let client = connect(address);
        assert!(answers(&client));
        clients.push(client);
    }
    assert!(status(&program, "server be0: 3 connections") && status(&program, "server be1: 5 connections"));
}

#[test]
fn connections_that_are_being_made_have_a_limit_and_a_time() {
    // A server whose queue is full: what is sent to it then is not answered.
    let deaf = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    deaf.listen(0).unwrap();
    let at = deaf.local_addr().unwrap().as_socket().unwrap();
    let full: Vec<Socket> = (0..3)
        .map(|_| {
            let one = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            one.set_nonblocking(true).unwrap();
            let _ = one.connect(&at.into());
            one
        })
        .collect();
    wait_until("the one that has room", || full.iter().any(|one| one.peer_addr().is_ok()));
    thread::sleep(Duration::from_millis(100));
    let scratch = Scratch::new("crowd");
    for time in [600, 2] {
        let more = format!("[proxy]\nthreads = 1\n[proxy.limits]\npending = 2\n[proxy.timeouts]\nconnect = {time}\n");
        let (program, address) = program(&scratch, &more, &[(at, "")], None);
        let clients: Vec<TcpStream> = (0..2).map(|_| connect(address)).collect();
        if time == 600 {
            wait_until("both", || status(&program, "proxy: 2 connections of clients"));
            // The third is refused at once: the first two still have their time.
            let mut third = connect(address);
            assert!(is_turned_away(&mut third));
            assert!(status(&program, "proxy: 2 connections of clients"), "{}", program.ctl("status"));
        } else {
            // And so are those, when it is over.
            clients.into_iter().for_each(|mut client| assert!(is_turned_away(&mut client)));
        }
    }
}

/// Is that its end, in order or not? What is no end fails.
fn is_turned_away(client: &mut TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

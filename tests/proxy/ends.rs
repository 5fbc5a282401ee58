//! How connections end on which nothing is under way: in order, with the end that TLS has of its own (RFC 8446, section 6.1).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{PATIENCE, free_address, patient, serve};
use crate::process::wait_until;
use crate::program::{PEN_DSR, Program, by_tls, certificate, listen, server};
use crate::scratch::Scratch;

/// A server that answers each request with an empty response.
fn http_server() -> SocketAddr {
    let (address, _) = serve(|mut stream| {
        let mut buffer = [0; 4000];
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    address
}

/// Asks once, lets `end` happen, and sees how the connection ends; `Err`: not in order.
fn ask_and_see(mut stream: impl Read + Write, end: impl FnOnce()) -> std::io::Result<Vec<u8>> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.flush().unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1000]);
    while !answer.ends_with(b"\r\n\r\n") {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0);
        answer.extend_from_slice(&buffer[..length]);
    }
    end();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(|_| rest)
}

#[test]
fn a_connection_between_two_requests_ends_in_order_when_it_was_idle_for_too_long_and_when_the_proxy_ends() {
    let scratch = Scratch::new("ends");
    let (tls, made) = certificate(&scratch.0);
    let end = |idle: u32, encrypted: bool| {
        let address = free_address();
        let more = format!("mode = \"http\"\n{}[proxy.timeouts]\nidle = {idle}\n", if encrypted { &tls } else { "" });
        let toml = format!("{}{}", server("be", http_server()), listen(address.to_string(), &more));
        let program = Program::start(&scratch, &toml);
        let end = || {
            if idle == 600 {
                program.process.signal(Signal::SIGTERM);
            }
        };
        let stream = TcpStream::connect(address).unwrap();
        patient(&stream);
        let rest = if encrypted { ask_and_see(by_tls(stream, &made), end) } else { ask_and_see(stream, end) };
        assert_eq!(rest.map_err(|e| e.kind()), Ok(Vec::new()), "idle {idle}, TLS {encrypted}");
    };
    // Longer than the machine may stand still within a request; so they wait side by side.
    thread::scope(|scope| {
        for (idle, encrypted) in [(6, false), (6, true), (600, false), (600, true)] {
            scope.spawn(move || end(idle, encrypted));
        }
    });
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_heard_by_a_server_that_is_connected_already() {
    let scratch = Scratch::new("ends");
    let (tls, made) = certificate(&scratch.0);
    let (backend, _) = serve(|mut stream| {
        let mut bytes = [0; 5];
        if stream.read_exact(&mut bytes).is_ok() {
            let _ = stream.write_all(&bytes);
        }
    });
    let address = free_address();
    let toml = format!("{}{}[proxy.limits]\nidlers = 4\n", server("be", backend), listen(address.to_string(), &tls));
    let program = Program::start(&scratch, &toml);
    for _ in 0..50 {
        wait_until("one that is ready", || !program.ctl("status").contains(" 0 connections, 0 made"));
        let stream = TcpStream::connect(address).unwrap();
        patient(&stream);
        let mut client = by_tls(stream, &made);
        // The client's end of the handshake and its first bytes leave together.
        while client.conn.is_handshaking() && !client.conn.wants_read() || client.conn.wants_write() {
            client.conn.write_tls(&mut client.sock).unwrap();
        }
        while client.conn.is_handshaking() {
            client.conn.read_tls(&mut client.sock).unwrap();
            client.conn.process_new_packets().unwrap();
        }
        client.conn.writer().write_all(b"hello").unwrap();
        let mut both = Vec::new();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut both).unwrap();
        }
        client.sock.write_all(&both).unwrap();
        let mut bytes = [0; 5];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let scratch = Scratch::new("ends");
    let control = scratch.0.join("ctl");
    let address = free_address().to_string();
    let mut program = Command::new(PEN_DSR)
        .arg("-C")
        .arg(&control)
        .args(["-r", &address, "127.0.0.1:1"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("its control socket", || UnixStream::connect(&control).is_ok());
    // Each is logged, and a pipe holds 64 KiB.
    for _ in 0..1000 {
        let mut stream = UnixStream::connect(&control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"drain 0\n").unwrap();
        assert!(stream.read(&mut [0; 100]).is_ok_and(|length| length > 0), "no answer");
    }
    kill(Pid::from_raw(program.id() as i32), Signal::SIGTERM).unwrap();
    wait_until("its end", || program.try_wait().unwrap().is_some());
}

//! Clients that speak HTTP/2 (RFC 9113) and mean no good: memory stays bounded, and others are served.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{free_address, patient, serve};
use crate::program::{PATIENT, Program, certificate, listen, server};
use crate::scratch::Scratch;

/// What a connection begins with: the preface, and empty settings.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// GET / of the host `a`, as HPACK (RFC 7541) has it.
pub const GET: &[u8] = b"\x82\x87\x84\x41\x01a";
/// The most that any of these clients may cost, bytes.
const MOST: u64 = 24 << 20;
/// What a client sends at most.
const SENT: usize = 64 << 20;

/// A frame (RFC 9113 section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub type Secure = StreamOwned<ClientConnection, TcpStream>;

pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Secure {
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    patient(&stream);
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// Sends what `next` makes until there is enough, or nothing more is taken: the connection is over, or nothing has moved
/// for a second. Reads only if `reads`.
fn flood(stream: &mut Secure, reads: bool, mut next: impl FnMut(u32) -> Vec<u8>) -> (usize, &'static str) {
    stream.write_all(PREFACE).unwrap();
    stream.sock.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (mut sent, began) = (0, Instant::now());
    let mut buffer = [0; 65536];
    for n in 0.. {
        if sent >= SENT || began.elapsed() > Duration::from_secs(2) {
            return (sent, "all that was to be sent");
        }
        let bytes = next(n);
        match stream.write_all(&bytes) {
            Ok(()) => sent += bytes.len(),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return (sent, "stands still"),
            Err(_) => return (sent, "cut off"),
        }
        if reads {
            match stream.read(&mut buffer) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Ok(1..) => {}
                _ => return (sent, "cut off"),
            }
        }
    }
    unreachable!()
}

/// What clients need to know who trust the certificate `made`.
pub fn trusting(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_root_certificates(roots).with_no_client_auth()
}

#[test]
fn floods_of_frames_take_bounded_memory_and_nobody_elses_time() {
    let (backend, _) = serve(|mut stream| {
        let body = vec![b'a'; 1 << 20];
        let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n".as_slice(), &body].concat();
        let (mut last, mut byte) = ([0; 4], [0]);
        while let Ok(1) = stream.read(&mut byte) {
            last.rotate_left(1);
            last[3] = byte[0];
            if &last == b"\r\n\r\n" && stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let scratch = Scratch::new("hostile");
    let (tls, made) = certificate(&scratch.0);
    let address = free_address();
    let toml =
        [server("be", backend), listen(address.to_string(), &format!("mode = \"http\"\n{tls}")), PATIENT.to_owned()]
            .concat();
    let program = Program::start(&scratch, &toml);
    let mut config = trusting(&made);
    let plain = Arc::new(config.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let get = |n: u32| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, GET);
    // A client may say that it takes no bytes at all.
    let no_window = frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\0");
    type Next<'a> = Box<dyn FnMut(u32) -> Vec<u8> + 'a>;
    let floods: [(&str, bool, Next<'_>); 8] = [
        (
            "requests that are taken back",
            true,
            Box::new(|n| [get(n), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()),
        ),
        (
            "the same, and nothing is read",
            false,
            Box::new(|n| [get(n), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()),
        ),
        (
            "headers without an end",
            true,
            Box::new(|n| {
                if n == 0 {
                    return frame(HEADERS, END_STREAM, 1, GET);
                }
                frame(
                    CONTINUATION,
                    0,
                    1,
                    &b"\0\x01x\x7f\x80\x3e".iter().copied().chain([b'a'; 8127]).collect::<Vec<u8>>(),
                )
            }),
        ),
        ("pings whose answers are not read", false, Box::new(|_| frame(PING, 0, 0, &[0; 8]).repeat(100))),
        ("settings whose answers are not read", false, Box::new(|_| frame(SETTINGS, 0, 0, &[]).repeat(100))),
        ("requests whose answers have no room", true, Box::new(|n| if n == 0 { no_window.clone() } else { get(n) })),
        ("requests whose answers are not read", false, Box::new(get)),
        ("no frames at all", true, Box::new(|_| vec![0xff; 1000])),
    ];
    for (what, reads, next) in floods {
        let before = program.memory();
        let mut client = connect(address, &config);
        let (sent, how) = flood(&mut client, reads, next);
        let grown = program.memory().saturating_sub(before);
        println!("{what}: {how} after {sent} bytes; {grown} bytes more memory");
        assert!(grown < MOST, "{what}: {grown} bytes");
        // While that one is still there.
        let mut other = connect(address, &plain);
        other.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        other.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.len() > 1 << 20, "{what}");
    }
}

#[test]
fn who_never_asks_for_anything_is_not_kept() {
    let (backend, _) = serve(|_| {});
    let scratch = Scratch::new("hostile");
    let (tls, made) = certificate(&scratch.0);
    let address = free_address();
    let more = format!("mode = \"http\"\n{tls}[proxy.timeouts]\nrequest = 5\nidle = 600\n");
    let _program =
        Program::start(&scratch, &format!("{}{}", server("be", backend), listen(address.to_string(), &more)));
    let mut config = trusting(&made);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let unfinished = [PREFACE, &frame(HEADERS, END_STREAM, 1, GET)].concat();
    let said: [&[u8]; 4] = [b"", &PREFACE[..12], PREFACE, &unfinished];
    let clients = said.map(|said| {
        let mut client = connect(address, &config);
        client.write_all(said).unwrap();
        client
    });
    for (client, said) in clients.into_iter().zip(said) {
        // By then, there is an end; how is another matter.
        let mut rest = Vec::new();
        let outcome = { client }.read_to_end(&mut rest);
        let waits = outcome.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        assert!(!waits, "still there after {} bytes", said.len());
    }
}

//! Each direction of a connection ends by itself, whoever ends first and however, whoever is slow, and no byte is lost.
//!
//! Every combination of who ends first and how, of who reads slowly, of TLS towards the client and of splice(2); which
//! families the two connections are of goes round. `PEN_DSR_THOROUGH=1`: 64 MB each way, 200 connections.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{SockAddr, Socket, Type};

use crate::harness::PATIENCE;
use crate::peer::{End, Ending, Finish, Pattern, Seen, Task};
use crate::program::{Program, certificate, listen, server, server_at};
use crate::scratch::Scratch;

/// Bytes each way, and connections; and thoroughly.
const SMALL: u64 = 2 << 20;
const LARGE: u64 = 64 << 20;
const THOROUGH_RUNS: usize = 200;
/// Connections at a time.
const AT_A_TIME: usize = 6;
/// The receive buffer of who is slow, bytes.
const NARROW: usize = 64 << 10;

/// Who ends first, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Client,
    Server,
    Both,
    ClientResets,
    ServerResets,
    /// While the other one is still sending.
    ClientResetsUnread,
    ServerResetsUnread,
}

impl First {
    const ALL: [First; 7] = [
        First::Client,
        First::Server,
        First::Both,
        First::ClientResets,
        First::ServerResets,
        First::ClientResetsUnread,
        First::ServerResetsUnread,
    ];

    fn finishes(self) -> (Finish, Finish) {
        match self {
            First::Client => (Finish::First, Finish::Second),
            First::Server => (Finish::Second, Finish::First),
            First::Both => (Finish::First, Finish::First),
            First::ClientResets => (Finish::Reset, Finish::Never),
            First::ServerResets => (Finish::Never, Finish::Reset),
            First::ClientResetsUnread => (Finish::ResetUnread, Finish::Never),
            First::ServerResetsUnread => (Finish::Never, Finish::ResetUnread),
        }
    }

    fn is_reset(self) -> bool {
        !matches!(self, First::Client | First::Server | First::Both)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Nobody,
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
    Unix,
}

const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Unix];

/// One connection.
#[derive(Clone, Debug)]
struct Case {
    number: usize,
    first: First,
    slow: Slow,
    tls: bool,
    splice: bool,
    client: Family,
    server: Family,
    bytes: u64,
}

/// The first `count` of all combinations, over and over.
fn cases(count: usize, bytes: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    'rounds: for round in 0.. {
        for first in First::ALL {
            for slow in [Slow::Nobody, Slow::Client, Slow::Server] {
                for (tls, splice) in [(false, false), (false, true), (true, false), (true, true)] {
                    let number = cases.len();
                    if number == count {
                        break 'rounds;
                    }
                    // A Unix socket knows no reset.
                    let families = if first.is_reset() { 2 } else { 3 };
                    let turn = number + round;
                    cases.push(Case {
                        number,
                        first,
                        slow,
                        tls,
                        splice,
                        client: FAMILIES[turn % families],
                        server: FAMILIES[turn / families % families],
                        // Not always the same place in a buffer.
                        bytes: bytes + (number as u64 * 4099) % 65_537,
                    });
                }
            }
        }
    }
    cases
}

impl Case {
    fn tasks(&self) -> (Task, Task) {
        let (client, server) = self.first.finishes();
        let seeds = (2 * self.number, 2 * self.number + 1);
        let task = |finish, seeds, other, slow| Task {
            seeds,
            send: if other == Finish::ResetUnread { u64::MAX } else { self.bytes },
            expect: self.bytes,
            late: finish == Finish::Second && self.number % 2 == 1,
            slow,
            finish,
        };
        (
            task(client, seeds, server, self.slow == Slow::Client),
            task(server, (seeds.1, seeds.0), client, self.slow == Slow::Server),
        )
    }

    /// Was that what had to be?
    fn judge(&self, client: &Seen, server: &Seen) -> Result<(), String> {
        let (whole, fin) = (self.bytes, Seen { bytes: self.bytes, ending: Ending::Fin });
        let reset = Seen { bytes: whole, ending: Ending::Reset };
        let right = match self.first {
            First::Client | First::Server | First::Both => *client == fin && *server == fin,
            First::ClientResets => client.bytes == whole && *server == reset,
            First::ServerResets => server.bytes == whole && *client == reset,
            First::ClientResetsUnread => *server == reset,
            First::ServerResetsUnread => *client == reset,
        };
        let what = || format!("of {whole} bytes each way the client has seen {client:?}, the server {server:?}");
        if right { Ok(()) } else { Err(what()) }
    }
}

/// Where clients connect: by splice, TLS, the client's family, the server's.
type Listeners = HashMap<(bool, bool, Family, Family), SockAddr>;

/// What the server of each connection is to do, by the connection's number, and who wants to know what came of it.
type Expected = Arc<Mutex<HashMap<u64, (Task, mpsc::Sender<Result<Seen, String>>)>>>;

/// A server that begins with reading a connection's number.
fn serve(listener: Socket, expected: Expected, pattern: Pattern) {
    thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let (expected, pattern) = (Arc::clone(&expected), pattern.clone());
            thread::spawn(move || {
                let mut number = [0; 8];
                if socket.read_exact(&mut number).is_err() {
                    return;
                }
                let found = expected.lock().unwrap().remove(&u64::from_be_bytes(number));
                let Some((task, tell)) = found else { return };
                if task.slow {
                    socket.set_recv_buffer_size(NARROW).unwrap();
                }
                let _ = tell.send(End::plain(socket).perform(&task, &pattern));
            });
        }
    });
}

fn loopback(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::LOCALHOST, port).into(),
        _ => (Ipv6Addr::LOCALHOST, port).into(),
    }
}

fn listening(address: &SockAddr) -> Socket {
    let socket = Socket::new(address.domain(), Type::STREAM, None).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap();
    socket
}

/// A port that nobody has just now.
fn free_port(family: Family) -> u16 {
    listening(&loopback(family, 0).into()).local_addr().unwrap().as_socket().unwrap().port()
}

/// What all connections use.
struct Field {
    listeners: Listeners,
    expected: Expected,
    pattern: Pattern,
    tls: Arc<ClientConfig>,
}

impl Field {
    fn run(&self, case: &Case) -> Result<(), String> {
        let (client, server) = case.tasks();
        let (tell, told) = mpsc::channel();
        self.expected.lock().unwrap().insert(case.number as u64, (server, tell));
        let address = &self.listeners[&(case.splice, case.tls, case.client, case.server)];
        let mut socket = Socket::new(address.domain(), Type::STREAM, None).unwrap();
        if client.slow {
            socket.set_recv_buffer_size(NARROW).unwrap();
        }
        socket.connect(address).map_err(|e| format!("connecting: {e}"))?;
        let number = (case.number as u64).to_be_bytes();
        let end = if case.tls {
            let name = ServerName::try_from("localhost").unwrap();
            let mut connection = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
            connection.writer().write_all(&number).unwrap();
            End::tls(socket, connection)
        } else {
            socket.write_all(&number).map_err(|e| format!("writing: {e}"))?;
            End::plain(socket)
        };
        let client = end.perform(&client, &self.pattern).map_err(|e| format!("client: {e}"))?;
        let server = told.recv_timeout(PATIENCE).map_err(|_| format!("the server does not end; client: {client:?}"))?;
        case.judge(&client, &server.map_err(|e| format!("server: {e}; client: {client:?}"))?)
    }
}

#[test]
fn directions_end_by_themselves_whoever_is_first_and_whoever_is_slow() {
    let thorough = std::env::var("PEN_DSR_THOROUGH").is_ok_and(|word| word == "1");
    let cases = if thorough { cases(THOROUGH_RUNS, LARGE) } else { cases(84, SMALL) };
    // PEN_DSR_CASES=3,17: only these.
    let only = std::env::var("PEN_DSR_CASES").ok();
    let wanted = |case: &Case| only.as_ref().is_none_or(|list| list.split(',').any(|n| n == case.number.to_string()));
    let cases: Vec<Case> = cases.into_iter().filter(wanted).collect();
    let scratch = Scratch::new("halfclose");
    let (expected, pattern): (Expected, _) = (Arc::default(), Pattern::new());
    let mut servers = String::new();
    for (family, name) in FAMILIES.into_iter().zip(["v4", "v6", "unix"]) {
        let path = scratch.0.join("server");
        let address = match family {
            Family::Unix => SockAddr::unix(&path).unwrap(),
            _ => loopback(family, 0).into(),
        };
        let listener = listening(&address);
        servers += &match listener.local_addr().unwrap().as_socket() {
            Some(address) => server(name, address),
            None => server_at(name, &path),
        };
        serve(listener, Arc::clone(&expected), pattern.clone());
    }
    let (tls, made) = certificate(&scratch.0);
    let mut listeners = Listeners::new();
    let mut programs = Vec::new();
    for splice in [false, true] {
        let mut toml = format!("{servers}[proxy]\nthreads = 1\n[proxy.tcp]\nsplice = {splice}\n");
        for (client, server, secure) in combinations() {
            let backends = ["v4", "v6", "unix"][FAMILIES.iter().position(|&f| f == server).unwrap()];
            let (word, address): (String, SockAddr) = match client {
                Family::Unix => {
                    let path: PathBuf = scratch.0.join(format!("{splice}-{server:?}-{secure}"));
                    (path.display().to_string(), SockAddr::unix(&path).unwrap())
                }
                _ => {
                    let address = loopback(client, free_port(client));
                    (address.to_string(), address.into())
                }
            };
            toml += &listen(word, &format!("backends = [{backends:?}]\n{}", if secure { &tls } else { "" }));
            listeners.insert((splice, secure, client, server), address);
        }
        programs.push(Program::start(&scratch, &toml));
    }
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let field = Field { listeners, expected, pattern, tls: Arc::new(config) };

    let (next, failures, began) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = field.run(case) {
                        failures.lock().unwrap().push(format!("{case:?}: {why}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{} connections of {} MB each way: {:?}", cases.len(), cases[0].bytes >> 20, began.elapsed());
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn combinations() -> impl Iterator<Item = (Family, Family, bool)> {
    let servers = |client| FAMILIES.into_iter().map(move |server| (client, server));
    FAMILIES.into_iter().flat_map(servers).flat_map(|(client, server)| [false, true].map(|tls| (client, server, tls)))
}

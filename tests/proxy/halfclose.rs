//! Each direction of a connection ends by itself, whoever ends first and however, whoever is slow, and no byte is lost.
//!
//! Every combination of who ends first and how, of who reads slowly, of TLS towards either and of splice(2); which
//! families the two connections are of goes round. `PEN_DSR_THOROUGH=1`: 64 MB each way, 210 connections.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use socket2::{SockAddr, Socket, Type};

use crate::harness::{PATIENCE, free_on};
use crate::peer::{End, Ending, Finish, Pattern, Seen, Task};
use crate::program::{PATIENT, Program, certificate, listen, server, server_at};
use crate::scratch::Scratch;

/// Bytes each way, and connections; and thoroughly.
const SMALL: u64 = 2 << 20;
const LARGE: u64 = 64 << 20;
const THOROUGH_RUNS: usize = 210;
const ALL: usize = First::ALL.len() * 3 * WAYS.len();
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
    /// Towards the client, and towards the server.
    tls: (bool, bool),
    splice: bool,
    client: Family,
    server: Family,
    bytes: u64,
}

/// TLS towards the client, towards the server; splice(2), which is for bytes that are plain on both sides.
const WAYS: [((bool, bool), bool); 5] = [
    ((false, false), false),
    ((false, false), true),
    ((true, false), true),
    ((false, true), true),
    ((true, true), true),
];

/// The first `count` of all combinations, over and over.
fn cases(count: usize, bytes: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    'rounds: for round in 0.. {
        for first in First::ALL {
            for slow in [Slow::Nobody, Slow::Client, Slow::Server] {
                for (tls, splice) in WAYS {
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
type Listeners = HashMap<(bool, (bool, bool), Family, Family), SockAddr>;

/// What the server of each connection is to do, by the connection's number, and who wants to know what came of it.
type Expected = Arc<Mutex<HashMap<u64, (Task, mpsc::Sender<Result<Seen, String>>)>>>;

/// A server that begins with reading a connection's number; by TLS, if that is how the connection begins.
fn serve(listener: Socket, expected: Expected, pattern: Pattern, tls: Arc<ServerConfig>) {
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let (expected, pattern, tls) = (Arc::clone(&expected), pattern.clone(), Arc::clone(&tls));
            thread::spawn(move || {
                let Ok((number, socket, connection)) = begin(socket, tls) else { return };
                let found = expected.lock().unwrap().remove(&number);
                let Some((task, tell)) = found else { return };
                if task.slow {
                    socket.set_recv_buffer_size(NARROW).unwrap();
                }
                let end = match connection {
                    Some(connection) => End::tls(socket, connection.into()),
                    None => End::plain(socket),
                };
                let _ = tell.send(end.perform(&task, &pattern));
            });
        }
    });
}

/// The number of a connection, and TLS if it has that.
fn begin(mut socket: Socket, tls: Arc<ServerConfig>) -> std::io::Result<(u64, Socket, Option<ServerConnection>)> {
    let (mut number, mut byte) = ([0; 8], [0]);
    // Numbers are small, so that they begin with 0, as no TLS does.
    nix::sys::socket::recv(std::os::fd::AsRawFd::as_raw_fd(&socket), &mut byte, nix::sys::socket::MsgFlags::MSG_PEEK)?;
    if byte == [0] {
        socket.read_exact(&mut number)?;
        return Ok((u64::from_be_bytes(number), socket, None));
    }
    let mut connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    rustls::Stream::new(&mut connection, &mut socket).read_exact(&mut number)?;
    Ok((u64::from_be_bytes(number), socket, Some(connection)))
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
    free_on(loopback(family, 0)).port()
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
        let end = if case.tls.0 {
            let name = ServerName::try_from("localhost").unwrap();
            let mut connection = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
            connection.writer().write_all(&number).unwrap();
            End::tls(socket, Connection::Client(connection))
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
    let cases = if thorough { cases(THOROUGH_RUNS, LARGE) } else { cases(ALL, SMALL) };
    // PEN_DSR_CASES=3,17: only these.
    let only = std::env::var("PEN_DSR_CASES").ok();
    let wanted = |case: &Case| only.as_ref().is_none_or(|list| list.split(',').any(|n| n == case.number.to_string()));
    let cases: Vec<Case> = cases.into_iter().filter(wanted).collect();
    let scratch = Scratch::new("halfclose");
    let (expected, pattern): (Expected, _) = (Arc::default(), Pattern::new());
    let (tls, made) = certificate(&scratch.0);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let shown = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let shown = Arc::new(shown);
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
        serve(listener, Arc::clone(&expected), pattern.clone(), Arc::clone(&shown));
    }
    let mut listeners = Listeners::new();
    let mut programs = Vec::new();
    for splice in [false, true] {
        let mut toml = format!("{servers}[proxy]\nthreads = 1\n[proxy.tcp]\nsplice = {splice}\n{PATIENT}");
        for (client, server, secure) in combinations() {
            let backends = ["v4", "v6", "unix"][FAMILIES.iter().position(|&f| f == server).unwrap()];
            let (word, address): (String, SockAddr) = match client {
                Family::Unix => {
                    let path: PathBuf = scratch.0.join(format!("{splice}{server:?}{}{}", secure.0, secure.1));
                    (path.display().to_string(), SockAddr::unix(&path).unwrap())
                }
                _ => {
                    let address = loopback(client, free_port(client));
                    (address.to_string(), address.into())
                }
            };
            let mut more = format!("backends = [{backends:?}]\n");
            if secure.0 {
                more += &tls;
            }
            if secure.1 {
                more += "[listen.backend-tls]\n";
            }
            toml += &listen(word, &more);
            listeners.insert((splice, secure, client, server), address);
        }
        programs.push(Program::start(&scratch, &toml));
    }
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
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

fn combinations() -> impl Iterator<Item = (Family, Family, (bool, bool))> {
    let ways = [(false, false), (true, false), (false, true), (true, true)];
    let servers = |client| FAMILIES.into_iter().map(move |server| (client, server));
    FAMILIES.into_iter().flat_map(servers).flat_map(move |(client, server)| ways.map(|tls| (client, server, tls)))
}

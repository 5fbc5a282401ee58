//! The control socket as its clients meet it: with an executor that echoes instead of a balancer. No privileges needed.

#[path = "control/client.rs"]
mod client;
#[path = "control/crowd.rs"]
mod crowd;
#[path = "control/protocol.rs"]
mod protocol;
#[path = "control/sockets.rs"]
mod sockets;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::RwLock;
use pen_dsr::config::ControlAddress;
use pen_dsr::control::server::{ControlAcl, Limits, Listeners, Server};
use pen_dsr::control::wire::{Answer, Request};
use pen_dsr::failure::Failure;
use pen_dsr::lb::acl::{Acl, Action, Rule};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything takes here: who waits so long has found a bug.
const HANG: Duration = Duration::from_secs(60);

/// A server, and who carries its commands out.
struct Bench {
    directory: TempDir,
    server: Option<Server>,
    acl: ControlAcl,
    /// Lines that arrived at the executor.
    seen: Receiver<String>,
    executor: Option<JoinHandle<()>>,
}

impl Bench {
    fn new() -> Bench {
        Bench::within(Limits::default())
    }

    /// Unix, IPv4 and IPv6 where there is any, for 127.0.0.0/8 and ::1.
    fn within(limits: Limits) -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let mut addresses = vec![
            ControlAddress::Unix(directory.path().join("socket")),
            ControlAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        ];
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            addresses.push(ControlAddress::Tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))));
        }
        let acl = Arc::new(RwLock::new(Some(permit(&["127.0.0.0/8", "::1"]))));
        let listeners = Listeners::open(&addresses, None).expect("nobody else is there");
        let (server, requests) = listeners.serve(Arc::clone(&acl), limits).expect("threads");
        let (told, seen) = unbounded();
        let executor = thread::spawn(move || execute(&requests, &told));
        Bench { directory, server: Some(server), acl, seen, executor: Some(executor) }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it has not ended")
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn tcp(&self) -> Vec<SocketAddr> {
        let tcp = |address: &ControlAddress| match address {
            ControlAddress::Tcp(address) => Some(*address),
            ControlAddress::Unix(_) => None,
        };
        self.server().addresses().iter().filter_map(tcp).collect()
    }

    fn connect(&self) -> Client<UnixStream> {
        unix(&self.path())
    }

    fn connect_tcp(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.tcp()[0]).expect("it listens");
        stream.set_read_timeout(Some(HANG)).expect("not zero");
        Client(BufReader::new(stream))
    }

    /// Waits until the executor has seen `line`.
    fn await_line(&self, line: &str) {
        while self.seen.recv_timeout(HANG).expect("the executor sees it") != line {}
    }

    /// Waits until all clients are gone.
    fn await_silence(&self) {
        await_that("nobody is connected", || self.server().connections() == 0);
    }

    /// Shows that it still serves.
    fn assert_alive(&self) {
        let mut client = self.connect();
        client.say("still there?\n");
        assert_eq!(client.rest(), "still there?\n");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server = None;
        let executed = self.executor.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(executed.is_some_and(|executed| executed.is_ok()), "the executor saw what it should not");
        }
    }
}

/// Answers requests until the server has gone.
fn execute(requests: &Receiver<Request>, told: &Sender<String>) {
    let mut unanswered = Vec::new();
    for request in requests {
        let line = request.line.clone();
        assert!(!line.trim().is_empty() && !line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
        let _ = told.send(line.clone());
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("fail", why) => request.answer(Err(Failure::usage(why))),
            ("trusted", _) => {
                let trusted = request.trusted;
                request.answer(Ok(Answer::new(trusted.to_string(), json!(trusted))));
            }
            ("large", length) => request.answer(Ok(Answer::plain("x".repeat(length.parse().expect("a number"))))),
            ("never", _) => unanswered.push(request),
            ("forget", _) => drop(request),
            _ => request.answer(Ok(Answer::plain(line))),
        }
    }
}

/// One end of a connection.
struct Client<S>(BufReader<S>);

fn unix(path: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(HANG)).expect("not zero");
    Client(BufReader::new(stream))
}

impl<S: Read + Write> Client<S> {
    /// Sends; that the other end has heard enough is no error here.
    fn say(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.0.get_mut().write_all(text.as_ref());
    }

    /// All that still comes.
    fn rest(&mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).expect("the server closes in an orderly way");
        text
    }

    fn json(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a reply");
        assert!(line.ends_with('\n'), "{line:?}");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    /// Gives a command in JSON; the connection stays.
    fn ask(&mut self, command: &str) -> Value {
        self.say(format!("{}\n", json!({ "command": command })));
        self.json()
    }
}

impl Client<UnixStream> {
    /// Nothing more comes from here.
    fn finish(&mut self) {
        self.0.get_ref().shutdown(Shutdown::Write).expect("it is connected");
    }
}

fn permit(networks: &[&str]) -> Arc<Acl> {
    let rule = |text: &&str| Rule { action: Action::Permit, network: text.parse().expect("a network") };
    Arc::new(Acl::new(networks.iter().map(rule).collect()))
}

/// Waits for what has to come; how long it takes does not matter.
fn await_that(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < HANG, "never came: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The numbers of the superuser may do what a test has to see refused.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

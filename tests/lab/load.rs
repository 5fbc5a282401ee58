//! The load of the tests of change: long-lived TCP connections that are never silent, and a ledger of what became of
//! each.
//!
//! A connection sends its number and a sequence number every 100 ms; the server of the backend that it has reached sends
//! them back behind the backend's name. One that breaks is written down and opened anew.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use crate::harness::{CLIENTS, Lab, wait_until};

/// Where the servers listen.
pub const PORT: u16 = 7000;
/// Between two messages of a connection.
const INTERVAL: Duration = Duration::from_millis(100);
/// A message that is not answered within this breaks its connection. Longer than TCP pauses after an outage of twenty seconds,
/// and less than [`PATIENCE`](crate::harness::PATIENCE).
const GIVE_UP: Duration = Duration::from_secs(60);
/// While so many have no echo, no more are sent: a socket has room for some seconds' only.
const UNANSWERED: usize = 20;
/// A connection that is not open within this is tried anew.
const OPENING: Duration = GIVE_UP;
/// Between a connection's end and its next attempt.
const RETRY: Duration = Duration::from_millis(300);
/// Number of the connection, then the sequence number.
pub const REQUEST: usize = 12;
/// The backend's name, padded with spaces, then the request.
pub const REPLY: usize = NAME + REQUEST;
const NAME: usize = 4;

/// The servers of `hosts`, for [`Load`]: each in a thread of its own, until the test ends.
pub fn serve(lab: &Lab, hosts: &[&str]) {
    for &host in hosts {
        let name = host.to_owned();
        let serving = lab.inside(host, move || {
            let listener = TcpListener::bind(("::", PORT)).expect("the servers' port");
            listener.set_nonblocking(true).expect("a listener that does not block");
            std::thread::spawn(move || answer(&listener, &name).expect("serving"));
        });
        serving.join().expect("a server");
    }
}

/// Answers every message with `name` and itself.
fn answer(listener: &TcpListener, name: &str) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, u64::MAX))?;
    let mut peers: BTreeMap<u64, (TcpStream, Vec<u8>)> = BTreeMap::new();
    let mut accepted = 0;
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE).or_else(interrupted)?;
        for event in &events[..ready] {
            let number = event.data();
            if number == u64::MAX {
                // A peer that has reset its connection before it was accepted is no reason to end.
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, accepted))?;
                    peers.insert(accepted, (stream, Vec::new()));
                    accepted += 1;
                }
            } else if let Some((stream, unread)) = peers.get_mut(&number)
                && !receive(stream, unread).is_ok_and(|open| open && reply(stream, unread, name).is_ok())
            {
                peers.remove(&number);
            }
        }
    }
}

fn interrupted(errno: nix::Error) -> io::Result<usize> {
    if errno == nix::Error::EINTR { Ok(0) } else { Err(errno.into()) }
}

/// Reads all that has come. `false`: the other end has finished.
fn receive(mut stream: &TcpStream, unread: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(length) => unread.extend_from_slice(&chunk[..length]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn reply(mut stream: &TcpStream, unread: &mut Vec<u8>, name: &str) -> io::Result<()> {
    let whole = unread.len() / REQUEST * REQUEST;
    let mut replies = Vec::with_capacity(whole / REQUEST * REPLY);
    for request in unread.drain(..whole).as_slice().chunks(REQUEST) {
        write!(replies, "{name:<NAME$}")?;
        replies.extend_from_slice(request);
    }
    stream.write_all(&replies)
}

/// A connection that ended without being asked to.
#[derive(Clone)]
pub struct Broken {
    /// Who served it; `None` if it had no answer yet.
    pub backend: Option<String>,
    /// What ended it.
    pub why: String,
}

impl std::fmt::Debug for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.backend.as_deref().unwrap_or("nobody"), self.why)
    }
}

/// What was seen since the last [`Load::mark`].
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// The longest time from a message to its echo, of all connections.
    pub longest: Duration,
    /// The longest time in which no connection at all had an echo.
    pub silence: Duration,
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ms without an echo to anybody, {} ms from a message to its echo at most",
            self.silence.as_millis(),
            self.longest.as_millis()
        )
    }
}

enum Phase {
    /// Not there; to be opened at this time, or never.
    Closed(Option<Instant>),
    Opening(TcpStream, Instant),
    Open(TcpStream),
}

struct Connection {
    source: IpAddr,
    phase: Phase,
    /// Who serves it, once it has said so.
    backend: Option<String>,
    next_message: Instant,
    sequence: u64,
    /// Messages that wait for their echoes.
    sent: VecDeque<(u64, Instant)>,
    unread: Vec<u8>,
}

struct Ledger {
    connections: Vec<Connection>,
    broken: Vec<Broken>,
    /// Attempts to open a connection that failed.
    refused: usize,
    /// What can never happen: an echo that does not fit.
    nonsense: Vec<String>,
    /// Since the mark.
    echoes: u64,
    last_echo: Instant,
    longest: Duration,
    silence: Duration,
}

struct Shared {
    stop: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// The connections. They are closed when this is dropped.
pub struct Load {
    to: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// `connections` to port [`PORT`] of `vip`, from the client's eight addresses in turn. Returns when all are served.
    pub fn start(lab: &Lab, vip: &str, connections: usize) -> Load {
        let to = SocketAddr::new(vip.parse().expect("an address"), PORT);
        let now = Instant::now();
        let ledger = Ledger {
            connections: Vec::new(),
            broken: Vec::new(),
            refused: 0,
            nonsense: Vec::new(),
            echoes: 0,
            last_echo: now,
            longest: Duration::ZERO,
            silence: Duration::ZERO,
        };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), ledger: Mutex::new(ledger) });
        let theirs = Arc::clone(&shared);
        let thread = lab.inside("client", move || drive(&theirs, to).expect("the client's sockets"));
        let load = Load { to, shared, thread: Some(thread) };
        load.more(connections);
        load
    }

    /// Opens so many more connections, and waits until all are served.
    pub fn more(&self, connections: usize) {
        let mut ledger = self.ledger();
        let now = Instant::now();
        for _ in 0..connections {
            let number = ledger.connections.len();
            let last = CLIENTS[number % CLIENTS.len()];
            let source = if self.to.is_ipv4() { format!("10.0.0.{last}") } else { format!("fd00::{last}") };
            ledger.connections.push(Connection {
                source: source.parse().expect("an address"),
                phase: Phase::Closed(Some(now)),
                backend: None,
                // Not all at the same moment.
                next_message: now + INTERVAL * (number % 100) as u32 / 100,
                sequence: 0,
                sent: VecDeque::new(),
                unread: Vec::new(),
            });
        }
        drop(ledger);
        self.everybody_is_served();
        self.mark();
    }

    /// Waits until each connection is open and has had an echo to a message sent from now on.
    pub fn everybody_is_served(&self) {
        let asked: Vec<u64> = self.ledger().connections.iter().map(|connection| connection.sequence).collect();
        wait_until("an echo to every connection", || {
            let ledger = self.ledger();
            ledger.connections.iter().zip(&asked).all(|(connection, &asked)| match connection.phase {
                Phase::Closed(next) => next.is_none(),
                Phase::Opening(..) => false,
                Phase::Open(_) => {
                    let unanswered = connection.sent.front().map_or(connection.sequence, |oldest| oldest.0);
                    connection.backend.is_some() && unanswered > asked
                }
            })
        });
        assert!(self.ledger().nonsense.is_empty(), "{:?}", self.ledger().nonsense);
    }

    /// Connections that are open and served.
    pub fn living(&self) -> usize {
        self.spread().values().sum()
    }

    /// Open connections by backend.
    pub fn spread(&self) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for connection in &self.ledger().connections {
            if let (Phase::Open(_), Some(backend)) = (&connection.phase, &connection.backend) {
                *spread.entry(backend.clone()).or_default() += 1;
            }
        }
        spread
    }

    /// Who serves each connection, by its number.
    pub fn backends(&self) -> Vec<Option<String>> {
        self.ledger().connections.iter().map(|connection| connection.backend.clone()).collect()
    }

    /// The connections that broke, in order.
    pub fn broken(&self) -> Vec<Broken> {
        self.ledger().broken.clone()
    }

    /// Attempts to open a connection that failed.
    pub fn refused(&self) -> usize {
        self.ledger().refused
    }

    /// Closes the connections that `backend` serves, for good; how many.
    pub fn close(&self, backend: &str) -> usize {
        let mut closed = 0;
        for connection in &mut self.ledger().connections {
            if matches!(connection.phase, Phase::Open(_)) && connection.backend.as_deref() == Some(backend) {
                connection.end(None);
                closed += 1;
            }
        }
        closed
    }

    /// Begins to measure anew.
    pub fn mark(&self) {
        let mut ledger = self.ledger();
        ledger.echoes = 0;
        ledger.last_echo = Instant::now();
        ledger.longest = Duration::ZERO;
        ledger.silence = Duration::ZERO;
    }

    /// Messages that came back since [`Load::mark`].
    pub fn echoes(&self) -> u64 {
        self.ledger().echoes
    }

    /// What was seen since [`Load::mark`], up to now.
    pub fn pause(&self) -> Pause {
        let ledger = self.ledger();
        let now = Instant::now();
        let waiting = ledger
            .connections
            .iter()
            .filter_map(|connection| connection.sent.front())
            .map(|oldest| now - oldest.1)
            .max();
        Pause {
            longest: waiting.map_or(ledger.longest, |waiting| ledger.longest.max(waiting)),
            silence: ledger.silence.max(now - ledger.last_echo),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the client's thread has panicked");
        }
    }
}

/// The client: opens, sends, receives, until it is told to stop.
fn drive(shared: &Shared, to: SocketAddr) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut events = [EpollEvent::empty(); 256];
    while !shared.stop.load(Ordering::Relaxed) {
        let ready = epoll.wait(&mut events, EpollTimeout::from(5u8)).or_else(interrupted)?;
        let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for event in &events[..ready] {
            ledger.handle(event.data(), now);
        }
        ledger.advance(&epoll, to, now)?;
    }
    Ok(())
}

impl Ledger {
    /// Something has happened to the socket of connection `token`.
    fn handle(&mut self, token: u64, now: Instant) {
        let index = token as usize;
        let Some(connection) = self.connections.get_mut(index) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Closed(None)) {
            Phase::Closed(next) => connection.phase = Phase::Closed(next),
            Phase::Opening(stream, since) => match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {
                    connection.phase = Phase::Open(stream);
                    connection.skip_to(now);
                }
                Ok(None) => connection.phase = Phase::Opening(stream, since),
                Ok(Some(_)) | Err(_) => {
                    connection.end(Some(now + RETRY));
                    self.refused += 1;
                }
            },
            Phase::Open(stream) => {
                let received = receive(&stream, &mut connection.unread);
                connection.phase = Phase::Open(stream);
                self.take_echoes(index, now);
                match received {
                    Ok(true) => {}
                    Ok(false) => self.breaks(index, "the backend has closed it".to_owned(), now),
                    Err(e) => self.breaks(index, e.to_string(), now),
                }
            }
        }
    }

    fn take_echoes(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        let whole = connection.unread.len() / REPLY * REPLY;
        let replies: Vec<u8> = connection.unread.drain(..whole).collect();
        for reply in replies.chunks(REPLY) {
            let name = String::from_utf8_lossy(&reply[..NAME]).trim_end().to_owned();
            let number = u32::from_be_bytes(reply[NAME..NAME + 4].try_into().expect("four bytes"));
            let sequence = u64::from_be_bytes(reply[NAME + 4..].try_into().expect("eight bytes"));
            let expected = connection.sent.pop_front();
            let fits = number as usize == index && expected.is_some_and(|(sent, _)| sent == sequence);
            if !fits || connection.backend.as_ref().is_some_and(|backend| *backend != name) {
                self.nonsense.push(format!(
                    "connection {index} of {:?} got {number}, {sequence} from {name} instead of {expected:?}",
                    connection.backend
                ));
            }
            if let Some((_, sent)) = expected {
                self.longest = self.longest.max(now - sent);
            }
            self.silence = self.silence.max(now.saturating_duration_since(self.last_echo));
            self.last_echo = now;
            self.echoes += 1;
            connection.backend = Some(name);
        }
    }

    fn breaks(&mut self, index: usize, why: String, now: Instant) {
        let connection = &mut self.connections[index];
        self.broken.push(Broken { backend: connection.backend.clone(), why });
        connection.end(Some(now + RETRY));
    }

    /// Opens, sends and gives up what is due.
    fn advance(&mut self, epoll: &Epoll, to: SocketAddr, now: Instant) -> io::Result<()> {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            match &connection.phase {
                Phase::Closed(Some(at)) if *at <= now => {
                    let stream = open(connection.source, to)?;
                    let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                    epoll.add(&stream, EpollEvent::new(interest, index as u64))?;
                    connection.phase = Phase::Opening(stream, now);
                }
                Phase::Opening(_, since) if now - *since > OPENING => {
                    connection.end(Some(now));
                    self.refused += 1;
                }
                Phase::Open(_) if connection.next_message <= now && connection.sent.len() >= UNANSWERED => {
                    connection.next_message += INTERVAL;
                    connection.skip_to(now);
                }
                Phase::Open(stream) if connection.next_message <= now => {
                    let mut request = Vec::with_capacity(REQUEST);
                    request.extend_from_slice(&(index as u32).to_be_bytes());
                    request.extend_from_slice(&connection.sequence.to_be_bytes());
                    let mut sending: &TcpStream = stream;
                    let sent = sending.write(&request);
                    connection.sent.push_back((connection.sequence, now));
                    connection.sequence += 1;
                    connection.next_message += INTERVAL;
                    // A machine that was busy for a while does not make up for it by a burst.
                    connection.skip_to(now);
                    match sent {
                        Ok(REQUEST) => {}
                        Ok(_) => self.breaks(index, "its socket is full".to_owned(), now),
                        Err(e) => self.breaks(index, e.to_string(), now),
                    }
                }
                _ => {}
            }
            let connection = &self.connections[index];
            if connection.sent.front().is_some_and(|oldest| now - oldest.1 > GIVE_UP) {
                self.breaks(index, format!("no echo for {} s", GIVE_UP.as_secs()), now);
            }
        }
        Ok(())
    }
}

impl Connection {
    /// The next message is not due before `now`, but in step with those before.
    fn skip_to(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.next_message).as_nanos();
        self.next_message += INTERVAL * late.div_ceil(INTERVAL.as_nanos()) as u32;
    }

    /// Closes it; it is opened again at `next`.
    fn end(&mut self, next: Option<Instant>) {
        self.phase = Phase::Closed(next);
        self.backend = None;
        self.sent.clear();
        self.unread.clear();
    }
}

/// A connection that is being opened.
fn open(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    // It cannot be open at once; epoll tells.
    let _ = socket.connect(&to.into());
    Ok(socket.into())
}

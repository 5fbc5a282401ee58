//! One question to one server, over an ordinary socket.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpStream, UdpSocket, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::Checked;
use super::echo::Echoes;
use crate::config::proxy::Address;
use crate::health::{Direct, Reason, Trouble};
use crate::probe::http::{self, Answer, Finding};
use crate::probe::{Check, TRIES, dns};

/// How a question ended.
pub type Verdict = Result<(), Reason>;

/// Why a question was not asked.
pub enum Unasked {
    /// That is an outcome: the server's, or of what is configured.
    Failed(Reason),
    /// We lack something, which says nothing about the server.
    Ours(io::Error),
}

/// A question that has been asked.
pub struct Ask {
    /// As messages have it.
    at: String,
    timeout: Duration,
    deadline: Instant,
    exchange: Exchange,
}

enum Exchange {
    /// A connection that is to open.
    Connect(Stream),
    /// The same, then a request and what comes back.
    Http { stream: Stream, open: bool, request: Vec<u8>, sent: usize, answer: Answer },
    /// A packet, until it is answered.
    Repeat { packet: Packet, left: u32, next: Instant },
}

enum Packet {
    Datagram {
        socket: UdpSocket,
        bytes: Vec<u8>,
        question: Question,
    },
    /// Sent and answered by a socket that is shared.
    Echo {
        number: u64,
        to: IpAddr,
        source: Option<IpAddr>,
    },
}

enum Question {
    Udp { expect: Vec<u8> },
    Dns { id: u16, garbled: bool },
}

impl Ask {
    /// Asks `server`; what comes back is told by `registry` with `token`, or by `echoes` with `number`, which nobody else
    /// has and nobody guesses.
    pub fn start(
        server: &Checked,
        timeout: Duration,
        number: u64,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> Result<Ask, Unasked> {
        let not_asked = |why| Unasked::Failed(Reason::NotAsked { why });
        let port = server.at.port();
        let problem = match &server.at {
            Address::Ip(_) => server.check.problem(port),
            // Any port will do: none is asked.
            Address::Unix(_) => server.check.problem(1),
        };
        if let Some(problem) = problem {
            return Err(not_asked(problem));
        }
        let at = place(&server.at, &server.check);
        let failed = |error: io::Error| unasked(&at, error);
        let stream = || {
            let mut stream = Stream::connect(&server.at, server.check.port(port), server.source)?;
            registry.register(stream.source(), token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        };
        let exchange = match (&server.check, &server.at) {
            (Check::Link, _) => return Err(not_asked("a link check asks nothing".to_owned())),
            (Check::Http { path, host, status, body, .. }, address) => {
                let asked = server.check.port(port).unwrap_or(80);
                let request = match address {
                    Address::Ip(address) => http::request(path, host.as_deref(), address.ip(), asked),
                    Address::Unix(_) => {
                        let host = host.as_deref().unwrap_or("localhost");
                        http::request(path, Some(host), IpAddr::from([127, 0, 0, 1]), asked)
                    }
                };
                let answer = Answer::new(status.clone(), body.as_deref());
                Exchange::Http { stream: stream().map_err(failed)?, open: false, request, sent: 0, answer }
            }
            (Check::Icmp, Address::Ip(address)) => {
                let packet = Packet::Echo { number, to: address.ip(), source: server.source };
                Exchange::Repeat { packet, left: TRIES, next: now }
            }
            (Check::Udp { payload, expect, .. }, Address::Ip(address)) => {
                let question = Question::Udp { expect: expect.clone() };
                let to = SocketAddr::new(address.ip(), server.check.port(port).unwrap_or(port));
                datagram(to, server.source, payload.clone(), question, registry, token, now).map_err(failed)?
            }
            (Check::Dns { name, .. }, Address::Ip(address)) => {
                let id = number as u16;
                let query = dns::query(id, name).ok_or_else(|| not_asked(format!("{name:?} is not a domain name")))?;
                let question = Question::Dns { id, garbled: false };
                let to = SocketAddr::new(address.ip(), server.check.port(port).unwrap_or(53));
                datagram(to, server.source, query, question, registry, token, now).map_err(failed)?
            }
            (Check::Tcp { .. }, _) | (Check::Icmp | Check::Udp { .. } | Check::Dns { .. }, Address::Unix(_)) => {
                Exchange::Connect(stream().map_err(failed)?)
            }
        };
        Ok(Ask { at, timeout, deadline: now + timeout, exchange })
    }

    /// When [`Ask::due`] has something to do.
    pub fn deadline(&self) -> Instant {
        match &self.exchange {
            Exchange::Repeat { left, next, .. } if *left > 0 => self.deadline.min(*next),
            _ => self.deadline,
        }
    }

    /// The number of its echo request.
    pub fn echo(&self) -> Option<u64> {
        match &self.exchange {
            Exchange::Repeat { packet: Packet::Echo { number, .. }, .. } => Some(*number),
            _ => None,
        }
    }

    /// Does what is due: sends, gives up.
    pub fn due(&mut self, echoes: &mut Echoes, now: Instant) -> Option<Verdict> {
        if now >= self.deadline {
            return Some(self.fail(self.silence()));
        }
        let pause = self.timeout / TRIES;
        let Exchange::Repeat { packet, left, next } = &mut self.exchange else {
            return None;
        };
        if *left == 0 || now < *next {
            return None;
        }
        *left -= 1;
        *next = now + pause;
        let sent = match packet {
            Packet::Datagram { socket, bytes, .. } => socket.send(bytes).map(drop),
            Packet::Echo { number, to, source } => match echoes.send(*to, *source, *number) {
                Ok(sent) => sent,
                Err(why) => return Some(Err(Reason::NotAsked { why })),
            },
        };
        match sent {
            // The next try may have more luck.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_ours(&error) => None,
            Err(error) => Some(self.fail(trouble(error))),
            Ok(()) => None,
        }
    }

    /// Its socket has something to say.
    pub fn ready(&mut self) -> Option<Verdict> {
        let found = match &mut self.exchange {
            Exchange::Connect(stream) => match stream.is_open() {
                Ok(true) => Some(Ok(())),
                Ok(false) => None,
                Err(error) => Some(Err(refusal(error))),
            },
            Exchange::Http { stream, open, request, sent, answer } => match stream.is_open() {
                Err(error) if !*open => Some(Err(refusal(error))),
                Ok(false) => None,
                Ok(true) | Err(_) => {
                    *open = true;
                    converse(stream, request, sent, answer)
                }
            },
            Exchange::Repeat { packet: Packet::Datagram { socket, question, .. }, .. } => listen(socket, question),
            Exchange::Repeat { packet: Packet::Echo { .. }, .. } => None,
        };
        found.map(|found| found.or_else(|trouble| self.fail(trouble)))
    }

    fn fail(&self, trouble: Trouble) -> Verdict {
        Err(Reason::Direct(Direct { at: self.at.clone(), trouble }))
    }

    /// Why there is no verdict at the end of the timeout.
    fn silence(&self) -> Trouble {
        match &self.exchange {
            Exchange::Http { open: true, answer, .. } if answer.has_begun() => Trouble::Slow(self.timeout),
            Exchange::Http { open: true, .. } => Trouble::Hang(self.timeout),
            Exchange::Repeat {
                packet: Packet::Datagram { question: Question::Dns { garbled: true, .. }, .. }, ..
            } => Trouble::DnsMalformed,
            _ => Trouble::NoAnswer(self.timeout),
        }
    }
}

/// Who is asked, as messages have it.
fn place(at: &Address, check: &Check) -> String {
    match (at, check.port(at.port())) {
        (Address::Ip(address), Some(port)) => SocketAddr::new(address.ip(), port).to_string(),
        (Address::Ip(address), None) => address.ip().to_string(),
        (Address::Unix(path), _) => path.display().to_string(),
    }
}

/// Sends what is left of the request, and reads what there is.
fn converse(stream: &mut Stream, request: &[u8], sent: &mut usize, answer: &mut Answer) -> Option<Result<(), Trouble>> {
    while *sent < request.len() {
        match stream.io().write(&request[*sent..]) {
            Ok(0) => break,
            Ok(count) => *sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An answer may be there already; if not, reading says what has happened.
            Err(_) => break,
        }
    }
    let mut bytes = [0; 4096];
    loop {
        let finding = match stream.io().read(&mut bytes) {
            Ok(0) => Some(answer.end()),
            Ok(count) => answer.push(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(Err(Trouble::Closed { reset: true })),
        };
        match finding {
            None => {}
            Some(Finding::Good) => return Some(Ok(())),
            Some(Finding::Status(status)) => return Some(Err(Trouble::Status(status, answer.status()))),
            Some(Finding::Body) => return Some(Err(Trouble::Body(answer.wanted().to_owned()))),
            Some(Finding::Cut) => return Some(Err(Trouble::Closed { reset: false })),
            Some(Finding::Malformed(what)) => return Some(Err(Trouble::Malformed(what))),
        }
    }
}

/// Reads datagrams until one decides.
fn listen(socket: &UdpSocket, question: &mut Question) -> Option<Result<(), Trouble>> {
    let mut bytes = [0; 4096];
    loop {
        let datagram = match socket.recv(&mut bytes) {
            Ok(count) => &bytes[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => return Some(Err(trouble(error))),
        };
        match question {
            Question::Udp { expect } => {
                let found = expect.is_empty() || datagram.windows(expect.len()).any(|window| window == expect);
                return Some(if found { Ok(()) } else { Err(Trouble::Mismatch) });
            }
            Question::Dns { id, garbled } => match dns::response(*id, datagram) {
                // That a name does not exist is an answer, too.
                Some(dns::NO_ERROR | dns::NO_SUCH_NAME) => return Some(Ok(())),
                Some(rcode) => return Some(Err(Trouble::Dns(rcode))),
                // The right one may follow.
                None => *garbled = true,
            },
        }
    }
}

fn datagram(
    to: SocketAddr,
    source: Option<IpAddr>,
    bytes: Vec<u8>,
    question: Question,
    registry: &Registry,
    token: Token,
    now: Instant,
) -> io::Result<Exchange> {
    let from = source.unwrap_or(match to.ip() {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    });
    let mut socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
    socket.connect(to)?;
    registry.register(&mut socket, token, Interest::READABLE)?;
    Ok(Exchange::Repeat { packet: Packet::Datagram { socket, bytes, question }, left: TRIES, next: now })
}

/// A connection to either kind of address.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl Stream {
    fn connect(at: &Address, port: Option<u16>, source: Option<IpAddr>) -> io::Result<Stream> {
        match at {
            Address::Ip(address) => {
                let to = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
                Stream::tcp(to, source).map(Stream::Tcp)
            }
            Address::Unix(path) => Stream::unix(path).map(Stream::Unix),
        }
    }

    fn tcp(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let Some(source) = source else {
            return TcpStream::connect(to);
        };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    fn unix(path: &Path) -> io::Result<UnixStream> {
        UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other("its queue of connections is full"),
            _ => error,
        })
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }

    fn io(&mut self) -> &mut dyn ReadWrite {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }

    /// Is it connected? `false`: not yet.
    fn is_open(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Stream::Tcp(stream) => {
                let peer = stream.peer_addr();
                // A port from which the system connects by itself can be answered by nobody but oneself.
                if let (Ok(peer), Ok(own)) = (&peer, stream.local_addr())
                    && *peer == own
                {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                (stream.take_error()?, peer.map(drop))
            }
            Stream::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }
}

/// Why a connection did not open.
fn refusal(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput => Trouble::Refused,
        _ => trouble(error),
    }
}

fn trouble(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Trouble::Refused,
        io::ErrorKind::NotFound => Trouble::NoSocket,
        _ => Trouble::Unreachable(error.to_string()),
    }
}

fn unasked(at: &str, error: io::Error) -> Unasked {
    if is_ours(&error) {
        return Unasked::Ours(error);
    }
    Unasked::Failed(match error.kind() {
        io::ErrorKind::AddrNotAvailable => Reason::NotAsked {
            why: format!("the address that checks of {at} are to come from cannot be used: {error}"),
        },
        _ => Reason::Direct(Direct { at: at.to_owned(), trouble: refusal(error) }),
    })
}

/// Is that for lack of descriptors or memory?
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

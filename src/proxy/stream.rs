//! One connection, a client's or one to a server: its socket, what is known of its readiness, TLS if it has that.

mod secure;
mod splice;
mod standing;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Registry, Token};
use socket2::{Socket, TcpKeepalive};

pub(super) use secure::Handshake;

use super::memory::Memory;
use super::tls::{self, Scratch, TlsSide};
use crate::os::{self, SHORT_READ_IS_ALL, STREAM_INTEREST};

/// Whose a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A session's: its key, and which side it is there.
    Session(usize, Side),
    /// Nobody's: a connection to the server of this number, ready to be used.
    Idle(u32),
    /// Nobody's yet: a connection that is being made to be ready, of this listener, to the server of this number.
    Warming(usize, u32),
    /// Nobody's any more; closed after this round of events, of which some may be about it.
    Gone,
}

/// A side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What reading has brought.
#[derive(Debug)]
pub(super) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The peer sends no more.
    End,
    /// The connection is broken.
    Broken,
}

/// What carries a stream's bytes.
enum Transport {
    Socket(Socket),
    /// Memory: a request within another connection.
    Memory(Rc<RefCell<Memory>>),
}

/// A connection that does not block, whose readiness is told once for each change.
pub(super) struct Stream {
    transport: Transport,
    pub(super) owner: Owner,
    /// It was made before it was wanted, and nothing was said on it.
    pub(super) fresh: bool,
    /// May there be something to read?
    pub(super) readable: bool,
    /// May there be room to write?
    pub(super) writable: bool,
    /// The last packet of the handshake with a server waits for what is sent first.
    pub(super) owes_ack: bool,
    /// The peer has closed its direction, or all is over: what is read last is the end.
    closing: bool,
    /// Something is wrong, and the system says what when asked.
    failed: bool,
    /// Reading stops before all is read: at urgent data, or at descriptors that come over a Unix socket.
    stops: bool,
    /// All that the peer has sent was read, and it sends no more: the end need not be read.
    ended: bool,
    /// The peer has reset the connection, which writing has found out: that reading comes to an end is no end then.
    reset: bool,
    /// Nothing that is written arrives any more.
    gone: bool,
    /// The peer is asked whether it is there, if that is wanted.
    pub(super) kept_alive: bool,
    tls: Option<Box<TlsSide>>,
    /// What comes first is acknowledged with the answer: if that takes longer, at once.
    joins_acks: bool,
    /// What is to be sent at once, from the second time on: the first one always is (tcp(7), TCP_NODELAY).
    delays: Delays,
}

/// Is what is written sent at once?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delays {
    /// As the socket has it.
    AsItIs,
    /// From the second time on.
    Second,
    /// From now on.
    Next,
}

impl Stream {
    /// `unix`: it is a Unix socket.
    pub(super) fn new(socket: Socket, owner: Owner, unix: bool) -> Stream {
        Stream { stops: unix || !SHORT_READ_IS_ALL, ..Stream::over(Transport::Socket(socket), owner) }
    }

    /// A request within another connection.
    pub(super) fn of_memory(memory: &Rc<RefCell<Memory>>, owner: Owner) -> Stream {
        let transport = Transport::Memory(Rc::clone(memory));
        Stream { readable: true, writable: true, ..Stream::over(transport, owner) }
    }

    fn over(transport: Transport, owner: Owner) -> Stream {
        Stream {
            transport,
            owner,
            fresh: false,
            owes_ack: false,
            readable: false,
            writable: false,
            closing: false,
            failed: false,
            stops: false,
            ended: false,
            reset: false,
            gone: false,
            kept_alive: false,
            tls: None,
            joins_acks: false,
            delays: Delays::AsItIs,
        }
    }

    /// Its socket, if it has one of its own.
    pub(super) fn socket(&self) -> Option<&Socket> {
        match &self.transport {
            Transport::Socket(socket) => Some(socket),
            Transport::Memory(_) => None,
        }
    }

    /// Has its readiness told from now on, under `token`.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(socket) = self.socket() else { return Ok(()) };
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, STREAM_INTEREST)
    }

    /// Takes in what is told.
    pub(super) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.closing |= event.is_read_closed() || event.is_error();
        self.failed |= event.is_error() || event.is_write_closed();
        self.stops |= event.is_priority();
    }

    /// The system acknowledges what comes first with the answer.
    pub(super) fn acks_with_answer(&mut self) {
        self.joins_acks = true;
    }

    /// The last packet of the handshake, which was to go with what is sent first, goes now, as nothing is sent yet.
    pub(super) fn complete_handshake(&mut self) {
        self.owes_ack = false;
        if let Some(socket) = self.socket() {
            // It goes some time.
            let _ = os::acknowledge(socket);
        }
    }

    /// The answer to what came first takes longer, or more has to come before: the peer may wait for an acknowledgement.
    pub(super) fn has_no_answer_yet(&mut self) {
        if std::mem::take(&mut self.joins_acks)
            && let Some(socket) = self.socket()
        {
            // It goes some time.
            let _ = os::acknowledge(socket);
        }
    }

    /// Reads into `into`.
    pub(super) fn read(&mut self, into: &mut [u8], scratch: &mut Scratch) -> Received {
        if !self.readable {
            return Received::Nothing;
        }
        let socket = match &mut self.transport {
            Transport::Socket(socket) => socket,
            Transport::Memory(memory) => {
                let received = memory.borrow_mut().read(into);
                self.readable = !matches!(received, Received::Nothing);
                return received;
            }
        };
        if let Some(tls) = &mut self.tls {
            let received = tls.receive(socket, scratch, into);
            return match received {
                Ok(tls::Received::Plain(n)) => {
                    self.readable = !tls.drained() || self.closing;
                    Received::Bytes(n)
                }
                Ok(tls::Received::Blocked) => {
                    self.readable = false;
                    Received::Nothing
                }
                Ok(tls::Received::Closed) => Received::End,
                // Who wanted to end would have said so; what came may not be all.
                Ok(tls::Received::Truncated) => Received::Broken,
                Err(_) => {
                    self.gone = true;
                    Received::Broken
                }
            };
        }
        if self.ended {
            return Received::End;
        }
        loop {
            return match socket.read(into) {
                Ok(0) if self.reset => Received::Broken,
                Ok(0) => Received::End,
                Ok(n) => {
                    // Less than there is room for is all that there was; what comes later is told again. The end need not
                    // be told again.
                    let all = n < into.len() && !self.stops;
                    self.readable = !all || self.closing;
                    self.ended = all && self.closing && !self.failed;
                    Received::Bytes(n)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    Received::Nothing
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.gone = true;
                    Received::Broken
                }
            };
        }
    }

    /// Writes as much of `bytes` as there is room for.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn write(&mut self, bytes: &[u8], scratch: &mut Scratch) -> io::Result<usize> {
        let written = self.write_some(bytes, scratch);
        self.noting(written)
    }

    /// The system tells of a reset once: whoever writes hears of it, and reading then finds nothing but an end. After an
    /// end that was one, writing says so (EPIPE).
    fn noting<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &outcome {
            self.gone = true;
            self.reset |= e.kind() != io::ErrorKind::BrokenPipe;
        }
        outcome
    }

    fn write_some(&mut self, bytes: &[u8], scratch: &mut Scratch) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        let socket = match &mut self.transport {
            Transport::Socket(socket) => socket,
            Transport::Memory(memory) => {
                let mut memory = memory.borrow_mut();
                if memory.abandoned {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                let taken = memory.write(bytes);
                self.writable = taken == bytes.len();
                return Ok(taken);
            }
        };
        match self.delays {
            Delays::AsItIs => {}
            Delays::Second => self.delays = Delays::Next,
            Delays::Next => {
                self.delays = Delays::AsItIs;
                // Not on Unix sockets.
                let _ = socket.set_tcp_nodelay(true);
            }
        }
        if let Some(tls) = &mut self.tls {
            let taken = tls.send(socket, scratch, bytes)?;
            self.writable = !tls.wants_write();
            return Ok(taken);
        }
        loop {
            return match socket.write(bytes) {
                Ok(n) => {
                    self.writable = n == bytes.len();
                    Ok(n)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    Ok(0)
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    self.gone = true;
                    Err(e)
                }
            };
        }
    }

    /// Writes to the socket itself, in front of TLS.
    ///
    /// # Errors
    /// As send(2).
    pub(super) fn write_raw(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(mut socket) = self.socket() else { return Ok(0) };
        socket.write(bytes)
    }

    /// Are its bytes those of the socket?
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none() && self.socket().is_some()
    }

    /// Sends no more, once all that was written is gone. `false`: the end could not be told yet; then it has to be called
    /// again.
    pub(super) fn shut(&mut self) -> bool {
        let socket = match &mut self.transport {
            Transport::Socket(socket) => socket,
            Transport::Memory(memory) => {
                memory.borrow_mut().outbox_ended = true;
                return true;
            }
        };
        if let Some(tls) = &mut self.tls
            && matches!(tls.shutdown(socket), Ok(false))
        {
            self.writable = false;
            return false;
        }
        // Whoever has gone need not be told.
        let _ = socket.shutdown(std::net::Shutdown::Write);
        true
    }

    /// Tells the end that closing it does not tell: TLS's. `false`: not yet; then it has to be called again.
    pub(super) fn say_goodbye(&mut self) -> bool {
        (self.tls.is_none() && self.socket().is_some()) || self.shut()
    }

    /// Makes closing it a reset: what was not delivered is not, and the peer is told that something went wrong.
    pub(super) fn reset_on_close(&self) {
        match &self.transport {
            // Not on Unix sockets.
            Transport::Socket(socket) => drop(socket.set_linger(Some(Duration::ZERO))),
            Transport::Memory(memory) => memory.borrow_mut().broken = true,
        }
    }

    /// What is written is sent at once, whatever is still on its way. A system call that connections of one request do not
    /// need.
    pub(super) fn send_at_once(&mut self) {
        self.delays = Delays::Second;
    }

    /// Has the system ask a peer that has been silent for `after` whether it is there; zero: does not.
    pub(super) fn keep_alive(&mut self, after: Duration) {
        let asks = !std::mem::replace(&mut self.kept_alive, true) && !after.is_zero();
        let socket = self.socket().filter(|_| asks);
        let _ = socket.map(|socket| socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after)));
    }
}

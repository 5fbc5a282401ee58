//! One connection, a client's or one to a server: its socket, what is known of its readiness, TLS if it has that.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Socket, TcpKeepalive};

use crate::os::Pipe;

/// Whose a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A session's: its key, and which side it is there.
    Session(usize, Side),
    /// Nobody's: a connection to the server of this number, ready to be used.
    Idle(u32),
    /// Nobody's any more; closed after this round of events, of which some may be about it.
    Gone,
}

/// A side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// How a TLS handshake stands.
#[derive(Debug)]
pub(super) enum Handshake {
    Waits,
    Done,
    Failed,
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
    Broken(io::Error),
}

/// A connection that does not block, whose readiness is told once for each change.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    pub(super) owner: Owner,
    /// May there be something to read?
    pub(super) readable: bool,
    /// May there be room to write?
    pub(super) writable: bool,
    /// The peer has closed its direction, or all is over: what is read last is the end.
    closing: bool,
}

impl Stream {
    pub(super) fn new(socket: Socket, owner: Owner) -> Stream {
        Stream { socket, owner, readable: false, writable: false, closing: false }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Has its readiness told from now on, under `token`.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Takes in what is told.
    pub(super) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.closing |= event.is_read_closed() || event.is_error();
    }

    /// Reads into `into`.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Received {
        if !self.readable {
            return Received::Nothing;
        }
        loop {
            return match self.socket.read(into) {
                Ok(0) => Received::End,
                Ok(n) => {
                    // Less than there is room for is all that there was; what comes later is told again. The end need not
                    // be told again.
                    self.readable = n == into.len() || self.closing;
                    Received::Bytes(n)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    Received::Nothing
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Received::Broken(e),
            };
        }
    }

    /// Writes as much of `bytes` as there is room for.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        loop {
            return match self.socket.write(bytes) {
                Ok(n) => {
                    self.writable = n == bytes.len();
                    Ok(n)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    Ok(0)
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
        }
    }

    /// Writes what is held back; is all of it gone?
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// Are its bytes those of the socket?
    pub(super) fn is_plain(&self) -> bool {
        true
    }

    /// Moves up to `most` bytes from the socket into the empty `pipe`.
    pub(super) fn splice_to(&mut self, pipe: &Pipe, most: usize) -> Received {
        if !self.readable {
            return Received::Nothing;
        }
        match pipe.fill(&self.socket, most) {
            Ok(0) => Received::End,
            Ok(n) => Received::Bytes(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Received::Nothing
            }
            Err(e) => Received::Broken(e),
        }
    }

    /// Moves up to `most` bytes from `pipe` to the socket; 0: there is no room.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn splice_from(&mut self, pipe: &Pipe, most: usize) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        match pipe.drain(&self.socket, most, false) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            other => other,
        }
    }

    /// Sends no more, once all that was written is gone.
    pub(super) fn shut(&mut self) {
        // Whoever has gone need not be told.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Makes closing it a reset: what was not delivered is not, and the peer is told that something went wrong.
    pub(super) fn reset_on_close(&self) {
        // Not on Unix sockets.
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// Has the system ask a peer that has been silent for `after` whether it is there.
    pub(super) fn keep_alive(&self, after: Duration) {
        let _ = self.socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after));
    }

    /// Reads what waits and leaves it there (recv(2), MSG_PEEK).
    ///
    /// # Errors
    /// As recv(2).
    pub(super) fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        nix::sys::socket::recv(self.socket.as_raw_fd(), into, nix::sys::socket::MsgFlags::MSG_PEEK).map_err(Into::into)
    }

    /// Takes off what was peeked at: as much as `bytes` has room for.
    ///
    /// # Errors
    /// As recv(2).
    pub(super) fn skip(&self, bytes: &mut [u8]) -> io::Result<()> {
        (&self.socket).read_exact(bytes)
    }

    /// Has the peer ended?
    pub(super) fn has_ended(&self) -> bool {
        self.closing
    }

    /// Writes to the socket itself, in front of TLS.
    ///
    /// # Errors
    /// As send(2).
    pub(super) fn write_raw(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    /// Has the peer everything that was written?
    pub(super) fn is_delivered(&self) -> bool {
        crate::os::unacknowledged(&self.socket).is_ok_and(|bytes| bytes == 0)
    }

    pub(super) fn accept_tls(&mut self, _: &std::sync::Arc<rustls::ServerConfig>) {}
    pub(super) fn start_tls(&mut self, _: &super::tls::Connector, _: &super::plan::Target) {}
    pub(super) fn handshake(&mut self) -> Handshake {
        Handshake::Done
    }

    /// What became of a connection that was being made.
    ///
    /// # Errors
    /// It failed.
    pub(super) fn connected(&self) -> io::Result<()> {
        self.socket.take_error()?.map_or(Ok(()), Err)
    }
}

//! How a stream's socket stands: what waits in it, whether its peer is there, what has arrived.

use std::io::{self, Read};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, recv};

use super::{Stream, Transport};
use crate::os;

impl Stream {
    /// What became of a connection that was being made.
    ///
    /// # Errors
    /// It failed.
    pub(in crate::proxy) fn connected(&self) -> io::Result<()> {
        let Some(socket) = self.socket().filter(|_| self.failed) else { return Ok(()) };
        socket.take_error()?.map_or(Ok(()), Err)
    }

    /// Reads what waits and leaves it there (recv(2), MSG_PEEK).
    ///
    /// # Errors
    /// As recv(2).
    pub(in crate::proxy) fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        let Some(socket) = self.socket() else { return Ok(0) };
        recv(socket.as_raw_fd(), into, MsgFlags::MSG_PEEK).map_err(Into::into)
    }

    /// Takes off what was peeked at: as much as `bytes` has room for.
    ///
    /// # Errors
    /// As recv(2).
    pub(in crate::proxy) fn skip(&self, bytes: &mut [u8]) -> io::Result<()> {
        let Some(mut socket) = self.socket() else { return Ok(()) };
        socket.read_exact(bytes)
    }

    /// Is there nothing to read, and will there be an event when that changes?
    pub(in crate::proxy) fn is_quiet(&mut self) -> bool {
        if self.readable && self.stops && self.tls.is_none() {
            // That there is nothing more has not shown yet.
            self.readable = !self.peek(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        }
        !self.readable && !self.closing
    }

    /// Has the peer neither ended nor reset it?
    pub(in crate::proxy) fn is_alive(&self) -> bool {
        match self.peek(&mut [0]) {
            Ok(bytes) => bytes > 0,
            Err(e) => e.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Has the peer given the connection up, as far as was told?
    pub(in crate::proxy) fn is_lost(&self) -> bool {
        match &self.transport {
            Transport::Socket(_) => self.failed,
            Transport::Memory(memory) => memory.borrow().abandoned,
        }
    }

    /// Has the peer ended?
    pub(in crate::proxy) fn has_ended(&self) -> bool {
        self.closing
    }

    /// Bytes that were written and that the peer's system has not acknowledged; none, if it is gone.
    pub(in crate::proxy) fn undelivered(&self) -> usize {
        match self.socket() {
            Some(socket) if !self.gone => os::unacknowledged(socket).unwrap_or(0),
            _ => 0,
        }
    }
}

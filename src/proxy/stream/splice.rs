//! Bulk between a stream's socket and a pipe, within the kernel (splice(2)).

use std::io;

use super::{Received, Stream};
use crate::os::Pipe;

impl Stream {
    /// Moves up to `most` bytes from the socket into the empty `pipe`.
    pub(in crate::proxy) fn splice_to(&mut self, pipe: &Pipe, most: usize) -> Received {
        if !self.readable {
            return Received::Nothing;
        }
        let Some(socket) = self.socket() else { return Received::Nothing };
        match pipe.fill(socket, most) {
            Ok(0) if self.reset => Received::Broken,
            Ok(0) => Received::End,
            Ok(n) => Received::Bytes(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Received::Nothing
            }
            Err(_) => {
                self.gone = true;
                Received::Broken
            }
        }
    }

    /// Moves up to `most` bytes from `pipe` to the socket; 0: there is no room.
    ///
    /// # Errors
    /// The connection is broken.
    pub(in crate::proxy) fn splice_from(&mut self, pipe: &Pipe, most: usize) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        let Some(socket) = self.socket() else { return Ok(0) };
        match pipe.drain(socket, most, false) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            other => self.noting(other),
        }
    }
}

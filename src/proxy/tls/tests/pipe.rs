//! A client and a server, and what lies between them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use super::super::{Received, Scratch, TlsSide};

/// One end of a wire of limited length, non-blocking.
#[derive(Default)]
pub struct Wire {
    /// What can be read.
    pub incoming: VecDeque<u8>,
    /// What has been written.
    pub outgoing: Vec<u8>,
    /// How much can be written before it blocks, bytes.
    pub room: usize,
    /// Nothing more will come.
    pub ended: bool,
    /// How much is read at once, bytes; 0: all.
    pub step: usize,
}

impl Wire {
    /// An empty wire of that length.
    pub fn new(room: usize) -> Wire {
        Wire { room, ..Wire::default() }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let most = if self.step == 0 { into.len() } else { self.step.min(into.len()) };
        self.incoming.read(&mut into[..most])
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.room - self.outgoing.len());
        if length == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.outgoing.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An end of a connection.
pub struct End {
    pub side: TlsSide,
    pub wire: Wire,
    pub scratch: Scratch,
    /// All plaintext that came.
    pub got: Vec<u8>,
    /// How the stream ended, once it has.
    pub end: Option<Received>,
    /// The length of the buffer that plaintext is received into.
    pub buffer: usize,
}

impl End {
    /// An end over a wire on which 1 MB has room.
    pub fn new(side: TlsSide) -> End {
        let (wire, scratch) = (Wire::new(1 << 20), Scratch::new());
        End { side, wire, scratch, got: Vec::new(), end: None, buffer: 64 * 1024 }
    }

    /// Takes all there is.
    pub fn receive(&mut self) -> io::Result<()> {
        let mut into = vec![0; self.buffer];
        loop {
            match self.side.receive(&mut self.wire, &mut self.scratch, &mut into)? {
                Received::Plain(length) => self.got.extend_from_slice(&into[..length]),
                Received::Blocked => return Ok(()),
                end => {
                    self.end = Some(end);
                    return Ok(());
                }
            }
        }
    }

    pub fn send(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.side.send(&mut self.wire, &mut self.scratch, plain)
    }
}

/// Both.
pub struct Pair {
    pub client: End,
    pub server: End,
}

impl Pair {
    pub fn new(client: TlsSide, server: TlsSide) -> Pair {
        Pair { client: End::new(client), server: End::new(server) }
    }

    /// Takes what each has written to the other; did anything move?
    pub fn carry(&mut self) -> bool {
        let moved = !self.client.wire.outgoing.is_empty() || !self.server.wire.outgoing.is_empty();
        self.server.wire.incoming.extend(self.client.wire.outgoing.drain(..));
        self.client.wire.incoming.extend(self.server.wire.outgoing.drain(..));
        moved
    }

    /// Until nothing moves any more. Fails with what the server fails with, else what the client does.
    pub fn settle(&mut self) -> io::Result<()> {
        loop {
            let flushed = self.client.side.flush(&mut self.client.wire);
            self.server.side.flush(&mut self.server.wire).and(flushed)?;
            if !self.carry() {
                return Ok(());
            }
            let (server, client) = (self.server.receive(), self.client.receive());
            if server.is_err() || client.is_err() {
                self.carry();
                let _ = (self.server.receive(), self.client.receive());
            }
            server.and(client)?;
        }
    }

    pub fn handshake(&mut self) -> io::Result<()> {
        self.settle()?;
        assert!(!self.client.side.is_handshaking() && !self.server.side.is_handshaking());
        Ok(())
    }

    /// Both send each other a few bytes, which arrive.
    pub fn talk(&mut self) {
        for (text, to_server) in [(b"from the client".as_slice(), true), (b"from the server".as_slice(), false)] {
            let (from, to) =
                if to_server { (&mut self.client, &mut self.server) } else { (&mut self.server, &mut self.client) };
            to.got.clear();
            assert_eq!(from.send(text).unwrap(), text.len());
            to.wire.incoming.extend(from.wire.outgoing.drain(..));
            to.receive().unwrap();
            assert_eq!(to.got, text);
        }
    }
}

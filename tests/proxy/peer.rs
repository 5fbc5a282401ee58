//! One end of a connection, of a client or a server, that sends and checks known bytes and ends as it is told.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::Connection;
use socket2::Socket;

use crate::harness::PATIENCE;

/// Bytes that are written at a time.
const CHUNK: usize = 64 << 10;
/// Bytes that who is slow reads at a time, and then waits.
const SIP: usize = 32 << 10;
const PAUSE: Duration = Duration::from_micros(1500);

/// A connection.
pub struct End {
    socket: Socket,
    tls: Option<Connection>,
}

/// What an end is to do.
#[derive(Clone, Debug)]
pub struct Task {
    /// Which bytes it sends, and which it expects.
    pub seeds: (usize, usize),
    /// How many bytes it sends; more than `u64::MAX / 2`: until it cannot.
    pub send: u64,
    /// How many it expects.
    pub expect: u64,
    /// Sends nothing until the peer has ended.
    pub late: bool,
    pub slow: bool,
    pub finish: Finish,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Ends its direction as soon as all is sent, and reads on.
    First,
    /// Ends its direction once the peer's has ended.
    Second,
    /// Resets the connection once all is sent and acknowledged, and all that it expects is there.
    Reset,
    /// Resets it once all is sent and acknowledged, and reads nothing.
    ResetUnread,
    /// Waits for the peer to end the connection.
    Never,
}

/// How the peer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In good order.
    Fin,
    /// With a reset.
    Reset,
    /// Not: this end has reset the connection.
    Own,
}

/// What an end has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: u64,
    pub ending: Ending,
}

/// Random bytes, of a length that no buffer has.
pub struct Pattern(Arc<Vec<u8>>);

impl Pattern {
    pub fn new() -> Pattern {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes = (0..1_000_003).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        });
        Pattern(Arc::new(bytes.collect()))
    }

    /// The bytes of `seed` from place `at` on, some of them.
    pub fn at(&self, seed: usize, at: u64) -> &[u8] {
        &self.0[(seed as u64 * 7919 + at) as usize % self.0.len()..]
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Pattern {
        Pattern(Arc::clone(&self.0))
    }
}

impl End {
    /// The end of a plain connection.
    pub fn plain(socket: Socket) -> End {
        End { socket, tls: None }
    }

    /// The end of a TLS connection.
    pub fn tls(socket: Socket, connection: Connection) -> End {
        End { socket, tls: Some(connection) }
    }

    /// Does `task`, and says what it has seen; `Err`: what is wrong.
    pub fn perform(mut self, task: &Task, pattern: &Pattern) -> Result<Seen, String> {
        self.socket.set_nonblocking(true).map_err(|e| e.to_string())?;
        let mut run = Run { sent: 0, received: 0, shut: false, ending: None, buffer: vec![0; CHUNK] };
        let mut moved = Instant::now();
        loop {
            let mut progress = run.send(&mut self, task, pattern)?;
            progress |= run.receive(&mut self, task, pattern)?;
            if run.is_over(&self, task) {
                let resets = matches!(task.finish, Finish::Reset | Finish::ResetUnread);
                if resets && run.ending.is_none() {
                    self.socket.set_linger(Some(Duration::ZERO)).map_err(|e| e.to_string())?;
                    return Ok(Seen { bytes: run.received, ending: Ending::Own });
                }
                return Ok(Seen { bytes: run.received, ending: run.ending.unwrap_or(Ending::Own) });
            }
            if progress {
                moved = Instant::now();
                continue;
            }
            if moved.elapsed() > PATIENCE {
                return Err(format!("nothing moves after {} sent, {} received: {task:?}", run.sent, run.received));
            }
            self.wait(&run, task);
        }
    }

    fn wait(&self, run: &Run, task: &Task) {
        let mut flags = PollFlags::empty();
        if run.ending.is_none() && task.finish != Finish::ResetUnread || self.is_handshaking() {
            flags |= PollFlags::POLLIN;
        }
        if run.wants_to_send(task) || self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            flags |= PollFlags::POLLOUT;
        }
        // Short, as nobody tells when all is acknowledged.
        let _ = poll(&mut [PollFd::new(self.socket.as_fd(), flags)], PollTimeout::from(5u8));
        if flags.is_empty() {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        if tls.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write(&bytes[..bytes.len().min(16 << 10)])?;
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                other => other?,
            };
        }
        Ok(taken)
    }

    /// Is all that was written with the kernel?
    fn flushed(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            };
        }
        Ok(true)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(into) };
        loop {
            match tls.reader().read(into) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            // At the end of the stream, the reader says next whether that was told.
            tls.read_tls(&mut self.socket)?;
            tls.process_new_packets().map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        }
    }

    fn shut(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        Ok(())
    }

    /// Has the peer acknowledged everything?
    fn acknowledged(&self) -> bool {
        pen_dsr::os::unacknowledged(&self.socket).is_ok_and(|bytes| bytes == 0)
    }
}

/// How far an end is.
struct Run {
    sent: u64,
    received: u64,
    /// Its direction is ended.
    shut: bool,
    ending: Option<Ending>,
    buffer: Vec<u8>,
}

impl Run {
    fn wants_to_send(&self, task: &Task) -> bool {
        self.sent < task.send && !self.shut && (!task.late || self.ending.is_some())
    }

    /// Sends what there is room for; was there any?
    fn send(&mut self, end: &mut End, task: &Task, pattern: &Pattern) -> Result<bool, String> {
        if self.wants_to_send(task) {
            let bytes = pattern.at(task.seeds.0, self.sent);
            let most = (task.send - self.sent).min(CHUNK as u64) as usize;
            return match end.write(&bytes[..bytes.len().min(most)]) {
                Ok(n) => {
                    self.sent += n as u64;
                    Ok(n > 0)
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(e) if is_reset(&e) => {
                    // What has come before is still to be read.
                    self.ending = self.ending.or(Some(Ending::Reset));
                    self.drain(end, task, pattern)?;
                    self.shut = true;
                    Ok(true)
                }
                Err(e) => Err(format!("writing after {} bytes: {e}", self.sent)),
            };
        }
        let due = match task.finish {
            Finish::First => true,
            Finish::Second => self.ending == Some(Ending::Fin),
            Finish::Reset | Finish::ResetUnread | Finish::Never => false,
        };
        if due && !self.shut && self.sent == task.send && end.flushed().map_err(|e| e.to_string())? {
            end.shut().map_err(|e| e.to_string())?;
            let flushed = end.flushed().map_err(|e| e.to_string())?;
            // TLS has an end of its own; TCP's may follow it, or not.
            if end.tls.is_none() || (flushed && task.seeds.0 % 2 == 1) {
                end.socket.shutdown(Shutdown::Write).map_err(|e| e.to_string())?;
            }
            self.shut = true;
            return Ok(true);
        }
        let flushed = end.flushed();
        if self.ending.is_none() {
            flushed.map_err(|e| format!("flushing: {e}"))?;
        }
        Ok(false)
    }

    /// Reads what there is; was there anything?
    fn receive(&mut self, end: &mut End, task: &Task, pattern: &Pattern) -> Result<bool, String> {
        if self.ending.is_some() || (task.finish == Finish::ResetUnread && !end.is_handshaking()) {
            return Ok(false);
        }
        let most = if task.slow { SIP } else { self.buffer.len() };
        match end.read(&mut self.buffer[..most]) {
            Ok(0) => self.ending = Some(Ending::Fin),
            Ok(n) => {
                self.check(n, task, pattern)?;
                if task.slow {
                    thread::sleep(PAUSE);
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if is_reset(&e) => self.ending = Some(Ending::Reset),
            Err(e) => return Err(format!("reading after {} bytes: {e}", self.received)),
        }
        Ok(true)
    }

    /// Reads what came before the reset.
    fn drain(&mut self, end: &mut End, task: &Task, pattern: &Pattern) -> Result<(), String> {
        loop {
            match end.read(&mut self.buffer) {
                Ok(n) if n > 0 => self.check(n, task, pattern)?,
                _ => return Ok(()),
            }
        }
    }

    /// Are the last `n` bytes those that were expected?
    fn check(&mut self, n: usize, task: &Task, pattern: &Pattern) -> Result<(), String> {
        let mut bytes = &self.buffer[..n];
        while !bytes.is_empty() {
            let expected = pattern.at(task.seeds.1, self.received);
            let length = expected.len().min(bytes.len());
            if bytes[..length] != expected[..length] {
                return Err(format!("other bytes than were sent, from place {} on or a little later", self.received));
            }
            self.received += length as u64;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn is_over(&self, end: &End, task: &Task) -> bool {
        match task.finish {
            Finish::First | Finish::Second => {
                let flushed = !end.tls.as_ref().is_some_and(|tls| tls.wants_write());
                self.ending == Some(Ending::Reset) || (self.shut && flushed && self.ending.is_some())
            }
            Finish::Never => self.ending.is_some(),
            Finish::Reset | Finish::ResetUnread => {
                let all = task.finish == Finish::ResetUnread || self.received >= task.expect;
                self.ending.is_some() || (self.sent == task.send && all && end.acknowledged())
            }
        }
    }
}

/// Has the peer reset the connection?
fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

//! The successor's side.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{GOES, GREETING, MOST_NAME, MOST_SOCKETS, Named, PATIENCE, READY, nonsense, stranger, trusted};
use crate::os::{peer_user, receive_rights};

/// Sockets of a process that goes on serving until it is told that this one is [ready](Taken::ready). Without that, when
/// this goes, nothing has changed for it.
#[derive(Debug)]
pub struct Taken {
    /// The sockets by name; take those out that are of use.
    pub sockets: Named,
    predecessor: UnixStream,
}

impl Taken {
    /// The sockets of a listener, in the order of the event loops that had them.
    pub fn of(&mut self, setting: &str) -> Vec<OwnedFd> {
        let event_loop = |name: &str| {
            let (listener, event_loop) = name.rsplit_once('#')?;
            event_loop.parse::<usize>().ok().filter(|_| listener == setting)
        };
        let (of_it, others): (Named, Named) =
            std::mem::take(&mut self.sockets).into_iter().partition(|(name, _)| event_loop(name).is_some());
        self.sockets = others;
        let mut of_it = of_it;
        of_it.sort_by_key(|(name, _)| event_loop(name));
        of_it.into_iter().map(|(_, socket)| socket).collect()
    }

    /// This process serves by now: the other one is told to accept no more, and what has not been taken out of `sockets`
    /// is closed here. Returns when the other one has understood.
    ///
    /// # Errors
    /// It does not answer; it may have ended.
    pub fn ready(self) -> io::Result<()> {
        drop(self.sockets);
        let mut predecessor = self.predecessor;
        predecessor.write_all(&[READY])?;
        let mut answer = [0];
        predecessor.read_exact(&mut answer)?;
        if answer == [GOES] { Ok(()) } else { Err(nonsense("talks nonsense")) }
    }
}

/// Asks the process that serves at `path` for its sockets; `None` if there is nobody.
///
/// # Errors
/// Somebody is there who is neither root nor this user, does not answer within a few seconds, or is no pen-dsr; or it is
/// not permitted.
pub fn take(path: &Path) -> io::Result<Option<Taken>> {
    take_with(path, PATIENCE.step)
}

pub(super) fn take_with(path: &Path, patience: Duration) -> io::Result<Option<Taken>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One that does not accept any more would make us wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        connected => connected?,
    }
    socket.set_nonblocking(false)?;
    let mut predecessor = UnixStream::from(OwnedFd::from(socket));
    let peer = peer_user(&predecessor)?;
    if !trusted(peer) {
        return Err(stranger(peer));
    }
    predecessor.set_read_timeout(Some(patience))?;
    predecessor.set_write_timeout(Some(patience))?;
    predecessor.write_all(GREETING)?;
    let sockets = Reader::new(&predecessor, Instant::now() + patience * 2).sockets().map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "the process that serves does not answer")
        }
        _ => e,
    })?;
    Ok(Some(Taken { sockets, predecessor }))
}

/// What comes over the socket, in pieces as the kernel likes.
struct Reader<'a> {
    from: &'a UnixStream,
    deadline: Instant,
    bytes: Vec<u8>,
    /// How many of them have been read.
    at: usize,
    rights: Vec<OwnedFd>,
}

impl Reader<'_> {
    fn new(from: &UnixStream, deadline: Instant) -> Reader<'_> {
        Reader { from, deadline, bytes: Vec::new(), at: 0, rights: Vec::new() }
    }

    fn sockets(mut self) -> io::Result<Named> {
        if self.next(GREETING.len())? != *GREETING {
            return Err(nonsense("is no pen-dsr"));
        }
        let count = self.number(4)?;
        if count > MOST_SOCKETS {
            return Err(nonsense("has too many sockets"));
        }
        let mut names = Vec::with_capacity(count);
        for _ in 0..count {
            let length = self.number(2)?;
            if length > MOST_NAME {
                return Err(nonsense("has a name that is too long"));
            }
            let name = String::from_utf8(self.next(length)?).map_err(|_| nonsense("has a name that is no text"))?;
            names.push(name);
        }
        if self.rights.len() != count || self.at != self.bytes.len() {
            return Err(nonsense("has other sockets than names"));
        }
        Ok(names.into_iter().zip(self.rights).collect())
    }

    /// A big-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> io::Result<usize> {
        Ok(self.next(bytes)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    fn next(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.bytes.len() - self.at < count {
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut buffer = [0; 16 << 10];
            let (length, rights) = match receive_rights(self.from, &mut buffer) {
                // With a timeout it is not begun again after a signal, nor after a stop (signal(7)).
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if length == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the process that serves has hung up"));
            }
            self.bytes.drain(..std::mem::take(&mut self.at));
            self.bytes.extend(&buffer[..length]);
            self.rights.extend(rights);
            if self.rights.len() > MOST_SOCKETS {
                return Err(nonsense("has too many sockets"));
            }
        }
        let bytes = self.bytes[self.at..self.at + count].to_vec();
        self.at += count;
        Ok(bytes)
    }
}

//! The relay by mio: one loop, which knows all of its connections, and one buffer for all of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::relay::cpu_time;

/// Bytes of the buffer.
const BUFFER: usize = 256 << 10;
/// Events that are taken at a time, as many as tokio takes.
const EVENTS: usize = 1024;

const LISTENER: Token = Token(usize::MAX);
const ASKED: Token = Token(usize::MAX - 1);

/// The ends of a session. Its token is twice its place, and one more for the server's end.
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Carries between those who connect to `listener` and `server`, and answers `asked`, until that ends. All three do not
/// block.
///
/// # Errors
/// Events cannot be waited for.
pub fn run(
    listener: std::net::TcpListener,
    server: SocketAddr,
    asked: std::os::unix::net::UnixStream,
) -> io::Result<()> {
    let mut listener = TcpListener::from_std(listener);
    let mut asked = UnixStream::from_std(asked);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut asked, ASKED, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut sessions = Slab::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        if let Err(e) = poll.poll(&mut events, None)
            && e.kind() != ErrorKind::Interrupted
        {
            return Err(e);
        }
        for event in &events {
            match event.token() {
                LISTENER => accept(&poll, &listener, server, &mut sessions)?,
                ASKED => {
                    if !answer(&mut asked)? {
                        return Ok(());
                    }
                }
                Token(token) => {
                    // One that is over may have had an event more. If another has its place by now, that does no harm.
                    let Some(session) = sessions.get_mut(token / 2) else { continue };
                    // One that breaks is no more than over: those at its ends see that themselves.
                    if session.go_on(token % 2, event, &mut buffer).unwrap_or(true) {
                        sessions.remove(token / 2);
                    }
                }
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, server: SocketAddr, sessions: &mut Slab<Session>) -> io::Result<()> {
    while let Some((client, _)) = unless_blocked(listener.accept())? {
        let Ok(server) = TcpStream::connect(server) else { continue };
        let place = sessions.vacant_entry();
        let mut session = Session { ends: [client, server], ways: Default::default(), connected: false };
        for (end, stream) in session.ends.iter_mut().enumerate() {
            let token = Token(2 * place.key() + end);
            poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        place.insert(session);
    }
    Ok(())
}

/// Answers what is asked; false: nothing more will be.
fn answer(asked: &mut UnixStream) -> io::Result<bool> {
    while let Some(bytes) = unless_blocked(asked.read(&mut [0]))? {
        if bytes == 0 {
            return Ok(false);
        }
        asked.write_all(&cpu_time()?)?;
    }
    Ok(true)
}

/// A connection from a client and one to the server.
struct Session {
    ends: [TcpStream; 2],
    /// From each of them to the other.
    ways: [Way; 2],
    connected: bool,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What could not be written at once, and how much of it was since.
    left: Vec<u8>,
    written: usize,
    /// The sender's end is to come, or is there: a short read says nothing of what comes.
    closing: bool,
    /// There is nothing more to read.
    ended: bool,
    /// The receiver has been told so.
    over: bool,
}

impl Session {
    /// What follows from an event at one end; true: the session is over.
    fn go_on(&mut self, end: usize, event: &Event, buffer: &mut [u8]) -> io::Result<bool> {
        self.ways[end].closing |= event.is_read_closed();
        // Nothing happens at the server's end before it is connected, or has failed to be.
        self.connected |= end == SERVER;
        if !self.connected {
            return Ok(false);
        }
        if event.is_readable() || event.is_read_closed() {
            self.carry(end, buffer)?;
        }
        if event.is_writable() {
            self.carry(1 - end, buffer)?;
        }
        Ok(self.ways.iter().all(|way| way.over))
    }

    /// Carries what there is from one end to the other, until either blocks.
    fn carry(&mut self, end: usize, buffer: &mut [u8]) -> io::Result<()> {
        let [client, server] = &mut self.ends;
        let (from, to) = if end == CLIENT { (client, server) } else { (server, client) };
        let way = &mut self.ways[end];
        if !way.left.is_empty() {
            way.written += unless_blocked(to.write(&way.left[way.written..]))?.unwrap_or_default();
            if way.written < way.left.len() {
                return Ok(());
            }
            (way.left, way.written) = (Vec::new(), 0);
        }
        while !way.ended {
            let Some(bytes) = unless_blocked(from.read(buffer))? else { return Ok(()) };
            way.ended = bytes == 0;
            let written = if way.ended { 0 } else { unless_blocked(to.write(&buffer[..bytes]))?.unwrap_or_default() };
            if written < bytes {
                way.left.extend_from_slice(&buffer[written..bytes]);
                return Ok(());
            }
            // As tokio has it: who got less than there was room for has got everything, and the next event tells of more.
            if !way.ended && bytes < buffer.len() && !way.closing {
                return Ok(());
            }
        }
        if !way.over {
            way.over = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

/// What a call has given, or None if it would have to wait.
fn unless_blocked<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

//! One connection: reads commands, has them carried out, writes the replies.

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select_biased};
use socket2::Socket;
use tracing::debug;

use super::Shared;
use crate::control::wire::{self, Form, Reply, Request, left, send_all};
use crate::failure::{Failure, Sysexit};

/// How long what a client still sends is read after the last reply.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one client until he has said all, or one plain command. `peer`: where he is, if not on this host's Unix socket.
pub(super) fn serve(shared: &Shared, socket: &Socket, peer: Option<IpAddr>) {
    // Accepted sockets inherit it on BSD.
    if socket.set_nonblocking(false).is_err() {
        return;
    }
    let who = peer.map_or_else(|| "control".to_owned(), |peer| format!("control, {peer}"));
    match converse(shared, socket, peer, &who) {
        Ok(()) => part(socket),
        Err(e) => debug!("{who}: {e}"),
    }
}

/// Too many are here already: says so and closes. Never waits.
pub(super) fn turn_away(socket: &Socket) {
    let line = wire::encode(&Err(unavailable("too many connections; try again later")), Form::Text);
    let _ = socket.set_nonblocking(true);
    let _ = socket.send_with_flags(&line, libc::MSG_NOSIGNAL);
    // With something unread, closing would be a reset, which may overtake the line.
    let _ = (&mut &*socket).read(&mut [0; 4096]);
}

fn unavailable(message: impl Into<String>) -> Failure {
    Failure::new(Sysexit::Unavailable, message)
}

fn converse(shared: &Shared, socket: &Socket, peer: Option<IpAddr>, who: &str) -> io::Result<()> {
    let limits = &shared.limits;
    let send = |reply: &Reply, form| send_all(socket, &wire::encode(reply, form), Instant::now() + limits.idle);
    let mut lines = Lines::new(limits.line);
    loop {
        let (line, last) = match lines.next(socket, Instant::now() + limits.idle)? {
            Next::Line(line) => (line, false),
            Next::Last(line) => (line, true),
            Next::TooLong(form) => {
                let message = format!("the line is longer than {} bytes; write one command in a line", limits.line);
                return send(&Err(Failure::usage(message)), form);
            }
            Next::Late(Some(form)) => {
                let message = format!("the line has not ended after {} s", limits.idle.as_secs());
                return send(&Err(unavailable(message)), form);
            }
            Next::Late(None) => return Ok(()),
        };
        if let Some((form, command)) = wire::decode(&line) {
            // The list may have changed since.
            if !shared.permits(peer) {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                debug!("{who}: not permitted to give commands any more");
                return Ok(());
            }
            let reply = command.and_then(|command| {
                debug!("{who}: {command}");
                ask(shared, command, peer.is_none())
            });
            send(&reply, form)?;
            if form == Form::Text {
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
    }
}

/// Has `command` carried out by the main loop.
fn ask(shared: &Shared, line: String, trusted: bool) -> Reply {
    let patience = shared.limits.answer;
    let until = Instant::now() + patience;
    let ending = || Err(unavailable("the balancer is ending"));
    let (reply, answer) = bounded(1);
    select_biased! {
        // First: half a line that the end of the server has cut off is no command.
        recv(shared.stopped) -> _ => return ending(),
        send(shared.requests, Request { line, trusted, reply }) -> sent => if sent.is_err() {
            return ending();
        },
        default(patience) => {
            return Err(unavailable("the balancer is busy: other commands wait; nothing was done, try again later"));
        }
    }
    select_biased! {
        recv(answer) -> reply => reply.unwrap_or_else(|_| ending()),
        // The command that ends the balancer has been replied to before.
        recv(shared.stopped) -> _ => answer.try_recv().unwrap_or_else(|_| ending()),
        default(until.saturating_duration_since(Instant::now())) => Err(unavailable(format!(
            "the balancer is busy: no answer within {} s; the command may still be carried out",
            patience.as_secs()
        ))),
    }
}

/// Closes so that the client gets all that was written: what he still sends would make it a reset.
fn part(socket: &Socket) {
    let until = Instant::now() + LINGER;
    let _ = socket.shutdown(Shutdown::Write);
    let mut bytes = [0; 4096];
    while let Ok(n) = receive(socket, &mut bytes, until)
        && n > 0
    {}
}

/// Reads what there is into `bytes`, at the latest until `deadline`. Zero: the end.
fn receive(mut socket: &Socket, bytes: &mut [u8], deadline: Instant) -> io::Result<usize> {
    loop {
        socket.set_read_timeout(Some(left(deadline)?))?;
        match socket.read(bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A time that is up is EAGAIN to a blocking socket; the deadline says whether it is.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// What comes next.
enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// What came before the end of the connection; perhaps nothing.
    Last(Vec<u8>),
    /// More than a line may have; how a reply is to look.
    TooLong(Form),
    /// Not in time; how a reply is to look, if there is something of a line.
    Late(Option<Form>),
}

/// Bytes that come as they like, by lines.
struct Lines {
    limit: usize,
    bytes: Vec<u8>,
    /// So many of them have no end of a line.
    searched: usize,
}

impl Lines {
    fn new(limit: usize) -> Lines {
        Lines { limit, bytes: Vec::new(), searched: 0 }
    }

    /// The next line, if it is there by `deadline`.
    fn next(&mut self, socket: &Socket, deadline: Instant) -> io::Result<Next> {
        loop {
            let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
            let end = unsearched.iter().position(|&b| b == b'\n').map(|at| self.searched + at);
            if end.unwrap_or(self.bytes.len()) > self.limit {
                return Ok(Next::TooLong(Form::of(&self.bytes)));
            }
            if let Some(end) = end {
                let rest = self.bytes.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.bytes, rest);
                line.truncate(end);
                self.searched = 0;
                return Ok(Next::Line(line));
            }
            self.searched = self.bytes.len();
            let mut chunk = [0; 4096];
            match receive(socket, &mut chunk, deadline) {
                Ok(0) => return Ok(Next::Last(std::mem::take(&mut self.bytes))),
                Ok(n) => self.bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    let begun = !self.bytes.trim_ascii().is_empty();
                    return Ok(Next::Late(begun.then(|| Form::of(&self.bytes))));
                }
                Err(e) => return Err(e),
            }
        }
    }
}

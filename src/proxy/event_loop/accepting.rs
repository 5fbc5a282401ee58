//! Accepting clients, in batches, with pauses while descriptors are short.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::EventLoop;
use crate::os;
use crate::proxy::access::End;
use crate::proxy::core::Peer;
use crate::proxy::descriptors::reserved;
use crate::proxy::greeting::Greeting;
use crate::proxy::plan::Listener;
use crate::proxy::refusal;
use crate::proxy::select::Why;
use crate::proxy::shared::{Admitted, Trouble};
use crate::proxy::stream::Stream;

/// How long accepting pauses.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long it is looked before each, once there were too few.
const TIGHT: Duration = Duration::from_secs(10);
/// Why it does, mostly.
const FEW: &str = "few descriptors are left; raise their limit (ulimit -n, LimitNOFILE), or lower -x";

/// When, and whether, clients are accepted.
#[derive(Default)]
pub(in crate::proxy) struct Accepting {
    /// Until when nobody is.
    pub(super) paused: Option<Instant>,
    /// A client has got one of the reserved descriptors lately: until then, it is looked before each is accepted.
    tight: Option<Instant>,
}

impl Accepting {
    /// Have there been too few descriptors lately?
    pub(in crate::proxy) fn is_tight(&self) -> bool {
        self.tight.is_some()
    }

    /// A client, or a connection that is kept ready, has got this descriptor.
    pub(in crate::proxy) fn note(&mut self, descriptor: RawFd, now: Instant) {
        if descriptor >= reserved() {
            self.tight = Some(now + TIGHT);
        }
    }

    /// Is there no room for a client and its server? `any` is a descriptor of any kind.
    fn is_full(&mut self, any: BorrowedFd<'_>, now: Instant) -> bool {
        if self.tight.is_none() {
            return false;
        }
        let two = any.try_clone_to_owned().and_then(|first| Ok((first, any.try_clone_to_owned()?)));
        let full = two.map_or(true, |(_, second)| second.as_raw_fd() >= reserved());
        if full {
            self.tight = Some(now + TIGHT);
        } else if self.tight.is_some_and(|until| now >= until) {
            self.tight = None;
        }
        full
    }
}

impl EventLoop {
    /// Accepts what waits, a batch of each listener.
    pub(super) fn accept_all(&mut self) {
        if self.accepting.paused.is_some_and(|until| self.core.now < until) {
            return;
        }
        self.accepting.paused = None;
        for key in 0..self.listeners.capacity() {
            if self.listeners.get(key).is_some_and(|listening| listening.ready) {
                self.accept(key);
            }
        }
    }

    fn accept(&mut self, key: usize) {
        let batch = self.listeners[key].listener.settings.limits.accept_batch;
        for _ in 0..batch {
            let listening = &mut self.listeners[key];
            if self.accepting.is_full(listening.socket.as_fd(), self.core.now) {
                return self.pause(FEW);
            }
            match os::accept(&listening.socket) {
                Ok((socket, address)) => {
                    let listener = Arc::clone(&listening.listener);
                    let peer = Peer { address: address.as_socket(), local: None };
                    self.accepting.note(socket.as_raw_fd(), self.core.now);
                    self.begin(listener, socket, peer);
                }
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock => {
                        listening.ready = false;
                        return;
                    }
                    // Of a connection that is gone already.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    // No descriptor, or no memory.
                    _ if e.raw_os_error() == Some(libc::EMFILE) => return self.pause(FEW),
                    _ => return self.pause(&e.to_string()),
                },
            }
        }
    }

    /// Those that wait, wait.
    fn pause(&mut self, why: &str) {
        if self.accepting.is_tight() {
            // What is kept ready is worth less than a client.
            let mut idle = Vec::new();
            self.core.pool.keep(&[], &mut idle);
            idle.into_iter().for_each(|idle| self.core.discard(idle));
        }
        self.accepting.paused = Some(self.core.now + PAUSE);
        self.core.shared.totals.pauses.fetch_add(1, Relaxed);
        self.core.shared.tell(Trouble::Short(format!("no connection can be accepted: {why}")));
    }

    /// A client has connected.
    fn begin(&mut self, listener: Arc<Listener>, socket: Socket, peer: Peer) {
        let totals = &self.core.shared.totals;
        totals.accepted.fetch_add(1, Relaxed);
        let Some(admitted) = Admitted::new(&self.core.shared.connections, listener.settings.limits.connections) else {
            totals.refused.fetch_add(1, Relaxed);
            self.core.record_unserved(&listener, &peer, self.core.now, End::Refused(Why::Full));
            refusal::turn_away(&socket, &listener, Why::Full);
            return;
        };
        let stream = |owner| {
            let mut stream = Stream::new(socket, owner, listener.is_unix());
            stream.writable = true;
            if listener.joins_acks() {
                stream.acks_with_answer();
            }
            stream
        };
        let (key, client) = match self.seat(stream) {
            Ok(seated) => seated,
            Err(e) => {
                self.core.shared.tell(Trouble::Short(format!("no connection can be accepted: {e}")));
                return;
            }
        };
        let after = Greeting::begin(&mut self.core, key, listener, (client, peer), admitted);
        self.put_back(key, after);
    }

    /// Those that wait there have been promised to be served.
    pub(super) fn close_listener(&mut self, key: usize) {
        self.core.now = Instant::now();
        for _ in 0..64 {
            self.listeners[key].ready = true;
            self.accept(key);
            if !self.listeners[key].ready || self.accepting.paused.is_some() {
                break;
            }
        }
        self.listeners.remove(key);
    }
}

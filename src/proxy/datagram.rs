//! Datagrams: each client has a socket of its own between the proxy and its server, so that a server's answers find their
//! way back, and that its refusal (ICMP port unreachable) is told.
//!
//! ```text
//! client -> listener's socket -> deliver: whose is it? -> the client's socket -> server
//! client <- listener's socket <- flush: many at a time <- the client's socket <- server
//! ```
//!
//! Event loops of their own, as for connections, but in other threads: a burst of datagrams does not hold connections up.
//! A client stays with its server for as long as one of them says something within [`ProxyTimeouts::udp`], and that one
//! does not refuse and is not found down. When there are as many clients as there may be, the one that has been silent for
//! longest makes room if it has been answered (clients of DNS come with a port for each question), else new ones are not
//! served. What cannot be sent at once is dropped and counted: there is no queue but the kernel's.
//!
//! [`ProxyTimeouts::udp`]: crate::config::proxy::ProxyTimeouts

mod client;
mod listen;
mod loops;
mod recent;
mod relay;
mod tally;

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::Socket;
use tracing::error;

use super::access::Recorder;
use super::event_loop::{Order, WAKER};
use super::plan::{Listener, Plan};
use super::shared::{Shared, Trouble};
use crate::os::{DATAGRAM_ROOM, Datagrams, MOST_DATAGRAMS};

use client::Core;
use relay::Relay;

pub(super) use listen::open;
pub(super) use loops::Loops;
pub use tally::{Reason, Tally};

/// Events that are taken in at a time.
const EVENTS: usize = 1024;
/// How often a listener's socket is read before others get their turn.
const ROUNDS: usize = 8;

/// A listener's socket.
struct Front {
    socket: Socket,
    listener: Arc<Listener>,
    /// It is bound to all addresses of its family, and tells which one a datagram came to.
    wildcard: bool,
    /// Datagrams may wait.
    ready: bool,
}

/// The loop.
pub(super) struct DatagramLoop {
    poll: Poll,
    orders: Receiver<Order>,
    fronts: Slab<Front>,
    batch: Datagrams,
    relay: Relay,
    /// How long clients may be silent.
    idle: Duration,
    stopped: bool,
}

impl DatagramLoop {
    /// A loop that takes `orders`; whoever gives one wakes it.
    ///
    /// # Errors
    /// The system has no descriptors left.
    fn new(
        poll: Poll,
        shared: Arc<Shared>,
        orders: Receiver<Order>,
        recorder: Option<Recorder>,
    ) -> io::Result<DatagramLoop> {
        let core = Core { shared, registry: poll.registry().try_clone()?, now: Instant::now(), told: Cell::new(None) };
        Ok(DatagramLoop {
            poll,
            orders,
            fronts: Slab::new(),
            batch: Datagrams::new(MOST_DATAGRAMS, DATAGRAM_ROOM),
            relay: Relay::new(core, recorder),
            idle: Duration::ZERO,
            stopped: false,
        })
    }

    /// Runs until told to stop, or until it is drained.
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopped {
            let timeout = self.timeout();
            if let Err(e) = self.poll.poll(&mut events, timeout)
                && e.kind() != io::ErrorKind::Interrupted
            {
                error!("an event loop of the proxy ends: {e}");
                return;
            }
            self.relay.core.now = Instant::now();
            for event in &events {
                let Token(token) = event.token();
                if event.token() == WAKER {
                    self.take_orders();
                } else if token & 1 == 0 {
                    self.relay.read_server(token >> 1, &self.fronts);
                } else if let Some(front) = self.fronts.get_mut(token >> 1) {
                    front.ready = true;
                }
            }
            for place in std::mem::take(&mut self.relay.again) {
                self.relay.read_server(place, &self.fronts);
            }
            self.relay.flush(&self.fronts);
            self.read_fronts();
            self.relay.expire(self.idle);
            if let Some(recorder) = &mut self.relay.recorder {
                recorder.flush();
            }
            if self.relay.draining && self.relay.clients.is_empty() {
                return;
            }
        }
        self.relay.end_those(|_| true);
    }

    fn timeout(&self) -> Option<Duration> {
        let waiting = |(_, front): (usize, &Front)| front.ready;
        if !self.relay.again.is_empty() || self.fronts.iter().any(waiting) {
            return Some(Duration::ZERO);
        }
        self.relay.next_end(self.idle).map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Reads what waits from clients, a few batches of each listener.
    fn read_fronts(&mut self) {
        for (key, front) in &mut self.fronts {
            for _ in 0..ROUNDS {
                if !front.ready {
                    break;
                }
                match self.batch.receive(&front.socket, 0, MOST_DATAGRAMS) {
                    Ok(count) => {
                        front.ready = count == MOST_DATAGRAMS;
                        self.relay.deliver(key, front, &self.batch, count);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => front.ready = false,
                    // Of an answer that a client did not want.
                    Err(_) => {}
                }
            }
        }
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Plan(plan, sockets) => self.adopt(&plan, sockets),
                Order::Record(recorder) => self.relay.recorder = recorder,
                Order::Drain => self.drain(),
                Order::Stop => self.stopped = true,
            }
        }
    }

    /// Goes on with another snapshot: listeners that are in both keep their sockets, and clients their servers, if those
    /// are still there.
    fn adopt(&mut self, plan: &Plan, sockets: Vec<(usize, Socket)>) {
        self.idle = plan.settings.timeouts.udp;
        let places: Vec<usize> = self.fronts.iter().map(|(key, _)| key).collect();
        for key in places {
            match plan.listener(&self.fronts[key].listener.config) {
                Some(listener) => self.fronts[key].listener = Arc::clone(listener),
                None => {
                    self.fronts.remove(key);
                    self.relay.end_those(|client| client.key.front == key);
                }
            }
        }
        self.relay.end_those(|client| {
            let id = client.link.target.server.id;
            !plan.servers.iter().any(|server| server.id == id)
        });
        self.relay.forget_tried();
        if self.relay.draining {
            return;
        }
        for (index, socket) in sockets {
            let Some(listener) = plan.listeners.get(index) else { continue };
            let entry = self.fronts.vacant_entry();
            let token = Token(entry.key() << 1 | 1);
            let registered =
                self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE);
            match registered {
                Ok(()) => {
                    let wildcard = listen::is_wildcard(listener);
                    entry.insert(Front { socket, listener: Arc::clone(listener), wildcard, ready: true });
                }
                Err(e) => {
                    let what = format!("{}: {e}", listener.config.setting());
                    self.relay.core.shared.tell(Trouble::Short(what));
                }
            }
        }
    }

    /// Takes nothing more from clients; what their servers answer still goes to them.
    fn drain(&mut self) {
        // What waits there has been taken by the kernel already, and nobody else may come for it.
        self.read_fronts();
        self.relay.draining = true;
        for (_, front) in &mut self.fronts {
            front.ready = false;
            let _ = self.poll.registry().deregister(&mut SourceFd(&front.socket.as_raw_fd()));
        }
    }
}

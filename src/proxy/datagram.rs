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
use mio::{Events, Poll};
use slab::Slab;
use socket2::Socket;
use tracing::error;

use super::access::Recorder;
use super::listening::{self, Listening};
use super::orders::Order;
use super::plan::Plan;
use super::shared::Shared;
use super::token::{self, Whose};
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

/// The loop.
pub(super) struct DatagramLoop {
    poll: Poll,
    orders: Receiver<Order>,
    listeners: Slab<Listening>,
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
            listeners: Slab::new(),
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
                match token::whose(event.token()) {
                    Whose::Stream(place) => self.relay.read_server(place, &self.listeners),
                    Whose::Listener(key) => {
                        if let Some(listening) = self.listeners.get_mut(key) {
                            listening.ready = true;
                        }
                    }
                    Whose::Waker => self.take_orders(),
                }
            }
            for place in std::mem::take(&mut self.relay.again) {
                self.relay.read_server(place, &self.listeners);
            }
            self.relay.flush(&self.listeners);
            self.read_listeners();
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
        let waiting = |(_, listening): (usize, &Listening)| listening.ready;
        if !self.relay.again.is_empty() || self.listeners.iter().any(waiting) {
            return Some(Duration::ZERO);
        }
        self.relay.next_end(self.idle).map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Reads what waits from clients, a few batches of each listener.
    fn read_listeners(&mut self) {
        for (key, listening) in &mut self.listeners {
            for _ in 0..ROUNDS {
                if !listening.ready {
                    break;
                }
                match self.batch.receive(&listening.socket, 0, MOST_DATAGRAMS) {
                    Ok(count) => {
                        listening.ready = count == MOST_DATAGRAMS;
                        self.relay.deliver(key, listening, &self.batch, count);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => listening.ready = false,
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
        for key in listening::renew(&mut self.listeners, plan) {
            self.listeners.remove(key);
            self.relay.end_those(|client| client.key.listening == key);
        }
        self.relay.end_those(|client| {
            let id = client.link.target.server.id;
            !plan.servers.iter().any(|server| server.id == id)
        });
        self.relay.forget_tried();
        if self.relay.draining {
            return;
        }
        listening::add(&mut self.listeners, plan, sockets, self.poll.registry(), &self.relay.core.shared);
    }

    /// Takes nothing more from clients; what their servers answer still goes to them.
    fn drain(&mut self) {
        // What waits there has been taken by the kernel already, and nobody else may come for it.
        self.read_listeners();
        self.relay.draining = true;
        for (_, listening) in &mut self.listeners {
            listening.ready = false;
            let _ = self.poll.registry().deregister(&mut SourceFd(&listening.socket.as_raw_fd()));
        }
    }
}

//! What all event loops have in common, and what they tell the main thread.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::Waker;
use parking_lot::Mutex;

use super::datagram::Tally;
use super::plan::Target;
use super::queue::Waits;
use super::server::Server;

/// Counters, of all listeners together.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections of clients that were accepted.
    pub accepted: AtomicU64,
    /// Connections of clients that were turned away: too many, nobody to serve them, or an access list.
    pub refused: AtomicU64,
    /// Requests, where HTTP is read.
    pub requests: AtomicU64,
    /// Requests that were not understood, or not accepted.
    pub bad_requests: AtomicU64,
    /// TLS handshakes that failed.
    pub bad_handshakes: AtomicU64,
    /// PROXY headers that were missing, wrong, or not permitted.
    pub bad_headers: AtomicU64,
    /// How often accepting had to pause, for want of descriptors.
    pub pauses: AtomicU64,
}

/// What the main thread is told.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// A server could not be connected to.
    Failed {
        /// Which.
        id: u32,
        /// Why.
        why: String,
        /// For how long it is left out.
        left_out: Duration,
    },
    /// This host is short of something.
    Short(String),
}

/// What all event loops have in common.
pub struct Shared {
    /// When the proxy began.
    pub epoch: Instant,
    /// Connections of clients.
    pub(super) connections: Arc<AtomicU32>,
    /// Counters.
    pub totals: Totals,
    /// Counters of datagrams.
    pub datagrams: Tally,
    /// Requests that wait for a place at a server.
    pub waits: Arc<Waits>,
    servers: Mutex<Servers>,
    /// Of the loops for connections.
    wakers: Mutex<Vec<Arc<Waker>>>,
    trouble: Sender<Trouble>,
}

#[derive(Default)]
struct Servers {
    by_name: HashMap<String, Arc<Server>>,
    next: u32,
}

impl Shared {
    /// Nothing has happened yet; `trouble` is told where it goes.
    pub fn new(trouble: Sender<Trouble>, now: Instant) -> Shared {
        Shared {
            epoch: now,
            connections: Arc::default(),
            totals: Totals::default(),
            datagrams: Tally::default(),
            waits: Arc::default(),
            servers: Mutex::new(Servers::default()),
            wakers: Mutex::default(),
            trouble,
        }
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Arc<Server> {
        let mut servers = self.servers.lock();
        if let Some(server) = servers.by_name.get(name) {
            return Arc::clone(server);
        }
        let server = Arc::new(Server::new(servers.next, name, self.epoch));
        servers.next += 1;
        servers.by_name.insert(name.to_owned(), Arc::clone(&server));
        server
    }

    /// The server of this number.
    pub fn server_of(&self, id: u32) -> Option<Arc<Server>> {
        self.servers.lock().by_name.values().find(|server| server.id == id).cloned()
    }

    /// `waker` is that of a loop for connections.
    pub(super) fn wakes(&self, waker: Arc<Waker>) {
        self.wakers.lock().push(waker);
    }

    /// Servers have more connections than they may: loops that keep some ready are to close them, now.
    pub(super) fn wake_loops(&self) {
        for waker in self.wakers.lock().iter() {
            // One that has ended keeps none.
            let _ = waker.wake();
        }
    }

    /// Tells the main thread, unless it has enough to read.
    pub fn tell(&self, trouble: Trouble) {
        let _ = self.trouble.try_send(trouble);
    }

    /// Leaves out the server of `target`, which has failed there by `error`, for `time` from `now` on, and tells the main
    /// thread.
    pub fn leave_out(&self, target: &Target, time: Duration, error: &io::Error, now: Instant) {
        let server = &target.server;
        // The first one tells; that others fail, too, is no news.
        if server.blacklisted_for(now).is_some() {
            return;
        }
        if server.is_news(now) {
            self.tell(Trouble::Failed { id: server.id, why: error.to_string(), left_out: time });
        }
        server.suspect(target.place, time, now);
    }

    /// Connections of clients that there are.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }
}

/// A client, counted as long as this lives.
pub struct Admitted(Arc<AtomicU32>);

impl Admitted {
    /// One more in `count`, unless there are `most` already.
    pub fn new(count: &Arc<AtomicU32>, most: u32) -> Option<Admitted> {
        if count.fetch_add(1, Relaxed) >= most {
            count.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Admitted(Arc::clone(count)))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

//! A server as all event loops see it: whether it may be used, and how much it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use socket2::SockAddr;

use super::access;

/// What the operator wants of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wanted {
    /// It serves.
    Active,
    /// It keeps the connections that it has and gets no new ones.
    Draining,
    /// The same, for as long as the configuration says so.
    Maintenance,
}

/// A server, for as long as there is one of that name: over reloads, too.
#[derive(Debug)]
pub struct Server {
    /// A number that no other has had.
    pub id: u32,
    /// As the configuration calls it.
    pub name: String,
    /// From when on `blacklisted` counts, in milliseconds.
    epoch: Instant,
    healthy: AtomicBool,
    wanted: AtomicU8,
    /// Until when it is left out, in milliseconds since `epoch`.
    blacklisted: AtomicU64,
    connections: AtomicU32,
    /// Connections that were made.
    pub made: AtomicU64,
    /// Connections that could not be made.
    pub failed: AtomicU64,
    /// Requests that it was given, where HTTP is read.
    pub requests: AtomicU64,
    /// Bytes to it.
    pub sent: AtomicU64,
    /// Bytes from it.
    pub received: AtomicU64,
}

impl Server {
    /// One of which nothing bad is known.
    pub fn new(id: u32, name: &str, epoch: Instant) -> Server {
        Server {
            id,
            name: name.to_owned(),
            epoch,
            healthy: AtomicBool::new(true),
            wanted: AtomicU8::new(Wanted::Active as u8),
            blacklisted: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Do its checks say that it is well?
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    /// Its checks have changed their mind.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Relaxed);
    }

    /// What the operator wants of it.
    pub fn wanted(&self) -> Wanted {
        match self.wanted.load(Relaxed) {
            0 => Wanted::Active,
            1 => Wanted::Draining,
            _ => Wanted::Maintenance,
        }
    }

    /// The operator wants something else of it.
    pub fn set_wanted(&self, wanted: Wanted) {
        self.wanted.store(wanted as u8, Relaxed);
    }

    /// Leaves it out for `time` from `now` on; zero: no longer.
    pub fn blacklist(&self, time: Duration, now: Instant) {
        let until = if time.is_zero() { 0 } else { self.milliseconds(now + time) };
        self.blacklisted.store(until, Relaxed);
    }

    /// For how long it is still left out.
    pub fn blacklisted_for(&self, now: Instant) -> Option<Duration> {
        let left = self.blacklisted.load(Relaxed).saturating_sub(self.milliseconds(now));
        (left > 0).then(|| Duration::from_millis(left))
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// Connections of clients that it serves.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// May new connections go there? Not counting what is only suspected of it, unless `strict`.
    pub fn takes(&self, strict: bool, now: Instant) -> bool {
        self.is_healthy() && self.wanted() == Wanted::Active && !(strict && self.blacklisted_for(now).is_some())
    }
}

/// One connection that a server serves, counted as long as this lives.
#[derive(Debug)]
pub struct Engaged {
    server: Arc<Server>,
    address: Option<SocketAddr>,
}

impl Engaged {
    /// One more connection, to `address`.
    pub fn new(server: &Arc<Server>, address: &SockAddr) -> Engaged {
        server.connections.fetch_add(1, Relaxed);
        Engaged { server: Arc::clone(server), address: address.as_socket() }
    }

    /// Whose it is.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whose it is, for the access log.
    pub(super) fn logged(&self) -> access::Server<'_> {
        access::Server { name: &self.server.name, address: self.address }
    }
}

impl Drop for Engaged {
    fn drop(&mut self) {
        self.server.connections.fetch_sub(1, Relaxed);
    }
}

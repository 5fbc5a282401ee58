//! A server as all event loops see it: whether it may be used, and how much it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
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

/// For so long, milliseconds, it is no news that a server fails that was told to have failed.
const NEWS: u64 = 1000;
/// One connection that is kept ready, within the number of all.
const KEPT: u64 = 1 << 32;

/// How many of `places` serve clients.
fn serving(places: u64) -> u32 {
    places as u32
}

/// How many of `places` there are, whatever for.
fn all(places: u64) -> u64 {
    u64::from(serving(places)) + places / KEPT
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
    /// Is it left out because it has failed, and not because somebody said so?
    suspected: AtomicBool,
    /// What stands for where it is; 0: that has not been said yet.
    place: AtomicU64,
    /// Until when it is no news that it has failed, in milliseconds since `epoch`.
    known: AtomicU64,
    /// Its connections: those that serve clients in the lower half, those that are kept ready, each a [`KEPT`], in the
    /// upper one. One number, so that limits are kept by one step that either happens or does not.
    places: AtomicU64,
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
            suspected: AtomicBool::new(false),
            place: AtomicU64::new(0),
            known: AtomicU64::new(0),
            places: AtomicU64::new(0),
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

    /// Leaves it out for `time` from `now` on, because somebody says so; zero: no longer.
    pub fn blacklist(&self, time: Duration, now: Instant) {
        self.suspected.store(false, Relaxed);
        self.leave_out(time, now);
    }

    fn leave_out(&self, time: Duration, now: Instant) {
        let until = if time.is_zero() { 0 } else { self.milliseconds(now + time) };
        self.blacklisted.store(until, Relaxed);
    }

    /// It has failed at `place`: leaves it out for `time` from `now` on, unless it is somewhere else by now.
    pub fn suspect(&self, place: u64, time: Duration, now: Instant) {
        if self.place.load(Relaxed) == place {
            self.suspected.store(true, Relaxed);
            self.leave_out(time, now);
        }
    }

    /// It is at `place` from now on. What failed elsewhere says nothing of it there; what the operator said still counts.
    pub fn settle(&self, place: u64) {
        if self.place.swap(place, Relaxed) != place && self.suspected.swap(false, Relaxed) {
            self.blacklisted.store(0, Relaxed);
        }
    }

    /// For how long it is still left out.
    pub fn blacklisted_for(&self, now: Instant) -> Option<Duration> {
        let left = self.blacklisted.load(Relaxed).saturating_sub(self.milliseconds(now));
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// It has failed: is that to be told? Once a second it is.
    pub fn is_news(&self, now: Instant) -> bool {
        let now = self.milliseconds(now);
        let tell = |until: u64| (until <= now).then_some(now + NEWS);
        self.known.fetch_update(Relaxed, Relaxed, tell).is_ok()
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// Connections of clients that it serves.
    pub fn connections(&self) -> u32 {
        serving(self.places.load(Relaxed))
    }

    /// Connections that nobody uses just now, as far as they count: those to servers with a hard limit.
    pub fn kept(&self) -> u32 {
        (self.places.load(Relaxed) / KEPT) as u32
    }

    /// May new connections go there? Not counting what is only suspected of it, unless `strict`.
    pub fn takes(&self, strict: bool, now: Instant) -> bool {
        self.is_healthy() && self.wanted() == Wanted::Active && !(strict && self.blacklisted_for(now).is_some())
    }
}

/// A place at a server: one connection that serves a client, or is being made for one, counted as long as this lives.
///
/// It is had before the connection is begun, and only below the limit, by one atomic step: event loops that come at the
/// same moment never have more of them than there may be. It is to live as long as the connection's socket.
#[derive(Debug)]
pub struct Engaged {
    server: Arc<Server>,
    address: Option<SocketAddr>,
    /// So many connections may there be; 0: no limit.
    hard: u32,
    /// What it counts for.
    counted: u64,
}

impl Engaged {
    /// One more connection to `address`, if the server has fewer than `most` that serve clients, and fewer than `hard`; 0 is
    /// no limit. `None`: it has as many already.
    pub fn new(server: &Arc<Server>, address: &SockAddr, most: u32, hard: u32) -> Option<Engaged> {
        let limit = [most, hard].into_iter().filter(|&limit| limit > 0).min();
        match limit {
            None => drop(server.places.fetch_add(1, Relaxed)),
            Some(limit) => {
                let one_more = |places| (serving(places) < limit).then_some(places + 1);
                server.places.fetch_update(Relaxed, Relaxed, one_more).ok()?;
            }
        }
        Some(Engaged { server: Arc::clone(server), address: address.as_socket(), hard, counted: 1 })
    }

    /// Whose it is.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whose it is, for the access log.
    pub(super) fn logged(&self) -> access::Server<'_> {
        access::Server { name: &self.server.name, address: self.address }
    }

    /// Does the server have more connections than it may, for some that are kept ready?
    pub(super) fn crowds(&self) -> bool {
        self.hard > 0 && all(self.server.places.load(Relaxed)) > u64::from(self.hard)
    }

    /// The connection serves nobody any more, and is to be kept ready.
    ///
    /// # Errors
    /// The server has too many of them; its place, to be given up once it is closed.
    pub(super) fn keep(mut self) -> Result<Kept, Engaged> {
        let places = &self.server.places;
        if self.hard == 0 {
            places.fetch_sub(self.counted, Relaxed);
            self.counted = 0;
            return Ok(Kept(self));
        }
        let most = u64::from(self.hard);
        let kept = |places| (all(places) <= most).then(|| places - 1 + KEPT);
        if places.fetch_update(Relaxed, Relaxed, kept).is_err() {
            return Err(self);
        }
        self.counted = KEPT;
        Ok(Kept(self))
    }
}

impl Drop for Engaged {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.server.places.fetch_sub(self.counted, Relaxed);
        }
    }
}

/// A connection that serves nobody and is kept ready, or being made for that; counted as such as long as this lives, if
/// its server has a hard limit.
#[derive(Debug)]
pub(super) struct Kept(Engaged);

impl Kept {
    /// One more, if the server has fewer than `hard` connections, of whatever kind; 0 is no limit.
    pub(super) fn new(server: &Arc<Server>, address: &SockAddr, hard: u32) -> Option<Kept> {
        let counted = if hard > 0 { KEPT } else { 0 };
        if hard > 0 {
            let one_more = |places| (all(places) < u64::from(hard)).then_some(places + KEPT);
            server.places.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        }
        Some(Kept(Engaged { server: Arc::clone(server), address: address.as_socket(), hard, counted }))
    }

    /// Does the server have more connections than it may, so that this one is in the way?
    pub(super) fn crowds(&self) -> bool {
        self.0.crowds()
    }

    /// Its place, to be given up once the connection is closed.
    pub(super) fn place(self) -> Engaged {
        self.0
    }
}

#[cfg(test)]
#[path = "server/tests.rs"]
mod tests;

//! The server of a request, and connections to servers that wait for the next one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustc_hash::FxBuildHasher;

use super::super::core::{Core, Started};
use super::super::counted::Counted;
use super::super::plan::{Listener, Target};
use super::super::queue::{Admission, Place};
use super::super::select::{Tried, Why};
use super::super::server::{Engaged, Kept};
use super::super::stream::{Owner, Side};
use super::super::wheel::Tick;
use super::{After, Http, Refused, Session};

/// The server of a request.
pub(super) enum Upstream {
    None,
    /// All servers have as many connections as they may.
    Waiting(Waiting),
    /// A connection is being made.
    Connecting(Box<Connecting>),
    Connected(Connection),
}

/// A wait for a place at a server.
pub(super) struct Waiting {
    place: Place,
    deadline: Instant,
}

/// A connection that is being made.
pub(super) struct Connecting {
    tried: Tried,
    target: Target,
    stream: usize,
    engaged: Engaged,
    began: Instant,
    deadline: Instant,
}

/// A connection that is there.
pub(super) struct Connection {
    stream: usize,
    engaged: Engaged,
    /// It has served other requests.
    pub(super) reused: bool,
}

impl Upstream {
    pub(super) fn stream(&self) -> Option<usize> {
        match self {
            Upstream::None | Upstream::Waiting(_) => None,
            Upstream::Connecting(connecting) => Some(connecting.stream),
            Upstream::Connected(connection) => Some(connection.stream),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Upstream::Waiting(_))
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self, Upstream::Connected(_))
    }

    pub(super) fn is_reused(&self) -> bool {
        matches!(self, Upstream::Connected(Connection { reused: true, .. }))
    }

    /// Until when there has to be a place, or a connection has to be made.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Upstream::Waiting(waiting) => Some(waiting.deadline),
            Upstream::Connecting(connecting) => Some(connecting.deadline),
            _ => None,
        }
    }

    pub(super) fn engaged(&self) -> Option<&Engaged> {
        match self {
            Upstream::None | Upstream::Waiting(_) => None,
            Upstream::Connecting(connecting) => Some(&connecting.engaged),
            Upstream::Connected(connection) => Some(&connection.engaged),
        }
    }

    /// Whatever there is, is closed.
    pub(super) fn drop_it(&mut self, core: &mut Core) {
        let (stream, engaged) = match std::mem::replace(self, Upstream::None) {
            Upstream::None => return,
            Upstream::Waiting(waiting) => return core.queue.leave(waiting.place),
            Upstream::Connecting(connecting) => {
                core.pending -= 1;
                (connecting.stream, connecting.engaged)
            }
            Upstream::Connected(connection) => (connection.stream, connection.engaged),
        };
        core.close_and_leave(stream, engaged);
    }

    /// The connection, for somebody else.
    pub(super) fn give_up(&mut self) -> Option<(usize, Engaged)> {
        match std::mem::replace(self, Upstream::None) {
            Upstream::Connected(Connection { stream, engaged, .. }) => Some((stream, engaged)),
            _ => None,
        }
    }
}

/// Connections that wait for the next request: those of one snapshot of a listener to one server are alike.
#[derive(Default)]
pub(in crate::proxy) struct Pool {
    idle: HashMap<(u64, u32), Vec<Idle>, FxBuildHasher>,
    count: usize,
    /// Those that are being made to be kept.
    begun: Vec<(usize, Kept)>,
}

/// A connection that waits.
pub(in crate::proxy) struct Idle {
    pub(in crate::proxy) stream: usize,
    /// Since when.
    pub(in crate::proxy) since: Tick,
    pub(in crate::proxy) kept: Kept,
}

impl Pool {
    /// May another one to server `id` wait?
    pub(in crate::proxy) fn has_room(&self, listener: &Listener, id: u32) -> bool {
        let limits = &listener.settings.limits;
        self.waiting(listener, id) < limits.reuse.max(limits.idlers) as usize
    }

    pub(in crate::proxy) fn put(&mut self, listener: &Listener, id: u32, idle: Idle) {
        self.idle.entry(key(listener, id)).or_default().push(idle);
        self.count += 1;
    }

    /// The one that has waited shortest: it is the least likely to be closed by now.
    pub(in crate::proxy) fn take(&mut self, listener: &Listener, id: u32) -> Option<Idle> {
        let idle = self.idle.get_mut(&key(listener, id))?.pop()?;
        self.count -= 1;
        Some(idle)
    }

    /// Any one to server `id`, of whichever listener.
    pub(in crate::proxy) fn any(&mut self, id: u32) -> Option<Idle> {
        let idle = self.idle.iter_mut().filter(|((_, of), _)| *of == id).find_map(|(_, idle)| idle.pop())?;
        self.count -= 1;
        Some(idle)
    }

    /// How many are waiting.
    pub(in crate::proxy) fn waiting(&self, listener: &Listener, id: u32) -> usize {
        self.idle.get(&key(listener, id)).map_or(0, Vec::len)
    }

    /// `stream` is being made, to wait.
    pub(in crate::proxy) fn begin(&mut self, stream: usize, kept: Kept) {
        self.begun.push((stream, kept));
    }

    /// `stream` is made, or not: its place.
    pub(in crate::proxy) fn begun(&mut self, stream: usize) -> Option<Kept> {
        let at = self.begun.iter().position(|(begun, _)| *begun == stream)?;
        Some(self.begun.swap_remove(at).1)
    }

    /// `stream`, to server `id`, is no good any more.
    pub(in crate::proxy) fn remove(&mut self, id: u32, stream: usize) -> Option<Idle> {
        let of_server = self.idle.iter_mut().filter(|((_, of), _)| *of == id);
        let find = |idle: &mut Vec<Idle>| {
            let at = idle.iter().position(|known| known.stream == stream)?;
            Some(idle.remove(at))
        };
        let removed = of_server.map(|(_, idle)| idle).find_map(find)?;
        self.count -= 1;
        Some(removed)
    }

    /// Takes out those of listeners that are none of these any more.
    pub(in crate::proxy) fn keep(&mut self, serials: &[u64], gone: &mut Vec<Idle>) {
        for ((serial, _), idle) in &mut self.idle {
            if !serials.contains(serial) {
                gone.append(idle);
            }
        }
        self.recount();
    }

    /// Takes out those that have waited since before `limit`.
    pub(in crate::proxy) fn expire(&mut self, limit: Tick, expired: &mut Vec<Idle>) {
        if self.count == 0 {
            return;
        }
        for idle in self.idle.values_mut() {
            expired.extend(idle.extract_if(.., |idle| idle.since < limit));
        }
        self.recount();
    }

    /// Takes out those whose servers have more connections than they may, until they have not. Their places are free.
    pub(in crate::proxy) fn make_way(&mut self) -> Vec<usize> {
        let mut gone = Vec::new();
        if self.count == 0 {
            return gone;
        }
        for idle in self.idle.values_mut() {
            while idle.last().is_some_and(|idle| idle.kept.crowds()) {
                gone.extend(idle.pop().map(|idle| idle.stream));
            }
        }
        self.recount();
        gone
    }

    fn recount(&mut self) {
        self.idle.retain(|_, idle| !idle.is_empty());
        self.count = self.idle.values().map(Vec::len).sum();
    }

    /// Is none waiting?
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What connections of a listener to a server are found by.
fn key(listener: &Listener, id: u32) -> (u64, u32) {
    (listener.serial, id)
}

impl Http {
    /// Finds a server for the request whose head has just been read, or has it wait for one.
    pub(super) fn engage(&mut self, core: &mut Core) -> Result<(), Refused> {
        if core.is_overloaded() {
            return Err(Refused::Nobody(Why::Full));
        }
        if core.queue.others_come_first(&self.listener.longest, core.now) {
            return self.wait(core);
        }
        match self.find(core) {
            Err(Refused::Nobody(Why::Full)) => self.wait(core),
            found => found,
        }
    }

    /// All servers have as many connections as they may: it waits until one of them has a place, in all as long as a server
    /// may take to accept.
    fn wait(&mut self, core: &mut Core) -> Result<(), Refused> {
        let settings = &self.listener.settings;
        let deadline = self.patience.map_or(core.now + settings.timeouts.connect, |(deadline, _)| deadline);
        if core.now >= deadline {
            return Err(Refused::Nobody(Why::Full));
        }
        let (most, who, before) =
            (settings.limits.pending, (self.key, self.parent), self.patience.map(|(_, place)| place));
        let place = core.queue.enter(self.listener.serial, who, most, core.now, before);
        let place = place.ok_or(Refused::Nobody(Why::Full))?;
        self.patience = Some((deadline, place));
        self.upstream = Upstream::Waiting(Waiting { place, deadline });
        Ok(())
    }

    /// Has a client whose request waits for a place gone? What half-closes its connection counts as gone then: clients that
    /// have lost their patience cannot be told from it, and are many where there is a wait.
    pub(super) fn has_gone(&self, core: &Core) -> bool {
        let client = &core.streams[self.client];
        // What TLS says at its end is read by nobody now.
        let ended = client.has_ended() && (client.tls().is_some() || !client.is_alive());
        ended || client.is_lost()
    }

    /// There may be a place now; is there?
    pub(in crate::proxy) fn admit(mut self: Box<Http>, core: &mut Core) -> (Option<Session>, Admission) {
        let Upstream::Waiting(Waiting { place, .. }) = self.upstream else {
            return (Some(Session::Http(self)), Admission::Nothing);
        };
        if core.queue.leaves(place, &self.listener.longest, core.now) {
            return (Some(Session::Http(self)), Admission::Left);
        }
        let found = match self.find(core) {
            Err(Refused::Nobody(Why::Full)) => return (Some(Session::Http(self)), Admission::Nothing),
            found => found,
        };
        core.queue.leave(place);
        core.queue.tell_if_over(self.listener.serial, &self.listener.longest);
        // It may wait anew: for a server that is busy, where another one has just failed.
        if matches!(&self.upstream, Upstream::Waiting(waiting) if waiting.place == place) {
            self.upstream = Upstream::None;
        }
        self.last = core.tick;
        let after = match self.or_refuse(core, found) {
            Ok(()) => self.carry(core),
            Err(after) => after,
        };
        (self.conclude(core, after), Admission::Found)
    }

    /// It has waited as long as it may.
    pub(super) fn give_up_waiting(&mut self, core: &mut Core) -> After {
        self.upstream.drop_it(core);
        let refused: Result<(), Refused> = Err(Refused::Nobody(Why::Full));
        self.or_refuse(core, refused).err().unwrap_or(After::Waits)
    }

    /// Finds a server for the request.
    fn find(&mut self, core: &mut Core) -> Result<(), Refused> {
        if core.is_overloaded() {
            return Err(Refused::Nobody(Why::Full));
        }
        let listener = Arc::clone(&self.listener);
        let mut tried = Tried::default();
        loop {
            let chosen = listener.engage(&self.peer.client(), &mut tried, core.now);
            let (target, engaged) = chosen.map_err(Refused::Nobody)?;
            let Some(engaged) = self.reuse(core, target, engaged) else { return Ok(()) };
            core.make_way(&engaged);
            match core.connect(Owner::Session(self.key, Side::Server), &listener, &self.peer, target) {
                Ok((stream, connected)) => {
                    self.connecting_to(core, stream, (target.clone(), engaged), tried);
                    if connected {
                        self.established(core);
                    }
                    return Ok(());
                }
                Err(e) => core.failed(&listener, target, &e),
            }
        }
    }

    /// Takes a connection to `target` that waits for requests, if there is one that is good; else `engaged` is given back.
    fn reuse(&mut self, core: &mut Core, target: &Target, engaged: Engaged) -> Option<Engaged> {
        while let Some(idle) = core.pool.take(&self.listener, target.server.id) {
            let stream = idle.stream;
            let fresh = std::mem::take(&mut core.streams[stream].fresh);
            // What may not be sent twice is not sent where it is known to be in vain; and nobody speaks before he is asked.
            let vain = !self.exchange.request().repeatable() && !core.streams[stream].is_alive();
            let begun = !vain
                && !core.streams[stream].readable
                && (!fresh || core.begin_upstream(stream, &self.listener, &self.peer, self.client, target).is_ok());
            if !begun {
                core.discard(idle);
                continue;
            }
            target.server.requests.fetch_add(1, Relaxed);
            self.listener.served(&self.peer.client(), target.server.id, core.now);
            core.streams[stream].owner = Owner::Session(self.key, Side::Server);
            self.upstream = Upstream::Connected(Connection { stream, engaged, reused: true });
            return None;
        }
        Some(engaged)
    }

    fn connecting_to(&mut self, core: &mut Core, stream: usize, (target, engaged): (Target, Engaged), tried: Tried) {
        core.pending += 1;
        let (began, deadline) = (core.now, core.now + self.listener.settings.timeouts.connect);
        self.upstream = Upstream::Connecting(Box::new(Connecting { tried, target, stream, engaged, began, deadline }));
    }

    /// The server's stream has something to tell. Can the request go on?
    pub(super) fn connecting(&mut self, core: &mut Core) -> bool {
        let Upstream::Connecting(connecting) = &self.upstream else { return true };
        let stream = &core.streams[connecting.stream];
        if !(stream.writable || stream.readable) {
            return false;
        }
        match stream.connected() {
            Ok(()) => self.established(core),
            Err(e) => self.redial(core, &e),
        }
    }

    /// The connection is made. Can the request go on?
    fn established(&mut self, core: &mut Core) -> bool {
        let Upstream::Connecting(connecting) = &self.upstream else { return true };
        let begun = core.begin_upstream(connecting.stream, &self.listener, &self.peer, self.client, &connecting.target);
        if let Err(e) = begun {
            return self.redial(core, &e);
        }
        let Upstream::Connecting(connecting) = std::mem::replace(&mut self.upstream, Upstream::None) else {
            return true;
        };
        let Connecting { target, stream, engaged, began, .. } = *connecting;
        core.pending -= 1;
        target.server.made.fetch_add(1, Relaxed);
        target.server.requests.fetch_add(1, Relaxed);
        self.log.connect = Some(core.now - began);
        self.listener.served(&self.peer.client(), target.server.id, core.now);
        self.upstream = Upstream::Connected(Connection { stream, engaged, reused: false });
        true
    }

    /// The server could not be connected to: another one. Can the request go on at once?
    pub(super) fn redial(&mut self, core: &mut Core, error: &io::Error) -> bool {
        let Upstream::Connecting(connecting) = std::mem::replace(&mut self.upstream, Upstream::None) else {
            return true;
        };
        let Connecting { tried, target, stream, engaged, .. } = *connecting;
        core.pending -= 1;
        core.failed(&self.listener, &target, error);
        core.close_and_leave(stream, engaged);
        match self.dial(core, tried) {
            // It is connected to a server, or connects, or waits.
            Ok(connected) => connected,
            Err(refused) => {
                // The state that this leads to is what the next round sees.
                let _ = self.or_refuse::<()>(core, Err(refused));
                true
            }
        }
    }

    /// Begins a new connection to a server that is not among those `tried`, or waits for a place at one. Is it connected
    /// already?
    fn dial(&mut self, core: &mut Core, mut tried: Tried) -> Result<bool, Refused> {
        match core.dial(self.key, &self.listener, &self.peer, &mut tried) {
            Ok(Started { stream, target, engaged, connected }) => {
                self.connecting_to(core, stream, (target, engaged), tried);
                Ok(connected && self.established(core))
            }
            Err(Why::Full) => self.wait(core).map(|()| false),
            Err(why) => Err(Refused::Nobody(why)),
        }
    }

    pub(super) fn count(&mut self, core: &Core) {
        if let Some(engaged) = self.upstream.engaged().filter(|_| self.upstream.is_connected()) {
            self.counted.count(core, engaged.server(), (self.log.received, self.log.sent));
        }
    }

    /// The server's connection, with what went over it counted.
    fn part(&mut self, core: &Core) -> Option<(usize, Engaged)> {
        if !self.upstream.is_connected() {
            return None;
        }
        self.count(core);
        (self.log.received, self.log.sent, self.counted) = (0, 0, Counted::begin(core));
        self.upstream.give_up()
    }

    /// The request has its response: its connection waits for another one, or is closed.
    pub(super) fn release(&mut self, core: &mut Core, reuse: bool) {
        let Some((stream, engaged)) = self.part(core) else { return };
        let own = self.listener.config.transparent || self.listener.config.send_proxy.is_some();
        let id = engaged.server().id;
        // Who has said more, or has closed, is of no use. And what is wanted elsewhere is left to those there.
        let leaves = core.draining || core.queue.is_wanted_elsewhere(&self.listener.longest, core.now);
        let reuse = reuse && !own && !leaves && core.streams[stream].is_quiet();
        let kept = if reuse && core.pool.has_room(&self.listener, id) { engaged.keep() } else { Err(engaged) };
        match kept {
            Ok(kept) => {
                core.pool.put(&self.listener, id, Idle { stream, since: core.tick, kept });
                core.streams[stream].owner = Owner::Idle(id);
                core.queue.stir();
            }
            Err(engaged) => core.close_and_leave(stream, engaged),
        }
    }

    /// The request is sent again, over a new connection.
    pub(super) fn retry(&mut self, core: &mut Core) -> Result<(), Refused> {
        // The server has closed it already: its place is free for the new one.
        if let Some((stream, _)) = self.part(core) {
            core.close(stream);
        }
        self.server_ended = false;
        self.from_server.forget();
        self.to_server.rewind();
        self.dial(core, Tried::default()).map(|_| ())
    }
}

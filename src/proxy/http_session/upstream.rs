//! The server of a request, and connections to servers that wait for the next one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustc_hash::FxBuildHasher;

use super::super::core::Core;
use super::super::plan::{Listener, Target};
use super::super::select::{Tried, Why};
use super::super::server::Engaged;
use super::super::stream::{Owner, Side};
use super::super::wheel::Tick;
use super::{Http, Refused};

/// The server of a request.
pub(super) enum Upstream {
    None,
    /// A connection is being made.
    Connecting(Box<Connecting>),
    Connected(Connection),
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
            Upstream::None => None,
            Upstream::Connecting(connecting) => Some(connecting.stream),
            Upstream::Connected(connection) => Some(connection.stream),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self, Upstream::Connected(_))
    }

    pub(super) fn is_reused(&self) -> bool {
        matches!(self, Upstream::Connected(Connection { reused: true, .. }))
    }

    /// Until when a connection has to be made.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Upstream::Connecting(connecting) => Some(connecting.deadline),
            _ => None,
        }
    }

    pub(super) fn engaged(&self) -> Option<&Engaged> {
        match self {
            Upstream::None => None,
            Upstream::Connecting(connecting) => Some(&connecting.engaged),
            Upstream::Connected(connection) => Some(&connection.engaged),
        }
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
    idle: HashMap<(u64, u32), Vec<(usize, Tick)>, FxBuildHasher>,
    count: usize,
}

impl Pool {
    pub(in crate::proxy) fn put(&mut self, listener: &Listener, id: u32, stream: usize, now: Tick) -> bool {
        let limits = &listener.settings.limits;
        let idle = self.idle.entry(key(listener, id)).or_default();
        if idle.len() >= limits.reuse.max(limits.idlers) as usize {
            return false;
        }
        idle.push((stream, now));
        self.count += 1;
        true
    }

    /// The one that has waited shortest: it is the least likely to be closed by now.
    pub(in crate::proxy) fn take(&mut self, listener: &Listener, id: u32) -> Option<usize> {
        let (stream, _) = self.idle.get_mut(&key(listener, id))?.pop()?;
        self.count -= 1;
        Some(stream)
    }

    /// How many are waiting.
    pub(in crate::proxy) fn waiting(&self, listener: &Listener, id: u32) -> usize {
        self.idle.get(&key(listener, id)).map_or(0, Vec::len)
    }

    /// `stream`, to server `id`, is no good any more.
    pub(in crate::proxy) fn remove(&mut self, id: u32, stream: usize) {
        for (_, idle) in self.idle.iter_mut().filter(|((_, of), _)| *of == id) {
            let before = idle.len();
            idle.retain(|(known, _)| *known != stream);
            self.count -= before - idle.len();
        }
    }

    /// Takes out those of listeners that are none of these any more.
    pub(in crate::proxy) fn keep(&mut self, serials: &[u64], gone: &mut Vec<usize>) {
        self.idle.retain(|(serial, _), idle| {
            let keep = serials.contains(serial);
            if !keep {
                gone.extend(idle.iter().map(|&(stream, _)| stream));
            }
            keep
        });
        self.count = self.idle.values().map(Vec::len).sum();
    }

    /// Takes out those that have waited since before `limit`.
    pub(in crate::proxy) fn expire(&mut self, limit: Tick, expired: &mut Vec<usize>) {
        if self.count == 0 {
            return;
        }
        self.idle.retain(|_, idle| {
            idle.retain(|&(stream, since)| {
                let keep = since >= limit;
                if !keep {
                    expired.push(stream);
                }
                keep
            });
            !idle.is_empty()
        });
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
    /// Finds a server for the request whose head has just been read.
    pub(super) fn engage(&mut self, core: &mut Core) -> Result<(), Refused> {
        if core.is_overloaded() {
            return Err(Refused::Nobody(Why::Full));
        }
        let listener = Arc::clone(&self.listener);
        let mut tried = Tried::default();
        loop {
            let chosen = listener.choose(&self.peer.client(), &mut tried, core.now);
            let target = chosen.map_err(Refused::Nobody)?;
            if self.reuse(core, target) {
                return Ok(());
            }
            match core.connect(Owner::Session(self.key, Side::Server), &listener, &self.peer, target) {
                Ok((stream, connected)) => {
                    self.connecting_to(core, stream, target.clone(), tried);
                    if connected {
                        self.established(core);
                    }
                    return Ok(());
                }
                Err(e) => core.failed(&listener, target, &e),
            }
        }
    }

    /// Takes a connection to `target` that waits for requests, if there is one that is good.
    fn reuse(&mut self, core: &mut Core, target: &Target) -> bool {
        while let Some(stream) = core.pool.take(&self.listener, target.server.id) {
            let fresh = std::mem::take(&mut core.streams[stream].fresh);
            // What may not be sent twice is not sent where it is known to be in vain; and nobody speaks before he is asked.
            let vain = !self.exchange.request().repeatable() && !core.streams[stream].is_alive();
            let begun = !vain
                && !core.streams[stream].readable
                && (!fresh || core.begin_upstream(stream, &self.listener, &self.peer, self.client, target).is_ok());
            if !begun {
                core.close(stream);
                continue;
            }
            let engaged = Engaged::new(&target.server, &target.address);
            target.server.requests.fetch_add(1, Relaxed);
            self.listener.served(&self.peer.client(), target.server.id, core.now);
            core.streams[stream].owner = Owner::Session(self.key, Side::Server);
            self.upstream = Upstream::Connected(Connection { stream, engaged, reused: true });
            return true;
        }
        false
    }

    fn connecting_to(&mut self, core: &mut Core, stream: usize, target: Target, tried: Tried) {
        core.pending += 1;
        let (began, deadline) = (core.now, core.now + self.listener.settings.timeouts.connect);
        let engaged = Engaged::new(&target.server, &target.address);
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
        let Connecting { mut tried, target, stream, .. } = *connecting;
        core.pending -= 1;
        core.failed(&self.listener, &target, error);
        core.close(stream);
        match core.dial(self.key, &self.listener, &self.peer, &mut tried) {
            Ok(started) => {
                self.connecting_to(core, started.stream, started.target, tried);
                started.connected && self.established(core)
            }
            Err(why) => {
                self.nobody(core, why);
                true
            }
        }
    }

    fn nobody(&mut self, core: &mut Core, why: Why) {
        // The state that this leads to is what the next round sees.
        let _ = self.or_refuse::<()>(core, Err(Refused::Nobody(why)));
    }

    /// The request has its response: its connection waits for another one, or is closed.
    pub(super) fn release(&mut self, core: &mut Core, reuse: bool) {
        if !self.upstream.is_connected() {
            return;
        }
        let Some((stream, engaged)) = self.upstream.give_up() else { return };
        engaged.server().sent.fetch_add(self.log.received, Relaxed);
        engaged.server().received.fetch_add(self.log.sent, Relaxed);
        (self.log.received, self.log.sent) = (0, 0);
        let own = self.listener.config.transparent || self.listener.config.send_proxy.is_some();
        let id = engaged.server().id;
        // Who has said more, or has closed, is of no use.
        let reuse = reuse && !own && !core.draining && core.streams[stream].is_quiet();
        if reuse && core.pool.put(&self.listener, id, stream, core.tick) {
            core.streams[stream].owner = Owner::Idle(id);
        } else {
            core.close(stream);
        }
    }

    /// The request is sent again, over a new connection.
    pub(super) fn retry(&mut self, core: &mut Core) -> Result<(), Refused> {
        self.release(core, false);
        self.server_ended = false;
        self.from_server.forget();
        self.to_server.rewind();
        let mut tried = Tried::default();
        let started = core.dial(self.key, &self.listener, &self.peer, &mut tried).map_err(Refused::Nobody)?;
        self.connecting_to(core, started.stream, started.target, tried);
        if started.connected {
            self.established(core);
        }
        Ok(())
    }
}

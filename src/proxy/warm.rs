//! Connections to servers that are made before they are wanted (Pen's `idlers`).

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::core::Peer;
use super::event_loop::EventLoop;
use super::http_session::Idle;
use super::stream::Owner;

impl EventLoop {
    /// Sees to it that as many are ready as should be: what is missing is made, for servers that take connections.
    ///
    /// A connection that has the client's address cannot be made before there is a client.
    pub(super) fn warm(&mut self) {
        if !self.warms || self.core.draining || self.accepting.is_tight() {
            return;
        }
        let mut underway: HashMap<(usize, u32), usize> = HashMap::new();
        for (_, stream) in &self.core.streams {
            if let Owner::Warming(place, id) = stream.owner {
                *underway.entry((place, id)).or_default() += 1;
            }
        }
        let listeners: Vec<usize> = self.listeners.iter().map(|(key, _)| key).collect();
        for place in listeners {
            let listener = Arc::clone(&self.listeners[place].listener);
            let wanted = listener.settings.limits.idlers as usize;
            if listener.config.transparent {
                continue;
            }
            for target in listener.targets() {
                let id = target.server.id;
                let there = self.core.pool.waiting(&listener, id) + underway.get(&(place, id)).copied().unwrap_or(0);
                if !target.server.takes(true, self.core.now) {
                    continue;
                }
                for _ in there..wanted {
                    let Some(kept) = target.keep_one() else { break };
                    let begun = self.core.connect(Owner::Warming(place, id), &listener, &Peer::default(), target);
                    match begun {
                        Ok((stream, connected)) => {
                            self.core.pool.begin(stream, kept);
                            if let Some(socket) = self.core.streams[stream].socket() {
                                self.accepting.note(socket.as_raw_fd(), self.core.now);
                            }
                            if connected {
                                self.warmed(stream, place, id);
                            }
                        }
                        Err(e) => {
                            self.core.failed(&listener, target, &e);
                            break;
                        }
                    }
                }
            }
        }
    }

    /// A connection that was to be ready is made, or not.
    pub(super) fn warmed(&mut self, stream: usize, place: usize, id: u32) {
        let Some(kept) = self.core.pool.begun(stream) else { return self.core.close(stream) };
        let idle = Idle { stream, since: self.core.tick, kept };
        let Some(listener) = self.listeners.get(place).map(|listening| Arc::clone(&listening.listener)) else {
            return self.core.discard(idle);
        };
        let Some(target) = listener.targets().iter().find(|target| target.server.id == id) else {
            return self.core.discard(idle);
        };
        match self.core.streams[stream].connected() {
            Ok(()) if self.core.pool.has_room(&listener, id) => {
                self.core.pool.put(&listener, id, idle);
                target.server.made.fetch_add(1, Relaxed);
                self.core.streams[stream].owner = Owner::Idle(id);
                self.core.streams[stream].fresh = true;
            }
            Ok(()) => self.core.discard(idle),
            Err(e) => {
                self.core.failed(&listener, target, &e);
                self.core.discard(idle);
            }
        }
    }
}

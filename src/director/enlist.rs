//! From a configuration to the backends that the director looks after.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::server::Server;
use super::{ANNOUNCEMENTS, Director, Notice, PROBE_WAIT};
use crate::config::{BackendConfig, Balance};
use crate::counters::FlowCounters;

impl Director {
    /// Everything by a new configuration, at once: backends that stay keep what is known of them, those that go keep the
    /// flows that they have until none is left, those that come serve from their first sign of life on.
    pub fn reconfigure(&mut self, balance: Arc<Balance>, now: Instant) {
        let old = std::mem::replace(&mut self.balance, balance);
        let before = std::mem::take(&mut self.servers);
        self.enlist_after(before, &old, now);
        let vips = self.balance.vip_addresses();
        let added: Vec<IpAddr> = vips.iter().filter(|vip| !self.vips.contains(vip)).copied().collect();
        for gone in self.vips.iter().filter(|vip| !vips.contains(vip)) {
            self.vip_seats.leave(gone);
        }
        self.vips = vips;
        self.seat_vips();
        if !added.is_empty() && !self.silent {
            self.outbox.extend(added.iter().map(|&vip| self.segment.probe(vip)));
            self.announcements_left = ANNOUNCEMENTS;
            self.next_announcement = now + PROBE_WAIT;
        }
        self.rebuild(now);
    }

    pub(super) fn seat_vips(&mut self) {
        for vip in &self.vips {
            self.vip_seats.take(vip);
        }
    }

    /// Makes the servers of the configuration, at the start.
    pub(super) fn enlist(&mut self, before: Vec<Server>, now: Instant) {
        let old = Arc::clone(&self.balance);
        self.enlist_after(before, &old, now);
        for server in &mut self.servers {
            server.joining = false;
        }
    }

    /// Makes the servers of the configuration from those that there were `before`, under the configuration `old`.
    fn enlist_after(&mut self, mut before: Vec<Server>, old: &Balance, now: Instant) {
        let balance = Arc::clone(&self.balance);
        let regular = balance.backends.iter().map(|backend| (backend, false));
        let wanted: Vec<(&BackendConfig, bool)> = regular.chain(balance.emergency.iter().map(|e| (e, true))).collect();
        for (config, emergency) in wanted {
            if let Some(at) = before.iter().position(|server| server.config.name == config.name) {
                let mut server = before.swap_remove(at);
                server.reconfigure(config, old, &balance, now);
                server.emergency = emergency;
                server.stay();
                self.servers.push(server);
                continue;
            }
            let epochs: Vec<u8> = self.backend_seats.all().iter().map(|seat| seat.epoch).collect();
            // The configuration holds no more than there are numbers for.
            let Some(number) = self.backend_seats.take(&config.name) else {
                continue;
            };
            if epochs.get(number).is_some_and(|&epoch| epoch != self.backend_seats.all()[number].epoch) {
                self.generations.forget();
            }
            let seed = self.seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut server = Server::new(config, number, emergency, &balance, seed, now);
            server.joining = true;
            self.servers.push(server);
        }
        for mut gone in before {
            // It is asked and checked as all others are.
            let config = gone.config.clone();
            gone.reconfigure(&config, old, &balance, now);
            if gone.leave(now) {
                self.servers.push(gone);
            } else {
                self.backend_seats.leave(&gone.config.name);
            }
        }
    }

    /// Forgets those that are not in the configuration any more and have no flow left. Were there any?
    ///
    /// Who has not had the VIPs all the time since one left does not know of all its flows. They show themselves one by
    /// one, as long as the table counts that they were opened by.
    pub(super) fn dismiss(&mut self, flows: &FlowCounters) -> bool {
        let before = self.servers.len();
        let (active_since, now, patience) = (self.active_since, self.now, self.balance.predecessor);
        let done = |server: &Server| {
            let gone = |left| active_since.is_some_and(|since| since <= left) || left + patience <= now;
            server.leaving.is_some_and(gone) && flows.remembered(server.number) == 0
        };
        for server in self.servers.extract_if(.., |server| done(server)) {
            self.backend_seats.leave(&server.config.name);
            self.notices.push_back(Notice::Gone { name: server.config.name });
        }
        self.servers.len() != before
    }
}

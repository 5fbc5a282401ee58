//! How a backend stands, for the operator.

use std::time::Instant;

use siphasher::sip::SipHasher13;

use super::server::{Link, Server};
use super::{Director, Duty};
use crate::health::{Reason, State};
use crate::wire::ether::Mac;

/// What a backend is doing, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its MAC is being asked for, or its first check is under way.
    Starting,
    /// In service.
    Up,
    /// In service, its share still growing.
    SlowStart,
    /// Does not answer, or fails its check.
    Down,
    /// Keeps its flows, takes no new ones.
    Draining,
    /// Drained, no flow is left.
    Drained,
    /// Not in the configuration any more; keeps the flows that it has left.
    Leaving,
    /// Out of service by the operator's wish.
    Maintenance,
    /// The same, for a while.
    Blacklisted,
    /// Waits for all others to fail.
    Emergency,
}

impl Condition {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Starting => "starting",
            Condition::Up => "up",
            Condition::SlowStart => "slow-start",
            Condition::Down => "down",
            Condition::Draining => "draining",
            Condition::Drained => "drained",
            Condition::Leaving => "leaving",
            Condition::Maintenance => "maintenance",
            Condition::Blacklisted => "blacklisted",
            Condition::Emergency => "emergency",
        }
    }
}

/// How a backend stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// As configured; also what it is in the hash.
    pub name: String,
    /// Its number in tables and counters.
    pub number: usize,
    /// What it is doing.
    pub condition: Condition,
    /// Where it is.
    pub mac: Option<Mac>,
    /// Its weight by the configuration.
    pub weight: u32,
    /// Percent of all slots that it takes.
    pub share: f64,
    /// Why it is down, or was last.
    pub reason: Option<Reason>,
    /// Since when its check has said what it says.
    pub since: Option<Instant>,
    /// Is it the emergency backend?
    pub emergency: bool,
}

impl Director {
    /// A number that stands for the whole choice: hash and slots, with backends by their names. Balancers on which it is
    /// the same agree about every client.
    pub fn digest(&self) -> u64 {
        let current = self.generations.current();
        let (k0, k1) = self.balance.seed.keys();
        let hasher = SipHasher13::new_with_keys(k0, k1);
        let names: Vec<u64> = self.backend_seats.all().iter().map(|seat| hasher.hash(seat.key.as_bytes())).collect();
        let mut bytes = vec![u8::from(current.hash.with_port())];
        for slot in 0..current.slots.size() {
            let holder = current.slots.member(slot).and_then(|number| names.get(number)).copied().unwrap_or(0);
            bytes.extend_from_slice(&holder.to_le_bytes());
        }
        hasher.hash(&bytes)
    }

    /// Does a table from before the last changes still decide about older flows?
    pub fn has_previous(&self) -> bool {
        self.generations.previous().is_some()
    }

    pub(super) fn standing(&self, server: &Server, shares: &[usize]) -> Standing {
        let backend = self.tables.backend(server.number);
        let takes = backend.is_some_and(|backend| backend.in_service);
        let known = server.link.mac().is_some() && server.health.as_ref().is_none_or(|h| h.state() != State::Unknown);
        let condition = match server.duty {
            _ if server.leaving.is_some() => Condition::Leaving,
            Duty::Draining => Condition::Draining,
            Duty::Drained => Condition::Drained,
            Duty::Maintenance => Condition::Maintenance,
            Duty::Blacklisted(_) => Condition::Blacklisted,
            Duty::Active if server.link.is_up() && !known => Condition::Starting,
            Duty::Active if !server.is_serving() => Condition::Down,
            Duty::Active if server.returned.is_some() => Condition::SlowStart,
            Duty::Active if server.emergency && !takes => Condition::Emergency,
            Duty::Active => Condition::Up,
        };
        let size = self.generations.current().slots.size();
        let own = shares.get(server.number).copied().unwrap_or(0);
        let gone = matches!(&server.link, Link::Asked { neighbor, .. } if neighbor.is_gone());
        let unwell = server.health.as_ref().filter(|health| health.state() != State::Up);
        let reason = unwell.and_then(|health| health.reason().cloned());
        Standing {
            name: server.config.name.clone(),
            number: server.number,
            condition,
            mac: server.link.mac(),
            weight: server.config.weight,
            share: 100.0 * own as f64 / size as f64,
            reason: if gone { server.config.address.map(|address| Reason::Link { address }) } else { reason },
            since: server.health.as_ref().map(crate::health::Health::since),
            emergency: server.emergency,
        }
    }
}

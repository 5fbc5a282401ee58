//! One backend as the director sees it: its link, its health, its duty.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::{BackendConfig, Balance};
use crate::health::{self, Health};
use crate::neighbor::Neighbor;
use crate::probe::Probe;
use crate::wire::ether::Mac;

/// How a backend's MAC is known.
pub(super) enum Link {
    /// By configuration.
    Fixed(Mac),
    /// Not at all: it is never in service.
    Nowhere,
    /// By asking for its address.
    Asked { address: IpAddr, neighbor: Neighbor },
}

impl Link {
    fn new(config: &BackendConfig, balance: &Balance, now: Instant) -> Link {
        match (config.mac, config.address) {
            (Some(mac), _) => Link::Fixed(mac),
            (None, Some(address)) => Link::Asked { address, neighbor: Neighbor::new(balance.neighbor, now) },
            // A name that was not looked up.
            (None, None) => Link::Nowhere,
        }
    }

    pub(super) fn mac(&self) -> Option<Mac> {
        match self {
            Link::Fixed(mac) => Some(*mac),
            Link::Nowhere => None,
            Link::Asked { neighbor, .. } => neighbor.mac(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        match self {
            Link::Fixed(_) => true,
            Link::Nowhere => false,
            Link::Asked { neighbor, .. } => !neighbor.is_gone(),
        }
    }
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It serves.
    Active,
    /// It keeps the flows that it has and takes no new ones.
    Draining,
    /// The same, and no flow is left.
    Drained,
    /// It does not serve at all.
    Maintenance,
    /// The same, until then.
    Blacklisted(Instant),
}

impl Duty {
    /// Do the flows that it has stay?
    pub(super) fn keeps_flows(self) -> bool {
        matches!(self, Duty::Active | Duty::Draining | Duty::Drained)
    }
}

/// A backend, or the emergency backend.
pub(super) struct Server {
    pub(super) config: BackendConfig,
    /// Its number in tables and counters.
    pub(super) number: usize,
    pub(super) emergency: bool,
    /// Since when it is not in the configuration any more, if it may have flows left.
    pub(super) leaving: Option<Instant>,
    pub(super) link: Link,
    /// `None` if nothing beyond the link is checked.
    pub(super) health: Option<Health>,
    pub(super) duty: Duty,
    /// What it does when it is not blacklisted any more.
    resumes: Duty,
    /// It was added while the balancer ran, and serves from the first sign of life on.
    pub(super) joining: bool,
    /// When it returned, while its share grows.
    pub(super) returned: Option<Instant>,
    /// The probes of the round that is under way.
    pub(super) round: Vec<Probe>,
    /// Which VIP that round began with, or the one that has failed in it.
    pub(super) first_target: usize,
    /// Which VIP the next round begins with.
    pub(super) next_target: usize,
    /// Was it in service when the tables were last made?
    serving: bool,
    /// Did it take new flows then? `None`: there were none.
    taking: Option<bool>,
    seed: u64,
}

impl Server {
    pub(super) fn new(
        config: &BackendConfig,
        number: usize,
        emergency: bool,
        balance: &Balance,
        seed: u64,
        now: Instant,
    ) -> Server {
        let probes = balance.health.check.probes();
        Server {
            config: config.clone(),
            number,
            emergency,
            leaving: None,
            link: Link::new(config, balance, now),
            health: probes.then(|| Health::new(balance.health.policy, seed, now)),
            duty: if config.maintenance { Duty::Maintenance } else { Duty::Active },
            joining: false,
            returned: None,
            round: Vec::new(),
            first_target: 0,
            next_target: 0,
            resumes: Duty::Active,
            serving: false,
            taking: None,
            seed,
        }
    }

    /// The same backend by a new configuration; what is known of it stays, as far as it still means something.
    pub(super) fn reconfigure(&mut self, config: &BackendConfig, old: &Balance, new: &Balance, now: Instant) {
        if (config.mac, config.address) != (self.config.mac, self.config.address) {
            self.link = Link::new(config, new, now);
        } else if let Link::Asked { neighbor, .. } = &mut self.link {
            neighbor.set_timing(new.neighbor);
        }
        if config.maintenance != self.config.maintenance {
            self.duty = if config.maintenance { Duty::Maintenance } else { Duty::Active };
        }
        self.config = config.clone();
        let (before, after) = (&old.health, &new.health);
        if !after.check.probes() {
            self.health = None;
            self.round.clear();
        } else if before.check != after.check || old.vips != new.vips {
            // What was found out answers another question; until the new one is answered, it is believed.
            self.round.clear();
            match &mut self.health {
                Some(health) => {
                    health.set_policy(after.policy, now);
                    health.abandon(now);
                }
                None => self.health = Some(Health::new(after.policy, self.seed, now)),
            }
        } else if let Some(health) = &mut self.health {
            health.set_policy(after.policy, now);
        }
    }

    /// Nothing is known of its MAC any more.
    pub(super) fn relink(&mut self, balance: &Balance, now: Instant) {
        self.link = Link::new(&self.config, balance, now);
    }

    /// Gives it another duty.
    pub(super) fn assign(&mut self, duty: Duty) {
        let (before, after) = (self.duty, duty);
        if matches!(after, Duty::Blacklisted(_)) && !matches!(before, Duty::Blacklisted(_)) {
            self.resumes = before;
        }
        self.duty = after;
    }

    /// Does it return from the blacklist now?
    pub(super) fn resumes(&mut self, now: Instant) -> bool {
        let over = matches!(self.duty, Duty::Blacklisted(until) if until <= now);
        if over {
            self.duty = if self.config.maintenance { Duty::Maintenance } else { self.resumes };
        }
        over
    }

    /// It is not in the configuration any more. Does it keep the flows that it has?
    pub(super) fn leave(&mut self, now: Instant) -> bool {
        let keeps = self.duty.keeps_flows() && !self.joining;
        self.leaving = keeps.then(|| self.leaving.unwrap_or(now));
        self.duty = Duty::Draining;
        keeps
    }

    /// It is in the configuration, again if it was leaving.
    pub(super) fn stay(&mut self) {
        if self.leaving.take().is_some() {
            self.duty = if self.config.maintenance { Duty::Maintenance } else { Duty::Active };
        }
    }

    /// Has it shown that it is there?
    fn has_joined(&self) -> bool {
        let well = self.health.as_ref().is_none_or(|health| health.state() == health::State::Up);
        self.link.mac().is_some() && well
    }

    /// It has joined, if it has.
    pub(super) fn join(&mut self) {
        if self.joining && self.has_joined() {
            self.joining = false;
        }
    }

    /// Is it well, as far as is known?
    pub(super) fn is_well(&self) -> bool {
        self.link.is_up() && !self.joining && self.health.as_ref().is_none_or(Health::is_usable)
    }

    /// Is it meant to take new flows?
    pub(super) fn is_wanted(&self) -> bool {
        self.duty == Duty::Active && self.config.weight > 0 && !self.emergency
    }

    /// Does it serve, as far as it depends on itself? One that takes new flows again begins with a small share, if it is to.
    pub(super) fn serves(&mut self, serves: bool, now: Instant, slow_start: Duration) {
        let takes = serves && self.is_wanted();
        if self.taking == Some(false) && takes && !slow_start.is_zero() {
            self.returned = Some(now);
        }
        if !takes {
            self.returned = None;
        }
        self.taking = Some(takes);
        self.serving = serves;
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving
    }

    /// How many percent of its slots it takes while it is in service.
    pub(super) fn share(&self, slow_start: Duration, now: Instant) -> u8 {
        let Some(returned) = self.returned else { return 100 };
        let elapsed = now.saturating_duration_since(returned);
        if elapsed >= slow_start {
            return 100;
        }
        1 + (99 * elapsed.as_millis() / slow_start.as_millis().max(1)) as u8
    }
}

/// Between two steps of a share that grows.
pub(super) fn step(slow_start: Duration) -> Duration {
    (slow_start / 20).clamp(Duration::from_millis(100), Duration::from_secs(2))
}

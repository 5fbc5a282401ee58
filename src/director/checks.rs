//! Backends are checked: rounds of probes, and what comes of them.

use std::net::IpAddr;
use std::time::Instant;

use super::{Director, Notice};
use crate::health::{Change, Reason, State};
use crate::probe::{self, Check, Probe, Target};
use crate::wire::ip::protocol;

/// VIPs that one round of probes asks a backend for, at most. Where there are more, rounds take turns.
const ROUND: usize = 16;
/// The local ports of probes: the dynamic ones (RFC 6335 section 6).
const FIRST_PORT: u16 = 49152;

impl Director {
    /// Starts the checks of a backend that are due, and goes on with those under way. Has something changed?
    pub(super) fn check(&mut self, index: usize, now: Instant) -> bool {
        let server = &mut self.servers[index];
        let Some(health) = &mut server.health else {
            return false;
        };
        if server.link.mac().is_none() {
            // There is nobody to send a probe to. The link has its own say.
            if !server.round.is_empty() {
                server.round.clear();
                health.abandon(now);
            }
            return false;
        }
        if health.poll(now) {
            self.start_round(index, now);
            if self.servers[index].round.is_empty() {
                // Nobody could be asked, which says nothing about the backend.
                let change = self.servers[index].health.as_mut().and_then(|health| health.outcome(Ok(()), now));
                return change.is_some();
            }
        }
        for probe in &mut self.servers[index].round {
            probe.poll(now);
        }
        self.go_on(index, now)
    }

    /// A packet that answers a probe. Has something changed?
    pub(super) fn handle_probed(&mut self, packet: &[u8], now: Instant) -> bool {
        let Some(key) = probe::key_of(packet) else {
            return false;
        };
        let of_key = |probe: &Probe| probe.key() == key;
        let Some(index) = self.servers.iter().position(|server| server.round.iter().any(of_key)) else {
            return false;
        };
        if let Some(probe) = self.servers[index].round.iter_mut().find(|probe| of_key(probe)) {
            probe.handle_packet(packet, now);
        }
        self.go_on(index, now)
    }

    /// The addresses that probes come from.
    pub(super) fn probe_sources(&self) -> Vec<IpAddr> {
        let mut sources = Vec::new();
        if self.balance.health.check.probes() {
            for source in self.vips.iter().filter_map(|&vip| self.source(vip)) {
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
        sources
    }

    /// Where a probe of `vip` comes from: as configured, else the interface's address. Who stands by asks from the latter,
    /// as the balancer that serves may have the same configuration.
    fn source(&self, vip: IpAddr) -> Option<IpAddr> {
        let ours = |source: &IpAddr| !self.is_silent() || self.segment.has(*source);
        match vip {
            IpAddr::V4(vip) => {
                let own = Some(self.segment.asking_v4(vip)).filter(|own| !own.is_unspecified()).map(IpAddr::V4);
                self.balance.health.source4.map(IpAddr::V4).filter(ours).or(own)
            }
            IpAddr::V6(_) => {
                let own = self.segment.ipv6.first().copied().or(self.segment.link_local).map(IpAddr::V6);
                self.balance.health.source6.map(IpAddr::V6).filter(ours).or(own)
            }
        }
    }

    /// What a backend is asked for: VIPs with their ports (0: none), each once.
    fn targets(&self) -> Vec<(IpAddr, u16)> {
        let (needs, given) = match &self.balance.health.check {
            Check::Link => return Vec::new(),
            Check::Icmp => (None, Some(0)),
            Check::Tcp { port } | Check::Http { port, .. } => (Some(protocol::TCP), *port),
            Check::Udp { port, .. } | Check::Dns { port, .. } => (Some(protocol::UDP), *port),
        };
        let mut targets = Vec::new();
        for vip in self.balance.vips.iter().filter(|vip| needs.is_none_or(|proto| vip.protocols.takes(proto))) {
            let target = (vip.address, given.unwrap_or(vip.port));
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }

    fn start_round(&mut self, index: usize, now: Instant) {
        let targets = self.targets();
        let first = self.servers[index].next_target % targets.len().max(1);
        let chosen: Vec<(IpAddr, u16)> =
            targets.iter().cycle().skip(first).take(targets.len().min(ROUND)).copied().collect();
        self.servers[index].first_target = first;
        let check = self.balance.health.check.clone();
        let mut round = Vec::new();
        for (vip, vip_port) in chosen {
            let Some(source) = self.source(vip) else {
                let notice = Notice::NoProbeSource { vip };
                if self.sourceless.insert(vip) {
                    self.notices.push_back(notice);
                }
                continue;
            };
            let target = Target { vip, vip_port, source, local_port: self.next_port() };
            let seed = self.seed.wrapping_add(u64::from(target.local_port) << 32).wrapping_add(index as u64);
            let timeout =
                self.servers[index].health.as_ref().map_or(self.balance.health.policy.timeout, |h| h.timeout());
            round.push(Probe::start(&check, target, timeout, seed, now));
        }
        self.servers[index].round = round;
    }

    /// Every probe under way has a port of its own.
    fn next_port(&mut self) -> u16 {
        let port = FIRST_PORT + self.next_port % (u16::MAX - FIRST_PORT);
        self.next_port = self.next_port.wrapping_add(1);
        port
    }

    /// Sends what a backend's probes have to send, and looks whether the round is over. Has something changed?
    fn go_on(&mut self, index: usize, now: Instant) -> bool {
        let server = &mut self.servers[index];
        if server.round.is_empty() {
            return false;
        }
        let outcomes: Vec<Option<Result<(), Reason>>> = server.round.iter_mut().map(|p| p.outcome(now)).collect();
        if let Some(mac) = server.link.mac() {
            for probe in &mut server.round {
                while let Some(packet) = probe.poll_transmit(now) {
                    self.outbox.push_back(self.segment.frame(mac, &packet));
                }
            }
        }
        let failed = |(at, outcome): (usize, &Option<Result<(), Reason>>)| Some((at, outcome.clone()?.err()?));
        let result = match outcomes.iter().enumerate().find_map(failed) {
            Some((at, reason)) => {
                // Where there are more VIPs than one round asks for, the next one begins with that which failed.
                server.first_target += at;
                Err(reason)
            }
            None if outcomes.iter().all(Option::is_some) => Ok(()),
            None => return false,
        };
        self.servers[index].round.clear();
        self.conclude(index, result, now)
    }

    fn conclude(&mut self, index: usize, result: Result<(), Reason>, now: Instant) -> bool {
        let server = &mut self.servers[index];
        let succeeded = result.is_ok();
        let change = server.health.as_mut().and_then(|health| health.outcome(result, now));
        // The others have their turn once these are beyond doubt.
        let clean = succeeded && server.health.as_ref().is_none_or(|health| health.state() == State::Up);
        server.next_target = if clean { server.first_target + ROUND } else { server.first_target };
        let name = server.config.name.clone();
        match change {
            Some(Change::Up) => self.notices.push_back(Notice::CheckPassed { name }),
            Some(Change::Down(reason)) => self.notices.push_back(Notice::CheckFailed { name, reason }),
            None => return false,
        }
        true
    }
}

//! The rules about single frames: where they may go, and when.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pen_dsr::config::BackendConfig;
use pen_dsr::probe::Check;
use pen_dsr::verdict::{DropReason, Verdict};
use pen_dsr::wire::ether::Mac;
use pen_dsr::wire::ip::protocol;

use super::balancer::{Balancer, Known};
use super::host::Service;
use super::network::{Part, SLOWEST, Sent};
use super::packet;
use super::plan::{VIP4, VIP6};
use super::traffic::NOBODY;
use super::world::{Outcome, World};

/// What clocks and the network may add to a bound.
const SLACK: Duration = Duration::from_millis(100);

impl World {
    fn running(&self, index: usize) -> &Balancer {
        self.balancers[index].as_ref().expect("a balancer that runs")
    }

    /// What backend `host` is for a balancer, by its configuration.
    fn listed(&self, index: usize, host: usize) -> Option<&BackendConfig> {
        let balance = self.running(index).director.balance();
        let everybody = balance.backends.iter().chain(&balance.emergency);
        everybody.into_iter().find(|backend| backend.name == self.hosts[host].name)
    }

    /// The same, or what it was when it was taken off the list, while it has flows.
    fn configured(&self, index: usize, host: usize) -> Option<&BackendConfig> {
        let leaving = self.running(index).leaving.get(&self.hosts[host].name).filter(|leaving| !leaving.gone);
        self.listed(index, host).or(leaving.map(|leaving| &leaving.config))
    }

    /// A balancer sends a client's frame to a backend.
    pub fn judge_forward(&mut self, index: usize, sent: Sent, frame: &[u8]) -> Outcome {
        let mac = packet::mac(frame);
        let host = match mac.0 {
            [2, 0, 0, card, 2, host]
                if usize::from(host) < self.hosts.len() && card <= self.hosts[usize::from(host)].mac.0[3] =>
            {
                usize::from(host)
            }
            _ => return self.violation('e', format!("a client's frame goes to {mac}, no backend's")),
        };
        if packet::mac(&frame[6..12]) != self.running(index).station().mac {
            return self.violation('e', "a frame is passed on with another source than ours");
        }
        let stamp = sent.stamp as usize;
        self.left.resize(self.left.len().max(stamp + 1), false);
        if std::mem::replace(&mut self.left[stamp], true) {
            return self.violation('e', "one frame of a client has left twice");
        }
        if self.configured(index, host).is_none() {
            return self.violation('e', format!("{} gets a frame and is not configured", self.hosts[host].name));
        }
        self.tally.forwarded += 1;
        self.judge_alive(index, host, mac)?;
        let later = sent.fragment.is_some_and(|(_, first)| !first);
        if !later && self.running(index).has_taken_out(&self.hosts[host].name) {
            return self.violation('g', format!("{} is in maintenance and gets {sent:?}", self.hosts[host].name));
        }
        self.say(|world| format!("balancer {index}: {sent:?} to {}", world.hosts[host].name));
        if sent.conversation == NOBODY {
            return Ok(());
        }
        match (sent.fragment, sent.part) {
            (Some((datagram, false)), _) => {
                let balancer = self.balancers[index].as_mut().expect("a balancer that runs");
                // Its first part may have found no room to wait for its backend.
                if balancer.kept_back.remove(&datagram) {
                    balancer.pinned.insert(datagram, host);
                }
                let pinned = balancer.pinned.get(&datagram);
                if pinned == Some(&host) {
                    return Ok(());
                }
                let what =
                    format!("a part of datagram {datagram} goes to backend {host}, the first went to {pinned:?}");
                return self.violation('f', what);
            }
            (_, Part::Open | Part::Datagram) => self.judge_opening(index, sent, host)?,
            (_, Part::Segment | Part::Finish | Part::Reset | Part::Complaint) => {
                self.judge_segment(index, sent, host)?
            }
        }
        if let (Some((datagram, true)), Some(balancer)) = (sent.fragment, self.balancers[index].as_mut()) {
            balancer.pinned.insert(datagram, host);
            balancer.kept_back.remove(&datagram);
        }
        Ok(())
    }

    /// Rule e for what a director says: to all, or to a backend.
    pub fn judge_own(&self, index: usize, frame: &[u8]) -> Outcome {
        let (to, from) = (packet::mac(frame), packet::mac(&frame[6..12]));
        let station = self.running(index).station();
        let is_host = matches!(to.0, [2, 0, 0, _, 2, host] if usize::from(host) < self.hosts.len());
        self.judge_silence(index, frame)?;
        match (to.is_group() || is_host) && (from == station.mac || from == station.vip_mac) {
            true => Ok(()),
            false => self.violation('e', format!("the director of balancer {index} says something to {to} as {from}")),
        }
    }

    /// Rule e for one that stands by: it says nothing about a VIP.
    pub fn judge_silence(&self, index: usize, frame: &[u8]) -> Outcome {
        let about = match packet::read(frame) {
            Some(packet::Heard::Arp(message)) => vec![IpAddr::V4(message.sender), IpAddr::V4(message.target)],
            Some(packet::Heard::Solicitation { target, .. } | packet::Heard::Advertisement { target, .. }) => {
                vec![IpAddr::V6(target)]
            }
            _ => Vec::new(),
        };
        let silent = self.running(index).director.is_silent();
        match silent && about.iter().any(|address| [VIP4, VIP6].contains(address)) {
            true => self.violation('e', format!("balancer {index} stands by, and talks of the VIP")),
            false => Ok(()),
        }
    }

    /// Rule b: is the backend alive, as far as can be known?
    fn judge_alive(&mut self, index: usize, host: usize, mac: Mac) -> Outcome {
        let Some(limit) = self.detected_by(index, host, mac) else {
            return Ok(());
        };
        if self.now <= limit {
            return Ok(());
        }
        let host = &self.hosts[host];
        let what = format!(
            "{} (link {}, service {:?}) gets a frame {:?} after the time at which its death is to be noticed",
            host.name,
            host.link,
            host.service,
            self.now - limit
        );
        self.violation('b', what)
    }

    /// By when a balancer has to know that a backend is dead, or not at this MAC any more; `None` if it lives, or if its
    /// death is nothing that could be noticed.
    fn detected_by(&self, index: usize, host: usize, mac: Mac) -> Option<Instant> {
        let (balancer, config) = (self.running(index), self.configured(index, host)?);
        let host = &self.hosts[host];
        let health = &balancer.director.balance().health;
        let by_check = |died: Instant| {
            let found = balancer.found.get(&host.name).copied().unwrap_or(balancer.started);
            let since = died.max(balancer.started).max(found).max(balancer.checks_since);
            since + health.policy.interval * health.policy.fall + Duration::from_secs(1)
        };
        let not_there = match () {
            () if !host.link => Some(host.link_since),
            () if mac != host.mac => Some(host.mac_since),
            () => None,
        };
        let mut limits = Vec::new();
        // In a panic checks do not count.
        let checks = health.check.probes() && !balancer.panicking;
        if let Some(died) = not_there {
            if config.mac.is_none() {
                let timing = balancer.slowest;
                limits.push(died.max(balancer.started) + timing.revalidate + timing.retry * timing.attempts);
            }
            if checks {
                limits.push(by_check(died));
            }
        } else if checks && notices(&health.check, host.service) {
            limits.push(by_check(host.service_since));
        }
        limits.into_iter().min().map(|limit| limit + SLOWEST + SLACK)
    }

    /// Rules a and g for what opens a flow.
    fn judge_opening(&mut self, index: usize, sent: Sent, host: usize) -> Outcome {
        let id = sent.conversation;
        let now = self.now;
        let balancer = self.running(index);
        let name = &self.hosts[host].name;
        let known = self.fresh(index, id);
        let opens = sent.part == Part::Open;
        let reopens = known.is_some_and(|known| opens && (known.finished || known.reset || known.adopted));
        if let Some(known) = known.filter(|_| !reopens) {
            if known.host != host {
                let before = &self.hosts[known.host].name;
                if balancer.keeps(before) {
                    return self.violation('a', format!("{sent:?} was at {before} and goes to {name}"));
                }
                self.judge_absence(index, known.host, Some(known))?;
                self.tally.orphaned += 1;
            } else {
                self.note(index, id, |known| (known.last, known.packets) = (now, known.packets + 1));
                return Ok(());
            }
        }
        if known.is_none() && self.remembered(index, id) == Some(host) {
            self.note(index, id, |known| (known.last, known.packets) = (now, known.packets + 1));
            return Ok(());
        }
        if reopens && known.is_some_and(|known| known.host != host) {
            self.facts[id].late = true;
            self.tally.late_opens += 1;
        }
        let conversation = &self.conversations[id];
        let balancer = self.running(index);
        let choice = balancer.generation().choose(conversation.client.ip(), conversation.client.port()).backend;
        let chosen = choice.is_some() && choice == balancer.number(name);
        // What was held had been chosen for before.
        if !chosen && !balancer.held.contains(&id) {
            return self.violation('g', format!("{sent:?} opens a flow at {name}, the table says number {choice:?}"));
        }
        if chosen && !self.is_wanted(index, host) {
            return self.violation('g', format!("{sent:?} opens a flow at {name}, which is to have no new ones"));
        }
        let facts = &mut self.facts[id];
        if opens && !self.conversations[id].is_established() {
            facts.split |= facts.opened_at.is_some_and(|before| before != host);
            facts.opened_at = Some(host);
        }
        let known = Known { host, last: now, packets: 1, adopted: false, finished: false, reset: false };
        if let Some(balancer) = self.balancers[index].as_mut() {
            balancer.known.insert(id, known);
        }
        Ok(())
    }

    /// Rule a for everything else of TCP.
    fn judge_segment(&mut self, index: usize, sent: Sent, host: usize) -> Outcome {
        let (id, now) = (sent.conversation, self.now);
        let Some(owner) = self.conversations[id].owner else {
            return self.violation('a', "a segment of a flow that has not begun");
        };
        let known = self.fresh(index, id);
        if host == owner {
            self.recognize(index, id, owner, known);
        } else {
            self.judge_move(index, sent, host, owner, known)?;
        }
        if sent.part == Part::Complaint {
            return Ok(());
        }
        let stays = known.is_some_and(|known| known.host == host);
        // It was seen once, where it cannot be.
        let guessed = known.is_some_and(|known| known.packets == 1 && known.host != host);
        let closes = matches!(sent.part, Part::Finish | Part::Reset);
        if stays {
            self.note(index, id, |known| {
                (known.last, known.packets) = (now, known.packets + 1);
                known.finished |= sent.part == Part::Finish;
                known.reset = sent.part == Part::Reset;
            });
        } else if known.is_none() || guessed {
            let known = Known { host, last: now, packets: 1, adopted: true, finished: false, reset: false };
            match self.balancers[index].as_mut() {
                Some(balancer) if !closes => _ = balancer.known.insert(id, known),
                Some(balancer) if guessed => _ = balancer.known.remove(&id),
                _ => {}
            }
        }
        Ok(())
    }

    /// A flow that a balancer does not know stays where it is, although tables disagree: who knew?
    fn recognize(&mut self, index: usize, id: usize, owner: usize, known: Option<Known>) {
        let balancer = self.running(index);
        let opened = self.conversations[id].opened;
        if known.is_some() || balancer.started <= opened && !balancer.director.is_silent() {
            return;
        }
        self.tally.recognized += 1;
        let number = self.running(index).number(&self.hosts[owner].name);
        let client = self.conversations[id].client;
        let current = self.running(index).generation().choose(client.ip(), client.port()).backend;
        self.tally.by_predecessor += u64::from(current != number);
    }

    /// A packet of an established flow goes to another backend than the flow's: is that one of the exceptions?
    fn judge_move(&mut self, index: usize, sent: Sent, host: usize, owner: usize, known: Option<Known>) -> Outcome {
        let id = sent.conversation;
        let balancer = self.running(index);
        let name = self.hosts[owner].name.clone();
        let what = |why: &str| {
            format!("{sent:?} of {} at {name} goes to {}: {why}", self.conversations[id].client, self.hosts[host].name)
        };
        if !balancer.keeps(&name) {
            self.judge_absence(index, owner, known)?;
            self.facts[id].excused = true;
            self.tally.orphaned += 1;
            return Ok(());
        }
        let facts = self.facts[id];
        if facts.split || facts.late {
            return Ok(());
        }
        match known {
            Some(known) if known.host == owner => return self.violation('a', what("the balancer knew better")),
            // Moved before, and remembered where it went.
            Some(_) if facts.excused => return Ok(()),
            Some(known) => {
                let wrong = format!("it was last seen at backend {}", known.host);
                return self.violation('a', what(&wrong));
            }
            None => {}
        }
        let client = self.conversations[id].client;
        let choice = |balancer: &Balancer, generation: &pen_dsr::lb::Generation| {
            generation.choose(client.ip(), client.port()).backend == balancer.number(&name)
        };
        let opened = self.conversations[id].opened;
        // The tables of all balancers since the flow was opened, that which was in force then included.
        let agree = self.balancers.iter().flatten().all(|balancer| {
            let last = balancer.history.iter().rposition(|(since, _)| *since <= opened).unwrap_or(0);
            balancer.history[last..].iter().all(|(_, generation)| choice(balancer, generation))
        });
        let elder = balancer.elder(self.now).map(|elder| choice(balancer, elder));
        let current = choice(balancer, balancer.generation());
        match elder {
            Some(true) => return self.violation('a', what("the predecessor says where it is")),
            None if current => return self.violation('a', what("the table says where it is")),
            None if agree => return self.violation('a', what("all tables have always said where it is")),
            _ => {}
        }
        self.facts[id].excused = true;
        if sent.part != Part::Complaint {
            self.tally.strayed += 1;
        }
        Ok(())
    }

    /// Rules a and g: is there a reason that backend `host` does not keep its flows, of which one is `known`?
    pub fn judge_absence(&self, index: usize, host: usize, known: Option<Known>) -> Outcome {
        let balancer = self.running(index);
        let leaving = balancer.leaving.get(&self.hosts[host].name).filter(|leaving| leaving.keeps);
        let leaving = leaving.map(|leaving| &leaving.config);
        // One that was taken off the list need not be kept by who has started since, or does not know the flow.
        let leaving = leaving.filter(|_| known.is_some_and(|known| known.host == host && !known.reset));
        let Some(config) = self.listed(index, host).or(leaving) else {
            return Ok(());
        };
        let host = &self.hosts[host];
        let told = config.maintenance || balancer.has_taken_out(&host.name);
        let back = host.last_trouble() + self.return_bound();
        let pardoned = balancer.pardoned.get(&host.name).is_some_and(|until| self.now <= *until);
        if told || pardoned || !host.is_well() || self.now <= back {
            return Ok(());
        }
        self.violation('g', format!("{} lives and is out of service at balancer {index}", host.name))
    }

    /// Is backend `host` to have new flows, by what a balancer was told?
    fn is_wanted(&self, index: usize, host: usize) -> bool {
        let Some(config) = self.listed(index, host) else {
            return false;
        };
        let balancer = self.running(index);
        let emergency = balancer.director.balance().emergency.as_ref().is_some_and(|e| e.name == config.name);
        (config.weight > 0 || emergency) && !config.maintenance && !balancer.wishes.contains_key(&config.name)
    }

    /// How long a backend that is well again may be out of service: the longest pause between two questions, twice, as
    /// one may be lost; and with checks, a steady pause and `rise` successes, likewise.
    pub fn return_bound(&self) -> Duration {
        let health = &self.balance.health;
        let link = self.balance.neighbor.backoff * 2 + Duration::from_secs(1);
        if !health.check.probes() {
            return link;
        }
        let policy = health.policy;
        link + policy.interval * 3 + policy.doubt.max(policy.timeout) * (policy.rise + 1) * 2
    }

    /// What a balancer was shown of a conversation, if it has to remember it.
    pub fn fresh(&self, index: usize, id: usize) -> Option<Known> {
        let known = *self.running(index).known.get(&id)?;
        let timeouts = &self.plan.balance.timeouts;
        let limit = match () {
            () if self.conversations[id].protocol == protocol::UDP => timeouts.udp,
            () if known.finished || known.reset => timeouts.closing,
            () if known.packets > 1 => timeouts.established,
            () => timeouts.opening,
        };
        (self.now < known.last + limit - Duration::from_secs(2)).then_some(known)
    }

    /// Where a conversation went when a balancer was shown a packet of it last, however long ago.
    fn remembered(&self, index: usize, id: usize) -> Option<usize> {
        self.running(index).known.get(&id).map(|known| known.host)
    }

    fn note(&mut self, index: usize, id: usize, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.balancers[index].as_mut().and_then(|balancer| balancer.known.get_mut(&id)) {
            change(known);
        }
    }

    /// A client's frame does not leave at once.
    pub fn judge_refusal(&mut self, index: usize, sent: Sent, verdict: Verdict) -> Outcome {
        self.say(|_| format!("balancer {index}: {sent:?} {verdict:?}"));
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        let silent = balancer.director.is_silent() && self.plan.vip_mac;
        let waits = matches!(verdict, Verdict::Drop(DropReason::Held | DropReason::Unresolved));
        match sent.fragment {
            Some((datagram, true)) if waits => _ = balancer.kept_back.insert(datagram),
            Some((datagram, false)) if waits => {
                let first = balancer.pinned.get(&datagram).map(|&host| &self.hosts[host].name);
                let backend = first.and_then(|name| balancer.director.tables().backend(balancer.number(name)?));
                if backend.is_some_and(|backend| backend.mac.is_some()) {
                    return self.violation('f', format!("{sent:?} waits, although the first part has left"));
                }
            }
            _ => {}
        }
        if waits && matches!(sent.part, Part::Open | Part::Datagram) {
            // Where its backend keeps no flows, another has been chosen, and is waited for.
            let known = balancer.known.get(&sent.conversation).map(|known| known.host);
            if known.is_some_and(|host| !balancer.keeps(&self.hosts[host].name)) {
                balancer.known.remove(&sent.conversation);
            }
        }
        match verdict {
            Verdict::Drop(DropReason::Held) => {
                balancer.held.insert(sent.conversation);
                balancer.held_frames.insert(sent.stamp, sent);
                Ok(())
            }
            Verdict::Drop(DropReason::Unresolved) => {
                balancer.held.insert(sent.conversation);
                Ok(())
            }
            // A later part shares the fate of the first, whatever has happened since.
            Verdict::Drop(DropReason::NoBackend | DropReason::Refused)
                if sent.fragment.is_some_and(|(_, first)| !first) =>
            {
                Ok(())
            }
            Verdict::Drop(DropReason::NoBackend | DropReason::Refused) => {
                if balancer.director.tables().backends().iter().any(|backend| backend.in_service) {
                    return self.violation('g', format!("{sent:?} was turned away, but there are backends"));
                }
                self.trouble = self.now;
                self.judge_lost(index, sent)
            }
            // The MAC is the other one's at this time.
            Verdict::Host if silent => Ok(()),
            verdict => self.violation('e', format!("{sent:?} for a VIP: {verdict:?}")),
        }
    }
}

impl World {
    /// There is nobody to serve a packet: was there a backend that has its flow?
    fn judge_lost(&mut self, index: usize, sent: Sent) -> Outcome {
        let Some(facts) = self.facts.get_mut(sent.conversation) else {
            return Ok(());
        };
        facts.excused = true;
        let Some(owner) = self.conversations[sent.conversation].owner else {
            return Ok(());
        };
        let known = self.fresh(index, sent.conversation).filter(|known| known.host == owner);
        match self.running(index).keeps(&self.hosts[owner].name) {
            true if known.is_some() => {
                self.violation('a', format!("{sent:?} is turned away, but its backend is known and serves"))
            }
            true => Ok(()),
            false => self.judge_absence(index, owner, known),
        }
    }
}

/// Does `check` notice what is wrong with `service`?
fn notices(check: &Check, service: Service) -> bool {
    match service {
        Service::Well => false,
        Service::Absent => check.probes(),
        Service::Refuses => matches!(check, Check::Tcp { .. } | Check::Http { .. }),
        Service::Stuck => matches!(check, Check::Http { .. }),
    }
}

//! The director: decides which backends serve, from what neighbours and probes say and what the operator wants, and
//! publishes the tables for the workers.
//!
//! Pure as the engine is: events and the time come in; tables, frames to send and notices for the log come out. There is
//! one director however many workers there are.

mod checks;
mod enlist;
mod generations;
mod notice;
mod publish;
mod seats;
mod segment;
mod server;
mod standing;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use notice::Notice;
pub use seats::{Seat, Seats};
pub use segment::Segment;
pub use server::Duty;
pub use standing::{Condition, Standing};

use generations::Generations;
use server::{Link, Server};

use crate::config::Balance;
use crate::counters::{FlowCounters, MOST_BACKENDS, MOST_VIPS};
use crate::engine::Event;
use crate::lb::maglev::Member;
use crate::lb::{Settings, Tables};
use crate::neighbor::Change;
use crate::wire::ether::Mac;

/// Another host that claims a VIP is reported, and answered with an announcement, at most this often (RFC 5227
/// section 2.4: DEFEND_INTERVAL).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How long a probe for a VIP may be answered before it is announced.
const PROBE_WAIT: Duration = Duration::from_millis(200);
/// Announcements of a VIP, and the time between them (RFC 5227 section 2.3).
const ANNOUNCEMENTS: u32 = 3;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// A MAC that only announcements come from is announced again this often: switches forget a station that is silent for
/// 300 s (IEEE 802.1Q, table 8-6), and would send its frames to everybody.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);
/// The director.
pub struct Director {
    balance: Arc<Balance>,
    segment: Segment,
    silent: bool,
    /// Since when we have had the VIPs without a break; `None` while another balancer has them.
    active_since: Option<Instant>,
    /// The interface has no link: what is not answered says nothing about backends.
    deaf: bool,
    vips: Vec<IpAddr>,
    servers: Vec<Server>,
    backend_seats: Seats<String>,
    vip_seats: Seats<IpAddr>,
    members: Vec<Member>,
    generations: Generations,
    tables: Arc<Tables>,
    unpublished: bool,
    panicking: bool,
    anybody: Option<bool>,
    announcements_left: u32,
    next_announcement: Instant,
    /// When the addresses that probes come from are announced next.
    next_source_announcement: Instant,
    last_defence: HashMap<IpAddr, Instant>,
    next_port: u16,
    /// VIPs that cannot be probed, and that this has been said of.
    sourceless: HashSet<IpAddr>,
    seed: u64,
    has_peer: bool,
    /// When the shares of backends that have returned grow next.
    next_growth: Option<Instant>,
    /// When something was last told or asked.
    now: Instant,
    outbox: VecDeque<Vec<u8>>,
    notices: VecDeque<Notice>,
}

/// How a director starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Another balancer has the VIPs: nothing is said until [`Director::take_over`].
    pub silent: bool,
    /// Numbers and names of backends from before, with their epochs.
    pub seats: Vec<(String, u8)>,
    /// What makes this balancer's probes another one's.
    pub seed: u64,
    /// Is another balancer to be told of flows, while we have the VIPs?
    pub has_peer: bool,
}

impl Director {
    /// A director for `balance` on `segment`. It has tables at once; frames to send and a deadline from the first
    /// [`Director::advance`] on.
    pub fn new(balance: Arc<Balance>, segment: Segment, start: Start, now: Instant) -> Director {
        let vips = balance.vip_addresses();
        let mut director = Director {
            generations: Generations::new(balance.generation(&[])),
            tables: Arc::new(Tables::new(Vec::new(), Vec::new(), Settings::default())),
            outbox: if start.silent { VecDeque::new() } else { vips.iter().map(|&vip| segment.probe(vip)).collect() },
            announcements_left: if start.silent { 0 } else { ANNOUNCEMENTS },
            silent: start.silent,
            active_since: (!start.silent).then_some(now),
            deaf: false,
            backend_seats: Seats::restored(MOST_BACKENDS, start.seats),
            vip_seats: Seats::new(MOST_VIPS),
            servers: Vec::new(),
            members: Vec::new(),
            unpublished: true,
            panicking: false,
            anybody: None,
            next_announcement: now + PROBE_WAIT,
            next_source_announcement: now,
            last_defence: HashMap::new(),
            next_port: 0,
            sourceless: HashSet::new(),
            seed: start.seed,
            has_peer: start.has_peer,
            next_growth: None,
            now,
            notices: VecDeque::new(),
            balance,
            segment,
            vips,
        };
        director.seat_vips();
        director.enlist(Vec::new(), now);
        // What was there before the first tables was no generation.
        director.rebuild(now);
        director.generations.forget();
        director.rebuild(now);
        director
    }

    /// The configuration as it stands.
    pub fn balance(&self) -> &Arc<Balance> {
        &self.balance
    }

    /// The tables as they stand.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The tables, if they have changed since the last call.
    pub fn poll_tables(&mut self) -> Option<Arc<Tables>> {
        std::mem::take(&mut self.unpublished).then(|| Arc::clone(&self.tables))
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// The next thing to tell the operator.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// The backends' numbers, taken or vacant.
    pub fn seats(&self) -> &[Seat<String>] {
        self.backend_seats.all()
    }

    /// The number that counters know VIP `address` by.
    pub fn vip_number(&self, address: IpAddr) -> Option<usize> {
        self.vip_seats.number(&address)
    }

    /// When [`Director::advance`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_server = |server: &Server| {
            if self.deaf {
                return None;
            }
            let asked = match &server.link {
                Link::Asked { neighbor, .. } => Some(neighbor.deadline()),
                Link::Fixed(_) | Link::Nowhere => None,
            };
            let health = server.health.as_ref().filter(|_| server.link.mac().is_some());
            let health = health.and_then(|health| health.deadline());
            let blacklisted = match server.duty {
                Duty::Blacklisted(until) => Some(until),
                _ => None,
            };
            // Those that are over wait for the others of their round.
            let running = server.round.iter().filter(|probe| !probe.is_over());
            let probes = running.map(|probe| probe.deadline(self.now)).min();
            [asked, health, blacklisted, probes].into_iter().flatten().min()
        };
        let servers = self.servers.iter().filter_map(of_server);
        let announcement = (self.announcements_left > 0).then_some(self.next_announcement);
        let has_sources = !self.deaf && !self.tables.settings().probe_sources.is_empty();
        let sources = has_sources.then_some(self.next_source_announcement);
        let generation = self.generations.deadline(self.balance.predecessor);
        servers.chain(announcement).chain(sources).chain(generation).chain(self.next_growth).min()
    }

    /// Does what is due at `now`.
    pub fn advance(&mut self, now: Instant) {
        self.now = now;
        self.announce(now);
        self.announce_sources(now);
        let mut changed = false;
        for index in 0..self.servers.len() {
            if !self.deaf {
                changed |= self.ask_neighbor(index, now);
                changed |= self.check(index, now);
            }
            if self.servers[index].resumes(now) {
                let Server { config, duty, .. } = &self.servers[index];
                self.notices.push_back(Notice::Duty { name: config.name.clone(), duty: *duty, left: 0 });
                changed = true;
            }
        }
        changed |= self.generations.expire(self.balance.predecessor, now);
        changed |= self.next_growth.is_some_and(|next| next <= now);
        if changed {
            self.rebuild(now);
        }
    }

    /// Takes in what a worker has learnt.
    pub fn handle_event(&mut self, event: Event, now: Instant) {
        self.now = now;
        let (address, mac, answer) = match event {
            Event::Answer { address, mac } => (address, mac, true),
            Event::Claim { address, mac } => (address, mac, false),
            Event::Probed(packet) => {
                if self.handle_probed(&packet, now) {
                    self.rebuild(now);
                }
                return;
            }
        };
        if self.vips.contains(&address) {
            self.defend(address, mac, now);
            return;
        }
        if self.tables.settings().answered.contains(&address) {
            self.complain_about_source(address, mac, now);
            return;
        }
        let mut changed = false;
        for index in 0..self.servers.len() {
            let Link::Asked { address: asked, neighbor } = &mut self.servers[index].link else {
                continue;
            };
            if *asked != address {
                continue;
            }
            let change = if answer {
                neighbor.answer(mac, now)
            } else {
                neighbor.overhear(mac, now);
                None
            };
            if let Some(change) = change {
                changed |= !matches!(change, Change::Ambiguous { .. });
                self.note(index, change);
            }
        }
        if changed {
            self.rebuild(now);
        }
    }

    /// The link is away. Until it is back nobody is asked, and everybody counts as what he was.
    pub fn link_down(&mut self) {
        self.deaf = true;
    }

    /// The link was away and is back: announces the VIPs again and asks for all backends.
    pub fn link_up(&mut self, now: Instant) {
        self.deaf = false;
        self.next_source_announcement = now;
        if !self.silent {
            self.announcements_left = ANNOUNCEMENTS;
            self.next_announcement = now;
        }
        for server in &mut self.servers {
            if let Link::Asked { neighbor, .. } = &mut server.link {
                neighbor.recheck(now);
            }
            if let Some(health) = &mut server.health {
                server.round.clear();
                health.abandon(now);
            }
        }
    }

    /// The interface has other addresses than before, or other gateways are there.
    pub fn readdress(&mut self, segment: Segment, now: Instant) {
        self.segment = segment;
        self.rebuild(now);
    }

    /// The interface has been opened anew, perhaps as another station: backends are asked for as at the start.
    pub fn reopen(&mut self, segment: Segment, now: Instant) {
        self.segment = segment;
        for server in &mut self.servers {
            server.relink(&self.balance, now);
        }
        self.link_up(now);
        self.rebuild(now);
    }

    /// Who we are on the segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Does another balancer have the VIPs?
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Has the VIPs from now on, and tells the segment so.
    pub fn take_over(&mut self, now: Instant) {
        if std::mem::take(&mut self.silent) {
            self.active_since = Some(now);
            self.notices.push_back(Notice::TakenOver);
        }
        self.last_defence.clear();
        self.announcements_left = ANNOUNCEMENTS;
        self.next_announcement = now;
        self.rebuild(now);
        self.announce(now);
    }

    /// Says nothing more for the VIPs: another balancer has them. What still comes is passed on.
    pub fn go_silent(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.silent, true) {
            self.active_since = None;
            self.notices.push_back(Notice::Silent);
        }
        self.announcements_left = 0;
        self.rebuild(now);
    }

    /// Gives backend `name` another duty; `left` is how many flows it has. `false`: there is no such backend.
    pub fn set_duty(&mut self, name: &str, duty: Duty, left: u64, now: Instant) -> bool {
        let Some(server) =
            self.servers.iter_mut().find(|server| server.config.name == name && server.leaving.is_none())
        else {
            return false;
        };
        let duty = if duty == Duty::Draining && left == 0 { Duty::Drained } else { duty };
        if server.duty != duty {
            server.assign(duty);
            self.notices.push_back(Notice::Duty { name: name.to_owned(), duty, left });
            self.rebuild(now);
        }
        true
    }

    /// Takes in how many flows there are: a backend that is drained, or not in the configuration any more, and has none
    /// left is done.
    pub fn observe(&mut self, flows: &FlowCounters) {
        if self.dismiss(flows) {
            self.rebuild(self.now);
        }
        for server in self.servers.iter_mut().filter(|server| server.leaving.is_none()) {
            let left = flows.live(server.number);
            // Flows from before a restart show themselves one by one.
            if server.duty == Duty::Drained && left > 0 {
                server.duty = Duty::Draining;
            }
            if server.duty == Duty::Draining && left == 0 {
                server.duty = Duty::Drained;
                self.notices.push_back(Notice::Duty { name: server.config.name.clone(), duty: Duty::Drained, left: 0 });
            }
        }
    }

    /// How the backends stand.
    pub fn standings(&self) -> Vec<Standing> {
        let shares = self.generations.current().slots.shares(self.backend_seats.all().len());
        self.servers.iter().map(|server| self.standing(server, &shares)).collect()
    }

    fn announce(&mut self, now: Instant) {
        if self.announcements_left == 0 || now < self.next_announcement {
            return;
        }
        self.announcements_left -= 1;
        self.next_announcement = now + ANNOUNCE_INTERVAL;
        if self.announcements_left == 0 && self.segment.station.has_vip_mac() {
            self.announcements_left = 1;
            self.next_announcement = now + REMIND_INTERVAL;
        }
        self.outbox.extend(self.vips.iter().map(|&vip| self.segment.announcement(vip)));
    }

    /// Tells where the addresses are that probes come from: backends may know another MAC for them, and another balancer
    /// with the same address notices it.
    fn announce_sources(&mut self, now: Instant) {
        let sources = &self.tables.settings().probe_sources;
        if !self.deaf && now >= self.next_source_announcement && !sources.is_empty() {
            self.next_source_announcement = now + REMIND_INTERVAL;
            self.outbox.extend(sources.iter().map(|&source| self.segment.source_announcement(source)));
        }
    }

    /// Asks for a backend's MAC, if that is due. Has something changed?
    fn ask_neighbor(&mut self, index: usize, now: Instant) -> bool {
        let server = &mut self.servers[index];
        let Link::Asked { address, neighbor } = &mut server.link else {
            return false;
        };
        let (question, change) = neighbor.poll(now);
        if let Some(question) = question {
            self.outbox.push_back(self.segment.question(*address, question));
        }
        if neighbor.is_in_doubt()
            && question.is_some()
            && let Some(health) = &mut server.health
        {
            health.hurry(now);
        }
        if let Some(change) = change {
            self.note(index, change);
        }
        change.is_some()
    }

    /// Somebody else says that it has the VIP `address`.
    fn defend(&mut self, address: IpAddr, mac: Mac, now: Instant) {
        let recent = self.last_defence.get(&address).is_some_and(|last| now < *last + DEFEND_INTERVAL);
        if self.silent || recent {
            return;
        }
        self.last_defence.insert(address, now);
        let backend = self.servers.iter().find(|server| server.link.mac() == Some(mac));
        let backend = backend.map(|server| server.config.name.clone());
        self.notices.push_back(Notice::VipClaimed { address, mac, backend });
        self.outbox.push_back(self.segment.announcement(address));
    }

    /// Somebody else says that it has the address that probes come from.
    fn complain_about_source(&mut self, address: IpAddr, mac: Mac, now: Instant) {
        if self.last_defence.get(&address).is_none_or(|last| now >= *last + DEFEND_INTERVAL) {
            self.last_defence.insert(address, now);
            self.notices.push_back(Notice::SourceClaimed { address, mac });
        }
    }

    fn note(&mut self, index: usize, change: Change) {
        let backend = &self.servers[index].config;
        let (name, address) = (backend.name.clone(), backend.address);
        self.notices.push_back(match change {
            Change::Found(mac) => Notice::BackendUp { name, mac },
            Change::Lost => Notice::BackendDown { name, address },
            Change::Moved { from, to } => Notice::BackendMoved { name, from, to },
            Change::Ambiguous { first, other } => Notice::BackendAmbiguous { name, first, other },
        });
    }
}

#[cfg(test)]
mod tests;

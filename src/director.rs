//! The director: decides which backends serve, from what neighbours and probes say and what the operator wants, and
//! publishes the tables for the workers.
//!
//! Pure as the engine is: events and the time come in; tables, frames to send and notices for the log come out. There is
//! one director however many workers there are.

mod checks;
mod generations;
mod notice;
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

use crate::config::{BackendConfig, Balance};
use crate::counters::{FlowCounters, MOST_BACKENDS, MOST_VIPS};
use crate::engine::Event;
use crate::lb::maglev::Member;
use crate::lb::{Backend, Settings, Tables, TarpitList};
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
/// The weight in a table that holds the emergency backend alone.
const ALONE: u32 = 1;

/// The director.
pub struct Director {
    balance: Arc<Balance>,
    segment: Segment,
    silent: bool,
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
            deaf: false,
            backend_seats: Seats::restored(MOST_BACKENDS, start.seats),
            vip_seats: Seats::new(MOST_VIPS),
            servers: Vec::new(),
            members: Vec::new(),
            unpublished: true,
            panicking: false,
            anybody: None,
            next_announcement: now + PROBE_WAIT,
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

    /// Everything by a new configuration, at once: backends that stay keep what is known of them, those that go lose
    /// their flows, those that come serve from their first sign of life on.
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
            let probes = server.round.iter().map(|probe| probe.deadline(self.now)).min();
            [asked, health, blacklisted, probes].into_iter().flatten().min()
        };
        let servers = self.servers.iter().filter_map(of_server);
        let announcement = (self.announcements_left > 0).then_some(self.next_announcement);
        let generation = self.generations.deadline(self.balance.predecessor);
        servers.chain(announcement).chain(generation).chain(self.next_growth).min()
    }

    /// Does what is due at `now`.
    pub fn advance(&mut self, now: Instant) {
        self.now = now;
        self.announce(now);
        let mut changed = false;
        for index in 0..self.servers.len() {
            if !self.deaf {
                changed |= self.ask_neighbor(index, now);
                changed |= self.check(index, now);
            }
            if let Duty::Blacklisted(until) = self.servers[index].duty
                && until <= now
            {
                self.servers[index].duty = Duty::Active;
                let name = self.servers[index].config.name.clone();
                self.notices.push_back(Notice::Duty { name, duty: Duty::Active, left: 0 });
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
            self.notices.push_back(Notice::Silent);
        }
        self.announcements_left = 0;
        self.rebuild(now);
    }

    /// Gives backend `name` another duty; `left` is how many flows it has. `false`: there is no such backend.
    pub fn set_duty(&mut self, name: &str, duty: Duty, left: u64, now: Instant) -> bool {
        let Some(server) = self.servers.iter_mut().find(|server| server.config.name == name) else {
            return false;
        };
        let duty = if duty == Duty::Draining && left == 0 { Duty::Drained } else { duty };
        if server.duty != duty {
            server.duty = duty;
            self.notices.push_back(Notice::Duty { name: name.to_owned(), duty, left });
            self.rebuild(now);
        }
        true
    }

    /// Takes in how many flows there are: a backend that is drained and has none left is done.
    pub fn observe(&mut self, flows: &FlowCounters) {
        for server in self.servers.iter_mut().filter(|server| server.duty == Duty::Draining) {
            if flows.live(server.number) == 0 {
                server.duty = Duty::Drained;
                self.notices.push_back(Notice::Duty { name: server.config.name.clone(), duty: Duty::Drained, left: 0 });
            }
        }
    }

    /// How the backends stand.
    pub fn standings(&self) -> Vec<Standing> {
        self.servers.iter().map(|server| self.standing(server)).collect()
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

    fn seat_vips(&mut self) {
        for vip in &self.vips {
            self.vip_seats.take(vip);
        }
    }

    /// Makes the servers of the configuration, at the start.
    fn enlist(&mut self, before: Vec<Server>, now: Instant) {
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
        let stays = |server: &Server| wanted.iter().any(|(config, _)| config.name == server.config.name);
        // Numbers are given back first, so that they can be had by those that come.
        for gone in before.iter().filter(|server| !stays(server)) {
            self.backend_seats.leave(&gone.config.name);
        }
        for (config, emergency) in wanted {
            if let Some(at) = before.iter().position(|server| server.config.name == config.name) {
                let mut server = before.swap_remove(at);
                server.reconfigure(config, old, &balance, now);
                server.emergency = emergency;
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
    }

    /// Works out who serves, and publishes it.
    fn rebuild(&mut self, now: Instant) {
        let balance = Arc::clone(&self.balance);
        self.servers.iter_mut().for_each(Server::join);
        let wanted = self.servers.iter().filter(|server| server.is_wanted());
        let (all, well) = wanted.fold((0, 0), |(all, well), s| (all + 1, well + usize::from(s.is_well())));
        let panicking = all > 0 && well < all && well * 100 < all * usize::from(balance.panic_threshold);
        if panicking != self.panicking {
            self.panicking = panicking;
            self.notices.push_back(if panicking {
                Notice::Panic { well, all, threshold: balance.panic_threshold }
            } else {
                Notice::PanicOver { well, all }
            });
        }
        for server in &mut self.servers {
            // In a panic checks do not count; but where there is no link, there is nobody to send anything to.
            let serves = if panicking { server.link.is_up() } else { server.is_well() };
            server.serves(serves, !balance.slow_start.is_zero(), now);
        }
        let in_service = |server: &Server| server.is_wanted() && server.is_serving();
        let regular = self.servers.iter().any(in_service);
        let substitute = self.servers.iter().find(|s| s.emergency && s.is_serving() && s.duty == Duty::Active);
        let substitute = substitute.map(|server| (server.number, server.config.name.clone()));
        self.tell_of_service(regular, substitute.as_ref().map(|(_, name)| name.clone()));
        let substitute = substitute.map(|(number, _)| number).filter(|_| !regular);

        let mut members = vec![Member::down("", 0); self.backend_seats.all().len()];
        let mut backends = vec![Backend::nobody(); members.len()];
        for (seat, backend) in self.backend_seats.all().iter().zip(&mut backends) {
            backend.epoch = seat.epoch;
        }
        self.next_growth = None;
        for server in &mut self.servers {
            let share = server.share(balance.slow_start, now);
            if share == 100 {
                server.returned = None;
            } else {
                self.next_growth = Some(now + server::step(balance.slow_start));
            }
            let takes = in_service(server) || substitute == Some(server.number);
            let weight = match server.emergency {
                true if substitute == Some(server.number) => ALONE,
                true => 0,
                false => server.config.weight,
            };
            members[server.number] =
                Member { share: if takes { share } else { 0 }, ..Member::up(&server.config.name, weight) };
            backends[server.number] = Backend {
                mac: server.link.mac(),
                in_service: takes,
                keeps_flows: server.duty.keeps_flows() && server.is_serving(),
                epoch: backends[server.number].epoch,
            };
        }
        let hash = crate::lb::ClientHash::new(balance.seed, balance.hash_port);
        let current = self.generations.current();
        let same_way = (current.hash, current.slots.size() as u32) == (hash, balance.slots_wanted());
        if members != self.members || !same_way {
            self.generations.replace(balance.generation(&members), now);
            self.members = members;
        }
        self.generations.expire(balance.predecessor, now);
        let number = |vip| self.vip_seats.number(&vip).unwrap_or_default();
        let settings = self.settings();
        let (current, previous) = (self.generations.current(), self.generations.previous());
        self.tables = Arc::new(balance.tables(backends, current, previous, number, settings));
        self.unpublished = true;
    }

    /// Tells the operator when the last regular backend goes, and when the first returns.
    fn tell_of_service(&mut self, regular: bool, substitute: Option<String>) {
        if self.anybody == Some(regular) || (regular && self.anybody.is_none()) {
            self.anybody = Some(regular);
            return;
        }
        self.anybody = Some(regular);
        self.notices.push_back(match substitute {
            _ if regular => Notice::SomeBackend,
            Some(name) => Notice::Emergency { name },
            None => Notice::NoBackend,
        });
    }

    fn settings(&self) -> Settings {
        let sources = self.probe_sources();
        let answered = sources.iter().filter(|source| !self.segment.has(**source)).copied().collect();
        Settings {
            tarpit: self.tarpit_list(&sources),
            probe_sources: sources,
            answered,
            silent: self.silent,
            shares: self.has_peer && !self.silent,
            ..Settings::default()
        }
    }

    fn tarpit_list(&self, sources: &[IpAddr]) -> Option<Arc<TarpitList>> {
        let config = self.balance.tarpit?;
        let acl = Arc::new(self.balance.acls.get(&config.acl)?.clone());
        let own = self.segment.addresses().chain(self.segment.broadcasts());
        let backends = self.servers.iter().filter_map(|server| server.config.address);
        let gateways = self.segment.gateways.iter().copied();
        let excluded =
            own.chain(backends).chain(gateways).chain(self.vips.iter().copied()).chain(sources.iter().copied());
        Some(Arc::new(TarpitList { acl, excluded: excluded.collect(), rate: config.rate }))
    }
}

#[cfg(test)]
mod tests;

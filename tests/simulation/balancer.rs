//! A balancer: the real engine and the real director, joined as a worker and the main thread join them, and what is
//! noted of them to judge them by.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_dsr::config::{BackendConfig, Balance};
use pen_dsr::counters::Counters;
use pen_dsr::director::{Director, Notice, Seat, Segment, Start};
use pen_dsr::engine::{Engine, Station};
use pen_dsr::lb::flow::{Memory, Owner, Record, Shape};
use pen_dsr::lb::{Generation, Seed, Tables, Vip};
use pen_dsr::neighbor::Timing;
use pen_dsr::sync::{self, Shared};

use super::Fault;
use super::network::Sent;

/// Counters that there are for backends and for VIPs.
pub const NUMBERS: usize = 64;

/// What a balancer has been shown of a conversation since its memory began.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Where it went.
    pub host: usize,
    pub last: Instant,
    pub packets: u32,
    /// It began with a segment in the middle.
    pub adopted: bool,
    /// The client has sent a FIN.
    pub finished: bool,
    /// The last packet was a RST.
    pub reset: bool,
}

/// What survives a restart with a flow file.
pub struct Kept {
    pub memory: Memory,
    pub seats: Vec<(String, u8)>,
    pub known: HashMap<usize, Known>,
    pub held: HashSet<usize>,
}

impl Kept {
    pub fn nothing(entries: usize, key: (u64, u64)) -> Kept {
        let memory = Memory::fresh(Shape::of(entries), key).expect("a few pages of memory");
        Kept { memory, seats: Vec::new(), known: HashMap::new(), held: HashSet::new() }
    }
}

/// What the operator has told a balancer about a backend since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Drain,
    Maintenance,
    Blacklist(Instant),
}

/// A backend that was taken off the list.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// What it was.
    pub config: BackendConfig,
    /// It has to keep the flows that it had. Otherwise it may not have been in service.
    pub keeps: bool,
    /// Since when it is not on the list.
    pub since: Instant,
    /// The director says that it has no flow left.
    pub gone: bool,
}

/// A balancer.
pub struct Balancer {
    pub index: usize,
    pub segment: Segment,
    pub engine: Engine,
    pub director: Director,
    pub counters: Arc<Counters>,
    pub started: Instant,
    pub wishes: HashMap<String, Wish>,
    /// Backends that were taken off the list while they had flows, perhaps.
    pub leaving: HashMap<String, Leaving>,
    /// Backends that are out of service for a good reason until then: told so, or just taken in.
    pub pardoned: HashMap<String, Instant>,
    /// Since when it has had the VIPs.
    pub active_since: Option<Instant>,
    /// Backends that serve while they are being asked for, until then.
    pub relinked: HashMap<String, Instant>,
    /// All backends are used, whatever their checks say.
    pub panicking: bool,
    /// When each backend's MAC was found last.
    pub found: HashMap<String, Instant>,
    /// Since when checks are what they are.
    pub checks_since: Instant,
    /// The slowest questions that it has been configured with.
    pub slowest: Timing,
    /// How clients chose, from when on.
    pub history: Vec<(Instant, Generation)>,
    pub known: HashMap<usize, Known>,
    /// Conversations of which a packet was held, or lost for want of a MAC.
    pub held: HashSet<usize>,
    /// The frames that it holds, or has held, by their stamps.
    pub held_frames: HashMap<u64, Sent>,
    /// Datagrams whose first part went to a backend.
    pub pinned: HashMap<u32, usize>,
    /// Datagrams whose first part did not leave at once.
    pub kept_back: HashSet<u32>,
    /// Frames and bytes that were seen to leave, by the backend's number,
    pub to_backends: Vec<(u64, u64)>,
    /// and by the VIP's.
    pub to_vips: Vec<(u64, u64)>,
    /// When one of the two has something to do.
    pub deadline: Option<Instant>,
    /// Times in a row that it had something to do at once.
    pub stalls: u32,
}

impl Balancer {
    /// Starts one that is silent or not, and tells another of its flows or does not.
    pub fn start(
        index: usize,
        segment: Segment,
        balance: &Arc<Balance>,
        (silent, has_peer): (bool, bool),
        kept: Kept,
        now: Instant,
    ) -> Balancer {
        let start = Start { silent, seats: kept.seats, seed: index as u64 + 7, has_peer };
        let director = Director::new(Arc::clone(balance), segment.clone(), start, now);
        let counters = Arc::new(Counters::new(NUMBERS, NUMBERS));
        let tables = Arc::clone(director.tables());
        let engine = Engine::new(segment.station, tables, balance.seed, kept.memory, Arc::clone(&counters), now);
        let generation = director.tables().vips()[0].services[0].current.clone();
        Balancer {
            index,
            segment,
            engine,
            director,
            counters,
            started: now,
            wishes: HashMap::new(),
            leaving: HashMap::new(),
            pardoned: HashMap::new(),
            active_since: (!silent).then_some(now),
            relinked: HashMap::new(),
            panicking: false,
            found: HashMap::new(),
            checks_since: now,
            slowest: balance.neighbor,
            history: vec![(now, generation)],
            known: kept.known,
            held: kept.held,
            held_frames: HashMap::new(),
            pinned: HashMap::new(),
            kept_back: HashSet::new(),
            to_backends: vec![(0, 0); NUMBERS],
            to_vips: vec![(0, 0); NUMBERS],
            deadline: Some(now),
            stalls: 0,
        }
    }

    /// Ends; what a flow file would keep.
    pub fn end(self) -> Kept {
        let seats = self.director.seats().iter().map(|seat| (seat.key.clone(), seat.epoch)).collect();
        Kept { memory: self.engine.into_memory(), seats, known: self.known, held: self.held }
    }

    pub fn station(&self) -> Station {
        self.segment.station
    }

    /// The number of backend `name`, if it has or had one.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.director.seats().iter().position(|seat| seat.key == name)
    }

    /// Do flows of backend `name` stay with it, by the tables?
    pub fn keeps(&self, name: &str) -> bool {
        let backend = self.number(name).and_then(|number| self.director.tables().backend(number));
        backend.is_some_and(|backend| backend.keeps_flows)
    }

    pub fn generation(&self) -> &Generation {
        &self.director.tables().vips()[0].services[0].current
    }

    /// How clients chose who opened flows before this balancer began to remember: by the oldest of the generations that
    /// were replaced lately. Where there have been more of these than are remembered, the tables say it.
    pub fn elder(&self, now: Instant) -> Option<&Generation> {
        if self.history.len() > 8 {
            return self.director.tables().vips()[0].services[0].previous.as_ref();
        }
        let lifetime = self.director.balance().predecessor;
        self.history.windows(2).find(|pair| pair[1].0 + lifetime > now).map(|pair| &pair[0].1)
    }

    /// A backend that is chosen although nobody knows where it is, beyond the time that a start takes.
    pub fn chooses_unseen(&self, now: Instant) -> Option<String> {
        let starts = now < self.started + self.slowest.retry * (self.slowest.attempts + 1);
        let backends = self.director.tables().backends().iter().zip(self.director.seats());
        let mut unseen = backends.filter(|(backend, _)| backend.in_service && backend.mac.is_none());
        let found = unseen.find(|(_, seat)| self.relinked.get(&seat.key).is_none_or(|until| *until < now));
        found.filter(|_| !starts).map(|(_, seat)| seat.key.clone())
    }

    /// Has the operator taken backend `name` out of service?
    pub fn has_taken_out(&self, name: &str) -> bool {
        let told = matches!(self.wishes.get(name), Some(Wish::Maintenance | Wish::Blacklist(_)));
        told || self.director.balance().backends.iter().any(|backend| backend.name == name && backend.maintenance)
    }

    /// Passes on what the director has decided, and notes it; `false` if there was nothing.
    pub fn install(&mut self, fault: Fault, now: Instant) -> bool {
        let Some(tables) = self.director.poll_tables() else {
            return false;
        };
        let generation = &tables.vips()[0].services[0].current;
        if self
            .history
            .last()
            .is_none_or(|(_, last)| !Arc::ptr_eq(&last.slots, &generation.slots) || last.hash != generation.hash)
        {
            self.history.push((now, generation.clone()));
        }
        let tables = if fault == Fault::NoPredecessor { without_predecessor(&tables) } else { tables };
        self.engine.install(tables);
        true
    }

    /// Takes in what the director tells the operator.
    pub fn note(&mut self, notice: &Notice, now: Instant) {
        match notice {
            Notice::BackendUp { name, .. } | Notice::BackendMoved { name, .. } => {
                self.found.insert(name.clone(), now);
            }
            Notice::Gone { name } => {
                let patience = self.director.balance().predecessor;
                if let Some(leaving) = self.leaving.get_mut(name) {
                    // Who has not had the VIPs all the time need not wait longer than that for flows to show themselves.
                    let knew_all = self.active_since.is_some_and(|since| since <= leaving.since);
                    leaving.keeps &= knew_all || now < leaving.since + patience;
                    leaving.gone = true;
                }
            }
            Notice::TakenOver => self.active_since = Some(now),
            Notice::Silent => self.active_since = None,
            Notice::Panic { .. } => self.panicking = true,
            Notice::PanicOver { .. } => self.panicking = false,
            _ => {}
        }
    }

    /// Everything by a new configuration.
    pub fn reconfigure(&mut self, balance: &Arc<Balance>, return_bound: Duration, now: Instant) {
        let old = Arc::clone(self.director.balance());
        for backend in &balance.backends {
            let before = old.backends.iter().find(|known| known.name == backend.name);
            let was = before.or(self.leaving.get(&backend.name).map(|leaving| &leaving.config));
            if was.is_some_and(|was| (was.mac, was.address) != (backend.mac, backend.address)) {
                // One that is known, but not where it is now.
                self.relinked.insert(backend.name.clone(), now + return_bound);
            }
            if before.is_none_or(|before| {
                before.maintenance || before.address != backend.address || before.mac != backend.mac
            }) {
                self.pardoned.insert(backend.name.clone(), now + return_bound);
            }
            if before.is_some_and(|before| before.maintenance != backend.maintenance) {
                self.wishes.remove(&backend.name);
            }
        }
        for gone in old.backends.iter().filter(|old| !balance.backends.iter().any(|b| b.name == old.name)) {
            let out = matches!(self.wishes.remove(&gone.name), Some(Wish::Maintenance | Wish::Blacklist(_)));
            let joining = self.pardoned.get(&gone.name).is_some_and(|until| now <= *until);
            let keeps = !out && !joining && !gone.maintenance;
            self.leaving.insert(gone.name.clone(), Leaving { config: gone.clone(), keeps, since: now, gone: false });
        }
        self.leaving.retain(|name, _| !balance.backends.iter().any(|backend| backend.name == *name));
        if (&old.health, &old.vips) != (&balance.health, &balance.vips) {
            self.checks_since = now;
        }
        self.slowest.revalidate = self.slowest.revalidate.max(balance.neighbor.revalidate);
        self.director.reconfigure(Arc::clone(balance), now);
    }

    /// The datagrams that tell another balancer of flows.
    pub fn tell(&mut self, seed: Seed) -> Vec<Vec<u8>> {
        let records = self.engine.flows().take_records();
        let seats = self.director.seats();
        let shared = |record: &Record| {
            let seat = seats.get(usize::from(record.owner.backend)).filter(|seat| seat.epoch == record.owner.epoch)?;
            let Record { tag, stage, idle, .. } = *record;
            Some(Shared { tag, backend: sync::backend_code(seed, &seat.key), stage, idle })
        };
        let shared: Vec<Shared> = records.iter().filter_map(shared).collect();
        shared.chunks(sync::MOST_RECORDS).map(|part| sync::encode(seed, part)).collect()
    }

    /// Takes in what another balancer tells; the records, with the backends' names.
    pub fn hear_of(&mut self, seed: Seed, datagram: &[u8]) -> Vec<(Record, String)> {
        let told = sync::decode(seed, datagram).expect("what was told is understood");
        let seats = self.director.seats();
        let record = |flow: &Shared| {
            let coded = |seat: &Seat<String>| sync::backend_code(seed, &seat.key) == flow.backend;
            let number = seats.iter().position(coded)?;
            let owner = Owner { backend: number as u16, epoch: seats[number].epoch };
            let record = Record { tag: flow.tag, owner, stage: flow.stage, idle: flow.idle };
            Some((record, seats[number].key.clone()))
        };
        let named: Vec<(Record, String)> = told.iter().filter_map(record).collect();
        let records: Vec<Record> = named.iter().map(|(record, _)| *record).collect();
        self.engine.learn(&records);
        named
    }

    /// Looks when something is to be done next.
    pub fn schedule(&mut self) {
        self.deadline = self.engine.poll_timeout().into_iter().chain(self.director.poll_timeout()).min();
    }
}

/// The same tables, but nobody knows how older flows chose.
fn without_predecessor(tables: &Tables) -> Arc<Tables> {
    let mut vips: Vec<Vip> = tables.vips().to_vec();
    vips.iter_mut().flat_map(|vip| &mut vip.services).for_each(|service| service.previous = None);
    Arc::new(Tables::new(vips, tables.backends().to_vec(), tables.settings().clone()))
}

//! The flow table: which backend has which flow.
//!
//! Two set-associative tables of fixed size, no allocation after the start. A flow is first kept in the *nursery*, where
//! the newest push out the oldest; with its second packet it moves to the *main* table, where a flow that has lasted is
//! never pushed out by another. So a flood of first packets fills the nursery and no more. Where there is no room, the
//! flow is not remembered, and the hash goes on deciding.
//!
//! A flow is known by the 64 bits of a keyed hash of its addresses, ports and protocol alone, 16 bytes in all. The key
//! is secret, so that nobody can look for two flows with the same hash.

mod elsewhere;
mod key;
mod memory;
mod shortcut;
mod stage;
mod timeouts;

use std::time::{Duration, Instant};

pub use elsewhere::Elsewhere;
pub use key::{Flow, Tag};
pub use memory::{Memory, Shape};
pub use shortcut::{Route, Settled, Taken};
pub use stage::{Signal, Stage};
pub use timeouts::Timeouts;

use memory::{Entry, Set, WAYS};
use shortcut::Shortcuts;
use timeouts::{Limits, ticks_of, time_of};

use crate::counters::FlowCounters;
use std::sync::Arc;

/// Entries of the main table unless something else is asked for.
pub const DEFAULT_ENTRIES: usize = 1 << 20;
/// How long a flow has to last in the main table until no other may push it out.
pub(crate) const PROOF: Duration = Duration::from_secs(2);
/// The table's clock: 64 ms a tick, 8 years until it wraps.
const TICK_MS: u64 = 64;
/// The whole table is looked through for what has expired once in so long.
const ROUND: Duration = Duration::from_secs(16);
/// Sets looked through at a time, at most.
const SWEEP_AT_ONCE: u64 = 1024;

/// Who has a flow: a backend's number, and which of those that had the number one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Index into the tables' backends.
    pub backend: u16,
    /// Counted up whenever the number is given to another backend.
    pub epoch: u8,
}

/// A flow that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who has it.
    pub owner: Owner,
    /// How far it has come.
    pub stage: Stage,
    place: Place,
}

/// A flow as one balancer tells another of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name, by a key that both have.
    pub tag: Tag,
    /// Who has it.
    pub owner: Owner,
    /// How far it has come.
    pub stage: Stage,
    /// Since its last packet.
    pub idle: Duration,
}

/// Records that may wait to be fetched; what comes beyond is told in the next round.
const RECORDS: usize = 8192;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    set: usize,
    way: usize,
}

/// The flow table of one worker.
pub struct FlowTable {
    memory: Memory,
    shape: Shape,
    limits: Limits,
    counters: Arc<FlowCounters>,
    start: Instant,
    /// Ticks at `start`.
    base: u64,
    tick: u32,
    cursor: usize,
    swept: Instant,
    shortcuts: Shortcuts,
    /// What another balancer is to be told, if one is.
    records: Option<Vec<Record>>,
    /// Where flows are kept, too.
    elsewhere: Option<Box<dyn Elsewhere>>,
}

impl FlowTable {
    /// A table in `memory`, which may hold flows from before: those are counted in `counters`, if `is_known` knows their
    /// backend, and forgotten otherwise.
    pub fn new(
        memory: Memory,
        timeouts: &Timeouts,
        counters: Arc<FlowCounters>,
        now: Instant,
        is_known: impl Fn(Owner) -> bool,
    ) -> FlowTable {
        let shape = memory.shape();
        let base = memory.age().as_millis() as u64 / TICK_MS;
        let shortcuts = Shortcuts::new(shape.main_entries(), memory.key());
        let mut table = FlowTable {
            memory,
            shape,
            limits: Limits::new(timeouts),
            counters,
            start: now,
            base,
            tick: base as u32,
            cursor: 0,
            swept: now,
            shortcuts,
            records: None,
            elsewhere: None,
        };
        if table.memory.is_inherited() {
            table.take_stock(is_known);
        }
        table
    }

    /// Counts what the memory holds.
    fn take_stock(&mut self, is_known: impl Fn(Owner) -> bool) {
        for index in 0..self.shape.sets() {
            for way in 0..WAYS {
                let set = &mut self.memory.sets()[index];
                if set.tags[way] == 0 {
                    continue;
                }
                let entry = set.entries[way];
                let in_place = Stage::from_byte(entry.stage).filter(|s| s.is_main() == (index < self.shape.main));
                match in_place.filter(|_| is_known(owner(&entry))) {
                    Some(stage) => self.counters.added(owner(&entry).backend, stage.is_live()),
                    None => set.tags[way] = 0,
                }
            }
        }
    }

    /// The memory, with all flows in it, for the table that comes after this one.
    pub fn into_memory(mut self) -> Memory {
        for index in 0..self.shape.sets() {
            let set = &mut self.memory.sets()[index];
            for way in (0..WAYS).filter(|&way| set.tags[way] != 0).collect::<Vec<_>>() {
                self.counters.removed(set.entries[way].backend, is_live(&set.entries[way]));
            }
        }
        let age = Duration::from_millis(self.base * TICK_MS) + self.swept.max(self.start).duration_since(self.start);
        self.memory.pass_on(age)
    }

    /// What this table counts in.
    pub fn counters(&self) -> &Arc<FlowCounters> {
        &self.counters
    }

    /// From now on another balancer is told of flows, or is not.
    pub fn share(&mut self, shared: bool) {
        if shared != self.records.is_some() {
            self.records = shared.then(|| Vec::with_capacity(RECORDS));
        }
    }

    /// What another balancer is to be told: flows that have moved to the main table, and those that have ended; and in
    /// each round through the table, all that it holds. Empty, without an allocation, if there is nothing.
    pub fn take_records(&mut self) -> Vec<Record> {
        match &mut self.records {
            // As long as it is, and no longer: its buffer of the most that there may be stays here.
            Some(records) => {
                let batch = records.clone();
                records.clear();
                batch
            }
            None => Vec::new(),
        }
    }

    /// Another balancer tells of a flow. What is known here already, and is not `trusted` less than that, stays.
    pub fn learn(&mut self, record: &Record, trusted: bool) {
        let Record { tag, owner, stage, idle } = *record;
        let ticks = ticks_of(idle);
        if !stage.is_main() || ticks >= self.limits.of(stage) {
            return;
        }
        if let Some(found) = self.find(tag) {
            if !trusted {
                return;
            }
            self.remove(found);
        }
        match self.settle(tag, owner, stage, self.tick.wrapping_sub(ticks)) {
            true => self.counters.learnt.add(1),
            false => self.counters.full.add(1),
        }
        self.tell_elsewhere(tag);
    }

    /// Puts a flow that was last seen at the tick `seen` into the main table, and says whether there was room.
    fn settle(&mut self, tag: Tag, owner: Owner, stage: Stage, seen: u32) -> bool {
        let (main, _) = self.shape.places(tag);
        let (limits, tick) = (&self.limits, self.tick);
        let set = &mut self.memory.sets()[main];
        let Some(way) = room(set, limits, tick) else {
            return false;
        };
        // One that has expired is not pushed out by anybody.
        let evicts = set.tags[way] != 0 && !is_expired(limits, tick, &set.entries[way]);
        self.counters.evicted.add(u64::from(evicts));
        put(&self.counters, set, way, tag, entry(owner, stage, seen));
        true
    }

    /// Changes the timeouts; also those of the flows that are known.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) {
        self.limits = Limits::new(timeouts);
    }

    /// Sets the time, and gives up some of what has expired.
    pub fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.start).as_millis() as u64;
        self.tick = (self.base + elapsed / TICK_MS) as u32;
        if self.counters.total() == 0 {
            self.swept = now;
            return;
        }
        let sets = self.shape.sets() as u64;
        let elapsed = now.saturating_duration_since(self.swept).as_nanos() as u64;
        let due = (u128::from(elapsed) * u128::from(sets) / ROUND.as_nanos()) as u64;
        if due > 0 {
            self.swept = now;
            for _ in 0..due.min(SWEEP_AT_ONCE.max(sets / 250)).min(sets) {
                self.sweep_one();
            }
        }
    }

    /// When [`FlowTable::advance`] has something to do without a frame.
    pub fn deadline(&self) -> Option<Instant> {
        let one_set = ROUND / self.shape.sets() as u32 + Duration::from_nanos(1);
        (self.counters.total() > 0).then(|| self.swept + one_set.max(Duration::from_millis(TICK_MS)))
    }

    fn sweep_one(&mut self) {
        let index = self.cursor;
        self.cursor = if index + 1 >= self.shape.sets() { 0 } else { index + 1 };
        let set = &mut self.memory.sets()[index];
        for way in 0..WAYS {
            if set.tags[way] == 0 {
                continue;
            }
            if is_expired(&self.limits, self.tick, &set.entries[way]) {
                forget(&self.counters, set, way);
            } else if index < self.shape.main {
                note(&mut self.records, self.tick, Tag(set.tags[way]), &set.entries[way]);
            }
        }
    }

    /// The name of `flow` in this table.
    #[inline(always)]
    pub fn tag(&self, flow: &Flow) -> Tag {
        flow.tag(self.memory.key())
    }

    /// Looks `tag` up.
    #[inline(always)]
    pub fn find(&mut self, tag: Tag) -> Option<Found> {
        if self.elsewhere.is_some() {
            self.consult(tag);
        }
        let (main, nursery) = self.shape.places(tag);
        let sets = self.memory.sets();
        for index in [main, nursery] {
            let set = &mut sets[index];
            if let Some(way) = way_of(set, tag) {
                let entry = &set.entries[way];
                if is_expired(&self.limits, self.tick, entry) {
                    forget(&self.counters, set, way);
                    continue;
                }
                let stage = Stage::from_byte(entry.stage)?;
                return Some(Found { owner: owner(entry), stage, place: Place { set: index, way } });
            }
        }
        None
    }

    /// A packet that says `signal` belongs to the flow `tag`, which was `found`. If more of the like would change nothing
    /// but the time, and it is time for [`FlowTable::keep_shortcut`], says what that needs.
    #[inline]
    pub fn refresh(&mut self, tag: Tag, found: Found, signal: Signal) -> Option<Settled> {
        let Found { owner, stage, place } = found;
        let is_settled = matches!((stage, signal), (Stage::Established, Signal::Segment) | (Stage::Udp, _));
        if self.elsewhere.is_some() {
            self.progress(tag, found, signal);
            self.tell_elsewhere(tag);
            return None;
        }
        if is_settled && place.set < self.shape.main {
            self.memory.sets()[place.set].entries[place.way].seen = self.tick;
            return self.shortcuts.is_due().then_some(Settled { tag, owner, stage, place });
        }
        self.progress(tag, found, signal);
        None
    }

    /// As [`FlowTable::refresh`], for a flow that may come to another stage.
    fn progress(&mut self, tag: Tag, found: Found, signal: Signal) {
        let Place { set: index, way } = found.place;
        let tick = self.tick;
        let proof = (PROOF.as_millis() as u64 / TICK_MS) as u32;
        let entry = &mut self.memory.sets()[index].entries[way];
        let proven = !found.stage.is_young() || tick.wrapping_sub(entry.seen) >= proof;
        let stage = found.stage.after(signal, proven && index < self.shape.main);
        if index >= self.shape.main && stage.is_main() {
            return self.promote(tag, found, stage);
        }
        // Until it is proven, the time that counts is that of its arrival.
        if !(found.stage.is_young() && stage.is_young()) {
            entry.seen = tick;
        }
        if stage != found.stage {
            entry.stage = stage as u8;
            self.counters.moved(found.owner.backend, found.stage.is_live(), stage.is_live());
            if index < self.shape.main {
                note(&mut self.records, tick, tag, entry);
            }
        }
    }

    /// The flow moves from the nursery to the main table; it stays where it is if there is no room.
    fn promote(&mut self, tag: Tag, found: Found, stage: Stage) {
        let tick = self.tick;
        let Place { set, way } = found.place;
        if !self.settle(tag, found.owner, stage, tick) {
            self.counters.full.add(1);
            self.memory.sets()[set].entries[way].seen = tick;
            return;
        }
        note(&mut self.records, tick, tag, &entry(found.owner, stage, tick));
        self.remove(found);
    }

    /// Remembers a flow whose first packet says `signal`, with `owner`. It must not be known.
    #[inline]
    pub fn insert(&mut self, tag: Tag, owner: Owner, signal: Signal) {
        let stage = match signal {
            Signal::Open => Stage::Opening,
            Signal::Datagram => Stage::Single,
            Signal::Segment => Stage::Adopted,
            // A flow that ends is not worth a place.
            Signal::Finish | Signal::Reset => return,
        };
        let (_, nursery) = self.shape.places(tag);
        let (limits, tick) = (&self.limits, self.tick);
        let set = &mut self.memory.sets()[nursery];
        let (way, displaces) = nursery_way(set, limits, tick);
        self.counters.displaced.add(u64::from(displaces));
        put(&self.counters, set, way, tag, entry(owner, stage, tick));
        self.counters.opened.add(1);
        self.tell_elsewhere(tag);
    }

    /// Gives the flow that was `found` to `owner`, as it opens anew.
    pub fn replace(&mut self, tag: Tag, found: Found, owner: Owner, signal: Signal) {
        self.remove(found);
        self.insert(tag, owner, signal);
    }

    /// Forgets the flow that was `found`.
    pub fn remove(&mut self, found: Found) {
        let Place { set, way } = found.place;
        let tag = Tag(self.memory.sets()[set].tags[way]);
        forget(&self.counters, &mut self.memory.sets()[set], way);
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.forget(tag);
        }
    }

    /// Every flow that is remembered, expired or not: name, owner, stage.
    pub fn flows(&mut self) -> impl Iterator<Item = (Tag, Owner, Stage)> {
        self.memory.sets().iter().flat_map(|set| {
            set.tags
                .iter()
                .zip(&set.entries)
                .filter(|(tag, _)| **tag != 0)
                .filter_map(|(tag, entry)| Stage::from_byte(entry.stage).map(|stage| (Tag(*tag), owner(entry), stage)))
        })
    }
}

/// Another balancer is to be told of this flow, if one is.
#[inline]
fn note(records: &mut Option<Vec<Record>>, tick: u32, tag: Tag, entry: &Entry) {
    let Some(records) = records.as_mut().filter(|records| records.len() < RECORDS) else {
        return;
    };
    if let Some(stage) = Stage::from_byte(entry.stage) {
        let idle = time_of(tick.wrapping_sub(entry.seen));
        records.push(Record { tag, owner: owner(entry), stage, idle });
    }
}

fn owner(entry: &Entry) -> Owner {
    Owner { backend: entry.backend, epoch: entry.epoch }
}

fn entry(owner: Owner, stage: Stage, tick: u32) -> Entry {
    Entry { seen: tick, backend: owner.backend, epoch: owner.epoch, stage: stage as u8 }
}

#[inline]
fn way_of(set: &Set, tag: Tag) -> Option<usize> {
    // Sets are filled from the front.
    if set.tags[0] == tag.0 {
        return Some(0);
    }
    // Without a way out in the middle: where a flow is cannot be foretold.
    let mut hits = 0u32;
    for (way, candidate) in set.tags.iter().enumerate() {
        hits |= u32::from(*candidate == tag.0) << way;
    }
    (hits != 0).then(|| hits.trailing_zeros() as usize)
}

#[inline]
fn is_expired(limits: &Limits, tick: u32, entry: &Entry) -> bool {
    Stage::from_byte(entry.stage).is_none_or(|stage| tick.wrapping_sub(entry.seen) as i32 >= limits.of(stage) as i32)
}

/// Puts a flow into a way, in the place of the one that it holds, if it holds one.
fn put(counters: &FlowCounters, set: &mut Set, way: usize, tag: Tag, entry: Entry) {
    if set.tags[way] != 0 {
        forget(counters, set, way);
    }
    set.tags[way] = tag.0;
    set.entries[way] = entry;
    counters.added(entry.backend, is_live(&entry));
}

fn forget(counters: &FlowCounters, set: &mut Set, way: usize) {
    counters.removed(set.entries[way].backend, is_live(&set.entries[way]));
    set.tags[way] = 0;
}

fn is_live(entry: &Entry) -> bool {
    Stage::from_byte(entry.stage).is_some_and(Stage::is_live)
}

/// The way of a set of the nursery that makes room: a free one, an expired one, or else that of the oldest flow, which is
/// pushed out.
fn nursery_way(set: &Set, limits: &Limits, tick: u32) -> (usize, bool) {
    match (0..WAYS).find(|&way| set.tags[way] == 0 || is_expired(limits, tick, &set.entries[way])) {
        Some(way) => (way, false),
        None => ((0..WAYS).max_by_key(|&way| tick.wrapping_sub(set.entries[way].seen)).unwrap_or(0), true),
    }
}

/// A way of a main set that may be taken: free, expired, ended, or else the youngest that has not proven itself. None if
/// all hold flows that have lasted.
fn room(set: &Set, limits: &Limits, tick: u32) -> Option<usize> {
    let rank = |way: usize| {
        let entry = &set.entries[way];
        let stage = Stage::from_byte(entry.stage);
        match stage {
            _ if set.tags[way] == 0 || is_expired(limits, tick, entry) => 0,
            None => 0,
            Some(stage) if stage.is_over() => 1,
            Some(stage) if stage.is_young() => 2,
            Some(_) => 3,
        }
    };
    let way = (0..WAYS).min_by_key(|&way| rank(way))?;
    (rank(way) < 3).then_some(way)
}

#[cfg(test)]
mod tests;

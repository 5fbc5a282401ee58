//! Flows that are kept elsewhere, too: by the kernel's program, which sees most packets.
//!
//! It is the one that knows. What is looked up here is first asked for there, and what changes here is told there; for
//! frames that come here at all are few. What it alone has seen comes in from time to time ([`FlowTable::reflect`]), so
//! that this table, which counts, tells other balancers and outlives the process, is never far behind.

use super::memory::WAYS;
use super::{
    FlowTable, Place, Record, Stage, Tag, entry, forget, is_expired, note, nursery_way, owner, put, ticks_of, time_of,
    way_of,
};

/// Another place where flows are kept.
pub trait Elsewhere: Send {
    /// What is known there of `tag`.
    fn find(&mut self, tag: Tag) -> Option<Record>;

    /// This is how it is from now on.
    fn put(&mut self, record: &Record);

    /// The same, if nothing is known of it yet.
    fn offer(&mut self, record: &Record);

    /// It is forgotten.
    fn forget(&mut self, tag: Tag);
}

impl FlowTable {
    /// From now on flows are also kept `elsewhere`, where those that are known here are told of, too.
    pub fn keep_elsewhere(&mut self, mut elsewhere: Box<dyn Elsewhere>) {
        for index in 0..self.shape.sets() {
            // Most are empty, and this is before the first frame is read.
            if self.memory.sets()[index].tags == [0; WAYS] {
                continue;
            }
            for way in 0..WAYS {
                if let Some(record) = self.record_at(Place { set: index, way }) {
                    elsewhere.offer(&record);
                }
            }
        }
        self.elsewhere = Some(elsewhere);
    }

    /// The flow in `place`, unless that is empty or it has expired.
    fn record_at(&mut self, place: Place) -> Option<Record> {
        let (limits, tick) = (&self.limits, self.tick);
        let set = self.memory.sets().get(place.set)?;
        let (tag, entry) = (set.tags[place.way], &set.entries[place.way]);
        if tag == 0 || is_expired(limits, tick, entry) {
            return None;
        }
        let (stage, idle) = (Stage::from_byte(entry.stage)?, time_of(tick.wrapping_sub(entry.seen)));
        Some(Record { tag: Tag(tag), owner: owner(entry), stage, idle })
    }

    /// Takes in what is known elsewhere of `tag`, before it is looked up here; what is not known there is forgotten.
    pub(super) fn consult(&mut self, tag: Tag) {
        let Some(elsewhere) = &mut self.elsewhere else { return };
        match elsewhere.find(tag) {
            Some(record) => self.reflect(&record),
            None => {
                if let Some(Place { set, way }) = self.look(tag) {
                    forget(&self.counters, &mut self.memory.sets()[set], way);
                }
            }
        }
    }

    /// Tells of the flow `tag`, as it stands here now.
    pub(super) fn tell_elsewhere(&mut self, tag: Tag) {
        if self.elsewhere.is_none() {
            return;
        }
        let record = self.look(tag).and_then(|place| self.record_at(place));
        if let (Some(elsewhere), Some(record)) = (&mut self.elsewhere, record) {
            elsewhere.put(&record);
        }
    }

    /// Takes in what is known elsewhere of a flow. Nothing is told back.
    pub fn reflect(&mut self, record: &Record) {
        let Record { tag, owner: whose, stage, idle } = *record;
        let seen = self.tick.wrapping_sub(ticks_of(idle));
        if self.tick.wrapping_sub(seen) as i32 >= self.limits.of(stage) as i32 {
            return;
        }
        let is_main = stage.is_main();
        if let Some(place) = self.look(tag) {
            let set = &mut self.memory.sets()[place.set];
            let was = set.entries[place.way];
            if (place.set < self.shape.main) == is_main && owner(&was) == whose {
                set.entries[place.way] = entry(whose, stage, seen);
                if was.stage != stage as u8 {
                    let was_live = Stage::from_byte(was.stage).is_some_and(Stage::is_live);
                    self.counters.moved(whose.backend, was_live, stage.is_live());
                    if is_main {
                        note(&mut self.records, self.tick, tag, &entry(whose, stage, seen));
                    }
                }
                return;
            }
            forget(&self.counters, set, place.way);
        }
        if is_main {
            if self.settle(tag, whose, stage, seen) {
                note(&mut self.records, self.tick, tag, &entry(whose, stage, seen));
            }
        } else {
            let (_, nursery) = self.shape.places(tag);
            let set = &mut self.memory.sets()[nursery];
            let (way, _) = nursery_way(set, &self.limits, self.tick);
            put(&self.counters, set, way, tag, entry(whose, stage, seen));
        }
    }

    /// Where `tag` stands, expired or not.
    fn look(&mut self, tag: Tag) -> Option<Place> {
        let (main, nursery) = self.shape.places(tag);
        let sets = self.memory.sets();
        [main, nursery].into_iter().find_map(|set| way_of(&sets[set], tag).map(|way| Place { set, way }))
    }
}

//! Shortcuts: where packets of a flow that has lasted go on, without working out its name each time.
//!
//! The table's name for a flow is a keyed hash, which is what a frame costs most. A shortcut is found by the very bytes
//! that the packets of a flow have in common, compared one by one, and says at which place of the table the flow is and
//! how its frames are addressed. It decides nothing by itself: it counts only while the table has the flow at that place,
//! with the same owner and stage, and is no older than the tables that were decided by. Where there is none, a frame goes
//! the long way, and the outcome is the same.
//!
//! Who floods the balancer can push out others' shortcuts, but no flow. There are few of them, so that they stay in the
//! processor's cache.

use crate::wire::glance::{Glance, Likeness, glance};

use super::{FlowTable, Owner, Place, Stage, Tag, WAYS};

/// Sets of two shortcuts for each family, at most.
const MOST_SETS: usize = 4096;
/// The generation is in the bits of a likeness that are free.
const GENERATION: u32 = 40;

/// A flow in the main table of which further packets change nothing but the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub(super) tag: Tag,
    pub(super) owner: Owner,
    pub(super) stage: Stage,
    pub(super) place: Place,
}

/// How the packets of a flow go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The first twelve bytes of the frame: the MACs of the backend and of the balancer.
    pub addresses: [u8; 12],
    /// Which of the VIPs' counters counts them.
    pub vip: u32,
}

/// Who a frame that took a shortcut is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The number of the VIP's counters.
    pub vip: usize,
    /// The number of the backend.
    pub backend: usize,
}

/// A cache line for IPv4.
#[derive(Clone, Copy)]
#[repr(C)]
struct Shortcut<const WORDS: usize> {
    likeness: Likeness<WORDS>,
    tag: u64,
    /// Set times eight, plus way.
    place: u32,
    /// Backend, epoch and stage as in the table's entry.
    holder: u32,
    route: Route,
}

/// The shortcuts of one family.
struct Family<const WORDS: usize>(Box<[[Shortcut<WORDS>; 2]]>);

/// The shortcuts of a flow table.
pub(super) struct Shortcuts {
    v4: Family<4>,
    v6: Family<7>,
    /// How many bits of a hash do not count.
    shift: u32,
    /// Secret, and odd.
    factors: [u64; 3],
    /// Never 0; what is of another generation does not count.
    generation: u64,
    /// A linear congruential generator (Knuth's, of 64 bits).
    dice: u64,
}

impl<const WORDS: usize> Family<WORDS> {
    fn new(sets: usize) -> Family<WORDS> {
        let route = Route { addresses: [0; 12], vip: 0 };
        let none = Shortcut { likeness: [0; WORDS], tag: 0, place: 0, holder: 0, route };
        Family(vec![[none; 2]; sets].into_boxed_slice())
    }

    #[inline]
    fn find(&self, set: usize, likeness: &Likeness<WORDS>) -> Option<&Shortcut<WORDS>> {
        let [first, second] = self.0.get(set)?;
        // The last words differ most.
        let is_like = |it: &Shortcut<WORDS>| it.likeness.iter().zip(likeness).rev().all(|(a, b)| a == b);
        if is_like(first) {
            Some(first)
        } else if is_like(second) {
            Some(second)
        } else {
            None
        }
    }

    /// The newest stands first, the oldest makes room.
    fn put(&mut self, set: usize, shortcut: Shortcut<WORDS>) {
        if let Some([first, second]) = self.0.get_mut(set) {
            if first.likeness != shortcut.likeness {
                *second = *first;
            }
            *first = shortcut;
        }
    }
}

impl Shortcuts {
    /// For a table of `entries` flows, whose key is `key`.
    pub(super) fn new(entries: usize, key: (u64, u64)) -> Shortcuts {
        let sets = (entries / 4).next_power_of_two().clamp(2, MOST_SETS);
        let factors = [key.0, key.1, key.0.rotate_left(32) ^ key.1].map(|factor| factor | 1);
        Shortcuts {
            v4: Family::new(sets),
            v6: Family::new(sets),
            shift: u64::BITS - sets.trailing_zeros(),
            factors,
            generation: 1 << GENERATION,
            dice: 0,
        }
    }

    /// One of four frames that go the long way leaves a shortcut: a flow that lasts soon has one, and where there are more
    /// flows than shortcuts, little time is lost in giving them away.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.dice >> 62 == 0
    }

    /// None that there is counts any more.
    pub(super) fn forget(&mut self) {
        self.generation = self.generation.wrapping_add(1 << GENERATION);
        if self.generation == 0 {
            let entries = self.v4.0.len() * 4;
            let [k0, k1, _] = self.factors;
            *self = Shortcuts::new(entries, (k0, k1));
        }
    }

    #[inline]
    fn set_v4(&self, &[_, _, addresses, last]: &Likeness<4>) -> usize {
        let [a, b, _] = self.factors;
        (addresses.wrapping_mul(a).wrapping_add(last.wrapping_mul(b)) >> self.shift) as usize
    }

    #[inline]
    fn set_v6(&self, &[_, _, high, low, _, _, last]: &Likeness<7>) -> usize {
        let [a, b, c] = self.factors;
        let hash = high.wrapping_mul(c).wrapping_add(low.wrapping_mul(a)).wrapping_add(last.wrapping_mul(b));
        (hash >> self.shift) as usize
    }
}

impl FlowTable {
    /// Addresses `frame` to its backend and says so, if it belongs to a flow that has a shortcut.
    #[inline]
    pub fn take_shortcut(&mut self, frame: &mut [u8]) -> Option<Taken> {
        match glance(frame)? {
            Glance::V4(mut likeness) => {
                likeness[3] |= self.shortcuts.generation;
                let shortcut = self.shortcuts.v4.find(self.shortcuts.set_v4(&likeness), &likeness)?;
                let (tag, place, holder, route) = (shortcut.tag, shortcut.place, shortcut.holder, shortcut.route);
                self.go(frame, tag, place, holder, &route)
            }
            Glance::V6(mut likeness) => {
                likeness[6] |= self.shortcuts.generation;
                let shortcut = self.shortcuts.v6.find(self.shortcuts.set_v6(&likeness), &likeness)?;
                let (tag, place, holder, route) = (shortcut.tag, shortcut.place, shortcut.holder, shortcut.route);
                self.go(frame, tag, place, holder, &route)
            }
        }
    }

    #[inline]
    fn go(&mut self, frame: &mut [u8], tag: u64, place: u32, holder: u32, route: &Route) -> Option<Taken> {
        let (index, way) = (place as usize / WAYS, place as usize % WAYS);
        let set = self.memory.sets().get_mut(index)?;
        let entry = &mut set.entries[way];
        let stage = holder >> 24;
        let idle = self.tick.wrapping_sub(entry.seen) as i32;
        if set.tags[way] != tag || entry.holder() != holder || idle >= self.limits.of_number(stage) as i32 {
            return None;
        }
        *frame.first_chunk_mut::<12>()? = route.addresses;
        entry.seen = self.tick;
        Some(Taken { vip: route.vip as usize, backend: usize::from(holder as u16) })
    }

    /// From now on, frames like `frame`, which is of a `settled` flow and has not been rewritten yet, take the `route`.
    #[inline(never)]
    pub fn keep_shortcut(&mut self, frame: &[u8], settled: &Settled, route: Route) {
        let Settled { tag, owner, stage, place } = *settled;
        let (tag, place) = (tag.0, (place.set * WAYS + place.way) as u32);
        let holder = super::entry(owner, stage, 0).holder();
        match glance(frame) {
            Some(Glance::V4(mut likeness)) => {
                likeness[3] |= self.shortcuts.generation;
                let set = self.shortcuts.set_v4(&likeness);
                self.shortcuts.v4.put(set, Shortcut { likeness, tag, place, holder, route });
            }
            Some(Glance::V6(mut likeness)) => {
                likeness[6] |= self.shortcuts.generation;
                let set = self.shortcuts.set_v6(&likeness);
                self.shortcuts.v6.put(set, Shortcut { likeness, tag, place, holder, route });
            }
            None => {}
        }
    }

    /// What was decided by has changed: no shortcut counts any more.
    pub fn forget_shortcuts(&mut self) {
        self.shortcuts.forget();
    }
}

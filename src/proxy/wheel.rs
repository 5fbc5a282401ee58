//! When sessions have to be looked at again: a wheel of slots, one a tick, in which each session has its place.
//!
//! A session's time is mostly put off before it comes, with every byte that moves. So putting it off costs nothing: the
//! entry stays where it is, and when its slot comes up, the session says when its time really is.

use std::time::{Duration, Instant};

/// The length of a tick.
pub(super) const TICK: Duration = Duration::from_millis(100);
const TICK_MS: u64 = TICK.as_millis() as u64;
const PER_SECOND: u64 = 1000 / TICK_MS;
/// Slots: what is further away than that comes up in between.
const SLOTS: u64 = 1024;

/// A number of ticks since the wheel began to turn.
pub(super) type Tick = u64;

/// So much time in ticks, upwards.
pub(super) fn ticks(time: Duration) -> Tick {
    time.as_secs().saturating_mul(PER_SECOND).saturating_add(u64::from(time.subsec_millis()).div_ceil(TICK_MS))
}

/// The wheel.
pub(super) struct Wheel {
    began: Instant,
    /// All slots before this one have come up.
    next: Tick,
    slots: Vec<Vec<Entry>>,
    entries: usize,
    /// No slot before this one has anything in it.
    empty_until: Tick,
}

/// A session in a slot; the serial number tells it from a later one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: usize,
    pub(super) serial: u64,
}

impl Wheel {
    pub(super) fn new(now: Instant) -> Wheel {
        Wheel { began: now, next: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect(), entries: 0, empty_until: 0 }
    }

    /// The tick that `at` lies in.
    pub(super) fn tick(&self, at: Instant) -> Tick {
        let since = at.saturating_duration_since(self.began);
        since.as_secs() * PER_SECOND + u64::from(since.subsec_millis()) / TICK_MS
    }

    /// Puts `entry` into the slot of `at`, or into the last one there is; says which one that is.
    pub(super) fn put(&mut self, entry: Entry, at: Tick) -> Tick {
        let at = at.clamp(self.next, self.next + SLOTS - 1);
        self.slots[(at % SLOTS) as usize].push(entry);
        self.entries += 1;
        self.empty_until = self.empty_until.min(at);
        at
    }

    /// When the next slot comes up that may have something in it; `None` with nothing in any.
    pub(super) fn until_next(&mut self, now: Instant) -> Option<Duration> {
        let first = self.next.max(self.empty_until);
        let occupied = (first..self.next + SLOTS).find(|tick| !self.slots[(tick % SLOTS) as usize].is_empty());
        // With nothing in any of them, what is put in next tells.
        self.empty_until = occupied.unwrap_or(Tick::MAX);
        let occupied = occupied?;
        // A slot comes up when its tick is over.
        let at = self.began + TICK * u32::try_from(occupied + 1).unwrap_or(u32::MAX);
        Some(at.saturating_duration_since(now))
    }

    /// Takes out what came up until `now`, with the tick of its slot.
    pub(super) fn turn(&mut self, now: Instant, due: &mut Vec<(Tick, Entry)>) {
        let current = self.tick(now);
        if self.entries == 0 {
            self.next = self.next.max(current);
            return;
        }
        let last = current.min(self.next + SLOTS);
        while self.next < last {
            let slot = &mut self.slots[(self.next % SLOTS) as usize];
            self.entries -= slot.len();
            due.extend(slot.drain(..).map(|entry| (self.next, entry)));
            self.next += 1;
        }
        self.next = self.next.max(current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_up_once_its_tick_is_over_and_never_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let entry = |key| Entry { key, serial: 7 };
        for (key, ms) in [(1, 50), (2, 950), (3, 5_000), (4, 500_000)] {
            wheel.put(entry(key), wheel.tick(start + Duration::from_millis(ms)));
        }
        let mut seen = Vec::new();
        for ms in (0..600_000).step_by(70) {
            let now = start + Duration::from_millis(ms);
            let mut due = Vec::new();
            let wait = wheel.until_next(now);
            wheel.turn(now, &mut due);
            for (_, found) in due {
                assert_eq!(wait, Some(Duration::ZERO));
                // What is further away than the wheel is large comes up in between.
                if found.key == 4 && ms < 500_000 {
                    wheel.put(found, wheel.tick(start + Duration::from_millis(500_000)));
                } else {
                    seen.push((found.key, ms));
                }
            }
        }
        assert_eq!(seen.iter().map(|&(key, _)| key).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for ((_, came), asked) in seen.into_iter().zip([50, 950, 5_000, 500_000]) {
            assert!(came > asked && came < asked + 300, "{came} for {asked}");
        }
        assert_eq!(wheel.until_next(start), None);
    }
}

//! Requests that wait for a place at a server, while all of those that could serve them have as many connections as they
//! may. Each event loop has a queue of its own.
//!
//! For each listener they are let on in the order in which they came; of a client that has many requests at a time
//! (HTTP/2) only the first comes before those of others, its second one after their first ones, and so on. Who comes while
//! a place is free for those that wait does not take it from them.
//!
//! A place that comes free in a loop would always go to those who wait there. So a loop leaves it to another one where
//! somebody has waited for much longer.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often it is looked whether other loops have left places.
const LOOK: Duration = Duration::from_millis(10);
/// Who has waited so much longer than those of another loop comes before them, milliseconds.
const LONGER: u64 = 100;
/// For so long, milliseconds, what a loop says of those that wait in it counts.
const SAID: u64 = 3 * LOOK.as_millis() as u64;
/// For so long places are left to another loop, and then taken as long all the same: those in it may be waiting for other
/// servers than ours.
const LEFT: Duration = Duration::from_millis(20);

/// Of the next queue.
static ID: AtomicU64 = AtomicU64::new(0);

/// Since when, of all loops, somebody has waited for servers of a listener. It is no lock, and may be a little late.
#[derive(Debug, Default)]
pub(super) struct Longest {
    /// In which queue, and 0: in none.
    queue: AtomicU64,
    /// Since when, milliseconds.
    since: AtomicU64,
    /// When that was said last.
    said: AtomicU64,
}

impl Longest {
    fn say(&self, queue: u64, since: u64, now: u64) {
        self.since.store(since, Relaxed);
        self.said.store(now, Relaxed);
        self.queue.store(queue, Relaxed);
    }

    /// Since when somebody waits in another queue than `own`, as far as is known.
    fn elsewhere(&self, own: u64, now: u64) -> Option<u64> {
        let queue = self.queue.load(Relaxed);
        (queue != 0 && queue != own && now <= self.said.load(Relaxed) + SAID).then(|| self.since.load(Relaxed))
    }
}

/// Where a request stands: its listener's serial number, its turn, and its number among all that have ever waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    listener: u64,
    turn: u64,
    number: u64,
}

impl Place {
    /// Behind all others of the same listener.
    fn last_of(listener: u64) -> Place {
        Place { listener, turn: u64::MAX, number: u64::MAX }
    }
}

/// What has become of one who waits, and might have found a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It waits no more.
    Found,
    /// There is none for it.
    Nothing,
    /// What there is, is left to those of another loop.
    Left,
}

#[derive(Debug)]
struct Waiter {
    session: usize,
    /// Since when, milliseconds.
    since: u64,
    /// The session of the client's connection, if that carries others, too.
    parent: Option<usize>,
}

/// Those that wait.
#[derive(Debug)]
pub(super) struct Queue {
    /// A number that no other has; not 0.
    id: u64,
    /// From when on milliseconds count.
    epoch: Instant,
    waiting: BTreeMap<Place, Waiter>,
    /// How many of them are of one connection.
    siblings: HashMap<usize, u64>,
    number: u64,
    /// Places have come free.
    stirred: bool,
    /// When it was last looked whether somebody can be let on.
    looked: Option<Instant>,
    /// Since when places are left to others, and taken, by turns.
    leaving: Option<Instant>,
}

impl Queue {
    /// Nobody waits. Queues that are to leave places to each other have the same `epoch`.
    pub(super) fn new(epoch: Instant) -> Queue {
        Queue {
            id: ID.fetch_add(1, Relaxed) + 1,
            epoch,
            waiting: BTreeMap::new(),
            siblings: HashMap::new(),
            number: 0,
            stirred: false,
            looked: None,
            leaving: None,
        }
    }

    /// Session `session` waits from `now` on, behind whoever waits already; `None`: there are `most` already.
    pub(super) fn enter(
        &mut self,
        listener: u64,
        (session, parent): (usize, Option<usize>),
        most: u32,
        now: Instant,
    ) -> Option<Place> {
        if self.waiting.len() >= most as usize {
            return None;
        }
        let turn = self.first_of(listener).map_or(0, |place| place.turn);
        let before = parent.map_or(0, |parent| {
            let siblings = self.siblings.entry(parent).or_default();
            *siblings += 1;
            *siblings - 1
        });
        self.number += 1;
        let place = Place { listener, turn: turn + before, number: self.number };
        self.waiting.insert(place, Waiter { session, since: self.milliseconds(now), parent });
        Some(place)
    }

    /// Whoever is at `place` does not wait any more.
    pub(super) fn leave(&mut self, place: Place) {
        let Some(Waiter { parent: Some(parent), .. }) = self.waiting.remove(&place) else { return };
        if let Some(siblings) = self.siblings.get_mut(&parent) {
            *siblings -= 1;
            if *siblings == 0 {
                self.siblings.remove(&parent);
            }
        }
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// Has somebody who comes to this listener now to wait, because others come first?
    pub(super) fn comes_first(&self, listener: u64, longest: &Longest, now: Instant) -> bool {
        if self.stirred && self.first_of(listener).is_some() {
            return true;
        }
        // With nobody waiting anywhere, as almost always, that is all.
        if longest.queue.load(Relaxed) == 0 {
            return false;
        }
        let now = self.milliseconds(now);
        longest.elsewhere(self.id, now).is_some_and(|since| since + LONGER < now)
    }

    /// Is a place left to those of another loop, rather than given to the one who waits at `place`?
    pub(super) fn leaves(&mut self, place: Place, longest: &Longest, now: Instant) -> bool {
        let Some(since) = self.waiting.get(&place).map(|waiter| waiter.since) else { return false };
        if self.first_of(place.listener) != Some(place) {
            return false;
        }
        let at = self.milliseconds(now);
        match longest.elsewhere(self.id, at) {
            Some(other) if other + LONGER < since => {
                let began = *self.leaving.get_or_insert(now);
                if now < began + LEFT {
                    return true;
                }
                if now >= began + 2 * LEFT {
                    self.leaving = None;
                }
            }
            Some(other) if other <= since => {}
            _ => longest.say(self.id, since, at),
        }
        false
    }

    /// If nobody waits here any more for servers of the listener, the other loops need not leave places.
    pub(super) fn tell_if_over(&self, listener: u64, longest: &Longest) {
        if longest.queue.load(Relaxed) == self.id && self.first_of(listener).is_none() {
            longest.queue.store(0, Relaxed);
        }
    }

    fn first_of(&self, listener: u64) -> Option<Place> {
        let first = Place { listener, turn: 0, number: 0 };
        self.waiting.range(first..=Place::last_of(listener)).next().map(|(&place, _)| place)
    }

    /// Who comes behind `last`, or first of all: its place and its session.
    pub(super) fn behind(&self, last: Option<Place>) -> Option<(Place, usize)> {
        let found = match last {
            Some(last) => self.waiting.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded)).next(),
            None => self.waiting.iter().next(),
        };
        found.map(|(&place, waiter)| (place, waiter.session))
    }

    /// Who is first at the listener behind that of `last`.
    pub(super) fn behind_all_like(&self, last: Place) -> Option<(Place, usize)> {
        self.behind(Some(Place::last_of(last.listener)))
    }

    /// A place has come free in this loop.
    pub(super) fn stir(&mut self) {
        self.stirred = true;
    }

    /// Is it time to look whether somebody can be let on? Then it counts as done.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.waiting.is_empty() {
            (self.stirred, self.looked) = (false, None);
            return false;
        }
        let due = self.stirred || self.looked.is_none_or(|looked| now >= looked + LOOK);
        if due {
            (self.stirred, self.looked) = (false, Some(now));
        }
        due
    }

    /// When that time is.
    pub(super) fn until_due(&self, now: Instant) -> Option<Duration> {
        if self.waiting.is_empty() {
            return None;
        }
        let looked = self.looked.filter(|_| !self.stirred);
        Some(looked.map_or(Duration::ZERO, |looked| (looked + LOOK).saturating_duration_since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sessions in the order in which they would be let on.
    fn order(queue: &Queue) -> Vec<usize> {
        let mut all = Vec::new();
        let mut last = None;
        while let Some((place, session)) = queue.behind(last) {
            all.push(session);
            last = Some(place);
        }
        all
    }

    #[test]
    fn clients_take_turns_however_many_requests_one_of_them_has() {
        let start = Instant::now();
        let mut queue = Queue::new(start);
        let greedy: Vec<Place> = (0..4).filter_map(|n| queue.enter(1, (n, Some(100)), 99, start)).collect();
        for who in [(10, None), (11, None), (20, Some(200)), (21, Some(200))] {
            queue.enter(1, who, 99, start);
        }
        assert_eq!(order(&queue), [0, 10, 11, 20, 1, 21, 2, 3]);
        // Who comes later is not put before those who have waited through as many turns.
        greedy[..2].iter().for_each(|&place| queue.leave(place));
        queue.enter(1, (12, None), 99, start);
        assert_eq!(order(&queue), [10, 11, 20, 12, 21, 2, 3]);
    }

    #[test]
    fn listeners_have_queues_of_their_own() {
        let start = Instant::now();
        let mut queue = Queue::new(start);
        let first = queue.enter(7, (1, None), 3, start).expect("room");
        queue.enter(5, (2, None), 3, start);
        queue.enter(7, (3, None), 3, start);
        assert_eq!(queue.enter(9, (4, None), 3, start), None, "no more than there may be");
        let (place, session) = queue.behind(None).expect("somebody");
        assert_eq!(session, 2);
        assert_eq!(queue.behind_all_like(place).map(|(_, session)| session), Some(1));
        queue.leave(first);
        queue.leave(first);
        assert_eq!(order(&queue), [2, 3]);
        queue.stir();
        let nobody = Longest::default();
        assert!(queue.comes_first(5, &nobody, start) && !queue.comes_first(6, &nobody, start));
        queue.leave(place);
        assert!(!queue.comes_first(5, &nobody, start) && queue.comes_first(7, &nobody, start));
    }

    #[test]
    fn it_is_looked_at_when_a_place_comes_free_and_from_time_to_time() {
        let start = Instant::now();
        let mut queue = Queue::new(start);
        queue.stir();
        assert_eq!((queue.is_due(start), queue.until_due(start)), (false, None), "nobody waits");
        let place = queue.enter(1, (1, Some(9)), 9, start).expect("room");
        assert_eq!(queue.until_due(start), Some(Duration::ZERO));
        assert!(queue.is_due(start) && !queue.is_due(start));
        assert_eq!(queue.until_due(start), Some(LOOK));
        queue.stir();
        assert_eq!(queue.until_due(start), Some(Duration::ZERO));
        assert!(queue.is_due(start) && !queue.is_due(start) && queue.is_due(start + LOOK));
        queue.leave(place);
        assert!(!queue.is_due(start + LOOK) && queue.siblings.is_empty());
    }

    #[test]
    fn a_loop_leaves_places_to_one_in_which_somebody_has_waited_for_much_longer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut one, mut other, longest) = (Queue::new(start), Queue::new(start), Longest::default());
        let old = one.enter(1, (1, None), 9, at(0)).expect("room");
        assert!(!one.leaves(old, &longest, at(50)));
        assert!(!other.comes_first(1, &longest, at(90)), "not yet");
        let young = other.enter(1, (1, None), 9, at(115)).expect("room");
        let behind = other.enter(1, (2, None), 9, at(116)).expect("room");
        assert!(!other.comes_first(1, &longest, at(200)), "what is not said again is not believed for long");
        assert!(!one.leaves(old, &longest, at(120)), "those who have waited longest leave nothing");
        assert!(other.comes_first(1, &longest, at(121)) && !one.comes_first(1, &longest, at(121)));
        assert!(other.leaves(young, &longest, at(122)) && other.leaves(young, &longest, at(130)));
        assert!(!other.leaves(behind, &longest, at(130)), "that is asked of the first");
        assert!(!other.leaves(young, &longest, at(143)), "not for ever: perhaps they wait for another server");
        one.leave(old);
        one.tell_if_over(1, &longest);
        assert!(!other.leaves(young, &longest, at(144)) && !other.comes_first(1, &longest, at(500)));
    }
}

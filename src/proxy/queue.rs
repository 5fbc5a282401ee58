//! Requests that wait for a place at a server, while all of those that could serve them have as many connections as they
//! may. Each event loop has a queue of its own.
//!
//! They are let on in the order in which they came, whichever listener they came to; of a client that has many requests at
//! a time (HTTP/2) each counts as if it had come a little after the one before it. So nobody is passed for ever: whoever
//! comes late enough is behind. Who comes while a place is free for those that wait does not take it from them.
//!
//! A place that comes free in a loop would always go to those who wait there. So a loop leaves it to another one where
//! somebody has waited for much longer.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A request that comes while others of the same connection wait counts as if it came so much later, for each of them,
/// milliseconds.
const BESIDE: u64 = 20;
/// How many of a listener, one after the other, may find no place, until the rest of them need not try. Some may be for
/// servers that others may not use.
const MISSES: u32 = 64;
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

/// Requests that wait, in all loops.
#[derive(Debug, Default)]
pub struct Waits {
    /// How many there are.
    pub now: AtomicU64,
    /// How often one has begun to.
    pub ever: AtomicU64,
}

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

/// Where a request stands, before those that are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// When it came, or counts as having come, milliseconds.
    came: u64,
    /// Its number among all that have ever waited.
    number: u64,
    /// Its listener's serial number.
    listener: u64,
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

/// A look at those who wait, one after the other.
#[derive(Debug)]
pub(super) struct Look {
    last: Option<Place>,
    /// The number of the newest of them: who comes to wait again meanwhile has had his try.
    newest: u64,
    /// Of which listeners how many have found no place since one did; [`MISSES`]: the rest is left out.
    misses: Vec<(u64, u32)>,
}

impl Look {
    /// What has become of the one at `place`, who came next.
    pub(super) fn note(&mut self, place: Place, admission: Admission) {
        self.last = Some(place);
        let at = self.misses.iter().position(|(listener, _)| *listener == place.listener);
        let at = at.unwrap_or_else(|| {
            self.misses.push((place.listener, 0));
            self.misses.len() - 1
        });
        let misses = &mut self.misses[at].1;
        *misses = match admission {
            Admission::Found => 0,
            Admission::Nothing => *misses + 1,
            Admission::Left => MISSES,
        };
    }

    fn leaves_out(&self, listener: u64) -> bool {
        self.misses.iter().any(|&(of, misses)| of == listener && misses >= MISSES)
    }
}

/// Those that wait.
#[derive(Debug)]
pub(super) struct Queue {
    /// A number that no other has; not 0.
    id: u64,
    /// From when on milliseconds count.
    epoch: Instant,
    waits: Arc<Waits>,
    /// By their listeners' serial numbers.
    waiting: BTreeMap<u64, BTreeMap<Place, Waiter>>,
    /// How many they are.
    count: usize,
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
    pub(super) fn new(epoch: Instant, waits: Arc<Waits>) -> Queue {
        Queue {
            id: ID.fetch_add(1, Relaxed) + 1,
            epoch,
            waits,
            waiting: BTreeMap::new(),
            count: 0,
            siblings: HashMap::new(),
            number: 0,
            stirred: false,
            looked: None,
            leaving: None,
        }
    }

    /// Session `session` waits from `now` on, behind whoever waits already, or as if it had come when it had the place
    /// `before`; `None`: there are `most` already.
    pub(super) fn enter(
        &mut self,
        listener: u64,
        (session, parent): (usize, Option<usize>),
        most: u32,
        now: Instant,
        before: Option<Place>,
    ) -> Option<Place> {
        if self.count >= most as usize {
            return None;
        }
        let beside = parent.map_or(0, |parent| {
            let siblings = self.siblings.entry(parent).or_default();
            *siblings += 1;
            *siblings - 1
        });
        self.number += 1;
        let since = self.milliseconds(now);
        let came = before.map_or(since + beside * BESIDE, |before| before.came);
        let place = Place { came, number: self.number, listener };
        self.waiting.entry(listener).or_default().insert(place, Waiter { session, since, parent });
        self.count += 1;
        self.waits.now.fetch_add(1, Relaxed);
        self.waits.ever.fetch_add(1, Relaxed);
        Some(place)
    }

    /// Whoever is at `place` does not wait any more.
    pub(super) fn leave(&mut self, place: Place) {
        let Some(waiters) = self.waiting.get_mut(&place.listener) else { return };
        let Some(waiter) = waiters.remove(&place) else { return };
        self.count -= 1;
        self.waits.now.fetch_sub(1, Relaxed);
        if waiters.is_empty() {
            self.waiting.remove(&place.listener);
        }
        if let Some(parent) = waiter.parent
            && let Some(siblings) = self.siblings.get_mut(&parent)
        {
            *siblings -= 1;
            if *siblings == 0 {
                self.siblings.remove(&parent);
            }
        }
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// Has somebody who comes to the listener of `longest` now to wait, because others come first? Those of other listeners
    /// may want the same servers; if they do not, the wait is over with this round of events.
    pub(super) fn others_come_first(&self, longest: &Longest, now: Instant) -> bool {
        if self.stirred && self.count > 0 {
            return true;
        }
        self.is_wanted_elsewhere(longest, now)
    }

    /// Has somebody waited for long in another loop for servers of the listener of `longest`?
    pub(super) fn is_wanted_elsewhere(&self, longest: &Longest, now: Instant) -> bool {
        if longest.queue.load(Relaxed) == 0 {
            return false;
        }
        let now = self.milliseconds(now);
        longest.elsewhere(self.id, now).is_some_and(|since| since + LONGER < now)
    }

    /// Is a place left to those of another loop, rather than given to the one who waits at `place`?
    pub(super) fn leaves(&mut self, place: Place, longest: &Longest, now: Instant) -> bool {
        let first = self.waiting.get(&place.listener).and_then(BTreeMap::first_key_value);
        let Some((_, &Waiter { since, .. })) = first.filter(|(first, _)| **first == place) else { return false };
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
        if longest.queue.load(Relaxed) == self.id && !self.waiting.contains_key(&listener) {
            longest.queue.store(0, Relaxed);
        }
    }

    /// A look at those who wait now.
    pub(super) fn look(&self) -> Look {
        Look { last: None, newest: self.number, misses: Vec::new() }
    }

    /// Who comes next in this look: its place and its session.
    pub(super) fn next(&self, look: &Look) -> Option<(Place, usize)> {
        let from = look.last.map_or(Bound::Unbounded, Bound::Excluded);
        let tries = self.waiting.iter().filter(|&(&listener, _)| !look.leaves_out(listener));
        let is_meant = |&(place, _): &(&Place, &Waiter)| place.number <= look.newest;
        let firsts = tries.filter_map(|(_, waiters)| waiters.range((from, Bound::Unbounded)).find(is_meant));
        firsts.min_by_key(|&(&place, _)| place).map(|(&place, waiter)| (place, waiter.session))
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

    fn queue(start: Instant) -> Queue {
        Queue::new(start, Arc::default())
    }

    /// The sessions in the order in which they would be let on.
    fn order(queue: &Queue) -> Vec<usize> {
        let (mut all, mut look) = (Vec::new(), queue.look());
        while let Some((place, session)) = queue.next(&look) {
            all.push(session);
            look.note(place, Admission::Found);
        }
        all
    }

    #[test]
    fn further_requests_of_a_connection_count_as_later_ones_and_are_not_passed_for_ever() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut queue = queue(start);
        for n in 0..4 {
            queue.enter(1, (n, Some(100)), 99, start, None);
        }
        for (who, ms) in [((10, None), 5), ((20, Some(200)), 10), ((21, Some(200)), 10), ((11, None), 20)] {
            queue.enter(1, who, 99, at(ms), None);
        }
        assert_eq!(order(&queue), [0, 10, 20, 1, 11, 21, 2, 3]);
        queue.enter(1, (12, None), 99, at(59), None);
        queue.enter(1, (13, None), 99, at(61), None);
        assert_eq!(order(&queue), [0, 10, 20, 1, 11, 21, 2, 12, 3, 13]);
    }

    #[test]
    fn listeners_have_one_order_and_nobody_waits_behind_those_who_find_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut queue = queue(start);
        let first = queue.enter(7, (1, None), 3, at(1), None).expect("room");
        let second = queue.enter(5, (2, None), 3, at(2), None).expect("room");
        queue.enter(7, (3, None), 3, at(3), None);
        assert_eq!(queue.enter(9, (4, None), 3, at(4), None), None, "no more than there may be");
        assert_eq!(order(&queue), [1, 2, 3]);
        let mut look = queue.look();
        look.note(first, Admission::Left);
        assert_eq!(queue.next(&look), Some((second, 2)));
        look.note(second, Admission::Nothing);
        assert_eq!(queue.next(&look), None, "the rest of 7 is left out");
        queue.leave(first);
        queue.leave(first);
        assert_eq!(order(&queue), [2, 3]);
        queue.stir();
        let nobody = Longest::default();
        assert!(queue.others_come_first(&nobody, start), "whichever listener they wait at");
        queue.leave(second);
        let (last, _) = queue.next(&queue.look()).expect("somebody");
        queue.leave(last);
        assert!(!queue.others_come_first(&nobody, start) && queue.waiting.is_empty());
    }

    #[test]
    fn who_waits_anew_keeps_his_turn_and_has_no_other_try_in_the_same_look() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut queue = queue(start);
        let first = queue.enter(1, (1, None), 9, at(1), None).expect("room");
        queue.enter(1, (2, None), 9, at(2), None);
        let mut look = queue.look();
        assert_eq!(queue.next(&look), Some((first, 1)));
        queue.leave(first);
        queue.enter(1, (1, None), 9, at(3), Some(first));
        look.note(first, Admission::Found);
        assert_eq!(queue.next(&look).map(|(_, session)| session), Some(2));
        assert_eq!(order(&queue), [1, 2]);
    }

    #[test]
    fn those_behind_many_who_find_nothing_need_not_try() {
        let start = Instant::now();
        let mut queue = queue(start);
        for n in 0..2 * MISSES as usize {
            queue.enter(1, (n, None), 999, start, None);
        }
        queue.enter(2, (999, None), 999, start, None);
        let (mut look, mut tried) = (queue.look(), Vec::new());
        while let Some((place, session)) = queue.next(&look) {
            tried.push(session);
            look.note(place, Admission::Nothing);
        }
        assert_eq!(tried.len(), MISSES as usize + 1);
        assert_eq!(tried.last(), Some(&999));
    }

    #[test]
    fn it_is_looked_at_when_a_place_comes_free_and_from_time_to_time() {
        let start = Instant::now();
        let mut queue = queue(start);
        queue.stir();
        assert_eq!((queue.is_due(start), queue.until_due(start)), (false, None), "nobody waits");
        let place = queue.enter(1, (1, Some(9)), 9, start, None).expect("room");
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
        let (mut one, mut other, longest) = (queue(start), queue(start), Longest::default());
        let old = one.enter(1, (1, None), 9, at(0), None).expect("room");
        assert!(!one.leaves(old, &longest, at(50)));
        assert!(!other.others_come_first(&longest, at(90)), "not yet");
        let young = other.enter(1, (1, None), 9, at(115), None).expect("room");
        let behind = other.enter(1, (2, None), 9, at(116), None).expect("room");
        assert!(!other.others_come_first(&longest, at(200)), "what is not said again is not believed for long");
        assert!(!one.leaves(old, &longest, at(120)), "those who have waited longest leave nothing");
        assert!(other.others_come_first(&longest, at(121)) && !one.others_come_first(&longest, at(121)));
        assert!(other.leaves(young, &longest, at(122)) && other.leaves(young, &longest, at(130)));
        assert!(!other.leaves(behind, &longest, at(130)), "that is asked of the first");
        assert!(!other.leaves(young, &longest, at(143)), "not for ever: perhaps they wait for another server");
        one.leave(old);
        one.tell_if_over(1, &longest);
        assert!(!other.leaves(young, &longest, at(144)) && !other.others_come_first(&longest, at(500)));
    }
}

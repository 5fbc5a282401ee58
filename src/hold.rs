//! A few frames that cannot go yet: their backend's MAC is being asked for, or their first fragment is on its way.
//!
//! Memory is taken once. A frame that finds no room, or is larger than a place, is refused.

use std::time::{Duration, Instant};

use crate::lb::fragment::Key;

/// Frames held in all.
pub const PLACES: usize = 64;
/// Frames held for one reason at most, so that one backend cannot take all the places.
pub const PER_REASON: usize = 8;
/// Frames held for their first fragment at most, in all: anybody can make up parts of datagrams that never come whole,
/// and they must not keep out what waits for a backend.
pub const FOR_FIRST_FRAGMENTS: usize = PLACES / 2;
/// The longest frame that is held, bytes: an Ethernet frame with two tags, no segmentation-offload giant.
pub const LONGEST: usize = 2048;
/// How long a frame waits.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The MAC of backend number so-and-so.
    Backend(usize),
    /// The first fragment of its datagram.
    First(Key),
}

struct Place {
    waiting: Option<Waiting>,
    since: u64,
    until: Instant,
    frame: Vec<u8>,
}

/// The places.
pub struct Hold {
    places: Vec<Place>,
    arrivals: u64,
    taken: usize,
}

impl Hold {
    /// All places free.
    pub fn new(now: Instant) -> Hold {
        let place = || Place { waiting: None, since: 0, until: now, frame: Vec::with_capacity(LONGEST) };
        Hold { places: std::iter::repeat_with(place).take(PLACES).collect(), arrivals: 0, taken: 0 }
    }

    /// Keeps a copy of `frame`. `false`: no room.
    pub fn keep(&mut self, waiting: Waiting, frame: &[u8], now: Instant) -> bool {
        let alike = self.places.iter().filter(|place| place.waiting == Some(waiting)).count();
        if frame.len() > LONGEST || alike >= PER_REASON {
            return false;
        }
        let is_part = |waiting: &Waiting| matches!(waiting, Waiting::First(_));
        let parts = || self.places.iter().filter(|place| place.waiting.as_ref().is_some_and(is_part)).count();
        if is_part(&waiting) && parts() >= FOR_FIRST_FRAGMENTS {
            return false;
        }
        let Some(place) = self.places.iter_mut().find(|place| place.waiting.is_none()) else {
            return false;
        };
        place.waiting = Some(waiting);
        place.since = self.arrivals;
        place.until = now + PATIENCE;
        place.frame.clear();
        place.frame.extend_from_slice(frame);
        self.arrivals += 1;
        self.taken += 1;
        true
    }

    /// Takes out, oldest first, one frame of those whose wait `is_over`.
    pub fn take(&mut self, is_over: impl Fn(&Waiting) -> bool) -> Option<Vec<u8>> {
        if self.taken == 0 {
            return None;
        }
        let over = |place: &&mut Place| place.waiting.as_ref().is_some_and(&is_over);
        let place = self.places.iter_mut().filter(over).min_by_key(|place| place.since)?;
        place.waiting = None;
        self.taken -= 1;
        Some(place.frame.clone())
    }

    /// Gives up the frames that have waited too long; how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        if self.taken == 0 {
            return 0;
        }
        let mut expired = 0;
        for place in self.places.iter_mut().filter(|place| place.waiting.is_some() && place.until <= now) {
            place.waiting = None;
            expired += 1;
        }
        self.taken -= expired;
        expired
    }

    /// When the next frame is to be given up.
    pub fn deadline(&self) -> Option<Instant> {
        if self.taken == 0 { None } else { self.places.iter().filter(|p| p.waiting.is_some()).map(|p| p.until).min() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_in_the_order_they_came_and_only_when_due() {
        let now = Instant::now();
        let mut hold = Hold::new(now);
        for n in 0..3u8 {
            assert!(hold.keep(Waiting::Backend(usize::from(n % 2)), &[n], now));
        }
        assert_eq!(hold.take(|w| *w == Waiting::Backend(0)), Some(vec![0]));
        assert_eq!(hold.take(|w| *w == Waiting::Backend(0)), Some(vec![2]));
        assert_eq!(hold.take(|w| *w == Waiting::Backend(0)), None);
        assert_eq!(hold.take(|_| true), Some(vec![1]));
        assert_eq!(hold.deadline(), None);
    }

    #[test]
    fn one_backend_cannot_take_all_places_and_giants_are_refused() {
        let now = Instant::now();
        let mut hold = Hold::new(now);
        assert!((0..PER_REASON).all(|_| hold.keep(Waiting::Backend(1), &[0; 60], now)));
        assert!(!hold.keep(Waiting::Backend(1), &[0; 60], now));
        assert!(hold.keep(Waiting::Backend(2), &[0; 60], now));
        assert!(!hold.keep(Waiting::Backend(3), &[0; LONGEST + 1], now));
    }

    #[test]
    fn patience_ends() {
        let now = Instant::now();
        let mut hold = Hold::new(now);
        hold.keep(Waiting::Backend(1), &[0; 60], now);
        assert_eq!(hold.deadline(), Some(now + PATIENCE));
        assert_eq!(hold.expire(now + PATIENCE), 1);
        assert_eq!(hold.take(|_| true), None);
    }
}

//! Numbers for backends and VIPs, which stay what they are while everything else changes.
//!
//! Flows and counters know a backend by its number. One that leaves the configuration leaves its number vacant, and has
//! it again if it returns; only when no number is left, the one that has been vacant longest is given away, in a new
//! epoch.

/// Who has, or had last, a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat<K> {
    /// Its name.
    pub key: K,
    /// How many have had the number before.
    pub epoch: u8,
    /// When it was left, in the order of such events; `None` while it is taken.
    vacant_since: Option<u64>,
}

/// The numbers.
#[derive(Clone, Debug)]
pub struct Seats<K> {
    seats: Vec<Seat<K>>,
    most: usize,
    departures: u64,
}

impl<K: Clone + PartialEq> Seats<K> {
    /// At most `most` numbers, nobody having one.
    pub fn new(most: usize) -> Seats<K> {
        Seats { seats: Vec::new(), most, departures: 0 }
    }

    /// The numbers as they were in another process, all vacant.
    pub fn restored(most: usize, known: impl IntoIterator<Item = (K, u8)>) -> Seats<K> {
        let seat = |(n, (key, epoch))| Seat { key, epoch, vacant_since: Some(n as u64) };
        let seats: Vec<Seat<K>> = known.into_iter().take(most).enumerate().map(seat).collect();
        Seats { departures: seats.len() as u64, seats, most }
    }

    /// The number of `key`: the one that it has or had, a new one, or that which has been vacant longest. `None` when all
    /// are taken.
    pub fn take(&mut self, key: &K) -> Option<usize> {
        if let Some(number) = self.seats.iter().position(|seat| seat.key == *key) {
            self.seats[number].vacant_since = None;
            return Some(number);
        }
        if self.seats.len() < self.most {
            self.seats.push(Seat { key: key.clone(), epoch: 0, vacant_since: None });
            return Some(self.seats.len() - 1);
        }
        let vacant = self.seats.iter_mut().enumerate().filter(|(_, seat)| seat.vacant_since.is_some());
        let (number, seat) = vacant.min_by_key(|(_, seat)| seat.vacant_since)?;
        *seat = Seat { key: key.clone(), epoch: seat.epoch.wrapping_add(1), vacant_since: None };
        Some(number)
    }

    /// `key` has left; its number waits for it.
    pub fn leave(&mut self, key: &K) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.key == *key && seat.vacant_since.is_none()) {
            seat.vacant_since = Some(self.departures);
            self.departures += 1;
        }
    }

    /// All numbers, taken or vacant.
    pub fn all(&self) -> &[Seat<K>] {
        &self.seats
    }

    /// The number of `key`, if it has or had one.
    pub fn number(&self, key: &K) -> Option<usize> {
        self.seats.iter().position(|seat| seat.key == *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_waits_for_its_owner_until_it_is_needed() {
        let mut seats = Seats::new(3);
        assert_eq!(["a", "b", "c", "d"].map(|k| seats.take(&k)), [Some(0), Some(1), Some(2), None]);
        seats.leave(&"b");
        seats.leave(&"a");
        assert_eq!((seats.take(&"b"), seats.all()[1].epoch), (Some(1), 0));
        seats.leave(&"b");
        assert_eq!((seats.take(&"d"), seats.all()[0].epoch), (Some(0), 1), "a has been away longest");
        assert_eq!((seats.take(&"e"), seats.take(&"f")), (Some(1), None));
        let restored: Seats<&str> = Seats::restored(3, seats.all().iter().map(|s| (s.key, s.epoch)));
        assert_eq!((restored.number(&"d"), restored.all()[0].epoch), (Some(0), 1));
    }
}

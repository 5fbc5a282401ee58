//! Weighted Maglev hashing: a slot table that spreads clients by weight and moves few of them when it changes.
//!
//! Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
//! Two things are added. Weights: a member takes its turn as often as its weight asks. Repair: the table is always
//! filled for *all* members first; then the slots of those that are down are dealt again among the rest. So a member
//! that goes down moves its own clients only, and when it returns, exactly those come back.

use std::fmt;

use siphasher::sip::SipHasher13;

use super::Seed;

/// Slots of a table unless something else is asked for: a prime, as Maglev needs, good for some 650 members.
pub const DEFAULT_SIZE: u32 = 65537;

/// The slot holds nobody: no member is in service.
const NOBODY: u16 = u16::MAX;

/// Largest number of members that a table can hold.
pub const MAX_MEMBERS: usize = NOBODY as usize;

/// One contender for slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What makes it the same member on every balancer and after every restart. Not its place in the list.
    pub identity: String,
    /// Share relative to the others; 0 takes no slots.
    pub weight: u32,
    /// How many percent of its slots it really takes. 0: it is down; it keeps its claim, but its slots are lent to the
    /// others. 100: all. Less: it has just returned, and some are still lent.
    pub share: u8,
}

impl Member {
    /// A member that takes all its slots.
    pub fn up(identity: &str, weight: u32) -> Member {
        Member { identity: identity.to_owned(), weight, share: 100 }
    }

    /// The same, but down.
    pub fn down(identity: &str, weight: u32) -> Member {
        Member { share: 0, ..Member::up(identity, weight) }
    }

    /// Does it take `slot`, if that is its own? More slots with every percent, and never one less.
    fn takes(&self, slot: usize) -> bool {
        self.share >= 100
            || (slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (1 << 32) / 100 * u64::from(self.share)
    }
}

/// A table size that is no prime, or too small or large to be one of Maglev's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSize(pub u32);

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table size {} is not a prime from 251 to 16777213; try {}", self.0, DEFAULT_SIZE)
    }
}

impl std::error::Error for BadSize {}

/// Checks that `size` can be a table's.
///
/// # Errors
/// [`BadSize`] unless it is a prime from 251 to 16,777,213.
pub fn check_size(size: u32) -> Result<u32, BadSize> {
    let prime = (2..).take_while(|d| d * d <= size).all(|d| !size.is_multiple_of(d));
    if (251..=16_777_213).contains(&size) && prime { Ok(size) } else { Err(BadSize(size)) }
}

/// Slot to member, by the member's place in the list that the table was built from.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    slots: Box<[u16]>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} slots)", self.slots.len())
    }
}

impl Table {
    /// Fills a table of `size` slots (a prime, see [`check_size`]). The outcome depends on the set of members, not on
    /// their order. Members beyond [`MAX_MEMBERS`] get no slots.
    pub fn build(members: &[Member], seed: Seed, size: u32) -> Table {
        let mut slots = vec![NOBODY; size as usize].into_boxed_slice();
        let mut turns: Vec<Turn> = members
            .iter()
            .enumerate()
            .take(MAX_MEMBERS)
            .filter(|(_, m)| m.weight > 0)
            .map(|(i, m)| Turn::new(i, m, seed, size))
            .collect();
        turns.sort_by(|a, b| members[usize::from(a.member)].identity.cmp(&members[usize::from(b.member)].identity));
        deal(&mut slots, &mut turns);

        // What is lent goes to those that take all of theirs. If nobody does, then to those that take some.
        let share = |member: u16| members.get(usize::from(member)).map_or(0, |m| m.share.min(100));
        let whole = turns.iter().any(|turn| share(turn.member) == 100);
        if turns.iter().any(|turn| share(turn.member) < 100) {
            for (slot, holder) in slots.iter_mut().enumerate() {
                let keeps = members.get(usize::from(*holder)).is_some_and(|m| m.share > 0 && (!whole || m.takes(slot)));
                if !keeps {
                    *holder = NOBODY;
                }
            }
            turns.retain(|turn| if whole { share(turn.member) == 100 } else { share(turn.member) > 0 });
            turns.iter_mut().for_each(Turn::restart);
            deal(&mut slots, &mut turns);
        }
        Table { slots }
    }

    /// The slot of a hash value: its upper half scaled to the table's size, a multiplication instead of a division.
    #[inline]
    pub fn slot(&self, hash: u64) -> usize {
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    /// Who holds `slot`; `None` if nobody is in service.
    #[inline]
    pub fn member(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot).copied().filter(|&member| member != NOBODY).map(usize::from)
    }

    /// How many slots the table has.
    pub fn size(&self) -> usize {
        self.slots.len()
    }

    /// Slots per member, for a list of `members` members.
    pub fn shares(&self, members: usize) -> Vec<usize> {
        let mut shares = vec![0; members];
        for &slot in &self.slots {
            if let Some(share) = shares.get_mut(usize::from(slot)) {
                *share += 1;
            }
        }
        shares
    }
}

/// A member's walk through its own permutation of the slots.
struct Turn {
    member: u16,
    weight: u64,
    credit: u64,
    first: u64,
    at: u64,
    skip: u64,
}

impl Turn {
    fn new(index: usize, member: &Member, seed: Seed, size: u32) -> Turn {
        let (k0, k1) = seed.keys();
        let identity = member.identity.as_bytes();
        // Two independent values: one hash under two keys.
        let offset = SipHasher13::new_with_keys(k0, k1).hash(identity) % u64::from(size);
        let skip = SipHasher13::new_with_keys(k0, !k1).hash(identity) % u64::from(size - 1) + 1;
        Turn { member: index as u16, weight: u64::from(member.weight), credit: 0, first: offset, at: offset, skip }
    }

    fn restart(&mut self) {
        self.at = self.first;
        self.credit = 0;
    }

    /// Takes the first slot of the permutation that is still free. There must be one.
    fn take(&mut self, slots: &mut [u16]) {
        let size = slots.len() as u64;
        loop {
            let slot = self.at as usize;
            self.at = (self.at + self.skip) % size;
            if slots[slot] == NOBODY {
                slots[slot] = self.member;
                return;
            }
        }
    }
}

/// Deals the free slots: each round every member takes its turn, the heaviest each time, the others as often as their
/// weight asks.
fn deal(slots: &mut [u16], turns: &mut [Turn]) {
    let Some(heaviest) = turns.iter().map(|turn| turn.weight).max() else {
        return;
    };
    let mut free = slots.iter().filter(|&&slot| slot == NOBODY).count();
    loop {
        for turn in turns.iter_mut() {
            if free == 0 {
                return;
            }
            turn.credit += turn.weight;
            if turn.credit >= heaviest {
                turn.credit -= heaviest;
                turn.take(slots);
                free -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        weights.iter().enumerate().map(|(i, &weight)| Member::up(&format!("10.0.0.{i}"), weight)).collect()
    }

    fn build(members: &[Member]) -> Table {
        Table::build(members, Seed::default(), DEFAULT_SIZE)
    }

    #[test]
    fn slots_are_dealt_by_weight() {
        let shares = build(&members(&[1, 2, 5, 0])).shares(4);
        for (share, ideal) in shares.iter().zip([65537.0 / 8.0, 65537.0 / 4.0, 65537.0 * 5.0 / 8.0, 0.0]) {
            assert!((*share as f64 - ideal).abs() <= 2.0, "{shares:?}");
        }
    }

    #[test]
    fn order_in_the_list_does_not_matter() {
        let list = members(&[1, 3, 2]);
        let mut reversed = list.clone();
        reversed.reverse();
        let (a, b) = (build(&list), build(&reversed));
        assert!((0..a.size()).all(|slot| a.member(slot) == b.member(slot).map(|m| 2 - m)));
    }

    #[test]
    fn a_member_that_goes_down_moves_its_own_slots_only_and_they_come_back() {
        let all = members(&[1; 10]);
        let before = build(&all);
        let mut without = all.clone();
        without[3].share = 0;
        let during = build(&without);
        assert!((0..before.size()).all(|s| before.member(s) == during.member(s) || before.member(s) == Some(3)));
        let shares = during.shares(10);
        assert_eq!(shares[3], 0);
        assert!(shares.iter().enumerate().all(|(i, s)| i == 3 || s.abs_diff(65537 / 9) < 200), "{shares:?}");
        assert!(build(&all) == before);
    }

    #[test]
    fn a_member_that_returns_slowly_takes_its_slots_back_bit_by_bit_and_nobody_elses() {
        let all = members(&[1, 2, 1, 1]);
        let whole = build(&all);
        let mut before = None::<Table>;
        for share in [0, 1, 10, 40, 75, 99, 100] {
            let mut list = all.clone();
            list[1].share = share;
            let now = build(&list);
            assert!((0..now.size()).all(|s| now.member(s) == whole.member(s) || whole.member(s) == Some(1)));
            let part = now.shares(4)[1] as f64 / whole.shares(4)[1] as f64 * 100.0;
            assert!((part - f64::from(share)).abs() < 2.0, "{share} % of its slots: {part}");
            if let Some(before) = before {
                assert!((0..now.size()).all(|s| before.member(s) != Some(1) || now.member(s) == Some(1)));
            }
            before = Some(now);
        }
        assert!(before == Some(whole));
    }

    #[test]
    fn when_all_return_at_once_they_share_everything() {
        let mut list = members(&[1, 1, 1]);
        list[0].share = 0;
        list[1].share = 5;
        list[2].share = 5;
        let shares = build(&list).shares(3);
        assert!(shares[0] == 0 && shares[1].abs_diff(shares[2]) < 400, "{shares:?}");
    }

    #[test]
    fn nobody_in_service_is_nobody() {
        assert_eq!(build(&[]).member(0), None);
        let mut one = members(&[1]);
        one[0].share = 0;
        assert_eq!(build(&one).member(7), None);
        assert_eq!(build(&members(&[0, 0])).member(7), None);
    }

    #[test]
    fn only_primes_are_sizes() {
        assert_eq!(check_size(65537), Ok(65537));
        for bad in [0, 1, 2, 65536, 65539 * 3, u32::MAX] {
            assert_eq!(check_size(bad), Err(BadSize(bad)));
        }
    }
}

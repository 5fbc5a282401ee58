//! Who has been tried for a connection already.

use super::Choice;

/// So many servers are remembered without an allocation.
const FEW: usize = 7;

/// What has been tried for one connection and failed: servers by their index, the emergency and the abuse server.
/// 40 bytes; it allocates only when more than seven servers have failed.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    few: [u16; FEW],
    count: u8,
    emergency: bool,
    abuse: bool,
    /// A bit for each server beyond the first few.
    more: Vec<u64>,
}

impl Tried {
    /// Nobody yet.
    pub fn new() -> Tried {
        Tried::default()
    }

    /// `choice` was tried, and failed.
    pub fn add(&mut self, choice: Choice) {
        match choice {
            Choice::Server(index) => self.add_server(index),
            Choice::Emergency => self.emergency = true,
            Choice::Abuse => self.abuse = true,
            Choice::Refuse(_) => {}
        }
    }

    fn add_server(&mut self, index: usize) {
        if self.contains(index) {
            return;
        }
        if let (Some(place), Ok(small)) = (self.few.get_mut(usize::from(self.count)), u16::try_from(index)) {
            *place = small;
            self.count += 1;
            return;
        }
        let word = index / 64;
        if self.more.len() <= word {
            self.more.resize(word + 1, 0);
        }
        self.more[word] |= 1 << (index % 64);
    }

    /// Was server number `index` tried?
    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        self.few[..usize::from(self.count)].iter().any(|&tried| usize::from(tried) == index)
            || self.more.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Was no server tried?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.more.is_empty()
    }

    /// How many servers were tried.
    pub fn len(&self) -> usize {
        usize::from(self.count) + self.more.iter().map(|word| word.count_ones() as usize).sum::<usize>()
    }

    /// Was the emergency server tried?
    pub fn emergency(&self) -> bool {
        self.emergency
    }

    /// Was the abuse server tried?
    pub fn abuse(&self) -> bool {
        self.abuse
    }

    /// As new, for the next request of the same connection; what was allocated stays.
    pub fn clear(&mut self) {
        let mut more = std::mem::take(&mut self.more);
        more.clear();
        *self = Tried { more, ..Tried::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::select::Why;

    #[test]
    fn it_holds_what_was_added_and_nothing_else() {
        let mut tried = Tried::new();
        let added = [3, 0, 63, 64, 4095, 7, 8, 65, 128, 70_000, 3, 65];
        for index in added {
            tried.add(Choice::Server(index));
        }
        assert!((0..80_000).all(|index| tried.contains(index) == added.contains(&index)));
        assert_eq!(tried.len(), 10);
        tried.clear();
        assert!(tried.is_empty() && (0..80_000).all(|index| !tried.contains(index)));
    }

    #[test]
    fn the_others_are_told_apart_from_servers() {
        let mut tried = Tried::new();
        tried.add(Choice::Refuse(Why::Down));
        tried.add(Choice::Emergency);
        assert!(tried.is_empty() && tried.emergency() && !tried.abuse());
        tried.add(Choice::Abuse);
        assert!(tried.abuse());
    }
}

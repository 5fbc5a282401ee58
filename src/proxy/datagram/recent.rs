//! A table whose entries are also in the order in which they were last of use.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use slab::Slab;

const NOBODY: usize = usize::MAX;

struct Node<K, V> {
    key: K,
    value: V,
    used: Instant,
    newer: usize,
    older: usize,
}

/// The table. Its places are numbers; one that was removed is given to another later.
pub(super) struct Recent<K, V> {
    nodes: Slab<Node<K, V>>,
    places: HashMap<K, usize>,
    newest: usize,
    oldest: usize,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new() -> Recent<K, V> {
        Recent { nodes: Slab::new(), places: HashMap::new(), newest: NOBODY, oldest: NOBODY }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn find(&self, key: &K) -> Option<usize> {
        self.places.get(key).copied()
    }

    pub(super) fn get(&self, place: usize) -> Option<&V> {
        self.nodes.get(place).map(|node| &node.value)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut V> {
        self.nodes.get_mut(place).map(|node| &mut node.value)
    }

    /// The place that the next entry gets.
    pub(super) fn next_place(&self) -> usize {
        self.nodes.vacant_key()
    }

    /// Puts in what is used `now`; there must not be one of that key.
    pub(super) fn insert(&mut self, key: K, value: V, now: Instant) -> usize {
        let place = self.nodes.insert(Node { key, value, used: now, newer: NOBODY, older: NOBODY });
        let elder = self.places.insert(key, place);
        debug_assert!(elder.is_none(), "two entries of one key");
        self.link(place);
        place
    }

    /// It is used `now`, which is not before any other time that was given.
    pub(super) fn touch(&mut self, place: usize, now: Instant) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        node.used = now;
        if self.newest != place {
            self.unlink(place);
            self.link(place);
        }
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<V> {
        if !self.nodes.contains(place) {
            return None;
        }
        self.unlink(place);
        let node = self.nodes.remove(place);
        self.places.remove(&node.key);
        Some(node.value)
    }

    /// What has not been used for longest, and since when.
    pub(super) fn oldest(&self) -> Option<(usize, Instant)> {
        self.nodes.get(self.oldest).map(|node| (self.oldest, node.used))
    }

    pub(super) fn places(&self) -> Vec<usize> {
        self.nodes.iter().map(|(place, _)| place).collect()
    }

    fn link(&mut self, place: usize) {
        let older = std::mem::replace(&mut self.newest, place);
        let node = &mut self.nodes[place];
        (node.newer, node.older) = (NOBODY, older);
        match self.nodes.get_mut(older) {
            Some(older) => older.newer = place,
            None => self.oldest = place,
        }
    }

    fn unlink(&mut self, place: usize) {
        let (newer, older) = (self.nodes[place].newer, self.nodes[place].older);
        match self.nodes.get_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list that is kept in order.
        #[test]
        fn entries_are_found_and_are_in_the_order_of_their_use(steps in prop::collection::vec((0..3u8, 0..8u16), 0..200)) {
            let start = Instant::now();
            let (mut recent, mut list) = (Recent::new(), Vec::new());
            for (n, (what, key)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(n as u64);
                let place = recent.find(&key);
                prop_assert_eq!(place.is_some(), list.iter().any(|(k, _)| *k == key));
                match (what, place) {
                    (0, None) => {
                        recent.insert(key, key * 2, now);
                        list.push((key, now));
                    }
                    (1, Some(place)) => {
                        recent.touch(place, now);
                        list.retain(|(k, _)| *k != key);
                        list.push((key, now));
                    }
                    (2, Some(place)) => {
                        prop_assert_eq!(recent.remove(place), Some(key * 2));
                        list.retain(|(k, _)| *k != key);
                    }
                    _ => {}
                }
                prop_assert_eq!(recent.is_empty(), list.is_empty());
                let oldest = recent.oldest().map(|(place, used)| (*recent.get(place).unwrap() / 2, used));
                prop_assert_eq!(oldest, list.first().copied());
            }
            // One after the other, the oldest first.
            for (key, used) in list {
                let (place, since) = recent.oldest().unwrap();
                prop_assert_eq!((recent.remove(place), since), (Some(key * 2), used));
            }
            prop_assert_eq!(recent.oldest(), None);
        }
    }
}

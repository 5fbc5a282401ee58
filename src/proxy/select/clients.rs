//! The table of clients: who was sent where, and when. When it is full, the one that has been silent longest goes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// No place.
const NONE: u32 = u32::MAX;
/// A smaller table is in one part, so that the client that goes is exactly the one that has been silent longest. In a
/// larger one that is so within each part, and a part may be full a little before the whole is.
const SMALLEST_SPLIT: u32 = 2048;
const PARTS: u32 = 16;

/// A client and where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// The client.
    pub address: IpAddr,
    /// The server's [`Servers::id`](super::Servers::id).
    pub id: u32,
    /// When it last connected.
    pub at: Instant,
}

/// The table. Event loops share it; each of its parts is locked for the time of one look-up.
#[derive(Debug)]
pub struct Clients {
    parts: Box<[Part]>,
    /// Keyed by chance, so that nobody can fill one part on purpose.
    hasher: RandomState,
    capacity: u32,
}

/// Its own cache line, so that neighbours do not wait for each other.
#[derive(Debug)]
#[repr(align(64))]
struct Part(Mutex<Queue>);

/// Clients, the one that connected last first.
#[derive(Debug)]
struct Queue {
    places: HashMap<IpAddr, u32>,
    nodes: Vec<Node>,
    newest: u32,
    oldest: u32,
    capacity: u32,
}

#[derive(Debug)]
struct Node {
    client: Recent,
    newer: u32,
    older: u32,
}

impl Clients {
    /// A table for up to `capacity` clients; with 0 it stays empty.
    pub fn new(capacity: u32) -> Clients {
        let parts = if capacity < SMALLEST_SPLIT { 1 } else { PARTS };
        let part = |n| Part(Mutex::new(Queue::new(capacity / parts + u32::from(n < capacity % parts))));
        Clients { parts: (0..parts).map(part).collect(), hasher: RandomState::new(), capacity }
    }

    /// How many clients it has room for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many it knows, those included whose time is over.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.0.lock().nodes.len()).sum()
    }

    /// Does it know nobody?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where `address` was, if that is less than `tracking` ago (zero: whenever it was).
    pub fn find(&self, address: IpAddr, tracking: Duration, now: Instant) -> Option<u32> {
        let queue = self.part(address).lock();
        let client = queue.nodes[*queue.places.get(&address)? as usize].client;
        (tracking.is_zero() || now.saturating_duration_since(client.at) < tracking).then_some(client.id)
    }

    /// `address` has connected to server `id`.
    pub fn note(&self, address: IpAddr, id: u32, now: Instant) {
        self.part(address).lock().put(Recent { address, id, at: now });
    }

    /// Forgets `address`.
    pub fn forget(&self, address: IpAddr) {
        self.part(address).lock().remove(address);
    }

    /// Those that connected within the last `within`, the latest first, at most `limit` of them.
    pub fn recent(&self, within: Duration, limit: usize, now: Instant) -> Vec<Recent> {
        let mut found = Vec::new();
        for part in &self.parts {
            let queue = part.0.lock();
            let young = |client: &Recent| now.saturating_duration_since(client.at) <= within;
            found.extend(queue.newest_first().take_while(young).take(limit));
        }
        found.sort_by_key(|client| std::cmp::Reverse(client.at));
        found.truncate(limit);
        found
    }

    /// Takes over what `other` knows, as far as there is room.
    pub fn take_over(&self, other: &Clients) {
        let mut all: Vec<Recent> = Vec::new();
        for part in &other.parts {
            all.extend(part.0.lock().newest_first());
        }
        all.sort_by_key(|client| client.at);
        for client in all {
            self.part(client.address).lock().put(client);
        }
    }

    fn part(&self, address: IpAddr) -> &Mutex<Queue> {
        let number = match self.parts.len() {
            1 => 0,
            parts => self.hasher.hash_one(address) as usize % parts,
        };
        &self.parts[number].0
    }
}

impl Queue {
    fn new(capacity: u32) -> Queue {
        Queue { places: HashMap::new(), nodes: Vec::new(), newest: NONE, oldest: NONE, capacity }
    }

    fn put(&mut self, client: Recent) {
        let place = match self.places.get(&client.address) {
            Some(&place) => place,
            None if self.capacity == 0 => return,
            None if self.nodes.len() < self.capacity as usize => {
                self.nodes.push(Node { client, newer: NONE, older: NONE });
                let place = self.nodes.len() as u32 - 1;
                self.places.insert(client.address, place);
                self.push_newest(place);
                return;
            }
            None => {
                let place = self.oldest;
                self.places.remove(&self.nodes[place as usize].client.address);
                self.places.insert(client.address, place);
                place
            }
        };
        self.nodes[place as usize].client = client;
        if self.newest != place {
            self.unlink(place);
            self.push_newest(place);
        }
    }

    fn remove(&mut self, address: IpAddr) {
        let Some(place) = self.places.remove(&address) else {
            return;
        };
        self.unlink(place);
        self.nodes.swap_remove(place as usize);
        // The last one has moved to its place.
        if let Some(moved) = self.nodes.get(place as usize) {
            let (newer, older, address) = (moved.newer, moved.older, moved.client.address);
            self.places.insert(address, place);
            self.link(newer, place);
            self.link(place, older);
        }
    }

    fn unlink(&mut self, place: u32) {
        let Node { newer, older, .. } = self.nodes[place as usize];
        self.link(newer, older);
    }

    fn push_newest(&mut self, place: u32) {
        let newest = self.newest;
        self.link(place, newest);
        self.link(NONE, place);
    }

    /// Makes two places neighbours; instead of one there may be the end.
    fn link(&mut self, newer: u32, older: u32) {
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = Recent> + '_ {
        let node = |place: u32| self.nodes.get(place as usize);
        std::iter::successors(node(self.newest), move |at| node(at.older)).map(|node| node.client)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn the_one_that_was_silent_longest_makes_room() {
        let (clients, begin) = (Clients::new(3), Instant::now());
        for (second, n) in [1, 2, 3, 1, 4].into_iter().enumerate() {
            clients.note(address(n), n, after(begin, second as u64));
        }
        let known = |n| clients.find(address(n), Duration::ZERO, begin);
        assert_eq!([known(1), known(2), known(3), known(4)], [Some(1), None, Some(3), Some(4)]);
        let order: Vec<_> = clients.recent(Duration::from_secs(9), 9, after(begin, 5)).iter().map(|c| c.id).collect();
        assert_eq!(order, [4, 1, 3]);
    }

    #[test]
    fn the_order_is_right_after_any_notes_and_removals() {
        let (clients, begin) = (Clients::new(8), Instant::now());
        let mut model: Vec<u32> = Vec::new();
        let mut state = 1u64;
        for second in 0..20_000 {
            state = crate::health::scatter(state);
            let n = (state >> 8) as u32 % 16;
            model.retain(|&other| other != n);
            if state.is_multiple_of(5) {
                clients.forget(address(n));
            } else {
                clients.note(address(n), n, after(begin, second));
                model.insert(0, n);
                model.truncate(8);
            }
            let now: Vec<u32> =
                clients.recent(Duration::MAX, usize::MAX, after(begin, second)).iter().map(|c| c.id).collect();
            assert_eq!(now, model, "after {second} steps");
            assert!((0..16).all(|n| clients.find(address(n), Duration::ZERO, begin).is_some() == model.contains(&n)));
        }
    }

    #[test]
    fn clients_are_forgotten_when_their_time_is_over() {
        let (clients, begin) = (Clients::new(3), Instant::now());
        clients.note(address(1), 7, begin);
        let tracking = Duration::from_secs(10);
        assert_eq!(clients.find(address(1), tracking, after(begin, 9)), Some(7));
        assert_eq!(clients.find(address(1), tracking, after(begin, 10)), None);
        assert_eq!(clients.find(address(1), Duration::ZERO, after(begin, 10_000)), Some(7));
    }

    #[test]
    fn a_large_table_holds_about_what_was_asked_for_and_never_more() {
        let (clients, begin) = (Clients::new(10_000), Instant::now());
        for n in 0..100_000 {
            clients.note(address(n), n, after(begin, u64::from(n)));
        }
        assert_eq!(clients.len(), 10_000);
        let last = (90_000..100_000).filter(|&n| clients.find(address(n), Duration::ZERO, begin).is_some()).count();
        assert!(last > 9_500, "{last} of the last 10,000 are known");
        assert_eq!(clients.recent(Duration::MAX, 5, after(begin, 200_000)).first().map(|c| c.id), Some(99_999));
    }

    #[test]
    fn another_size_takes_over_the_latest() {
        let (clients, begin) = (Clients::new(100), Instant::now());
        for n in 0..100 {
            clients.note(address(n), n, after(begin, u64::from(n)));
        }
        let smaller = Clients::new(10);
        smaller.take_over(&clients);
        assert!((0..100).all(|n| smaller.find(address(n), Duration::ZERO, begin).is_some() == (n >= 90)));
        let none = Clients::new(0);
        none.take_over(&clients);
        assert!(none.is_empty());
    }
}

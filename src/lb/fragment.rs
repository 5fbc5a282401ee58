//! Which backend has the first fragment of a datagram: a bounded table with a timeout.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::Seed;
use crate::verdict::DropReason;
use crate::wire::ip::{self, protocol};

/// Datagrams that are remembered at a time.
pub const DEFAULT_ENTRIES: usize = 4096;
/// How long: as long as receivers wait for the rest (Linux `ipfrag_time`).
pub const TIMEOUT: Duration = Duration::from_secs(30);

const WAYS: usize = 8;

/// Where the first fragment of a datagram went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To backend number so-and-so.
    Backend(usize),
    /// It was left to the host.
    Host,
    /// It went no further.
    Nowhere(DropReason),
}

/// What the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: u8,
}

impl Key {
    /// The key of the packet with the IP header `header`, which is the part `fragment`.
    pub fn new(header: &ip::Header, fragment: ip::Fragment) -> Key {
        // In IPv6 the header behind the fragment header is that of the first part only, no property of all parts.
        let protocol = if header.source.is_ipv4() { header.protocol } else { protocol::FRAGMENT };
        Key { source: header.source, destination: header.destination, id: fragment.id, protocol }
    }

    fn hash(&self, seed: Seed) -> u64 {
        let mut bytes = [0u8; 37];
        let addresses = match (self.source, self.destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                bytes[..4].copy_from_slice(&s.octets());
                bytes[4..8].copy_from_slice(&d.octets());
                8
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                bytes[..16].copy_from_slice(&s.octets());
                bytes[16..32].copy_from_slice(&d.octets());
                32
            }
            // No packet has addresses of two families.
            _ => 0,
        };
        bytes[addresses..addresses + 4].copy_from_slice(&self.id.to_be_bytes());
        bytes[addresses + 4] = self.protocol;
        let (k0, k1) = seed.keys();
        SipHasher13::new_with_keys(k0, k1).hash(&bytes[..addresses + 5])
    }
}

#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    destination: Destination,
    expires: Instant,
}

/// A set-associative table of fixed size: when a set is full, the entry that would expire first makes room.
pub struct FragmentTable {
    seed: Seed,
    sets: Box<[[Option<Entry>; WAYS]]>,
}

impl FragmentTable {
    /// A table for about `entries` datagrams (rounded up to a power of two).
    pub fn new(seed: Seed, entries: usize) -> FragmentTable {
        let sets = (entries.max(WAYS) / WAYS).next_power_of_two();
        FragmentTable { seed, sets: vec![[None; WAYS]; sets].into_boxed_slice() }
    }

    fn set(&mut self, key: &Key) -> &mut [Option<Entry>; WAYS] {
        let index = key.hash(self.seed) as usize & (self.sets.len() - 1);
        &mut self.sets[index]
    }

    /// Remembers that the first fragment of the datagram `key` went to `destination`.
    pub fn insert(&mut self, key: Key, destination: Destination, now: Instant) {
        let entry = Entry { key, destination, expires: now + TIMEOUT };
        let set = self.set(&key);
        let way = set
            .iter()
            .position(|way| way.is_some_and(|e| e.key == key))
            .or_else(|| set.iter().position(|way| way.is_none_or(|e| e.expires <= now)))
            .or_else(|| (0..WAYS).min_by_key(|&way| set[way].map(|e| e.expires)));
        if let Some(way) = way {
            set[way] = Some(entry);
        }
    }

    /// Where the datagram `key` goes, if its first fragment has been seen in time.
    pub fn get(&mut self, key: &Key, now: Instant) -> Option<Destination> {
        let found = self.set(key).iter().flatten().find(|entry| entry.key == *key && entry.expires > now);
        found.map(|entry| entry.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> Key {
        Key {
            source: "192.0.2.1".parse().unwrap(),
            destination: "10.0.0.100".parse().unwrap(),
            id,
            protocol: protocol::UDP,
        }
    }

    #[test]
    fn remembers_until_the_timeout() {
        let now = Instant::now();
        let mut table = FragmentTable::new(Seed(1), 16);
        table.insert(key(1), Destination::Backend(3), now);
        assert_eq!(table.get(&key(1), now), Some(Destination::Backend(3)));
        assert_eq!(table.get(&key(2), now), None);
        assert_eq!(table.get(&key(1), now + TIMEOUT), None);
    }

    #[test]
    fn stays_bounded_and_keeps_the_newest() {
        let now = Instant::now();
        let mut table = FragmentTable::new(Seed(1), 16);
        for id in 0..10_000 {
            table.insert(key(id), Destination::Host, now + Duration::from_micros(u64::from(id)));
        }
        let later = now + Duration::from_millis(20);
        assert_eq!(table.get(&key(9_999), later), Some(Destination::Host));
        assert!((0..10_000).filter(|&id| table.get(&key(id), later).is_some()).count() <= 16);
    }
}

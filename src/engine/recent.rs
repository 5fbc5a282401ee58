//! The clients that have opened a flow lately, for the operator: a small table that forgets.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Clients that are remembered.
const PLACES: usize = 1024;

/// A client that has opened a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentClient {
    /// Its address.
    pub client: IpAddr,
    /// The number of the backend that serves it.
    pub backend: usize,
    /// When it last opened a flow.
    pub seen: Instant,
}

/// The clients of late, each in the place that its address has.
pub(super) struct Recent {
    places: Box<[Option<RecentClient>]>,
}

impl Recent {
    pub(super) fn new() -> Recent {
        Recent { places: vec![None; PLACES].into_boxed_slice() }
    }

    #[inline]
    pub(super) fn note(&mut self, client: IpAddr, backend: usize, now: Instant) {
        // Any spread will do: who knows it can keep others out of this list, and no more.
        let place = match client {
            IpAddr::V4(a) => a.to_bits().wrapping_mul(0x9e37_79b1) >> 22,
            IpAddr::V6(a) => ((a.to_bits() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as u32,
        };
        self.places[place as usize % PLACES] = Some(RecentClient { client, backend, seen: now });
    }

    /// Those of the last `within`, the latest first.
    pub(super) fn list(&self, now: Instant, within: Duration) -> Vec<RecentClient> {
        let fresh = |c: &&RecentClient| now.saturating_duration_since(c.seen) <= within;
        let mut list: Vec<RecentClient> = self.places.iter().flatten().filter(fresh).copied().collect();
        list.sort_by_key(|c| std::cmp::Reverse(c.seen));
        list
    }
}

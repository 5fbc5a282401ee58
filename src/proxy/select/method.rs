//! The methods: each as a search among the servers that will do.

use std::sync::atomic::Ordering;

use super::{Client, Selector, Servers, View};
use crate::config::proxy::Method;
use crate::health::scatter;
use crate::lb::Seed;
use crate::lb::maglev::{Member, Table};

/// How often a search by chance misses before it looks at all.
const DRAWS: u32 = 4;
/// How often a hash is hashed again before the list is searched.
const REHASHES: u32 = 16;
/// How often a turn that another event loop has taken is taken anew. After that two clients share a turn.
const CONTESTS: u32 = 4;

/// The slot table and what it was made of.
#[derive(Debug, Default)]
pub struct Ring {
    members: Vec<Member>,
    table: Option<Table>,
}

impl Ring {
    /// The table of `members`.
    pub fn build(members: Vec<Member>, seed: Seed, size: u32) -> Ring {
        let table = Some(Table::build(&members, seed, size));
        Ring { members, table }
    }

    /// Was it made of `members`?
    pub fn is_of(&self, members: &[Member]) -> bool {
        self.table.is_some() && self.members == members
    }

    /// Who holds the slot of `hash`.
    fn member(&self, hash: u64) -> Option<usize> {
        self.table.as_ref().and_then(|table| table.member(table.slot(hash)))
    }
}

impl Selector {
    /// The method's first choice, whether that serves or not.
    pub(super) fn first<S: Servers + ?Sized>(&self, servers: &S, client: &Client) -> Option<usize> {
        let hash = self.hash_of(client);
        let computed = match self.selection.method {
            Method::Hash => hash.and_then(|hash| modulo(hash, servers.len())),
            Method::Consistent => hash.and_then(|hash| self.holder(hash, servers.len())),
            _ => None,
        };
        computed.or_else(|| self.search(servers, client, |_, view| view.is_candidate()))
    }

    /// The method's choice among those that will do.
    pub(super) fn search<S: Servers + ?Sized>(
        &self,
        servers: &S,
        client: &Client,
        will_do: impl Fn(usize, &View) -> bool,
    ) -> Option<usize> {
        let view = |index: usize| Some(servers.view(index, client)).filter(|view| will_do(index, view));
        let count = servers.len();
        match (self.selection.method, self.hash_of(client)) {
            (Method::RoundRobin, _) | (Method::Hash | Method::Consistent, None) => {
                self.turn(count, |index| view(index).is_some())
            }
            (Method::Hash, Some(hash)) => {
                let first = modulo(hash, count)?;
                around(first, count).find(|&index| view(index).is_some())
            }
            (Method::Consistent, Some(hash)) => self.by_slot(hash, count, |index| view(index).is_some()),
            (Method::Weight, _) => self.least(count, view, lighter),
            (Method::LeastConnections, _) => self.least(count, view, |a, b| a.connections < b.connections),
            (Method::Prio, _) => self.least(count, view, |a, b| a.prio < b.prio),
            (Method::PowerOfTwo, _) => self.of_two(count, view),
        }
    }

    fn hash_of(&self, client: &Client) -> Option<u64> {
        match self.selection.method {
            Method::Hash | Method::Consistent => client.address.map(|address| self.hash.of(address, client.port)),
            _ => None,
        }
    }

    /// The next that will do, after the one that was chosen last.
    fn turn(&self, count: usize, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        let mut last = self.last.load(Ordering::Relaxed);
        let mut contests = 0;
        loop {
            let found = around(after(last, count), count).find(|&index| will_do(index))?;
            match self.last.compare_exchange_weak(last, found, Ordering::Relaxed, Ordering::Relaxed) {
                Err(other) if contests < CONTESTS => last = other,
                _ => return Some(found),
            }
            contests += 1;
        }
    }

    /// The best of those that will do; of equals the next after the one that was chosen last.
    fn least(
        &self,
        count: usize,
        view: impl Fn(usize) -> Option<View>,
        is_better: impl Fn(&View, &View) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(usize, View)> = None;
        for index in around(after(self.last.load(Ordering::Relaxed), count), count) {
            if let Some(view) = view(index)
                && best.as_ref().is_none_or(|(_, best)| is_better(&view, best))
            {
                best = Some((index, view));
            }
        }
        let (index, _) = best?;
        self.last.store(index, Ordering::Relaxed);
        Some(index)
    }

    /// The better of two different ones that are drawn.
    fn of_two(&self, count: usize, view: impl Fn(usize) -> Option<View>) -> Option<usize> {
        let (one, one_view) = self.draw(count, None, &view)?;
        match self.draw(count, Some(one), &view) {
            Some((other, other_view)) if lighter(&other_view, &one_view) => Some(other),
            _ => Some(one),
        }
    }

    /// Any that will do, but `not` that one.
    fn draw(&self, count: usize, not: Option<usize>, view: impl Fn(usize) -> Option<View>) -> Option<(usize, View)> {
        let seen = |index: usize| if not == Some(index) { None } else { view(index).map(|view| (index, view)) };
        let mut drawn = 0;
        for _ in 0..DRAWS {
            let draw = self.draws.fetch_add(1, Ordering::Relaxed);
            drawn = modulo(scatter(draw), count)?;
            if let Some(found) = seen(drawn) {
                return Some(found);
            }
        }
        around(drawn, count).find_map(seen)
    }

    /// Who holds the slot of `hash`.
    fn holder(&self, hash: u64, count: usize) -> Option<usize> {
        // The list may have become shorter since.
        self.ring.read().member(hash).filter(|&index| index < count)
    }

    /// Who holds the slot of `hash`, or of its hash, and so on: the clients of one that does not serve are spread over
    /// all others, and each finds the same again.
    fn by_slot(&self, hash: u64, count: usize, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = hash;
        for _ in 0..=REHASHES {
            if let Some(index) = self.holder(at, count).filter(|&index| will_do(index)) {
                return Some(index);
            }
            at = scatter(at);
        }
        around(modulo(hash, count)?, count).find(|&index| will_do(index))
    }
}

/// Has `a` fewer connections for its weight than `b`? Weights are compared without a division.
fn lighter(a: &View, b: &View) -> bool {
    u64::from(a.connections) * u64::from(b.weight) < u64::from(b.connections) * u64::from(a.weight)
}

fn modulo(hash: u64, count: usize) -> Option<usize> {
    (count > 0).then(|| (hash % count as u64) as usize)
}

/// The place behind `last`, which may be none.
fn after(last: usize, count: usize) -> usize {
    let next = last.wrapping_add(1);
    if next < count { next } else { 0 }
}

/// All places from `first` on, once around.
fn around(first: usize, count: usize) -> impl Iterator<Item = usize> {
    (first..count).chain(0..first.min(count))
}

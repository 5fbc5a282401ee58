//! Disjoint intervals of addresses, sorted: what a list of rules comes to.

use std::collections::BTreeSet;

use super::Action;

/// An address as a number.
pub(super) trait Number: Copy + Ord {
    /// The last of them.
    const LAST: Self;

    /// The number behind this one, unless this is the last.
    fn next(self) -> Option<Self>;

    /// The number before this one; of the first, that itself.
    fn previous(self) -> Self;
}

impl Number for u32 {
    const LAST: u32 = u32::MAX;

    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }

    fn previous(self) -> u32 {
        self.saturating_sub(1)
    }
}

impl Number for u128 {
    const LAST: u128 = u128::MAX;

    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }

    fn previous(self) -> u128 {
        self.saturating_sub(1)
    }
}

/// Intervals (first, last), ascending, none touching another.
#[derive(Clone, Debug)]
pub(super) struct Intervals<N>(Box<[(N, N)]>);

impl<N> Default for Intervals<N> {
    fn default() -> Intervals<N> {
        Intervals(Box::default())
    }
}

impl<N: Number> Intervals<N> {
    /// The numbers that `rules` permit when the first that matches counts; each is a range (first, last).
    pub(super) fn compile(rules: impl Iterator<Item = ((N, N), Action)>) -> Intervals<N> {
        let rules: Vec<_> = rules.collect();
        // Where each rule begins to match, and where it does no longer.
        let mut edges = Vec::with_capacity(2 * rules.len());
        for (index, &((first, last), _)) in rules.iter().enumerate() {
            edges.push((first, index));
            edges.extend(last.next().map(|behind| (behind, index)));
        }
        edges.sort_unstable();

        let mut intervals = Vec::new();
        // The rules that match between this edge and the next; the first of them counts.
        let mut matching: BTreeSet<usize> = BTreeSet::new();
        let mut begun: Option<N> = None;
        for edge in edges.chunk_by(|a, b| a.0 == b.0) {
            for &(_, index) in edge {
                if !matching.remove(&index) {
                    matching.insert(index);
                }
            }
            let permitted = matching.first().is_some_and(|&index| rules[index].1 == Action::Permit);
            let at = edge[0].0;
            match begun {
                None if permitted => begun = Some(at),
                Some(first) if !permitted => {
                    intervals.push((first, at.previous()));
                    begun = None;
                }
                _ => {}
            }
        }
        // What has no end reaches to the last address.
        intervals.extend(begun.map(|first| (first, N::LAST)));
        Intervals(intervals.into())
    }

    /// Is `number` in one of them?
    #[inline]
    pub(super) fn contains(&self, number: N) -> bool {
        let behind = self.0.partition_point(|&(first, _)| first <= number);
        behind.checked_sub(1).and_then(|n| self.0.get(n)).is_some_and(|&(_, last)| number <= last)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (N, N)> {
        self.0.iter().copied()
    }
}

//! How clients choose now, and how they chose before the last changes.

use std::time::{Duration, Instant};

use crate::lb::Generation;

/// Generations that are remembered beside the current one.
const MOST: usize = 8;

/// The generations. Of those that were replaced lately the oldest is the one that counts: a flow that is not remembered
/// was opened before this process began to remember.
pub(super) struct Generations {
    current: Generation,
    /// Oldest first, with the time at which each was replaced.
    elders: Vec<(Generation, Instant)>,
}

impl Generations {
    pub(super) fn new(current: Generation) -> Generations {
        Generations { current, elders: Vec::new() }
    }

    pub(super) fn current(&self) -> &Generation {
        &self.current
    }

    pub(super) fn previous(&self) -> Option<&Generation> {
        self.elders.first().map(|(generation, _)| generation)
    }

    /// `next` replaces the current one.
    pub(super) fn replace(&mut self, next: Generation, now: Instant) {
        let replaced = std::mem::replace(&mut self.current, next);
        if self.elders.len() >= MOST {
            // The oldest decides; one in the middle is missed least.
            self.elders.remove(1);
        }
        self.elders.push((replaced, now));
    }

    /// Forgets those that were replaced longer ago than `lifetime`. Has the one that counts changed?
    pub(super) fn expire(&mut self, lifetime: Duration, now: Instant) -> bool {
        let before = self.elders.len();
        self.elders.retain(|(_, replaced)| *replaced + lifetime > now);
        self.elders.len() != before
    }

    /// When the next one is to be forgotten.
    pub(super) fn deadline(&self, lifetime: Duration) -> Option<Instant> {
        self.elders.first().map(|(_, replaced)| *replaced + lifetime)
    }

    /// A backend's number means another one from now on: what was chosen by it means nothing.
    pub(super) fn forget(&mut self) {
        self.elders.clear();
    }
}

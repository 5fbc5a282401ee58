//! What goes over a connection is added to its server's statistics while it goes, not only at the end.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::core::Core;
use super::server::Server;
use super::wheel::{Tick, ticks};

/// How often, at most.
const BETWEEN: Duration = Duration::from_secs(1);

/// What has been counted of a connection.
pub(super) struct Counted {
    /// Bytes to the server, and from it.
    bytes: (u64, u64),
    /// When.
    last: Tick,
}

impl Counted {
    /// Nothing, so far.
    pub(super) fn begin(core: &Core) -> Counted {
        Counted { bytes: (0, 0), last: core.tick }
    }

    /// Is it time to count?
    pub(super) fn is_due(&self, core: &Core) -> bool {
        core.tick >= self.last + ticks(BETWEEN)
    }

    /// When it will be; never, if these are the bytes that have been counted.
    pub(super) fn due(&self, bytes: (u64, u64)) -> Tick {
        if bytes == self.bytes { Tick::MAX / 2 } else { self.last + ticks(BETWEEN) }
    }

    /// Adds what has come since the last time to the statistics of `server`: `bytes` to it, and from it, in all.
    pub(super) fn count(&mut self, core: &Core, server: &Server, bytes: (u64, u64)) {
        server.sent.fetch_add(bytes.0.saturating_sub(self.bytes.0), Relaxed);
        server.received.fetch_add(bytes.1.saturating_sub(self.bytes.1), Relaxed);
        *self = Counted { bytes, last: core.tick };
    }
}

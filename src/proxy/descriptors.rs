//! Which descriptors are left to those who need them most.

use std::os::fd::RawFd;
use std::sync::OnceLock;

use crate::os;

/// Those from this number on are for servers of clients that have been accepted, and for commands: an eighth of what the
/// process may have, 256 at most. As the lowest number that is free is given (open(2)), it tells how many there are.
pub(super) fn reserved() -> RawFd {
    // The limit is raised at the start, and stays then.
    static FIRST: OnceLock<RawFd> = OnceLock::new();
    *FIRST.get_or_init(|| {
        let most = os::file_limit();
        most - (most / 8).clamp(0, 256)
    })
}

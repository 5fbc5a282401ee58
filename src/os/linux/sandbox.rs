//! Giving up what is not needed any more: Linux has no capabilities of descriptors.

use std::io;
use std::os::fd::BorrowedFd;

/// Limits what a netmap descriptor is good for: not here. What the process may do is limited by its own capabilities,
/// see [`super::drop_privileges`].
///
/// # Errors
/// None.
pub fn limit_netmap(_netmap: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

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

/// Would enter capability mode, which is FreeBSD's.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`], always.
pub fn enter_capability_mode() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "capability mode is FreeBSD's, see capsicum(4)"))
}

//! Becoming another user.

use nix::unistd::{User, setgid, setgroups, setuid};

use crate::failure::{Failure, Sysexit};
use crate::os::Kept;

/// Who is not root any more cannot be given a part of what root may.
pub const KEEPS_CAPABILITIES: bool = false;

/// Becomes `user` for good; the netmap or bpf descriptor stays open. An interface that goes away and returns is set up
/// again by its keeper, see [`crate::os::Setup`], but cannot be opened then, unless the user may open /dev/netmap or bpf
/// devices; nothing of `kept` can be had without root.
///
/// # Errors
/// Not permitted.
pub fn drop_privileges(user: &User, _kept: Kept) -> Result<(), Failure> {
    let refused = |what: &str, e: nix::Error| {
        Failure::new(
            Sysexit::NoPerm,
            format!("cannot become user {:?} ({what}: {e}); start as root, or leave -u out", user.name),
        )
    };
    setgroups(&[user.gid]).map_err(|e| refused("setgroups", e))?;
    setgid(user.gid).map_err(|e| refused("setgid", e))?;
    setuid(user.uid).map_err(|e| refused("setuid", e))
}

//! Becoming another user, with just the capabilities that are still needed.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{User, setgid, setgroups, setuid};

use crate::failure::{Failure, Sysexit};
use crate::os::Kept;

/// One that has become another user keeps the capabilities that it needs.
pub const KEEPS_CAPABILITIES: bool = true;

/// Becomes `user` for good, with the capabilities that `kept` takes. Before any thread is started, as capabilities are a
/// thread's.
///
/// # Errors
/// Not permitted.
pub fn drop_privileges(user: &User, kept: Kept) -> Result<(), Failure> {
    let refused = |what: &str, e: &dyn std::fmt::Display| {
        Failure::new(
            Sysexit::NoPerm,
            format!("cannot become user {:?} ({what}: {e}); start as root, or leave -u out", user.name),
        )
    };
    prctl::set_keepcaps(true).map_err(|e| refused("keepcaps", &e))?;
    setgroups(&[user.gid]).map_err(|e| refused("setgroups", &e))?;
    setgid(user.gid).map_err(|e| refused("setgid", &e))?;
    setuid(user.uid).map_err(|e| refused("setuid", &e))?;
    let kept: CapsHashSet = [
        // When the interface goes away and returns, its sockets and its ingress filter have to be made anew.
        (kept.packets, Capability::CAP_NET_RAW),
        (kept.packets || kept.foreign_addresses, Capability::CAP_NET_ADMIN),
        // The program in the kernel is given new tables; without the second one the verifier takes no program that works
        // with a packet's length.
        (kept.bpf, Capability::CAP_BPF),
        (kept.bpf, Capability::CAP_PERFMON),
        (kept.low_ports, Capability::CAP_NET_BIND_SERVICE),
    ]
    .into_iter()
    .filter_map(|(kept, capability)| kept.then_some(capability))
    .collect();
    caps::clear(None, CapSet::Inheritable).map_err(|e| refused("capabilities", &e))?;
    caps::set(None, CapSet::Effective, &kept).map_err(|e| refused("capabilities", &e))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(|e| refused("capabilities", &e))?;
    prctl::set_no_new_privs().map_err(|e| refused("no_new_privs", &e))
}

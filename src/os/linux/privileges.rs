//! Becoming another user, with just the capabilities that are still needed.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{User, setgid, setgroups, setuid};

use crate::failure::{Failure, Sysexit};

/// Becomes `user` for good. What is kept is CAP_NET_RAW and CAP_NET_ADMIN: when the interface goes away and returns,
/// its sockets and its ingress filter have to be made anew. `bpf`: and CAP_BPF, with which the program in the kernel is
/// given new tables, and CAP_PERFMON, without which the verifier takes no program that works with a packet's length. Before any thread is started, as capabilities are a thread's.
///
/// # Errors
/// Not permitted.
pub fn drop_privileges(user: &User, bpf: bool) -> Result<(), Failure> {
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
    let bpf = if bpf { &[Capability::CAP_BPF, Capability::CAP_PERFMON][..] } else { &[] };
    let kept: CapsHashSet =
        [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN].into_iter().chain(bpf.iter().copied()).collect();
    caps::clear(None, CapSet::Inheritable).map_err(|e| refused("capabilities", &e))?;
    caps::set(None, CapSet::Effective, &kept).map_err(|e| refused("capabilities", &e))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(|e| refused("capabilities", &e))?;
    prctl::set_no_new_privs().map_err(|e| refused("no_new_privs", &e))
}

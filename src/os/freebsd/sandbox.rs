//! Giving up what is not needed any more: capsicum(4).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_ulong;
use netmap_sys::{NIOCRXSYNC, NIOCTXSYNC};
use nix::errno::Errno;

/// From now on the netmap descriptor is good for waiting and for the two sync requests only: neither can it be
/// registered with another interface, nor mapped again. To be called once it is registered and mapped. It cannot be
/// taken back, but a descriptor that is opened anew has all rights. A kernel without capsicum(4) leaves all as it is.
///
/// # Errors
/// The system's.
pub fn limit_netmap(netmap: BorrowedFd<'_>) -> io::Result<()> {
    let requests: [c_ulong; 2] = [NIOCTXSYNC, NIOCRXSYNC];
    // SAFETY: the list of rights ends with a 0 of 64 bits, as <sys/capsicum.h> has it, and cap_rights_init fills in all
    // of `rights` before it is read; `requests` are as many as said. All outlive the calls.
    let limited = unsafe {
        let mut rights: libc::cap_rights_t = std::mem::zeroed();
        libc::__cap_rights_init(libc::CAP_RIGHTS_VERSION, &raw mut rights, libc::CAP_EVENT, libc::CAP_IOCTL, 0u64);
        Errno::result(libc::cap_rights_limit(netmap.as_raw_fd(), &raw const rights))
            .and_then(|_| Errno::result(libc::cap_ioctls_limit(netmap.as_raw_fd(), requests.as_ptr(), requests.len())))
    };
    match limited {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Enters capability mode, for this process and for good: it keeps what it has open, and gets nothing new.
///
/// What works on: forwarding, checks of backends, commands, as those take place on descriptors that are there. What
/// does not: opening the interface again after it has gone; looking whether it is there and what addresses it has
/// (getifaddrs(3)) and what gateways there are (netstat(1)); reading the configuration again; looking up names; opening
/// the log anew; removing the pid file; telling another balancer of flows, as that names an address for each datagram.
/// An interface's keeper, see [`crate::os::Setup`], is another process: it still puts the interface back.
///
/// # Errors
/// The kernel has no capsicum(4).
pub fn enter_capability_mode() -> io::Result<()> {
    // SAFETY: cap_enter(2) takes nothing and touches no memory.
    Errno::result(unsafe { libc::cap_enter() })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_limited_descriptor_can_be_waited_for_but_not_read() {
        let (reader, _writer) = std::io::pipe().unwrap();
        limit_netmap(reader.as_fd()).unwrap();
        let mut fds = [nix::poll::PollFd::new(reader.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, 0u8), Ok(0));
        match nix::unistd::read(&reader, &mut [0]) {
            Err(Errno::ENOTCAPABLE) => {}
            other => println!("SKIPPED os::sandbox: no capsicum(4) in this kernel: {other:?}"),
        }
    }
}

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

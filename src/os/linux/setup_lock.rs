//! Whose turn it is to set up an interface: a socket's name, see unix(7), "abstract".
//!
//! Such a name is of one network namespace, as an interface is, and goes with the last process that has the socket. Any
//! user may take one, to no other end than that the interface cannot be set up: the refusal names the process.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{connect, getsockopt, listen, socket};

/// Those who may wait for an answer to who holds the lock. There is none but the answer of the kernel.
const WHO_ASK: i32 = 16;

/// The sole right to set up an interface, for all processes that have inherited it together, until the last has ended
/// or let it go.
#[derive(Debug)]
pub(in crate::os) struct SetupLock {
    /// `None`: the system has no locks for us.
    listener: Option<UnixListener>,
    /// The process that others are told of.
    signed: AtomicU32,
}

impl SetupLock {
    /// Takes the lock of `interface`; `None`: another has it. By name and without the number, as an interface that goes
    /// away and returns under its name is set up again.
    pub(in crate::os) fn take(interface: &str) -> Option<SetupLock> {
        let bound = SocketAddr::from_abstract_name(name(interface)).and_then(|address| {
            let listener = UnixListener::bind_addr(&address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let lock = match bound {
            Ok(listener) => SetupLock { listener: Some(listener), signed: AtomicU32::new(0) },
            Err(e) if e.kind() == ErrorKind::AddrInUse => return None,
            Err(e) => {
                tracing::debug!("{interface}: set up without a lock: {e}");
                SetupLock { listener: None, signed: AtomicU32::new(0) }
            }
        };
        lock.sign();
        Some(lock)
    }

    /// Has others told that this process holds it, which may be another one than took it (daemon(3)). To be called now
    /// and then: it also sees off those who have asked.
    pub(in crate::os) fn sign(&self) {
        let Some(listener) = &self.listener else { return };
        let process = std::process::id();
        if self.signed.swap(process, Ordering::Relaxed) != process {
            // The kernel tells those who connect of the process that has called this last.
            let _ = Backlog::new(WHO_ASK).and_then(|backlog| listen(listener, backlog));
        }
        while listener.accept().is_ok() {}
    }

    /// What a forked process keeps open to hold the lock, too.
    pub(in crate::os) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }
}

/// The process that holds the lock of `interface`, as far as it can be known: not that of another process namespace.
pub(in crate::os) fn holder(interface: &str) -> Option<u32> {
    // It must not wait: the other side answers only now and then.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let asking = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    connect(asking.as_raw_fd(), &UnixAddr::new_abstract(name(interface).as_bytes()).ok()?).ok()?;
    let pid = getsockopt(&asking, PeerCredentials).ok()?.pid();
    u32::try_from(pid).ok().filter(|&pid| pid != 0)
}

fn name(interface: &str) -> String {
    format!("pen-dsr-setup-{interface}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name of this process: tests of others run, too.
    fn unique(what: &str) -> String {
        format!("{what}{}", std::process::id())
    }

    /// Processes that another test starts have all that is open here, for a moment.
    fn can_be_taken_soon(interface: &str) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            SetupLock::take(interface).is_some()
        })
    }

    #[test]
    fn one_takes_it_and_the_next_only_after_that() {
        let (this, other) = (unique("a"), unique("b"));
        let lock = SetupLock::take(&this).unwrap();
        assert!(lock.descriptor().is_some());
        assert!(SetupLock::take(&this).is_none());
        assert!(SetupLock::take(&other).is_some());
        drop(lock);
        assert!(can_be_taken_soon(&this));
    }

    #[test]
    fn whoever_holds_it_is_known_however_often_one_asks() {
        let this = unique("c");
        assert_eq!(holder(&this), None);
        let lock = SetupLock::take(&this).unwrap();
        for _ in 0..3 {
            for _ in 0..WHO_ASK {
                assert_eq!(holder(&this), Some(std::process::id()));
            }
            lock.sign();
        }
        // More than that at a time are not answered, but do not wait either.
        let answers = (0..100).filter_map(|_| holder(&this)).count();
        assert!(answers < 100, "{answers}");
    }
}

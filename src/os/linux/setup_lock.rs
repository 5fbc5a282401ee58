//! Whose turn it is to set up an interface: a socket's name, see unix(7), "abstract".
//!
//! Such a name is of one network namespace, as an interface is, and goes with the last process that has the socket. Any
//! user may take one, to no other end than that the interface cannot be set up: the refusal names the process.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{connect, getsockopt, listen, socket};

/// Those who may wait for an answer to who holds the lock. There is none but the answer of the kernel.
const WHO_ASK: i32 = 16;

/// The name, as long as this process or one that has inherited it has it.
#[derive(Debug)]
pub(in crate::os) struct Held(UnixListener);

impl Held {
    /// Takes the name for `interface`; `None`: another has it.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::os) fn take(interface: &str) -> io::Result<Option<Held>> {
        let listener = match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name(interface))?) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => return Ok(None),
            listener => listener?,
        };
        listener.set_nonblocking(true)?;
        Ok(Some(Held(listener)))
    }

    /// The kernel tells those who connect of the process that has called this last, which is this `_process`.
    pub(in crate::os) fn sign(&self, _process: u32) {
        let _ = Backlog::new(WHO_ASK).and_then(|backlog| listen(&self.0, backlog));
    }

    /// Makes room for others who ask.
    pub(in crate::os) fn see_off(&self) {
        while self.0.accept().is_ok() {}
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

    #[test]
    fn whoever_holds_it_is_known_however_often_one_asks() {
        let this = format!("c{}", std::process::id());
        assert_eq!(holder(&this), None);
        let held = Held::take(&this).unwrap().unwrap();
        held.sign(std::process::id());
        for _ in 0..3 {
            for _ in 0..WHO_ASK {
                assert_eq!(holder(&this), Some(std::process::id()));
            }
            held.see_off();
        }
        // More than that at a time are not answered, but do not wait either.
        let answers = (0..100).filter_map(|_| holder(&this)).count();
        assert!(answers < 100, "{answers}");
    }
}

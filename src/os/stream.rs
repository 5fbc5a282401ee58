//! Stream sockets, as far as no library has it: the same on every Unix.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};

use socket2::{SockAddr, Socket};

/// Accepts a connection (accept4(2)): it does not block, and no child inherits it.
///
/// # Errors
/// As accept(2); `WouldBlock` when none waits.
pub fn accept(listener: &impl AsFd) -> io::Result<(Socket, SockAddr)> {
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: storage and length are valid for the call, which writes a socket address of that length, and the
    // descriptor that it returns is nobody's else.
    unsafe {
        SockAddr::try_init(|storage, length| {
            let accepted = libc::accept4(fd, storage.cast(), length, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
            if accepted < 0 { Err(io::Error::last_os_error()) } else { Ok(Socket::from_raw_fd(accepted)) }
        })
    }
}

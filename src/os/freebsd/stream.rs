//! Stream sockets: listening on one port in several threads, what has not been sent. Nothing moves bytes between any two
//! sockets within the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use mio::Interest;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

/// What a stream's readiness is told of.
pub const STREAM_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Is a read that brings less than there is room for all that there was? Urgent data, at which reading stops, is not told
/// of: only the next one tells.
pub const SHORT_READ_IS_ALL: bool = false;

/// Lets other sockets listen on the same port: the kernel shares connections out among them (setsockopt(2),
/// SO_REUSEPORT_LB).
///
/// # Errors
/// The system refuses.
pub fn share_port(socket: &Socket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReusePortLb, &true)?)
}

/// What moves bytes from one socket to another without copying them to us; there is none.
#[derive(Debug)]
pub struct Pipe;

impl Pipe {
    /// # Errors
    /// Always: there is none.
    pub fn new() -> io::Result<Pipe> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    /// Always.
    pub fn fill(&self, _: &impl AsFd, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    /// Always.
    pub fn drain(&self, _: &impl AsFd, _: usize, _: bool) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

nix::ioctl_read!(fionwrite, b'f', 119, libc::c_int);

/// Bytes that the peer of `socket` has not acknowledged (filio.h, FIONWRITE).
///
/// # Errors
/// It is no socket.
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which lives until the call has returned.
    unsafe { fionwrite(socket.as_fd().as_raw_fd(), &mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

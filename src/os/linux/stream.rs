//! Stream sockets: listening on one port in several threads, moving bytes within the kernel, what has not been sent.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::Interest;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use socket2::Socket;

/// What a stream's readiness is told of: with urgent data, too, at which reading stops (tcp(7)).
pub const STREAM_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// Is a read that brings less than there is room for all that there was? Otherwise only the next one tells.
pub const SHORT_READ_IS_ALL: bool = true;

/// How much a pipe holds, bytes: more is moved at a time, and every pipe is charged to its user (pipe(7)).
const PIPE_SIZE: i32 = 512 * 1024;

/// Lets other sockets listen on the same port: the kernel shares connections out among them (socket(7), SO_REUSEPORT).
///
/// # Errors
/// The system refuses.
pub fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// A pipe, through which bytes go from one socket to another without being copied to us (splice(2)).
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// A new one.
    ///
    /// # Errors
    /// The system has no descriptors left, or no pages for pipes.
    pub fn new() -> io::Result<Pipe> {
        let (out, into) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        // A smaller one does, too.
        let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        Ok(Pipe { out, into })
    }

    /// Moves up to `most` bytes from `socket` into the pipe, which should be empty: otherwise nobody can tell which of the
    /// two would block. 0: the end.
    ///
    /// # Errors
    /// As splice(2).
    pub fn fill(&self, socket: &impl AsFd, most: usize) -> io::Result<usize> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        Ok(splice(socket, None, &self.into, None, most, flags)?)
    }

    /// Moves up to `most` bytes from the pipe to `socket`; `more`: others follow at once.
    ///
    /// # Errors
    /// As splice(2).
    pub fn drain(&self, socket: &impl AsFd, most: usize, more: bool) -> io::Result<usize> {
        let mut flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        flags.set(SpliceFFlags::SPLICE_F_MORE, more);
        Ok(splice(&self.out, None, socket, None, most, flags)?)
    }
}

nix::ioctl_read_bad!(siocoutq, libc::TIOCOUTQ, libc::c_int);

/// Bytes that the peer of `socket` has not acknowledged (tcp(7), SIOCOUTQ).
///
/// # Errors
/// It is no socket.
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which lives until the call has returned.
    unsafe { siocoutq(socket.as_fd().as_raw_fd(), &mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

//! Waking a worker that waits for frames: a socket pair, so that a port can poll it beside its own descriptor.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Wakes the port that holds the other end.
#[derive(Clone, Debug)]
pub struct Waker(Arc<UnixStream>);

/// The end that a port polls.
#[derive(Debug)]
pub struct WakeReceiver(UnixStream);

/// A waker and its receiving end.
///
/// # Errors
/// No descriptors left.
pub fn waker() -> io::Result<(Waker, WakeReceiver)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    Ok((Waker(Arc::new(near)), WakeReceiver(far)))
}

impl Waker {
    /// Ends the port's wait, the present one or the next.
    pub fn wake(&self) {
        // A full buffer means that it has been woken already; a closed one, that nobody is there to wake.
        let _ = (&*self.0).write(&[0]);
    }
}

impl WakeReceiver {
    /// Forgets the wakes so far.
    pub fn clear(&self) {
        let mut bytes = [0; 64];
        while (&self.0).read(&mut bytes).is_ok_and(|n| n > 0) {}
    }
}

impl AsFd for WakeReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

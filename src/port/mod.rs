//! Ports: where frames come from and go to. A port owns the buffers and carries out the engine's verdicts.

pub mod memory;
pub mod packet;
pub mod pcap;
mod wake;

use std::io;
use std::time::Instant;

pub use wake::{WakeReceiver, Waker, waker};

use crate::verdict::Verdict;

/// A way onto a segment.
pub trait Port {
    /// Shows up to `budget` waiting frames to `decide`, one by one, and carries out what it says of each. Does not wait.
    /// Returns how many frames there were.
    ///
    /// # Errors
    /// The port is of no use any more (the interface has gone). A frame that cannot be sent is no error, but counted.
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(&mut [u8]) -> Verdict) -> io::Result<usize>;

    /// Sends a frame that the engine originates: whole, with finished checksums.
    ///
    /// # Errors
    /// As for [`Port::drive`].
    fn send(&mut self, frame: &[u8]) -> io::Result<()>;

    /// Waits until a frame comes, somebody calls the port's [`Waker`], or `until` has come; `None` waits for ever.
    ///
    /// # Errors
    /// As for [`Port::drive`].
    fn wait(&mut self, until: Option<Instant>) -> io::Result<()>;

    /// Frames so far that could not be sent, and that were lost before they could be read.
    fn losses(&mut self) -> Losses;
}

/// What a port has lost since it was opened, frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Refused when they were to be sent: the queue full, the link down, larger than the link carries.
    pub send_failed: u64,
    /// Lost before they were read: the reader was too slow.
    pub overrun: u64,
}

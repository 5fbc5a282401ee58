//! Ports: where frames come from and go to. A port owns the buffers and carries out the engine's verdicts.

pub mod memory;
mod name;
pub mod netmap;
pub mod packet;
pub mod pcap;
pub mod ring;
mod wake;

use std::io;
use std::time::Instant;

pub use name::{Kind, NetmapName, PortName};
pub use wake::{WakeReceiver, Waker, waker};

pub use crate::verdict::Arm;
use crate::verdict::Verdict;

/// A way onto a segment, or with two arms onto two.
pub trait Port {
    /// Shows up to `budget` waiting frames to `decide`, one by one, with the arm that each came by, and carries out what it
    /// says of each. Does not wait. Returns how many frames there were.
    ///
    /// # Errors
    /// The port is of no use any more (the interface has gone). A frame that cannot be sent is no error, but counted.
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize>;

    /// Sends a frame that the engine originates, whole, with finished checksums: at the latest with the next
    /// [`Port::drive`] or [`Port::wait`].
    ///
    /// # Errors
    /// As for [`Port::drive`].
    fn send(&mut self, frame: &[u8]) -> io::Result<()>;

    /// Waits until a frame comes, somebody calls the port's [`Waker`], or `until` has come; `None` waits for ever.
    ///
    /// # Errors
    /// As for [`Port::drive`].
    fn wait(&mut self, until: Option<Instant>) -> io::Result<()>;

    /// What the port itself has counted.
    fn tally(&mut self) -> Tally;
}

/// What a port has counted since it was opened, frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Refused when they were to be sent: the queue full, the link down, larger than the link carries.
    pub send_failed: u64,
    /// Lost before they were read: the reader was too slow.
    pub overrun: u64,
    /// Lost because a ring's slot made no sense: a length beyond its buffer, a buffer that there is not (netmap).
    pub bad_slots: u64,
    /// How often a ring was in error: set up anew by the kernel, or its interface being reset (netmap).
    pub ring_errors: u64,
    /// Is there a ring that has had no room for a while, and has none now (netmap)?
    pub stuck: bool,
    /// How often frames went over to a slower way to leave by, as nothing was taken from the faster one (mapped rings).
    pub gave_up: u64,
    /// Not lost: they came with unfinished checksums, which were finished (netmap).
    pub finished: u64,
}

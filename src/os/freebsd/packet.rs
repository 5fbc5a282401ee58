//! The packet sockets that are none: pnet opens a bpf(4) device itself, and reads and writes that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::os::{Ready, Wanted};

/// Bytes before each frame: none.
pub const FRAME_PREFIX: usize = 0;

/// How long one read may wait. pnet keeps its bpf descriptor to itself, so that reading is the only way to wait.
pub const READ_TIMEOUT: Duration = Duration::from_millis(5);

/// The sockets of a port: pnet opens its own.
pub struct PacketSockets {
    /// For pnet: none, it opens a bpf device itself.
    pub plain: Option<OwnedFd>,
    /// Nothing stands aside: bpf delivers VLAN tags in the frame.
    pub aside: AsideReceiver,
}

/// Nothing to open: pnet opens a bpf device.
///
/// # Errors
/// None.
pub fn open_packet_sockets(_index: u32, _wanted: &Wanted) -> io::Result<PacketSockets> {
    Ok(PacketSockets { plain: None, aside: AsideReceiver })
}

/// Makes the prefix of a frame that the engine originates: there is none.
pub fn prepare_send(_prefix: &mut [u8]) {}

/// Receives nothing: all frames come by the same way.
pub struct AsideReceiver;

impl AsideReceiver {
    /// No frame waits.
    ///
    /// # Errors
    /// None.
    pub fn receive(&mut self, _buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(None)
    }
}

impl PacketSockets {
    /// What to poll for frames: nothing.
    pub fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    /// There is no filter to change.
    ///
    /// # Errors
    /// None.
    pub fn filters(&self) -> io::Result<FilterControl> {
        Ok(FilterControl)
    }

    /// bpf counts its losses where pnet does not show them.
    pub fn take_drops(&self) -> u64 {
        0
    }
}

/// Would change what the sockets take: pnet's bpf device takes every frame.
pub struct FilterControl;

impl FilterControl {
    /// Nothing has to be done.
    ///
    /// # Errors
    /// None.
    pub fn replace(&self, _wanted: &Wanted) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for nothing: reading itself waits a little.
pub struct Waiter;

impl Waiter {
    /// A waiter that `_wake` need not interrupt.
    ///
    /// # Errors
    /// None.
    pub fn new(_sockets: &PacketSockets, _wake: impl AsFd) -> io::Result<Waiter> {
        Ok(Waiter)
    }

    /// Returns at once, as if woken.
    ///
    /// # Errors
    /// None.
    pub fn wait(&self, _until: Option<Instant>) -> io::Result<Ready> {
        Ok(Ready { woken: true, ..Ready::default() })
    }
}

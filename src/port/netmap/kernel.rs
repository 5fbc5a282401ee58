//! The kernel's side of a netmap port, as far as the port asks it for anything: the device, or a model of it in memory.

use std::io;
use std::time::Instant;

use crate::port::WakeReceiver;

/// One registration with the kernel: what one file descriptor of `/dev/netmap` is bound to.
pub trait Kernel: Send {
    /// Tells the kernel of the slots that were filled in the tx rings, and learns of those that have been sent
    /// (`NIOCTXSYNC`).
    ///
    /// # Errors
    /// `ENXIO`: there is nothing behind the registration any more. `EIO`: not now, the interface is being reset.
    fn sync_tx(&mut self) -> io::Result<()>;

    /// Gives the kernel back the slots that were read in the rx rings, and learns of those that were filled
    /// (`NIOCRXSYNC`).
    ///
    /// # Errors
    /// As for [`Kernel::sync_tx`].
    fn sync_rx(&mut self) -> io::Result<()>;

    /// Waits until any tx ring of the registration has room, or `until` has come.
    fn drain(&mut self, until: Instant);

    /// Waits until one of `kernels` has something to read, or somebody calls the port's waker, or `until` has come; `None`
    /// waits for ever. Syncs both directions, as `poll(2)` does.
    ///
    /// # Errors
    /// The system's.
    fn poll(kernels: &mut [Self], wake: &WakeReceiver, until: Option<Instant>) -> io::Result<Polled>
    where
        Self: Sized;
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// A frame can be read.
    pub ready: bool,
    /// Somebody woke us.
    pub woken: bool,
    /// A ring is in error: the kernel has set it up anew, or its interface is being reset, or has gone (`POLLERR`).
    pub failed: bool,
}

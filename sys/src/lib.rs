//! The netmap user interface, API 14, for FreeBSD (12 to 15) and Linux.
//!
//! netmap gives a program the rings of a network interface: descriptors and
//! packet buffers in memory that the kernel and the program share. This crate
//! declares what netmap(4) and `<net/netmap.h>` declare, under the same names,
//! so that either can be read beside it:
//!
//! - [`ring`]: what lies in the shared memory: [`netmap_if`], [`netmap_ring`],
//!   [`netmap_slot`] and their flags;
//! - [`request`]: what `ioctl` takes: [`nmreq_header`], [`nmreq_register`];
//! - [`ioctl`]: the `ioctl` numbers of this operating system;
//! - [`slots`]: ring arithmetic on plain numbers, which never panics.
//!
//! Only the interface by `NIOCCTRL` is here, not the older one by `NIOCREGIF`.
//! The crate opens and maps nothing and has no unsafe code; its users do.
//! `tests/layout.c` holds every figure against FreeBSD's own header.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("netmap-sys: the layouts are those of 64-bit systems (struct timeval, ssize_t)");

pub mod ioctl;
pub mod request;
pub mod ring;
pub mod slots;

pub use ioctl::*;
pub use request::*;
pub use ring::*;
pub use slots::*;

use std::ffi::CStr;

/// The version of the interface that this crate speaks; goes into
/// [`nmreq_header::nr_version`], see netmap(4). A kernel that does not know it
/// answers `EINVAL`.
pub const NETMAP_API: u16 = 14;

/// The device to open, once for each set of rings; see netmap(4).
pub const NETMAP_DEVICE_NAME: &CStr = c"/dev/netmap";

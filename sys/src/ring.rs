//! What lies in the memory that a netmap program shares with the kernel:
//! [`netmap_if`] leads to the rings, a [`netmap_ring`] ends in its slots, and a
//! [`netmap_slot`] names a buffer. See netmap(4), "DATA STRUCTURES".
//!
//! ```text
//! mapping + nr_offset:  netmap_if   ring_ofs[i], from the netmap_if
//!                           |
//!                           v
//!                       netmap_ring  slot[i].buf_idx
//!                           |
//!                           v
//!                       ring + buf_ofs + buf_idx * nr_buf_size: the frame
//! ```
//!
//! The kernel writes to this memory at any time. Reach it through raw pointers
//! and volatile reads, never by a reference to a whole structure.

#![allow(non_camel_case_types, reason = "the names of netmap(4), to be read beside it")]

use libc::timeval;

/// The buffer of a slot was replaced by another; must be set whenever
/// [`netmap_slot::buf_idx`] was written.
pub const NS_BUF_CHANGED: u16 = 0x0001;
/// Report when this tx slot has been sent, instead of when it suits the NIC.
pub const NS_REPORT: u16 = 0x0002;
/// In an rx ring with [`NR_FORWARD`]: pass this slot on to the peer, from the
/// NIC to the host's stack or the other way round.
pub const NS_FORWARD: u16 = 0x0004;
/// VALE switch: do not learn the source address of this frame.
pub const NS_NO_LEARN: u16 = 0x0008;
/// VALE tx rings: the frame is at [`netmap_slot::ptr`], not in the buffer.
pub const NS_INDIRECT: u16 = 0x0010;
/// The frame goes on in the next slot; set on all its slots but the last.
pub const NS_MOREFRAG: u16 = 0x0020;
/// Monitor ports: the frame was seen in a tx ring.
pub const NS_TXMON: u16 = 0x0040;

/// The most slots that one frame may take, see [`NS_MOREFRAG`].
pub const NETMAP_MAX_FRAGS: u32 = 64;

/// Ring flag: each sync stores the time in [`netmap_ring::ts`].
pub const NR_TIMESTAMP: u32 = 0x0002;
/// Ring flag: heed [`NS_FORWARD`] in this rx ring.
pub const NR_FORWARD: u32 = 0x0004;

/// Interface flag: the port has a memory region of its own, so that its
/// buffers cannot be swapped with those of another port.
pub const NI_PRIV_MEM: u32 = 0x1;

/// [`netmap_ring::dir`] of a ring that sends.
pub const NETMAP_RING_TX: u16 = 0;
/// [`netmap_ring::dir`] of a ring that receives.
pub const NETMAP_RING_RX: u16 = 1;

/// One place in a ring: which buffer, and how much of it is a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct netmap_slot {
    /// Number of the buffer in the memory region.
    pub buf_idx: u32,
    /// Bytes of the frame, or of this part of it ([`NS_MOREFRAG`]); at most
    /// [`netmap_ring::nr_buf_size`].
    pub len: u16,
    /// `NS_*` flags.
    pub flags: u16,
    /// Address of a buffer of the program's own ([`NS_INDIRECT`]).
    pub ptr: u64,
}

/// A tx or rx queue. The slots from `head` to `tail - 1` are the program's, the
/// rest are the kernel's.
///
/// In C, `sem` is aligned to 128 bytes and with it the whole structure. Here
/// padding puts it at the same offset: the kernel promises 64 bytes only, and a
/// type must not claim more than its pointers keep.
#[repr(C)]
pub struct netmap_ring {
    /// Bytes from this structure to buffer 0.
    pub buf_ofs: i64,
    /// Slots in the ring; not always a power of two. One is always empty.
    pub num_slots: u32,
    /// Bytes in a buffer.
    pub nr_buf_size: u32,
    /// Number of the ring among those of its direction.
    pub ringid: u16,
    /// [`NETMAP_RING_TX`] or [`NETMAP_RING_RX`].
    pub dir: u16,
    /// First slot of the program's; the program advances it.
    pub head: u32,
    /// `poll` wakes when `tail` passes this slot; the program advances it.
    pub cur: u32,
    /// First slot of the kernel's; the kernel advances it.
    pub tail: u32,
    /// [`NR_TIMESTAMP`], [`NR_FORWARD`].
    pub flags: u32,
    /// Time of the last sync, see [`NR_TIMESTAMP`].
    pub ts: timeval,
    /// Which bits of [`netmap_slot::ptr`] are an offset into the buffer; 0
    /// unless offsets were asked for.
    pub offset_mask: u64,
    /// What the start of a frame in its buffer must be a multiple of, in bytes.
    pub buf_align: u64,
    _to_sem: [u8; 56],
    /// Room for a lock; the kernel does not use it.
    pub sem: [u8; 128],
    /// The slots, [`netmap_ring::num_slots`] of them.
    pub slot: [netmap_slot; 0],
}

/// The port that one file descriptor is bound to. The kernel writes it on
/// registration and only reads `ni_bufs_head` afterwards.
#[repr(C)]
pub struct netmap_if {
    /// Name of the interface, ended by a zero.
    pub ni_name: [u8; 16],
    /// [`crate::NETMAP_API`] of the kernel.
    pub ni_version: u32,
    /// [`NI_PRIV_MEM`].
    pub ni_flags: u32,
    /// Tx rings of the NIC.
    pub ni_tx_rings: u32,
    /// Rx rings of the NIC.
    pub ni_rx_rings: u32,
    /// First of the extra buffers that were asked for; each begins with the
    /// number of the next one, as a `u32`; 0 ends the list.
    pub ni_bufs_head: u32,
    /// Tx rings towards the host's stack.
    pub ni_host_tx_rings: u32,
    /// Rx rings from the host's stack.
    pub ni_host_rx_rings: u32,
    /// Not in use.
    pub ni_spare1: [u32; 3],
    /// Bytes from this structure to each ring: NIC tx, host tx, NIC rx, host
    /// rx; [`crate::RingCounts::index`] finds the place of one.
    pub ring_ofs: [isize; 0],
}

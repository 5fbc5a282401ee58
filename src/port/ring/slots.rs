//! The slots of a packet(7) ring, TPACKET_V2, in memory that is shared with the kernel (linux/if_packet.h, and the kernel's
//! Documentation/networking/packet_mmap.rst).
//!
//! ```text
//!   slot:  header | sockaddr_ll | room for a tag | virtio_net_hdr | frame | rest
//! ```
//!
//! The kernel fills slots in their order and says so in each one's status; the slot is then ours until we say in the same
//! word that it is the kernel's again.

use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;

use crate::os::{RingShape, VNET_HEADER, shift_offsets};
use crate::wire::ether::TAG_LEN;

/// The slot is the kernel's.
pub(super) const TP_STATUS_KERNEL: u32 = 0;
/// The slot is ours.
pub(super) const TP_STATUS_USER: u32 = 1 << 0;
/// The frame did not fit, and waits whole at the socket.
pub(super) const TP_STATUS_COPY: u32 = 1 << 1;
/// The VLAN tag that the kernel has taken out is in the header.
pub(super) const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
/// So is its TPID.
pub(super) const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;

const TPID_8021Q: u16 = 0x8100;
const MACS: usize = 12;
/// From the slot's start to where frames, their prefix and room for a tag may begin: `struct tpacket2_hdr` and, aligned to
/// 16, `struct sockaddr_ll`.
const HEAD: usize = 32 + 20;

/// `struct tpacket2_hdr`, in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) status: u32,
    /// Of the frame as it came.
    pub(super) len: u32,
    /// Of what is in the slot.
    pub(super) snaplen: u32,
    /// Where the frame begins, from the slot's start.
    pub(super) mac: u16,
    pub(super) net: u16,
    pub(super) sec: u32,
    pub(super) nsec: u32,
    pub(super) vlan_tci: u16,
    pub(super) vlan_tpid: u16,
    pub(super) padding: [u8; 4],
}

const _: () = assert!(size_of::<Header>() == 32 && offset_of!(Header, status) == 0);

/// A ring of slots, of which one after the other is taken and all that were taken are released together.
pub struct Slots {
    memory: MmapRaw,
    /// Where each slot begins.
    offsets: Box<[usize]>,
    size: usize,
    /// The oldest that is held.
    first: usize,
    /// How many are.
    held: usize,
}

/// A frame with its virtio_net_hdr in a slot that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    slot: usize,
    at: usize,
    length: usize,
}

/// What the next slot had in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    /// A frame.
    Frame(Place),
    /// The beginning of one that waits whole at the socket.
    Copied,
    /// The beginning of one that is lost: the socket had no room for it.
    Cut,
    /// What cannot be.
    Senseless,
}

impl Slots {
    /// Those in `memory`, which lie as `shape` says.
    ///
    /// # Errors
    /// The memory is shorter than that, or a slot has no room for its header.
    pub(super) fn new(memory: MmapRaw, shape: RingShape) -> io::Result<Slots> {
        let aligned = shape.slot.is_multiple_of(16) && shape.block.is_multiple_of(16);
        if memory.len() < shape.length() || shape.slot <= HEAD || shape.slots() == 0 || !aligned {
            let why = format!("{} bytes are no ring of this shape: {shape:?}", memory.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let starts = (0..shape.blocks)
            .flat_map(|block| (0..shape.slots_per_block()).map(move |slot| block * shape.block + slot * shape.slot));
        Ok(Slots { offsets: starts.collect(), memory, size: shape.slot, first: 0, held: 0 })
    }

    /// The next slot that the kernel has filled, which is held from then on; `None`: there is none yet.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Taken> {
        let count = self.offsets.len();
        if self.held == count {
            return None;
        }
        let slot = self.wrapped(self.first + self.held);
        let status = self.status(slot).load(Ordering::Acquire);
        if status & TP_STATUS_USER == 0 {
            return None;
        }
        self.held += 1;
        // SAFETY: a slot is larger than its header and begins at a multiple of 16 in the memory (`new`). The kernel has
        // handed it over (acquired above) and does not write to it until it is released.
        let header = unsafe { self.start(slot).cast::<Header>().read() };
        Some(self.look(slot, status, &header))
    }

    /// What is in a slot that is held.
    #[inline]
    fn look(&mut self, slot: usize, status: u32, header: &Header) -> Taken {
        if status & TP_STATUS_COPY != 0 {
            return Taken::Copied;
        }
        let (at, length) = (usize::from(header.mac), header.snaplen as usize);
        if at < HEAD + TAG_LEN + VNET_HEADER || at + length > self.size {
            return Taken::Senseless;
        }
        if header.len > header.snaplen {
            return Taken::Cut;
        }
        let place = Place { slot, at: at - VNET_HEADER, length: length + VNET_HEADER };
        if status & TP_STATUS_VLAN_VALID == 0 {
            return Taken::Frame(place);
        }
        let tpid = if status & TP_STATUS_VLAN_TPID_VALID != 0 { header.vlan_tpid } else { TPID_8021Q };
        self.put_back(place, tpid, header.vlan_tci)
    }

    /// Puts the tag back that the kernel has taken out: what stands before it moves to the front.
    fn put_back(&mut self, place: Place, tpid: u16, tci: u16) -> Taken {
        let place = Place { at: place.at - TAG_LEN, length: place.length + TAG_LEN, ..place };
        let bytes = self.frame_mut(place);
        let front = VNET_HEADER + MACS;
        let (Some(_), Some([a, b, c, d])) = (bytes.get(..front + TAG_LEN), bytes.get(front..).map(|_| tag(tpid, tci)))
        else {
            return Taken::Senseless;
        };
        bytes.copy_within(TAG_LEN..TAG_LEN + front, 0);
        bytes[front..front + TAG_LEN].copy_from_slice(&[a, b, c, d]);
        shift_offsets(&mut bytes[..VNET_HEADER]);
        Taken::Frame(place)
    }

    /// A frame with its virtio_net_hdr; nothing once its slot is released.
    #[inline]
    pub(super) fn frame(&self, place: Place) -> &[u8] {
        if !self.holds(place) {
            return &[];
        }
        // SAFETY: the slot is held, so that nobody else writes to it, and the place is within it (`holds`).
        unsafe { std::slice::from_raw_parts(self.start(place.slot).add(place.at), place.length) }
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn frame_mut(&mut self, place: Place) -> &mut [u8] {
        if !self.holds(place) {
            return &mut [];
        }
        // SAFETY: as in `frame`; and `self`, through which all references go, is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start(place.slot).add(place.at), place.length) }
    }

    /// Gives all slots that are held back to the kernel.
    #[inline]
    pub(super) fn release(&mut self) {
        for _ in 0..self.held {
            self.status(self.first).store(TP_STATUS_KERNEL, Ordering::Release);
            self.first = self.wrapped(self.first + 1);
        }
        self.held = 0;
    }

    #[inline]
    fn holds(&self, place: Place) -> bool {
        let count = self.offsets.len();
        let behind = self.wrapped((place.slot + count).wrapping_sub(self.first));
        place.slot < count && behind < self.held && place.at + place.length <= self.size
    }

    /// A number of less than two rounds as that of a slot.
    #[inline]
    fn wrapped(&self, number: usize) -> usize {
        let count = self.offsets.len();
        if number >= count { number - count } else { number }
    }

    #[inline]
    fn start(&self, slot: usize) -> *mut u8 {
        // SAFETY: every offset is within the memory, with a whole slot behind it (`new`).
        unsafe { self.memory.as_mut_ptr().add(self.offsets[slot]) }
    }

    #[inline]
    fn status(&self, slot: usize) -> &AtomicU32 {
        // SAFETY: the word is the first of a slot, which begins at a multiple of 16 in memory that lives as long as `self`;
        // neither we nor the kernel reach it by anything but atomic operations, except for reading it while it is ours.
        unsafe { AtomicU32::from_ptr(self.start(slot).cast()) }
    }
}

fn tag(tpid: u16, tci: u16) -> [u8; TAG_LEN] {
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), tci.to_be_bytes());
    [a, b, c, d]
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_the_kernel_writes() {
        assert_eq!(size_of::<Header>(), size_of::<libc::tpacket2_hdr>());
        let ours = [
            offset_of!(Header, status),
            offset_of!(Header, len),
            offset_of!(Header, snaplen),
            offset_of!(Header, mac),
            offset_of!(Header, net),
            offset_of!(Header, vlan_tci),
            offset_of!(Header, vlan_tpid),
        ];
        let theirs = [
            offset_of!(libc::tpacket2_hdr, tp_status),
            offset_of!(libc::tpacket2_hdr, tp_len),
            offset_of!(libc::tpacket2_hdr, tp_snaplen),
            offset_of!(libc::tpacket2_hdr, tp_mac),
            offset_of!(libc::tpacket2_hdr, tp_net),
            offset_of!(libc::tpacket2_hdr, tp_vlan_tci),
            offset_of!(libc::tpacket2_hdr, tp_vlan_tpid),
        ];
        assert_eq!(ours, theirs);
        assert_eq!(HEAD, libc::TPACKET2_HDRLEN);
        let bits = [libc::TP_STATUS_USER, libc::TP_STATUS_COPY, libc::TP_STATUS_VLAN_VALID];
        assert_eq!([TP_STATUS_USER, TP_STATUS_COPY, TP_STATUS_VLAN_VALID], bits);
        assert_eq!(TP_STATUS_VLAN_TPID_VALID, libc::TP_STATUS_VLAN_TPID_VALID);
    }
}

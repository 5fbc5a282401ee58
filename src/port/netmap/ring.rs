//! The memory that is shared with the kernel: a region, and the rings in it.
//!
//! netmap(4) promises: slots from `head` to `tail - 1` are the program's, with their buffers; the rest are the kernel's,
//! which moves `tail` while the program is in a system call. Nothing that is read here is trusted: a number out of range
//! leads nowhere.

use std::io::{self, ErrorKind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use netmap_sys::{RingCounts, RingKind, buffer_range, netmap_if, netmap_ring, netmap_slot, ring_next, ring_space};

/// Buffers 0 and 1 are the kernel's own, whatever a slot says.
const FIRST_BUFFER: u32 = 2;

/// A region of memory that the kernel's side has laid out.
///
/// # Safety
/// `base` to `base + len` stays mapped, readable and writable, at a multiple of 64 bytes, as long as the value lives.
pub unsafe trait Region: Send + Sync {
    /// Its first byte.
    fn base(&self) -> NonNull<u8>;
    /// Its length, bytes.
    fn size(&self) -> usize;
    /// Its number: buffers can change places within one region only.
    fn id(&self) -> u32;
}

/// One tx or rx ring.
pub struct Ring {
    ring: NonNull<netmap_ring>,
    slots: NonNull<netmap_slot>,
    buffers: NonNull<u8>,
    num_slots: u32,
    buf_size: u32,
    /// Buffers from `buffers` on that lie in the region, less the first two.
    usable: u32,
    region_id: u32,
    /// Keeps the memory.
    _region: Arc<dyn Region>,
}

// SAFETY: a ring is memory that `region` keeps; whoever has the `Ring` is the only one of this process to use it.
unsafe impl Send for Ring {}

impl Ring {
    /// The ring of `kind` and number `number` of the port whose `netmap_if` is `offset` bytes into `region`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: the port has no such ring. [`ErrorKind::InvalidData`]: it would not lie in the region.
    pub fn find(region: &Arc<dyn Region>, offset: u64, kind: RingKind, number: u32) -> io::Result<Ring> {
        let counts = counts(region, offset)?;
        let missing = || io::Error::new(ErrorKind::NotFound, format!("no {kind:?} ring number {number}"));
        let index = counts.index(kind, number).ok_or_else(missing)?;
        let offset = offset as usize;
        let table = offset + size_of::<netmap_if>();
        let entry = index.checked_mul(size_of::<isize>()).and_then(|bytes| table.checked_add(bytes));
        let from_if: isize = read(region, entry.ok_or_else(outside)?)?;
        if from_if == 0 {
            // The kernel's word for a ring that is not bound to the descriptor.
            return Err(missing());
        }
        let at = offset.checked_add_signed(from_if).ok_or_else(outside)?;
        Ring::at(region, at)
    }

    fn at(region: &Arc<dyn Region>, at: usize) -> io::Result<Ring> {
        if !at.is_multiple_of(align_of::<netmap_ring>()) {
            return Err(outside());
        }
        let end = at.checked_add(size_of::<netmap_ring>()).filter(|&end| end <= region.size()).ok_or_else(outside)?;
        // SAFETY: the structure lies in the region and is aligned, as was just checked.
        let ring = unsafe { region.base().add(at) }.cast::<netmap_ring>();
        // SAFETY: as above; these fields do not change after registration. `offset_mask` and `buf_align` are not read:
        // FreeBSD's structure ends its fields before them.
        let (buf_ofs, num_slots, buf_size) = unsafe {
            let ring = ring.as_ptr();
            (
                (&raw const (*ring).buf_ofs).read(),
                (&raw const (*ring).num_slots).read(),
                (&raw const (*ring).nr_buf_size).read(),
            )
        };
        let slots_end =
            (num_slots as usize).checked_mul(size_of::<netmap_slot>()).and_then(|bytes| end.checked_add(bytes));
        if num_slots < 2 || slots_end.is_none_or(|slots_end| slots_end > region.size()) || buf_size == 0 {
            return Err(outside());
        }
        let first = buffer_range(at, buf_ofs, 0, buf_size, region.size()).ok_or_else(outside)?;
        let count = u32::try_from((region.size() - first.start) / buf_size as usize).unwrap_or(u32::MAX);
        let usable = count.saturating_sub(FIRST_BUFFER);
        // SAFETY: both were checked to lie in the region.
        let (slots, buffers) = unsafe { (region.base().add(end).cast(), region.base().add(first.start)) };
        let (region_id, _region) = (region.id(), Arc::clone(region));
        Ok(Ring { ring, slots, buffers, num_slots, buf_size, usable, region_id, _region })
    }

    /// Slots in it.
    pub fn num_slots(&self) -> u32 {
        self.num_slots
    }

    /// Can buffers of this ring and `other` change places?
    #[inline]
    pub fn shares_memory_with(&self, other: &Ring) -> bool {
        self.region_id == other.region_id
    }

    /// The first of the program's slots, and the first that is not: `(head, tail)`. None of them is the program's where
    /// the kernel has left a number that is not in the ring.
    #[inline]
    pub fn bounds(&self) -> (u32, u32) {
        let (head, tail) =
            (self.field(Field::Head).load(Ordering::Relaxed), self.field(Field::Tail).load(Ordering::Acquire));
        if head < self.num_slots && tail < self.num_slots { (head, tail) } else { (0, 0) }
    }

    /// How many slots are the program's.
    #[inline]
    pub fn space(&self) -> u32 {
        let (head, tail) = self.bounds();
        ring_space(head, tail, self.num_slots)
    }

    /// Gives the slots before `head` to the kernel, at its next sync.
    #[inline]
    pub fn release_to(&self, head: u32) {
        self.hold(head, head);
    }

    /// Gives the slots before `head` to the kernel, keeps the others, and asks to be woken when there are some from `cur` on.
    #[inline]
    pub fn hold(&self, head: u32, cur: u32) {
        // In this order: `cur` is never seen behind `head`.
        self.field(Field::Cur).store(cur, Ordering::Relaxed);
        self.field(Field::Head).store(head, Ordering::Release);
    }

    /// For the kernel's side: the `head` and `cur` that the program has left.
    pub(super) fn written(&self) -> (u32, u32) {
        let head = self.field(Field::Head).load(Ordering::Acquire);
        (head, self.field(Field::Cur).load(Ordering::Relaxed))
    }

    /// For the kernel's side: the slots before `tail` are the program's.
    pub(super) fn set_tail(&self, tail: u32) {
        self.field(Field::Tail).store(tail, Ordering::Release);
    }

    /// The slot after `slot`.
    #[inline]
    pub fn next(&self, slot: u32) -> u32 {
        ring_next(slot, self.num_slots)
    }

    /// What slot number `slot` says; an empty one where there is no such slot.
    pub fn slot(&self, slot: u32) -> Slot {
        // SAFETY: it is in the ring.
        if slot < self.num_slots { unsafe { self.known_slot(slot) } } else { Slot { buffer: 0, len: 0, flags: 0 } }
    }

    /// Writes slot number `slot`, which is the program's.
    pub fn set_slot(&self, slot: u32, to: Slot) {
        if slot < self.num_slots {
            // SAFETY: it is in the ring.
            unsafe { self.set_known_slot(slot, to) }
        }
    }

    /// As [`Ring::slot`], on the way of each frame.
    ///
    /// # Safety
    /// `slot` comes from [`Ring::bounds`] or [`Ring::next`] of this ring, which makes it one that there is.
    #[inline]
    pub unsafe fn known_slot(&self, slot: u32) -> Slot {
        debug_assert!(slot < self.num_slots);
        // SAFETY: the slot is in the ring. The kernel writes it only while it has it.
        unsafe {
            let entry = self.slots.add(slot as usize).as_ptr();
            Slot {
                buffer: (&raw const (*entry).buf_idx).read(),
                len: (&raw const (*entry).len).read(),
                flags: (&raw const (*entry).flags).read(),
            }
        }
    }

    /// As [`Ring::set_slot`], on the way of each frame.
    ///
    /// # Safety
    /// As for [`Ring::known_slot`].
    #[inline]
    pub unsafe fn set_known_slot(&self, slot: u32, to: Slot) {
        debug_assert!(slot < self.num_slots);
        // SAFETY: the slot is in the ring, and the caller's.
        unsafe {
            let entry = self.slots.add(slot as usize).as_ptr();
            (&raw mut (*entry).buf_idx).write(to.buffer);
            (&raw mut (*entry).len).write(to.len);
            (&raw mut (*entry).flags).write(to.flags);
        }
    }

    /// Is there a buffer number `index` that a slot may name?
    #[inline]
    pub fn has_buffer(&self, index: u32) -> bool {
        index.wrapping_sub(FIRST_BUFFER) < self.usable
    }

    /// The first `len` bytes of buffer number `index`; `None` where there is no such buffer, or it is shorter.
    ///
    /// The caller has a slot that names the buffer, and no other reference to it: that is what `&mut self` stands for.
    #[inline]
    pub fn buffer(&mut self, index: u32, len: usize) -> Option<&mut [u8]> {
        if !self.has_buffer(index) || len > self.buf_size as usize {
            return None;
        }
        // SAFETY: the buffers that there are lie in the region, and `len` is within one.
        unsafe {
            let start = self.buffers.add(index as usize * self.buf_size as usize);
            Some(std::slice::from_raw_parts_mut(start.as_ptr(), len))
        }
    }

    /// Has the processor fetch the beginning of buffer number `index`, which will be read soon.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        #[cfg(target_arch = "x86_64")]
        {
            let start = self.buffers.as_ptr().wrapping_add(index as usize * self.buf_size as usize);
            // SAFETY: a prefetch touches nothing, whatever the address.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(start.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }

    #[inline]
    fn field(&self, field: Field) -> &AtomicU32 {
        let ring = self.ring.as_ptr();
        // SAFETY: the structure lies in the region, which `self` keeps; both sides read and write these fields as whole
        // words.
        unsafe {
            let pointer = match field {
                Field::Head => &raw mut (*ring).head,
                Field::Cur => &raw mut (*ring).cur,
                Field::Tail => &raw mut (*ring).tail,
            };
            AtomicU32::from_ptr(pointer)
        }
    }
}

/// The words that both sides of a ring write.
#[derive(Clone, Copy)]
enum Field {
    Head,
    Cur,
    Tail,
}

/// One place in a ring: which buffer, and how much of it is a frame. See `netmap_slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the buffer in its region.
    pub buffer: u32,
    /// Bytes of the frame in it.
    pub len: u16,
    /// `NS_*`.
    pub flags: u16,
}

/// How many rings of each kind the port has whose `netmap_if` is `offset` bytes into `region`.
///
/// # Errors
/// [`ErrorKind::InvalidData`]: it is not in the region.
pub fn counts(region: &Arc<dyn Region>, offset: u64) -> io::Result<RingCounts> {
    let at = usize::try_from(offset).map_err(|_| outside())?;
    let field = |field: usize| at.checked_add(field).ok_or_else(outside).and_then(|at| read::<u32>(region, at));
    Ok(RingCounts {
        nic_tx: field(std::mem::offset_of!(netmap_if, ni_tx_rings))?,
        nic_rx: field(std::mem::offset_of!(netmap_if, ni_rx_rings))?,
        host_tx: field(std::mem::offset_of!(netmap_if, ni_host_tx_rings))?,
        host_rx: field(std::mem::offset_of!(netmap_if, ni_host_rx_rings))?,
    })
}

/// A number that the kernel wrote at registration, `at` bytes into the region.
fn read<T: Copy + zerocopy::FromBytes>(region: &Arc<dyn Region>, at: usize) -> io::Result<T> {
    if at.checked_add(size_of::<T>()).is_none_or(|end| end > region.size()) {
        return Err(outside());
    }
    // SAFETY: the bytes lie in the region, and make a value of `T` whatever they are.
    Ok(unsafe { region.base().add(at).cast::<T>().read_unaligned() })
}

#[cold]
fn outside() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the kernel's rings do not lie in the memory that it mapped")
}

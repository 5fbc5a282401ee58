//! A region of memory, laid out as netmap does: the interfaces' structures and rings first, then the buffers.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use netmap_sys::{NETMAP_API, netmap_if, netmap_ring, netmap_slot};
use parking_lot::Mutex;

use crate::port::netmap::{Region, Ring, Slot};
use netmap_sys::RingKind;

/// Room for the structures and rings of all NICs in one memory, bytes.
const STRUCTURES: usize = 1 << 20;
const ALIGNMENT: usize = 4096;

/// How a NIC's rings are to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Ring pairs of the NIC.
    pub pairs: u32,
    /// Does it have host rings, one pair?
    pub host: bool,
    /// Slots in each ring, one of which always stays empty.
    pub slots: u32,
}

/// A memory region that NICs can share.
#[derive(Clone)]
pub struct Memory(Arc<Area>);

struct Area {
    base: NonNull<u8>,
    layout: Layout,
    id: u32,
    buf_size: u32,
    buffers: u32,
    given: Mutex<Given>,
}

/// What has been given out of an area.
struct Given {
    /// Structures, bytes.
    bytes: usize,
    /// The next buffer; 0 and 1 are never given out.
    buffer: u32,
    /// Every ring, so that the buffers can be counted.
    rings: Vec<Ring>,
}

// SAFETY: the area is plain memory that lives as long as the value; who may write what is settled by the rings' protocol.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

// SAFETY: the memory is allocated for as long as the area lives, and aligned to a page.
unsafe impl Region for Area {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn size(&self) -> usize {
        self.layout.size()
    }

    fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

impl Memory {
    /// Memory for `buffers` buffers of `buf_size` bytes each.
    ///
    /// # Panics
    /// Their bytes do not fit into an address space.
    pub fn new(buffers: u32, buf_size: u32) -> Memory {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let bytes = STRUCTURES + buffers as usize * buf_size as usize;
        let layout = Layout::from_size_align(bytes, ALIGNMENT).expect("a region of sensible size");
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let given = Mutex::new(Given { bytes: 0, buffer: 2, rings: Vec::new() });
        Memory(Arc::new(Area { base, layout, id, buf_size, buffers, given }))
    }

    /// The memory as a port sees it.
    pub fn region(&self) -> Arc<dyn Region> {
        Arc::clone(&self.0) as Arc<dyn Region>
    }

    /// Lays out a NIC; returns where its `netmap_if` is.
    ///
    /// # Panics
    /// There is no room for it.
    pub(super) fn lay_out(&self, shape: Shape) -> u64 {
        let host = u32::from(shape.host);
        let rings = 2 * (shape.pairs + host) as usize;
        let table = (size_of::<netmap_if>() + rings * size_of::<isize>()).next_multiple_of(64);
        let ring_bytes =
            (size_of::<netmap_ring>() + shape.slots as usize * size_of::<netmap_slot>()).next_multiple_of(64);
        let area = &*self.0;
        let mut given = area.given.lock();
        let at = given.bytes;
        given.bytes += table + rings * ring_bytes;
        assert!(given.bytes <= STRUCTURES, "the memory has no room for another NIC");
        let put = |at: usize, value: u32| area.put(at, &value.to_ne_bytes());
        put(at + offset_of!(netmap_if, ni_version), u32::from(NETMAP_API));
        put(at + offset_of!(netmap_if, ni_tx_rings), shape.pairs);
        put(at + offset_of!(netmap_if, ni_rx_rings), shape.pairs);
        put(at + offset_of!(netmap_if, ni_host_tx_rings), host);
        put(at + offset_of!(netmap_if, ni_host_rx_rings), host);
        for number in 0..rings {
            let ring = at + table + number * ring_bytes;
            let from_if = (ring - at) as isize;
            area.put(at + size_of::<netmap_if>() + number * size_of::<isize>(), &from_if.to_ne_bytes());
            let buf_ofs = STRUCTURES as i64 - ring as i64;
            area.put(ring + offset_of!(netmap_ring, buf_ofs), &buf_ofs.to_ne_bytes());
            put(ring + offset_of!(netmap_ring, num_slots), shape.slots);
            put(ring + offset_of!(netmap_ring, nr_buf_size), area.buf_size);
            let is_tx = number < rings / 2;
            // A tx ring is all the program's but for one slot, an rx ring all the kernel's.
            put(ring + offset_of!(netmap_ring, tail), if is_tx { shape.slots - 1 } else { 0 });
            for slot in 0..shape.slots as usize {
                assert!(given.buffer < area.buffers, "the memory has no buffers for another NIC");
                put(ring + size_of::<netmap_ring>() + slot * size_of::<netmap_slot>(), given.buffer);
                given.buffer += 1;
            }
        }
        drop(given);
        let region = self.region();
        let kinds = [
            (RingKind::NicTx, shape.pairs),
            (RingKind::HostTx, host),
            (RingKind::NicRx, shape.pairs),
            (RingKind::HostRx, host),
        ];
        for (kind, count) in kinds {
            for number in 0..count {
                let ring = Ring::find(&region, at as u64, kind, number).expect("just laid out");
                area.given.lock().rings.push(ring);
            }
        }
        at as u64
    }

    /// Is every buffer that was given out in exactly one slot?
    ///
    /// # Errors
    /// A buffer is doubled, lost or strange.
    pub fn audit(&self) -> Result<(), String> {
        let given = self.0.given.lock();
        let mut seen = vec![0u32; given.buffer as usize];
        for ring in &given.rings {
            for slot in 0..ring.num_slots() {
                let Slot { buffer, .. } = ring.slot(slot);
                *seen
                    .get_mut(buffer as usize)
                    .ok_or_else(|| format!("a slot names buffer {buffer}, which nobody got"))? += 1;
            }
        }
        match seen.iter().enumerate().skip(2).find(|(_, count)| **count != 1) {
            Some((buffer, count)) => Err(format!("buffer {buffer} is in {count} slots")),
            None => Ok(()),
        }
    }
}

impl Area {
    /// Writes bytes of a structure that nobody else has yet.
    fn put(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.layout.size());
        // SAFETY: the bytes lie in the area; the NIC that they belong to has not been given to anybody.
        unsafe { self.base.add(at).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }
}

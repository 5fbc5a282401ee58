//! Ring arithmetic on plain numbers.
//!
//! `head`, `cur`, `tail` and the sizes are read from memory that others write,
//! too. So no function here panics or overflows, whatever it is given: a number
//! out of range leads to slot 0, to no slots, or to `None`. See netmap(4),
//! "RINGS", and `<net/netmap_user.h>` for the C functions of the same names.

use std::ops::Range;

/// The slot after `slot`, in a ring of `num_slots`; the last is followed by 0.
///
/// The result is below `num_slots`, unless that is 0.
#[inline]
#[must_use]
pub const fn ring_next(slot: u32, num_slots: u32) -> u32 {
    // The one after the highest number is 0, too.
    let next = slot.wrapping_add(1);
    if next < num_slots { next } else { 0 }
}

/// The slots from `head` to `tail - 1`, which are the program's: frames to read
/// in an rx ring, room to send in a tx ring.
///
/// At most `num_slots - 1`; 0 where `head` or `tail` is not in the ring.
#[inline]
#[must_use]
pub const fn ring_space(head: u32, tail: u32, num_slots: u32) -> u32 {
    if head >= num_slots || tail >= num_slots {
        0
    } else if tail >= head {
        tail - head
    } else {
        // head > tail, so that this is below num_slots.
        num_slots - head + tail
    }
}

/// Whether no slot of the ring is the program's.
#[inline]
#[must_use]
pub const fn ring_empty(head: u32, tail: u32) -> bool {
    head == tail
}

/// Whether a tx ring holds slots that the NIC has not sent yet.
#[inline]
#[must_use]
pub const fn tx_pending(head: u32, tail: u32, num_slots: u32) -> bool {
    ring_next(tail, num_slots) != head
}

/// Where a buffer lies in the mapping: the bytes of buffer `buf_idx`, seen from
/// a ring at `ring_offset` bytes in a mapping of `map_len` bytes.
///
/// `buf_ofs` and `buf_size` are the ring's. `None` where any part of the buffer
/// would lie outside the mapping.
#[inline]
#[must_use]
pub fn buffer_range(
    ring_offset: usize,
    buf_ofs: i64,
    buf_idx: u32,
    buf_size: u32,
    map_len: usize,
) -> Option<Range<usize>> {
    // Neither of two u32 multiplied nor an i64 added leaves an i128.
    let start = ring_offset as i128 + i128::from(buf_ofs) + i128::from(buf_idx) * i128::from(buf_size);
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(buf_size).ok()?)?;
    (end <= map_len).then_some(start..end)
}

/// One of the four kinds of ring that a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingKind {
    /// Sends by the NIC.
    NicTx,
    /// Sends to the host's stack.
    HostTx,
    /// Receives from the NIC.
    NicRx,
    /// Receives from the host's stack.
    HostRx,
}

/// How many rings of each kind a port has, as its [`netmap_if`] tells.
///
/// [`netmap_if`]: crate::netmap_if
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// [`netmap_if::ni_tx_rings`](crate::netmap_if::ni_tx_rings).
    pub nic_tx: u32,
    /// [`netmap_if::ni_host_tx_rings`](crate::netmap_if::ni_host_tx_rings).
    pub host_tx: u32,
    /// [`netmap_if::ni_rx_rings`](crate::netmap_if::ni_rx_rings).
    pub nic_rx: u32,
    /// [`netmap_if::ni_host_rx_rings`](crate::netmap_if::ni_host_rx_rings).
    pub host_rx: u32,
}

impl RingCounts {
    /// The place of ring `number` of a kind in
    /// [`netmap_if::ring_ofs`](crate::netmap_if::ring_ofs), or `None` where the
    /// port has no such ring.
    #[must_use]
    pub fn index(&self, kind: RingKind, number: u32) -> Option<usize> {
        let (before, count): (&[u32], u32) = match kind {
            RingKind::NicTx => (&[], self.nic_tx),
            RingKind::HostTx => (&[self.nic_tx], self.host_tx),
            RingKind::NicRx => (&[self.nic_tx, self.host_tx], self.nic_rx),
            RingKind::HostRx => (&[self.nic_tx, self.host_tx, self.nic_rx], self.host_rx),
        };
        let before: u64 = before.iter().map(|&n| u64::from(n)).sum();
        if number >= count {
            return None;
        }
        usize::try_from(before + u64::from(number)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers at which arithmetic breaks.
    const EDGES: [u32; 7] = [0, 1, 2, 3, 1024, u32::MAX - 1, u32::MAX];

    #[test]
    fn walking_a_ring_visits_each_slot_once_and_comes_back() {
        let num_slots = 5; // not a power of two
        let mut slot = 0;
        let mut seen = Vec::new();
        for _ in 0..num_slots {
            seen.push(slot);
            slot = ring_next(slot, num_slots);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(slot, 0);
    }

    #[test]
    fn next_stays_in_the_ring_whatever_it_is_given() {
        for slot in EDGES {
            for num_slots in EDGES {
                let next = ring_next(slot, num_slots);
                assert!(next < num_slots.max(1), "{slot} of {num_slots}: {next}");
            }
        }
    }

    #[test]
    fn space_counts_the_steps_from_head_to_tail() {
        let num_slots = 7;
        for head in 0..num_slots {
            for tail in 0..num_slots {
                let mut steps = 0;
                let mut slot = head;
                while !ring_empty(slot, tail) {
                    slot = ring_next(slot, num_slots);
                    steps += 1;
                }
                assert_eq!(ring_space(head, tail, num_slots), steps, "{head} to {tail}");
            }
        }
    }

    #[test]
    fn a_head_or_tail_outside_the_ring_owns_no_slot() {
        for (head, tail) in [(8, 1), (1, 8), (u32::MAX, 0), (0, u32::MAX), (8, 8)] {
            assert_eq!(ring_space(head, tail, 8), 0, "{head} to {tail}");
        }
    }

    #[test]
    fn space_never_fills_the_whole_ring() {
        for head in EDGES {
            for tail in EDGES {
                for num_slots in EDGES {
                    assert!(ring_space(head, tail, num_slots) < num_slots.max(1));
                }
            }
        }
    }

    #[test]
    fn a_tx_ring_is_idle_when_the_kernel_keeps_one_slot_only() {
        assert!(!tx_pending(0, 7, 8));
        assert!(!tx_pending(4, 3, 8));
        assert!(tx_pending(4, 2, 8));
        assert!(tx_pending(4, 4, 8));
    }

    #[test]
    fn a_buffer_is_found_from_its_ring() {
        let range = buffer_range(0x1000, 0x8000, 3, 2048, 1 << 20);
        assert_eq!(range, Some(0x9000 + 3 * 2048..0x9000 + 4 * 2048));
        // The buffers may lie before the ring, as a negative offset tells.
        assert_eq!(buffer_range(0x8000, -0x8000, 0, 64, 0x9000), Some(0..64));
    }

    #[test]
    fn a_buffer_that_leaves_the_mapping_is_refused() {
        let map_len = 10 * 2048;
        assert!(buffer_range(0, 0, 9, 2048, map_len).is_some());
        assert_eq!(buffer_range(0, 0, 10, 2048, map_len), None);
        assert_eq!(buffer_range(0, 1, 9, 2048, map_len), None);
        assert_eq!(buffer_range(0, -1, 0, 2048, map_len), None);
        assert_eq!(buffer_range(usize::MAX, i64::MAX, u32::MAX, u32::MAX, usize::MAX), None);
        assert_eq!(buffer_range(0, i64::MIN, u32::MAX, 1, usize::MAX), None);
    }

    #[test]
    fn rings_are_listed_nic_before_host_and_tx_before_rx() {
        let rings = RingCounts { nic_tx: 4, host_tx: 1, nic_rx: 2, host_rx: 1 };
        assert_eq!(rings.index(RingKind::NicTx, 3), Some(3));
        assert_eq!(rings.index(RingKind::HostTx, 0), Some(4));
        assert_eq!(rings.index(RingKind::NicRx, 0), Some(5));
        assert_eq!(rings.index(RingKind::NicRx, 1), Some(6));
        assert_eq!(rings.index(RingKind::HostRx, 0), Some(7));
    }

    #[test]
    fn a_ring_that_the_port_has_not_is_not_found() {
        let rings = RingCounts { nic_tx: 4, host_tx: 1, nic_rx: 2, host_rx: 0 };
        assert_eq!(rings.index(RingKind::NicTx, 4), None);
        assert_eq!(rings.index(RingKind::NicRx, 2), None);
        assert_eq!(rings.index(RingKind::HostRx, 0), None);
        let absurd = RingCounts { nic_tx: u32::MAX, host_tx: u32::MAX, nic_rx: u32::MAX, host_rx: u32::MAX };
        assert_eq!(absurd.index(RingKind::HostRx, u32::MAX - 1), Some(4 * (u32::MAX as usize) - 1));
    }
}

//! The tx rings of a worker: what is put into them, and what there is no room for.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use netmap_sys::{NS_BUF_CHANGED, NS_MOREFRAG, ring_space};

use super::{Kernel, Ring, Slot};
use crate::port::{Arm, Tally};
use crate::wire::ether::Mac;

/// How long a batch waits for room in full tx rings, before frames for those are given up. Meanwhile what follows waits
/// in the rx rings, and who sends it is held up by that.
const PATIENCE: Duration = Duration::from_millis(10);
/// Between two looks at a full tx ring.
const PAUSE: Duration = Duration::from_micros(50);
/// The shortest frame without its checksum (IEEE 802.3 section 4A.4.2). Not every NIC pads.
const SHORTEST: u16 = 60;

/// A tx ring, of a NIC or towards the host.
pub struct Transmit {
    ring: Ring,
    /// Its registration, by its place.
    kernel: usize,
    /// The next slot to fill.
    head: u32,
    tail: u32,
    /// Was something put into it since the kernel was told?
    filled: bool,
    /// Was it waited for in vain, and has had no room since?
    jammed: bool,
}

impl Transmit {
    /// A tx ring of registration number `kernel`.
    pub fn new(ring: Ring, kernel: usize) -> Transmit {
        let (head, tail) = ring.bounds();
        Transmit { ring, kernel, head, tail, filled: false, jammed: false }
    }

    fn space(&self) -> u32 {
        ring_space(self.head, self.tail, self.ring.num_slots())
    }

    /// Has the kernel return what has been sent.
    #[cold]
    fn look_again(&mut self, kernel: &mut impl Kernel) {
        // An error shows at the next poll, too.
        let _ = kernel.sync_tx();
        (self.head, self.tail) = self.ring.bounds();
        self.jammed &= self.space() == 0;
    }

    #[inline]
    fn fill(&mut self, slot: Slot) {
        // SAFETY: `head` comes from the ring's bounds, or follows what did.
        unsafe { self.ring.set_known_slot(self.head, slot) };
        self.head = self.ring.next(self.head);
        self.filled = true;
    }
}

/// The registrations and tx rings of a worker.
pub(super) struct Outgoing<K> {
    pub(super) kernels: Vec<K>,
    transmit: Vec<Transmit>,
    /// The back's MAC in the upper 48 bits; with one arm, what is no MAC's.
    back: u64,
    pub(super) tally: Tally,
    /// Until when this batch may wait for room.
    patience: Option<Instant>,
    /// Is there something in the rings that the kernel has not been told of?
    filled: bool,
    /// Has a tx ring lost a buffer?
    broken: bool,
}

impl<K: Kernel> Outgoing<K> {
    pub(super) fn new(kernels: Vec<K>, transmit: Vec<Transmit>, back: Option<Mac>) -> Outgoing<K> {
        let back = back.map_or(1, |Mac([a, b, c, d, e, f])| u64::from_be_bytes([a, b, c, d, e, f, 0, 0]));
        Outgoing { kernels, transmit, back, tally: Tally::default(), patience: None, filled: false, broken: false }
    }

    /// Are there all these tx rings, and the registrations of all tx rings?
    pub(super) fn has_all(&self, mut named: impl Iterator<Item = usize>) -> bool {
        named.all(|out| out < self.transmit.len()) && self.transmit.iter().all(|tx| tx.kernel < self.kernels.len())
    }

    /// The arm that a frame leaves by: that of the station which sends it.
    #[inline]
    pub(super) fn arm_of(&self, frame: &[u8]) -> Arm {
        match frame.get(4..12).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) if u64::from_be_bytes(*bytes) << 16 == self.back => Arm::Back,
            _ => Arm::Front,
        }
    }

    /// Is there something in the rings that the kernel has not been told of?
    #[inline]
    pub(super) fn has_filled(&self) -> bool {
        self.filled
    }

    /// # Errors
    /// `EIO`: a ring has lost a buffer, and has to be registered anew.
    #[inline]
    pub(super) fn check(&self) -> io::Result<()> {
        if self.broken { Err(Errno::EIO.into()) } else { Ok(()) }
    }

    /// Looks at the rings anew: the kernel may have set one up again.
    #[inline]
    pub(super) fn refresh(&mut self) {
        self.patience = None;
        self.tally.stuck = false;
        for tx in &mut self.transmit {
            (tx.head, tx.tail) = tx.ring.bounds();
            if tx.jammed {
                tx.look_again(&mut self.kernels[tx.kernel]);
                self.tally.stuck |= tx.jammed;
            }
        }
    }

    /// Puts slot number `at` of the rx ring `from`, which is `slot`, into tx ring number `out`: the buffers change places,
    /// or where they cannot, the frame is copied.
    #[inline]
    pub(super) fn hand_over(&mut self, from: &mut Ring, at: u32, slot: Slot, out: usize) {
        let Some(tx) = self.transmit.get_mut(out) else { return };
        // SAFETY: `head` comes from the ring's bounds, or follows what did.
        let free = unsafe { tx.ring.known_slot(tx.head) }.buffer;
        if tx.head == tx.tail || !from.shares_memory_with(&tx.ring) || !tx.ring.has_buffer(free) {
            return self.hand_over_at_length(from, at, slot, out);
        }
        // SAFETY: the caller has read this slot of `from`.
        unsafe { from.set_known_slot(at, Slot { buffer: free, len: 0, flags: NS_BUF_CHANGED }) };
        tx.fill(Slot { flags: NS_BUF_CHANGED | slot.flags & NS_MOREFRAG, ..slot });
        self.filled = true;
    }

    /// The same, with whatever stands in the way.
    #[inline(never)]
    fn hand_over_at_length(&mut self, from: &mut Ring, at: u32, slot: Slot, out: usize) {
        if !self.room(out, 1) {
            return;
        }
        let tx = &mut self.transmit[out];
        if from.shares_memory_with(&tx.ring) {
            if tx.ring.has_buffer(tx.ring.slot(tx.head).buffer) {
                return self.hand_over(from, at, slot, out);
            }
            // The kernel leaves 0 in a slot that made no sense. That must not spread to the rx ring.
            self.tally.bad_slots += 1;
            self.broken = true;
            return;
        }
        match from.buffer(slot.buffer, usize::from(slot.len)) {
            Some(frame) => {
                tx.copy(frame, 0, slot.flags & NS_MOREFRAG, &mut self.tally);
                self.filled = true;
            }
            None => self.tally.bad_slots += 1,
        }
    }

    /// Sends a copy of `frame` by tx ring number `out`, as long as it is.
    pub(super) fn copy(&mut self, frame: &[u8], out: usize) {
        self.copy_padded(frame, 0, out);
    }

    /// Sends a copy of a frame of our own by the arm that it belongs to, where `out` are the tx rings of the arms. It is
    /// filled up to the shortest that may be.
    pub(super) fn originate(&mut self, frame: &[u8], out: [usize; 2]) {
        self.copy_padded(frame, SHORTEST, out[self.arm_of(frame) as usize]);
    }

    fn copy_padded(&mut self, frame: &[u8], least: u16, out: usize) {
        if self.room(out, 1) {
            self.transmit[out].copy(frame, least, 0, &mut self.tally);
            self.filled = true;
        }
    }

    /// Is there room for `slots` slots in tx ring number `out`? Counts a frame that finds none as lost.
    #[inline]
    pub(super) fn room(&mut self, out: usize, slots: u32) -> bool {
        self.transmit[out].space() >= slots || self.make_room(out, slots)
    }

    #[cold]
    fn make_room(&mut self, out: usize, slots: u32) -> bool {
        let tx = &mut self.transmit[out];
        let kernel = &mut self.kernels[tx.kernel];
        tx.ring.release_to(tx.head);
        while !tx.jammed {
            let now = Instant::now();
            // First without the effort of asking for each sent slot.
            kernel.drain(now);
            (tx.head, tx.tail) = tx.ring.bounds();
            if tx.space() >= slots {
                return true;
            }
            let until = *self.patience.get_or_insert(now + PATIENCE);
            tx.look_again(kernel);
            if tx.space() >= slots {
                return true;
            }
            if now >= until {
                tx.jammed = tx.space() == 0;
                break;
            }
            // Where the registration has other tx rings, these may have room while this one has none.
            kernel.drain(until);
            thread::sleep(PAUSE);
        }
        self.tally.send_failed += 1;
        false
    }

    /// Leaves to the kernel what has been put into the tx rings, for its next sync.
    #[inline]
    pub(super) fn publish(&mut self) {
        for tx in self.transmit.iter_mut().filter(|tx| tx.filled) {
            tx.ring.release_to(tx.head);
            tx.filled = false;
        }
        self.filled = false;
    }
}

impl Transmit {
    /// Puts a copy of `frame` into the next slot, filled up to `least` bytes. There is room.
    fn copy(&mut self, frame: &[u8], least: u16, flags: u16, tally: &mut Tally) {
        let buffer = self.ring.slot(self.head).buffer;
        let padded = u16::try_from(frame.len()).unwrap_or(u16::MAX).max(least);
        match self.ring.buffer(buffer, usize::from(padded)).and_then(|room| room.split_at_mut_checked(frame.len())) {
            Some((room, padding)) => {
                room.copy_from_slice(frame);
                padding.fill(0);
                self.fill(Slot { buffer, len: padded, flags });
            }
            // Longer than a buffer, or a slot that names none.
            None => tally.send_failed += 1,
        }
    }
}

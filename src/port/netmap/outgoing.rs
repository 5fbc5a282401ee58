//! The tx rings of a worker: what is put into them, and what there is no room for.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use netmap_sys::{NS_BUF_CHANGED, NS_MOREFRAG, ring_space};

use super::{Kernel, Ring, Slot};
use crate::port::{Arm, Tally};
use crate::wire::ether::{self, Mac};

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
    /// Was something put into it since the last sync?
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

    #[inline]
    fn fill(&mut self, slot: Slot) {
        self.ring.set_slot(self.head, slot);
        self.head = self.ring.next(self.head);
        self.filled = true;
    }
}

/// The registrations and tx rings of a worker.
pub(super) struct Outgoing<K> {
    pub(super) kernels: Vec<K>,
    transmit: Vec<Transmit>,
    back: Option<Mac>,
    pub(super) tally: Tally,
    /// Until when this batch may wait for room.
    patience: Option<Instant>,
}

impl<K: Kernel> Outgoing<K> {
    pub(super) fn new(kernels: Vec<K>, transmit: Vec<Transmit>, back: Option<Mac>) -> Outgoing<K> {
        Outgoing { kernels, transmit, back, tally: Tally::default(), patience: None }
    }

    /// Are there all these tx rings, and the registrations of all tx rings?
    pub(super) fn has_all(&self, mut named: impl Iterator<Item = usize>) -> bool {
        named.all(|out| out < self.transmit.len()) && self.transmit.iter().all(|tx| tx.kernel < self.kernels.len())
    }

    /// The arm that a frame leaves by: that of the station which sends it.
    #[inline]
    pub(super) fn arm_of(&self, frame: &[u8]) -> Arm {
        match self.back {
            Some(back) if ether::source(frame) == Some(back) => Arm::Back,
            _ => Arm::Front,
        }
    }

    /// Looks at the rings anew: the kernel may have set one up again.
    #[inline]
    pub(super) fn refresh(&mut self) {
        self.patience = None;
        for tx in &mut self.transmit {
            if tx.jammed {
                // An error shows at the next sync, too.
                let _ = self.kernels[tx.kernel].sync_tx();
            }
            (tx.head, tx.tail) = tx.ring.bounds();
            tx.jammed &= tx.head == tx.tail;
        }
    }

    /// Puts slot number `at` of the rx ring `from`, which is `slot`, into tx ring number `out`: the buffers change places,
    /// or where they cannot, the frame is copied.
    #[inline]
    pub(super) fn hand_over(&mut self, from: &mut Ring, at: u32, slot: Slot, out: usize) {
        if self.transmit[out].head == self.transmit[out].tail && !self.room(out, 1) {
            return;
        }
        let tx = &mut self.transmit[out];
        if from.shares_memory_with(&tx.ring) {
            let free = tx.ring.slot(tx.head).buffer;
            from.set_slot(at, Slot { buffer: free, len: 0, flags: NS_BUF_CHANGED });
            tx.fill(Slot { flags: NS_BUF_CHANGED | slot.flags & NS_MOREFRAG, ..slot });
            return;
        }
        match from.buffer(slot.buffer, usize::from(slot.len)) {
            Some(frame) => tx.copy(frame, 0, slot.flags & NS_MOREFRAG, &mut self.tally),
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
            // An error shows at the next sync, too.
            let _ = kernel.sync_tx();
            (tx.head, tx.tail) = tx.ring.bounds();
            if tx.space() >= slots {
                return true;
            }
            let until = *self.patience.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() >= until {
                tx.jammed = true;
                break;
            }
            kernel.drain(until);
            // Where the registration has other tx rings, these may have room while this one has none.
            thread::sleep(PAUSE);
        }
        self.tally.send_failed += 1;
        false
    }

    /// Tells the kernel what has been put into the tx rings.
    ///
    /// # Errors
    /// Those of [`Kernel::sync_tx`]; the other rings have been told all the same.
    #[inline]
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for (number, kernel) in self.kernels.iter_mut().enumerate() {
            let mut filled = false;
            for tx in self.transmit.iter_mut().filter(|tx| tx.kernel == number && tx.filled) {
                tx.ring.release_to(tx.head);
                tx.filled = false;
                filled = true;
            }
            if filled && let Err(e) = kernel.sync_tx() {
                outcome = Err(e);
            }
        }
        outcome
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

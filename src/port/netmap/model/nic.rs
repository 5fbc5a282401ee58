//! One NIC: what a kernel keeps beside each ring, and the wire and the host at the other end.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use netmap_sys::{NS_BUF_CHANGED, NS_MOREFRAG, RingKind, ring_space};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use super::memory::{Memory, Shape};
use crate::port::WakeReceiver;
use crate::port::netmap::kernel::{Kernel, Polled};
use crate::port::netmap::parts::{Registration, Rings, Side};
use crate::port::netmap::ring::{Ring, Slot};

/// Between two looks of a waiting port at a model's rings.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// A NIC in memory.
#[derive(Clone)]
pub struct Nic {
    memory: Memory,
    offset: u64,
    shape: Shape,
    state: Arc<Mutex<State>>,
}

/// What can go wrong on the kernel's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Syncs fail with this number, and `poll` says `POLLERR`.
    Refuse(Errno),
    /// `poll` says `POLLERR`, while syncs pass.
    PollError,
}

struct State {
    /// NIC tx, host tx, NIC rx, host rx.
    rings: Vec<KernelRing>,
    fault: Option<Fault>,
    /// How often a ring was set up anew because its `head` or `cur` made no sense.
    reinits: u64,
    /// What the port must not do, and did.
    violations: Vec<String>,
}

/// A ring, and what the kernel keeps of it.
struct KernelRing {
    ring: Ring,
    is_tx: bool,
    /// The first slot that the kernel has: not yet sent, or not yet returned.
    hwcur: u32,
    /// The first slot that it will not touch: what it has sent or received ends there.
    hwtail: u32,
    /// The `head` and `tail` of the last sync.
    rhead: u32,
    rtail: u32,
    /// The slots as they were when the kernel got them.
    copy: Vec<Slot>,
    /// Frames in parts, one for each slot, to be received.
    incoming: VecDeque<Vec<Vec<u8>>>,
    /// What was sent, whole.
    sent: Vec<Vec<u8>>,
    /// Parts of a frame whose end has not been sent yet.
    partial: Vec<u8>,
    /// At how many syncs nothing is taken from this tx ring; `u32::MAX`: for ever.
    stuck: u32,
    /// What the next received slot is made to say.
    corrupt: Option<(Option<u32>, Option<u16>)>,
    /// Slots that name another buffer than theirs, with theirs.
    strayed: Vec<(u32, u32)>,
}

impl Nic {
    /// A NIC with a memory of its own.
    pub fn new(shape: Shape) -> Nic {
        let rings = 2 * (shape.pairs + u32::from(shape.host));
        Nic::in_memory(&Memory::new(2 + rings * shape.slots, 2048), shape)
    }

    /// A NIC in a memory that others may share.
    ///
    /// # Panics
    /// That has no room.
    pub fn in_memory(memory: &Memory, shape: Shape) -> Nic {
        let offset = memory.lay_out(shape);
        let region = memory.region();
        let host = u32::from(shape.host);
        let kinds = [
            (RingKind::NicTx, shape.pairs),
            (RingKind::HostTx, host),
            (RingKind::NicRx, shape.pairs),
            (RingKind::HostRx, host),
        ];
        let mut rings = Vec::new();
        for (kind, count) in kinds {
            for number in 0..count {
                let ring = Ring::find(&region, offset, kind, number).expect("just laid out");
                rings.push(KernelRing::new(ring, matches!(kind, RingKind::NicTx | RingKind::HostTx)));
            }
        }
        let state = State { rings, fault: None, reinits: 0, violations: Vec::new() };
        Nic { memory: memory.clone(), offset, shape, state: Arc::new(Mutex::new(state)) }
    }

    /// A registration of all its rings, as a port with one worker has it.
    pub fn side(&self, finish: bool) -> Side<ModelKernel> {
        let rings = if self.shape.host { Rings::NicAndHost } else { Rings::Nic };
        Side { registrations: vec![self.registration(rings)], finish }
    }

    /// A registration for each ring pair, and one for the host's.
    pub fn pairs(&self, finish: bool) -> Side<ModelKernel> {
        let pairs = (0..self.shape.pairs as u16).map(Rings::Pair);
        let registrations = pairs.chain(self.shape.host.then_some(Rings::Host)).map(|rings| self.registration(rings));
        Side { registrations: registrations.collect(), finish }
    }

    fn registration(&self, rings: Rings) -> Registration<ModelKernel> {
        let kernel = ModelKernel { nic: self.clone(), rings, detached: false };
        Registration { kernel, region: self.memory.region(), offset: self.offset, rings }
    }

    /// A registration of all its rings whose syncs do nothing: another thread is the kernel, by [`Nic::step`], at its own
    /// pace.
    pub fn detached(&self) -> Side<ModelKernel> {
        let mut side = self.side(false);
        side.registrations.iter_mut().for_each(|registration| registration.kernel.detached = true);
        side
    }

    /// What a sync of all rings does.
    pub fn step(&self) {
        let rings = if self.shape.host { Rings::NicAndHost } else { Rings::Nic };
        let mut kernel = ModelKernel { nic: self.clone(), rings, detached: false };
        let _ = (kernel.sync(true), kernel.sync(false));
    }

    /// The place of a ring in [`State::rings`].
    fn place(&self, kind: RingKind, number: u32) -> usize {
        let (pairs, host) = (self.shape.pairs, u32::from(self.shape.host));
        let before = match kind {
            RingKind::NicTx => 0,
            RingKind::HostTx => pairs,
            RingKind::NicRx => pairs + host,
            RingKind::HostRx => 2 * pairs + host,
        };
        (before + number) as usize
    }

    /// A frame arrives from the wire, for rx ring number `ring`.
    pub fn arrive(&self, ring: u32, frame: &[u8]) {
        self.arrive_in_parts(ring, &[frame]);
    }

    /// A frame arrives that takes several slots.
    pub fn arrive_in_parts(&self, ring: u32, parts: &[&[u8]]) {
        let parts = parts.iter().map(|part| part.to_vec()).collect();
        self.state.lock().rings[self.place(RingKind::NicRx, ring)].incoming.push_back(parts);
    }

    /// The host's stack sends a frame.
    pub fn host_sends(&self, frame: &[u8]) {
        self.state.lock().rings[self.place(RingKind::HostRx, 0)].incoming.push_back(vec![frame.to_vec()]);
    }

    /// What has gone to the wire by tx ring number `ring` since the last call, oldest first.
    pub fn take_sent(&self, ring: u32) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state.lock().rings[self.place(RingKind::NicTx, ring)].sent)
    }

    /// What the host's stack has got since the last call, oldest first.
    pub fn take_host(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state.lock().rings[self.place(RingKind::HostTx, 0)].sent)
    }

    /// Frames that wait to be received, by an rx ring; those in the ring itself are not among them.
    pub fn waiting(&self, kind: RingKind, number: u32) -> usize {
        self.state.lock().rings[self.place(kind, number)].incoming.len()
    }

    /// From now on nothing is taken from tx ring number `ring`, or again.
    pub fn set_stuck(&self, ring: u32, stuck: bool) {
        self.set_stuck_for(ring, if stuck { u32::MAX } else { 0 });
    }

    /// Nothing is taken from tx ring number `ring` at so many syncs that find something there.
    pub fn set_stuck_for(&self, ring: u32, syncs: u32) {
        self.state.lock().rings[self.place(RingKind::NicTx, ring)].stuck = syncs;
    }

    /// The next frame on rx ring number `ring` is received with this buffer number, or this length, in its slot.
    pub fn corrupt_next(&self, ring: u32, buffer: Option<u32>, len: Option<u16>) {
        self.state.lock().rings[self.place(RingKind::NicRx, ring)].corrupt = Some((buffer, len));
    }

    /// From now on the kernel's side fails like this, or not any more.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// The interface is reset: all rings begin at slot 0 again, and what was in them is lost.
    pub fn reset(&self) {
        self.state.lock().rings.iter_mut().for_each(KernelRing::reset);
    }

    /// How often a ring was set up anew because the port left numbers in it that make no sense.
    pub fn reinits(&self) -> u64 {
        self.state.lock().reinits
    }

    /// What the port did that it must not: empty, if it keeps the rules.
    pub fn violations(&self) -> Vec<String> {
        self.state.lock().violations.clone()
    }

    /// The memory that it is in.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Writes `head` into the ring as the port would, to make the kernel set it up anew.
    pub fn damage_head(&self, kind: RingKind, number: u32, head: u32) {
        self.state.lock().rings[self.place(kind, number)].ring.release_to(head);
    }
}

/// The kernel, as one registration reaches it.
pub struct ModelKernel {
    nic: Nic,
    rings: Rings,
    detached: bool,
}

impl ModelKernel {
    /// The places of the registered rings of one direction.
    fn places(&self, tx: bool) -> Vec<usize> {
        let (nic, host) = if tx { (RingKind::NicTx, RingKind::HostTx) } else { (RingKind::NicRx, RingKind::HostRx) };
        let pairs = match self.rings {
            Rings::Nic | Rings::NicAndHost => 0..self.nic.shape.pairs,
            Rings::Pair(pair) => u32::from(pair)..u32::from(pair) + 1,
            Rings::Host => 0..0,
        };
        let host_rings = matches!(self.rings, Rings::NicAndHost | Rings::Host).then(|| self.nic.place(host, 0));
        pairs.map(|number| self.nic.place(nic, number)).chain(host_rings).collect()
    }

    fn sync(&mut self, tx: bool) -> io::Result<bool> {
        if self.detached {
            return Ok(true);
        }
        let places = self.places(tx);
        let mut state = self.nic.state.lock();
        if let Some(Fault::Refuse(errno)) = state.fault {
            return Err(errno.into());
        }
        let State { rings, reinits, violations, .. } = &mut *state;
        let mut sound = true;
        for place in places {
            let ring = &mut rings[place];
            let checked = if tx { ring.check_tx() } else { ring.check_rx() };
            match checked {
                Some(head) if tx => ring.transmit(head, violations),
                Some(head) => ring.receive(head, violations),
                None => {
                    ring.reinit();
                    *reinits += 1;
                    sound = false;
                }
            }
        }
        Ok(sound)
    }
}

impl Kernel for ModelKernel {
    fn sync_tx(&mut self) -> io::Result<()> {
        self.sync(true).map(|_| ())
    }

    fn sync_rx(&mut self) -> io::Result<()> {
        self.sync(false).map(|_| ())
    }

    fn drain(&mut self, until: Instant) {
        while Instant::now() < until {
            let _ = self.sync(true);
            let rings = self.places(true);
            if rings.iter().any(|&place| self.nic.state.lock().rings[place].ring.space() > 0) {
                return;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn poll(kernels: &mut [ModelKernel], wake: &WakeReceiver, until: Option<Instant>) -> io::Result<Polled> {
        loop {
            let mut polled = Polled::default();
            for kernel in &mut *kernels {
                polled.failed |= kernel.nic.state.lock().fault.is_some();
                polled.failed |= !matches!((kernel.sync(true), kernel.sync(false)), (Ok(true), Ok(true)));
                let state = kernel.nic.state.lock();
                polled.ready |= kernel.places(false).iter().any(|&place| state.rings[place].ring.space() > 0);
            }
            let mut fds = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
            polled.woken = poll(&mut fds, PollTimeout::ZERO)? > 0;
            if polled != Polled::default() || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(polled);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl KernelRing {
    fn new(ring: Ring, is_tx: bool) -> KernelRing {
        let slots = ring.num_slots();
        let tail = if is_tx { slots - 1 } else { 0 };
        let copy = (0..slots).map(|slot| ring.slot(slot)).collect();
        KernelRing {
            ring,
            is_tx,
            hwcur: 0,
            hwtail: tail,
            rhead: 0,
            rtail: tail,
            copy,
            incoming: VecDeque::new(),
            sent: Vec::new(),
            partial: Vec::new(),
            stuck: 0,
            corrupt: None,
            strayed: Vec::new(),
        }
    }

    /// Is `at` one of the slots from `first` to `last`, going round?
    fn within(&self, at: u32, first: u32, last: u32) -> bool {
        let slots = self.ring.num_slots();
        at < slots && ring_space(first, at, slots) <= ring_space(first, last, slots)
    }

    /// `head`, if both that and `cur` are where a program may put them.
    fn check_tx(&mut self) -> Option<u32> {
        let (head, cur) = self.ring.written();
        let sound = self.within(head, self.rhead, self.rtail)
            && cur < self.ring.num_slots()
            && self.within(cur, head, self.rtail);
        sound.then_some(head)
    }

    fn check_rx(&mut self) -> Option<u32> {
        let (head, cur) = self.ring.written();
        let sound = self.within(head, self.hwcur, self.hwtail)
            && cur < self.ring.num_slots()
            && self.within(cur, head, self.hwtail);
        sound.then_some(head)
    }

    /// Sets the ring up anew: the port's numbers make no sense.
    fn reinit(&mut self) {
        (self.rhead, self.rtail) = (self.hwcur, self.hwtail);
        self.ring.release_to(self.hwcur);
        self.ring.set_tail(self.hwtail);
    }

    fn reset(&mut self) {
        (self.hwcur, self.hwtail) = (0, if self.is_tx { self.ring.num_slots() - 1 } else { 0 });
        self.partial.clear();
        for slot in 0..self.ring.num_slots() {
            self.copy[slot as usize] = self.ring.slot(slot);
        }
        self.reinit();
    }

    /// Takes the slots up to `head`, and returns those that have been sent.
    fn transmit(&mut self, head: u32, violations: &mut Vec<String>) {
        self.rhead = head;
        let stuck = self.stuck > 0 && self.hwcur != head;
        if stuck && self.stuck != u32::MAX {
            self.stuck -= 1;
        }
        while !stuck && self.hwcur != head {
            let slot = self.ring.slot(self.hwcur);
            let before = self.copy[self.hwcur as usize];
            if slot.buffer != before.buffer && slot.flags & NS_BUF_CHANGED == 0 {
                violations.push(format!("tx slot {}: another buffer, not marked", self.hwcur));
            }
            match self.ring.buffer(slot.buffer, usize::from(slot.len)) {
                Some(part) => self.partial.extend_from_slice(part),
                None => violations.push(format!("tx slot {}: {slot:?} makes no sense", self.hwcur)),
            }
            if slot.flags & NS_MOREFRAG == 0 {
                self.sent.push(std::mem::take(&mut self.partial));
            }
            let clean = Slot { flags: slot.flags & !(NS_BUF_CHANGED | NS_MOREFRAG), ..slot };
            self.ring.set_slot(self.hwcur, clean);
            self.copy[self.hwcur as usize] = clean;
            self.hwcur = self.ring.next(self.hwcur);
            self.hwtail = self.ring.next(self.hwtail);
        }
        self.rtail = self.hwtail;
        self.ring.set_tail(self.hwtail);
    }

    /// Takes back the slots up to `head`, and fills those that there are.
    fn receive(&mut self, head: u32, violations: &mut Vec<String>) {
        while self.hwcur != head {
            let mut slot = self.ring.slot(self.hwcur);
            if slot.buffer != self.copy[self.hwcur as usize].buffer && slot.flags & NS_BUF_CHANGED == 0 {
                violations.push(format!("rx slot {}: another buffer, not marked", self.hwcur));
            }
            if let Some(place) = self.strayed.iter().position(|&(at, _)| at == self.hwcur) {
                slot.buffer = self.strayed.swap_remove(place).1;
                self.ring.set_slot(self.hwcur, slot);
            }
            self.copy[self.hwcur as usize] = slot;
            self.hwcur = self.ring.next(self.hwcur);
        }
        while let Some(parts) = self.incoming.front() {
            let room = self.ring.num_slots() - 1 - ring_space(self.hwcur, self.hwtail, self.ring.num_slots());
            if (parts.len() as u32) > room {
                break;
            }
            let parts = self.incoming.pop_front().unwrap_or_default();
            for (number, part) in parts.iter().enumerate() {
                let at = self.hwtail;
                if self.ring.slot(at).buffer != self.copy[at as usize].buffer {
                    violations.push(format!("rx slot {at}: changed while the kernel had it"));
                }
                let buffer = self.ring.slot(at).buffer;
                let more = if number + 1 < parts.len() { NS_MOREFRAG } else { 0 };
                let mut slot = Slot { buffer, len: part.len() as u16, flags: more };
                match self.ring.buffer(buffer, part.len()) {
                    Some(room) => room.copy_from_slice(part),
                    None => violations.push(format!("rx slot {at}: {slot:?} has no room for {} bytes", part.len())),
                }
                if let Some((stray, len)) = self.corrupt.take() {
                    self.strayed.extend(stray.map(|_| (at, buffer)));
                    slot = Slot { buffer: stray.unwrap_or(slot.buffer), len: len.unwrap_or(slot.len), ..slot };
                }
                self.ring.set_slot(at, slot);
                self.copy[at as usize] = slot;
                self.hwtail = self.ring.next(at);
            }
        }
        (self.rhead, self.rtail) = (head, self.hwtail);
        self.ring.set_tail(self.hwtail);
    }
}

//! Plain counters, one set per worker: the worker alone writes them, anybody may read them at any time.

mod total;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::verdict::DropReason;

/// A number that one thread counts up and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. A plain load and store: there is one writer, so that no locked instruction is needed.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away, for a count of what there is now.
    #[inline]
    pub fn take(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).saturating_sub(n), Relaxed);
    }

    /// Makes it `n`.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Frames and their bytes, Ethernet header included.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Frames.
    pub frames: Counter,
    /// Bytes.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts one frame of `bytes` bytes.
    #[inline]
    pub fn count(&self, bytes: usize) {
        self.frames.add(1);
        self.bytes.add(bytes as u64);
    }
}

/// Backends and virtual addresses that there can be at a time: as many as there are counters for.
pub const MOST_BACKENDS: usize = 4096;
/// See [`MOST_BACKENDS`].
pub const MOST_VIPS: usize = 4096;

/// What a worker's flow table holds, and what it had to give up.
#[derive(Debug)]
pub struct FlowCounters {
    /// Flows per backend, by its number, that their client has not ended.
    live: Box<[Counter]>,
    /// The same, and those that are ending.
    remembered: Box<[Counter]>,
    /// All flows that are remembered, those that are ending included.
    total: Counter,
    /// Flows that have been remembered since the start.
    pub opened: Counter,
    /// Flows that another one pushed out of the nursery before their second packet.
    pub displaced: Counter,
    /// Flows that were pushed out of the main table: ended ones, and young ones.
    pub evicted: Counter,
    /// Packets of flows that found no room in the main table.
    pub full: Counter,
    /// Flows that another balancer has told of.
    pub learnt: Counter,
}

impl Default for FlowCounters {
    fn default() -> FlowCounters {
        let per_backend = || std::iter::repeat_with(Counter::default).take(MOST_BACKENDS).collect();
        FlowCounters {
            live: per_backend(),
            remembered: per_backend(),
            total: Counter::default(),
            opened: Counter::default(),
            displaced: Counter::default(),
            evicted: Counter::default(),
            full: Counter::default(),
            learnt: Counter::default(),
        }
    }
}

impl FlowCounters {
    /// Flows of backend number `backend` that their client has not ended.
    pub fn live(&self, backend: usize) -> u64 {
        self.live.get(backend).map_or(0, Counter::get)
    }

    /// The same, and those that are ending: a client that has nothing more to say may still be listening.
    pub fn remembered(&self, backend: usize) -> u64 {
        self.remembered.get(backend).map_or(0, Counter::get)
    }

    /// All flows that are remembered.
    pub fn total(&self) -> u64 {
        self.total.get()
    }

    #[inline]
    pub(crate) fn added(&self, backend: u16, live: bool) {
        self.total.add(1);
        let backend = usize::from(backend);
        if let (Some(alive), Some(remembered)) = (self.live.get(backend), self.remembered.get(backend)) {
            alive.add(u64::from(live));
            remembered.add(1);
        }
    }

    #[inline]
    pub(crate) fn removed(&self, backend: u16, live: bool) {
        self.total.take(1);
        let backend = usize::from(backend);
        if let (Some(alive), Some(remembered)) = (self.live.get(backend), self.remembered.get(backend)) {
            alive.take(u64::from(live));
            remembered.take(1);
        }
    }

    /// A flow goes from one stage to another.
    #[inline]
    pub(crate) fn moved(&self, backend: u16, was_live: bool, live: bool) {
        if let Some(counter) = self.live.get(usize::from(backend)).filter(|_| was_live != live) {
            if live { counter.add(1) } else { counter.take(1) }
        }
    }
}

/// What one worker has done. `received` is always the sum of `transmitted`, `host` and `dropped`.
#[derive(Debug)]
pub struct Counters {
    /// Every frame that the engine was shown.
    pub received: Traffic,
    /// Frames that went back to the wire at once: rewritten, or answered in place.
    pub transmitted: Traffic,
    /// Frames left to the host.
    pub host: Traffic,
    /// Frames dropped, by [`DropReason`].
    dropped: [Counter; DropReason::ALL.len()],
    /// Frames per backend, by its number; held frames count when they leave.
    pub backends: Vec<Traffic>,
    /// Frames per VIP that went to a backend, by its number.
    pub vips: Vec<Traffic>,
    /// Held frames that left later.
    pub released: Traffic,
    /// Held frames that waited too long and were given up.
    pub expired: Counter,
    /// ARP requests and solicitations for a VIP that were answered.
    pub neighbor_answers: Counter,
    /// Pings of a VIP that were answered.
    pub echo_answers: Counter,
    /// ICMP errors that were passed to the backend of the flow that they quote.
    pub icmp_errors: Counter,
    /// The flow table's.
    pub flows: Arc<FlowCounters>,
    /// Frames that the port refused to send: a full queue, a frame larger than the link carries.
    pub send_failed: Counter,
    /// Frames that the kernel lost because the port did not read fast enough.
    pub overrun: Counter,
    /// Frames lost because a ring's slot made no sense (netmap).
    pub bad_slots: Counter,
    /// How often a ring was in error (netmap).
    pub ring_errors: Counter,
    /// Frames that came with unfinished checksums, which were finished (netmap).
    pub finished: Counter,
    /// 1 while there is a tx ring that nothing is taken from (netmap).
    pub stuck: Counter,
    /// How often a worker's frames went over to a slower way to leave by, as a queue took nothing (mapped rings).
    pub gave_up: Counter,
}

impl Counters {
    /// All zero, for up to so many backends and VIPs.
    pub fn new(backends: usize, vips: usize) -> Counters {
        let traffic = |n: usize| std::iter::repeat_with(Traffic::default).take(n).collect();
        Counters {
            received: Traffic::default(),
            transmitted: Traffic::default(),
            host: Traffic::default(),
            dropped: Default::default(),
            backends: traffic(backends),
            vips: traffic(vips),
            released: Traffic::default(),
            expired: Counter::default(),
            neighbor_answers: Counter::default(),
            echo_answers: Counter::default(),
            icmp_errors: Counter::default(),
            flows: Arc::default(),
            send_failed: Counter::default(),
            overrun: Counter::default(),
            bad_slots: Counter::default(),
            ring_errors: Counter::default(),
            finished: Counter::default(),
            stuck: Counter::default(),
            gave_up: Counter::default(),
        }
    }

    /// Counts a frame of `bytes` bytes that goes from VIP number `vip` to backend number `backend`.
    #[inline]
    pub fn forwarded(&self, vip: usize, backend: usize, bytes: usize) {
        if let (Some(vip), Some(backend)) = (self.vips.get(vip), self.backends.get(backend)) {
            vip.count(bytes);
            backend.count(bytes);
        }
    }

    /// Counts a frame of `bytes` bytes that was received, forwarded and transmitted.
    #[inline]
    pub fn passed(&self, vip: usize, backend: usize, bytes: usize) {
        self.received.count(bytes);
        self.transmitted.count(bytes);
        self.forwarded(vip, backend, bytes);
    }

    /// The counter of frames dropped for `reason`.
    #[inline]
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.dropped[reason as usize]
    }

    /// Frames that were lost, for whatever reason, among those dropped.
    pub fn lost(&self) -> u64 {
        DropReason::ALL.iter().filter(|reason| reason.is_loss()).map(|&reason| self.dropped(reason).get()).sum()
    }

    /// Frames dropped for any reason: `received` less `transmitted` and `host`.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(Counter::get).sum()
    }
}

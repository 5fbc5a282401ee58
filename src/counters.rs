//! Plain counters, one set per worker: the worker alone writes them, anybody may read them at any time.

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
    /// Frames that the port refused to send: a full queue, a frame larger than the link carries.
    pub send_failed: Counter,
    /// Frames that the kernel lost because the port did not read fast enough.
    pub overrun: Counter,
}

impl Counters {
    /// All zero, for so many backends and VIPs.
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
            send_failed: Counter::default(),
            overrun: Counter::default(),
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

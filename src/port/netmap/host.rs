//! Frames for the host, from workers that do not have the host rings: copied to the worker that has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::port::Waker;

/// Frames that may be under way to the worker with the host rings.
const PLACES: usize = 256;
/// The longest of them, bytes.
const LONGEST: usize = 2048;

/// Where the frames of an rx ring go that are for the host.
#[derive(Clone)]
pub enum Outlet {
    /// Into this tx ring.
    Ring(usize),
    /// To the worker that has the host rings.
    Relay(Relay),
    /// Nowhere: the NIC is the balancer's alone.
    Closed,
}

impl Outlet {
    /// The tx ring that it names.
    pub(super) fn ring(&self) -> Option<usize> {
        if let Outlet::Ring(out) = self { Some(*out) } else { None }
    }
}

/// Passes frames to the worker with the host rings.
#[derive(Clone)]
pub struct Relay {
    full: Sender<Parcel>,
    empty: Receiver<Parcel>,
    waker: Waker,
    /// Has that worker been woken, and not begun to take what there is?
    rung: Arc<AtomicBool>,
}

/// Where that worker takes them.
pub struct Inlet {
    full: Receiver<Parcel>,
    empty: Sender<Parcel>,
    rung: Arc<AtomicBool>,
}

/// A frame under way. There are as many as there are places, made once.
struct Parcel {
    bytes: Box<[u8; LONGEST]>,
    len: usize,
}

/// Both ends; `waker` is that of the worker with the host rings.
pub fn relay(waker: Waker) -> (Relay, Inlet) {
    let (full, incoming) = bounded(PLACES);
    let (empties, empty) = bounded(PLACES);
    for _ in 0..PLACES {
        let _ = empties.try_send(Parcel { bytes: Box::new([0; LONGEST]), len: 0 });
    }
    let rung = Arc::new(AtomicBool::new(false));
    (Relay { full, empty, waker, rung: Arc::clone(&rung) }, Inlet { full: incoming, empty: empties, rung })
}

impl Relay {
    /// Passes a copy of `frame` on; false if there is no room, or it is longer than 2048 bytes.
    pub(super) fn pass(&mut self, frame: &[u8]) -> bool {
        if frame.len() > LONGEST {
            return false;
        }
        let Ok(mut parcel) = self.empty.try_recv() else { return false };
        parcel.bytes[..frame.len()].copy_from_slice(frame);
        parcel.len = frame.len();
        let passed = self.full.try_send(parcel).is_ok();
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
        passed
    }
}

impl Inlet {
    /// What is passed from now on rings anew.
    pub(super) fn answer(&self) {
        self.rung.store(false, Ordering::Release);
    }

    /// Is there nothing to take?
    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    /// Shows the next frame to `show`; false if there is none.
    pub(super) fn take(&mut self, show: impl FnOnce(&[u8])) -> bool {
        let Ok(parcel) = self.full.try_recv() else { return false };
        show(&parcel.bytes[..parcel.len]);
        let _ = self.empty.try_send(parcel);
        true
    }
}

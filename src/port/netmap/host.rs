//! Frames for the host, from workers that do not have the host rings: copied to the worker that has.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::port::Waker;

/// Frames that may be under way to the worker with the host rings.
const PLACES: usize = 256;
/// The longest of them, bytes.
const LONGEST: usize = 2048;

/// Where the frames of an rx ring go that are for the host.
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
}

/// Where that worker takes them.
pub struct Inlet {
    full: Receiver<Parcel>,
    empty: Sender<Parcel>,
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
    (Relay { full, empty, waker }, Inlet { full: incoming, empty: empties })
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
        let was_empty = self.full.is_empty();
        let passed = self.full.try_send(parcel).is_ok();
        if was_empty {
            self.waker.wake();
        }
        passed
    }
}

impl Inlet {
    /// Shows the next frame to `show`; false if there is none.
    pub(super) fn take(&mut self, show: impl FnOnce(&[u8])) -> bool {
        let Ok(parcel) = self.full.try_recv() else { return false };
        show(&parcel.bytes[..parcel.len]);
        let _ = self.empty.try_send(parcel);
        true
    }
}

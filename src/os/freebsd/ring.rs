//! Mapped rings of packet sockets: Linux has them, here netmap(4) is what they would be.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use memmap2::MmapRaw;

use super::FilterControl;
use crate::os::{Interface, Ready, RingShape, Wanted};

/// A ring that there cannot be.
pub struct OpenRing {
    /// Its slots.
    pub memory: MmapRaw,
    /// How they lie in it.
    pub shape: RingShape,
    /// What is not in memory.
    pub socket: RingSocket,
}

/// A socket that there cannot be.
pub enum RingSocket {}

/// Says what to use instead.
///
/// # Errors
/// Always.
pub fn open_rings(
    _interface: &Interface,
    _workers: usize,
    _wanted: &Wanted,
) -> io::Result<(Vec<OpenRing>, FilterControl)> {
    let why = "mapped rings of packet sockets are Linux's: use --driver netmap, or --driver packet (bpf)";
    Err(io::Error::new(ErrorKind::Unsupported, why))
}

/// The queues that `_interface` receives by, as far as packet sockets are concerned.
pub fn receive_queues(_interface: &str) -> usize {
    1
}

impl RingSocket {
    /// Receives a frame that was larger than its slot.
    ///
    /// # Errors
    /// None.
    pub fn receive_whole(&mut self, _buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match *self {}
    }

    /// Receives a frame that stands aside.
    ///
    /// # Errors
    /// None.
    pub fn receive_aside(&mut self, _buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match *self {}
    }

    /// Sends frames.
    ///
    /// # Errors
    /// None.
    pub fn send(&mut self, _frames: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    /// Why small frames leave by no faster way.
    pub fn slow(&self) -> Option<&str> {
        match *self {}
    }

    /// Sends what has waited for room.
    pub fn push_on(&mut self) {
        match *self {}
    }

    /// Does something wait for room? Then how many frames were taken so far.
    pub fn held_up(&self) -> Option<u32> {
        match *self {}
    }

    /// What waits is refused, and the next frames leave another way.
    pub fn give_up(&mut self) {
        match *self {}
    }

    /// Frames that were refused since the last call.
    pub fn take_refused(&mut self) -> u64 {
        match *self {}
    }

    /// Waits for a frame.
    ///
    /// # Errors
    /// None.
    pub fn wait(&self, _wake: BorrowedFd<'_>, _until: Option<Instant>) -> io::Result<Ready> {
        match *self {}
    }

    /// Forgets the error that a socket has to tell.
    pub fn clear_error(&self) {
        match *self {}
    }

    /// Frames lost since the last call.
    pub fn take_drops(&self) -> u64 {
        match *self {}
    }
}

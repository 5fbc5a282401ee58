//! The port on a mapped packet(7) ring (Linux): frames are read where the kernel has put them, and sent from there.
//!
//! ```text
//!   wire -> slot -> decide -+- Transmit -> sendmmsg, up to 64 at a time, straight out of their slots
//!                           \- Host, Drop
//!           slots are the kernel's again once all that was taken is sent
//! ```
//!
//! To look for a frame is to read a word of memory. Under load a batch costs one system call; without load each frame is
//! sent as soon as it is there.
//!
//! Frames that are larger than a slot come by a system call each, in the order of the slots. Those that the balancer itself
//! depends on (ARP, neighbour discovery, answers to probes) have a socket of their own, aside.
//!
//! Each frame has its `virtio_net_hdr` in front (the *prefix*), as in the port on packet sockets.

mod slots;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use slots::{Place, Slots, Taken};

use super::packet::{Trouble, trouble};
use super::{Arm, Port, Tally, WakeReceiver};
use crate::os::{self, FilterControl, Interface, OpenRing, Ready, RingSocket, VNET_HEADER, Wanted};
use crate::verdict::Verdict;

/// Frames that leave by one system call.
const BATCH: usize = 64;
/// Frames that do not come in a slot and wait to be sent.
const WHOLE: usize = 4;
/// The longest frame with its prefix and two tags, and some room to notice one that is longer.
const BUFFER: usize = 66 << 10;
/// Frames, or looks in vain, between two looks at what stands aside, if nobody says that something does.
const LOOK_ASIDE: usize = 512;

/// Errors in a row that a socket may tell instead of a frame.
const ERRORS: u32 = 8;
/// How soon the system is asked again whether it has room for what it had none for.
const HELD_UP: Duration = Duration::from_millis(1);
/// How long nothing may be taken of what waits for room.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a port on a ring needs of the system, beside the ring itself.
pub trait Calls {
    /// Receives a frame that was larger than its slot, prefix and frame, into `buffer`; its length, or `None`.
    ///
    /// # Errors
    /// The system's.
    fn receive_whole(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// The same of a frame that stands aside.
    ///
    /// # Errors
    /// The system's.
    fn receive_aside(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// Sends up to 64 frames, each with its prefix, until one is refused; how many have left, or are the system's to send
    /// or to count.
    ///
    /// # Errors
    /// The first was refused.
    fn send(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends what has waited for room.
    fn push_on(&mut self);

    /// Does something wait for room? Then how many frames the system has taken so far, modulo 2^32.
    fn held_up(&self) -> Option<u32>;

    /// Nothing is taken any more: what waits counts as refused, and the next frames leave another way.
    fn give_up(&mut self);

    /// Waits for a frame, for `wake`, or until `until`; `None` waits for ever.
    ///
    /// # Errors
    /// The system's.
    fn wait(&mut self, wake: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<Ready>;

    /// Forgets the error that a socket has to tell.
    fn clear_error(&mut self);

    /// Frames lost since the last call because they were not read fast enough.
    fn take_drops(&mut self) -> u64;

    /// Frames that were refused since the last call, beside those that [`Calls::send`] has told of.
    fn take_refused(&mut self) -> u64;
}

/// A port on the ring of a network interface.
pub struct RingPort<C = RingSocket> {
    slots: Slots,
    calls: C,
    wake: WakeReceiver,
    /// Frames that did not come in a slot.
    whole: [Box<[u8]>; WHOLE],
    /// How many of them are in use.
    used: usize,
    /// What is to be sent.
    outgoing: Vec<Outgoing>,
    tally: Tally,
    /// While something waits for room: how many frames were taken, and since when no more.
    stalled: Option<(u32, Instant)>,
    /// How long that may last.
    patience: Duration,
    /// May a frame wait aside? They are rare, and looking costs a system call.
    aside_waits: bool,
    /// Frames and looks in vain since the last look aside.
    since_aside: usize,
}

/// A frame that is to be sent, and where it is.
#[derive(Clone, Copy)]
enum Outgoing {
    Slot(Place),
    /// The first so many bytes of the buffer with this number.
    Whole(usize, usize),
}

/// Opens a port for each of `wakes` on `interface`, for the packets that are `wanted`; they share these by flow.
///
/// # Errors
/// The system's: not permitted, no memory, no such interface, no rings in this system.
pub fn open(
    interface: &Interface,
    wanted: &Wanted,
    wakes: Vec<WakeReceiver>,
) -> io::Result<(Vec<RingPort>, FilterControl)> {
    let (rings, filters) = os::open_rings(interface, wakes.len(), wanted)?;
    let ports = rings.into_iter().zip(wakes).map(|(ring, wake)| {
        let OpenRing { memory, shape, socket } = ring;
        Ok(RingPort::new(Slots::new(memory, shape)?, socket, wake))
    });
    Ok((ports.collect::<io::Result<_>>()?, filters))
}

impl RingPort {
    /// Why small frames leave by no faster way than the others, if so.
    pub fn slow(&self) -> Option<&str> {
        self.calls.slow()
    }
}

impl<C: Calls> RingPort<C> {
    fn new(slots: Slots, calls: C, wake: WakeReceiver) -> RingPort<C> {
        RingPort {
            slots,
            calls,
            wake,
            whole: std::array::from_fn(|_| vec![0; BUFFER].into_boxed_slice()),
            used: 0,
            outgoing: Vec::with_capacity(BATCH),
            tally: Tally::default(),
            stalled: None,
            patience: PATIENCE,
            aside_waits: true,
            since_aside: 0,
        }
    }

    /// Shows up to `budget` frames from the slots; how many there were.
    #[inline]
    fn drive_slots(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
        for n in 0..budget {
            let Some(taken) = self.slots.take() else {
                return Ok(n);
            };
            match taken {
                Taken::Frame(place) => {
                    let Some(frame) = self.slots.frame_mut(place).get_mut(VNET_HEADER..) else { continue };
                    // The host has its own copy, unless it is kept from it.
                    if decide(Arm::Front, frame) == Verdict::Transmit {
                        self.put(Outgoing::Slot(place))?;
                    }
                }
                Taken::Copied => {
                    let received = self.receive(C::receive_whole)?;
                    if !self.decide_whole(received, decide)? {
                        self.tally.overrun += 1;
                    }
                }
                Taken::Cut => self.tally.overrun += 1,
                Taken::Senseless => self.tally.bad_slots += 1,
            }
        }
        Ok(budget)
    }

    /// Shows up to `budget` frames that stand aside; how many there were.
    fn drive_aside(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
        for n in 0..budget {
            let received = self.receive(C::receive_aside)?;
            if !self.decide_whole(received, decide)? {
                self.aside_waits = false;
                return Ok(n);
            }
        }
        Ok(budget)
    }

    /// Receives a frame by `call` into the next buffer; its length.
    fn receive(&mut self, call: impl Fn(&mut C, &mut [u8]) -> io::Result<Option<usize>>) -> io::Result<Option<usize>> {
        if self.used == WHOLE {
            self.flush()?;
        }
        for _ in 0..ERRORS {
            match call(&mut self.calls, &mut self.whole[self.used]) {
                Ok(received) => return Ok(received),
                Err(e) => match trouble(e) {
                    Trouble::Gone(e) => return Err(e),
                    Trouble::Nothing => return Ok(None),
                    // The socket has told of an error instead, as it does once: the link went down. The frame is still there.
                    Trouble::Frame => {}
                },
            }
        }
        Ok(None)
    }

    /// Shows what is in the next buffer; false if nothing was received.
    fn decide_whole(
        &mut self,
        received: Option<usize>,
        decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict,
    ) -> io::Result<bool> {
        let Some(length) = received else { return Ok(false) };
        if let Some(frame) = self.whole[self.used].get_mut(VNET_HEADER..length)
            && decide(Arm::Front, frame) == Verdict::Transmit
        {
            self.used += 1;
            self.put(Outgoing::Whole(self.used - 1, length))?;
        }
        Ok(true)
    }

    #[inline]
    fn put(&mut self, frame: Outgoing) -> io::Result<()> {
        self.outgoing.push(frame);
        if self.outgoing.len() == BATCH { self.flush() } else { Ok(()) }
    }

    /// Sends what is to be sent, and lets go of all slots and buffers.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        let result = if !self.outgoing.is_empty() {
            self.transmit()
        } else {
            if self.calls.held_up().is_some() {
                self.calls.push_on();
            }
            Ok(())
        };
        match self.calls.held_up() {
            Some(taken) => self.watch(taken),
            None => self.stalled = None,
        }
        self.outgoing.clear();
        self.used = 0;
        self.slots.release();
        result
    }

    /// Frames wait for room, of which so many were `taken`: gives up a queue that takes nothing for too long.
    #[cold]
    fn watch(&mut self, taken: u32) {
        let now = Instant::now();
        match self.stalled {
            Some((before, since)) if before == taken => {
                if now.duration_since(since) >= self.patience {
                    self.calls.give_up();
                    self.stalled = None;
                    self.tally.gave_up += 1;
                }
            }
            _ => self.stalled = Some((taken, now)),
        }
    }

    fn transmit(&mut self) -> io::Result<()> {
        let frames: [IoSlice<'_>; BATCH] = std::array::from_fn(|n| {
            IoSlice::new(match self.outgoing.get(n) {
                Some(Outgoing::Slot(place)) => self.slots.frame(*place),
                Some(Outgoing::Whole(number, length)) => &self.whole[*number][..*length],
                None => &[],
            })
        });
        let mut rest = &frames[..self.outgoing.len().min(BATCH)];
        while !rest.is_empty() {
            match self.calls.send(rest) {
                // The one behind these was refused, which the next call tells of.
                Ok(sent) if sent > 0 => rest = rest.get(sent..).unwrap_or_default(),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    if let Trouble::Gone(e) = trouble(e) {
                        self.tally.send_failed += rest.len() as u64;
                        return Err(e);
                    }
                    self.tally.send_failed += 1;
                    rest = &rest[1..];
                }
            }
        }
        Ok(())
    }
}

impl<C: Calls> Port for RingPort<C> {
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
        // Who is never idle never waits, and so is not told of what stands aside.
        if self.since_aside >= LOOK_ASIDE {
            self.since_aside = 0;
            self.aside_waits = true;
        }
        // A flood of clients' frames must not keep the others waiting.
        let clients = if self.aside_waits { budget - budget / 4 } else { budget };
        let mut n = self.drive_slots(clients, decide)?;
        if self.aside_waits {
            n += self.drive_aside(budget - n, decide)?;
        }
        self.since_aside += n.max(1);
        self.flush()?;
        Ok(n)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = VNET_HEADER + frame.len();
        let Some((prefix, rest)) =
            self.whole[0].get_mut(..length).and_then(|room| room.split_at_mut_checked(VNET_HEADER))
        else {
            self.tally.send_failed += 1;
            return Ok(());
        };
        // Nothing is left to the hardware.
        prefix.fill(0);
        rest.copy_from_slice(frame);
        self.put(Outgoing::Whole(0, length))?;
        self.flush()
    }

    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let until = if self.calls.held_up().is_some() {
            let soon = Instant::now() + HELD_UP;
            Some(until.map_or(soon, |until| until.min(soon)))
        } else {
            until
        };
        let ready = self.calls.wait(self.wake.as_fd(), until)?;
        if ready.woken {
            self.wake.clear();
        }
        if ready.failed {
            self.calls.clear_error();
        }
        self.aside_waits |= ready.aside;
        Ok(())
    }

    fn tally(&mut self) -> Tally {
        self.tally.overrun += self.calls.take_drops();
        self.tally.send_failed += self.calls.take_refused();
        self.tally
    }
}

impl Calls for RingSocket {
    fn receive_whole(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        RingSocket::receive_whole(self, buffer)
    }

    fn receive_aside(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        RingSocket::receive_aside(self, buffer)
    }

    fn send(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        RingSocket::send(self, frames)
    }

    fn push_on(&mut self) {
        RingSocket::push_on(self);
    }

    fn held_up(&self) -> Option<u32> {
        RingSocket::held_up(self)
    }

    fn give_up(&mut self) {
        RingSocket::give_up(self);
    }

    fn take_refused(&mut self) -> u64 {
        RingSocket::take_refused(self)
    }

    fn wait(&mut self, wake: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<Ready> {
        RingSocket::wait(self, wake, until)
    }

    fn clear_error(&mut self) {
        RingSocket::clear_error(self);
    }

    fn take_drops(&mut self) -> u64 {
        RingSocket::take_drops(self)
    }
}

#[cfg(test)]
mod tests;

//! The port on netmap(4): frames are read and sent in memory that is shared with the kernel.
//!
//! ```text
//!   wire -> NIC rx ring -> decide -+- Transmit -> NIC tx ring -> wire       the buffers of both slots change places
//!                                  +- Host -----> host tx ring -> the host's own stack
//!                                  \- Drop
//!   the host's own stack -> host rx ring -> NIC tx ring -> wire
//! ```
//!
//! A frame is not copied where both rings lie in one region of memory: the slots exchange buffers, and `NS_BUF_CHANGED`
//! says so. The rings of one NIC and its host rings always do, as do all NICs with the system's own allocator; the ports of
//! a VALE switch do not, and there frames are copied.
//!
//! With two arms, clients are on the one and backends on the other. A frame leaves by the arm that its source MAC belongs
//! to: what goes to a backend comes from the back's MAC, an answer to a client from the front's.

pub mod device;
mod host;
mod kernel;
pub mod model;
mod outgoing;
pub mod parts;
mod ring;

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use netmap_sys::{NETMAP_MAX_FRAGS, NS_MOREFRAG};
use nix::errno::Errno;

use host::{Inlet, Outlet};
pub use kernel::{Kernel, Polled};
use outgoing::Outgoing;
use parts::{FromHost, Parts, Receive};
pub use ring::{Region, Ring, Slot, counts};

use super::{Arm, Port, Tally, WakeReceiver};
use crate::verdict::Verdict;
use crate::wire::checksum::{self, Finish};

/// Between two looks at rings that are in error.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// After something was sent, the rings are looked at once more after so long: what an emulated adapter or a pipe had no
/// room for is sent then.
const LATE: Duration = Duration::from_millis(2);
/// Rings in error for so long will not recover.
const HOPELESS: Duration = Duration::from_secs(5);
/// The longest frame in several slots that is put together.
const LONGEST: usize = 64 << 10;

/// A port on netmap, for one worker.
pub struct NetmapPort<K> {
    receive: Vec<Receive>,
    from_host: Vec<FromHost>,
    outgoing: Outgoing<K>,
    inlets: Vec<(Inlet, usize)>,
    wake: WakeReceiver,
    /// Has the kernel just told what there is to read?
    fresh: bool,
    /// Which rx ring comes first in the next round.
    first: usize,
    /// Since when rings have been in error.
    failing: Option<Instant>,
    /// Room for a frame of several slots.
    whole: Vec<u8>,
}

impl<K: Kernel> NetmapPort<K> {
    /// A port of these parts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: a part names another that there is not.
    pub fn new(parts: Parts<K>, wake: WakeReceiver) -> io::Result<NetmapPort<K>> {
        let Parts { kernels, receive, transmit, from_host, back, inlets } = parts;
        let outgoing = Outgoing::new(kernels, transmit, back);
        let named = receive.iter().flat_map(|r| r.out.into_iter().chain(r.host.ring()));
        let named = named.chain(from_host.iter().map(|host| host.out)).chain(inlets.iter().map(|(_, out)| *out));
        if receive.is_empty() || !outgoing.has_all(named) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a part of the port is missing"));
        }
        Ok(NetmapPort {
            receive,
            from_host,
            outgoing,
            inlets,
            wake,
            fresh: false,
            first: 0,
            failing: None,
            whole: Vec::with_capacity(LONGEST),
        })
    }

    /// Learns what has come, unless that is known already, gives back what has been read, and sends what has been put into
    /// the tx rings.
    fn refresh(&mut self, budget: usize) -> io::Result<()> {
        let waiting = || self.receive.iter().map(|r| r.ring.space() as usize).sum::<usize>();
        if self.outgoing.has_filled() || (!self.fresh && waiting() < budget) {
            self.poll(Some(Instant::now()))?;
        }
        self.fresh = false;
        self.outgoing.refresh();
        self.outgoing.check()
    }

    /// One `poll`: it syncs all rings, both ways. Not by ioctls: those would be two calls, and ask emulated adapters to
    /// return each sent slot at once, which some (epair) cannot.
    fn poll(&mut self, until: Option<Instant>) -> io::Result<()> {
        self.outgoing.publish();
        let polled = K::poll(&mut self.outgoing.kernels, &self.wake, until)?;
        if polled.woken {
            self.wake.clear();
        }
        self.fresh = polled.ready;
        if polled.failed {
            return self.ail();
        }
        self.failing = None;
        Ok(())
    }

    /// A ring is in error. Set up anew by the kernel, it goes on at once; in an interface that is being reset, later; in
    /// one that has gone, never.
    #[cold]
    fn ail(&mut self) -> io::Result<()> {
        self.outgoing.tally.ring_errors += 1;
        for kernel in &mut self.outgoing.kernels {
            match kernel.sync_rx().map_err(|e| (e.raw_os_error().map(Errno::from_raw), e)) {
                Ok(()) | Err((Some(Errno::EIO | Errno::EBUSY | Errno::EAGAIN | Errno::EINTR), _)) => {}
                Err((_, e)) => return Err(e),
            }
        }
        let now = Instant::now();
        match self.failing {
            None => self.failing = Some(now),
            Some(since) if now.duration_since(since) >= HOPELESS => return Err(Errno::EIO.into()),
            // It would say so again at once.
            Some(_) => {
                K::poll(&mut [], &self.wake, Some(now + ERROR_PAUSE))?;
            }
        }
        Ok(())
    }

    /// Frames of the host's own stack go out as they are, and those that other workers have for it go in.
    fn serve_host(&mut self, budget: usize) {
        for FromHost { ring, out } in &mut self.from_host {
            let (mut head, tail) = ring.bounds();
            for _ in 0..budget {
                if head == tail {
                    break;
                }
                let slot = ring.slot(head);
                self.outgoing.hand_over(ring, head, slot, *out);
                head = ring.next(head);
            }
            ring.release_to(head);
        }
        for (inlet, out) in &mut self.inlets {
            inlet.answer();
            for _ in 0..budget {
                let outgoing = &mut self.outgoing;
                if !inlet.take(|frame| outgoing.copy(frame, *out)) {
                    break;
                }
            }
        }
    }
}

impl<K: Kernel> Port for NetmapPort<K> {
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
        self.refresh(budget)?;
        let mut n = 0;
        let rings = self.receive.len();
        // Each gets its share, and then what the others have left.
        let mut share = budget.div_ceil(rings);
        for _ in 0..2 {
            for step in 0..rings {
                let rx = &mut self.receive[(self.first + step) % rings];
                n += pump(rx, share.min(budget - n), &mut self.outgoing, &mut self.whole, decide);
            }
            if rings == 1 || n == budget {
                break;
            }
            share = budget - n;
        }
        self.first = (self.first + 1) % rings;
        self.serve_host(budget);
        Ok(n)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.outgoing.originate(frame, self.receive[0].out);
        Ok(())
    }

    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let mut until = until;
        if self.inlets.iter().any(|(inlet, _)| !inlet.is_empty()) {
            until = Some(Instant::now());
        } else if self.outgoing.has_filled() {
            let look = Instant::now() + LATE;
            until = Some(until.map_or(look, |until| until.min(look)));
        }
        self.poll(until)
    }

    fn tally(&mut self) -> Tally {
        self.outgoing.tally
    }
}

/// Reads up to `budget` frames of one rx ring; returns how many there were.
#[inline]
fn pump<K: Kernel>(
    rx: &mut Receive,
    budget: usize,
    outgoing: &mut Outgoing<K>,
    whole: &mut Vec<u8>,
    decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict,
) -> usize {
    let (mut head, tail) = rx.ring.bounds();
    let mut n = 0;
    while head != tail && n < budget {
        let next = rx.ring.next(head);
        // SAFETY: both are places of this ring, as its bounds and what follows them are.
        let (slot, following) = unsafe { (rx.ring.known_slot(head), rx.ring.known_slot(next)) };
        let mut chain = None;
        // There is one place where frames are decided about, so that the decision can be compiled into it.
        let frame = if slot.flags & NS_MOREFRAG == 0 {
            rx.ring.prefetch(following.buffer);
            rx.ring.buffer(slot.buffer, usize::from(slot.len))
        } else {
            match gather(&mut rx.ring, head, tail, whole) {
                Gathered::All(found) => {
                    chain = Some(found);
                    Some(&mut whole[..])
                }
                Gathered::Nonsense(after) => {
                    outgoing.tally.bad_slots += 1;
                    n += 1;
                    head = after;
                    continue;
                }
                Gathered::Part => {
                    // Wake us when more has come than there is now.
                    rx.ring.hold(head, tail);
                    return n;
                }
            }
        };
        n += 1;
        let Some(frame) = frame else {
            outgoing.tally.bad_slots += 1;
            head = next;
            continue;
        };
        if rx.finish && checksum::finish(frame) == Finish::Finished {
            outgoing.tally.finished += 1;
        }
        let verdict = decide(rx.arm, frame);
        if let Some(chain) = chain {
            carry_chain(rx, head, &chain, verdict, outgoing, whole);
            head = chain.after;
            continue;
        }
        match verdict {
            Verdict::Transmit => {
                let out = rx.out[outgoing.arm_of(frame) as usize];
                outgoing.hand_over(&mut rx.ring, head, slot, out);
            }
            Verdict::Host => match &mut rx.host {
                Outlet::Ring(out) => outgoing.hand_over(&mut rx.ring, head, slot, *out),
                Outlet::Relay(relay) => outgoing.tally.send_failed += u64::from(!relay.pass(frame)),
                Outlet::Closed => {}
            },
            Verdict::Drop(_) => {}
        }
        head = next;
    }
    rx.ring.release_to(head);
    n
}

/// The slots of one frame.
struct Chain {
    /// The one behind them.
    after: u32,
    /// Those that hold a part of it.
    filled: u32,
    /// The last of these.
    last: u32,
}

enum Gathered {
    All(Chain),
    /// What begins here makes no frame; this slot is behind it.
    Nonsense(u32),
    /// Its end has not come yet.
    Part,
}

/// Puts the frame of several slots that begins at `head` together in `whole`.
#[cold]
fn gather(ring: &mut Ring, head: u32, tail: u32, whole: &mut Vec<u8>) -> Gathered {
    whole.clear();
    let mut sound = true;
    // Some drivers leave an empty slot in front of a frame: nothing of that goes on.
    let (mut at, mut slots, mut filled, mut last) = (head, 0, 0, head);
    loop {
        let slot = ring.slot(at);
        slots += 1;
        if slot.len > 0 {
            (filled, last) = (filled + 1, at);
        }
        match ring.buffer(slot.buffer, usize::from(slot.len)) {
            Some(part) if whole.len() + part.len() <= LONGEST => whole.extend_from_slice(part),
            _ => sound = false,
        }
        at = ring.next(at);
        if slot.flags & NS_MOREFRAG == 0 {
            break;
        }
        if at == tail {
            // A ring that is full will not bring the rest.
            if slots < NETMAP_MAX_FRAGS && slots + 1 < ring.num_slots() {
                return Gathered::Part;
            }
            sound = false;
            break;
        }
    }
    if sound && slots <= NETMAP_MAX_FRAGS {
        Gathered::All(Chain { after: at, filled, last })
    } else {
        Gathered::Nonsense(at)
    }
}

/// Carries out the `verdict` on the frame `whole` of the slots from `head` on.
#[cold]
fn carry_chain<K: Kernel>(
    rx: &mut Receive,
    head: u32,
    chain: &Chain,
    verdict: Verdict,
    outgoing: &mut Outgoing<K>,
    whole: &[u8],
) {
    match verdict {
        Verdict::Transmit => {
            let out = rx.out[outgoing.arm_of(whole) as usize];
            if !outgoing.room(out, chain.filled) {
                return;
            }
            let mut rest = whole;
            let mut at = head;
            while at != chain.after {
                let slot = rx.ring.slot(at);
                let length = usize::from(slot.len);
                if let (true, Some(part), Some((bytes, others))) =
                    (length > 0, rx.ring.buffer(slot.buffer, length), rest.split_at_checked(length))
                {
                    part.copy_from_slice(bytes);
                    rest = others;
                    let flags = if at == chain.last { 0 } else { NS_MOREFRAG };
                    outgoing.hand_over(&mut rx.ring, at, Slot { flags, ..slot }, out);
                }
                at = rx.ring.next(at);
            }
        }
        Verdict::Host => match &mut rx.host {
            Outlet::Ring(out) => outgoing.copy(whole, *out),
            Outlet::Relay(relay) => outgoing.tally.send_failed += u64::from(!relay.pass(whole)),
            Outlet::Closed => {}
        },
        Verdict::Drop(_) => {}
    }
}

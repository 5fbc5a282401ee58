//! packet(7) sockets whose receive ring is mapped (PACKET_RX_RING, TPACKET_V2; the kernel's
//! Documentation/networking/packet_mmap.rst), and that share an interface by flow (PACKET_FANOUT).
//!
//! Slots are only as large as a frame that fits the link, so that the ring stays in the processor's caches. What is larger
//! (64 KiB, before it is cut or after it was put together) marks its slot TP_STATUS_COPY and waits whole at the socket, in
//! the order of the slots (PACKET_COPY_THRESH).
//!
//! Small frames with nothing left to do in them leave by AF_XDP ([`super::xsk`]), the others, 64 KiB ones and those with an
//! unfinished checksum, straight out of their slots by sendmmsg(2), in the order in which they came. PACKET_TX_RING would
//! want each copied into a slot of its own and gives the kernel more to do for a small frame, not less; PACKET_QDISC_BYPASS
//! alone saves next to nothing.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use libc::{c_int, c_uint};
use memmap2::{MmapOptions, MmapRaw};
use socket2::SockRef;

use super::filter::{Queue, nothing};
use super::link::mtu;
use super::option;
use super::queues::transmit_queues;
use super::socket::{self, AsideReceiver, FilterControl, attach, bind, set, sieve};
use super::waiter;
use super::xsk::{XdpSender, in_words};
use crate::os::vnet::{VNET_HEADER, is_finished};
use crate::os::{Interface, Ready, RingShape, Wanted};
use crate::wire::ether::{HEADER_LEN, TAG_LEN};

// From linux/if_packet.h; the libc crate does not have all of them.
const PACKET_RX_RING: c_int = 5;
const PACKET_COPY_THRESH: c_int = 7;
const PACKET_VERSION: c_int = 10;
const PACKET_RESERVE: c_int = 12;
const TPACKET_V2: c_int = 1;

/// Bytes of a slot before the frame's MACs, at the most: header, address, virtio_net_hdr, and room for a tag.
const SLOT_HEAD: usize = 96;
const CACHE_LINE: usize = 64;
/// A slot is never larger; the rest takes the other way.
const MOST_SLOT: usize = 255 * CACHE_LINE;
/// The kernel allocates a block as consecutive pages, which it has to find.
const BLOCK: usize = 64 << 10;
/// Slots of a ring: some ten milliseconds of a flood. More would only be more delay when frames come faster than they can
/// be sent.
const SLOTS: usize = 4096;
/// Bytes of a ring, for links with large frames.
const MOST_RING: usize = 16 << 20;
/// Blocks of a ring where memory is scarce.
const LEAST_BLOCKS: usize = 4;

/// Frames that one system call sends.
const BATCH: usize = 64;

/// A ring with its socket.
pub struct OpenRing {
    /// The slots, of that shape; the kernel writes them.
    pub memory: MmapRaw,
    /// How they lie in it.
    pub shape: RingShape,
    /// What is not in memory.
    pub socket: RingSocket,
}

/// The sockets of one worker.
pub struct RingSocket {
    /// The ring's own; frames that are larger than a slot wait here.
    whole: AsideReceiver,
    /// For what must not be lost in a flood of clients' frames. The first worker has it.
    aside: Option<AsideReceiver>,
    headers: Headers,
    fast: Fast,
    /// Frames that were refused since somebody asked.
    refused: u64,
    place: Place,
}

/// Where the way for small frames leads to.
#[derive(Default)]
struct Place {
    interface: String,
    /// The interface's number.
    index: u32,
    queue: u32,
}

/// The way for small frames.
enum Fast {
    Open(XdpSender),
    /// The interface was down; to be opened again.
    Down,
    /// It cannot be had, for this reason.
    Refused(String),
}

/// Opens so many rings on `interface`, which share the frames that are `wanted` by flow.
///
/// # Errors
/// The system's: not permitted, no memory, no such interface, an option that this kernel does not know.
pub fn open_rings(
    interface: &Interface,
    workers: usize,
    wanted: &Wanted,
) -> io::Result<(Vec<OpenRing>, FilterControl)> {
    let shape = shape(mtu(&interface.name)?);
    let mut rings = Vec::new();
    for _ in 0..workers.max(1) {
        rings.push(open_ring(shape)?);
    }
    let sockets: Vec<OwnedFd> = rings.iter().map(|ring| ring.socket.socket().try_clone()).collect::<io::Result<_>>()?;
    for socket in &sockets {
        // Bound, but not sharing yet, each would get every frame.
        attach(socket, &nothing())?;
        bind(socket, interface.index)?;
    }
    if sockets.len() > 1 {
        share(&sockets)?;
    }
    for socket in &sockets {
        sieve(socket, Queue::Mapped, wanted)?;
    }
    for (queue, ring) in (0..).zip(&mut rings) {
        ring.socket.place = Place { interface: interface.name.clone(), index: interface.index, queue };
        ring.socket.open_fast();
    }
    let aside = AsideReceiver::open(interface.index, Queue::Own, wanted)?;
    let mut filtered: Vec<(OwnedFd, Queue)> = sockets.into_iter().map(|socket| (socket, Queue::Mapped)).collect();
    filtered.push((aside.socket().try_clone()?, Queue::Own));
    if let Some(first) = rings.first_mut() {
        first.socket.aside = Some(aside);
    }
    Ok((rings, FilterControl::new(filtered)))
}

/// The ring for frames of a link with this MTU.
fn shape(mtu: usize) -> RingShape {
    let lines = (SLOT_HEAD + HEADER_LEN + 2 * TAG_LEN + mtu).div_ceil(CACHE_LINE);
    // An odd number of cache lines: the headers of slots in a row then fall into different sets of the caches.
    let slot = ((lines | 1) * CACHE_LINE).min(MOST_SLOT);
    let slots = SLOTS.min(MOST_RING / slot);
    RingShape { slot, block: BLOCK, blocks: slots.div_ceil(BLOCK / slot) }
}

fn open_ring(mut shape: RingShape) -> io::Result<OpenRing> {
    let socket = socket::open()?;
    set(&socket, PACKET_VERSION, TPACKET_V2)?;
    set(&socket, PACKET_RESERVE, TAG_LEN as c_int)?;
    set(&socket, PACKET_COPY_THRESH, 1)?;
    loop {
        match request_ring(&socket, shape) {
            Err(e) if e.kind() == ErrorKind::OutOfMemory && shape.blocks > LEAST_BLOCKS => shape.blocks /= 2,
            Err(e) => return Err(e),
            Ok(()) => break,
        }
    }
    let memory = MmapOptions::new().len(shape.length()).map_raw(&socket)?;
    let (whole, headers) = (AsideReceiver::new(socket)?, Headers::new());
    let socket = RingSocket { whole, aside: None, headers, fast: Fast::Down, refused: 0, place: Place::default() };
    Ok(OpenRing { memory, shape, socket })
}

/// Has the kernel make the ring of `socket`.
fn request_ring(socket: &OwnedFd, shape: RingShape) -> io::Result<()> {
    let request = libc::tpacket_req {
        tp_block_size: shape.block as c_uint,
        tp_block_nr: shape.blocks as c_uint,
        tp_frame_size: shape.slot as c_uint,
        tp_frame_nr: shape.slots() as c_uint,
    };
    // SAFETY: it is plain numbers.
    unsafe { option::set_struct(socket, libc::SOL_PACKET, PACKET_RX_RING, &request) }
}

/// Has `sockets` share what comes in, by flow: a hash of addresses and ports, of addresses alone for fragments, so that a
/// datagram stays together. Not DEFRAG, which would change frames, nor ROLLOVER, which would part flows.
fn share(sockets: &[OwnedFd]) -> io::Result<()> {
    let how = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    let [first, others @ ..] = sockets else { return Ok(()) };
    let join = |socket: &OwnedFd, how: c_uint, group: c_uint| {
        set(socket, libc::PACKET_FANOUT, (how << 16 | group) as c_int).map_err(|e| {
            io::Error::new(e.kind(), format!("{e}: interfaces are shared by PACKET_FANOUT since Linux 5.16"))
        })
    };
    join(first, how | libc::PACKET_FANOUT_FLAG_UNIQUEID, 0)?;
    let group = group_of(first)?;
    others.iter().try_for_each(|socket| join(socket, how, group))
}

/// The number of the group that `socket` shares with.
fn group_of(socket: &OwnedFd) -> io::Result<c_uint> {
    // SAFETY: it is a number.
    let value = unsafe { option::get::<c_uint>(socket, libc::SOL_PACKET, libc::PACKET_FANOUT) }?;
    Ok(value & 0xffff)
}

/// What sendmmsg(2) reads and fills in.
struct Headers(Box<[libc::mmsghdr]>);

// SAFETY: the pointers in it are only followed in `RingSocket::send`, which sets them before.
unsafe impl Send for Headers {}

impl Headers {
    fn new() -> Headers {
        // SAFETY: an mmsghdr of zeros is a valid, empty one.
        let empty = || unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        Headers((0..BATCH).map(|_| empty()).collect())
    }
}

impl RingSocket {
    fn socket(&self) -> &OwnedFd {
        self.whole.socket()
    }

    /// Receives a frame that was larger than its slot into `buffer`, with its virtio_net_hdr and its tag; its length with
    /// the former, or `None` if none waits.
    ///
    /// # Errors
    /// The system's.
    pub fn receive_whole(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.whole.receive(buffer)
    }

    /// The same of a frame that stands aside.
    ///
    /// # Errors
    /// The system's.
    pub fn receive_aside(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.aside.as_mut().map_or(Ok(None), |aside| aside.receive(buffer))
    }

    fn open_fast(&mut self) {
        self.fast = open_fast(&self.place).map_or_else(Fast::Refused, Fast::Open);
    }

    /// Why small frames leave by no faster way than the others, if so.
    pub fn slow(&self) -> Option<&str> {
        if let Fast::Refused(why) = &self.fast { Some(why) } else { None }
    }

    /// Sends `frames`, each with its virtio_net_hdr, until one is refused; how many have left, or are counted by
    /// [`RingSocket::take_refused`]. At most 64 at a time.
    ///
    /// # Errors
    /// The first was refused.
    #[inline]
    pub fn send(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let frames = &frames[..frames.len().min(BATCH)];
        let Fast::Open(fast) = &mut self.fast else {
            return self.send_by_packets(frames);
        };
        let small = frames.iter().map_while(|frame| plain(frame)).take_while(|frame| fast.push(frame)).count();
        if small > 0 || fast.left() > 0 {
            self.push_on();
        }
        if small > 0 {
            return Ok(small);
        }
        // The first is not plain, or the driver has no room for as many as may wait for it.
        let others = frames.iter().skip(1).take_while(|frame| plain(frame).is_none()).count();
        self.send_by_packets(&frames[..frames.len().min(1 + others)])
    }

    /// Sends what has waited for room.
    #[inline]
    pub fn push_on(&mut self) {
        let Fast::Open(fast) = &mut self.fast else { return };
        match fast.kick() {
            Ok(kicked) => self.refused += kicked.refused,
            // What is in its ring would leave when the interface is up again, whenever that is.
            Err(_) => {
                self.refused += u64::from(fast.left());
                self.fast = Fast::Down;
            }
        }
    }

    /// Does something wait for room? Then how many frames were taken so far, modulo 2^32.
    #[inline]
    pub fn held_up(&self) -> Option<u32> {
        let Fast::Open(fast) = &self.fast else { return None };
        (fast.left() > 0).then(|| fast.taken())
    }

    /// Nothing is taken any more: what waits is refused, and the next frames leave the other way.
    #[cold]
    pub fn give_up(&mut self) {
        let Fast::Open(fast) = &self.fast else { return };
        self.refused += u64::from(fast.left());
        self.fast = Fast::Refused(format!("queue {} takes nothing", self.place.queue));
    }

    fn send_by_packets(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = frames.len();
        for (header, frame) in self.headers.0.iter_mut().zip(frames) {
            // An IoSlice is an iovec, in all but name (its documentation says so).
            header.msg_hdr.msg_iov = std::ptr::from_ref(frame).cast_mut().cast();
            header.msg_hdr.msg_iovlen = 1;
        }
        let headers = self.headers.0.as_mut_ptr();
        // SAFETY: there are as many headers as frames, at most 64 (`send`), and each points to one iovec of `frames`, which,
        // and what it points to, is only read and outlives the call.
        let sent = unsafe { libc::sendmmsg(self.socket().as_raw_fd(), headers, count as c_uint, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| {
            let e = io::Error::last_os_error();
            // Its driver begins anew when it is up again, perhaps with other queues: worth another try.
            if matches!(self.fast, Fast::Refused(_)) && e.raw_os_error() == Some(libc::ENETDOWN) {
                self.fast = Fast::Down;
            }
            e
        })
    }

    /// Waits for a frame, for `wake` to be readable, or until `until`; `None` waits for ever. While nobody waits, a frame's
    /// arrival costs the kernel nothing more.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&self, wake: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<Ready> {
        let aside = self.aside.as_ref().map(|aside| aside.socket().as_fd());
        waiter::poll(self.socket().as_fd(), aside, wake, until)
    }

    /// Forgets the error that a socket has to tell.
    pub fn clear_error(&self) {
        for socket in std::iter::once(self.socket()).chain(self.aside.as_ref().map(AsideReceiver::socket)) {
            let _ = SockRef::from(socket).take_error();
        }
    }

    /// Frames lost since the last call because they were not read fast enough.
    pub fn take_drops(&self) -> u64 {
        let aside = self.aside.as_ref().map(|aside| aside.socket().as_fd());
        std::iter::once(self.socket().as_fd()).chain(aside).map(socket::take_drops).sum()
    }

    /// Frames that were refused since the last call, beside those that [`RingSocket::send`] tells of. To be called once in
    /// a while: it opens the way for small frames again that was lost when the interface was down.
    pub fn take_refused(&mut self) -> u64 {
        if matches!(self.fast, Fast::Down) {
            self.open_fast();
        }
        std::mem::take(&mut self.refused)
    }
}

/// Opens the way for small frames, or says why there is none.
fn open_fast(place: &Place) -> Result<XdpSender, String> {
    let queues = transmit_queues(&place.interface);
    if place.queue as usize >= queues {
        let plural = if queues == 1 { "" } else { "s" };
        return Err(format!(
            "it has no tx queue of its own, {} has {queues} tx queue{plural} (ethtool -l)",
            place.interface
        ));
    }
    XdpSender::open(place.index, place.queue).map_err(|e| in_words(&e, place.queue))
}

/// The frame behind its virtio_net_hdr `prefixed`, if that says nothing of it, and it is small.
#[inline]
fn plain<'a>(prefixed: &'a IoSlice<'_>) -> Option<&'a [u8]> {
    let (header, frame) = prefixed.split_at_checked(VNET_HEADER)?;
    (is_finished(header) && XdpSender::fits(frame)).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_what_the_link_carries_and_spread_over_the_caches() {
        for mtu in [68, 1280, 1500, 9000, 16000, 65535] {
            let shape = shape(mtu);
            assert!(shape.slot >= SLOT_HEAD + HEADER_LEN + 2 * TAG_LEN + mtu || shape.slot == MOST_SLOT, "{mtu}");
            assert!(shape.slot % (2 * CACHE_LINE) == CACHE_LINE, "{shape:?}");
            assert!(shape.slots() >= 512 && shape.length() <= MOST_RING + MOST_RING / 8, "{shape:?}");
        }
        assert!(shape(1500).slots() >= SLOTS);
    }
}

//! The packet(7) sockets: one for clients' frames, which pnet reads, and one aside for what must not be lost in a flood of
//! those, and for frames whose VLAN tag the kernel has taken out.
//!
//! Both carry a `virtio_net_hdr` before each frame (PACKET_VNET_HDR): it says which checksum is not finished yet and
//! into what a large frame is to be cut. Handed back with the frame, it makes whoever would have done that do it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use libc::c_int;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use socket2::{SockFilter, SockRef};

use super::filter::{Queue, coarse_program, program};
use super::option;
use crate::os::Wanted;
use crate::os::vnet::{VNET_HEADER, shift_offsets};
use crate::wire::ether::TAG_LEN;

/// Bytes before each frame: `struct virtio_net_hdr` (linux/virtio_net.h).
pub const FRAME_PREFIX: usize = VNET_HEADER;

/// How long one read may wait: not at all, as the port polls its sockets itself.
pub const READ_TIMEOUT: Duration = Duration::ZERO;

const MACS_LEN: usize = 12;
/// Room for some ten thousand small frames, or for a hundred of 64 KiB (the kernel doubles it); more would only be more
/// delay when frames come faster than they can be sent.
const SOCKET_BUFFER: usize = 4 << 20;

/// The sockets of a port.
pub struct PacketSockets {
    /// For pnet: clients' untagged frames in, all frames out. Bound to nothing yet.
    pub plain: Option<OwnedFd>,
    /// Another handle on the same socket, to wait for it.
    waitable: OwnedFd,
    /// For ARP, neighbour discovery, answers to probes, and tagged frames.
    pub aside: AsideReceiver,
}

/// Changes what the sockets of a port take. It keeps them open, so it should go when the port does.
pub struct FilterControl {
    sockets: Vec<(OwnedFd, Queue)>,
}

impl FilterControl {
    /// For these sockets, each with what it is for.
    pub(super) fn new(sockets: Vec<(OwnedFd, Queue)>) -> FilterControl {
        FilterControl { sockets }
    }

    /// What is `wanted` from now on. No frame is lost that both the old and the new filter let through; those that have
    /// passed the old one are still delivered.
    ///
    /// # Errors
    /// The system's. Each socket then takes at least what it took before, or what is wanted now.
    pub fn replace(&self, wanted: &Wanted) -> io::Result<()> {
        self.sockets.iter().try_for_each(|(socket, queue)| sieve(socket, *queue, wanted))
    }
}

/// Opens both sockets on interface number `index` for the packets that are `wanted`.
///
/// # Errors
/// The system's: not permitted, no such interface, an option that this kernel does not know.
pub fn open_packet_sockets(index: u32, wanted: &Wanted) -> io::Result<PacketSockets> {
    let plain = open()?;
    sieve(&plain, Queue::Clients, wanted)?;
    let aside = AsideReceiver::open(index, Queue::Aside, wanted)?;
    let waitable = plain.try_clone()?;
    Ok(PacketSockets { plain: Some(plain), waitable, aside })
}

/// Makes the prefix of a frame that the engine originates: nothing is left to the hardware.
pub fn prepare_send(prefix: &mut [u8]) {
    prefix.fill(0);
}

/// A socket with the options that all have. It is bound to nothing, and needs its filter before it is.
pub(super) fn open() -> io::Result<OwnedFd> {
    // Protocol 0: no frame arrives before the socket is bound, that is, before its filter is in place.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    set(&socket, libc::PACKET_IGNORE_OUTGOING, 1)?;
    set(&socket, libc::PACKET_VNET_HDR, 1)?;
    for (forced, asked) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        option::set(&socket, libc::SOL_SOCKET, forced, SOCKET_BUFFER as c_int)
            .or_else(|_| option::set(&socket, libc::SOL_SOCKET, asked, SOCKET_BUFFER as c_int))?;
    }
    Ok(socket)
}

/// Makes the socket take what is `wanted` from now on. The kernel replaces a filter at once: no frame is lost.
pub(super) fn sieve(socket: &OwnedFd, queue: Queue, wanted: &Wanted) -> io::Result<()> {
    let exact = program(queue, wanted);
    match attach(socket, &exact) {
        // net.core.optmem_max bounds programs, the one that is being replaced included. The coarse one needs next to
        // nothing; with that in place of the old one, there may be room.
        Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => {
            attach(socket, &coarse_program(queue, wanted))?;
            let _ = attach(socket, &exact);
            Ok(())
        }
        attached => attached,
    }
}

pub(super) fn attach(socket: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let filter: Vec<SockFilter> = program.iter().map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k)).collect();
    SockRef::from(socket).attach_filter(&filter)
}

/// Sets an option of packet(7).
pub(super) fn set(socket: &OwnedFd, option: c_int, value: c_int) -> io::Result<()> {
    option::set(socket, libc::SOL_PACKET, option, value)
}

/// Binds to interface number `index`: from now on frames arrive.
pub(super) fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let pointer = std::ptr::from_ref(&address).cast::<libc::sockaddr>();
    // SAFETY: the pointer is to a sockaddr_ll of the given length that outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), pointer, size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The socket that receives what stands aside; it puts the tag of tagged frames back in.
pub struct AsideReceiver {
    socket: OwnedFd,
}

/// The control message buffer, aligned as its header wants.
#[repr(align(8))]
struct Control([u8; 64]);

impl AsideReceiver {
    /// One of its own on interface number `index`, for the part `queue` of what is `wanted`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(index: u32, queue: Queue, wanted: &Wanted) -> io::Result<AsideReceiver> {
        let aside = AsideReceiver::new(open()?)?;
        sieve(&aside.socket, queue, wanted)?;
        bind(&aside.socket, index)?;
        Ok(aside)
    }

    /// One that reads whole frames from `socket`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(socket: OwnedFd) -> io::Result<AsideReceiver> {
        set(&socket, libc::PACKET_AUXDATA, 1)?;
        Ok(AsideReceiver { socket })
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Receives one frame into `buffer` (prefix and frame); its length with the prefix, or `None` if none waits.
    ///
    /// # Errors
    /// The system's.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let head = FRAME_PREFIX + MACS_LEN;
        let Some((front, rest)) = buffer.split_at_mut_checked(head) else {
            return Ok(None);
        };
        let Some(behind) = rest.get_mut(TAG_LEN..) else {
            return Ok(None);
        };
        // The frame is received around the four bytes that its tag will take.
        let mut parts = [
            libc::iovec { iov_base: front.as_mut_ptr().cast(), iov_len: front.len() },
            libc::iovec { iov_base: behind.as_mut_ptr().cast(), iov_len: behind.len() },
        ];
        let mut control = Control([0; 64]);
        // SAFETY: an msghdr of zeros is a valid, empty one.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len() as _;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: all that `message` points to (two disjoint parts of `buffer`, `control`) is writable, has the length
        // given with it and outlives the call.
        let received = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
        let received = match usize::try_from(received) {
            Ok(n) => n,
            Err(_) => {
                let e = io::Error::last_os_error();
                return if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                    Ok(None)
                } else {
                    Err(e)
                };
            }
        };
        // SAFETY: `message` was filled in by a successful recvmsg, and `control` still lives.
        let tag = unsafe { tag_of(&message) };
        if received <= head || message.msg_flags & libc::MSG_TRUNC != 0 {
            // Shorter than a header, or longer than the buffer: a runt for the engine.
            return Ok(Some(FRAME_PREFIX));
        }
        let Some(tag) = tag else {
            rest.copy_within(TAG_LEN..TAG_LEN + received - head, 0);
            return Ok(Some(received));
        };
        rest[..TAG_LEN].copy_from_slice(&tag);
        shift_offsets(front);
        Ok(Some(received + TAG_LEN))
    }
}

/// The tag in the control message PACKET_AUXDATA (packet(7)): TPID and TCI as on the wire.
///
/// # Safety
/// `message` and its control buffer have to be as recvmsg left them.
unsafe fn tag_of(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the caller vouches for `message`.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: CMSG_FIRSTHDR gives null or a header inside the control buffer.
    let header_ref = unsafe { header.as_ref() }?;
    // SAFETY: pure arithmetic.
    let wanted = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) };
    if header_ref.cmsg_level != libc::SOL_PACKET
        || header_ref.cmsg_type != libc::PACKET_AUXDATA
        || (header_ref.cmsg_len as u64) < u64::from(wanted)
    {
        return None;
    }
    // SAFETY: the length was checked to hold a whole tpacket_auxdata; it may be unaligned.
    let aux = unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>()) };
    if aux.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tpid =
        if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { aux.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), aux.tp_vlan_tci.to_be_bytes());
    Some([a, b, c, d])
}

/// Frames that the kernel had no room for since the last call (PACKET_STATISTICS resets itself).
pub(super) fn take_drops(socket: BorrowedFd<'_>) -> u64 {
    // SAFETY: it is plain numbers.
    let stats = unsafe { option::get::<libc::tpacket_stats>(&socket, libc::SOL_PACKET, libc::PACKET_STATISTICS) };
    stats.map_or(0, |stats| u64::from(stats.tp_drops))
}

impl PacketSockets {
    /// What to poll for frames.
    pub fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.waitable.as_fd()), Some(self.aside.socket.as_fd())]
    }

    /// A handle to change what the sockets take, also when they are another thread's.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn filters(&self) -> io::Result<FilterControl> {
        let sockets = [(&self.waitable, Queue::Clients), (&self.aside.socket, Queue::Aside)];
        let cloned = sockets.into_iter().map(|(socket, queue)| Ok((socket.try_clone()?, queue)));
        Ok(FilterControl::new(cloned.collect::<io::Result<_>>()?))
    }

    /// Frames lost since the last call because they were not read fast enough.
    pub fn take_drops(&self) -> u64 {
        self.descriptors().into_iter().flatten().map(take_drops).sum()
    }
}

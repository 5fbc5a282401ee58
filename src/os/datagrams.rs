//! Datagrams, many in one call (recvmmsg(2), sendmmsg(2)), with the local address that each came to or leaves from. The
//! same on every Unix but for `local_address` of `os/linux` and `os/freebsd`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void, socklen_t};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockAddr;

use super::system::local_address::{LOCAL_IPV4, LOCAL_IPV4_LENGTH, from_ipv4, local_ipv4, tell_local_ipv4};

/// Datagrams in one call at most.
pub const MOST_DATAGRAMS: usize = 32;
/// What the longest datagram has room in: its length is a number of 16 bits.
pub const DATAGRAM_ROOM: usize = 65_535;

/// `struct in6_pktinfo`: address, number of the interface.
const LOCAL_IPV6: (c_int, c_int) = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
const LOCAL_IPV6_LENGTH: usize = size_of::<libc::in6_pktinfo>();

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// The number of the interface, if the address means something on that link alone; else 0.
    pub interface: u32,
}

/// Room for control messages, aligned as their headers want; one of the above needs 40 bytes at most.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; 64]);

/// What belongs to one datagram.
#[derive(Clone, Copy)]
struct Note {
    length: usize,
    /// It was longer than the room for it.
    cut: bool,
    peer: libc::sockaddr_storage,
    peer_length: socklen_t,
    control: Control,
    control_length: usize,
}

/// Places for datagrams, to be received or sent.
pub struct Datagrams {
    room: usize,
    bytes: Box<[u8]>,
    notes: Box<[Note]>,
}

impl Datagrams {
    /// So many places, each for so many bytes.
    pub fn new(places: usize, room: usize) -> Datagrams {
        // SAFETY: a sockaddr_storage of zeros is a valid one, of no family.
        let peer: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let note = Note { length: 0, cut: false, peer, peer_length: 0, control: Control([0; 64]), control_length: 0 };
        Datagrams {
            room,
            bytes: vec![0; places * room].into_boxed_slice(),
            notes: vec![note; places].into_boxed_slice(),
        }
    }

    /// The places there are.
    pub fn places(&self) -> usize {
        self.notes.len()
    }

    /// Receives what waits, up to `most`, into the places from `first` on; how many came. Does not wait.
    ///
    /// # Errors
    /// `WouldBlock`: nothing waits. What the kernel has to tell of what was sent before, such as `ConnectionRefused`.
    pub fn receive(&mut self, socket: &impl AsFd, first: usize, most: usize) -> io::Result<usize> {
        let count = most.min(MOST_DATAGRAMS).min(self.places().saturating_sub(first));
        let mut headers = [EMPTY; MOST_DATAGRAMS];
        let mut parts = [NOTHING; MOST_DATAGRAMS];
        let rooms = self.bytes.chunks_exact_mut(self.room).skip(first);
        let places = self.notes.iter_mut().skip(first).zip(rooms);
        for ((header, part), (note, room)) in headers.iter_mut().zip(&mut parts).zip(places).take(count) {
            part.0 = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let header = &mut header.0.msg_hdr;
            header.msg_name = std::ptr::from_mut(&mut note.peer).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as socklen_t;
            header.msg_iov = &raw mut part.0;
            header.msg_iovlen = 1;
            header.msg_control = note.control.0.as_mut_ptr().cast();
            header.msg_controllen = note.control.0.len() as _;
        }
        let received = loop {
            // SAFETY: the first `count` headers point to an iovec, a sockaddr_storage and a buffer for control messages of
            // their own, all writable, of the lengths given and alive until the call returns.
            let received = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    headers.as_mut_ptr().cast(),
                    count as _,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            match usize::try_from(received) {
                Ok(received) => break received,
                Err(_) => match io::Error::last_os_error() {
                    e if e.kind() == io::ErrorKind::Interrupted => {}
                    e => return Err(e),
                },
            }
        };
        for (note, header) in self.notes.iter_mut().skip(first).zip(&headers).take(received) {
            note.length = header.0.msg_len as usize;
            note.cut = header.0.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            note.peer_length = header.0.msg_hdr.msg_namelen;
            // Of another type on every system.
            note.control_length = header.0.msg_hdr.msg_controllen as u64 as usize;
        }
        Ok(received)
    }

    /// Sends the datagrams of `places`, as they were received or with what [`Datagrams::address`] has said; `addressed`:
    /// each to its peer, from its local address, else to the socket's. How many were sent: fewer than all if the next one
    /// cannot be. Does not wait.
    ///
    /// # Errors
    /// The first one cannot be sent: `WouldBlock`, or what the kernel has to tell of what was sent before; or of this one.
    pub fn send(&self, socket: &impl AsFd, places: Range<usize>, addressed: bool) -> io::Result<usize> {
        let mut headers = [EMPTY; MOST_DATAGRAMS];
        let mut parts = [NOTHING; MOST_DATAGRAMS];
        let count = places.len().min(MOST_DATAGRAMS);
        for ((header, part), place) in headers.iter_mut().zip(&mut parts).zip(places).take(count) {
            let (bytes, note) = (self.bytes(place), &self.notes[place]);
            // sendmmsg(2) does not write there.
            part.0 = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let header = &mut header.0.msg_hdr;
            header.msg_iov = &raw mut part.0;
            header.msg_iovlen = 1;
            if addressed {
                header.msg_name = std::ptr::from_ref(&note.peer).cast_mut().cast();
                header.msg_namelen = note.peer_length;
            }
            if addressed && note.control_length > 0 {
                header.msg_control = note.control.0.as_ptr().cast_mut().cast();
                header.msg_controllen = note.control_length as _;
            }
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        loop {
            // SAFETY: the first `count` headers point to an iovec each, and, where they say so, to an address and control
            // messages; all of it is alive until the call returns, and only read.
            let sent =
                unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr().cast(), count as _, flags) };
            match usize::try_from(sent) {
                Ok(sent) => return Ok(sent),
                Err(_) => match io::Error::last_os_error() {
                    e if e.kind() == io::ErrorKind::Interrupted => {}
                    e => return Err(e),
                },
            }
        }
    }

    /// What a place holds.
    pub fn bytes(&self, place: usize) -> &[u8] {
        let start = place * self.room;
        &self.bytes[start..start + self.notes[place].length.min(self.room)]
    }

    /// Was it longer than the room for it?
    pub fn is_cut(&self, place: usize) -> bool {
        self.notes[place].cut
    }

    /// Who sent it.
    pub fn peer(&self, place: usize) -> Option<SocketAddr> {
        let note = &self.notes[place];
        let length = note.peer_length as usize;
        let storage = std::ptr::from_ref(&note.peer);
        match c_int::from(note.peer.ss_family) {
            libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: the kernel has written a whole sockaddr_in there, and the storage is aligned for any address.
                let found = unsafe { storage.cast::<libc::sockaddr_in>().read() };
                let address = Ipv4Addr::from(found.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(address, u16::from_be(found.sin_port)).into())
            }
            libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above, with a sockaddr_in6.
                let found = unsafe { storage.cast::<libc::sockaddr_in6>().read() };
                let address = Ipv6Addr::from(found.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(address, u16::from_be(found.sin6_port), 0, found.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// To which address of this host it came, where the socket tells ([`tell_local`]).
    pub fn local(&self, place: usize) -> Option<Local> {
        let note = &self.notes[place];
        // SAFETY: a msghdr of zeros is a valid, empty one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = note.control.0.as_ptr().cast_mut().cast();
        header.msg_controllen = note.control_length.min(note.control.0.len()) as _;
        // SAFETY: control messages as the kernel has written them, or as `address` has; only read. Each step stays within
        // the length that the header gives, and content is read only where the message is long enough for it.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&header);
            while let Some(message) = next.as_ref() {
                let kind = (message.cmsg_level, message.cmsg_type);
                let content = libc::CMSG_DATA(next);
                let length = message.cmsg_len as u64 as usize;
                if kind == LOCAL_IPV4 && length >= libc::CMSG_LEN(LOCAL_IPV4_LENGTH as u32) as usize {
                    let address = local_ipv4(&content.cast::<[u8; LOCAL_IPV4_LENGTH]>().read());
                    return Some(Local { address: address.into(), interface: 0 });
                }
                if kind == LOCAL_IPV6 && length >= libc::CMSG_LEN(LOCAL_IPV6_LENGTH as u32) as usize {
                    let found = content.cast::<libc::in6_pktinfo>().read_unaligned();
                    let address = Ipv6Addr::from(found.ipi6_addr.s6_addr);
                    let interface = if address.is_unicast_link_local() { found.ipi6_ifindex } else { 0 };
                    return Some(Local { address: address.into(), interface });
                }
                next = libc::CMSG_NXTHDR(&header, next);
            }
        }
        None
    }

    /// It is to be sent to `peer`; from `local`, on a socket that is bound to all addresses.
    pub fn address(&mut self, place: usize, peer: SocketAddr, local: Option<Local>) {
        let note = &mut self.notes[place];
        let address = SockAddr::from(peer);
        note.peer_length = address.len();
        // SAFETY: a socket address is not longer than a sockaddr_storage, and the two do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                address.as_ptr().cast::<u8>(),
                std::ptr::from_mut(&mut note.peer).cast::<u8>(),
                address.len() as usize,
            );
        }
        note.control_length = match local.map(|local| (local.address, local.interface)) {
            None => 0,
            Some((IpAddr::V4(address), _)) => put(&mut note.control, LOCAL_IPV4, &from_ipv4(address)),
            Some((IpAddr::V6(address), interface)) => {
                let mut content = [0; LOCAL_IPV6_LENGTH];
                content[..16].copy_from_slice(&address.octets());
                content[16..].copy_from_slice(&interface.to_ne_bytes());
                put(&mut note.control, LOCAL_IPV6, &content)
            }
        };
    }
}

/// Has the kernel tell the local address of every datagram.
///
/// # Errors
/// As setsockopt(2).
pub fn tell_local(socket: &impl AsFd, ipv4: bool) -> io::Result<()> {
    if ipv4 { tell_local_ipv4(socket) } else { Ok(setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?) }
}

/// Writes one control message; its length with all padding.
fn put(control: &mut Control, (level, kind): (c_int, c_int), content: &[u8]) -> usize {
    // SAFETY: arithmetic alone.
    let (space, length) =
        unsafe { (libc::CMSG_SPACE(content.len() as u32) as usize, libc::CMSG_LEN(content.len() as u32)) };
    assert!(space <= control.0.len(), "no control message of ours is so long");
    *control = Control([0; 64]);
    // SAFETY: a msghdr of zeros is valid; the buffer is aligned for a cmsghdr, and longer than header and content.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_control = control.0.as_mut_ptr().cast::<c_void>();
        header.msg_controllen = space as _;
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = length as _;
        std::ptr::copy_nonoverlapping(content.as_ptr(), libc::CMSG_DATA(message), content.len());
    }
    space
}

/// A header that points nowhere; the same layout as what it wraps.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Header(libc::mmsghdr);

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Part(libc::iovec);

// SAFETY: a mmsghdr of zeros is a valid, empty one.
const EMPTY: Header = Header(unsafe { std::mem::zeroed() });
const NOTHING: Part = Part(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn wait_for(datagrams: &mut Datagrams, socket: &UdpSocket, first: usize, count: usize) {
        let mut have = 0;
        while have < count {
            match datagrams.receive(socket, first + have, count - have) {
                Ok(n) => have += n,
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[test]
    fn many_datagrams_come_and_go_in_one_call() {
        let (here, there) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut datagrams = Datagrams::new(20, 100);
        assert_eq!(datagrams.receive(&here, 0, 20).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for n in 0..10 {
            there.send_to(&vec![n; usize::from(n)], here.local_addr().unwrap()).unwrap();
        }
        wait_for(&mut datagrams, &here, 5, 10);
        for n in 0..10 {
            let place = 5 + usize::from(n);
            assert_eq!(datagrams.bytes(place), vec![n; usize::from(n)]);
            assert_eq!(datagrams.peer(place), Some(there.local_addr().unwrap()));
            assert_eq!((datagrams.local(place), datagrams.is_cut(place)), (None, false));
        }
        // They know whom they came from: there they go.
        assert_eq!(datagrams.send(&here, 5..15, true).unwrap(), 10);
        let mut buffer = [0; 100];
        for n in 0..10 {
            assert_eq!(there.recv(&mut buffer).unwrap(), n);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_from_what_does() {
        let (here, there) = (UdpSocket::bind("[::1]:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap());
        there.send_to(&[1; 11], here.local_addr().unwrap()).unwrap();
        there.send_to(&[1; 10], here.local_addr().unwrap()).unwrap();
        let mut datagrams = Datagrams::new(2, 10);
        wait_for(&mut datagrams, &here, 0, 2);
        assert_eq!((datagrams.is_cut(0), datagrams.is_cut(1)), (true, false));
        assert_eq!((datagrams.bytes(0).len(), datagrams.bytes(1).len()), (10, 10));
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        for (all, asked) in [("0.0.0.0:0", "127.0.0.9"), ("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
            let here = UdpSocket::bind(all).unwrap();
            let asked: IpAddr = asked.parse().unwrap();
            if cfg!(target_os = "freebsd") && asked.to_string() == "127.0.0.9" {
                continue; // lo0 has one address there
            }
            tell_local(&here, asked.is_ipv4()).unwrap();
            let there = UdpSocket::bind(SocketAddr::new(asked, 0)).unwrap();
            let service = SocketAddr::new(asked, here.local_addr().unwrap().port());
            there.connect(service).unwrap(); // takes nothing from any other address
            there.send(b"question").unwrap();
            let mut datagrams = Datagrams::new(1, 100);
            wait_for(&mut datagrams, &here, 0, 1);
            let local = datagrams.local(0);
            assert_eq!(local, Some(Local { address: asked, interface: 0 }));
            let peer = datagrams.peer(0).unwrap();
            datagrams.address(0, peer, local);
            assert_eq!(datagrams.local(0), local);
            assert_eq!(datagrams.peer(0), Some(peer));
            assert_eq!(datagrams.send(&here, 0..1, true).unwrap(), 1);
            let mut buffer = [0; 100];
            assert_eq!(there.recv(&mut buffer).unwrap(), 8);
        }
    }
}

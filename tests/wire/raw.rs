//! A raw socket (packet(7)) at one end of the wire: frames out and in as they are, with their tags. Not the code that is
//! under test.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, RecvMsg, SockaddrLike, bind, recvmsg, sendto, setsockopt,
};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};

/// All EtherTypes: what comes in before anybody else has it, and what goes out.
pub const ALL: u16 = libc::ETH_P_ALL as u16;

const TAG: usize = 4;
const MACS: usize = 12;
const LONGEST: usize = 128 << 10;

sockopt_impl!(
    /// What the kernel has taken out of a frame comes beside it.
    Auxdata, SetOnly, libc::SOL_PACKET, libc::PACKET_AUXDATA, bool
);

/// A frame that came in.
#[derive(Debug)]
pub struct Incoming {
    pub frame: Vec<u8>,
    /// Is it for this host, by its MAC and its tag: PACKET_HOST and groups, not PACKET_OTHERHOST?
    pub is_for_us: bool,
}

/// A socket on one interface.
pub struct Raw {
    socket: Socket,
    end: LinkAddr,
    buffer: Vec<u8>,
}

impl Raw {
    /// Opens `interface` for frames of one EtherType, which it gets after the interface's ingress hooks, or for [`ALL`].
    pub fn open(interface: &str, ethertype: u16) -> Raw {
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(protocol)).expect("a socket");
        let end = address(interface);
        setsockopt(&socket, Auxdata, &true).expect("auxiliary data");
        bind(socket.as_raw_fd(), &end).expect("binding to an interface");
        let mut raw = Raw { socket, end, buffer: vec![0; LONGEST] };
        // Before it was bound, it had what all interfaces have.
        while raw.receive_any().expect("nothing but frames").is_some() {}
        raw
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// The system's: it is too short to be one, or too long.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.end, MsgFlags::empty())?;
        assert_eq!(sent, frame.len(), "a frame goes as a whole");
        Ok(())
    }

    /// The next frame that came in, if one waits.
    pub fn receive(&mut self) -> Option<Incoming> {
        while let Some((incoming, kind)) = self.receive_any().expect("nothing but frames") {
            if kind != libc::PACKET_OUTGOING {
                return Some(incoming);
            }
        }
        None
    }

    fn receive_any(&mut self) -> nix::Result<Option<(Incoming, u8)>> {
        let mut space = nix::cmsg_space!([u8; 64]);
        let (length, kind, tag) = {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let descriptor = self.socket.as_raw_fd();
            let received = recvmsg::<LinkAddr>(descriptor, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT);
            let message = match received {
                Err(Errno::EAGAIN) => return Ok(None),
                other => other?,
            };
            (message.bytes, message.address.as_ref().map_or(0, LinkAddr::pkttype), tag(&message))
        };
        let mut frame = self.buffer[..length].to_vec();
        if let Some(tag) = tag {
            frame.splice(MACS..MACS, tag);
        }
        Ok(Some((Incoming { frame, is_for_us: kind != libc::PACKET_OTHERHOST }, kind)))
    }
}

/// The tag that the kernel has taken out of a frame (`struct tpacket_auxdata`: flags 0, TCI 16, TPID 18).
fn tag(message: &RecvMsg<'_, '_, LinkAddr>) -> Option<[u8; TAG]> {
    message.cmsgs().ok()?.find_map(|control| {
        let ControlMessageOwned::Unknown(unknown) = control else { return None };
        let header = unknown.cmsg_header;
        let bytes = unknown.data_bytes.get(..20)?;
        if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            return None;
        }
        let flags = u32::from_ne_bytes(bytes[..4].try_into().ok()?);
        if flags & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let [a, b] = u16::from_ne_bytes(bytes[18..20].try_into().ok()?).to_be_bytes();
        let [c, d] = u16::from_ne_bytes(bytes[16..18].try_into().ok()?).to_be_bytes();
        Some([a, b, c, d])
    })
}

/// The packet(7) address of an interface.
fn address(interface: &str) -> LinkAddr {
    let mut all = getifaddrs().expect("the interfaces");
    let found = all.find_map(|one| one.address.filter(|_| one.interface_name == interface)?.as_link_addr().copied());
    let found = found.unwrap_or_else(|| panic!("no interface {interface}"));
    assert_eq!(found.family(), Some(nix::sys::socket::AddressFamily::Packet));
    found
}

//! The local address of an IPv4 datagram on a socket that is bound to all of them: IP_PKTINFO, ip(7).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use libc::c_int;
use nix::sys::socket::{setsockopt, sockopt};

/// The control message that tells it, and by which it is chosen: its level and kind.
pub(in crate::os) const LOCAL_IPV4: (c_int, c_int) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
/// Bytes of its content.
pub(in crate::os) const LOCAL_IPV4_LENGTH: usize = size_of::<libc::in_pktinfo>();

/// `struct in_pktinfo`: the interface's number, the address that an answer comes from, the datagram's destination.
const CHOSEN: std::ops::Range<usize> = 4..8;

/// Has the kernel tell it with every datagram.
pub(in crate::os) fn tell_local_ipv4(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?)
}

/// The address that an answer has to come from.
pub(in crate::os) fn local_ipv4(content: &[u8; LOCAL_IPV4_LENGTH]) -> Ipv4Addr {
    Ipv4Addr::from([content[4], content[5], content[6], content[7]])
}

/// What has a datagram sent from `address`.
pub(in crate::os) fn from_ipv4(address: Ipv4Addr) -> [u8; LOCAL_IPV4_LENGTH] {
    let mut content = [0; LOCAL_IPV4_LENGTH];
    content[CHOSEN].copy_from_slice(&address.octets());
    content
}

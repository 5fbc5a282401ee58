//! The local address of an IPv4 datagram on a socket that is bound to all of them: IP_RECVDSTADDR and IP_SENDSRCADDR,
//! ip(4), which are the same number.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use libc::c_int;
use nix::sys::socket::{setsockopt, sockopt};

/// The control message that tells it, and by which it is chosen: its level and kind.
pub(in crate::os) const LOCAL_IPV4: (c_int, c_int) = (libc::IPPROTO_IP, libc::IP_RECVDSTADDR);
/// Bytes of its content: `struct in_addr`.
pub(in crate::os) const LOCAL_IPV4_LENGTH: usize = 4;

/// Has the kernel tell it with every datagram.
pub(in crate::os) fn tell_local_ipv4(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::Ipv4RecvDstAddr, &true)?)
}

/// The address that an answer has to come from.
pub(in crate::os) fn local_ipv4(content: &[u8; LOCAL_IPV4_LENGTH]) -> Ipv4Addr {
    Ipv4Addr::from(*content)
}

/// What has a datagram sent from `address`.
pub(in crate::os) fn from_ipv4(address: Ipv4Addr) -> [u8; LOCAL_IPV4_LENGTH] {
    address.octets()
}

//! An interface's flags and link: netdevice(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::{c_int, c_short, ifreq};
use nix::errno::Errno;

use crate::os::Link;
use crate::os::ifname::IfName;
use crate::os::setup::request_socket;

/// The flag of an interface that is in use.
pub(in crate::os) const UP: u32 = libc::IFF_UP as u32;
/// The flag of one that takes all frames.
pub(in crate::os) const PROMISCUOUS: u32 = libc::IFF_PROMISC as u32;

/// The link of `interface`: down also while that is not in use. Every driver says.
///
/// # Errors
/// There is no such interface.
pub fn link_state(interface: &str) -> io::Result<Link> {
    let flags = flags(request_socket()?.as_fd(), IfName::new(interface)?)?;
    Ok(if flags & libc::IFF_RUNNING as u32 != 0 { Link::Up } else { Link::Down })
}

/// The flags of an interface.
pub(in crate::os) fn flags(socket: BorrowedFd<'_>, name: IfName) -> Result<u32, Errno> {
    let mut request = request(name);
    // SAFETY: SIOCGIFFLAGS takes an ifreq, which outlives the call, and fills in ifru_flags.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the call has succeeded, so that ifru_flags is what is there.
    Ok(u32::from(unsafe { request.ifr_ifru.ifru_flags } as u16))
}

/// Gives an interface all its flags.
pub(in crate::os) fn set_flags(socket: BorrowedFd<'_>, name: IfName, flags: u32) -> Result<(), Errno> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: SIOCSIFFLAGS takes an ifreq with ifru_flags, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) }).map(drop)
}

/// The number of an interface, another one when it went away and came back.
pub(in crate::os) fn index(socket: BorrowedFd<'_>, name: IfName) -> Result<u32, Errno> {
    let mut request = request(name);
    // SAFETY: SIOCGIFINDEX takes an ifreq, which outlives the call, and fills in ifru_ifindex.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request) })?;
    // SAFETY: the call has succeeded, so that ifru_ifindex is what is there.
    let index: c_int = unsafe { request.ifr_ifru.ifru_ifindex };
    Ok(index as u32)
}

/// The largest packet that `interface` carries, bytes, without its Ethernet header.
///
/// # Errors
/// There is no such interface.
pub(super) fn mtu(interface: &str) -> io::Result<usize> {
    let (socket, mut request) = (request_socket()?, request(IfName::new(interface)?));
    // SAFETY: SIOCGIFMTU takes an ifreq, which outlives the call, and fills in ifru_mtu.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) })?;
    // SAFETY: the call has succeeded, so that ifru_mtu is what is there.
    Ok(usize::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
}

/// A request about the interface `name`, with zeros for the rest.
pub(super) fn request(name: IfName) -> ifreq {
    // SAFETY: an ifreq is an array and a union of plain numbers and pointers, for all of which zeros are valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = name.0;
    request
}

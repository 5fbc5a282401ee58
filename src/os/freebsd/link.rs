//! An interface's flags and link: netintro(4), getifaddrs(3).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_short, c_ulong, ifreq};
use nix::errno::Errno;

use crate::os::Link;
use crate::os::ifname::IfName;

/// The flag of an interface that is in use.
pub(in crate::os) const UP: u32 = libc::IFF_UP as u32;
/// The flag of one that takes all frames because its user wants that, beside what bpf(4) wants.
pub(in crate::os) const PROMISCUOUS: u32 = libc::IFF_PPROMISC as u32;

// From <sys/sockio.h>; the libc crate does not have them.
const SIOCSIFFLAGS: c_ulong = request_code(IOC_IN, 16);
const SIOCGIFFLAGS: c_ulong = request_code(IOC_IN | IOC_OUT, 17);
const SIOCGIFINDEX: c_ulong = request_code(IOC_IN | IOC_OUT, 32);

// From <sys/ioccom.h>.
pub(super) const IOC_OUT: c_ulong = 0x4000_0000;
pub(super) const IOC_IN: c_ulong = 0x8000_0000;

/// The request `number` of the group of interfaces, which takes an ifreq.
pub(super) const fn request_code(direction: c_ulong, number: c_ulong) -> c_ulong {
    direction | (size_of::<ifreq>() as c_ulong) << 16 | (b'i' as c_ulong) << 8 | number
}

/// The link of `interface`, as its driver has told the system: `ifi_link_state`, which is where it is since FreeBSD 10.
///
/// # Errors
/// There is no such interface.
pub fn link_state(interface: &str) -> io::Result<Link> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills in the pointer.
    Errno::result(unsafe { libc::getifaddrs(&raw mut list) })?;
    let mut found = None;
    let mut next = list;
    // SAFETY: the list's pointers are null or to entries that live until freeifaddrs.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        if entry.ifa_name.is_null() || entry.ifa_addr.is_null() || entry.ifa_data.is_null() {
            continue;
        }
        // SAFETY: neither is null; ifa_name ends with a NUL, and every address begins with a sockaddr's fields.
        let (name, family) = unsafe { (CStr::from_ptr(entry.ifa_name), (*entry.ifa_addr).sa_family) };
        if c_int::from(family) == libc::AF_LINK && name.to_bytes() == interface.as_bytes() {
            // SAFETY: with an address of AF_LINK, ifa_data is an if_data (getifaddrs(3)); it may be unaligned.
            let if_data = unsafe { entry.ifa_data.cast::<libc::if_data>().read_unaligned() };
            found = Some(match c_int::from(if_data.ifi_link_state) {
                libc::LINK_STATE_UP => Link::Up,
                libc::LINK_STATE_DOWN => Link::Down,
                _ => Link::Unknown,
            });
        }
    }
    // SAFETY: the list is getifaddrs', and nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    found.ok_or_else(|| Errno::ENXIO.into())
}

/// The flags of an interface.
pub(in crate::os) fn flags(socket: BorrowedFd<'_>, name: IfName) -> Result<u32, Errno> {
    let mut request = request(name);
    // SAFETY: SIOCGIFFLAGS takes an ifreq, which outlives the call, and fills in ifru_flags.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: the call has succeeded, so that ifru_flags is what is there.
    let [low, high] = unsafe { request.ifr_ifru.ifru_flags };
    Ok(u32::from(low as u16) | u32::from(high as u16) << 16)
}

/// Gives an interface all its flags.
pub(in crate::os) fn set_flags(socket: BorrowedFd<'_>, name: IfName, flags: u32) -> Result<(), Errno> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = [flags as c_short, (flags >> 16) as c_short];
    // SAFETY: SIOCSIFFLAGS takes an ifreq with ifru_flags, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw mut request) }).map(drop)
}

/// The number of an interface; a new one may have the number of one that has gone.
pub(in crate::os) fn index(socket: BorrowedFd<'_>, name: IfName) -> Result<u32, Errno> {
    let mut request = request(name);
    // SAFETY: SIOCGIFINDEX takes an ifreq, which outlives the call, and fills in ifru_index.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFINDEX, &raw mut request) })?;
    // SAFETY: the call has succeeded, so that ifru_index is what is there.
    Ok(u32::from(unsafe { request.ifr_ifru.ifru_index } as u16))
}

/// A request about the interface `name`, with zeros for the rest.
pub(super) fn request(name: IfName) -> ifreq {
    // SAFETY: an ifreq is an array and a union of plain numbers and pointers, for all of which zeros are valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = name.0;
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_codes_are_those_of_the_system_header() {
        assert_eq!((SIOCSIFFLAGS, SIOCGIFFLAGS, SIOCGIFINDEX), (0x8020_6910, 0xc020_6911, 0xc020_6920));
    }
}

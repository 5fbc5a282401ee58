//! Which program is attached to an interface: rtnetlink(7).

use std::io;
use std::os::fd::AsRawFd;

use aya::programs::loaded_programs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::PROGRAM;

// From linux/if_link.h.
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const NESTED: u16 = 1 << 15;

/// Bytes of `struct nlmsghdr`, of `struct ifinfomsg`, and of the head of an attribute.
const HEADER: usize = 16;
const LINK: usize = 16;
const ATTRIBUTE: usize = 4;

/// Is the program at interface number `index` one of pen-dsr's? Not if that cannot be found out.
pub fn has_program(index: u32) -> bool {
    let Ok(Some(id)) = program_at(index) else { return false };
    let ours = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    ours.is_some_and(|program| program.name_as_str() == Some(PROGRAM))
}

/// The number of the program that is attached to interface number `index`.
fn program_at(index: u32) -> io::Result<Option<u32>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let mut request = Vec::with_capacity(HEADER + LINK);
    request.extend(((HEADER + LINK) as u32).to_ne_bytes());
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend([0; 8]); // sequence, port
    request.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
    request.extend(index.to_ne_bytes());
    request.extend([0; 8]); // flags, change
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = vec![0; 64 << 10];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    if kind != Some(libc::RTM_NEWLINK) {
        return Ok(None);
    }
    let xdp = attribute(answer.get(HEADER + LINK..).unwrap_or_default(), IFLA_XDP);
    let id = xdp.and_then(|nested| attribute(nested, IFLA_XDP_PROG_ID));
    Ok(id.and_then(|id| id.try_into().ok()).map(u32::from_ne_bytes).filter(|id| *id != 0))
}

/// The value of the attribute `wanted` in `bytes`.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [l0, l1, k0, k1, ..] = *bytes {
        let (length, kind) = (usize::from(u16::from_ne_bytes([l0, l1])), u16::from_ne_bytes([k0, k1]));
        let value = bytes.get(ATTRIBUTE..length)?;
        if kind & !NESTED == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(ATTRIBUTE)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_no_program() {
        assert_eq!(program_at(1).unwrap(), None);
        assert!(!has_program(1));
    }

    #[test]
    fn attributes_are_found_behind_others_and_nonsense_ends_the_search() {
        let bytes = [6, 0, 1, 0, 9, 9, 0, 0, 8, 0, 43, 0x80, 1, 2, 3, 4];
        assert_eq!(attribute(&bytes, 43), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&bytes, 44), None);
        assert_eq!(attribute(&[3, 0, 1, 0], 1), None, "shorter than its head");
        assert_eq!(attribute(&[200, 0, 1, 0], 1), None, "longer than there is");
    }
}

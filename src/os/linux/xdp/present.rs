//! Which program is attached to an interface: rtnetlink(7).

use std::io;

use aya::programs::loaded_programs;
use nix::sys::socket::SockProtocol;

use super::PROGRAM;
use crate::os::system::netlink::{Netlink, find, number};

// From linux/if_link.h.
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
/// Bytes of `struct ifinfomsg`, and where the interface's number is in it.
const LINK: usize = 16;
const INDEX: usize = 4;

/// Is the program at interface number `index` one of pen-dsr's? Not if that cannot be found out.
pub fn has_program(index: u32) -> bool {
    let Ok(Some(id)) = program_at(index) else { return false };
    let ours = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    ours.is_some_and(|program| program.name_as_str() == Some(PROGRAM))
}

/// The number of the program that is attached to interface number `index`.
fn program_at(index: u32) -> io::Result<Option<u32>> {
    let mut request = [0; LINK];
    request[INDEX..INDEX + 4].copy_from_slice(&index.to_ne_bytes());
    let answer = Netlink::open(SockProtocol::NetlinkRoute)?.ask(libc::RTM_GETLINK, &request)?;
    let xdp = answer.get(LINK..).and_then(|attributes| find(attributes, IFLA_XDP));
    let id = xdp.and_then(|nested| find(nested, IFLA_XDP_PROG_ID)).and_then(number);
    Ok(id.filter(|id| *id != 0))
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
    fn an_interface_that_is_not_there_has_no_program() {
        assert!(program_at(i32::MAX as u32).is_err());
        assert!(!has_program(i32::MAX as u32));
    }
}

//! What the network card and the switch have to let through to us beside the interface's own MAC.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use socket2::{Domain, Socket, Type};

use super::option;
use crate::os::Wanted;
use crate::wire::ether::Mac;
use crate::wire::nd;

/// Groups joined and MACs added; left again when this is dropped.
pub struct Memberships {
    _packet: OwnedFd,
    _mld: Vec<Socket>,
}

impl Memberships {
    /// Joins, on interface number `index`, the solicited-node groups of the IPv6 addresses that are VIPs or send probes,
    /// and lets frames for `extra` in. For an IPv6 tarpit, which may be as large as a network, frames to all groups.
    /// Two may exist at a time, so that a new one is there before the old one goes.
    ///
    /// # Errors
    /// The system's.
    pub fn join(index: u32, wanted: &Wanted, extra: Option<Mac>) -> io::Result<Memberships> {
        let packet = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let mut mld = Vec::new();
        if let Some(mac) = extra {
            add(&packet, index, libc::PACKET_MR_UNICAST, mac)?;
        }
        if wanted.tarpit.iter().any(|network| network.address.is_ipv6()) {
            add(&packet, index, libc::PACKET_MR_ALLMULTI, Mac::default())?;
        }
        for group in wanted.groups() {
            add(&packet, index, libc::PACKET_MR_MULTICAST, nd::multicast_mac(group))?;
            // Switches that snoop want to hear a report (RFC 3810), which the host's stack sends for a socket.
            let joined = Socket::new(Domain::IPV6, Type::DGRAM, None)
                .and_then(|s| s.join_multicast_v6(&group, index).map(|()| s));
            match joined {
                Ok(socket) => mld.push(socket),
                Err(e) => tracing::debug!("no MLD report for {group}: {e}"),
            }
        }
        Ok(Memberships { _packet: packet, _mld: mld })
    }
}

fn add(socket: &OwnedFd, index: u32, kind: libc::c_int, mac: Mac) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&mac.0);
    let request = libc::packet_mreq { mr_ifindex: index as i32, mr_type: kind as u16, mr_alen: 6, mr_address: address };
    // SAFETY: it is plain numbers.
    unsafe { option::set_struct(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request) }
}

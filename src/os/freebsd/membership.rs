//! What the network card and the switch have to let through to us beside the interface's own MAC.

use std::io;

use socket2::{Domain, Socket, Type};

use crate::os::Wanted;
use crate::wire::ether::Mac;

/// Groups joined; left again when this is dropped.
pub struct Memberships {
    _mld: Vec<Socket>,
}

impl Memberships {
    /// Joins, on interface number `index`, the solicited-node groups of the IPv6 addresses that are VIPs or send probes.
    /// Those of an IPv6 tarpit would be too many: of that, only what the interface lets through anyway is answered.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::Unsupported`] for an `extra` MAC.
    pub fn join(index: u32, wanted: &Wanted, extra: Option<Mac>) -> io::Result<Memberships> {
        if extra.is_some() {
            let why = "another MAC for the VIPs would need the interface in promiscuous mode";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let mut mld = Vec::new();
        for group in wanted.groups() {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
            socket.join_multicast_v6(&group, index)?;
            mld.push(socket);
        }
        Ok(Memberships { _mld: mld })
    }
}

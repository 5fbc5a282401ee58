//! What differs between systems, under the same names: packet sockets, an interface's offloads and link, the host's own
//! view of the VIPs, processors, privileges.

#[cfg(target_os = "freebsd")]
#[path = "freebsd/mod.rs"]
mod system;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use crate::lb::acl::Network;
use crate::wire::nd;

/// Why a wait for frames ended; nothing set: its time had come, or a client's frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A frame waits aside.
    pub aside: bool,
    /// Somebody woke us.
    pub woken: bool,
    /// A socket has an error to tell.
    pub failed: bool,
}

/// Which packets a port is to get, beside ARP and neighbour discovery. What it gets besides does no harm, only costs time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those to these addresses.
    pub vips: Vec<IpAddr>,
    /// Those from a VIP to one of these, and ICMP errors to them: they answer probes.
    pub probe_sources: Vec<IpAddr>,
    /// Those to addresses that are a tarpit: exactly these, as the host's own stack does not get them any more.
    pub tarpit: Vec<Network>,
}

impl Wanted {
    /// The solicited-node groups of the IPv6 addresses that are answered for, each once.
    fn groups(&self) -> BTreeSet<Ipv6Addr> {
        let addresses = self.vips.iter().chain(&self.probe_sources);
        addresses.filter_map(|a| if let IpAddr::V6(a) = a { Some(nd::solicited_node(*a)) } else { None }).collect()
    }
}

/// How a ring of slots lies in memory: blocks of equal length, each with as many slots as fit into it, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// Bytes of a slot.
    pub slot: usize,
    /// Bytes of a block.
    pub block: usize,
    /// Blocks.
    pub blocks: usize,
}

impl RingShape {
    /// Slots of a block.
    pub fn slots_per_block(&self) -> usize {
        self.block / self.slot
    }

    /// Slots of the ring.
    pub fn slots(&self) -> usize {
        self.slots_per_block() * self.blocks
    }

    /// Bytes of the ring.
    pub fn length(&self) -> usize {
        self.block * self.blocks
    }
}

/// The link of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is one.
    Up,
    /// There is none.
    Down,
    /// The driver does not say.
    Unknown,
}

/// Offloads that are on, that netmap(4) cannot carry, and that can be switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveOffloads {
    /// Their names, as ifconfig(8) or ethtool(8) calls them.
    pub names: Vec<String>,
    /// The command line that switches them off.
    pub remedy: String,
}

/// What is still needed once the program has become another user, where the system can tell one from the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Packet sockets and filters.
    pub packets: bool,
    /// The program in the kernel.
    pub bpf: bool,
    /// Sockets with addresses of clients.
    pub foreign_addresses: bool,
    /// Ports below 1024, of listeners that a later configuration has.
    pub low_ports: bool,
}

mod datagrams;
mod ifname;
mod interface;
mod mapping;
mod process;
mod rights;
mod setup;
mod stream;
mod vnet;

pub use datagrams::{DATAGRAM_ROOM, Datagrams, Local, MOST_DATAGRAMS, tell_local};
pub use interface::Interface;
pub use mapping::map_file;
pub use process::{
    Boot, Pidfile, boot, change_root, daemonize, end_on_broken_pipe, file_limit, give, raise_file_limit, random_key,
    user,
};
pub use rights::{MOST_RIGHTS, receive_rights, send_rights};
pub use setup::{MacFilter, Purpose, Setup};
pub use stream::accept;
pub use system::*;
pub use vnet::{VNET_HEADER, is_finished, shift_offsets};

//! What a worker decides by: an immutable snapshot of services, backends and slot tables.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::{ClientHash, maglev};
use crate::wire::ether::Mac;
use crate::wire::ip::protocol;

/// Which transport protocols a service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocols {
    /// TCP and UDP.
    #[default]
    All,
    /// TCP alone.
    Tcp,
    /// UDP alone (`-U`).
    Udp,
}

impl Protocols {
    /// Is IP protocol number `number` among them?
    #[inline]
    pub fn takes(self, number: u8) -> bool {
        match self {
            Protocols::All => number == protocol::TCP || number == protocol::UDP,
            Protocols::Tcp => number == protocol::TCP,
            Protocols::Udp => number == protocol::UDP,
        }
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocols::All => "tcp+udp",
            Protocols::Tcp => "tcp",
            Protocols::Udp => "udp",
        })
    }
}

/// A virtual address.
#[derive(Clone, Debug)]
pub struct Vip {
    /// Its address.
    pub address: IpAddr,
    /// What is served there. The first that matches counts: services with a port stand before those without.
    pub services: Vec<Service>,
}

/// A port, or all ports, of a virtual address.
#[derive(Clone, Debug)]
pub struct Service {
    /// 0: every port.
    pub port: u16,
    /// TCP, UDP or both.
    pub protocols: Protocols,
    /// Slot to backend, as an index into [`Tables::backend`].
    pub slots: Arc<maglev::Table>,
}

impl Service {
    #[inline]
    fn takes(&self, proto: u8, port: u16) -> bool {
        (self.port == 0 || self.port == port) && self.protocols.takes(proto)
    }
}

/// Where frames for a backend go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `None` while it is being resolved, or when it does not answer.
    pub mac: Option<Mac>,
    /// Is it in the slot tables?
    pub in_service: bool,
}

/// A decision and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The client's hash.
    pub hash: u64,
    /// The slot that it falls into.
    pub slot: usize,
    /// Who holds the slot; `None` if no backend is in service.
    pub backend: Option<usize>,
}

/// Everything a worker decides by. Replaced as a whole, never changed.
#[derive(Clone, Debug)]
pub struct Tables {
    hash: ClientHash,
    vips: Vec<Vip>,
    v4: HashMap<Ipv4Addr, usize, FxBuildHasher>,
    v6: HashMap<Ipv6Addr, usize, FxBuildHasher>,
    backends: Vec<Backend>,
    watched: HashSet<IpAddr>,
}

impl Tables {
    /// A snapshot. `watched` are the backends' addresses: what ARP and ND say of them, and of the VIPs, is reported.
    pub fn new(
        hash: ClientHash,
        vips: Vec<Vip>,
        backends: Vec<Backend>,
        watched: impl IntoIterator<Item = IpAddr>,
    ) -> Tables {
        let mut tables = Tables {
            hash,
            vips,
            v4: HashMap::default(),
            v6: HashMap::default(),
            backends,
            watched: watched.into_iter().collect(),
        };
        for (index, vip) in tables.vips.iter_mut().enumerate() {
            vip.services.sort_by_key(|service| service.port == 0);
            match vip.address {
                IpAddr::V4(address) => tables.v4.insert(address, index),
                IpAddr::V6(address) => tables.v6.insert(address, index),
            };
            tables.watched.insert(vip.address);
        }
        tables
    }

    /// The index of the VIP that has `address`.
    #[inline]
    pub fn vip(&self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(address) => self.v4.get(&address),
            IpAddr::V6(address) => self.v6.get(&address),
        }
        .copied()
    }

    /// All VIPs.
    pub fn vips(&self) -> &[Vip] {
        &self.vips
    }

    /// The service of VIP number `vip` for a packet of protocol `proto` to `port`.
    #[inline]
    pub fn service(&self, vip: usize, proto: u8, port: u16) -> Option<&Service> {
        self.vips.get(vip)?.services.iter().find(|service| service.takes(proto, port))
    }

    /// The service of VIP number `vip` for a packet whose ports are out of sight (a later fragment), if that is clear
    /// without them.
    pub fn portless_service(&self, vip: usize, proto: u8) -> Option<&Service> {
        let mut services = self.vips.get(vip)?.services.iter().filter(|service| service.protocols.takes(proto));
        let only = services.next()?;
        (only.port == 0 && services.next().is_none() && !self.hash.with_port()).then_some(only)
    }

    /// Which backend serves a client.
    #[inline]
    pub fn choose(&self, service: &Service, client: IpAddr, port: u16) -> Choice {
        let hash = self.hash.of(client, port);
        let slot = service.slots.slot(hash);
        Choice { hash, slot, backend: service.slots.member(slot) }
    }

    /// Backend number `index`.
    #[inline]
    pub fn backend(&self, index: usize) -> Option<&Backend> {
        self.backends.get(index)
    }

    /// Is `address` a VIP's or a backend's?
    pub fn watches(&self, address: IpAddr) -> bool {
        self.watched.contains(&address)
    }
}

//! What a worker decides by: an immutable snapshot of services, backends and slot tables.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::acl::Acl;
use super::flow::{Owner, Timeouts};
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

/// One way to choose: a hash, and a slot table for it.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Client to hash.
    pub hash: ClientHash,
    /// Slot to backend, as an index into [`Tables::backend`].
    pub slots: Arc<maglev::Table>,
}

impl Generation {
    /// Which backend serves a client.
    #[inline]
    pub fn choose(&self, client: IpAddr, port: u16) -> Choice {
        let hash = self.hash.of(client, port);
        let slot = self.slots.slot(hash);
        Choice { hash, slot, backend: self.slots.member(slot) }
    }
}

/// A virtual address.
#[derive(Clone, Debug)]
pub struct Vip {
    /// Its address.
    pub address: IpAddr,
    /// Which of the counters are its own.
    pub number: usize,
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
    /// How new flows choose.
    pub current: Generation,
    /// How those chose that may be older than the last change.
    pub previous: Option<Generation>,
    /// Which clients are served, if not all.
    pub acl: Option<Arc<Acl>>,
    /// Is a client told, when no backend is in service?
    pub refuses: bool,
}

impl Service {
    /// A service for everybody that has never changed.
    pub fn new(port: u16, protocols: Protocols, current: Generation) -> Service {
        Service { port, protocols, current, previous: None, acl: None, refuses: false }
    }

    #[inline]
    fn takes(&self, proto: u8, port: u16) -> bool {
        (self.port == 0 || self.port == port) && self.protocols.takes(proto)
    }

    /// May `client` use it?
    #[inline]
    pub fn admits(&self, client: IpAddr) -> bool {
        self.acl.as_ref().is_none_or(|acl| acl.permits(client))
    }
}

/// Where frames for a backend go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `None` while it is being resolved, or when it does not answer.
    pub mac: Option<Mac>,
    /// Is it in the slot tables?
    pub in_service: bool,
    /// Do the flows that it has stay with it?
    pub keeps_flows: bool,
    /// Which of those that have had this number ([`Owner::epoch`]).
    pub epoch: u8,
}

impl Backend {
    /// A backend in service at `mac`.
    pub fn up(mac: Mac) -> Backend {
        Backend { mac: Some(mac), in_service: true, keeps_flows: true, epoch: 0 }
    }

    /// A number that nobody has.
    pub fn nobody() -> Backend {
        Backend { mac: None, in_service: false, keeps_flows: false, epoch: 0 }
    }
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

/// What a snapshot is made of, beside VIPs and backends.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Addresses of backends: what ARP and ND say of them, and of the VIPs, is reported.
    pub watched: HashSet<IpAddr>,
    /// Addresses that probes come from: what VIPs send there is reported.
    pub probe_sources: Vec<IpAddr>,
    /// Those of them that the host does not have itself, so that ARP and ND for them are answered here.
    pub answered: Vec<IpAddr>,
    /// Addresses that scanners are to find open.
    pub tarpit: Option<Arc<TarpitList>>,
    /// Another balancer has the VIPs: nothing is answered for them, but what comes is passed on.
    pub silent: bool,
    /// Another balancer is told of flows.
    pub shares: bool,
    /// How long flows are remembered.
    pub timeouts: Timeouts,
}

/// Everything a worker decides by. Replaced as a whole, never changed.
#[derive(Clone, Debug)]
pub struct Tables {
    vips: Vec<Vip>,
    v4: HashMap<Ipv4Addr, usize, FxBuildHasher>,
    v6: HashMap<Ipv6Addr, usize, FxBuildHasher>,
    backends: Vec<Backend>,
    settings: Settings,
}

impl Tables {
    /// A snapshot.
    pub fn new(vips: Vec<Vip>, backends: Vec<Backend>, settings: Settings) -> Tables {
        let mut tables = Tables { vips, v4: HashMap::default(), v6: HashMap::default(), backends, settings };
        for (index, vip) in tables.vips.iter_mut().enumerate() {
            vip.services.sort_by_key(|service| service.port == 0);
            match vip.address {
                IpAddr::V4(address) => tables.v4.insert(address, index),
                IpAddr::V6(address) => tables.v6.insert(address, index),
            };
            tables.settings.watched.insert(vip.address);
        }
        tables
    }

    /// The index of the VIP that has `address`.
    #[inline(always)]
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
        (only.port == 0 && services.next().is_none() && !only.current.hash.with_port()).then_some(only)
    }

    /// Which backend has a flow that is older than what is remembered: the previous generation's choice while that
    /// lives, else the current one's.
    pub fn elder_choice(&self, service: &Service, client: IpAddr, port: u16) -> Choice {
        let previous = service.previous.as_ref().map(|previous| previous.choose(client, port));
        let lives = |choice: &Choice| choice.backend.and_then(|b| self.backend(b)).is_some_and(|b| b.keeps_flows);
        previous.filter(lives).unwrap_or_else(|| service.current.choose(client, port))
    }

    /// Backend number `index`.
    #[inline]
    pub fn backend(&self, index: usize) -> Option<&Backend> {
        self.backends.get(index)
    }

    /// All backends by their numbers; some numbers nobody has.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// What backend number `index` is as the owner of a flow.
    #[inline]
    pub fn owner(&self, index: usize) -> Owner {
        Owner { backend: index as u16, epoch: self.backend(index).map_or(0, |backend| backend.epoch) }
    }

    /// Is `owner` still the backend that it was?
    #[inline]
    pub fn knows(&self, owner: Owner) -> bool {
        self.backend(usize::from(owner.backend)).is_some_and(|backend| backend.epoch == owner.epoch)
    }

    /// Do the flows of `owner` stay with it?
    #[inline]
    pub fn keeps_flows(&self, owner: Owner) -> bool {
        let backend = self.backend(usize::from(owner.backend));
        backend.is_some_and(|backend| backend.keeps_flows && backend.epoch == owner.epoch)
    }

    /// Is `address` a VIP's or a backend's?
    pub fn watches(&self, address: IpAddr) -> bool {
        self.settings.watched.contains(&address)
    }

    /// Everything else.
    #[inline]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Addresses that nobody has, which scanners are to find open.
#[derive(Debug)]
pub struct TarpitList {
    /// Which they are.
    pub acl: Arc<Acl>,
    /// Which they are not, whatever the list says: our own, the gateway's, the backends', the VIPs.
    pub excluded: HashSet<IpAddr>,
    /// Answers a second at most.
    pub rate: u32,
}

impl TarpitList {
    /// Is `address` one of them?
    pub fn contains(&self, address: IpAddr) -> bool {
        self.acl.permits(address) && !self.excluded.contains(&address)
    }
}

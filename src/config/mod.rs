//! The configuration: what was asked for, validated. Raw words become it once, at the start.

pub mod cli;
mod resolve;
mod words;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use resolve::{Lookup, balance};
pub use words::{Endpoint, parse_backend, parse_client, parse_vip};

use crate::lb::maglev::{self, Member, Table};
use crate::lb::{Backend, ClientHash, Protocols, Seed, Service, Tables, Vip};
use crate::neighbor::Timing;
use crate::wire::ether::Mac;

/// What is balanced, how, and to whom. Everything that the choice of a backend depends on.
#[derive(Clone, Debug, Default)]
pub struct Balance {
    /// The virtual addresses, at least one.
    pub vips: Vec<VipConfig>,
    /// Which protocols they serve.
    pub protocols: Protocols,
    /// Who serves them.
    pub backends: Vec<BackendConfig>,
    /// Does the client's port take part in the choice (`-r`)?
    pub hash_port: bool,
    /// The key of the hash.
    pub seed: Seed,
    /// Slots of the table, a prime.
    pub table_size: TableSize,
    /// When backends are asked for their MAC.
    pub neighbor: Timing,
}

/// A checked number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize(u32);

impl TableSize {
    /// `size` slots.
    ///
    /// # Errors
    /// `size` is no prime, or out of range ([`maglev::check_size`]).
    pub fn new(size: u32) -> Result<TableSize, maglev::BadSize> {
        maglev::check_size(size).map(TableSize)
    }
}

impl Default for TableSize {
    fn default() -> TableSize {
        TableSize(maglev::DEFAULT_SIZE)
    }
}

/// A virtual address, or one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipConfig {
    /// The address.
    pub address: IpAddr,
    /// 0: every port.
    pub port: u16,
}

impl fmt::Display for VipConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Endpoint { address: self.address, port: (self.port != 0).then_some(self.port) }.fmt(f)
    }
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// As written: a name or an address. Also what it is in the hash, so that a renumbered host keeps its clients.
    pub name: String,
    /// Where to ask for its MAC; `None` if that is given, or if the name was not looked up.
    pub address: Option<IpAddr>,
    /// A MAC that is not to be asked for.
    pub mac: Option<Mac>,
    /// 0, or the VIP's port: Direct Server Return cannot change ports.
    pub port: u16,
    /// Share of the clients, relative to the others; 0 takes none.
    pub weight: u32,
    /// Pen's soft limit, connections; kept, of no meaning without the proxy.
    pub soft: u32,
    /// Pen's hard limit, likewise.
    pub hard: u32,
    /// Pen's priority, likewise.
    pub prio: u32,
}

impl BackendConfig {
    /// A backend of weight 1 with nothing but a name.
    pub fn named(name: &str) -> BackendConfig {
        BackendConfig { name: name.to_owned(), address: None, mac: None, port: 0, weight: 1, soft: 0, hard: 0, prio: 0 }
    }
}

impl Balance {
    /// Slots that each table has.
    pub fn slots_wanted(&self) -> u32 {
        self.table_size.0
    }

    /// The VIPs' addresses, each once.
    pub fn vip_addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for vip in &self.vips {
            if !addresses.contains(&vip.address) {
                addresses.push(vip.address);
            }
        }
        addresses
    }

    /// The slot table when just the backends marked in `up` are.
    pub fn slots(&self, up: &[bool]) -> Table {
        let members: Vec<Member> = self
            .backends
            .iter()
            .zip(up)
            .map(|(backend, &up)| Member { identity: backend.name.clone(), weight: backend.weight, up })
            .collect();
        Table::build(&members, self.seed, self.table_size.0)
    }

    /// What is decided by when every backend is up, at the MAC that it is configured with.
    pub fn all_up(&self) -> Tables {
        let slots = Arc::new(self.slots(&vec![true; self.backends.len()]));
        let up = |backend: &BackendConfig| Backend { mac: backend.mac, in_service: backend.weight > 0 };
        self.tables(self.backends.iter().map(up).collect(), &slots)
    }

    /// What workers decide by, when backends have these MACs and the slots are dealt like that.
    pub fn tables(&self, backends: Vec<Backend>, slots: &Arc<Table>) -> Tables {
        let mut vips: Vec<Vip> = Vec::new();
        for configured in &self.vips {
            let service = Service { port: configured.port, protocols: self.protocols, slots: Arc::clone(slots) };
            match vips.iter_mut().find(|vip| vip.address == configured.address) {
                Some(vip) => vip.services.push(service),
                None => vips.push(Vip { address: configured.address, services: vec![service] }),
            }
        }
        let watched = self.backends.iter().filter_map(|backend| backend.address);
        Tables::new(ClientHash::new(self.seed, self.hash_port), vips, backends, watched)
    }
}

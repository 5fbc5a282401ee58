//! The configuration: what was asked for, validated.
//!
//! One [`Config`] is made from a TOML file, the command line's words and options, and commands, by [`load()`]: at the start,
//! and anew at every reload. At run time an [`Edit`] changes it. What is wrong is said with the place where it was written.

mod check;
pub mod cli;
mod commands;
mod difference;
mod driver;
mod edit;
mod file;
pub(crate) mod limits;
mod load;
mod nearest;
mod options;
mod origin;
mod process;
pub mod proxy;
mod resolve;
mod rule;
mod summary;
mod tables;
mod validate;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use difference::difference;
pub use driver::{Driven, Driver, XdpMode};
pub use edit::{Change, Edit, ProxyEdit, TlsEdit, Which, WhichVip, acl_lines};
pub use load::{Loaded, load, load_with_remarks, load_words};
pub use process::{ControlAddress, Cpus, LogFormat, Process, parse_peer};
pub use proxy::ProxyConfig;
pub use resolve::Lookup;
pub use rule::{parse_network, parse_rules, render_rules};
pub use words::{Endpoint, parse_backend, parse_client, parse_vip};

pub(crate) use nearest::nearest;
pub(crate) use words::{parse_server_address, parse_station};

use crate::health::Policy;
use crate::lb::acl::Acl;
use crate::lb::flow::Timeouts;
use crate::lb::maglev;
use crate::lb::{Protocols, Seed};
use crate::neighbor::Timing;
use crate::probe::Check;
use crate::wire::ether::Mac;

/// All that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What is balanced, how, and to whom.
    pub balance: Balance,
    /// How the program runs.
    pub process: Process,
    /// What the proxy does, beside or instead of Direct Server Return.
    pub proxy: ProxyConfig,
}

/// What is balanced, how, and to whom: all that a reload can change.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// The virtual addresses, at least one.
    pub vips: Vec<VipConfig>,
    /// Who serves them.
    pub backends: Vec<BackendConfig>,
    /// Who serves when none of them is in service (`-e`).
    pub emergency: Option<BackendConfig>,
    /// Does the client's port take part in the choice (`-r`)?
    pub hash_port: bool,
    /// The key of the hash.
    pub seed: Seed,
    /// Slots of the table, a prime.
    pub table_size: TableSize,
    /// When backends are asked for their MAC.
    pub neighbor: Timing,
    /// How long flows are remembered.
    pub timeouts: Timeouts,
    /// How long a table that was replaced decides about flows that are not remembered; zero: not at all.
    pub predecessor: Duration,
    /// How backends are checked.
    pub health: HealthConfig,
    /// When fewer percent of the backends than this are in service, all are used, whatever the checks say; 0: never.
    pub panic_threshold: u8,
    /// How long a backend that returns takes to reach its whole weight; zero: at once.
    pub slow_start: Duration,
    /// Access lists by their number, 0 to 9.
    pub acls: BTreeMap<u8, Acl>,
    /// The list that clients of VIPs without one of their own have to pass.
    pub client_acl: Option<u8>,
    /// The list that those who give commands over TCP have to pass.
    pub control_acl: Option<u8>,
    /// Which addresses are a tarpit.
    pub tarpit: Option<TarpitConfig>,
}

impl Default for Balance {
    fn default() -> Balance {
        Balance {
            vips: Vec::new(),
            backends: Vec::new(),
            emergency: None,
            hash_port: false,
            seed: Seed::default(),
            table_size: TableSize::default(),
            neighbor: Timing::default(),
            timeouts: Timeouts::default(),
            predecessor: Duration::from_secs(600),
            health: HealthConfig::default(),
            panic_threshold: 0,
            slow_start: Duration::ZERO,
            acls: BTreeMap::new(),
            client_acl: None,
            control_acl: None,
            tarpit: None,
        }
    }
}

/// How backends are checked, through the data path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthConfig {
    /// What is asked.
    pub check: Check,
    /// When, and how often it has to fail or succeed.
    pub policy: Policy,
    /// The address that IPv4 probes come from; the interface's unless given.
    pub source4: Option<Ipv4Addr>,
    /// The address that IPv6 probes come from; the interface's unless given.
    pub source6: Option<Ipv6Addr>,
}

impl HealthConfig {
    /// Checks follow each other after `interval`. A timeout and an interval while in doubt that nobody has said
    /// otherwise are not longer.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        let default = Policy::default();
        for (slot, default) in [(&mut self.policy.timeout, default.timeout), (&mut self.policy.doubt, default.doubt)] {
            if *slot == default {
                *slot = default.min(interval);
            }
        }
        self.policy.interval = interval;
    }
}

/// Addresses that nobody has, answered so that scanners waste their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TarpitConfig {
    /// The access list that says which.
    pub acl: u8,
    /// Answers a second at most.
    pub rate: u32,
}

impl TarpitConfig {
    /// Answers a second unless something else is said.
    pub const RATE: u32 = 100;
}

/// What clients get when no backend is in service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenEmpty {
    /// Nothing.
    #[default]
    Drop,
    /// TCP RST, ICMP port unreachable.
    Reject,
}

impl fmt::Display for WhenEmpty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhenEmpty::Drop => "drop",
            WhenEmpty::Reject => "reject",
        })
    }
}

impl FromStr for WhenEmpty {
    type Err = String;

    fn from_str(text: &str) -> Result<WhenEmpty, String> {
        match text {
            "drop" => Ok(WhenEmpty::Drop),
            "reject" => Ok(WhenEmpty::Reject),
            _ => Err(format!("{text:?} is neither drop nor reject")),
        }
    }
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
    /// Which protocols it serves.
    pub protocols: Protocols,
    /// What clients get when no backend is in service.
    pub when_empty: WhenEmpty,
    /// The access list that its clients have to pass, instead of [`Balance::client_acl`].
    pub client_acl: Option<u8>,
}

impl VipConfig {
    /// TCP and UDP at `port` (0: every port) of `address`, for everybody.
    pub fn new(address: IpAddr, port: u16) -> VipConfig {
        VipConfig { address, port, protocols: Protocols::All, when_empty: WhenEmpty::Drop, client_acl: None }
    }
}

impl VipConfig {
    /// What it is called among the settings: `vip 10.0.0.100`, `vip 10.0.0.100:53/udp`.
    pub(crate) fn setting(&self) -> String {
        match self.protocols {
            Protocols::All => format!("vip {self}"),
            protocols => format!("vip {self}/{protocols}"),
        }
    }
}

impl fmt::Display for VipConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Endpoint { address: self.address, port: (self.port != 0).then_some(self.port) }.fmt(f)
    }
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// As written: a name, an address, or the path of a Unix socket; with `:port` where several are on one host. Also what
    /// it is in the hash, so that a renumbered host keeps its clients.
    pub name: String,
    /// The host to look up, where that is not `name`.
    pub host: Option<String>,
    /// The Unix socket where it serves; the proxy's alone.
    pub path: Option<PathBuf>,
    /// Where to ask for its MAC; `None` if that is given, or if the name was not looked up.
    pub address: Option<IpAddr>,
    /// Is that address what the name resolved to? Then it is looked up again when the configuration is read again.
    pub looked_up: bool,
    /// A MAC that is not to be asked for.
    pub mac: Option<Mac>,
    /// 0, or the VIP's port: Direct Server Return cannot change ports. The proxy connects there; 0: the listener's.
    pub port: u16,
    /// Share of the clients, relative to the others; 0 takes none.
    pub weight: u32,
    /// Connections at a time before the proxy sends new clients elsewhere; 0: no limit. Of no meaning for Direct Server
    /// Return, as the three that follow.
    pub soft: u32,
    /// Connections at a time before the proxy sends known clients elsewhere; 0: no limit.
    pub hard: u32,
    /// The smallest is used first, where the proxy selects by priority.
    pub prio: u32,
    /// The access list that clients have to pass to be sent here by the proxy.
    pub acl: Option<u8>,
    /// Out of service until somebody says otherwise.
    pub maintenance: bool,
}

impl BackendConfig {
    /// A backend of weight 1 with nothing but a name.
    pub fn named(name: &str) -> BackendConfig {
        BackendConfig {
            name: name.to_owned(),
            host: None,
            path: None,
            address: None,
            looked_up: false,
            mac: None,
            port: 0,
            weight: 1,
            soft: 0,
            hard: 0,
            prio: 0,
            acl: None,
            maintenance: false,
        }
    }
}

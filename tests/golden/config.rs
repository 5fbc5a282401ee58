//! The configuration that the golden table is for.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pen_dsr::counters::Counters;
use pen_dsr::engine::{Engine, Station};
use pen_dsr::lb::flow::{Memory, Shape};
use pen_dsr::lb::maglev::{DEFAULT_SIZE, Member, Table};
use pen_dsr::lb::{Backend, ClientHash, Generation, Protocols, Seed, Service, Settings, Tables, Vip};
use pen_dsr::wire::ether::Mac;

use super::frames::MacBytes;

/// The interface's MAC: the source of what is forwarded.
pub const OWN: MacBytes = [0x02, 0, 0, 0, 0, 0x02];
/// The MAC that the VIPs are announced with, not the interface's, so that a mix-up of the two shows.
pub const VIP_MAC: MacBytes = [0x02, 0, 0x5e, 0, 0, 0x64];

/// Backend 10.0.0.11, weight 1.
pub const BE1: MacBytes = [0x02, 0, 0, 0, 0, 0x11];
/// Backend 10.0.0.12, weight 1.
pub const BE2: MacBytes = [0x02, 0, 0, 0, 0, 0x12];
/// Backend 10.0.0.13, weight 2.
pub const BE3: MacBytes = [0x02, 0, 0, 0, 0, 0x13];

/// The key of the hash.
pub const SEED: Seed = Seed(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

/// Every port is served here, TCP and UDP.
pub const ALL: [&str; 2] = ["10.0.0.100", "fd00::100"];
/// TCP port 80 and UDP port 53 alone are served here.
pub const SOME: [&str; 2] = ["10.0.0.101", "fd00::101"];
/// No backend is in service here.
pub const DEAD: [&str; 2] = ["10.0.0.102", "fd00::102"];
/// The one backend of this VIP, 10.0.0.14, has not answered yet.
pub const UNRESOLVED: [&str; 2] = ["10.0.0.103", "fd00::103"];

/// The tables; `with_port` takes the client's port into the hash (`-r`). The golden table is for `false`.
pub fn tables(with_port: bool) -> Tables {
    let farm = [Member::up("10.0.0.11", 1), Member::up("10.0.0.12", 1), Member::up("10.0.0.13", 2)];
    let farm = Arc::new(Table::build(&farm, SEED, DEFAULT_SIZE));
    let dead = Arc::new(Table::build(&[Member::down("10.0.0.11", 1)], SEED, 251));
    // A list's place is the backend's number: three that are down stand before the one that counts.
    let down = |address| Member::down(address, 0);
    let late = [down("10.0.0.11"), down("10.0.0.12"), down("10.0.0.13"), Member::up("10.0.0.14", 1)];
    let late = Arc::new(Table::build(&late, SEED, 251));

    let service = |port, protocols, slots: &Arc<Table>| {
        let current = Generation { hash: ClientHash::new(SEED, with_port), slots: Arc::clone(slots) };
        Service::new(port, protocols, current)
    };
    let mut vips = Vec::new();
    for family in 0..2 {
        let mut vip = |text: &str, services| {
            let number = vips.len();
            vips.push(Vip { address: address(text), number, services });
        };
        vip(ALL[family], vec![service(0, Protocols::All, &farm)]);
        vip(SOME[family], vec![service(80, Protocols::Tcp, &farm), service(53, Protocols::Udp, &farm)]);
        vip(DEAD[family], vec![service(0, Protocols::All, &dead)]);
        vip(UNRESOLVED[family], vec![service(0, Protocols::All, &late)]);
    }
    let resolved = |mac| Backend::up(Mac(mac));
    let waiting = Backend { mac: None, ..Backend::up(Mac(BE1)) };
    let backends = vec![resolved(BE1), resolved(BE2), resolved(BE3), waiting];
    let watched = ["10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"].map(address).into();
    Tables::new(vips, backends, Settings { watched, ..Settings::default() })
}

/// Who the balancer is.
pub fn station() -> Station {
    Station { vip_mac: Mac(VIP_MAC), ..Station::new(Mac(OWN)) }
}

/// An engine that decides by [`tables`] and remembers few flows.
pub fn engine(with_port: bool, now: Instant) -> Engine {
    engine_for(with_port, 1024, now)
}

/// An engine that decides by [`tables`] and remembers `flows` flows.
pub fn engine_for(with_port: bool, flows: usize, now: Instant) -> Engine {
    engine_at(station(), with_port, flows, now)
}

/// The same as `station`.
pub fn engine_at(station: Station, with_port: bool, flows: usize, now: Instant) -> Engine {
    // Made once: a fuzzer makes many engines.
    static TABLES: [OnceLock<Arc<Tables>>; 2] = [OnceLock::new(), OnceLock::new()];
    let tables = TABLES[usize::from(with_port)].get_or_init(|| Arc::new(tables(with_port)));
    let counters = Arc::new(Counters::new(4, tables.vips().len()));
    let memory = Memory::fresh(Shape::of(flows), SEED.keys()).expect("memory for a flow table");
    Engine::new(station, Arc::clone(tables), SEED, memory, counters, now)
}

/// Is `address` one of the VIPs?
pub fn is_vip(address: IpAddr) -> bool {
    [ALL, SOME, DEAD, UNRESOLVED].iter().flatten().any(|vip| self::address(vip) == address)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address in a test")
}

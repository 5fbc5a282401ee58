//! What a seed's world looks like at the beginning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use pen_dsr::config::{BackendConfig, Balance, HealthConfig, TableSize, VipConfig, WhenEmpty};
use pen_dsr::health::Policy;
use pen_dsr::lb::flow::Timeouts;
use pen_dsr::lb::{Protocols, Seed};
use pen_dsr::neighbor::Timing;
use pen_dsr::probe::{Check, HTTP_STATUS};

use super::host::Host;
use super::network::Weather;
use super::random::Random;

/// How many balancers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One.
    Alone,
    /// Two, of which one is silent.
    Pair,
}

/// The virtual addresses of the segment.
pub const VIP4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
pub const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100));

/// Sizes of tables.
pub const SIZES: [u32; 5] = [251, 509, 1021, 2039, 4093];

/// What depends on the seed from the beginning.
pub struct Plan {
    pub balance: Balance,
    pub weather: Weather,
    /// Conversations in all.
    pub conversations: usize,
    /// Between two turns of fate, milliseconds.
    pub turns: (u64, u64),
    /// Nothing bad happens to backends or balancers.
    pub calm: bool,
    /// The VIPs are announced with a MAC of their own.
    pub vip_mac: bool,
    /// Of two balancers, the one that has the VIPs tells the other of its flows.
    pub shares: bool,
    /// Places in the flow table.
    pub entries: usize,
}

impl Plan {
    pub fn new(random: &mut Random, hosts: &[Host]) -> Plan {
        let mut balance = Balance {
            vips: vips(random),
            hash_port: random.permille(400),
            seed: Seed(u128::from(random.next())),
            table_size: TableSize::new(random.pick(&SIZES)).expect("a prime"),
            neighbor: Timing { revalidate: random.millis(1000, 5000), ..Timing::default() },
            timeouts: Timeouts {
                opening: Duration::from_secs(25),
                established: Duration::from_secs(120),
                closing: Duration::from_secs(25),
                udp: Duration::from_secs(50),
            },
            predecessor: random.pick(&[600, 600, 20, 5, 0].map(Duration::from_secs)),
            health: health(random),
            panic_threshold: random.pick(&[0, 0, 0, 34, 51]),
            slow_start: random.pick(&[0, 0, 2, 10].map(Duration::from_secs)),
            ..Balance::default()
        };
        let first = random.within(2, hosts.len() - 2);
        balance.backends = hosts[..first].iter().map(|host| backend(host, random)).collect();
        if random.permille(150) {
            let last = &hosts[hosts.len() - 1];
            balance.emergency = Some(BackendConfig { address: Some(last.address), ..BackendConfig::named(&last.name) });
        }
        let bad = random.pick(&[0, 5, 20, 50]);
        let calm = random.permille(80);
        Plan {
            balance,
            weather: Weather { loss: bad, duplication: bad / 2, reordering: bad * 2 },
            conversations: random.within(80, 160),
            turns: random.pick(&[(300, 2000), (500, 5000), (2000, 9000)]),
            calm,
            vip_mac: random.permille(300),
            shares: random.permille(600),
            entries: 8192,
        }
    }
}

fn vips(random: &mut Random) -> Vec<VipConfig> {
    let port = |address, port| VipConfig {
        protocols: if port == 53 { Protocols::Udp } else { Protocols::All },
        when_empty: WhenEmpty::Reject,
        ..VipConfig::new(address, port)
    };
    match random.below(3) {
        0 => vec![VipConfig::new(VIP4, 0), VipConfig::new(VIP6, 0)],
        1 => vec![port(VIP4, 80), port(VIP4, 53), port(VIP6, 80), port(VIP6, 53)],
        _ => vec![VipConfig::new(VIP4, 0), port(VIP6, 80), port(VIP6, 53)],
    }
}

fn health(random: &mut Random) -> HealthConfig {
    let interval = random.millis(500, 2000);
    let timeout = interval.mul_f64(random.pick(&[0.25, 0.5, 1.0])).max(Duration::from_millis(300));
    let policy = Policy {
        interval,
        timeout,
        rise: random.within(1, 3) as u32,
        fall: random.within(2, 4) as u32,
        doubt: Policy::default().doubt.min(interval),
        ..Policy::default()
    };
    HealthConfig { check: check(random), policy, source4: None, source6: None }
}

/// How backends are checked.
pub fn check(random: &mut Random) -> Check {
    match random.below(5) {
        0 | 1 => Check::Link,
        2 => Check::Icmp,
        3 => Check::Tcp { port: Some(80) },
        _ => Check::Http { port: Some(80), path: "/".to_owned(), host: None, status: HTTP_STATUS, body: None },
    }
}

/// How `host` is configured as a backend.
pub fn backend(host: &Host, random: &mut Random) -> BackendConfig {
    BackendConfig {
        address: Some(host.address),
        mac: random.permille(80).then_some(host.mac),
        weight: random.pick(&[1, 1, 1, 2, 3, 5]),
        ..BackendConfig::named(&host.name)
    }
}

/// All hosts of the segment, whether they are configured or not: most have an IPv4 address.
pub fn hosts(random: &mut Random, now: Instant) -> Vec<Host> {
    let address = |index: usize, v6: bool| match v6 {
        false => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11 + index as u8)),
        true => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 11 + index as u16)),
    };
    (0..9).map(|index| Host::new(index, address(index, random.permille(250)), now)).collect()
}

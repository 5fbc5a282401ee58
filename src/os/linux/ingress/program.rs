//! What the table drops: rules, and the sets of addresses that they look up.

use std::net::IpAddr;

use super::expression::{
    Expression, Field, META_L4PROTO, META_PKTTYPE, META_PROTOCOL, NETWORK_HEADER, TRANSPORT_HEADER,
};
use super::set::{Part, Set};
use crate::config::VipConfig;
use crate::lb::acl::Network;
use crate::os::Wanted;
use crate::wire::ether;
use crate::wire::ip::protocol;

/// Sets and rules. There are at most four rules for each family, however many VIPs there are, and one for each range of
/// the tarpit.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) sets: Vec<Set>,
    pub(super) rules: Vec<Vec<Expression>>,
}

impl Program {
    pub(super) fn new(vips: &[VipConfig], wanted: &Wanted) -> Program {
        let mut program = Program::default();
        for family in [&V4, &V6] {
            program.keep_served(family, vips);
            program.keep_answers(family, wanted);
        }
        program.rules.extend(tarpit_rules(&wanted.tarpit));
        program
    }

    /// Just what the engine serves, so that a host which has a VIP's address itself keeps the rest.
    fn keep_served(&mut self, family: &Family, vips: &[VipConfig]) {
        let mut everything = family.set("all-ports", family.with_protocol);
        let mut ports = family.set("ports", family.with_port);
        let mut echoes = family.set("vips", family.alone);
        for vip in vips.iter().filter(|vip| family.has(vip.address)) {
            let address = octets(vip.address);
            echoes.insert(&[&address]);
            for number in [protocol::TCP, protocol::UDP].into_iter().filter(|&number| vip.protocols.takes(number)) {
                if vip.port == 0 {
                    everything.insert(&[&address, &[number]]);
                } else {
                    ports.insert(&[&address, &[number], &vip.port.to_be_bytes()]);
                }
            }
        }
        let to = family.field(family.destination);
        let l4 = Field::Meta(META_L4PROTO);
        let port = Field::Payload { base: TRANSPORT_HEADER, offset: 2, length: 2 };
        self.drop_members(family, &[], vec![(vec![to, l4], everything)]);
        self.drop_members(family, &[], vec![(vec![to, l4, port], ports)]);
        let echo = [
            Expression::Meta(META_L4PROTO, vec![family.icmp]),
            Expression::Payload { base: TRANSPORT_HEADER, offset: 0, bytes: vec![family.echo_request] },
        ];
        self.drop_members(family, &echo, vec![(vec![to], echoes)]);
    }

    /// Everything from a VIP to a probe's source: this host asks nothing of a VIP but by probes.
    fn keep_answers(&mut self, family: &Family, wanted: &Wanted) {
        let mut sources = family.set("check-sources", family.alone);
        let mut checked = family.set("checked", family.alone);
        for (set, addresses) in [(&mut sources, &wanted.probe_sources), (&mut checked, &wanted.vips)] {
            for &address in addresses.iter().filter(|&&address| family.has(address)) {
                set.insert(&[&octets(address)]);
            }
        }
        let (to, from) = (family.field(family.destination), family.field(family.source));
        self.drop_members(family, &[], vec![(vec![to], sources), (vec![from], checked)]);
    }

    /// Drops the packets of `family` for which `conditions` hold and whose fields are in all of these sets. No rule if
    /// nothing is in one of them.
    fn drop_members(&mut self, family: &Family, conditions: &[Expression], lookups: Vec<(Vec<Field>, Set)>) {
        if lookups.iter().any(|(_, set)| set.is_empty()) {
            return;
        }
        let mut rule = vec![family.test()];
        rule.extend_from_slice(conditions);
        for (fields, set) in lookups {
            rule.push(Expression::In { fields, set: set.name.clone() });
            self.sets.push(set);
        }
        rule.extend([Expression::Counter, Expression::Drop]);
        self.rules.push(rule);
    }
}

/// How packets of IPv4 or IPv6 look.
struct Family {
    /// As nft calls it.
    name: &'static str,
    ethertype: u16,
    /// Where the source and where the destination is in the header, and their bytes.
    source: u32,
    destination: u32,
    length: u32,
    icmp: u8,
    echo_request: u8,
    /// An address; one with a protocol; one with a protocol and a port.
    alone: &'static [Part],
    with_protocol: &'static [Part],
    with_port: &'static [Part],
}

const V4: Family = Family {
    name: "ip",
    ethertype: ether::IPV4,
    source: 12,
    destination: 16,
    length: 4,
    icmp: protocol::ICMP,
    echo_request: 8,
    alone: &[Part::V4],
    with_protocol: &[Part::V4, Part::Protocol],
    with_port: &[Part::V4, Part::Protocol, Part::Port],
};

const V6: Family = Family {
    name: "ip6",
    ethertype: ether::IPV6,
    source: 8,
    destination: 24,
    length: 16,
    icmp: protocol::ICMPV6,
    echo_request: 128,
    alone: &[Part::V6],
    with_protocol: &[Part::V6, Part::Protocol],
    with_port: &[Part::V6, Part::Protocol, Part::Port],
};

impl Family {
    fn of(address: IpAddr) -> &'static Family {
        if address.is_ipv4() { &V4 } else { &V6 }
    }

    fn has(&self, address: IpAddr) -> bool {
        Family::of(address).ethertype == self.ethertype
    }

    /// The packet is of this family.
    fn test(&self) -> Expression {
        Expression::Meta(META_PROTOCOL, self.ethertype.to_be_bytes().to_vec())
    }

    /// The address at `offset` of the header.
    fn field(&self, offset: u32) -> Field {
        Field::Payload { base: NETWORK_HEADER, offset, length: self.length }
    }

    /// A set of this family, without elements as yet.
    fn set(&self, name: &str, parts: &'static [Part]) -> Set {
        Set::new(format!("{name}-{}", self.name), parts)
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// Everything to `networks` in frames to this host. Those to other hosts, which a bridge may have to pass on, are theirs.
fn tarpit_rules(networks: &[Network]) -> Vec<Vec<Expression>> {
    const TO_US: u8 = 0; // PACKET_HOST
    let range = |&(first, last): &(IpAddr, IpAddr)| {
        let family = Family::of(first);
        vec![
            Expression::Meta(META_PKTTYPE, vec![TO_US]),
            family.test(),
            Expression::Within { offset: family.destination, first: octets(first), last: octets(last) },
            Expression::Counter,
            Expression::Drop,
        ]
    };
    ranges(networks).iter().map(range).collect()
}

/// The addresses of `networks` as ranges, as few as can be: one rule each.
fn ranges(networks: &[Network]) -> Vec<(IpAddr, IpAddr)> {
    let mut all: Vec<_> = networks.iter().map(|network| (network.first(), network.last())).collect();
    all.sort_unstable();
    let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::new();
    for (first, last) in all {
        match ranges.last_mut() {
            Some(range) if first <= range.1 || next(range.1) == Some(first) => range.1 = last.max(range.1),
            _ => ranges.push((first, last)),
        }
    }
    ranges
}

/// The address behind this one, in its family.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => a.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(a) => a.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use super::expression::{Expression, Field, META_L4PROTO, META_PKTTYPE, META_PROTOCOL, NETWORK_HEADER};
use super::netlink::{Attributes, Batch};
use super::program::Program;
use super::set::{Part, Set};
use super::transaction;
use crate::config::VipConfig;
use crate::lb::Protocols;
use crate::os::Wanted;

const TCP: u8 = 6;
const UDP: u8 = 17;
const TO_US: u8 = 0;
const TO_A_GROUP: u8 = 2;
const TO_OTHERS: u8 = 3;

/// A packet as nf_tables sees it.
struct Packet {
    kind: u8,
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    transport: [u8; 4],
}

impl Packet {
    fn new(from: &str, to: &str, protocol: u8, port: u16) -> Packet {
        let [high, low] = port.to_be_bytes();
        let [from, to] = [from, to].map(|text| text.parse().unwrap());
        Packet { kind: TO_US, from, to, protocol, transport: [0x9c, 0x40, high, low] }
    }

    fn icmp(from: &str, to: &str, protocol: u8, kind: u8) -> Packet {
        Packet { transport: [kind, 0, 0, 0], ..Packet::new(from, to, protocol, 0) }
    }

    fn meta(&self, key: u32) -> Vec<u8> {
        match key {
            META_PROTOCOL if self.to.is_ipv4() => vec![8, 0],
            META_PROTOCOL => vec![0x86, 0xdd],
            META_L4PROTO => vec![self.protocol],
            META_PKTTYPE => vec![self.kind],
            _ => panic!("meta key {key}"),
        }
    }

    fn payload(&self, base: u32, offset: u32, length: usize) -> Vec<u8> {
        let header = match (base, self.from, self.to) {
            (NETWORK_HEADER, IpAddr::V4(from), IpAddr::V4(to)) => {
                [&[0x45; 12][..], &from.octets(), &to.octets()].concat()
            }
            (NETWORK_HEADER, IpAddr::V6(from), IpAddr::V6(to)) => {
                [&[0x60; 8][..], &from.octets(), &to.octets()].concat()
            }
            _ => self.transport.to_vec(),
        };
        header[offset as usize..][..length].to_vec()
    }

    /// The key that the registers hold, each field in registers of four bytes.
    fn key(&self, fields: &[Field]) -> Vec<u8> {
        let mut key = Vec::new();
        for field in fields {
            key.extend(match *field {
                Field::Meta(meta) => self.meta(meta),
                Field::Payload { base, offset, length } => self.payload(base, offset, length as usize),
            });
            key.resize(key.len().next_multiple_of(4), 0);
        }
        key
    }

    fn is_dropped_by(&self, program: &Program) -> bool {
        let holds = |step: &Expression| match step {
            Expression::Meta(key, value) => self.meta(*key) == *value,
            Expression::Payload { base, offset, bytes } => self.payload(*base, *offset, bytes.len()) == *bytes,
            Expression::Within { offset, first, last } => {
                (first..=last).contains(&&self.payload(NETWORK_HEADER, *offset, first.len()))
            }
            Expression::In { fields, set } => {
                let set = program.sets.iter().find(|candidate| candidate.name == *set).expect("a set of that name");
                set.elements.contains(&self.key(fields))
            }
            Expression::Counter | Expression::Drop => true,
        };
        program.rules.iter().any(|rule| rule.last() == Some(&Expression::Drop) && rule.iter().all(holds))
    }
}

fn vip(address: &str, port: u16, protocols: Protocols) -> VipConfig {
    VipConfig { protocols, ..VipConfig::new(address.parse().unwrap(), port) }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn what_is_served_is_dropped_and_nothing_else() {
    let vips = [
        vip("10.0.0.100", 80, Protocols::Tcp),
        vip("10.0.0.100", 53, Protocols::All),
        vip("10.0.0.101", 0, Protocols::Udp),
        vip("fd00::100", 0, Protocols::All),
        vip("fd00::101", 443, Protocols::Tcp),
    ];
    let program = Program::new(&vips, &Wanted::default());
    let dropped = |to: &str, protocol: u8, port: u16| {
        let from = if to.contains(':') { "fd00::1" } else { "10.0.0.1" };
        Packet::new(from, to, protocol, port).is_dropped_by(&program)
    };
    for (to, protocol, port) in [
        ("10.0.0.100", TCP, 80),
        ("10.0.0.100", TCP, 53),
        ("10.0.0.100", UDP, 53),
        ("10.0.0.101", UDP, 80),
        ("10.0.0.101", UDP, 0),
        ("fd00::100", TCP, 80),
        ("fd00::100", UDP, 65535),
        ("fd00::101", TCP, 443),
    ] {
        assert!(dropped(to, protocol, port), "{to} {protocol} {port}");
    }
    for (to, protocol, port) in [
        ("10.0.0.100", UDP, 80),
        ("10.0.0.100", TCP, 81),
        ("10.0.0.100", 132, 80),
        ("10.0.0.101", TCP, 80),
        ("10.0.0.101", 132, 53),
        ("10.0.0.102", UDP, 53),
        ("fd00::100", 132, 80),
        ("fd00::101", UDP, 443),
        ("fd00::101", TCP, 80),
        ("fd00::102", TCP, 443),
    ] {
        assert!(!dropped(to, protocol, port), "{to} {protocol} {port}");
    }
}

#[test]
fn of_icmp_echo_requests_to_vips_are_dropped() {
    let vips = [vip("10.0.0.100", 80, Protocols::Tcp), vip("fd00::100", 0, Protocols::Udp)];
    let program = Program::new(&vips, &Wanted::default());
    for (to, protocol, kind, expected) in [
        ("10.0.0.100", 1, 8, true),
        ("10.0.0.100", 1, 0, false),
        ("10.0.0.100", 1, 128, false),
        ("10.0.0.101", 1, 8, false),
        ("fd00::100", 58, 128, true),
        ("fd00::100", 58, 129, false),
        ("fd00::100", 58, 135, false),
        ("fd00::100", 58, 8, false),
        ("fd00::101", 58, 128, false),
    ] {
        let from = if to.contains(':') { "fd00::1" } else { "10.0.0.1" };
        let packet = Packet::icmp(from, to, protocol, kind);
        assert_eq!(packet.is_dropped_by(&program), expected, "{to} {kind}");
    }
}

#[test]
fn whatever_vips_send_to_probe_sources_is_dropped() {
    let wanted = Wanted {
        vips: addresses(&["10.0.0.100", "10.0.0.101", "fd00::100"]),
        probe_sources: addresses(&["10.0.0.2", "10.0.0.3", "fd00::2"]),
        tarpit: vec![],
    };
    let program = Program::new(&[], &wanted);
    for (from, to, expected) in [
        ("10.0.0.100", "10.0.0.2", true),
        ("10.0.0.101", "10.0.0.3", true),
        ("10.0.0.100", "10.0.0.4", false),
        ("10.0.0.11", "10.0.0.2", false),
        ("10.0.0.2", "10.0.0.100", false),
        ("fd00::100", "fd00::2", true),
        ("fd00::101", "fd00::2", false),
        ("fd00::100", "fd00::3", false),
    ] {
        for kind in [TO_US, TO_A_GROUP] {
            let packets =
                [Packet { kind, ..Packet::new(from, to, TCP, 9) }, Packet { kind, ..Packet::icmp(from, to, 1, 3) }];
            assert!(packets.iter().all(|p| p.is_dropped_by(&program) == expected), "{from} to {to}");
        }
    }
}

#[test]
fn frames_to_others_are_not_dropped_for_the_tarpit() {
    let tarpit = ["10.0.0.32/27", "fd00::/120"].map(|text| text.parse().unwrap()).to_vec();
    let program = Program::new(&[], &Wanted { tarpit, ..Wanted::default() });
    for (from, to, inside) in [
        ("10.0.0.1", "10.0.0.31", false),
        ("10.0.0.1", "10.0.0.32", true),
        ("10.0.0.1", "10.0.0.63", true),
        ("10.0.0.1", "10.0.0.64", false),
        ("fd00::1:1", "fd00::ff", true),
        ("fd00::1:1", "fd00::100", false),
    ] {
        for (kind, expected) in [(TO_US, inside), (TO_A_GROUP, false), (TO_OTHERS, false)] {
            let packet = Packet { kind, ..Packet::new(from, to, UDP, 9) };
            assert_eq!(packet.is_dropped_by(&program), expected, "{to}, to {kind}");
        }
    }
}

#[test]
fn adjacent_networks_make_one_rule_and_families_stay_apart() {
    let texts = ["10.0.0.32/27", "10.0.0.64/26", "10.0.0.129/32", "::/1", "255.255.255.255/32"];
    let tarpit = texts.map(|text| text.parse().unwrap()).to_vec();
    let program = Program::new(&[], &Wanted { tarpit, ..Wanted::default() });
    let range = |rule: &Vec<Expression>| match &rule[2] {
        Expression::Within { first, last, .. } => (first.clone(), last.clone()),
        other => panic!("{other:?}"),
    };
    let ranges: Vec<_> = program.rules.iter().map(range).collect();
    assert_eq!(
        ranges,
        [
            (vec![10, 0, 0, 32], vec![10, 0, 0, 127]),
            (vec![10, 0, 0, 129], vec![10, 0, 0, 129]),
            (vec![255; 4], vec![255; 4]),
            (vec![0; 16], [&[0x7f][..], &[0xff; 15]].concat()),
        ]
    );
}

/// `count` VIPs of IPv6 with a port, and checks of all of them.
fn many(count: u16) -> (Vec<VipConfig>, Wanted) {
    let address = |n| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, n));
    let vips: Vec<_> = (0..count).map(|n| VipConfig::new(address(n), 80)).collect();
    let probe_sources = addresses(&["fd00::2"]);
    let wanted = Wanted { vips: (0..count).map(address).collect(), probe_sources, tarpit: vec![] };
    (vips, wanted)
}

#[test]
fn a_thousand_vips_need_no_more_rules_than_one() {
    let [one, thousand] = [1, 1000].map(many).map(|(vips, wanted)| Program::new(&vips, &wanted));
    assert_eq!(one.rules, thousand.rules);
    assert_eq!(one.rules.len(), 3, "ports, echo requests, answers to checks");
    assert_eq!(thousand.sets.iter().map(|set| set.elements.len()).max(), Some(2000));
}

#[test]
fn of_what_is_not_wanted_there_is_neither_rule_nor_set() {
    let nothing = Program::new(&[], &Wanted { probe_sources: addresses(&["10.0.0.2"]), ..Wanted::default() });
    assert!(nothing.rules.is_empty() && nothing.sets.is_empty(), "{nothing:?}");
    let tcp = Program::new(&[vip("10.0.0.100", 80, Protocols::Tcp)], &Wanted::default());
    assert_eq!(tcp.rules.len(), 2, "the port and echo requests");
}

#[test]
fn an_address_with_several_services_is_in_a_set_once() {
    let vips = [vip("10.0.0.100", 80, Protocols::Tcp), vip("10.0.0.100", 443, Protocols::Tcp)];
    let program = Program::new(&vips, &Wanted::default());
    let elements: Vec<_> = program.sets.iter().map(|set| (set.name.as_str(), set.elements.len())).collect();
    assert_eq!(elements, [("ports-ip", 2), ("vips-ip", 1)]);
}

/// The attributes in `bytes`: kind without flags, value.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut list = Vec::new();
    while let Some(&[l0, l1, k0, k1]) = bytes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        list.push((u16::from_ne_bytes([k0, k1]) & 0x3fff, &bytes[4..length]));
        bytes = bytes.get(length.next_multiple_of(4)..).expect("whole attributes");
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    list
}

/// The value of the attribute of that kind.
fn attribute(bytes: &[u8], kind: u16) -> &[u8] {
    attributes(bytes).iter().find(|(k, _)| *k == kind).unwrap_or_else(|| panic!("no attribute {kind}")).1
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// The messages of a batch but its begin: what each is (the low byte of its type), its attributes.
fn messages(batch: &Batch) -> Vec<(u8, &[u8])> {
    let mut bytes = batch.bytes.as_slice();
    let mut list = Vec::new();
    while let Some(length) = bytes.first_chunk() {
        let length = u32::from_ne_bytes(*length) as usize;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        if kind >> 8 == 10 {
            list.push(((kind & 0xff) as u8, &bytes[20..length]));
        }
        bytes = &bytes[length..];
    }
    list
}

const NEWRULE: u8 = 6;
const NEWSET: u8 = 9;
const NEWSETELEM: u8 = 12;

#[test]
fn the_parts_of_a_key_are_in_whole_registers() {
    let mut set = Set::new("ports-ip".into(), &[Part::V4, Part::Protocol, Part::Port]);
    set.insert(&[&[10, 0, 0, 100], &[TCP], &[0x01, 0xbb]]);
    let mut batch = Batch::new();
    set.put(&mut batch, "t", 7);
    let messages = messages(&batch);
    let [(NEWSET, made), (NEWSETELEM, filled)] = messages[..] else { panic!("{messages:?}") };
    assert_eq!((attribute(made, 1), attribute(made, 2)), (&b"t\0"[..], &b"ports-ip\0"[..]));
    // ipv4_addr 7, inet_proto 12, inet_service 13.
    assert_eq!(number(attribute(made, 4)), 7 << 12 | 12 << 6 | 13);
    assert_eq!(number(attribute(made, 5)), 12, "bytes in a key");
    assert_eq!(number(attribute(attribute(made, 9), 1)), 1, "elements");
    assert_eq!(number(attribute(made, 10)), 7, "its number in the transaction");
    assert_eq!((attribute(filled, 1), attribute(filled, 2)), (&b"t\0"[..], &b"ports-ip\0"[..]));
    let element = attribute(attribute(filled, 3), 1);
    assert_eq!(attribute(attribute(element, 1), 1), [10, 0, 0, 100, TCP, 0, 0, 0, 0x01, 0xbb, 0, 0]);
}

#[test]
fn a_lookup_finds_its_fields_one_behind_the_other() {
    let fields = vec![
        Field::Payload { base: NETWORK_HEADER, offset: 24, length: 16 },
        Field::Meta(META_L4PROTO),
        Field::Payload { base: 2, offset: 2, length: 2 },
    ];
    let mut list = Attributes::new();
    Expression::In { fields, set: "ports-ip6".into() }.put(&mut list);
    let mut rule = Attributes::new();
    rule.nested(4, |inner| *inner = list);
    let mut batch = Batch::new();
    batch.message(NEWRULE, 0, &rule);
    let steps: Vec<_> = attributes(attribute(messages(&batch)[0].1, 4))
        .iter()
        .map(|(_, step)| (attribute(step, 1), attribute(step, 2)))
        .collect();
    let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [&b"payload\0"[..], b"meta\0", b"payload\0", b"lookup\0"]);
    // NFT_REG32_00 is 8; an IPv6 address takes four.
    let registers: Vec<_> = steps[..3].iter().map(|(_, body)| number(attribute(body, 1))).collect();
    assert_eq!(registers, [8, 12, 13]);
    assert_eq!(attribute(steps[3].1, 1), b"ports-ip6\0");
    assert_eq!(number(attribute(steps[3].1, 2)), 8);
}

#[test]
fn sets_are_whole_before_rules_look_them_up_and_no_message_is_too_large() {
    let (vips, wanted) = many(5000);
    let program = Program::new(&vips, &wanted);
    let batch = transaction("t", "eth0", &program);
    let messages = messages(&batch);
    let first_rule = messages.iter().position(|(kind, _)| *kind == NEWRULE).expect("a rule");
    let (before, rules) = messages.split_at(first_rule);
    assert!(rules.iter().all(|(kind, _)| *kind == NEWRULE) && rules.len() == program.rules.len());
    let mut numbers = BTreeSet::new();
    for set in &program.sets {
        let of_set = |wanted: u8| {
            let is_its = move |(kind, body): &&(u8, &[u8])| {
                *kind == wanted && attribute(body, 2).strip_suffix(&[0]) == Some(set.name.as_bytes())
            };
            before.iter().filter(is_its).map(|(_, body)| *body)
        };
        let made: Vec<_> = of_set(NEWSET).collect();
        assert_eq!(made.len(), 1);
        assert_eq!(number(attribute(attribute(made[0], 9), 1)) as usize, set.elements.len());
        numbers.insert(number(attribute(made[0], 10)));
        let mut put = Vec::new();
        for body in of_set(NEWSETELEM) {
            for (_, element) in attributes(attribute(body, 3)) {
                put.push(attribute(attribute(element, 1), 1).to_vec());
            }
        }
        // Attributes that were too long would not be read back like this.
        assert_eq!(put, set.elements.iter().cloned().collect::<Vec<_>>());
    }
    assert_eq!(numbers.len(), program.sets.len(), "each has a number of its own");
    assert!(program.sets.iter().any(|set| set.elements.len() == 10_000), "more than one message holds");
}

//! Keeps the host's IP stack from seeing the frames that the engine serves: an nftables table at the interface's ingress,
//! behind the packet sockets and before the stack.
//!
//! It saves the stack the work of throwing each frame away, and a host that forwards packets from sending it on a second
//! time. The table belongs to the netlink socket that made it (NFT_TABLE_F_OWNER, Linux 5.12): the kernel removes it when
//! that is closed, however the process ends.

mod netlink;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use netlink::{Attributes, Batch};

use crate::config::VipConfig;
use crate::lb::acl::Network;
use crate::os::Wanted;
use crate::wire::ether;
use crate::wire::ip::protocol;

const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_NEWRULE: u8 = 6;

/// Tables that this process has installed: none has another's name, so that a new one can be there before the old goes.
static INSTALLED: AtomicU32 = AtomicU32::new(0);

/// The table, while this lives.
pub struct IngressDrop {
    _socket: netlink::Socket,
}

impl IngressDrop {
    /// Installs the table on `interface`. It drops what the engine serves of `vips`, what VIPs answer to probes, which
    /// the stack would answer with RSTs of its own, and all that goes to the tarpit. Two may exist at a time.
    ///
    /// # Errors
    /// The system's: no nf_tables in this kernel, not permitted.
    pub fn install(interface: &str, vips: &[VipConfig], wanted: &Wanted) -> io::Result<IngressDrop> {
        let table = format!("pen-dsr-{interface}-{}-{}", std::process::id(), INSTALLED.fetch_add(1, Relaxed));
        let mut batch = Batch::new();
        let mut a = Attributes::new();
        a.text(1, &table).be32(2, 0x2); // NFTA_TABLE_NAME, NFTA_TABLE_FLAGS: owner
        batch.message(NFT_MSG_NEWTABLE, netlink::CREATE | netlink::EXCLUSIVE, &a);

        let mut a = Attributes::new();
        a.text(1, &table).text(3, "ingress"); // NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME
        a.nested(4, |hook| {
            hook.be32(1, 0).be32(2, -300i32 as u32).text(3, interface); // NF_NETDEV_INGRESS, priority, device
        });
        a.be32(5, 1).text(7, "filter"); // NFTA_CHAIN_POLICY: accept, NFTA_CHAIN_TYPE
        batch.message(NFT_MSG_NEWCHAIN, netlink::CREATE | netlink::EXCLUSIVE, &a);

        let served = vips.iter().flat_map(|vip| rules(*vip));
        for rule in served.chain(probe_rules(wanted)).chain(tarpit_rules(&wanted.tarpit)) {
            let mut a = Attributes::new();
            a.text(1, &table).text(2, "ingress"); // NFTA_RULE_TABLE, NFTA_RULE_CHAIN
            a.nested(4, |list| rule.iter().for_each(|expression| expression.put(list)));
            batch.message(NFT_MSG_NEWRULE, netlink::CREATE | netlink::APPEND, &a);
        }
        let mut socket = netlink::Socket::open()?;
        socket.commit(batch)?;
        Ok(IngressDrop { _socket: socket })
    }
}

/// One step of a rule (linux/netfilter/nf_tables.h).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    /// The value under this NFT_META key is that.
    Meta(u32, Vec<u8>),
    /// The bytes at this offset of a header are those.
    Payload { base: u32, offset: u32, bytes: Vec<u8> },
    /// The bytes at this offset of the network header are not before the first and not behind the last of these.
    Within { offset: u32, first: Vec<u8>, last: Vec<u8> },
    /// Count it.
    Counter,
    /// Drop it.
    Drop,
}

const META_PROTOCOL: u32 = 1;
const META_L4PROTO: u32 = 16;
const META_PKTTYPE: u32 = 19;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

impl Expression {
    fn put(&self, list: &mut Attributes) {
        match self {
            Expression::Meta(key, value) => {
                expression(list, "meta", |a| {
                    a.be32(1, 1).be32(2, *key); // into register 1
                });
                compare(list, value);
            }
            Expression::Payload { base, offset, bytes } => {
                expression(list, "payload", |a| {
                    a.be32(1, 1).be32(2, *base).be32(3, *offset).be32(4, bytes.len() as u32);
                });
                compare(list, bytes);
            }
            Expression::Within { offset, first, last } => {
                expression(list, "payload", |a| {
                    a.be32(1, 1).be32(2, NETWORK_HEADER).be32(3, *offset).be32(4, first.len() as u32);
                });
                expression(list, "range", |a| {
                    a.be32(1, 1).be32(2, 0); // register 1, within
                    for (kind, value) in [(3, first), (4, last)] {
                        a.nested(kind, |data| {
                            data.bytes(1, value);
                        });
                    }
                });
            }
            Expression::Counter => expression(list, "counter", |_| {}),
            Expression::Drop => expression(list, "immediate", |a| {
                a.be32(1, 0); // into the verdict register
                a.nested(2, |data| {
                    data.nested(2, |verdict| {
                        verdict.be32(1, 0); // NF_DROP
                    });
                });
            }),
        }
    }
}

fn expression(list: &mut Attributes, name: &str, body: impl FnOnce(&mut Attributes)) {
    list.nested(1, |element| {
        element.text(1, name);
        element.nested(2, body);
    });
}

fn compare(list: &mut Attributes, value: &[u8]) {
    expression(list, "cmp", |a| {
        a.be32(1, 1).be32(2, 0); // register 1, equal
        a.nested(3, |data| {
            data.bytes(1, value);
        });
    });
}

/// EtherType of the address's family, where the source and where the destination is in its header, the address's bytes.
fn place(address: IpAddr) -> (u16, u32, u32, Vec<u8>) {
    match address {
        IpAddr::V4(a) => (ether::IPV4, 12, 16, a.octets().to_vec()),
        IpAddr::V6(a) => (ether::IPV6, 8, 24, a.octets().to_vec()),
    }
}

/// The packet is of the family with this EtherType.
fn family(ethertype: u16) -> Expression {
    Expression::Meta(META_PROTOCOL, ethertype.to_be_bytes().to_vec())
}

/// What is dropped for `vip`: just what the engine serves there, so that a host which has the address itself keeps the rest.
fn rules(vip: VipConfig) -> Vec<Vec<Expression>> {
    let (ethertype, _, offset, bytes) = place(vip.address);
    let to_vip = [family(ethertype), Expression::Payload { base: NETWORK_HEADER, offset, bytes }];
    let rule = |more: &[Expression]| {
        let mut rule = to_vip.to_vec();
        rule.extend_from_slice(more);
        rule.extend([Expression::Counter, Expression::Drop]);
        rule
    };
    let l4 = |number: u8| Expression::Meta(META_L4PROTO, vec![number]);
    let mut rules = Vec::new();
    for number in [protocol::TCP, protocol::UDP] {
        if !vip.protocols.takes(number) {
            continue;
        }
        if vip.port == 0 {
            rules.push(rule(&[l4(number)]));
        } else {
            let port =
                Expression::Payload { base: TRANSPORT_HEADER, offset: 2, bytes: vip.port.to_be_bytes().to_vec() };
            rules.push(rule(&[l4(number), port]));
        }
    }
    let (icmp, echo) = if vip.address.is_ipv4() { (protocol::ICMP, 8) } else { (protocol::ICMPV6, 128) };
    rules.push(rule(&[l4(icmp), Expression::Payload { base: TRANSPORT_HEADER, offset: 0, bytes: vec![echo] }]));
    rules
}

/// Everything from a VIP to a probe's source: this host asks nothing of a VIP but by probes.
fn probe_rules(wanted: &Wanted) -> impl Iterator<Item = Vec<Expression>> {
    wanted.probe_sources.iter().flat_map(|&to| {
        let vips = wanted.vips.iter().filter(move |vip| vip.is_ipv4() == to.is_ipv4());
        vips.map(move |&from| {
            let (ethertype, source, destination, bytes) = place(to);
            vec![
                family(ethertype),
                Expression::Payload { base: NETWORK_HEADER, offset: destination, bytes },
                Expression::Payload { base: NETWORK_HEADER, offset: source, bytes: place(from).3 },
                Expression::Counter,
                Expression::Drop,
            ]
        })
    })
}

/// Everything to `networks` in frames to this host. Those to other hosts, which a bridge may have to pass on, are theirs.
fn tarpit_rules(networks: &[Network]) -> Vec<Vec<Expression>> {
    const TO_US: u8 = 0; // PACKET_HOST
    let range = |&(first, last): &(IpAddr, IpAddr)| {
        let (ethertype, _, offset, first) = place(first);
        vec![
            Expression::Meta(META_PKTTYPE, vec![TO_US]),
            family(ethertype),
            Expression::Within { offset, first, last: place(last).3 },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::Protocols;

    #[test]
    fn only_what_is_served_is_dropped() {
        let vip = VipConfig { protocols: Protocols::Tcp, ..VipConfig::new("10.0.0.100".parse().unwrap(), 80) };
        let tcp = rules(vip);
        assert_eq!(tcp.len(), 2, "the port and echo requests");
        assert!(tcp[0].contains(&Expression::Payload { base: TRANSPORT_HEADER, offset: 2, bytes: vec![0, 80] }));
        let all = rules(VipConfig { port: 0, protocols: Protocols::All, ..vip });
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|rule| rule.last() == Some(&Expression::Drop)));
    }

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_vips_answers_to_each_probe_source_of_its_family_are_dropped() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let wanted = Wanted {
            vips: addresses(&["10.0.0.100", "10.0.0.101", "fd00::100"]),
            probe_sources: addresses(&["10.0.0.2", "fd00::2"]),
            tarpit: vec![],
        };
        let rules: Vec<_> = probe_rules(&wanted).collect();
        assert_eq!(rules.len(), 3);
        let [to, from] = [(16, [10, 0, 0, 2]), (12, [10, 0, 0, 101])].map(|(offset, bytes)| Expression::Payload {
            base: NETWORK_HEADER,
            offset,
            bytes: bytes.into(),
        });
        assert!(rules.iter().any(|rule| rule.contains(&to) && rule.contains(&from)));
        assert!(rules.iter().all(|rule| rule.last() == Some(&Expression::Drop)));
    }

    #[test]
    fn adjacent_networks_make_one_rule_and_families_stay_apart() {
        let networks = networks(&["10.0.0.32/27", "10.0.0.64/26", "10.0.0.129/32", "::/1", "255.255.255.255/32"]);
        let ranges = ranges(&networks);
        let shown: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        assert_eq!(
            shown,
            [
                "10.0.0.32-10.0.0.127",
                "10.0.0.129-10.0.0.129",
                "255.255.255.255-255.255.255.255",
                "::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
            ]
        );
        assert_eq!(tarpit_rules(&networks).len(), 4);
    }

    #[test]
    fn frames_to_others_are_not_dropped_for_the_tarpit() {
        let rules = tarpit_rules(&networks(&["fd00::/120"]));
        assert!(rules[0].contains(&Expression::Meta(META_PKTTYPE, vec![0])));
        let last = "fd00::ff".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
        assert!(
            rules[0].iter().any(|step| matches!(step, Expression::Within { offset: 24, last: l, .. } if *l == last))
        );
    }
}

//! Keeps the host's IP stack from seeing the frames that the engine serves: an nftables table at the interface's ingress,
//! behind the packet sockets and before the stack.
//!
//! It saves the stack the work of throwing each frame away, and a host that forwards packets from sending it on a second
//! time. The table belongs to the netlink socket that made it (NFT_TABLE_F_OWNER, Linux 5.12): the kernel removes it when
//! that is closed, however the process ends.

mod netlink;

use std::io;
use std::net::IpAddr;

use netlink::{Attributes, Batch};

use crate::config::VipConfig;
use crate::wire::ip::protocol;

const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_NEWRULE: u8 = 6;

/// The table, while this lives.
pub struct IngressDrop {
    _socket: netlink::Socket,
}

impl IngressDrop {
    /// Installs the table on `interface`.
    ///
    /// # Errors
    /// The system's: no nf_tables in this kernel, not permitted.
    pub fn install(interface: &str, vips: &[VipConfig]) -> io::Result<IngressDrop> {
        let table = format!("pen-dsr-{interface}-{}", std::process::id());
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

        for rule in vips.iter().flat_map(|vip| rules(*vip)) {
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
    /// Count it.
    Counter,
    /// Drop it.
    Drop,
}

const META_PROTOCOL: u32 = 1;
const META_L4PROTO: u32 = 16;
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

/// What is dropped for `vip`: just what the engine serves there, so that a host which has the address itself keeps the rest.
fn rules(vip: VipConfig) -> Vec<Vec<Expression>> {
    let (ethertype, offset, address) = match vip.address {
        IpAddr::V4(a) => (crate::wire::ether::IPV4, 16, a.octets().to_vec()),
        IpAddr::V6(a) => (crate::wire::ether::IPV6, 24, a.octets().to_vec()),
    };
    let to_vip = [
        Expression::Meta(META_PROTOCOL, ethertype.to_be_bytes().to_vec()),
        Expression::Payload { base: NETWORK_HEADER, offset, bytes: address },
    ];
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
}

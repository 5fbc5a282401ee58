//! Who we are on the segment, and the frames that we ask and announce with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::engine::Station;
use crate::neighbor::Question;
use crate::wire::ether::{self, Mac};
use crate::wire::{arp, nd};

/// Who we are on the segment, with the addresses that questions are asked from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Our MACs.
    pub station: Station,
    /// The interface's IPv4 addresses with their prefix lengths.
    pub ipv4: Vec<(Ipv4Addr, u8)>,
    /// The interface's IPv6 addresses but the link-local one.
    pub ipv6: Vec<Ipv6Addr>,
    /// The interface's IPv6 link-local address.
    pub link_local: Option<Ipv6Addr>,
    /// The routers that the host sends to on this segment.
    pub gateways: Vec<IpAddr>,
}

impl Segment {
    /// A segment on which we have no addresses.
    pub fn new(station: Station) -> Segment {
        Segment { station, ipv4: Vec::new(), ipv6: Vec::new(), link_local: None, gateways: Vec::new() }
    }

    /// The interface's addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.ipv6.iter().chain(&self.link_local).map(|&address| IpAddr::V6(address));
        self.ipv4.iter().map(|&(address, _)| IpAddr::V4(address)).chain(v6)
    }

    /// The broadcast addresses of the interface's IPv4 networks.
    pub(super) fn broadcasts(&self) -> impl Iterator<Item = IpAddr> {
        let host_bits = |prefix: u8| u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        self.ipv4.iter().map(move |&(a, prefix)| IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() | host_bits(prefix))))
    }

    /// Addresses here that must never be taken for nobody's, and whose they are.
    pub fn precious(&self) -> impl Iterator<Item = (IpAddr, &'static str)> {
        let gateways = self.gateways.iter().map(|&address| (address, "the gateway's"));
        self.addresses().map(|address| (address, "this host's own")).chain(gateways)
    }

    /// Is `address` the interface's?
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// `packet` in a frame to `mac`.
    pub(super) fn frame(&self, mac: Mac, packet: &[u8]) -> Vec<u8> {
        let ethertype = if packet.first().is_some_and(|b| b >> 4 == 6) { ether::IPV6 } else { ether::IPV4 };
        let mut frame = Vec::with_capacity(ether::HEADER_LEN + packet.len());
        frame.extend_from_slice(&mac.0);
        frame.extend_from_slice(&self.station.back.0);
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(packet);
        frame
    }

    /// The address to ask for `target` from: one of its subnet, else any, else 0.0.0.0, which makes it a probe (RFC 5227).
    pub(super) fn asking_v4(&self, target: Ipv4Addr) -> Ipv4Addr {
        let same_subnet = |&&(own, prefix): &&(Ipv4Addr, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            own.to_bits() & mask == target.to_bits() & mask
        };
        let found = self.ipv4.iter().find(same_subnet).or_else(|| self.ipv4.first());
        found.map_or(Ipv4Addr::UNSPECIFIED, |&(own, _)| own)
    }

    /// The link-local address to ask from: the interface's, or the one that its MAC stands for (RFC 4291 appendix A).
    pub(super) fn asking_v6(&self) -> Ipv6Addr {
        self.link_local.unwrap_or_else(|| {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&[0xfe, 0x80]);
            octets[8..].copy_from_slice(&self.station.back.eui64());
            Ipv6Addr::from(octets)
        })
    }

    /// The frame that puts `question` about `target`.
    pub(super) fn question(&self, target: IpAddr, question: Question) -> Vec<u8> {
        let mac = self.station.back;
        match target {
            IpAddr::V4(target) => {
                let (to, target_mac) = match question {
                    Question::Everybody => (Mac::BROADCAST, Mac::default()),
                    Question::Directly(mac) => (mac, mac),
                };
                let sender = self.asking_v4(target);
                arp::Message { operation: arp::Operation::Request, sender_mac: mac, sender, target_mac, target }
                    .to_frame(to)
            }
            IpAddr::V6(target) => {
                let (destination, destination_mac) = match question {
                    Question::Everybody => (nd::solicited_node(target), nd::multicast_mac(nd::solicited_node(target))),
                    Question::Directly(mac) => (target, mac),
                };
                nd::solicitation(nd::Route { mac, source: self.asking_v6(), destination_mac, destination }, target)
            }
        }
    }

    /// The frame that asks whether somebody else has the VIP `vip`.
    pub(super) fn probe(&self, vip: IpAddr) -> Vec<u8> {
        let mac = self.station.mac;
        match vip {
            IpAddr::V4(target) => {
                let sender = Ipv4Addr::UNSPECIFIED;
                arp::Message {
                    operation: arp::Operation::Request,
                    sender_mac: mac,
                    sender,
                    target_mac: Mac::default(),
                    target,
                }
                .to_frame(Mac::BROADCAST)
            }
            IpAddr::V6(target) => {
                let group = nd::solicited_node(target);
                let destination_mac = nd::multicast_mac(group);
                nd::solicitation(
                    nd::Route { mac, source: Ipv6Addr::UNSPECIFIED, destination_mac, destination: group },
                    target,
                )
            }
        }
    }

    /// The frame that tells the segment that the VIP `vip` is here.
    pub(super) fn announcement(&self, vip: IpAddr) -> Vec<u8> {
        Segment::announcement_of(vip, self.station.vip_mac)
    }

    /// The frame that tells the segment that the probes' source `source` is here.
    pub(super) fn source_announcement(&self, source: IpAddr) -> Vec<u8> {
        Segment::announcement_of(source, self.station.back)
    }

    fn announcement_of(address: IpAddr, mac: Mac) -> Vec<u8> {
        match address {
            IpAddr::V4(address) => {
                let message = arp::Message {
                    operation: arp::Operation::Request,
                    sender_mac: mac,
                    sender: address,
                    target_mac: Mac::default(),
                    target: address,
                };
                message.to_frame(Mac::BROADCAST)
            }
            IpAddr::V6(address) => {
                let (destination, destination_mac) = (nd::ALL_NODES, nd::multicast_mac(nd::ALL_NODES));
                nd::advertisement(nd::Route { mac, source: address, destination_mac, destination }, address)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn questions_are_asked_from_an_address_of_the_same_subnet() {
        let segment = Segment {
            ipv4: vec![("192.0.2.1".parse().unwrap(), 24), ("10.0.0.2".parse().unwrap(), 24)],
            ..Segment::new(Station::new(OWN))
        };
        assert_eq!(segment.asking_v4("10.0.0.9".parse().unwrap()), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(segment.asking_v4("203.0.113.9".parse().unwrap()), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(segment.asking_v6(), "fe80::ff:fe00:2".parse::<Ipv6Addr>().unwrap());
    }
}

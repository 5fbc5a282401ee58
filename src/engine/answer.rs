//! What the engine answers for the VIPs itself (ARP, neighbour solicitations, echo requests), and what it overhears of
//! the addresses that it watches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{Engine, Event, arp, checksum, ether, icmp, ip, nd, protocol};
use crate::verdict::{Arm, DropReason, Verdict};

/// Initial TTL and hop limit of what we send as a host (RFC 1700).
const HOP_LIMIT: u8 = 64;

impl Engine {
    /// ARP: a request for a VIP becomes its answer, in place and with the VLAN tags that it came with.
    pub(super) fn arp(&mut self, frame: &mut [u8], eth: &ether::Header) -> Verdict {
        let message = match arp::parse(&frame[eth.payload..]) {
            Ok(Some(message)) => message,
            Ok(None) => return Verdict::Host,
            Err(_) => return Verdict::Drop(DropReason::Malformed),
        };
        if self.station.owns(message.sender_mac) {
            return Verdict::Host;
        }
        let to_us = self.station.owns(eth.destination) && self.station.owns(message.target_mac);
        let is_answer = message.operation == arp::Operation::Reply && to_us;
        self.overhear(IpAddr::V4(message.sender), message.sender_mac, is_answer);
        let Some(mac) = self.arp_answer(&message) else {
            return Verdict::Host;
        };
        let answer = arp::Message {
            operation: arp::Operation::Reply,
            sender_mac: mac,
            sender: message.target,
            target_mac: message.sender_mac,
            target: message.sender,
        };
        frame[eth.payload..eth.payload + arp::LEN].copy_from_slice(&answer.to_bytes());
        ether::readdress(frame, message.sender_mac, mac);
        self.counters.neighbor_answers.add(1);
        Verdict::Transmit
    }

    /// With which MAC an ARP message is to be answered, if it is.
    fn arp_answer(&mut self, message: &arp::Message) -> Option<ether::Mac> {
        let target = IpAddr::V4(message.target);
        let asks = message.operation == arp::Operation::Request && message.sender != message.target;
        let settings = self.tables.settings();
        if self.tables.vip(target).is_some() {
            return (asks && !settings.silent && self.arm == Arm::Front).then_some(self.station.vip_mac);
        }
        if settings.answered.contains(&target) {
            return (asks && self.is_backends_arm()).then_some(self.station.back);
        }
        (self.arm == Arm::Front && self.tarpit_answers_arp(message)).then_some(self.station.vip_mac)
    }

    /// Did the frame come by the arm that the backends are on?
    fn is_backends_arm(&self) -> bool {
        self.arm == Arm::Back || !self.station.has_two_arms()
    }

    /// Looks for a neighbour message in a packet that is not for a service. Anything else is the host's.
    pub(super) fn neighbor_discovery(&mut self, frame: &mut [u8], eth: &ether::Header) -> Verdict {
        if eth.ethertype != ether::IPV6 {
            return Verdict::Host;
        }
        let Ok(header) = ip::parse(eth.ethertype, &frame[eth.payload..]) else {
            return Verdict::Host;
        };
        let message = &frame[eth.payload + header.payload..eth.payload + header.end];
        if header.protocol != protocol::ICMPV6 || header.fragment.is_some() || !nd::is_neighbor(message) {
            return Verdict::Host;
        }
        // To be discarded silently (RFC 4861 section 7.1); but it may not be ours to discard.
        let Ok(message) = nd::parse(&header, message) else {
            return Verdict::Host;
        };
        match message {
            nd::Message::Solicitation { target, source_mac } => {
                let asker = source_mac.unwrap_or(eth.source);
                if self.station.owns(asker) {
                    return Verdict::Host;
                }
                let settings = self.tables.settings();
                let mac = match self.tables.vip(IpAddr::V6(target)) {
                    Some(_) if settings.silent || self.arm == Arm::Back => return Verdict::Host,
                    Some(_) => self.station.vip_mac,
                    None if settings.answered.contains(&IpAddr::V6(target)) && self.is_backends_arm() => {
                        self.station.back
                    }
                    None if self.arm == Arm::Back => return Verdict::Host,
                    None => {
                        return self.tarpit_solicited(frame, eth, &header, asker, target).unwrap_or(Verdict::Host);
                    }
                };
                let tags = frame[12..eth.payload - 2].to_vec();
                self.advertise(&header, asker, target, mac, &tags);
                Verdict::Drop(DropReason::Answered)
            }
            nd::Message::Advertisement { target, target_mac, solicited, .. } => {
                let mac = target_mac.unwrap_or(eth.source);
                if !self.station.owns(mac) {
                    let is_answer = solicited && self.station.owns(eth.destination);
                    self.overhear(IpAddr::V6(target), mac, is_answer);
                }
                Verdict::Host
            }
        }
    }

    /// Somebody says that `address` is at `mac`; reported if the address is watched.
    fn overhear(&mut self, address: IpAddr, mac: ether::Mac, is_answer: bool) {
        if self.tables.vip(address).is_none() {
            self.tarpit_overhears(address);
        }
        if self.tables.watches(address) {
            self.report(if is_answer { Event::Answer { address, mac } } else { Event::Claim { address, mac } });
        }
    }

    /// Posts the advertisement that answers a solicitation: longer than its question may be, so not in place.
    fn advertise(&mut self, asked: &ip::Header, asker: ether::Mac, target: Ipv6Addr, mac: ether::Mac, tags: &[u8]) {
        let IpAddr::V6(source) = asked.source else {
            return;
        };
        // Who has no address yet cannot be answered but by all (RFC 4861 section 7.2.4).
        let (destination, destination_mac) =
            if source.is_unspecified() { (nd::ALL_NODES, nd::multicast_mac(nd::ALL_NODES)) } else { (source, asker) };
        let route = nd::Route { mac, source: target, destination_mac, destination };
        let mut frame = nd::advertisement(route, target);
        frame.splice(12..12, tags.iter().copied());
        self.counters.neighbor_answers.add(1);
        self.post(frame);
    }

    /// Turns an echo request for a VIP into its reply.
    pub(super) fn answer_echo(
        &mut self,
        frame: &mut [u8],
        eth: &ether::Header,
        header: &ip::Header,
        l4: Range<usize>,
    ) -> Verdict {
        let replyable = match header.source {
            IpAddr::V4(a) => !a.is_unspecified() && !a.is_multicast() && a != Ipv4Addr::BROADCAST,
            IpAddr::V6(a) => !a.is_unspecified() && !a.is_multicast(),
        };
        if !replyable || !eth.source.is_station() {
            return Verdict::Drop(DropReason::Malformed);
        }
        // Options and extension headers may ask for things (source routes) that a reply must not repeat.
        let plain = if header.source.is_ipv4() { 20 } else { 40 };
        if header.payload != plain {
            return Verdict::Host;
        }
        let to = eth.payload;
        let intact = |header: &[u8]| checksum::Sum::default().bytes(header).fold() == 0xffff;
        if header.source.is_ipv4() && !intact(&frame[to..to + 20]) {
            // The reply's checksum would be right again, and hide the damage.
            return Verdict::Drop(DropReason::Malformed);
        }
        match (header.source, header.destination) {
            (IpAddr::V4(source), IpAddr::V4(vip)) => {
                frame[to + 8] = HOP_LIMIT;
                frame[to + 12..to + 16].copy_from_slice(&vip.octets());
                frame[to + 16..to + 20].copy_from_slice(&source.octets());
                frame[to + 10..to + 12].fill(0);
                let sum = checksum::Sum::default().bytes(&frame[to..to + 20]).checksum();
                frame[to + 10..to + 12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(vip)) => {
                frame[to + 7] = HOP_LIMIT;
                frame[to + 8..to + 24].copy_from_slice(&vip.octets());
                frame[to + 24..to + 40].copy_from_slice(&source.octets());
            }
            _ => return Verdict::Drop(DropReason::Malformed),
        }
        icmp::make_echo_reply(header.protocol, &mut frame[l4]);
        ether::readdress(frame, eth.source, eth.destination);
        self.counters.echo_answers.add(1);
        Verdict::Transmit
    }
}

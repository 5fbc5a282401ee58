//! Addresses that nobody has, and that scanners find open: ARP and neighbour solicitations for them are answered, each
//! SYN gets a SYN+ACK, and all else goes nowhere, so that who connects hangs until his own timeout.
//!
//! No connection is remembered. What is remembered, for a while, is who was heard to have one of the addresses after all:
//! a host that the access list did not foresee must not lose its address to us. So questions that a host asks before it
//! takes an address (RFC 5227, RFC 4862 section 5.4) are not answered, and our advertisements override nobody's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use siphasher::sip::SipHasher13;

use super::{Engine, arp, ether, ip, nd, protocol};
use crate::lb::acl::Network;
use crate::lb::limit::Bucket;
use crate::lb::{Seed, TarpitList};
use crate::verdict::{DropReason, Verdict};
use crate::wire::l4::Ports;
use crate::wire::tcp::{self, Segment};

/// Bytes that a client may send before it hears of us again, which is never.
const WINDOW: u16 = 10;
/// How long an address belongs to a host that was heard to have it,
const INHABITED: Duration = Duration::from_secs(3600);
/// and to one that has asked whether it may take it.
const ASKED_FOR: Duration = Duration::from_secs(60);
/// Such addresses that are remembered.
const INHABITANTS: usize = 1024;

/// What no list makes a tarpit: "this network", loopback, link-local addresses (routers have those), groups, the reserved
/// block, broadcast.
const NEVER: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"];

fn can_never_be(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[0] == 0 || a.is_loopback() || a.is_link_local() || a.octets()[0] >= 224,
        IpAddr::V6(a) => a.is_unspecified() || a.is_loopback() || a.is_unicast_link_local() || a.is_multicast(),
    }
}

/// The networks that hold all addresses of `list` and no others: what sockets have to let through.
pub fn networks(list: &TarpitList) -> Vec<Network> {
    let never = NEVER.iter().filter_map(|text| text.parse().ok());
    let excluded = list.excluded.iter().map(|&address| Network::host(address));
    list.acl.except(never.chain(excluded)).permitted_networks()
}

/// What is kept between frames.
pub(super) struct Tarpit {
    isn: SipHasher13,
    rate: u32,
    limit: Bucket,
    /// Until when these addresses are somebody's.
    inhabited: HashMap<IpAddr, Instant, FxBuildHasher>,
}

impl Tarpit {
    /// Knows nobody. Initial sequence numbers are keyed by `seed`.
    pub(super) fn new(seed: Seed) -> Tarpit {
        let (k0, k1) = seed.keys();
        Tarpit {
            isn: SipHasher13::new_with_keys(k0, k1),
            rate: 0,
            limit: Bucket::new(0, 0),
            inhabited: HashMap::default(),
        }
    }

    /// Is `address` a tarpit now?
    fn wants(&self, list: &TarpitList, address: IpAddr, now: Instant) -> bool {
        list.contains(address)
            && !can_never_be(address)
            && self.inhabited.get(&address).is_none_or(|&until| until <= now)
    }

    /// May one more answer leave?
    fn may_answer(&mut self, list: &TarpitList, now: Instant) -> bool {
        if self.rate != list.rate {
            self.rate = list.rate;
            self.limit = Bucket::new(list.rate, list.rate);
        }
        self.limit.take(now)
    }

    /// Somebody has `address`, or is about to take it.
    fn leave_alone(&mut self, list: &TarpitList, address: IpAddr, until: Instant, now: Instant) {
        if !list.contains(address) {
            return;
        }
        if self.inhabited.len() >= INHABITANTS && !self.inhabited.contains_key(&address) {
            self.inhabited.retain(|_, until| *until > now);
            let soonest = self.inhabited.iter().min_by_key(|(_, until)| **until).map(|(&address, _)| address);
            if let Some(soonest) = soonest.filter(|_| self.inhabited.len() >= INHABITANTS) {
                self.inhabited.remove(&soonest);
            }
        }
        let known = self.inhabited.entry(address).or_insert(until);
        *known = until.max(*known);
    }

    /// The same flow gets the same number, nobody else can tell which (RFC 6528 without the clock).
    fn isn(&self, header: &ip::Header, ports: Ports) -> u32 {
        let mut bytes = [0u8; 36];
        match (header.source, header.destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                bytes[..4].copy_from_slice(&s.octets());
                bytes[16..20].copy_from_slice(&d.octets());
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                bytes[..16].copy_from_slice(&s.octets());
                bytes[16..32].copy_from_slice(&d.octets());
            }
            _ => {}
        }
        bytes[32..34].copy_from_slice(&ports.source.to_be_bytes());
        bytes[34..].copy_from_slice(&ports.destination.to_be_bytes());
        self.isn.hash(&bytes) as u32
    }
}

impl Engine {
    /// The list, unless there is none or another balancer answers.
    fn tarpit(&mut self) -> Option<(&TarpitList, &mut Tarpit, Instant)> {
        let Engine { tables, tarpit, now, .. } = self;
        let settings = tables.settings();
        let list = settings.tarpit.as_deref().filter(|_| !settings.silent)?;
        Some((list, tarpit, *now))
    }

    /// Somebody was heard to have `address`.
    pub(super) fn tarpit_overhears(&mut self, address: IpAddr) {
        if let Some((list, tarpit, now)) = self.tarpit() {
            tarpit.leave_alone(list, address, now + INHABITED, now);
        }
    }

    /// Is this ARP message, from somebody else (who was overheard) and for no VIP, to be answered?
    pub(super) fn tarpit_answers_arp(&mut self, message: &arp::Message) -> bool {
        let Some((list, tarpit, now)) = self.tarpit() else {
            return false;
        };
        let (sender, target) = (IpAddr::V4(message.sender), IpAddr::V4(message.target));
        if message.operation != arp::Operation::Request || sender == target {
            return false;
        }
        if sender.is_unspecified() {
            tarpit.leave_alone(list, target, now + ASKED_FOR, now);
            return false;
        }
        tarpit.wants(list, target, now) && tarpit.may_answer(list, now)
    }

    /// What becomes of a solicitation for `target`, no VIP, from `asker`; `None` if that is no tarpit.
    pub(super) fn tarpit_solicited(
        &mut self,
        frame: &[u8],
        eth: &ether::Header,
        header: &ip::Header,
        asker: ether::Mac,
        target: Ipv6Addr,
    ) -> Option<Verdict> {
        let mac = self.station.vip_mac;
        let IpAddr::V6(source) = header.source else {
            return None;
        };
        let (list, tarpit, now) = self.tarpit()?;
        if source.is_unspecified() {
            tarpit.leave_alone(list, IpAddr::V6(target), now + ASKED_FOR, now);
            return None;
        }
        tarpit.leave_alone(list, header.source, now + INHABITED, now);
        if !tarpit.wants(list, IpAddr::V6(target), now) {
            return None;
        }
        if !tarpit.may_answer(list, now) {
            return Some(Verdict::Drop(DropReason::Tarpit));
        }
        let route = nd::Route { mac, source: target, destination_mac: asker, destination: source };
        let mut answer = nd::yielding_advertisement(route, target);
        answer.splice(12..12, frame.get(12..eth.payload - 2)?.iter().copied());
        self.counters.neighbor_answers.add(1);
        self.post(answer);
        Some(Verdict::Drop(DropReason::Answered))
    }

    /// What becomes of a packet to `destination`, no VIP, in a frame to us; `None` if that is no tarpit, or the packet
    /// belongs to neighbour discovery.
    pub(super) fn tarpit_packet(&mut self, frame: &[u8], eth: &ether::Header, destination: IpAddr) -> Option<Verdict> {
        let (list, tarpit, now) = self.tarpit()?;
        if !tarpit.wants(list, destination, now) {
            return None;
        }
        let packet = frame.get(eth.payload..)?;
        let Ok(header) = ip::parse(eth.ethertype, packet) else {
            return Some(Verdict::Drop(DropReason::Malformed));
        };
        let upper = packet.get(header.payload..header.end)?;
        if header.protocol == protocol::ICMPV6 && header.fragment.is_none() && nd::is_neighbor(upper) {
            return None;
        }
        let swallowed = Some(Verdict::Drop(DropReason::Tarpit));
        if header.protocol != protocol::TCP || header.fragment.is_some() {
            return swallowed;
        }
        let Ok(segment) = Segment::parse(upper) else {
            return swallowed;
        };
        let isn = tarpit.isn(&header, segment.ports);
        match tcp::syn_ack(frame, eth, &header, isn, WINDOW) {
            Some(answer) if tarpit.may_answer(list, now) => {
                self.post(answer);
                Some(Verdict::Drop(DropReason::Answered))
            }
            _ => swallowed,
        }
    }
}

#[cfg(test)]
mod tests;

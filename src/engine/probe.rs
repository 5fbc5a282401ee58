//! Frames to us that are not for a VIP: answers to our probes, scanners in the tarpit, and what is the host's.

use std::net::IpAddr;

use super::{Engine, Event, ether, icmp, ip, protocol};
use crate::verdict::{DropReason, Verdict};

impl Engine {
    /// A packet in a frame to us, to another address than a VIP.
    pub(super) fn not_for_a_vip(&mut self, frame: &mut [u8], eth: &ether::Header, destination: IpAddr) -> Verdict {
        if self.tables.settings().probe_sources.contains(&destination) && self.answers_probe(frame, eth) {
            self.report(Event::Probed(frame[eth.payload..].to_vec()));
            return Verdict::Drop(DropReason::Probe);
        }
        if let Some(verdict) = self.tarpit_packet(frame, eth, destination) {
            return verdict;
        }
        self.neighbor_discovery(frame, eth)
    }

    /// Is the packet from a VIP, or an ICMP error about a packet from here to a VIP?
    fn answers_probe(&self, frame: &[u8], eth: &ether::Header) -> bool {
        let Ok(header) = ip::parse(eth.ethertype, &frame[eth.payload..]) else {
            return false;
        };
        if self.tables.vip(header.source).is_some() {
            return true;
        }
        if !matches!(header.protocol, protocol::ICMP | protocol::ICMPV6) || header.fragment.is_some() {
            return false;
        }
        match icmp::parse(header.protocol, &frame[eth.payload + header.payload..eth.payload + header.end]) {
            Ok(icmp::Message::Error(quote)) => {
                quote.source == header.destination && self.tables.vip(quote.destination).is_some()
            }
            _ => false,
        }
    }
}

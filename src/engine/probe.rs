//! Frames to us that are not for a VIP: answers to our probes, scanners in the tarpit, and what is the host's.

use std::net::IpAddr;

use super::{Engine, Event, ether};
use crate::probe;
use crate::verdict::{Arm, DropReason, Verdict};

impl Engine {
    /// A packet in a frame to us, to another address than a VIP.
    pub(super) fn not_for_a_vip(&mut self, frame: &mut [u8], eth: &ether::Header, destination: IpAddr) -> Verdict {
        if self.tables.settings().probe_sources.contains(&destination) && self.answers_probe(frame, eth) {
            self.report(Event::Probed(frame[eth.payload..].to_vec()));
            return Verdict::Drop(DropReason::Probe);
        }
        if self.arm == Arm::Front
            && let Some(verdict) = self.tarpit_packet(frame, eth, destination)
        {
            return verdict;
        }
        self.neighbor_discovery(frame, eth)
    }

    /// Is the packet from a VIP to a probe's source, or an ICMP message about a packet that went the other way?
    fn answers_probe(&self, frame: &[u8], eth: &ether::Header) -> bool {
        let key = probe::key_of(&frame[eth.payload..]);
        let sources = &self.tables.settings().probe_sources;
        key.is_some_and(|(vip, source, _)| self.tables.vip(vip).is_some() && sources.contains(&source))
    }
}

//! With two arms, the frames that come from the backends' side.

use super::Engine;
use crate::verdict::{Arm, Verdict};
use crate::wire::{ether, ip};

impl Engine {
    /// A frame from the backends' side: who has which MAC, and answers to probes. The rest is the host's.
    #[cold]
    pub(super) fn handle_back_frame(&mut self, frame: &mut [u8]) -> Verdict {
        self.arm = Arm::Back;
        let verdict = match ether::parse(frame) {
            Ok(eth) if eth.destination == self.station.back || eth.destination.is_group() => match eth.ethertype {
                ether::ARP => self.arp(frame, &eth),
                ether::IPV6 if eth.destination.is_group() => self.neighbor_discovery(frame, &eth),
                ether::IPV4 | ether::IPV6 if !eth.destination.is_group() => {
                    match ip::destination(eth.ethertype, &frame[eth.payload..]) {
                        Some(address) if self.tables.vip(address).is_none() => self.not_for_a_vip(frame, &eth, address),
                        _ => Verdict::Host,
                    }
                }
                _ => Verdict::Host,
            },
            _ => Verdict::Host,
        };
        self.arm = Arm::Front;
        self.count(frame.len(), verdict);
        verdict
    }
}

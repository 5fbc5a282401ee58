//! How long flows are remembered.

use std::time::Duration;

use super::{Stage, TICK_MS};

/// How long a flow is remembered after its last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, before its second packet.
    pub opening: Duration,
    /// TCP, established (RFC 5382 REQ-5: 2 h 4 min at least).
    pub established: Duration,
    /// TCP, after the client's FIN or RST.
    pub closing: Duration,
    /// UDP (RFC 4787 REQ-5: 2 min at least, 5 min recommended).
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            opening: Duration::from_secs(60),
            established: Duration::from_secs(7440),
            closing: Duration::from_secs(60),
            udp: Duration::from_secs(300),
        }
    }
}

/// The timeouts in ticks.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    opening: u32,
    established: u32,
    closing: u32,
    udp: u32,
}

impl Limits {
    pub(super) fn new(timeouts: &Timeouts) -> Limits {
        let ticks = |d: Duration| (d.as_millis() as u64).div_ceil(TICK_MS).min(u64::from(u32::MAX / 2)) as u32;
        Limits {
            opening: ticks(timeouts.opening),
            established: ticks(timeouts.established),
            closing: ticks(timeouts.closing),
            udp: ticks(timeouts.udp),
        }
    }

    pub(super) fn of(&self, stage: Stage) -> u32 {
        match stage {
            Stage::Opening => self.opening,
            // It has lived for who knows how long. Its place is in the nursery, where it is in nobody's way.
            Stage::Adopted | Stage::Young | Stage::Established => self.established,
            Stage::Closing | Stage::Reset => self.closing,
            Stage::Single | Stage::YoungUdp | Stage::Udp => self.udp,
        }
    }
}

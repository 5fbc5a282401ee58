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

impl Timeouts {
    /// That of a flow that has come so far.
    pub fn of(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Opening => self.opening,
            // It has lived for who knows how long. Its place is in the nursery, where it is in nobody's way.
            Stage::Adopted | Stage::Young | Stage::Established => self.established,
            Stage::Closing | Stage::Reset => self.closing,
            Stage::Single | Stage::YoungUdp | Stage::Udp => self.udp,
        }
    }
}

/// `idle` in ticks.
pub(super) fn ticks_of(idle: Duration) -> u32 {
    u32::try_from(idle.as_millis() as u64 / TICK_MS).unwrap_or(u32::MAX / 2)
}

/// Ticks as time.
pub(super) fn time_of(ticks: u32) -> Duration {
    Duration::from_millis(u64::from(ticks) * TICK_MS)
}

/// The timeouts in ticks, by the number of the stage.
#[derive(Clone, Copy)]
pub(super) struct Limits([u32; 16]);

impl Limits {
    pub(super) fn new(timeouts: &Timeouts) -> Limits {
        let ticks = |d: Duration| (d.as_millis() as u64).div_ceil(TICK_MS).min(u64::from(u32::MAX / 2)) as u32;
        Limits(std::array::from_fn(|number| {
            Stage::from_byte(number as u8).map_or(0, |stage| ticks(timeouts.of(stage)))
        }))
    }

    #[inline]
    pub(super) fn of(&self, stage: Stage) -> u32 {
        self.of_number(u32::from(stage as u8))
    }

    /// That of the stage with the number `number`; 0 if there is none.
    #[inline]
    pub(super) fn of_number(&self, number: u32) -> u32 {
        self.0[number as usize & 0xf]
    }
}

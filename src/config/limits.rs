//! What numbers may be, wherever they are written: command line, file, command.

use std::ops::RangeInclusive;

/// Backends, and virtual addresses.
pub const MOST: usize = 4096;
/// Rules of one access list.
pub const RULES: usize = 4096;
/// Access lists, by number.
pub const ACL: RangeInclusive<u32> = 0..=9;
/// A port; 0 means every port, or the VIP's.
pub const PORT: RangeInclusive<u32> = 0..=65535;
/// A port to send to.
pub const ONE_PORT: RangeInclusive<u32> = 1..=65535;
/// A backend's weight.
pub const WEIGHT: RangeInclusive<u32> = 0..=1_000_000;
/// Limits and priority of a backend, Pen's.
pub const PENS: RangeInclusive<u32> = 0..=1_000_000;
/// Seconds between questions for a MAC that is known.
pub const NEIGHBOR_INTERVAL: RangeInclusive<u32> = 1..=3600;
/// Microseconds.
pub const BUSY_POLL: RangeInclusive<u32> = 0..=1_000_000;
/// Milliseconds between two checks.
pub const CHECK_INTERVAL: RangeInclusive<u32> = 100..=3_600_000;
/// Milliseconds that a check may take.
pub const CHECK_TIMEOUT: RangeInclusive<u32> = 10..=600_000;
/// Milliseconds between two checks while in doubt.
pub const DOUBT_INTERVAL: RangeInclusive<u32> = 50..=3_600_000;
/// Checks in a row.
pub const IN_A_ROW: RangeInclusive<u32> = 1..=100;
/// Percent by which the interval between checks varies.
pub const JITTER: RangeInclusive<u32> = 0..=50;
/// Percent.
pub const PERCENT: RangeInclusive<u32> = 0..=100;
/// Seconds.
pub const SLOW_START: RangeInclusive<u32> = 0..=86_400;
/// Seconds.
pub const PREDECESSOR: RangeInclusive<u32> = 0..=86_400;
/// Seconds that a flow is remembered.
pub const FLOW_TIMEOUT: RangeInclusive<u32> = 1..=604_800;
/// Places in the flow table; the largest is a power of two.
pub const FLOW_ENTRIES: RangeInclusive<u32> = 1024..=67_108_864;
/// Answers a second that a tarpit gives.
pub const TARPIT_RATE: RangeInclusive<u32> = 1..=1_000_000;
/// Levels of the log.
pub const DEBUG: RangeInclusive<u32> = 0..=2;
/// HTTP's status codes.
pub const STATUS: RangeInclusive<u32> = 100..=599;
/// Seconds for which a backend can be taken out (`server N blacklist T`).
pub const BLACKLIST: RangeInclusive<u32> = 1..=86_400;

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

// The proxy's.

/// Listeners.
pub const LISTENERS: usize = 1024;
/// Connections of clients at a time, or UDP clients.
pub const CONNECTIONS: RangeInclusive<u32> = 1..=10_000_000;
/// Connections that are being made at a time.
pub const PENDING: RangeInclusive<u32> = 1..=1_000_000;
/// Connections that are accepted before others are served.
pub const ACCEPT_BATCH: RangeInclusive<u32> = 1..=65_536;
/// Connections that wait to be accepted, listen(2).
pub const BACKLOG: RangeInclusive<u32> = 1..=65_535;
/// Bytes of a request's or response's head.
pub const HEAD: RangeInclusive<u32> = 1024..=1_048_576;
/// Connections kept to each server.
pub const KEPT: RangeInclusive<u32> = 0..=65_536;
/// Clients that are remembered.
pub const CLIENTS: RangeInclusive<u32> = 1..=16_777_216;
/// Seconds for which a client is remembered; 0: as long as there is room.
pub const TRACKING: RangeInclusive<u32> = 0..=31_536_000;
/// Seconds that something may take which has to happen.
pub const PATIENCE: RangeInclusive<u32> = 1..=3600;
/// Seconds that something may last; 0: for ever, or not at all.
pub const WHILE: RangeInclusive<u32> = 0..=31_536_000;
/// Seconds for which a server that could not be connected to is left out.
pub const LEFT_OUT: RangeInclusive<u32> = 0..=86_400;
/// Seconds for which a UDP client is remembered.
pub const UDP_IDLE: RangeInclusive<u32> = 1..=86_400;
/// Seconds before a silent peer is asked, tcp(7).
pub const KEEPALIVE: RangeInclusive<u32> = 0..=32_767;
/// Event loops.
pub const THREADS: RangeInclusive<u32> = 0..=1024;
/// Seconds for which a TLS session can be resumed (RFC 8446 section 4.6.1: seven days at most).
pub const TICKETS: RangeInclusive<u32> = 0..=604_800;

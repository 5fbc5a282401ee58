//! What the program in the kernel and pen-dsr both read and write: the other half of `src/bpf/layout.h`, which says what
//! each field is for.

// What would be said here is said there.
#![allow(missing_docs)]

use std::mem::offset_of;
use std::net::IpAddr;
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::lb::flow::{Owner, Record, Stage, Tag};
use crate::wire::ether::Mac;

/// Another number whenever the layout changes: what an older program has left is of no use then.
pub const VERSION: u32 = 1;

/// Bytes of a chunk.
pub const CHUNK: usize = 128;
/// What tables are made of.
pub type Chunk = [u8; CHUNK];

/// No service is further from its place than this.
pub const MOST_PROBES: u32 = 8;
/// Backends in a chunk.
pub const BACKENDS_PER_CHUNK: usize = CHUNK / size_of::<Backend>();
/// Slots in a chunk.
pub const SLOTS_PER_CHUNK: usize = CHUNK / size_of::<u16>();
/// The slot holds nobody.
pub const NOBODY: u16 = u16::MAX;
/// A tick is 2 to this nanoseconds.
const TICK_SHIFT: u32 = 26;

/// See `struct head`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    pub mac: [u8; 6],
    pub vip_mac: [u8; 6],
    pub back: [u8; 6],
    pub flags: u16,
    pub services: u32,
    pub services_mask: u32,
    pub backends: u32,
    pub backend_count: u32,
    pub unused: [u32; 3],
    pub flow_key: [u64; 2],
    pub opening: u32,
    pub established: u32,
    pub closing: u32,
    pub udp: u32,
    pub proof: u32,
    pub v4_source: [u8; 4],
    pub v6_source: [u8; 16],
    pub version: u64,
}

/// There are services with a port.
pub const HEAD_PORTS: u16 = 1;
/// Another balancer has the VIPs' MAC.
pub const HEAD_SILENT: u16 = 2;
/// Left alone, the program answers who asks for the VIPs' MAC.
pub const HEAD_ANSWERS: u16 = 32;
/// There is a source of probes for IPv4,
pub const HEAD_V4_SOURCE: u16 = 4;
/// and one for IPv6.
pub const HEAD_V6_SOURCE: u16 = 8;
/// There are more sources than that: all is left to the engine.
pub const HEAD_SOURCES: u16 = 16;

/// See `struct generation`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Generation {
    pub key: [u64; 2],
    pub slots: u32,
    pub slot_count: u32,
    pub with_port: u32,
    pub unused: u32,
}

/// See `struct service`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    pub address: [u8; 16],
    pub port: [u8; 2],
    pub protocol: u8,
    pub family: u8,
    pub vip: u32,
    pub flags: u32,
    pub acl: u32,
    pub unused: [u32; 2],
    pub current: Generation,
    pub previous: Generation,
}

/// Of a service that stands for its VIP's address alone.
pub const PROTOCOL_VIP: u8 = 255;

/// Only whom the list permits.
pub const SERVICE_ACL: u32 = 1;
/// There is a previous generation.
pub const SERVICE_PREVIOUS: u32 = 2;
/// Clients are told when nobody is in service.
pub const SERVICE_REFUSES: u32 = 4;

/// See `struct backend`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Backend {
    pub mac: [u8; 6],
    pub epoch: u8,
    pub flags: u8,
}

/// Its MAC is known.
pub const BACKEND_MAC: u8 = 1;
/// The flows that it has stay with it.
pub const BACKEND_KEEPS: u8 = 2;

/// See `struct permit_key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PermitKey {
    pub prefix: u32,
    pub list: u32,
    pub address: [u8; 16],
}

/// See `struct flow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    pub seen: u32,
    pub backend: u16,
    pub epoch: u8,
    pub stage: u8,
}

impl Flow {
    /// As the program keeps `record`, at `now` of CLOCK_MONOTONIC.
    pub fn of(record: &Record, now: Duration) -> Flow {
        Flow {
            seen: tick(now).wrapping_sub(ticks(record.idle)),
            backend: record.owner.backend,
            epoch: record.owner.epoch,
            stage: record.stage as u8,
        }
    }

    /// What it says of the flow `tag`; `None` if it makes no sense.
    pub fn record(&self, tag: u64, now: Duration) -> Option<Record> {
        let idle = tick(now).wrapping_sub(self.seen);
        // The two clocks are not read at once: one that has just been seen may seem to be seen in a moment.
        let idle = if idle as i32 <= 0 { 0 } else { idle };
        Some(Record {
            tag: Tag::from_number(tag)?,
            owner: Owner { backend: self.backend, epoch: self.epoch },
            stage: Stage::from_byte(self.stage)?,
            idle: Duration::from_nanos(u64::from(idle) << TICK_SHIFT),
        })
    }
}

fn tick(now: Duration) -> u32 {
    (now.as_nanos() >> TICK_SHIFT) as u32
}

/// `time` in ticks, rounded up.
pub fn ticks(time: Duration) -> u32 {
    let ticks = time.as_nanos().div_ceil(1 << TICK_SHIFT);
    u32::try_from(ticks).unwrap_or(u32::MAX).min(u32::MAX / 2)
}

/// See `struct identity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Identity {
    pub key: u64,
    pub namespace: u64,
    pub interface: u32,
    pub unused: u32,
}

/// See `struct opener_key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenerKey {
    pub address: [u8; 16],
    pub family: u32,
    pub unused: u32,
}

impl OpenerKey {
    /// The client.
    pub fn client(&self) -> IpAddr {
        let [a, b, c, d, ..] = self.address;
        if self.family == 4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(self.address) }
    }
}

/// See `struct opener`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Opener {
    pub seen: u64,
    pub backend: u64,
}

/// See `struct traffic`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Traffic {
    pub frames: u64,
    pub bytes: u64,
}

impl Traffic {
    /// Adds `other`, another processor's.
    pub fn add(&mut self, other: &Traffic) {
        self.frames = self.frames.wrapping_add(other.frames);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// See `struct totals`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Totals {
    pub transmitted: Traffic,
    pub answered: Traffic,
    pub denied: Traffic,
    pub no_backend: Traffic,
    pub passed: Traffic,
    pub opened: u64,
}

impl Totals {
    /// Adds `other`, another processor's.
    pub fn add(&mut self, other: &Totals) {
        self.transmitted.add(&other.transmitted);
        self.answered.add(&other.answered);
        self.denied.add(&other.denied);
        self.no_backend.add(&other.no_backend);
        self.passed.add(&other.passed);
        self.opened = self.opened.wrapping_add(other.opened);
    }

    /// Frames of all kinds.
    pub fn frames(&self) -> u64 {
        [self.transmitted, self.answered, self.denied, self.no_backend, self.passed]
            .iter()
            .map(|traffic| traffic.frames)
            .sum()
    }
}

// src/bpf/layout.h says the same of its own.
const _: () = {
    assert!(size_of::<Head>() == 112 && offset_of!(Head, flow_key) == 48);
    assert!(size_of::<Generation>() == 32);
    assert!(size_of::<Service>() == 104 && offset_of!(Service, current) == 40);
    assert!(size_of::<Backend>() == 8 && size_of::<Flow>() == 8);
    assert!(size_of::<PermitKey>() == 24 && size_of::<OpenerKey>() == 24);
    assert!(size_of::<Totals>() == 88);
};

/// The bytes of an address as the program has them, and its family.
pub fn address(address: IpAddr) -> ([u8; 16], u8) {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            (bytes, 4)
        }
        IpAddr::V6(address) => (address.octets(), 6),
    }
}

/// `value` at the beginning of a chunk.
pub fn chunk(value: &(impl IntoBytes + Immutable)) -> Chunk {
    let mut chunk = [0; CHUNK];
    let bytes = value.as_bytes();
    chunk[..bytes.len()].copy_from_slice(bytes);
    chunk
}

/// A MAC's bytes, which are what the program has.
pub fn mac(Mac(bytes): Mac) -> [u8; 6] {
    bytes
}

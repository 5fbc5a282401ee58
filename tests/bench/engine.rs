//! `cargo bench --bench engine`: time and allocations per frame of the engine alone, no port and no kernel in it.
//!
//! A round shows 1024 frames that lie ready in memory, and takes the time of all of them. Printed is the median round,
//! with the quickest and the 90th percentile, divided by 1024.

#[path = "../golden/mod.rs"]
mod golden;

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use golden::config::{self, ALL, OWN, VIP_MAC};
use golden::frames::{Packet, ROUTER, Tags, padded, udp_datagram};
use pen_dsr::engine::Engine;
use pen_dsr::lb::flow::DEFAULT_ENTRIES;
use pen_dsr::verdict::Verdict;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames per round: about what a ring holds.
const FRAMES: usize = 1024;
/// What the project aims at, ns per frame.
const AIM: f64 = 60.0;

fn main() {
    // `cargo bench` says so; whatever else runs this (`cargo test --all-targets`) sees whether it works.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 3000 } else { 3 };
    print_machine();
    println!("{:<44} {:>8} {:>8} {:>8} {:>8}", "ns per frame", "median", "fastest", "90 %", "allocs");
    for workload in workloads() {
        workload.measure(rounds);
    }
    println!("aim: {AIM} ns and 0 allocations per frame; {FRAMES} frames a round, {rounds} rounds");
}

/// The same kind of frame, from one client or from many.
struct Workload {
    name: &'static str,
    with_port: bool,
    /// Shown once before all rounds.
    before: Vec<Vec<u8>>,
    frames: Vec<Vec<u8>>,
    verdict: Verdict,
}

impl Workload {
    fn new(name: &'static str, frame: impl Fn(usize) -> Vec<u8>) -> Workload {
        let frames = (0..FRAMES).map(frame).collect();
        Workload { name, with_port: false, before: Vec::new(), frames, verdict: Verdict::Transmit }
    }

    fn measure(self, rounds: usize) {
        let now = Instant::now();
        let mut engine = config::engine_for(self.with_port, DEFAULT_ENTRIES, now);
        for frame in &self.before {
            engine.handle_frame(&mut frame.clone());
        }
        let mut ring = self.frames.clone();
        self.round(&mut engine, &mut ring);
        let mut times = Vec::with_capacity(rounds);
        let mut allocations = 0;
        for _ in 0..rounds {
            // What the round before has written is undone, so that each frame comes as from the wire.
            for (place, frame) in ring.iter_mut().zip(&self.frames) {
                place.copy_from_slice(frame);
            }
            let region = Region::new(ALLOCATOR);
            times.push(self.round(&mut engine, &mut ring));
            let change = region.change();
            allocations += change.allocations + change.reallocations;
        }
        times.sort_unstable();
        let per_frame = |time: Duration| time.as_nanos() as f64 / FRAMES as f64;
        let median = per_frame(times[rounds / 2]);
        println!(
            "{:<44} {:>8.1} {:>8.1} {:>8.1} {:>8.3}{}",
            self.name,
            median,
            per_frame(times[0]),
            per_frame(times[rounds * 9 / 10]),
            allocations as f64 / (rounds * FRAMES) as f64,
            if median > AIM { "  above the aim" } else { "" }
        );
    }

    fn round(&self, engine: &mut Engine, ring: &mut [Vec<u8>]) -> Duration {
        let mut as_expected = 0;
        let start = Instant::now();
        for frame in ring.iter_mut() {
            as_expected += usize::from(engine.handle_frame(black_box(frame)) == self.verdict);
        }
        let time = start.elapsed();
        assert_eq!(as_expected, FRAMES, "{}: not what this workload is about", self.name);
        time
    }
}

fn v4(client: usize) -> Packet {
    let client = format!("198.51.{}.{}", 100 + client / 250, 1 + client % 250);
    Packet::new(VIP_MAC, &client, ALL[0]).sent_by(ROUTER)
}

fn v6(client: usize) -> Packet {
    Packet::new(VIP_MAC, &format!("2001:db8::{:x}", client + 1), ALL[1]).sent_by(ROUTER)
}

fn port(flow: usize) -> u16 {
    1024 + flow as u16
}

fn workloads() -> Vec<Workload> {
    let tcp4 = |client: usize, flow: usize| padded(v4(client).tcp(port(flow), 80, b""));
    let tcp6 = |client: usize| v6(client).tcp(40000, 80, b"");
    let vlan = |client: usize| padded(v4(client).tags(Tags::Customer(7)).tcp(40000, 80, b""));
    let qinq = |client: usize| v6(client).tags(Tags::QinQ(5, 7)).tcp(40000, 80, b"");
    let udp4 = |client: usize| padded(v4(client).udp(40000, 53, b""));
    let datagram = udp_datagram("198.51.100.1", ALL[0], (40000, 53), &[0x55; 64]);
    let part = |id: usize, first: bool| {
        let (at, to) = if first { (0, 32) } else { (32, 64) };
        padded(v4(0).fragment(id as u16, at, first).protocol(17, &datagram[usize::from(at)..to]))
    };
    vec![
        Workload::new("TCP v4, 64 bytes, one flow", |_| tcp4(0, 0)),
        Workload::new("TCP v4, 64 bytes, 1024 clients", |n| tcp4(n, 0)),
        Workload { with_port: true, ..Workload::new("TCP v4, 64 bytes, 1024 ports of a client, -r", |n| tcp4(0, n)) },
        Workload::new("TCP v6, 78 bytes, one flow", |_| tcp6(0)),
        Workload::new("TCP v6, 78 bytes, 1024 clients", tcp6),
        Workload::new("TCP v4, 802.1Q, one flow", |_| vlan(0)),
        Workload::new("TCP v4, 802.1Q, 1024 clients", vlan),
        Workload::new("TCP v6, QinQ, 1024 clients", qinq),
        Workload::new("UDP v4, 64 bytes, 1024 clients", udp4),
        Workload::new("UDP v4, first fragment, one datagram", |_| part(1, true)),
        Workload::new("UDP v4, first fragments, 1024 datagrams", |n| part(n, true)),
        Workload {
            before: vec![part(1, true)],
            ..Workload::new("UDP v4, later fragments, one datagram", |_| part(1, false))
        },
        // As many as are surely remembered all: sets of the fragment table overflow at some hundreds.
        Workload {
            with_port: true,
            before: (0..128).map(|n| part(n, true)).collect(),
            ..Workload::new("UDP v4, later fragments, 128 datagrams, -r", |n| part(n % 128, false))
        },
        Workload::new("ping v4, answered", |n| padded(v4(n).echo_request(1, n as u16, b""))),
        Workload {
            verdict: Verdict::Host,
            ..Workload::new("TCP v4 to the host's own address", |_| {
                Packet::new(OWN, "198.51.100.1", "10.0.0.2").tcp(1, 22, b"")
            })
        },
    ]
}

fn print_machine() {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {model}, {cores} cores, {} {}", std::env::consts::OS, std::env::consts::ARCH);
    println!("command: cargo bench --bench engine (pen-dsr {})", env!("CARGO_PKG_VERSION"));
}

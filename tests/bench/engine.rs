//! `cargo bench --bench engine`: time and allocations per frame of the engine alone, no port and no kernel in it.
//!
//! A round shows 1024 frames (or as many as the workload says) that lie ready in memory, and takes the time of all of
//! them. Printed is the median round, with the quickest and the 90th percentile, divided by their number.

#[path = "../golden/mod.rs"]
mod golden;
mod machine;
mod workload;

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use machine::print_machine;
use pen_dsr::engine::Engine;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use workload::Workload;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the project aims at, ns per frame.
const AIM: f64 = 60.0;

fn main() {
    // `cargo bench` says so; whatever else runs this (`cargo test --all-targets`) sees whether it works.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 3000 } else { 3 };
    print_machine("cargo bench --bench engine");
    println!("{:<44} {:>8} {:>8} {:>8} {:>8}", "ns per frame", "median", "fastest", "90 %", "allocs");
    for workload in workload::all() {
        measure(&workload, rounds);
    }
    println!("aim: {AIM} ns and 0 allocations per frame; 1024 frames a round, {rounds} rounds");
}

fn measure(workload: &Workload, rounds: usize) {
    let frames = workload.frames();
    let (mut engine, _) = workload.engine(&frames);
    let mut ring = frames.clone();
    let rounds = (rounds * 1024 / frames.len()).max(1);
    let mut times = Vec::with_capacity(rounds);
    let mut allocations = 0;
    for _ in 0..rounds {
        // What the round before has written is undone, so that each frame comes as from the wire.
        workload::refill(&mut ring, &frames);
        let region = Region::new(ALLOCATOR);
        times.push(round(workload, &mut engine, &mut ring));
        let change = region.change();
        allocations += change.allocations + change.reallocations;
    }
    times.sort_unstable();
    let per_frame = |time: Duration| time.as_nanos() as f64 / frames.len() as f64;
    let median = per_frame(times[rounds / 2]);
    println!(
        "{:<44} {:>8.1} {:>8.1} {:>8.1} {:>8.3}{}",
        workload.name,
        median,
        per_frame(times[0]),
        per_frame(times[rounds * 9 / 10]),
        allocations as f64 / (rounds * frames.len()) as f64,
        if median > AIM { "  above the aim" } else { "" }
    );
}

fn round(workload: &Workload, engine: &mut Engine, ring: &mut [Vec<u8>]) -> Duration {
    let mut as_expected = 0;
    let start = Instant::now();
    for frame in ring.iter_mut() {
        as_expected += usize::from(engine.handle_frame(black_box(frame)) == workload.verdict);
    }
    let time = start.elapsed();
    assert_eq!(as_expected, ring.len(), "{}: not what this workload is about", workload.name);
    time
}

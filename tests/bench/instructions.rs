//! `cargo bench --bench instructions`: instructions per frame of the engine alone, no port and no kernel in it.
//!
//! Counted by valgrind's callgrind, which runs this program once for each line of the table and collects only inside of
//! [`counted_round`]: the engine's work on frames that lie ready in memory, and its clock once per batch. The count does
//! not depend on the machine's load, only on the compiler and the target. Setting up, and putting the frames back to how
//! they came, are left out.

#[path = "../golden/mod.rs"]
mod golden;
mod workload;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use pen_dsr::engine::Engine;
use pen_dsr::verdict::Verdict;
use workload::Workload;

/// Frames between two looks at the clock: as many as the worker's.
const BATCH: usize = 64;
/// Frames that are counted.
const FRAMES: usize = 1 << 13;
/// Between two batches: frames of 64 bytes at 10 Gbit/s.
const BATCH_TIME: Duration = Duration::from_nanos(BATCH as u64 * 67);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [run, name, rounds] = &args[..]
        && run == "--run"
    {
        let rounds = rounds.parse().expect("a number of rounds");
        let workload = workload::all().into_iter().find(|w| w.name == name).expect("a workload's name");
        return carry(&workload, rounds);
    }
    // `cargo bench` says so; whatever else runs this (`cargo test --all-targets`) sees whether it works.
    let counts = args.iter().any(|arg| arg == "--bench");
    if !counts {
        workload::all().iter().for_each(|workload| carry(workload, 2));
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: valgrind is not installed");
        return;
    }
    println!("{:<44} {:>12}", "instructions per frame", std::env::consts::ARCH);
    for workload in workload::all() {
        println!("{:<44} {:>12.1}", workload.name, count(&workload));
    }
}

/// Instructions per frame of `workload`.
fn count(workload: &Workload) -> f64 {
    let (name, frames) = (workload.name, workload.count);
    let rounds = FRAMES.div_ceil(frames);
    let me = std::env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_round*"])
        .arg(me)
        .args(["--run", name, &rounds.to_string()])
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    let collected = collected.unwrap_or_else(|| panic!("{name}: no count in what valgrind says: {said}"));
    collected as f64 / (rounds * frames) as f64
}

fn carry(workload: &Workload, rounds: usize) {
    let frames = workload.frames();
    let (mut engine, mut now) = workload.engine(&frames);
    let mut ring = frames.clone();
    for _ in 0..rounds {
        workload::refill(&mut ring, &frames);
        let as_expected = counted_round(&mut engine, &mut now, &mut ring, workload.verdict);
        assert_eq!(as_expected, ring.len(), "{}: not what this workload is about", workload.name);
    }
}

/// What is counted: one round. How many frames met with `verdict`.
#[inline(never)]
fn counted_round(engine: &mut Engine, now: &mut Instant, ring: &mut [Vec<u8>], verdict: Verdict) -> usize {
    let mut as_expected = 0;
    for batch in ring.chunks_mut(BATCH) {
        *now += BATCH_TIME;
        engine.advance(*now);
        for frame in batch {
            as_expected += usize::from(engine.handle_frame(black_box(frame)) == verdict);
        }
    }
    as_expected
}

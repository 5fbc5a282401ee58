//! `cargo bench --bench instructions`: instructions per frame, of the engine alone, and from one netmap port to another with
//! the engine between them; no kernel in it.
//!
//! Counted by valgrind's callgrind, which runs this program once for each line of the table and collects only inside of
//! [`counted_round`] (the engine's work on frames that lie ready in memory, and its clock once per batch) or
//! [`counted_drive`] (what the worker does with a batch: the engine's clock, the port's whole work on rings in memory, of
//! two ports as two pipes have them, with the engine's in it; but no system call, which would be one for a batch). The
//! count does not depend on the machine's load, only on the compiler and the target. Setting up, putting the frames back
//! to how they came, and the kernel's side of the rings, are left out.

#[path = "../golden/mod.rs"]
mod golden;
mod workload;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use golden::config;
use pen_dsr::engine::{Engine, Station};
use pen_dsr::port::netmap::model::{Memory, Nic, Shape};
use pen_dsr::port::netmap::parts::{Registration, Side, deal};
use pen_dsr::port::netmap::{Kernel, NetmapPort, Polled};
use pen_dsr::port::{Port, WakeReceiver, waker};
use pen_dsr::verdict::{Arm, Verdict};
use pen_dsr::wire::ether::Mac;
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
        && (run == "--run" || run == "--netmap")
    {
        let rounds = rounds.parse().expect("a number of rounds");
        let workload = workload::all().into_iter().find(|w| w.name == name).expect("a workload's name");
        return if run == "--run" { carry(&workload, rounds) } else { carry_over_netmap(&workload, rounds) };
    }
    // `cargo bench` says so; whatever else runs this (`cargo test --all-targets`) sees whether it works.
    let counts = args.iter().any(|arg| arg == "--bench");
    if !counts {
        workload::all().iter().for_each(|workload| carry(workload, 2));
        workload::all().iter().filter(|workload| crosses(workload)).for_each(|workload| carry_over_netmap(workload, 2));
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: valgrind is not installed");
        return;
    }
    println!("{:<44} {:>12}", "instructions per frame", std::env::consts::ARCH);
    for workload in workload::all() {
        println!("{:<44} {:>12.1}", workload.name, count(&workload, "--run"));
    }
    println!("{:<44} {:>12}", "between two netmap pipes", std::env::consts::ARCH);
    for workload in workload::all().iter().filter(|workload| crosses(workload)) {
        println!("{:<44} {:>12.1}", workload.name, count(workload, "--netmap"));
    }
}

/// Is it one of those that are shown to the port, too: of frames that go to backends?
fn crosses(workload: &Workload) -> bool {
    workload.count == 1024 && workload.name.contains("1024 clients")
}

/// Instructions per frame of `workload`.
fn count(workload: &Workload, way: &str) -> f64 {
    let (name, frames) = (workload.name, workload.count);
    let rounds = FRAMES.div_ceil(frames);
    let me = std::env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_*"])
        .arg(me)
        .args([way, name, &rounds.to_string()])
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

/// The kernel of rings that another thread, or as here the bench itself, looks after: it is never called for anything.
struct Silent;

impl Kernel for Silent {
    fn sync_tx(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn sync_rx(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn drain(&mut self, _until: Instant) {}

    fn poll(_: &mut [Silent], _: &WakeReceiver, _: Option<Instant>) -> std::io::Result<Polled> {
        Ok(Polled { ready: true, ..Polled::default() })
    }
}

fn carry_over_netmap(workload: &Workload, rounds: usize) {
    const BACK: Mac = Mac([2, 0, 0, 0, 0, 3]);
    let frames = workload.frames();
    let station = Station { back: BACK, ..config::station() };
    let (mut engine, mut now) = workload.engine_at(station, &frames);
    // Two pipes of one parent share its memory.
    let memory = Memory::new(8192, 2048);
    let shape = Shape { pairs: 1, host: false, slots: 1024 };
    let (front, back) = (Nic::in_memory(&memory, shape), Nic::in_memory(&memory, shape));
    let silent = |nic: &Nic| {
        let registrations = nic.side(false).registrations.into_iter();
        let silent =
            registrations.map(|r| Registration { kernel: Silent, region: r.region, offset: r.offset, rings: r.rings });
        Side { registrations: silent.collect(), finish: false }
    };
    let (waker, wake) = waker().expect("a socket pair");
    let mut parts = deal(silent(&front), Some((silent(&back), BACK)), &[waker]).expect("the model is sound");
    let mut port = NetmapPort::new(parts.pop().expect("one worker's"), wake).expect("a port");
    for _ in 0..rounds {
        let (mut carried, mut sent) = (0, 0);
        for batch in frames.chunks(512) {
            batch.iter().for_each(|frame| front.arrive(0, frame));
            front.step();
            for _ in 0..batch.len() / BATCH {
                carried += counted_drive(&mut port, &mut engine, &mut now);
            }
            port.wait(None).expect("rings in memory do not fail");
            front.step();
            back.step();
            sent += back.take_sent(0).len();
        }
        assert_eq!((carried, sent), (frames.len(), frames.len()), "{}: all of them cross", workload.name);
    }
}

/// What is counted: one batch.
#[inline(never)]
fn counted_drive(port: &mut NetmapPort<Silent>, engine: &mut Engine, now: &mut Instant) -> usize {
    *now += BATCH_TIME;
    engine.advance(*now);
    port.drive(BATCH, &mut decided_by(engine)).expect("rings in memory do not fail")
}

/// A closure of another function than the counted one: callgrind would take its name for that, and stop counting in it.
fn decided_by(engine: &mut Engine) -> impl FnMut(Arm, &mut [u8]) -> Verdict {
    |arm, frame| engine.handle_frame_from(arm, frame)
}

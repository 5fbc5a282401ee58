//! The program in the kernel, without an interface: frames are handed to it by BPF_PROG_TEST_RUN, and what it passes on
//! goes to an engine that shares its flows, as when it is attached.
//!
//! Needs CAP_BPF and CAP_NET_ADMIN, as root has them; says SKIPPED without.

#![cfg(target_os = "linux")]

#[path = "xdp/agreement.rs"]
mod agreement;
#[path = "xdp/changes.rs"]
mod changes;
#[path = "xdp/flood.rs"]
mod flood;
#[path = "golden/mod.rs"]
mod golden;
#[path = "xdp/harness.rs"]
mod harness;
#[path = "simulation/random.rs"]
#[allow(dead_code, reason = "each test crate uses a part")]
mod random;

use golden::config;
use harness::Bench;

#[test]
fn the_program_and_the_engine_behind_it_pass_the_golden_table() {
    let Some(mut bench) = Bench::new("the golden table", config::tables(false), config::station()) else { return };
    let mut in_kernel = 0;
    golden::run(|frame| {
        let (outcome, by_program) = bench.show(frame);
        in_kernel += u32::from(by_program);
        outcome
    });
    assert!(in_kernel >= 36, "the program itself decided about {in_kernel} frames");
    println!("{in_kernel} of {} rows without the engine", golden::rows().len());
}

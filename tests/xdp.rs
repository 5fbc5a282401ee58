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

/// As after KILL with --xdp-pin: nobody says any more that he is there.
#[test]
fn left_alone_the_program_answers_who_asks_for_the_vips_as_the_engine_would() {
    let name = "left alone";
    let Some(mut bench) = Bench::new(name, config::tables(false), config::station()) else { return };
    bench.beats = false;
    std::thread::sleep(std::time::Duration::from_millis(2200));
    let mut answers = 0;
    for row in golden::rows() {
        let before = bench.program.totals().answered.frames;
        let (is, by_program) = bench.show(&row.frame);
        let must = row.outcome();
        assert_eq!(is.sent, must.sent, "{}: what leaves", row.name);
        assert!(!by_program || is.to_host.is_empty(), "{}", row.name);
        answers += bench.program.totals().answered.frames - before;
    }
    // Solicitations with more or other options, probes for a second owner, and damaged ones are the engine's.
    println!("{answers} answers");
    assert!(answers >= 8, "{answers} answers");
}

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

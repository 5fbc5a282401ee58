//! Seeded simulations of whole segments, on a clock of their own: see `tests/simulation/mod.rs` for the rules.
//!
//! ```text
//! cargo test --test simulation -- --nocapture                         what happened, and the exceptions
//! SIMULATION_SEED=1234 cargo test --test simulation -- --nocapture    one seed with all that happens
//! SIMULATION_SEEDS=5000 cargo test --test simulation                  more seeds
//! ```

#[path = "simulation/mod.rs"]
mod simulation;

use std::time::Instant;

use simulation::{Fault, Kind, Tally, run};

/// Seeds of each kind, unless more are asked for.
const SEEDS: u64 = 100;
/// Lines of the log in front of what went wrong.
const TAIL: usize = 60;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Lets the worlds of many seeds happen, or that of one.
fn simulate(kind: Kind) {
    if let Some(seed) = number("SIMULATION_SEED") {
        let mut log = Vec::new();
        let outcome = run(seed, kind, Fault::None, Some(&mut log));
        log.iter().for_each(|line| println!("{line}"));
        match outcome {
            Ok(tally) => println!("seed {seed}, {kind:?}: {tally}"),
            Err(violation) => panic!("seed {seed}, {kind:?}: {violation}"),
        }
        return;
    }
    let seeds = number("SIMULATION_SEEDS").map_or(SEEDS, |seeds| seeds / 2);
    let start = Instant::now();
    let mut sum = Tally::default();
    let mut failed = Vec::new();
    for seed in 0..seeds {
        match run(seed, kind, Fault::None, None) {
            Ok(tally) => sum.add(&tally),
            Err(violation) => failed.push((seed, violation)),
        }
    }
    println!("{seeds} seeds, {kind:?}, in {:.1} s: {sum}", start.elapsed().as_secs_f64());
    if let Some((seed, _)) = failed.first() {
        failed.iter().for_each(|(seed, violation)| eprintln!("seed {seed}, {kind:?}: {violation}"));
        explain(*seed, kind, Fault::None);
    }
}

/// Lets a world that went wrong happen once more, and says how.
fn explain(seed: u64, kind: Kind, fault: Fault) {
    let mut log = Vec::new();
    let outcome = run(seed, kind, fault, Some(&mut log));
    let violation = outcome.expect_err("what happens depends on the seed alone");
    let tail = log.len().saturating_sub(TAIL);
    log[tail..].iter().for_each(|line| eprintln!("{line}"));
    panic!(
        "seed {seed}, {kind:?}: {violation}\nall of it: SIMULATION_SEED={seed} cargo test --test simulation -- --nocapture"
    );
}

#[test]
fn one_balancer_keeps_its_promises() {
    simulate(Kind::Alone);
}

#[test]
fn two_balancers_keep_their_promises() {
    simulate(Kind::Pair);
}

/// What is wrong on purpose, in which kind of world, and which rules may notice it.
const FAULTS: [(Fault, Kind, &str); 11] = [
    (Fault::NoPredecessor, Kind::Alone, "a"),
    (Fault::SmallTable, Kind::Alone, "ah"),
    (Fault::Ghosts, Kind::Alone, "b"),
    (Fault::LostMemory, Kind::Alone, "a"),
    (Fault::Twice, Kind::Alone, "e"),
    (Fault::Uncounted, Kind::Alone, "d"),
    (Fault::Scattered, Kind::Alone, "f"),
    (Fault::Astray, Kind::Alone, "e"),
    (Fault::Grudge, Kind::Alone, "g"),
    (Fault::Swallowed, Kind::Alone, "h"),
    (Fault::Timeless, Kind::Pair, "c"),
];

#[test]
fn what_is_wrong_on_purpose_is_noticed() {
    for (fault, kind, rules) in FAULTS {
        let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, kind, fault, None).err()?)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{fault:?} is noticed in none of {SEEDS} worlds"));
        println!("{fault:?}: seed {seed}, {violation}");
        assert!(rules.contains(violation.rule), "{fault:?} is found by another rule: {violation}");
    }
}

#[test]
fn what_happens_depends_on_the_seed_alone() {
    let log = |seed| {
        let mut log = Vec::new();
        let _ = run(seed, Kind::Pair, Fault::None, Some(&mut log));
        // Times of the real clock stand in what is told of blacklists.
        log.into_iter().filter(|line| !line.contains("Instant")).collect::<Vec<_>>()
    };
    assert_eq!(log(7), log(7));
    assert_ne!(log(7), log(8));
}

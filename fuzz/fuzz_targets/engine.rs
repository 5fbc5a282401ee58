//! Frames made up by libFuzzer, shown to the engine: `cargo +nightly fuzz run engine`.
//!
//! The body and its assertions are those of the property tests; what it finds goes to `fuzz/corpus/engine`, which
//! `tests/fuzz_regression.rs` runs as an ordinary test.

#![no_main]

#[path = "../../tests/golden/mod.rs"]
mod golden;
#[path = "../../tests/common/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::run(input));

//! Bytes made up by libFuzzer, shown to the readers of HTTP: `cargo +nightly fuzz run http`.
//!
//! The body and its assertions are those of the property tests; what it finds goes to `fuzz/corpus/http`, which
//! `tests/http.rs` runs as an ordinary test.

#![no_main]

#[path = "../../tests/common/http.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::run(input));

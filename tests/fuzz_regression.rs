//! The fuzz target's corpus as an ordinary test: seeds made of the golden table, and everything that a fuzzer found.

#[path = "golden/mod.rs"]
mod golden;
#[path = "common/invariants.rs"]
mod invariants;

use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/engine")
}

/// One input for each group of rows, with the port in the hash and without, and with time passing.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let rows = golden::rows();
    let small: Vec<&[u8]> = rows.iter().map(|row| &row.frame[..]).filter(|frame| frame.len() < 200).collect();
    let mut seeds = Vec::new();
    for (number, group) in small.chunks(8).enumerate() {
        let mode = (number % 4) as u8;
        seeds.push((format!("golden-{number:02}"), invariants::input(mode, group)));
    }
    seeds
}

#[test]
fn the_golden_table_seeds_the_corpus() {
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        fs::create_dir_all(corpus()).expect("fuzz/corpus/engine can be made");
        for (name, input) in seeds() {
            fs::write(corpus().join(name), input).expect("fuzz/corpus/engine is writable");
        }
    }
    for (name, input) in seeds() {
        let file = fs::read(corpus().join(&name)).unwrap_or_default();
        assert!(file == input, "{name} is not what the table says: GOLDEN_WRITE=1 cargo test --test fuzz_regression");
    }
}

#[test]
fn every_file_of_the_corpus_still_passes() {
    let mut files: Vec<PathBuf> = fs::read_dir(corpus())
        .expect("fuzz/corpus/engine is there")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    for file in &files {
        println!("{}", file.display());
        invariants::run(&fs::read(file).expect("a readable file"));
    }
    assert!(files.len() >= seeds().len(), "{} files", files.len());
}

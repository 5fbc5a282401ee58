//! The scripts are sh, not bash; the Vagrantfile is Ruby.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{path, shells, text};

/// The shell scripts of `bhyve/`, without its configuration files.
fn scripts() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["bhyve", "bhyve/lib", "bhyve/guest"] {
        for entry in fs::read_dir(path(folder)).expect("a folder").flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let first: String = text.lines().take(2).collect();
            if first.contains("#!/bin/sh") || first.contains("shellcheck shell=sh") {
                found.push(entry.path());
            }
        }
    }
    assert!(found.len() >= 12, "{found:?}");
    found
}

/// Runs it, if there is such a program; says so if not.
fn checked(test: &str, program: &str, words: &[&str], files: &[PathBuf]) {
    match Command::new(program).args(words).args(files).current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Ok(output) => assert!(output.status.success(), "{}", text(&output)),
        Err(error) => println!("SKIPPED bhyve_lab::{test}: {program}: {error}"),
    }
}

#[test]
fn every_shell_reads_the_scripts() {
    for shell in shells() {
        for script in scripts() {
            let output = Command::new(shell).arg("-n").arg(&script).output().expect("a shell");
            assert!(output.status.success(), "{shell}: {}", text(&output));
        }
    }
}

#[test]
fn shellcheck_finds_nothing_that_is_not_posix() {
    checked("shellcheck_finds_nothing_that_is_not_posix", "shellcheck", &["-s", "sh", "-x"], &scripts());
}

#[test]
fn the_vagrantfile_is_ruby() {
    // A version manager may stand in for ruby without having one.
    let works = Command::new("ruby").arg("--version").output().is_ok_and(|output| output.status.success());
    if works {
        checked("the_vagrantfile_is_ruby", "ruby", &["-c"], &[path("bhyve/Vagrantfile")]);
    } else {
        println!("SKIPPED bhyve_lab::the_vagrantfile_is_ruby: ruby is not installed");
    }
}

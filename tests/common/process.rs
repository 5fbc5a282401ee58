//! A program that a test has started, and waiting for things.

#![allow(dead_code)] // Each test crate uses a part.

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::PATIENCE;

/// A program that runs; it is ended with this value.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// The program `child`, which prints to `log`.
    pub fn new(child: Child, log: PathBuf) -> Process {
        Process { child, log }
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its output satisfies `test`.
    pub fn wait_for(&self, what: &str, mut test: impl FnMut(&str) -> bool) {
        wait_until(what, || test(&self.output()));
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the process is there");
    }

    /// How it has ended, if it has.
    pub fn try_end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waiting for a child")
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.try_end() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.output());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `test` holds.
pub fn wait_until(what: &str, mut test: impl FnMut() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(30));
    }
}

/// Looks until what is seen is `good`; in vain, it says what was seen last.
pub fn wait_to_see<T: Debug>(what: &str, mut look: impl FnMut() -> T, good: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let seen = look();
        if good(&seen) {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}; seen: {seen:?}");
        thread::sleep(Duration::from_millis(30));
    }
}

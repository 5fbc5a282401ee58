//! Runs each test in a sandbox of its own (scripts/sandbox), in the network that network.sh makes there.

use std::process::Command;
use std::time::Duration;

use crate::hosts::in_sandbox;
pub use crate::hosts::{Lab, PEN_DSR, skipped_for_want_of_users};
pub use crate::process::{Process, wait_to_see, wait_until};
use crate::sandbox::script;

/// Nothing in the lab takes this long, unless it does not work.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// The same, seconds, for command lines.
pub const SECONDS: &str = "45";
/// Seconds for what has much to do.
pub const MINUTES: &str = "300";
/// Where the proxy listens.
pub const PROXY4: &str = "10.1.0.254";
pub const PROXY6: &str = "fd01::fe";
/// The servers.
pub const S1: &str = "10.2.0.11";
pub const S2: &str = "10.2.0.12";

/// Runs `body` in the network. `needs` are the commands that it uses.
pub fn lab(name: &str, needs: &[&str], body: impl FnOnce(&Lab)) {
    in_sandbox(name, needs, || None, Command::new("sh").args(["-c", include_str!("network.sh")]), body);
}

/// Says that the test `name` is left out, and why.
pub fn skipped(name: &str, why: &str) {
    println!("SKIPPED proxy_lab::{name}: {why}");
}

impl Lab {
    /// Starts pen-dsr on `proxy` with `words` and a control socket, and waits until it serves.
    pub fn proxy(&self, words: &[&str]) -> Process {
        self.proxy_as("ctl", words)
    }

    /// The same; its control socket is the test's file `control`.
    pub fn proxy_as(&self, control: &str, words: &[&str]) -> Process {
        let path = self.path(control);
        let mut process = self.start("proxy", &[&[PEN_DSR, "-C", &path][..], words].concat());
        wait_until("the proxy", || {
            assert!(process.try_end().is_none(), "it does not start:\n{}", process.output());
            process.output().contains("commands are taken")
        });
        process
    }

    /// `scripts/transparent WORD` on the proxy's host.
    pub fn transparent(&self, word: &str) {
        let command = script("transparent");
        let path = command.get_program().to_string_lossy().into_owned();
        self.run("proxy", &[&path, word]);
    }
}

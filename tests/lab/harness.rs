//! Runs each test in a sandbox of its own (scripts/sandbox), on the segment that scripts/lab makes there.

use std::thread;
use std::time::Duration;

use crate::driver;
use crate::hosts::in_sandbox;
pub use crate::hosts::{Lab, PEN_DSR, skipped_for_want_of_users};
pub use crate::process::{Process, wait_to_see, wait_until};
use crate::sandbox::script;
use nix::sys::signal::Signal;

/// The virtual addresses of the lab.
pub const VIP4: &str = "10.0.0.100";
pub const VIP6: &str = "fd00::100";
/// The client's addresses end in these.
pub const CLIENTS: [u8; 8] = [1, 3, 4, 5, 6, 7, 8, 9];
/// The three backends of most tests.
pub const BACKENDS: [&str; 3] = ["10.0.0.11", "10.0.0.12", "10.0.0.13"];

/// Nothing in the lab takes this long, unless it does not work.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `body` on a segment made with `options` (see scripts/lab). `needs` are the commands that it uses.
pub fn lab(name: &str, options: &[&str], needs: &[&str], body: impl FnOnce(&Lab)) {
    let missing = || driver::missing().map(str::to_owned);
    in_sandbox(name, needs, missing, script("lab").arg("up").args(options), body);
}

/// Says that the test `name` is left out, and why.
pub fn skipped(name: &str, why: &str) {
    println!("SKIPPED {}: {why}", driver::with(name));
}

/// The words that start pen-dsr on eth0 by the driver that is tested.
pub fn pen_dsr() -> Vec<&'static str> {
    [&[PEN_DSR, "-i", "eth0"][..], &driver::words()].concat()
}

impl Lab {
    /// Starts pen-dsr on `lb` and waits until the log says so often "is up".
    pub fn balancer(&self, arguments: &[&str], backends_up: usize) -> Process {
        self.balancer_on("lb", arguments, backends_up)
    }

    /// The same on another `host`.
    pub fn balancer_on(&self, host: &str, arguments: &[&str], backends_up: usize) -> Process {
        let mut words = pen_dsr();
        if !arguments.contains(&"--flow-entries") {
            // To make and to look through a million takes its time in a program that is not optimized.
            words.extend(["--flow-entries", "65536"]);
        }
        words.extend(arguments);
        let process = self.start(host, &words);
        process.wait_for("the balancer", |log| log.contains("flow table:"));
        process.wait_for("the balancer's backends", |log| log.matches("is up").count() >= backends_up);
        // The VIPs are announced a moment after the start.
        thread::sleep(Duration::from_millis(300));
        process
    }

    /// What the command `servers` says of `backend`: the word behind `field`, such as `state`. `-`: it is not listed.
    pub fn server(&self, socket: &str, backend: &str, field: &str) -> String {
        let servers = self.ctl(socket, "servers");
        let line = servers.lines().find(|line| line.split_whitespace().nth(1) == Some(backend)).unwrap_or_default();
        let word = line.split_whitespace().skip_while(|word| *word != field).nth(1);
        word.unwrap_or("-").to_owned()
    }

    /// Starts nginx on `host`: / says the host's name, /big is a file of `big` bytes. The access log has one line per
    /// request: the client's address and the path.
    pub fn nginx(&self, host: &str, big: &[u8]) -> Process {
        self.start_nginx(host, big, "$remote_addr $request_uri", "", "listen 80; listen [::]:80;")
    }

    /// Who answers an HTTP request from `source` to `url`; what curl says when nobody does. It is asked again, as frames are
    /// that are lost, but given up in time to look several times.
    pub fn curl(&self, source: &str, url: &str) -> Result<String, String> {
        self.curl_within(Duration::from_secs(12), source, url)
    }

    /// The same, for whom one look has to do.
    pub fn curl_once(&self, source: &str, url: &str) -> Result<String, String> {
        self.curl_within(PATIENCE, source, url)
    }

    fn curl_within(&self, patience: Duration, source: &str, url: &str) -> Result<String, String> {
        let seconds = patience.as_secs().to_string();
        let words = ["curl", "-sS", "-g", "-m", &seconds, "--interface", source, url];
        let (status, output) = self.try_run("client", &words);
        if status.success() { Ok(output.trim().to_owned()) } else { Err(output) }
    }

    /// A counter of `host`'s eth0, such as rx_bytes.
    pub fn counter(&self, host: &str, name: &str) -> u64 {
        // Not from /sys, which shows the namespace that mounted it.
        let table = self.run(host, &["cat", "/proc/net/dev"]);
        let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("eth0");
        let column = match name {
            "rx_bytes" => 0,
            "rx_packets" => 1,
            "tx_bytes" => 8,
            "tx_packets" => 9,
            other => panic!("no counter {other}"),
        };
        line.split_whitespace().nth(column).and_then(|n| n.parse().ok()).expect("a number")
    }
}

impl Process {
    /// The balancer's statistics, as it prints them on USR1.
    pub fn statistics(&self) -> String {
        const LINE: &str = "lost by the port";
        let before = self.output().len();
        // When it prints the second ones, it has printed all of the first.
        for times in 1..=2 {
            self.signal(Signal::SIGUSR1);
            self.wait_for("statistics", |log| log.get(before..).unwrap_or_default().matches(LINE).count() >= times);
        }
        let mut both = self.output().split_off(before);
        let second = both.match_indices(LINE).nth(1).map_or(both.len(), |(at, _)| at);
        both.truncate(second);
        both
    }
}

/// The number that stands in `text` right behind `label`.
pub fn number_after(text: &str, label: &str) -> u64 {
    let at = text.find(label).unwrap_or_else(|| panic!("no {label:?} in:\n{text}")) + label.len();
    let digits: String = text[at..].chars().skip_while(|c| *c == ' ').take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {label:?} in:\n{text}"))
}

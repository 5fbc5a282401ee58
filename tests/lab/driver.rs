//! The driver that the tests of a run are about: the word in the environment variable `PEN_DSR_DRIVER` (packet, ring,
//! xdp), or, if it is not set, pen-dsr's own choice.

use std::process::Stdio;
use std::sync::OnceLock;

use crate::harness::{BACKENDS, PEN_DSR, VIP4};
use crate::sandbox::{script, text};

/// Exit codes that say that a driver cannot be had here: EX_UNAVAILABLE, EX_NOPERM.
const NOT_HERE: [i32; 2] = [69, 77];
/// How timeout(1) ends when the time was up.
const TIME_WAS_UP: i32 = 124;

/// The driver that is asked for; `None`: pen-dsr chooses.
pub fn asked() -> Option<&'static str> {
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| std::env::var("PEN_DSR_DRIVER").ok().filter(|word| !word.is_empty()));
    asked.as_deref()
}

/// The words on pen-dsr's command line that ask for it.
pub fn words() -> Vec<&'static str> {
    asked().map_or_else(Vec::new, |driver| vec!["--driver", driver])
}

/// How the test `name` is called where it is left out.
pub fn with(name: &str) -> String {
    asked().map_or_else(|| format!("lab::{name}"), |driver| format!("lab::{name} by {driver}"))
}

/// Says that the test `name` is left out, if the driver that is asked for is not `driver`, the only one that it is run
/// with, because of `why`.
pub fn skipped_unless(driver: &str, name: &str, why: &str) -> bool {
    let is_other = asked().is_some_and(|asked| asked != driver);
    if is_other {
        println!("SKIPPED {}: {why}", with(name));
    }
    is_other
}

/// Why the driver that is asked for cannot be had on this machine, as pen-dsr itself says. It is tried once.
pub fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(|| asked().and_then(attempt)).as_deref()
}

fn attempt(driver: &str) -> Option<String> {
    // What it says of a wrong word, or of a fault of its own, is for the tests to find.
    let segment = "scripts/lab up --backends 1 && exec scripts/lab exec lb timeout 5 \"$@\"";
    let output = script("sandbox")
        .args(["sh", "-c", segment, "sh", PEN_DSR, "-i", "eth0", "--driver", driver, VIP4, BACKENDS[0]])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .expect("scripts/sandbox runs");
    match output.status.code() {
        Some(TIME_WAS_UP) => None,
        Some(code) if NOT_HERE.contains(&code) => {
            let said = text(&output);
            Some(said.trim().lines().last().unwrap_or_default().to_owned())
        }
        _ => None,
    }
}

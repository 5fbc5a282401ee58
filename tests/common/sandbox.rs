//! Runs a test again in a sandbox of its own (scripts/sandbox), where it is root over networks that nobody else sees.

#![allow(dead_code)] // Each test crate uses a part.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// scripts/sandbox says with this that no namespaces can be made.
pub const EX_TEMPFAIL: i32 = 75;

/// Is this process in a sandbox?
pub fn is_inside() -> bool {
    std::env::var_os("PEN_DSR_SANDBOX").is_some()
}

/// Runs the test `name` of this program in a sandbox; it has to pass there. What it says is printed. `Err`: no sandbox
/// can be had, for this reason.
pub fn enter(name: &str) -> Result<(), String> {
    let own = std::env::current_exe().expect("own path");
    let output = script("sandbox")
        .arg(own)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null())
        .output()
        .expect("scripts/sandbox runs");
    if output.status.code() == Some(EX_TEMPFAIL) {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    // What the test says, without the lines of the inner run's own bookkeeping.
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let said = line.strip_prefix(&format!("test {name} ... ")).unwrap_or(line);
        if !(said.is_empty() || said == "ok" || said.starts_with("running ") || said.starts_with("test result")) {
            println!("{said}");
        }
    }
    assert!(output.status.success(), "in the sandbox ({}):\n{}", output.status, text(&output));
    Ok(())
}

/// The command `scripts/NAME`.
pub fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name))
}

/// All that a program has printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

//! The FreeBSD lab in `bhyve/`, as far as it can be tried without FreeBSD: the commands that it would run, held
//! against files; the refusal of an image; the serial line's two ends; and its claims, on guests that are made up.

mod bhyve_lab {
    pub mod dry_run;
    pub mod image;
    pub mod line;
    pub mod made_up;
    pub mod scripts;
    pub mod up_down;
}

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A file of the project.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// `script` of `bhyve/` by `shell`, without what the caller's environment says of it.
fn shell_script(shell: &str, script: &str, words: &[&str]) -> Command {
    let mut command = Command::new(shell);
    command.arg(path("bhyve").join(script)).args(words);
    command.env_remove("PEN_DSR_LAB_TRANSPORT").env_remove("PEN_DSR_LAB_FILES");
    command
}

/// The shells to try: what /bin/sh is here, and others that are near to FreeBSD's.
fn shells() -> Vec<&'static str> {
    ["/bin/sh", "/usr/bin/dash", "/bin/bash", "/usr/bin/mksh"]
        .into_iter()
        .filter(|shell| Path::new(shell).exists())
        .collect()
}

/// Everything that was said.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

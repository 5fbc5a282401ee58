//! A folder for a test's files, whose logs are shown when the test fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

/// The folder; it goes with this value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A new one, `NAME-` and some letters, which other users may look into.
    pub fn new(name: &str) -> Scratch {
        let made =
            tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().expect("a directory for the test's files");
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).expect("own directory");
        Scratch(made.keep())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() {
            for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|e| e == "log") {
                    eprintln!("--- {}\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default());
                }
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! Whose turn it is to set up an interface: a file under flock(2), which goes with the last process that has it open.
//!
//! Jails with network stacks of their own that share a /var/run, and have interfaces of one name, wait for one another:
//! each such jail needs its own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Longer than any process number.
const MOST_DIGITS: usize = 16;

/// The file, locked as long as this process or one that has inherited it has it.
#[derive(Debug)]
pub(in crate::os) struct Held(File);

impl Held {
    /// Takes the lock of `interface`; `None`: another has it.
    ///
    /// # Errors
    /// The system's: /var/run cannot be written to.
    pub(in crate::os) fn take(interface: &str) -> io::Result<Option<Held>> {
        // Nobody else may open it: to read is enough for flock(2). It is left there, as one that is removed could be
        // locked by one process, and its successor by another.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path(interface)?)?;
        // File's lock is flock(2)'s, and is not taken off before the last descriptor is closed.
        match file.try_lock() {
            Ok(()) => Ok(Some(Held(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// Others are told of `process`.
    pub(in crate::os) fn sign(&self, process: u32) {
        let _ = self.0.set_len(0).and_then(|()| self.0.write_all_at(format!("{process}\n").as_bytes(), 0));
    }

    /// Who asks reads the file: nobody waits.
    pub(in crate::os) fn see_off(&self) {}
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The process that holds the lock of `interface`, as far as it can be known.
pub(in crate::os) fn holder(interface: &str) -> Option<u32> {
    let mut digits = [0; MOST_DIGITS];
    let read = File::open(path(interface).ok()?).ok()?.read_at(&mut digits, 0).ok()?;
    std::str::from_utf8(digits.get(..read)?).ok()?.trim().parse().ok().filter(|&pid| pid != 0)
}

fn path(interface: &str) -> io::Result<PathBuf> {
    if interface.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, "its name cannot be part of a file's"));
    }
    Ok(PathBuf::from(format!("/var/run/pen-dsr-{interface}.lock")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_lead_elsewhere_has_no_file() {
        assert!(path("../x").is_err());
        assert!(Held::take("../x").is_err());
    }
}

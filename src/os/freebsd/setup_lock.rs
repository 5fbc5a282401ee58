//! Whose turn it is to set up an interface: a file under flock(2), which goes with the last process that has it open.
//!
//! Jails with network stacks of their own that share a /var/run, and have interfaces of one name, wait for one another:
//! each such jail needs its own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Longer than any process number.
const MOST_DIGITS: usize = 16;

/// The sole right to set up an interface, for all processes that have inherited it together, until the last has ended
/// or let it go.
#[derive(Debug)]
pub(in crate::os) struct SetupLock {
    /// `None`: the system has no locks for us.
    file: Option<File>,
    /// The process that others are told of.
    signed: AtomicU32,
}

impl SetupLock {
    /// Takes the lock of `interface`; `None`: another has it. By name and without the number, as an interface that goes
    /// away and returns under its name is set up again.
    pub(in crate::os) fn take(interface: &str) -> Option<SetupLock> {
        // Nobody else may open it: to read is enough for flock(2). It is left there, as one that is removed could be
        // locked by one process, and its successor by another.
        let opened = path(interface).and_then(|path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
        });
        // File's lock is flock(2)'s, and is not taken off before the last descriptor is closed.
        let locked = opened.and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        });
        let lock = match locked {
            Ok(Some(file)) => SetupLock { file: Some(file), signed: AtomicU32::new(0) },
            Ok(None) => return None,
            Err(e) => {
                tracing::debug!("{interface}: set up without a lock in /var/run: {e}");
                SetupLock { file: None, signed: AtomicU32::new(0) }
            }
        };
        lock.sign();
        Some(lock)
    }

    /// Has others told that this process holds it, which may be another one than took it (daemon(3)). To be called now
    /// and then.
    pub(in crate::os) fn sign(&self) {
        let Some(file) = &self.file else { return };
        let process = std::process::id();
        if self.signed.swap(process, Ordering::Relaxed) != process {
            let _ = file.set_len(0).and_then(|()| file.write_all_at(format!("{process}\n").as_bytes(), 0));
        }
    }

    /// What a forked process keeps open to hold the lock, too.
    pub(in crate::os) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
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

    /// Processes that another test starts have all that is open here, for a moment.
    fn can_be_taken_soon(interface: &str) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            SetupLock::take(interface).is_some()
        })
    }

    #[test]
    fn one_takes_it_and_the_next_only_after_that() {
        let this = format!("t{}", std::process::id());
        let lock = SetupLock::take(&this).unwrap();
        if lock.descriptor().is_none() {
            return println!("SKIPPED os::setup_lock: /var/run cannot be written to");
        }
        assert!(SetupLock::take(&this).is_none());
        assert_eq!(holder(&this), Some(std::process::id()));
        drop(lock);
        assert!(can_be_taken_soon(&this));
        let _ = std::fs::remove_file(path(&this).unwrap());
    }

    #[test]
    fn a_name_that_would_lead_elsewhere_has_no_file() {
        assert!(path("../x").is_err());
        assert!(SetupLock::take("../x").unwrap().descriptor().is_none());
    }
}

//! The sole right to set up an interface.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::os::system::setup_lock::Held;

/// The sole right to set up an interface, for all processes that have inherited it together, until the last has ended
/// or let it go.
#[derive(Debug)]
pub(super) struct SetupLock {
    /// `None`: the system has no locks for us.
    held: Option<Held>,
    /// The process that others are told of.
    signed: AtomicU32,
}

impl SetupLock {
    /// Takes the lock of `interface`; `None`: another has it. By name and without the number, as an interface that goes
    /// away and returns under its name is set up again.
    pub(super) fn take(interface: &str) -> Option<SetupLock> {
        let held = match Held::take(interface) {
            Ok(Some(held)) => Some(held),
            Ok(None) => return None,
            Err(e) => {
                tracing::debug!("{interface}: set up without a lock: {e}");
                None
            }
        };
        let lock = SetupLock { held, signed: AtomicU32::new(0) };
        lock.sign();
        Some(lock)
    }

    /// Has others told that this process holds it, which may be another one than took it (daemon(3)). To be called now
    /// and then.
    pub(super) fn sign(&self) {
        let Some(held) = &self.held else { return };
        let process = std::process::id();
        if self.signed.swap(process, Ordering::Relaxed) != process {
            held.sign(process);
        }
        held.see_off();
    }

    /// What a forked process keeps open to hold the lock, too.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.held.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::system::setup_lock::holder;

    /// A name of this process: tests of others run, too.
    fn unique(what: &str) -> String {
        format!("{what}{}", std::process::id())
    }

    /// Processes that another test starts have all that is open here, for a moment.
    fn can_be_taken_soon(interface: &str) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            SetupLock::take(interface).is_some()
        })
    }

    #[test]
    fn one_takes_it_and_the_next_only_after_that() {
        let (this, other) = (unique("a"), unique("b"));
        let lock = SetupLock::take(&this).unwrap();
        if lock.descriptor().is_none() {
            return println!("SKIPPED os::setup::lock: the system has none for this user");
        }
        assert_eq!(holder(&this), Some(std::process::id()));
        assert!(SetupLock::take(&this).is_none());
        assert!(SetupLock::take(&other).is_some());
        drop(lock);
        assert!(can_be_taken_soon(&this));
    }
}

//! What a forked process does to be one of its own. Only system calls, as other threads may have held locks.

use libc::{c_int, c_uint};

/// What process lists call it.
pub(in crate::os) struct Title;

impl Title {
    /// That of the process that keeps `interface`.
    pub(in crate::os) fn new(_interface: &str) -> Title {
        Title
    }

    /// Takes the title. There is room for 15 bytes (prctl(2)), too few for the interface's name.
    pub(in crate::os) fn set(&self) {
        // SAFETY: PR_SET_NAME reads a string that ends with a NUL.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"pen-dsr-restore".as_ptr()) };
    }
}

/// Closes all descriptors from `first` on.
pub(in crate::os) fn close_from(first: c_int) {
    // SAFETY: system calls on numbers. Before Linux 5.9, without close_range(2), one by one.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first as c_uint, c_uint::MAX, 0 as c_uint) == 0 {
            return;
        }
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        for fd in first..c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX).clamp(1 << 10, 1 << 20) {
            libc::close(fd);
        }
    }
}

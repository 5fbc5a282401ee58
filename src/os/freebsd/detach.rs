//! What a forked process does to be one of its own. Only system calls, as other threads may have held locks.

use libc::{c_int, c_void};

/// What ps(1) and top(1) call it.
pub(in crate::os) struct Title(Vec<u8>);

impl Title {
    /// That of the process that keeps `interface`.
    pub(in crate::os) fn new(interface: &str) -> Title {
        Title(format!("pen-dsr: restores {interface} at the end\0").into_bytes())
    }

    /// Takes the title, as setproctitle(3) would, which allocates.
    pub(in crate::os) fn set(&self) {
        // SAFETY: getpid(2), and sysctl(3) with a name of four numbers and bytes to be read, as many as said.
        unsafe {
            let name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_ARGS, libc::getpid()];
            let text = self.0.as_ptr().cast::<c_void>();
            libc::sysctl(name.as_ptr(), 4, std::ptr::null_mut(), std::ptr::null_mut(), text, self.0.len());
        }
    }
}

/// Closes all descriptors from `first` on.
pub(in crate::os) fn close_from(first: c_int) {
    // SAFETY: a system call on a number.
    unsafe { libc::closefrom(first) };
}

//! What Rust's standard library wants of the system and FreeBSD 12.1 does not have.

use libc::{c_char, c_int, pthread_t};

/// pthread_setname_np(3), with which the standard library names threads, is in FreeBSD from 12.2 on. The older
/// pthread_set_name_np(3) does the same, and has nothing to return.
///
/// # Safety
/// As for that: `name` ends with a NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe { libc::pthread_set_name_np(thread, name) };
    0
}

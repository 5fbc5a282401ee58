//! Options of sockets that no library has (setsockopt(2), getsockopt(2)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use libc::{c_int, socklen_t};

/// Sets an option that is a number.
///
/// # Errors
/// The system's.
pub(super) fn set(socket: &impl AsRawFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: there is no address in a number.
    unsafe { set_struct(socket, level, option, &value) }
}

/// Sets an option that is a struct.
///
/// # Errors
/// The system's.
///
/// # Safety
/// If there are addresses in `value`, the kernel may use what they point to for as long as it does by the option's
/// description.
pub(super) unsafe fn set_struct<T: Copy>(
    socket: &impl AsRawFd,
    level: c_int,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    let pointer = std::ptr::from_ref(value).cast();
    // SAFETY: the pointer is to a value of the given length that outlives the call; the caller vouches for what is in it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, size_of::<T>() as socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option.
///
/// # Errors
/// The system's; `Unsupported` if the kernel's is of another length.
///
/// # Safety
/// Whatever bytes there are in it, it is a valid `T`.
pub(super) unsafe fn get<T: Copy>(socket: &impl AsRawFd, level: c_int, option: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the pointer is to room for a T, `length` is its size, both outlive the call.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize != size_of::<T>() {
        let what = format!("the kernel tells {length} bytes, not {}: it is older, or newer", size_of::<T>());
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    // SAFETY: it has been zeroed and then filled in, and the caller says that any bytes will do.
    Ok(unsafe { value.assume_init() })
}

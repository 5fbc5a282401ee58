//! The `ioctl` numbers of netmap(4) on this operating system.
//!
//! The encoding is that of FreeBSD's `<sys/ioccom.h>` and of Linux's generic
//! `<asm/ioctl.h>` (x86-64, AArch64, RISC-V). They agree where a structure is
//! passed both ways, and differ where nothing is passed.

use crate::nmreq_header;

/// The type of the `request` argument of this system's `ioctl(2)`.
#[cfg(all(target_os = "linux", target_env = "musl"))]
pub type Ioctl = libc::c_int;
/// The type of the `request` argument of this system's `ioctl(2)`.
#[cfg(not(all(target_os = "linux", target_env = "musl")))]
pub type Ioctl = libc::c_ulong;

/// Carries out one request: takes a pointer to an [`nmreq_header`], see
/// netmap(4).
pub const NIOCCTRL: Ioctl = iowr(151, size_of::<nmreq_header>());

/// Tells the kernel of the slots that were filled in the tx rings, and learns
/// of those that were sent; takes nothing.
pub const NIOCTXSYNC: Ioctl = io(148);

/// Gives the kernel back the slots that were read in the rx rings, and learns
/// of those that were filled; takes nothing.
pub const NIOCRXSYNC: Ioctl = io(149);

/// The letter that stands for netmap in an `ioctl` number.
const GROUP: u32 = b'i' as u32;

/// Direction bits of an `ioctl` without an argument (`IOC_VOID`, `_IOC_NONE`).
const NO_ARGUMENT: u32 = if cfg!(target_os = "linux") { 0 } else { 0x2000_0000 };

/// Direction bits of an `ioctl` that reads and writes its argument.
const IN_AND_OUT: u32 = 0xc000_0000;

/// `_IO('i', number)`.
const fn io(number: u32) -> Ioctl {
    (NO_ARGUMENT | GROUP << 8 | number) as Ioctl
}

/// `_IOWR('i', number, T)` for a `T` of `len` bytes.
const fn iowr(number: u32, len: usize) -> Ioctl {
    // FreeBSD leaves 13 bits for the length, Linux 14.
    assert!(len < 1 << 13);
    (IN_AND_OUT | (len as u32) << 16 | GROUP << 8 | number) as Ioctl
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_number_is_the_same_on_both_systems() {
        assert_eq!(NIOCCTRL, 0xc058_6997_u32 as Ioctl);
    }

    #[cfg(target_os = "freebsd")]
    #[test]
    fn sync_numbers_carry_the_void_bit_on_freebsd() {
        assert_eq!((NIOCTXSYNC, NIOCRXSYNC), (0x2000_6994, 0x2000_6995));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn sync_numbers_carry_no_direction_on_linux() {
        assert_eq!((NIOCTXSYNC, NIOCRXSYNC), (0x6994, 0x6995));
    }
}

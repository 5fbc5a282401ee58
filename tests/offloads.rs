//! Setting an interface up for netmap, and putting it back.

#[cfg(target_os = "freebsd")]
#[path = "offloads/freebsd.rs"]
mod freebsd;
#[cfg(target_os = "linux")]
#[path = "offloads/linux.rs"]
mod linux;

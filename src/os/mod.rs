//! What differs between systems, under the same names: packet sockets, the host's own view of the VIPs, privileges.

#[cfg(target_os = "freebsd")]
#[path = "freebsd/mod.rs"]
mod system;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;

/// Why a wait for frames ended; nothing set: its time had come, or an untagged frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A tagged frame waits.
    pub tagged: bool,
    /// Somebody woke us.
    pub woken: bool,
    /// A socket has an error to tell.
    pub failed: bool,
}

mod interface;
mod process;

pub use interface::Interface;
pub use process::{Pidfile, daemonize, end_on_broken_pipe, user};
pub use system::*;

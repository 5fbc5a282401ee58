//! What differs between systems, under the same names: packet sockets, the host's own view of the VIPs, privileges.

#[cfg(target_os = "freebsd")]
#[path = "freebsd/mod.rs"]
mod system;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;

mod interface;
mod process;

pub use interface::Interface;
pub use process::{Pidfile, daemonize, end_on_broken_pipe, user};
pub use system::*;

//! pen-dsr on a kernel's netmap: pipes, VALE switches, interfaces with their host's stack behind them. Where there is no
//! /dev/netmap, or it may not be opened, every test says SKIPPED and why.
//!
//! It wants root, makes all ports and networks that it uses under names of its own, and takes them away again. Tests run
//! one after the other, whatever the number of threads: each has the machine's netmap for itself.

#![cfg(any(target_os = "linux", target_os = "freebsd"))]

#[path = "netmap/arms.rs"]
mod arms;
#[path = "netmap/ends.rs"]
mod ends;
#[path = "common/frames.rs"]
mod frames;
#[path = "netmap/harness.rs"]
mod harness;
#[path = "netmap/load.rs"]
mod load;
#[path = "netmap/nic.rs"]
mod nic;
#[path = "netmap/pipes.rs"]
mod pipes;
#[path = "common/process.rs"]
mod process;
#[path = "netmap/refusals.rs"]
mod refusals;
#[path = "netmap/restarts.rs"]
mod restarts;
#[path = "netmap/returns.rs"]
mod returns;
#[path = "netmap/roles.rs"]
mod roles;
#[path = "common/scratch.rs"]
mod scratch;
#[cfg_attr(target_os = "linux", path = "netmap/system/linux.rs")]
#[cfg_attr(target_os = "freebsd", path = "netmap/system/freebsd.rs")]
mod system;
#[path = "netmap/vale.rs"]
mod vale;
#[path = "netmap/ways.rs"]
mod ways;
#[path = "netmap/workers.rs"]
mod workers;

//! Real clients and servers across network namespaces, with pen-dsr between them.
//!
//! Each test makes its own sandbox, as root or in a user namespace; where neither can be had it says SKIPPED and why. They run pen-dsr
//! by the driver that `PEN_DSR_DRIVER` names (packet, ring, xdp), else by its own choice.

#![cfg(target_os = "linux")]

mod arrivals;
mod both;
mod change;
mod checks;
mod driver;
mod explain;
mod failover;
mod flood;
mod frames;
mod harness;
#[path = "../common/hosts.rs"]
mod hosts;
mod kernel;
mod life;
mod load;
mod neighbors;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/sandbox.rs"]
mod sandbox;
#[path = "../common/scratch.rs"]
mod scratch;
mod sockets;
mod steady;
mod tarpit;
mod traffic;

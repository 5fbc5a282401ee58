//! The kernel's side of netmap, in memory: NICs with their rings, as netmap(4) describes them, for tests and benchmarks.
//!
//! A [`Nic`] lays out a region as the kernel does, and a [`ModelKernel`] does in its syncs what a kernel does: it checks `head` and `cur`, takes what was filled, returns what was sent,
//! and sets a ring up anew that makes no sense. Beyond that it checks what no kernel does: that nobody writes a slot that
//! is not theirs, that a buffer which changed its slot is marked, and that no buffer is lost or doubled
//! ([`Memory::audit`]).

mod memory;
mod nic;

pub use memory::{Memory, Shape};
pub use nic::{Fault, ModelKernel, Nic};

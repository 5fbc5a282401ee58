//! Real clients and servers across network namespaces, with pen-dsr between them.
//!
//! Each test makes its own sandbox, as root or in a user namespace; where neither can be had it says SKIPPED and why.

#![cfg(target_os = "linux")]

mod frames;
mod harness;
mod life;
mod neighbors;
mod traffic;

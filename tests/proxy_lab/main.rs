//! The proxy in a routed network, between real clients and real servers.
//!
//! Each test makes its own sandbox, as root or in a user namespace; where neither can be had, or a program is missing, it
//! says SKIPPED and why.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

mod browser;
mod datagrams;
mod harness;
#[path = "../common/hosts.rs"]
mod hosts;
mod http;
mod life;
mod logs;
mod packets;
mod partners;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/sandbox.rs"]
mod sandbox;
#[path = "../common/scratch.rs"]
mod scratch;
mod secure;
mod secure_life;
mod servers;
mod shell;
mod streams;
mod transparent;

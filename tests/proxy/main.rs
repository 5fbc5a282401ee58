//! The proxy in this process, with real sockets on loopback.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

mod access;
mod datagrams;
mod harness;
mod http;
mod relay;
mod takeover;
#[cfg(target_os = "linux")]
mod transparent;

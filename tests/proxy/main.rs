//! The proxy in this process, and as the program that it is a part of, with real sockets on loopback.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

mod access;
mod certificates;
mod crowd;
mod datagrams;
mod ends;
mod halfclose;
mod harness;
mod hostile;
mod hostile_h2;
mod http;
mod limits;
mod operation;
mod peer;
#[path = "../common/process.rs"]
mod process;
mod program;
mod relay;
#[path = "../common/scratch.rs"]
mod scratch;
mod silent;
mod takeover;
#[cfg(target_os = "linux")]
mod transparent;
mod waiting;

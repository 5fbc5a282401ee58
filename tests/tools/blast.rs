//! `blast`: sends prebuilt UDP/IPv4 frames of many flows, as fast as one core can or at a given rate.
//!
//! The load generator of `scripts/bench dsr`. It floods a link, so it runs only inside `scripts/sandbox`, and
//! always for a bounded time.
//!
//! A frame of flow *n* comes from the *n*-th address and port in turn; checksums are valid. All frames are
//! built before the first one leaves, and `sendmmsg(2)` hands them to the kernel in batches.

#[cfg(target_os = "linux")]
#[path = "blast/linux.rs"]
mod linux;

#[cfg(target_os = "linux")]
use linux::main;

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("blast: needs Linux, for packet sockets and network namespaces");
    std::process::ExitCode::from(69)
}

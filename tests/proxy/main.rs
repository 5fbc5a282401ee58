//! The proxy in this process, with real sockets on loopback.

mod harness;
mod http;
mod relay;

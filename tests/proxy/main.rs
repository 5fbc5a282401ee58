//! The proxy in this process, with real sockets on loopback.

mod datagrams;
mod harness;
mod http;
mod relay;

//! Probes: how a backend is asked whether it serves a VIP, and what its answer means.

use std::ops::RangeInclusive;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Nothing beyond ARP or neighbour discovery.
    #[default]
    Link,
    /// An echo request to the VIP.
    Icmp,
    /// A SYN; a SYN+ACK will do.
    Tcp {
        /// The VIP's own unless given.
        port: Option<u16>,
    },
    /// A GET request over TCP.
    Http {
        /// The VIP's own unless given, or 80.
        port: Option<u16>,
        /// Begins with a slash.
        path: String,
        /// The Host header; the VIP unless given.
        host: Option<String>,
        /// Which status codes will do.
        status: RangeInclusive<u16>,
        /// What the body has to contain.
        body: Option<String>,
    },
    /// A datagram.
    Udp {
        /// The VIP's own unless given.
        port: Option<u16>,
        /// What it carries.
        payload: Vec<u8>,
        /// What the answer has to contain; empty: any answer will do.
        expect: Vec<u8>,
    },
    /// A DNS query over UDP; any answer without a server's error will do.
    Dns {
        /// The VIP's own unless given, or 53.
        port: Option<u16>,
        /// Whose address is asked for.
        name: String,
    },
}

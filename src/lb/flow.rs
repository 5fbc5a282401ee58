//! The flow table: which backend has which flow.

use std::time::Duration;

/// How long a flow is remembered after its last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, before its second packet.
    pub opening: Duration,
    /// TCP, established (RFC 5382 REQ-5: 2 h 4 min at least).
    pub established: Duration,
    /// TCP, after the client's FIN or RST.
    pub closing: Duration,
    /// UDP (RFC 4787 REQ-5: 2 min at least, 5 min recommended).
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            opening: Duration::from_secs(60),
            established: Duration::from_secs(7440),
            closing: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}

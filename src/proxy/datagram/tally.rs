//! What is counted of datagrams, by all loops together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::proxy::select::Why;

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An access list keeps its client out.
    Denied,
    /// There is no server for it: none is well, none has room, or none could be sent to.
    NoServer,
    /// There are as many clients as there may be, and none that could be forgotten.
    Limit,
    /// This host is short of something: descriptors, memory, ports, rights.
    Short,
    /// It could not be sent to the server: too long, or no room to send.
    Unsent,
    /// It could not be sent to the client.
    Undelivered,
    /// It has no sender that could be answered.
    Malformed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 7] = [
        Reason::Denied,
        Reason::NoServer,
        Reason::Limit,
        Reason::Short,
        Reason::Unsent,
        Reason::Undelivered,
        Reason::Malformed,
    ];
}

impl From<Why> for Reason {
    fn from(why: Why) -> Reason {
        match why {
            Why::Denied | Why::Forbidden => Reason::Denied,
            Why::Stubborn | Why::Failed | Why::Full | Why::Down => Reason::NoServer,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Denied => "denied",
            Reason::NoServer => "no-server",
            Reason::Limit => "limit",
            Reason::Short => "short",
            Reason::Unsent => "unsent",
            Reason::Undelivered => "undelivered",
            Reason::Malformed => "malformed",
        })
    }
}

/// The counters. What was dropped is not among what was relayed.
#[derive(Debug, Default)]
pub struct Tally {
    /// Clients that there are.
    pub(super) clients: Arc<AtomicU32>,
    /// Clients that there have been.
    pub begun: AtomicU64,
    /// Clients that were forgotten before their time, for others.
    pub evicted: AtomicU64,
    /// Datagrams from clients to servers.
    pub to_servers: AtomicU64,
    /// Their bytes, without headers.
    pub bytes_to_servers: AtomicU64,
    /// Datagrams from servers to clients.
    pub to_clients: AtomicU64,
    /// Their bytes, without headers.
    pub bytes_to_clients: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
}

impl Tally {
    /// Clients that there are.
    pub fn clients(&self) -> u32 {
        self.clients.load(Relaxed)
    }

    /// Datagrams that were dropped for `reason`.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize].load(Relaxed)
    }

    /// Datagrams that were dropped.
    pub fn all_dropped(&self) -> u64 {
        Reason::ALL.iter().map(|&reason| self.dropped(reason)).sum()
    }

    pub(super) fn drop(&self, reason: Reason, count: usize) {
        self.dropped[reason as usize].fetch_add(count as u64, Relaxed);
    }
}

//! How a client's server is found.

use std::fmt;
use std::time::Duration;

/// How a client's server is found: first in the table of clients, if there is one; else by the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The method.
    pub method: Method,
    /// Is a client that is known sent where it was (Pen's default; not with `-r`)?
    pub track: bool,
    /// Clients that are remembered at most (Pen's `-c`).
    pub clients: u32,
    /// For how long, since their last connection (`-T`); zero: as long as there is room.
    pub tracking: Duration,
    /// When the server that was found cannot serve, refuse instead of taking another (`-s`)?
    pub stubborn: bool,
    /// The client's port takes part in hashes.
    pub hash_port: bool,
}

impl Default for Selection {
    fn default() -> Selection {
        Selection {
            method: Method::RoundRobin,
            track: true,
            clients: 65_536,
            tracking: Duration::ZERO,
            stubborn: false,
            hash_port: false,
        }
    }
}

/// How the server of a client that is not remembered is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By a hash of the client's address, modulo the number of servers (Pen's `-h`).
    Hash,
    /// Least connections for its weight (Pen's `-W`).
    Weight,
    /// The smallest priority number that is available (Pen's `prio`).
    Prio,
    /// By the same Maglev table as Direct Server Return.
    Consistent,
    /// Least connections.
    LeastConnections,
    /// The one with fewer connections for its weight, of two that are drawn.
    PowerOfTwo,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 7] = [
        Method::RoundRobin,
        Method::Hash,
        Method::Weight,
        Method::Prio,
        Method::Consistent,
        Method::LeastConnections,
        Method::PowerOfTwo,
    ];
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::RoundRobin => "roundrobin",
            Method::Hash => "hash",
            Method::Weight => "weight",
            Method::Prio => "prio",
            Method::Consistent => "consistent",
            Method::LeastConnections => "least-connections",
            Method::PowerOfTwo => "power-of-two",
        })
    }
}

//! What the director has to tell the operator.

use std::fmt;
use std::net::IpAddr;

use crate::wire::ether::Mac;

/// A change that somebody should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A backend answers.
    BackendUp {
        /// As configured.
        name: String,
        /// Where.
        mac: Mac,
    },
    /// A backend does not answer and has left the table.
    BackendDown {
        /// As configured.
        name: String,
        /// What was asked for.
        address: Option<IpAddr>,
    },
    /// A backend has another MAC than before.
    BackendMoved {
        /// As configured.
        name: String,
        /// Until now.
        from: Mac,
        /// From now on.
        to: Mac,
    },
    /// Two stations answer for a backend.
    BackendAmbiguous {
        /// As configured.
        name: String,
        /// Believed.
        first: Mac,
        /// Not believed.
        other: Mac,
    },
    /// No backend is left.
    NoBackend,
    /// Another host says that it has a VIP.
    VipClaimed {
        /// The VIP.
        address: IpAddr,
        /// Who claims it.
        mac: Mac,
        /// The backend with that MAC, if it is one.
        backend: Option<String>,
    },
}

impl Notice {
    /// Is it bad news?
    pub fn is_bad(&self) -> bool {
        !matches!(self, Notice::BackendUp { .. })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::BackendUp { name, mac } => write!(f, "backend {name} is up, at {mac}"),
            Notice::BackendDown { name, address: Some(IpAddr::V4(a)) } => {
                write!(f, "backend {name} is down: no answer to ARP for {a}; its clients go to the others")
            }
            Notice::BackendDown { name, address: Some(IpAddr::V6(a)) } => {
                write!(
                    f,
                    "backend {name} is down: no answer to neighbour solicitations for {a}; its clients go to the others"
                )
            }
            Notice::BackendDown { name, address: None } => write!(f, "backend {name} is down"),
            Notice::BackendMoved { name, from, to } => {
                write!(f, "backend {name} has moved from {from} to {to}")
            }
            Notice::BackendAmbiguous { name, first, other } => {
                write!(
                    f,
                    "two stations answer for backend {name}: {first}, which counts, and {other}; does another host have its address?"
                )
            }
            Notice::NoBackend => f.write_str("no backend is left: clients' frames are dropped"),
            Notice::VipClaimed { address, mac, backend: None } => write!(
                f,
                "VIP {address} IS CLAIMED BY ANOTHER HOST, {mac}: clients may reach it instead of us; take the address away there"
            ),
            Notice::VipClaimed { address, mac, backend: Some(name) } => write!(
                f,
                "VIP {address} IS CLAIMED BY BACKEND {name}, {mac}: it must have the VIP on its loopback and keep quiet about it \
                 (Linux: sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2; FreeBSD: the VIP on lo0 alone)"
            ),
        }
    }
}

//! What the director has to tell the operator.

use std::fmt;
use std::net::IpAddr;

use super::Duty;
use crate::health::Reason;
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
    /// A backend's check fails, and it has left the table.
    CheckFailed {
        /// As configured.
        name: String,
        /// Why, and what may be done.
        reason: Reason,
    },
    /// A backend's check succeeds.
    CheckPassed {
        /// As configured.
        name: String,
    },
    /// Backends cannot be checked.
    NoProbeSource {
        /// The VIP that cannot be probed.
        vip: IpAddr,
    },
    /// Another host says that it has the address that probes come from.
    SourceClaimed {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        mac: Mac,
    },
    /// Somebody has given a backend another duty, or time has.
    Duty {
        /// As configured.
        name: String,
        /// From now on.
        duty: Duty,
        /// The flows that it has.
        left: u64,
    },
    /// A backend that is not in the configuration any more has no flows left.
    Gone {
        /// As it was configured.
        name: String,
    },
    /// Too few backends are well: all are used.
    Panic {
        /// Backends that are.
        well: usize,
        /// Of so many.
        all: usize,
        /// Percent.
        threshold: u8,
    },
    /// Enough are well again.
    PanicOver {
        /// Backends that are.
        well: usize,
        /// Of so many.
        all: usize,
    },
    /// No backend is left.
    NoBackend,
    /// No backend is left but this one.
    Emergency {
        /// As configured.
        name: String,
    },
    /// A backend serves again.
    SomeBackend,
    /// We have the VIPs from now on.
    TakenOver,
    /// Another balancer has them.
    Silent,
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
        !matches!(
            self,
            Notice::BackendUp { .. }
                | Notice::CheckPassed { .. }
                | Notice::Duty { .. }
                | Notice::Gone { .. }
                | Notice::PanicOver { .. }
                | Notice::SomeBackend
                | Notice::TakenOver
                | Notice::Silent
        )
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
            Notice::CheckFailed { name, reason } => {
                write!(f, "backend {name} is down: {reason}; its clients go to the others")
            }
            Notice::CheckPassed { name } => write!(f, "backend {name} passes its check and is in service"),
            Notice::NoProbeSource { vip } => write!(
                f,
                "backends cannot be checked at {vip}: the interface has no address of that family to probe from; give one with --check-source"
            ),
            Notice::SourceClaimed { address, mac } => write!(
                f,
                "the address {address} that checks come from IS CLAIMED BY ANOTHER HOST, {mac}, which gets the backends' answers: \
                 no other host, and no other balancer that serves, may have this --check-source"
            ),
            Notice::Duty { name, duty: Duty::Active, .. } => write!(f, "backend {name} takes new clients again"),
            Notice::Duty { name, duty: Duty::Draining, left } => {
                write!(f, "backend {name} is being drained: it keeps its {left} flows and gets no new clients")
            }
            Notice::Duty { name, duty: Duty::Drained, .. } => {
                write!(f, "backend {name} is drained: it has no flows left")
            }
            Notice::Duty { name, duty: Duty::Maintenance, left } => {
                write!(f, "backend {name} is in maintenance: its {left} flows go to the others")
            }
            Notice::Duty { name, duty: Duty::Blacklisted(_), left } => {
                write!(f, "backend {name} is blacklisted for a while: its {left} flows go to the others")
            }
            Notice::Gone { name } => {
                write!(f, "backend {name}, which was taken off the list, has no flows left and is gone")
            }
            Notice::Panic { well, all, threshold } => write!(
                f,
                "PANIC: {well} of {all} backends are well, which is under {threshold} %: ALL ARE USED, whatever their checks say"
            ),
            Notice::PanicOver { well, all } => {
                write!(f, "the panic is over: {well} of {all} backends are well, and they alone are used")
            }
            Notice::NoBackend => f.write_str("no backend is left: clients are not served"),
            Notice::Emergency { name } => write!(f, "no backend is left: the emergency backend {name} serves"),
            Notice::SomeBackend => f.write_str("there are backends again: clients are served"),
            Notice::TakenOver => f.write_str("this balancer has the virtual addresses now and announces them"),
            Notice::Silent => {
                f.write_str("another balancer has the virtual addresses: nothing is answered for them any more")
            }
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

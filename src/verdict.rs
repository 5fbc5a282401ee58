//! What becomes of a frame: the contract between the engine and the ports.

use std::fmt;

/// The engine's word on a frame; the port that owns the buffer carries it out. The same three that XDP and netmap know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Back to the wire, as it now stands in the buffer.
    Transmit,
    /// Not ours: the host's own stack gets it, untouched.
    Host,
    /// No further.
    Drop(DropReason),
}

/// One of the two sides that a balancer can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Where the clients are, and with one arm everybody.
    Front = 0,
    /// Where the backends are.
    Back = 1,
}

/// Why a frame went no further. Each dropped frame has exactly one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// For a VIP, but not what it says it is.
    Malformed,
    /// Sent by ourselves, back from the wire.
    Looped,
    /// No backend is in service.
    NoBackend,
    /// The backend's MAC is not known, and no room is left to hold the frame until it is.
    Unresolved,
    /// Not lost: a copy waits for its backend's MAC or for its datagram's first fragment.
    Held,
    /// Not lost: the answer leaves as a frame of its own.
    Answered,
    /// The access list does not permit the client.
    Denied,
    /// No backend is in service, and the client was told so.
    Refused,
    /// Not lost: the answer to a probe of ours.
    Probe,
    /// For an address that is a tarpit.
    Tarpit,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [DropReason; 10] = [
        DropReason::Malformed,
        DropReason::Looped,
        DropReason::NoBackend,
        DropReason::Unresolved,
        DropReason::Held,
        DropReason::Answered,
        DropReason::Denied,
        DropReason::Refused,
        DropReason::Probe,
        DropReason::Tarpit,
    ];

    /// Is the frame lost? Not if a copy of it, or the answer to it, leaves some other way.
    pub fn is_loss(self) -> bool {
        !matches!(self, DropReason::Held | DropReason::Answered | DropReason::Probe | DropReason::Tarpit)
    }

    /// The name in statistics and logs.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Malformed => "malformed",
            DropReason::Looped => "looped",
            DropReason::NoBackend => "no-backend",
            DropReason::Unresolved => "unresolved",
            DropReason::Held => "held",
            DropReason::Answered => "answered",
            DropReason::Denied => "denied",
            DropReason::Refused => "refused",
            DropReason::Probe => "probe",
            DropReason::Tarpit => "tarpit",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_indexed_by_number() {
        assert!(DropReason::ALL.iter().enumerate().all(|(i, reason)| *reason as usize == i));
    }
}

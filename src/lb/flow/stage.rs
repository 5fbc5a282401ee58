//! How far a flow has come, and what a packet changes about that.

/// What a packet says about its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TCP: SYN without ACK.
    Open,
    /// TCP: neither SYN, FIN nor RST.
    Segment,
    /// TCP: FIN.
    Finish,
    /// TCP: RST.
    Reset,
    /// A UDP datagram.
    Datagram,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// TCP, nursery: a SYN.
    Opening = 1,
    /// TCP, nursery: a segment of a flow that was not known.
    Adopted = 2,
    /// UDP, nursery: one datagram.
    Single = 3,
    /// TCP, main table, for less than two seconds.
    Young = 4,
    /// TCP, main table.
    Established = 5,
    /// TCP, main table: the client has sent a FIN.
    Closing = 6,
    /// TCP, main table: the client has sent a RST, or somebody has in its name.
    Reset = 7,
    /// UDP, main table, for less than two seconds.
    YoungUdp = 8,
    /// UDP, main table.
    Udp = 9,
}

impl Stage {
    /// The stage with the number `byte`.
    pub(crate) fn from_byte(byte: u8) -> Option<Stage> {
        Some(match byte {
            1 => Stage::Opening,
            2 => Stage::Adopted,
            3 => Stage::Single,
            4 => Stage::Young,
            5 => Stage::Established,
            6 => Stage::Closing,
            7 => Stage::Reset,
            8 => Stage::YoungUdp,
            9 => Stage::Udp,
            _ => return None,
        })
    }

    /// Does the flow count among those that its backend still has? Not once the client has ended it.
    pub(super) fn is_live(self) -> bool {
        !matches!(self, Stage::Closing | Stage::Reset)
    }

    /// Is the flow's place in the main table, and not in the nursery?
    pub(crate) fn is_main(self) -> bool {
        self as u8 >= Stage::Young as u8
    }

    /// Has the flow ended, so that a SYN opens another one?
    pub fn is_over(self) -> bool {
        matches!(self, Stage::Closing | Stage::Reset)
    }

    pub(super) fn is_young(self) -> bool {
        matches!(self, Stage::Young | Stage::YoungUdp)
    }

    /// Where the flow is after a packet that says `signal`.
    pub(super) fn after(self, signal: Signal, proven: bool) -> Stage {
        match (self, signal) {
            (Stage::Single | Stage::YoungUdp | Stage::Udp, _) => {
                if proven {
                    Stage::Udp
                } else {
                    Stage::YoungUdp
                }
            }
            (Stage::Opening | Stage::Adopted, Signal::Open) => Stage::Opening,
            (stage, Signal::Open | Signal::Datagram) => stage,
            (_, Signal::Finish) => Stage::Closing,
            // A RST that the backend does not believe (RFC 5961) is followed by more segments: see below.
            (_, Signal::Reset) => Stage::Reset,
            (Stage::Closing, Signal::Segment) => Stage::Closing,
            (Stage::Opening | Stage::Adopted, Signal::Segment) => Stage::Young,
            (Stage::Young, Signal::Segment) if !proven => Stage::Young,
            (_, Signal::Segment) => Stage::Established,
        }
    }
}

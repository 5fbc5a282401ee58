//! ARP for IPv4 over Ethernet (RFC 826), address conflict detection (RFC 5227).

use std::net::Ipv4Addr;

use super::ether::{self, Mac};
use super::{Malformed, array};

/// Length of an ARP message for IPv4 over Ethernet, bytes.
pub const LEN: usize = 28;

/// Request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has it?
    Request,
    /// I have.
    Reply,
}

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's MAC, as the message says it.
    pub sender_mac: Mac,
    /// The sender's address; 0.0.0.0 in a probe.
    pub sender: Ipv4Addr,
    /// The target's MAC; anything in a request.
    pub target_mac: Mac,
    /// The address that is asked for, or answered to.
    pub target: Ipv4Addr,
}

/// Reads the ARP message at the start of `bytes`. Other hardware, protocols and operations are `Ok(None)`: not for us.
///
/// # Errors
/// [`Malformed::Truncated`] when it is too short; [`Malformed::Field`] when the sender's MAC is a group or zero.
pub fn parse(bytes: &[u8]) -> Result<Option<Message>, Malformed> {
    let m: [u8; LEN] = array(bytes, 0)?;
    if m[..6] != [0, 1, 8, 0, 6, 4] {
        return Ok(None);
    }
    let operation = match m[6..8] {
        [0, 1] => Operation::Request,
        [0, 2] => Operation::Reply,
        _ => return Ok(None),
    };
    let mac = |at: usize| Mac([m[at], m[at + 1], m[at + 2], m[at + 3], m[at + 4], m[at + 5]]);
    let address = |at: usize| Ipv4Addr::new(m[at], m[at + 1], m[at + 2], m[at + 3]);
    if !mac(8).is_station() {
        return Err(Malformed::Field);
    }
    Ok(Some(Message { operation, sender_mac: mac(8), sender: address(14), target_mac: mac(18), target: address(24) }))
}

impl Message {
    /// The bytes of this message.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut m = [0; LEN];
        m[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        m[7] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        m[8..14].copy_from_slice(&self.sender_mac.0);
        m[14..18].copy_from_slice(&self.sender.octets());
        m[18..24].copy_from_slice(&self.target_mac.0);
        m[24..28].copy_from_slice(&self.target.octets());
        m
    }

    /// The whole frame, untagged, from the sender's MAC to `destination`.
    pub fn to_frame(self, destination: Mac) -> Vec<u8> {
        let mut frame = Vec::with_capacity(ether::HEADER_LEN + LEN);
        frame.extend(destination.0);
        frame.extend(self.sender_mac.0);
        frame.extend(ether::ARP.to_be_bytes());
        frame.extend(self.to_bytes());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Message = Message {
        operation: Operation::Request,
        sender_mac: Mac([2, 0, 0, 0, 0, 1]),
        sender: Ipv4Addr::new(10, 0, 0, 1),
        target_mac: Mac([0; 6]),
        target: Ipv4Addr::new(10, 0, 0, 100),
    };

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(parse(&REQUEST.to_bytes()), Ok(Some(REQUEST)));
        assert_eq!(parse(&REQUEST.to_bytes()[..27]), Err(Malformed::Truncated));
    }

    #[test]
    fn foreign_hardware_is_not_ours_and_a_group_sender_is_malformed() {
        let mut bytes = REQUEST.to_bytes();
        bytes[1] = 6;
        assert_eq!(parse(&bytes), Ok(None));
        let broadcaster = Message { sender_mac: Mac::BROADCAST, ..REQUEST };
        assert_eq!(parse(&broadcaster.to_bytes()), Err(Malformed::Field));
    }
}

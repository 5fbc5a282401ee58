//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and the errors that quote a flow.

use std::net::IpAddr;

use super::ip::{self, protocol};
use super::{Malformed, array, checksum, l4};

/// What a balancer wants to know of an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Somebody pings.
    EchoRequest,
    /// An error about a packet that the VIP sent.
    Error(Quote),
    /// Anything else.
    Other,
}

/// The packet that an error quotes, as its sender saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who had sent it: the VIP.
    pub source: IpAddr,
    /// To whom: the client.
    pub destination: IpAddr,
    /// TCP, UDP or another.
    pub protocol: u8,
    /// Its ports, unless the quoted packet is a later fragment or of another protocol.
    pub ports: Option<l4::Ports>,
}

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Reads the ICMP or ICMPv6 message `message` (`proto` says which).
///
/// # Errors
/// A message shorter than eight bytes, or an error whose quote cannot be read as far as its ports.
pub fn parse(proto: u8, message: &[u8]) -> Result<Message, Malformed> {
    let head: [u8; 8] = array(message, 0)?;
    let is_error = match proto {
        // Destination unreachable, source quench, time exceeded, parameter problem.
        protocol::ICMP => matches!(head[0], 3 | 4 | 11 | 12),
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        _ => matches!(head[0], 1..=4),
    };
    if is_error {
        return quote(&message[8..]).map(Message::Error);
    }
    let echo = if proto == protocol::ICMP { ECHO_REQUEST_V4 } else { ECHO_REQUEST_V6 };
    Ok(if head[0] == echo && head[1] == 0 { Message::EchoRequest } else { Message::Other })
}

fn quote(packet: &[u8]) -> Result<Quote, Malformed> {
    let header = ip::parse_quoted(packet)?;
    let first = header.fragment.is_none_or(|fragment| fragment.offset == 0);
    let ports = match header.protocol {
        protocol::TCP | protocol::UDP if first => Some(
            l4::leading_ports(packet.get(header.payload..).ok_or(Malformed::Truncated)?)
                .map_err(|_| Malformed::Truncated)?,
        ),
        _ => None,
    };
    Ok(Quote { source: header.source, destination: header.destination, protocol: header.protocol, ports })
}

/// Turns the echo request `message` into its reply, in place: the type changes, and the checksum by as much.
pub fn make_echo_reply(proto: u8, message: &mut [u8]) {
    let Some(head) = message.first_chunk_mut::<4>() else {
        return;
    };
    let (from, to) =
        if proto == protocol::ICMP { (ECHO_REQUEST_V4, ECHO_REPLY_V4) } else { (ECHO_REQUEST_V6, ECHO_REPLY_V6) };
    let old = u16::from_be_bytes([head[2], head[3]]);
    let new = checksum::update(old, u16::from(from) << 8, u16::from(to) << 8);
    head[0] = to;
    head[2..].copy_from_slice(&new.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_flow_that_it_quotes() {
        let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0x78];
        message.extend([0x45, 0, 5, 220, 0, 1, 0, 0, 63, 6, 0, 0, 10, 0, 0, 100, 192, 0, 2, 7]);
        message.extend([0, 80, 0x9c, 0x40, 0, 0, 0, 1]);
        let Ok(Message::Error(quote)) = parse(protocol::ICMP, &message) else { panic!("no error seen") };
        assert_eq!(quote.source.to_string(), "10.0.0.100");
        assert_eq!(quote.destination.to_string(), "192.0.2.7");
        assert_eq!(quote.ports, Some(l4::Ports { source: 80, destination: 40000 }));
        // The ports are cut off.
        assert_eq!(parse(protocol::ICMP, &message[..32]), Err(Malformed::Truncated));
    }

    #[test]
    fn echo_reply_keeps_its_checksum_right() {
        let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g'];
        let sum = checksum::Sum::default().bytes(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        make_echo_reply(protocol::ICMP, &mut message);
        assert_eq!(message[0], 0);
        assert_eq!(checksum::Sum::default().bytes(&message).fold(), 0xffff);
    }
}

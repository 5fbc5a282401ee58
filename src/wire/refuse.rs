//! What a client gets that nobody serves: a RST for TCP, "port unreachable" for anything else.

use super::ip::protocol;
use super::{ether, ip, reply, tcp};

/// No more of an ICMP error than this, IP header included (RFC 1812 section 4.3.2.3).
const LONGEST_V4: usize = 576;
/// The same for ICMPv6: the smallest MTU (RFC 4443 section 3.1).
const LONGEST_V6: usize = 1280;
/// Type and code of "destination unreachable: port unreachable" (RFC 792).
const PORT_UNREACHABLE_V4: [u8; 2] = [3, 3];
/// The same of ICMPv6 (RFC 4443 section 3.1).
const PORT_UNREACHABLE_V6: [u8; 2] = [1, 4];
/// Where the checksum is in an ICMP message.
const CHECKSUM: usize = 2;
/// In front of what an error quotes.
const ICMP_HEADER_LEN: usize = 8;

/// The frame that refuses the packet in `frame`, whose headers are `eth` and `header`. `None` if nobody may be told: of a
/// RST, of a later fragment, of a TCP segment in fragments, of ICMP, of what comes from or goes to more than one host
/// (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)), and of what arrived damaged.
///
/// How many of them leave, the caller has to bound (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).
pub fn refusal(frame: &[u8], eth: &ether::Header, header: &ip::Header) -> Option<Vec<u8>> {
    match header.protocol {
        protocol::TCP => tcp::reset(frame, eth, header),
        protocol::ICMP | protocol::ICMPV6 => None,
        _ => unreachable(frame, eth, header),
    }
}

fn unreachable(frame: &[u8], eth: &ether::Header, header: &ip::Header) -> Option<Vec<u8>> {
    if header.fragment.is_some_and(|fragment| fragment.offset != 0) || !reply::is_answerable(frame, eth, header) {
        return None;
    }
    let (number, [kind, code], ip_header, longest) = if header.source.is_ipv4() {
        (protocol::ICMP, PORT_UNREACHABLE_V4, 20, LONGEST_V4)
    } else {
        (protocol::ICMPV6, PORT_UNREACHABLE_V6, 40, LONGEST_V6)
    };
    let packet = frame.get(eth.payload..eth.payload + header.end)?;
    let quote = &packet[..packet.len().min(longest - ip_header - ICMP_HEADER_LEN)];
    let mut message = Vec::with_capacity(ICMP_HEADER_LEN + quote.len());
    message.extend([kind, code, 0, 0, 0, 0, 0, 0]);
    message.extend(quote);
    reply::frame(frame, eth, header, number, message, CHECKSUM)
}

#[cfg(test)]
mod tests;

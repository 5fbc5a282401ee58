//! IPv4 (RFC 791) with options and IPv6 (RFC 8200) with extension headers: one value for both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{Malformed, array, be16, ether};

/// Extension headers that are walked before a packet counts as malformed.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// Mobility header (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// Host identity protocol (RFC 7401).
    pub const HIP: u8 = 139;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;
}

/// A packet's place in a fragmented datagram. Only packets that really are a part carry one: an IPv6 atomic fragment
/// (RFC 6946) is a whole datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Where the part belongs in the datagram, bytes. 0: this is the first one, it holds the ports.
    pub offset: u16,
}

/// What the IP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sent it.
    pub source: IpAddr,
    /// For whom.
    pub destination: IpAddr,
    /// The upper layer, behind all extension headers.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Is this one of several parts?
    pub fragment: Option<Fragment>,
    /// The upper layer starts here, bytes from the start of the IP header,
    pub payload: usize,
    /// and ends here. Ethernet padding lies behind.
    pub end: usize,
}

/// How much of the packet has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All of it, as its length field says.
    Whole,
    /// Only its beginning: an ICMP error quotes as much as fits (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4).
    Quoted,
}

/// The destination of an IP packet, if the bytes reach that far: enough to say whose it is.
#[inline]
pub fn destination(ethertype: u16, packet: &[u8]) -> Option<IpAddr> {
    match ethertype {
        ether::IPV4 => array::<4>(packet, 16).ok().map(|a| IpAddr::V4(Ipv4Addr::from(a))),
        ether::IPV6 => array::<16>(packet, 24).ok().map(|a| IpAddr::V6(Ipv6Addr::from(a))),
        _ => None,
    }
}

/// Reads a whole packet.
///
/// # Errors
/// What of the header is impossible, see [`Malformed`].
// Always: a header that is returned in memory and read again at once holds the processor up.
#[inline(always)]
pub fn parse(ethertype: u16, packet: &[u8]) -> Result<Header, Malformed> {
    match ethertype {
        ether::IPV4 => ipv4(packet, Extent::Whole),
        ether::IPV6 => ipv6(packet, Extent::Whole),
        _ => Err(Malformed::Version),
    }
}

/// Reads the beginning of a packet that an ICMP error quotes, v4 or v6 by its own version field.
///
/// # Errors
/// As [`parse`], but a length field longer than the quote is no error.
pub fn parse_quoted(packet: &[u8]) -> Result<Header, Malformed> {
    match packet.first().map(|b| b >> 4) {
        Some(4) => ipv4(packet, Extent::Quoted),
        Some(6) => ipv6(packet, Extent::Quoted),
        Some(_) => Err(Malformed::Version),
        None => Err(Malformed::Truncated),
    }
}

/// The IP header of a frame and where its upper layer lies in the frame; `None` if it holds no well-formed IP packet.
pub fn locate(frame: &[u8]) -> Option<(Header, Range<usize>)> {
    let eth = ether::parse(frame).ok()?;
    let header = parse(eth.ethertype, frame.get(eth.payload..)?).ok()?;
    Some((header, eth.payload + header.payload..eth.payload + header.end))
}

#[inline(always)]
fn ipv4(packet: &[u8], extent: Extent) -> Result<Header, Malformed> {
    let head: [u8; 20] = array(packet, 0)?;
    if head[0] >> 4 != 4 {
        return Err(Malformed::Version);
    }
    let payload = usize::from(head[0] & 0x0f) * 4;
    if payload < 20 || payload > packet.len() {
        return Err(Malformed::HeaderLength);
    }
    let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let end = match extent {
        Extent::Whole if total < payload || total > packet.len() => {
            return Err(Malformed::TotalLength);
        }
        Extent::Whole => total,
        Extent::Quoted => packet.len(),
    };
    let flags = u16::from_be_bytes([head[6], head[7]]);
    let (more, offset) = (flags & 0x2000 != 0, (flags & 0x1fff) << 3);
    let fragment =
        (more || offset != 0).then(|| Fragment { id: u32::from(u16::from_be_bytes([head[4], head[5]])), offset });
    Ok(Header {
        source: IpAddr::V4(Ipv4Addr::new(head[12], head[13], head[14], head[15])),
        destination: IpAddr::V4(Ipv4Addr::new(head[16], head[17], head[18], head[19])),
        protocol: head[9],
        hop_limit: head[8],
        fragment,
        payload,
        end,
    })
}

#[inline(always)]
fn ipv6(packet: &[u8], extent: Extent) -> Result<Header, Malformed> {
    let head: [u8; 8] = array(packet, 0)?;
    if head[0] >> 4 != 6 {
        return Err(Malformed::Version);
    }
    let source = IpAddr::V6(Ipv6Addr::from(array::<16>(packet, 8)?));
    let destination = IpAddr::V6(Ipv6Addr::from(array::<16>(packet, 24)?));
    let total = 40 + usize::from(u16::from_be_bytes([head[4], head[5]]));
    let end = match extent {
        Extent::Whole if total > packet.len() => return Err(Malformed::TotalLength),
        Extent::Whole => total,
        Extent::Quoted => packet.len(),
    };
    let (protocol, payload, fragment) = upper_layer(packet.get(..end).ok_or(Malformed::TotalLength)?, head[6])?;
    Ok(Header { source, destination, protocol, hop_limit: head[7], fragment, payload, end })
}

/// Walks the extension headers of an IPv6 packet: (protocol, where it starts, fragment).
#[inline]
fn upper_layer(packet: &[u8], mut next: u8) -> Result<(u8, usize, Option<Fragment>), Malformed> {
    let mut at = 40;
    let mut fragment = None;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let length = match next {
            protocol::FRAGMENT => {
                let head: [u8; 8] = array(packet, at)?;
                let word = u16::from_be_bytes([head[2], head[3]]);
                let (offset, more) = (word & 0xfff8, word & 1 != 0);
                if more || offset != 0 {
                    fragment = Some(Fragment { id: u32::from_be_bytes([head[4], head[5], head[6], head[7]]), offset });
                }
                if offset != 0 {
                    // What follows is the middle of the datagram, no header.
                    return Ok((head[0], at + 8, fragment));
                }
                8
            }
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6 => (usize::from(be16(packet, at)? & 0xff) + 1) * 8,
            protocol::AUTHENTICATION => (usize::from(be16(packet, at)? & 0xff) + 2) * 4,
            upper => return Ok((upper, at, fragment)),
        };
        if packet.len() < at + length {
            return Err(Malformed::Truncated);
        }
        next = packet[at];
        at += length;
    }
    Err(Malformed::ExtensionHeaders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut p = vec![0x60, 0, 0, 0];
        p.extend((rest.len() as u16).to_be_bytes());
        p.extend([next, 64]);
        p.extend([0xfd; 16]);
        p.extend([0xfe; 16]);
        p.extend(rest);
        p
    }

    #[test]
    fn ipv6_extension_headers_are_walked_to_the_upper_layer() {
        // hop-by-hop (8 bytes), destination options (16 bytes), TCP
        let mut rest = vec![protocol::DESTINATION, 0, 0, 0, 0, 0, 0, 0];
        rest.extend([protocol::TCP, 1]);
        rest.extend([0; 14]);
        rest.extend([9; 20]);
        let header = parse(ether::IPV6, &v6(protocol::HOP_BY_HOP, &rest)).unwrap();
        assert_eq!((header.protocol, header.payload, header.end), (protocol::TCP, 64, 84));
    }

    #[test]
    fn an_atomic_fragment_is_a_whole_datagram() {
        let mut rest = vec![protocol::UDP, 0, 0, 0, 0, 0, 0, 7];
        rest.extend([0; 8]);
        let header = parse(ether::IPV6, &v6(protocol::FRAGMENT, &rest)).unwrap();
        assert_eq!((header.fragment, header.payload), (None, 48));
    }

    #[test]
    fn a_later_ipv6_fragment_has_no_upper_header() {
        let rest = [protocol::ROUTING, 0, 0x05, 0xa8, 0, 0, 0, 7, 1, 2, 3];
        let header = parse(ether::IPV6, &v6(protocol::FRAGMENT, &rest)).unwrap();
        assert_eq!(header.fragment, Some(Fragment { id: 7, offset: 0x5a8 }));
        assert_eq!(header.protocol, protocol::ROUTING);
    }

    #[test]
    fn endless_extension_headers_are_malformed() {
        let rest: Vec<u8> = [protocol::DESTINATION, 0, 0, 0, 0, 0, 0, 0].repeat(MAX_EXTENSION_HEADERS + 2);
        assert_eq!(parse(ether::IPV6, &v6(protocol::DESTINATION, &rest)), Err(Malformed::ExtensionHeaders));
    }

    #[test]
    fn ipv4_lengths_are_checked_and_padding_is_not_payload() {
        let mut p = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        p.extend([0; 26]); // 8 bytes of UDP, 18 of padding
        assert_eq!(parse(ether::IPV4, &p).unwrap().end, 28);
        p[3] = 19;
        assert_eq!(parse(ether::IPV4, &p), Err(Malformed::TotalLength));
        p[3] = 47;
        assert_eq!(parse(ether::IPV4, &p), Err(Malformed::TotalLength));
        p[0] = 0x44;
        assert_eq!(parse(ether::IPV4, &p), Err(Malformed::HeaderLength));
        p[0] = 0x65;
        assert_eq!(parse(ether::IPV4, &p), Err(Malformed::Version));
    }
}

//! A packet back to who sent one: its frame's MACs and its addresses swapped, its VLAN tags kept.

use std::net::{IpAddr, Ipv4Addr};

use super::checksum::Sum;
use super::ip::protocol;
use super::{be16, ether, ip};

/// Initial TTL and hop limit of what we send as a host (RFC 1700).
const HOP_LIMIT: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;

/// May a host answer this packet at all, unasked? Not if its source is nobody's own address, or its destination not only
/// ours (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)), and not if it was damaged on the way.
pub(super) fn is_answerable(frame: &[u8], eth: &ether::Header, header: &ip::Header) -> bool {
    eth.source.is_station()
        && eth.destination.is_station()
        && header.source != header.destination
        && is_one_host(header.source)
        && is_one_host(header.destination)
        && is_intact(frame, eth, header)
}

fn is_one_host(address: IpAddr) -> bool {
    match address {
        // 224.0.0.0 and above: groups, the reserved block, the broadcast address.
        IpAddr::V4(a) => !a.is_unspecified() && !a.is_loopback() && a < Ipv4Addr::new(224, 0, 0, 0),
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_loopback() && !a.is_multicast(),
    }
}

/// Are the checksums right that can be checked here: IPv4's, and TCP's and UDP's of a datagram in one part?
fn is_intact(frame: &[u8], eth: &ether::Header, header: &ip::Header) -> bool {
    let Some(packet) = frame.get(eth.payload..) else {
        return false;
    };
    let Some(segment) = packet.get(header.payload..header.end) else {
        return false;
    };
    if header.source.is_ipv4() && Sum::default().bytes(&packet[..header.payload]).fold() != 0xffff {
        return false;
    }
    let at = match header.protocol {
        _ if header.fragment.is_some() => return true,
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => return true,
    };
    let Ok(stored) = be16(segment, at) else {
        return false;
    };
    let pseudo = Sum::default().pseudo_header(header.source, header.destination, header.protocol, segment.len());
    // Also right: one that the sender's stack left to the hardware (see `checksum::finish`), and none (RFC 768).
    let none = stored == 0 && header.protocol == protocol::UDP && header.source.is_ipv4();
    none || stored == pseudo.fold() || pseudo.bytes(segment).fold() == 0xffff
}

/// The frame that carries `upper`, of protocol `number`, back to where `frame` came from, not to be fragmented. `upper`
/// is there with its checksum still zero, at offset `checksum`. `None` if it is too long for a packet.
pub(super) fn frame(
    frame: &[u8],
    eth: &ether::Header,
    header: &ip::Header,
    number: u8,
    mut upper: Vec<u8>,
    checksum: usize,
) -> Option<Vec<u8>> {
    let (source, destination) = (header.destination, header.source);
    let sum = match number {
        protocol::ICMP => Sum::default(),
        _ => Sum::default().pseudo_header(source, destination, number, upper.len()),
    };
    let sum = sum.bytes(&upper).checksum();
    upper.get_mut(checksum..)?.first_chunk_mut::<2>()?.copy_from_slice(&sum.to_be_bytes());

    let mut reply = Vec::with_capacity(eth.payload + 40 + upper.len());
    reply.extend(eth.source.0);
    reply.extend(eth.destination.0);
    reply.extend(frame.get(12..eth.payload)?);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = u16::try_from(20 + upper.len()).ok()?;
            let [a, b] = length.to_be_bytes();
            let [c, d] = DONT_FRAGMENT.to_be_bytes();
            let mut head = [0x45, 0, a, b, 0, 0, c, d, HOP_LIMIT, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            head[12..16].copy_from_slice(&source.octets());
            head[16..20].copy_from_slice(&destination.octets());
            let sum = Sum::default().bytes(&head).checksum();
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            reply.extend(head);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [a, b] = u16::try_from(upper.len()).ok()?.to_be_bytes();
            reply.extend([0x60, 0, 0, 0, a, b, number, HOP_LIMIT]);
            reply.extend(source.octets());
            reply.extend(destination.octets());
        }
        _ => return None,
    }
    reply.extend(upper);
    Some(reply)
}

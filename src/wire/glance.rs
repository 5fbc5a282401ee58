//! A look at a frame of the most common shape: what it takes to recognise another packet of the same flow.
//!
//! That shape is: no VLAN tag, no IPv4 options, no IPv6 extension headers, no fragment; TCP or UDP; a TCP segment that
//! neither opens nor ends anything. Everything in it has been checked as [`super::ip::parse`] and [`super::l4::ports`]
//! check it. Any other frame, be it right or wrong, is none of this shape, and has to be read at length.

use super::ip::protocol;
use super::l4::flags;
use super::{array, ether};

/// What two packets of a flow have in common: Ethernet header, addresses, ports, protocol, in words as they lie in the
/// frame; the highest 24 bits of the last word are 0. Four words for IPv4, seven for IPv6.
pub type Likeness<const WORDS: usize> = [u64; WORDS];

/// A frame of the common shape.
pub enum Glance {
    /// With IPv4.
    V4(Likeness<4>),
    /// With IPv6.
    V6(Likeness<7>),
}

/// Looks at `frame`.
#[inline]
pub fn glance(frame: &[u8]) -> Option<Glance> {
    let head: &[u8; 42] = frame.first_chunk()?;
    match u16::from_ne_bytes([head[12], head[13]]) {
        IPV4 => ipv4(frame, head).map(Glance::V4),
        IPV6 => ipv6(frame).map(Glance::V6),
        _ => None,
    }
}

/// The EtherTypes as they lie in the frame.
const IPV4: u16 = ether::IPV4.to_be();
const IPV6: u16 = ether::IPV6.to_be();

#[inline]
fn ipv4(frame: &[u8], head: &[u8; 42]) -> Option<Likeness<4>> {
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let part = u16::from_ne_bytes([head[20], head[21]]) & 0x3fff_u16.to_be();
    if head[14] != 0x45 || part != 0 || total > frame.len() - 14 {
        return None;
    }
    let last = upper_layer(frame, head, head[23], 34, total.checked_sub(20)?)?;
    Some([word(head, 0), word(head, 6), word(head, 26), last])
}

#[inline]
fn ipv6(frame: &[u8]) -> Option<Likeness<7>> {
    let head: &[u8; 62] = frame.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([head[18], head[19]]));
    if head[14] >> 4 != 6 || length > frame.len() - 54 {
        return None;
    }
    let last = upper_layer(frame, head, head[20], 54, length)?;
    Some([word(head, 0), word(head, 6), word(head, 22), word(head, 30), word(head, 38), word(head, 46), last])
}

/// Ports and protocol of what begins at `at` and is `length` bytes long; eight of them are in `head`.
#[inline]
fn upper_layer(frame: &[u8], head: &[u8], proto: u8, at: usize, length: usize) -> Option<u64> {
    match proto {
        protocol::UDP => {
            let datagram = u16::from_be_bytes([head[at + 4], head[at + 5]]);
            if length < 8 || (1..8).contains(&datagram) {
                return None;
            }
        }
        protocol::TCP => {
            let header: [u8; 20] = array(frame, at).ok()?;
            let offset = usize::from(header[12] >> 4) * 4;
            if offset < 20 || offset > length || header[13] & (flags::SYN | flags::FIN | flags::RST) != 0 {
                return None;
            }
        }
        _ => return None,
    }
    let ports = u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Some(u64::from(proto) << 32 | u64::from(ports))
}

/// The eight bytes at `at`.
#[inline]
fn word(head: &[u8], at: usize) -> u64 {
    array(head, at).map_or(0, u64::from_le_bytes)
}

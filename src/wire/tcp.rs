//! TCP segments (RFC 9293) that are answered without a connection: a SYN by a SYN+ACK, anything by a RST.

use super::ip::protocol;
use super::l4::{Ports, flags, leading_ports, ports};
use super::{Malformed, array, be32, ether, ip, reply};

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Both ports.
    pub ports: Ports,
    /// Number of the first byte.
    pub sequence: u32,
    /// Number of the byte that is expected next, if the flags have ACK.
    pub acknowledgment: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Bytes behind the header.
    pub payload: usize,
}

impl Segment {
    /// Reads a whole segment.
    ///
    /// # Errors
    /// A truncated header, a data offset outside the segment.
    pub fn parse(segment: &[u8]) -> Result<Segment, Malformed> {
        ports(protocol::TCP, segment)?;
        let head: [u8; 20] = array(segment, 0)?;
        let header = usize::from(head[12] >> 4) * 4;
        Ok(Segment {
            ports: leading_ports(segment)?,
            sequence: be32(segment, 4)?,
            acknowledgment: be32(segment, 8)?,
            flags: head[13],
            payload: segment.len().saturating_sub(header),
        })
    }

    /// Does it open a connection, and nothing else? A client that speaks ECN (RFC 3168) sets two more flags.
    pub fn is_open(&self) -> bool {
        self.flags & !(ECE | CWR) == flags::SYN
    }

    /// How far the sequence number goes on behind it: SYN and FIN count as a byte each.
    pub fn sequence_length(&self) -> u32 {
        let is_set = |flag: u8| u32::from(self.flags & flag != 0);
        (self.payload as u32).wrapping_add(is_set(flags::SYN)).wrapping_add(is_set(flags::FIN))
    }
}

const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
/// Where the checksum is.
const CHECKSUM: usize = 16;
/// Kind and length of the option "maximum segment size".
const MSS: [u8; 2] = [2, 4];
/// What every receiver takes (RFC 9293 section 3.7.1): nothing of the path has to be known.
const MSS_V4: u16 = 536;
const MSS_V6: u16 = 1220;

/// Reads the segment in `frame`, if it is one and may be answered.
fn answerable(frame: &[u8], eth: &ether::Header, header: &ip::Header) -> Option<Segment> {
    if header.protocol != protocol::TCP || header.fragment.is_some() || !reply::is_answerable(frame, eth, header) {
        return None;
    }
    Segment::parse(frame.get(eth.payload + header.payload..eth.payload + header.end)?).ok()
}

/// The frame with the RST that answers the segment in `frame` where there is no connection (RFC 9293 section 3.10.7.1).
/// `None` for a RST, a part of a segment, and what must not be answered.
pub fn reset(frame: &[u8], eth: &ether::Header, header: &ip::Header) -> Option<Vec<u8>> {
    let asked = answerable(frame, eth, header)?;
    if asked.flags & flags::RST != 0 {
        return None;
    }
    let segment = if asked.flags & flags::ACK != 0 {
        build(asked.ports, asked.acknowledgment, 0, flags::RST, 0, &[])
    } else {
        let acknowledged = asked.sequence.wrapping_add(asked.sequence_length());
        build(asked.ports, 0, acknowledged, flags::RST | flags::ACK, 0, &[])
    };
    reply::frame(frame, eth, header, protocol::TCP, segment, CHECKSUM)
}

/// The frame with the SYN+ACK that answers the SYN in `frame`, with the sequence number `isn` and a window of `window`
/// bytes. The only option is the MSS, the smallest that every host takes; data with the SYN is not acknowledged. `None`
/// for anything but a SYN.
pub fn syn_ack(frame: &[u8], eth: &ether::Header, header: &ip::Header, isn: u32, window: u16) -> Option<Vec<u8>> {
    let asked = answerable(frame, eth, header)?;
    if !asked.is_open() || asked.ports.source == 0 {
        return None;
    }
    let mss = if header.source.is_ipv4() { MSS_V4 } else { MSS_V6 };
    let ([kind, length], [a, b]) = (MSS, mss.to_be_bytes());
    let acknowledged = asked.sequence.wrapping_add(1);
    let both = flags::SYN | flags::ACK;
    let segment = build(asked.ports, isn, acknowledged, both, window, &[kind, length, a, b]);
    reply::frame(frame, eth, header, protocol::TCP, segment, CHECKSUM)
}

/// A segment back to who sent one with `ports`, without its checksum. `options` fill whole words.
fn build(ports: Ports, sequence: u32, acknowledgment: u32, flags: u8, window: u16, options: &[u8]) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20 + options.len());
    segment.extend(ports.destination.to_be_bytes());
    segment.extend(ports.source.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgment.to_be_bytes());
    segment.extend([(5 + options.len() as u8 / 4) << 4, flags]);
    segment.extend(window.to_be_bytes());
    segment.extend([0; 4]); // checksum, urgent pointer
    segment.extend(options);
    segment
}

#[cfg(test)]
mod tests;

//! The first bytes of TCP (RFC 9293) and UDP (RFC 768): what the choice of a backend needs.

use super::ip::protocol;
use super::{Malformed, array};

/// Source and destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

/// Ports of a whole TCP or UDP segment, whose header has to be there and make sense.
///
/// # Errors
/// Truncated headers, a TCP data offset outside the segment, a UDP length below its header's.
#[inline]
pub fn ports(proto: u8, segment: &[u8]) -> Result<Ports, Malformed> {
    match proto {
        protocol::TCP => {
            let head: [u8; 20] = array(segment, 0)?;
            let offset = usize::from(head[12] >> 4) * 4;
            if offset < 20 || offset > segment.len() {
                return Err(Malformed::HeaderLength);
            }
        }
        _ => {
            let head: [u8; 8] = array(segment, 0)?;
            let length = u16::from_be_bytes([head[4], head[5]]);
            // 0 is a jumbogram (RFC 2675), and what segmentation offload may hand over.
            if length != 0 && length < 8 {
                return Err(Malformed::HeaderLength);
            }
        }
    }
    leading_ports(segment)
}

/// Ports alone: enough for a first fragment, whose header may go on in the next one, and for a quote in an ICMP error.
///
/// # Errors
/// [`Malformed::TinyFragment`] below the eight bytes that every fragment but the last has to have (RFC 1858).
#[inline]
pub fn leading_ports(segment: &[u8]) -> Result<Ports, Malformed> {
    let head: [u8; 8] = array(segment, 0).map_err(|_| Malformed::TinyFragment)?;
    Ok(Ports { source: u16::from_be_bytes([head[0], head[1]]), destination: u16::from_be_bytes([head[2], head[3]]) })
}

/// Flags of a TCP segment (RFC 9293 section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// The flags of a TCP segment; none if they are in another fragment.
#[inline]
pub fn tcp_flags(segment: &[u8]) -> u8 {
    segment.get(13).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_data_offset_has_to_lie_in_the_segment() {
        let mut segment = [0u8; 20];
        segment[..4].copy_from_slice(&[0x12, 0x34, 0, 80]);
        segment[12] = 5 << 4;
        assert_eq!(ports(protocol::TCP, &segment), Ok(Ports { source: 0x1234, destination: 80 }));
        segment[12] = 6 << 4;
        assert_eq!(ports(protocol::TCP, &segment), Err(Malformed::HeaderLength));
        segment[12] = 4 << 4;
        assert_eq!(ports(protocol::TCP, &segment), Err(Malformed::HeaderLength));
        assert_eq!(ports(protocol::TCP, &segment[..19]), Err(Malformed::Truncated));
    }

    #[test]
    fn udp_length_below_the_header_is_malformed() {
        let mut segment = [0, 1, 0, 53, 0, 8, 0, 0];
        assert!(ports(protocol::UDP, &segment).is_ok());
        segment[5] = 7;
        assert_eq!(ports(protocol::UDP, &segment), Err(Malformed::HeaderLength));
    }
}

//! Ethernet II with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use std::fmt;
use std::str::FromStr;

use super::{Malformed, array, be16};

/// Length of an untagged Ethernet header, bytes.
pub const HEADER_LEN: usize = 14;
/// Length of one VLAN tag, bytes.
pub const TAG_LEN: usize = 4;
/// VLAN tags that are looked behind; a third one makes the frame foreign.
pub const MAX_TAGS: usize = 2;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (802.1ad).
pub const QINQ: u16 = 0x88a8;

/// A 48-bit MAC address, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Group bit set: broadcast or multicast.
    #[inline]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Can this be the address of one station: neither a group nor all zeros?
    #[inline]
    pub fn is_station(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }

    /// The interface identifier of this MAC (modified EUI-64: RFC 4291, appendix A).
    pub fn eui64(self) -> [u8; 8] {
        let m = self.0;
        [m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six hexadecimal octets with colons between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMac;

impl fmt::Display for BadMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address (six hexadecimal octets: 02:00:00:00:00:01)")
    }
}

impl std::error::Error for BadMac {}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Mac, BadMac> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(BadMac)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(BadMac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() { Err(BadMac) } else { Ok(Mac(octets)) }
    }
}

/// What the Ethernet header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination station or group.
    pub destination: Mac,
    /// Sending station.
    pub source: Mac,
    /// EtherType behind the tags.
    pub ethertype: u16,
    /// Where the payload starts: 14, 18 or 22.
    pub payload: usize,
}

/// Reads the header of `frame`, looking behind up to [`MAX_TAGS`] VLAN tags.
///
/// # Errors
/// [`Malformed::Truncated`] when the frame ends inside the header or a tag.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Header, Malformed> {
    let head: [u8; HEADER_LEN] = array(frame, 0)?;
    let mut ethertype = u16::from_be_bytes([head[12], head[13]]);
    let mut payload = HEADER_LEN;
    for _ in 0..MAX_TAGS {
        if ethertype != VLAN && ethertype != QINQ {
            break;
        }
        ethertype = be16(frame, payload + 2)?;
        payload += TAG_LEN;
    }
    Ok(Header {
        destination: Mac([head[0], head[1], head[2], head[3], head[4], head[5]]),
        source: Mac([head[6], head[7], head[8], head[9], head[10], head[11]]),
        ethertype,
        payload,
    })
}

/// Writes the two addresses at the front of `frame`: the one change that Direct Server Return makes.
/// A frame shorter than twelve bytes is left as it is.
#[inline]
pub fn readdress(frame: &mut [u8], destination: Mac, source: Mac) {
    if let Some(addresses) = frame.first_chunk_mut::<12>() {
        addresses[..6].copy_from_slice(&destination.0);
        addresses[6..].copy_from_slice(&source.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_round_trips_and_bad_text_is_refused() {
        let mac: Mac = "02:0:a:Ff:00:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:0a:ff:00:01");
        for bad in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:g1",
            "+2:00:00:00:00:01",
            "002:0:0:0:0:0",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac), "{bad}");
        }
    }

    #[test]
    fn looks_behind_two_tags_and_no_further() {
        let mut frame = vec![0u8; 12];
        frame.extend([0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 7, 0x08, 0x00, 0x45]);
        let header = parse(&frame).unwrap();
        assert_eq!((header.ethertype, header.payload), (IPV4, 22));
        let mut three = vec![0u8; 12];
        three.extend([0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 0x08, 0]);
        assert_eq!(parse(&three).unwrap().ethertype, VLAN);
    }

    #[test]
    fn short_frames_are_truncated() {
        assert_eq!(parse(&[0; 13]), Err(Malformed::Truncated));
        let mut tagged = vec![0u8; 12];
        tagged.extend([0x81, 0, 0, 1, 8]);
        assert_eq!(parse(&tagged), Err(Malformed::Truncated));
    }
}

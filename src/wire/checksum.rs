//! The Internet checksum (RFC 1071), its incremental update (RFC 1624) and unfinished checksums.

use std::net::IpAddr;

use super::ip::{self, protocol};

/// One's complement sum of 16-bit words, not yet folded or complemented. An odd last byte counts as its word's high half.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`, which must start at an even offset of what is summed.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Sum {
        let (words, rest) = bytes.as_chunks::<2>();
        for word in words {
            self.0 += u64::from(u16::from_be_bytes(*word));
        }
        if let [last] = rest {
            self.0 += u64::from(*last) << 8;
        }
        self
    }

    /// Adds one 16-bit word.
    #[must_use]
    pub fn word(mut self, word: u16) -> Sum {
        self.0 += u64::from(word);
        self
    }

    /// Adds the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1). `length` is that of the upper layer, bytes.
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Sum {
        let sum = match (source, destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => self.bytes(&s.octets()).bytes(&d.octets()),
            (IpAddr::V6(s), IpAddr::V6(d)) => self.bytes(&s.octets()).bytes(&d.octets()),
            _ => self,
        };
        sum.word((length >> 16) as u16).word(length as u16).word(u16::from(protocol))
    }

    /// The folded sum: 0xffff over data that holds its own right checksum.
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum to put into the header.
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The checksum `old` after a covered word changed from `from` to `to` (RFC 1624, equation 3).
pub fn update(old: u16, from: u16, to: u16) -> u16 {
    Sum::default().word(!old).word(!from).word(to).checksum()
}

/// What [`finish`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Nothing to finish: already whole, a fragment, or no TCP/UDP.
    Untouched,
    /// The checksum field held only the pseudo header's sum; now it holds the whole checksum.
    Finished,
}

/// Finishes a TCP or UDP checksum that the sender's stack left to the hardware.
///
/// Such a frame carries the folded, uncomplemented pseudo-header sum where the checksum belongs (Linux
/// `CHECKSUM_PARTIAL`, virtio `VIRTIO_NET_HDR_F_NEEDS_CSUM`). A frame whose checksum is right, or wrong in any other
/// way, is left as it is, so that damage on the way stays visible to the receiver.
pub fn finish(frame: &mut [u8]) -> Finish {
    let Some((header, l4)) = ip::locate(frame) else {
        return Finish::Untouched;
    };
    if header.fragment.is_some() {
        return Finish::Untouched;
    }
    let at = match header.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => return Finish::Untouched,
    };
    let Some(segment) = frame.get_mut(l4) else {
        return Finish::Untouched;
    };
    let Some(field) = segment.get(at..).and_then(|rest| rest.first_chunk::<2>()).copied() else {
        return Finish::Untouched;
    };
    let pseudo = Sum::default().pseudo_header(header.source, header.destination, header.protocol, segment.len());
    let stored = u16::from_be_bytes(field);
    if stored != pseudo.fold() || pseudo.bytes(segment).fold() == 0xffff {
        return Finish::Untouched;
    }
    // The stored partial sum already stands for the pseudo header, so it alone must not be counted twice.
    let whole = match Sum::default().bytes(segment).checksum() {
        0 if header.protocol == protocol::UDP => 0xffff,
        sum => sum,
    };
    segment[at..at + 2].copy_from_slice(&whole.to_be_bytes());
    Finish::Finished
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_example() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(Sum::default().bytes(&[1]).fold(), 0x0100);
    }

    #[test]
    fn update_agrees_with_a_fresh_sum() {
        for (a, b) in [(0x0800u16, 0x0000u16), (0xffff, 0), (0, 0xffff), (0x1234, 0xfedc)] {
            let rest = [0x45, 0x00, 0x12, 0x34];
            let before = Sum::default().bytes(&rest).word(a).checksum();
            let after = Sum::default().bytes(&rest).word(b).checksum();
            let updated = update(before, a, b);
            // 0x0000 and 0xffff are the same number in one's complement.
            assert!(updated == after || (updated ^ after) == 0xffff && (after == 0 || after == 0xffff), "{a:x} {b:x}");
        }
    }
}

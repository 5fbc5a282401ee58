//! Views on frames: what the bytes on the wire say, checked once, read without copying.
//!
//! Nothing here decides anything, and nothing here can panic: every length is checked before a byte behind it is
//! read. Offsets in the returned values count from the first byte of the slice that was given.

pub mod arp;
pub mod checksum;
pub mod ether;
pub mod glance;
pub mod icmp;
pub mod ip;
pub mod l4;
pub mod nd;
pub mod refuse;
mod reply;
pub mod tcp;

use std::fmt;

/// Why bytes are not what their lower layer says they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The frame or packet ends before a header does.
    Truncated,
    /// The IP version does not match the EtherType.
    Version,
    /// A header length field is below the minimum, or points past the end.
    HeaderLength,
    /// The IP total or payload length is longer than the frame.
    TotalLength,
    /// More IPv6 extension headers than a balancer is willing to walk ([`ip::MAX_EXTENSION_HEADERS`]).
    ExtensionHeaders,
    /// A first fragment too small to hold the ports (RFC 1858, section 3).
    TinyFragment,
    /// A field has a value that its protocol forbids.
    Field,
    /// A checksum that has to be right is wrong.
    Checksum,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "truncated",
            Malformed::Version => "IP version does not match the EtherType",
            Malformed::HeaderLength => "bad header length",
            Malformed::TotalLength => "length field longer than the frame",
            Malformed::ExtensionHeaders => "too many IPv6 extension headers",
            Malformed::TinyFragment => "first fragment too small for the ports",
            Malformed::Field => "forbidden field value",
            Malformed::Checksum => "bad checksum",
        })
    }
}

impl std::error::Error for Malformed {}

/// The `N` bytes at `at`, or [`Malformed::Truncated`].
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let Some(rest) = bytes.get(at..) else {
        return Err(Malformed::Truncated);
    };
    rest.first_chunk::<N>().copied().ok_or(Malformed::Truncated)
}

/// The big-endian 16-bit field at `at`.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    array::<2>(bytes, at).map(u16::from_be_bytes)
}

/// The big-endian 32-bit field at `at`.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    array::<4>(bytes, at).map(u32::from_be_bytes)
}

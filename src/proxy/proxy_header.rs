//! The PROXY protocol, versions 1 and 2: in front of a connection's own bytes, its first peer says whose connection it is
//! (HAProxy's specification, "The PROXY protocol", versions 1 & 2, section 2).
//!
//! A header is believed by whoever reads it, so that one that is not exactly as the specification has it is refused:
//! two readers must not see two clients in the same bytes.

mod v1;
mod v2;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::proxy::ProxyHeader;

/// No header is longer than this, bytes: who has read so many gets no [`Step::More`].
pub const LONGEST: usize = v2::LONGEST;

/// How far the header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on; call again with more bytes behind the same ones.
    More,
    /// It is complete.
    Header {
        /// Its length, bytes; the connection's own follow.
        consumed: usize,
        /// The client's address, IPv4 if it is an IPv4-mapped one. `None`: nothing is said of it, and the address of
        /// the socket counts (version 1: `UNKNOWN`; version 2: `LOCAL`, unspecified, a Unix socket).
        source: Option<SocketAddr>,
        /// The address that the client connected to, likewise.
        destination: Option<SocketAddr>,
    },
}

/// Why a connection does not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// It begins with something else.
    Absent,
    /// It goes on for longer than a header may.
    TooLong,
    /// Version 1: bytes that a line of text has not, or a line that does not end with CR and LF.
    Line,
    /// Version 1: neither TCP4, TCP6 nor UNKNOWN.
    Protocol,
    /// Version 1: not as many words as there must be, with one space between them.
    Words,
    /// Version 1: an address that is none of its protocol.
    Address,
    /// Version 1: a port that is no number from 0 to 65535, without zeros in front.
    Port,
    /// Version 2: another version.
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    Command,
    /// Version 2: a family and a transport protocol that the specification does not have.
    Family,
    /// Version 2: shorter than its addresses.
    Length,
    /// Version 2: what follows the addresses is no list of types, lengths and values.
    Tlv,
    /// Version 2: its CRC-32C is another one.
    Checksum,
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadHeader::Absent => "no PROXY header",
            BadHeader::TooLong => "a PROXY header that is too long",
            BadHeader::Line => "a PROXY header (version 1) that is no line of text with CR LF",
            BadHeader::Protocol => "a PROXY header (version 1) of an unknown protocol",
            BadHeader::Words => "a PROXY header (version 1) with words missing, or too many",
            BadHeader::Address => "a PROXY header (version 1) with a malformed address",
            BadHeader::Port => "a PROXY header (version 1) with a malformed port",
            BadHeader::Version => "a PROXY header of an unknown version",
            BadHeader::Command => "a PROXY header (version 2) with an unknown command",
            BadHeader::Family => "a PROXY header (version 2) of an unknown family",
            BadHeader::Length => "a PROXY header (version 2) shorter than its addresses",
            BadHeader::Tlv => "a PROXY header (version 2) with malformed TLVs",
            BadHeader::Checksum => "a PROXY header (version 2) with a wrong checksum",
        })
    }
}

impl std::error::Error for BadHeader {}

/// Reads the header that `input`, the first bytes of a connection, has to begin with. The outcome does not depend on
/// how many bytes come at a time; nothing is kept between calls.
///
/// # Errors
/// It does not begin with a header, and no more bytes could make it one.
pub fn read(input: &[u8]) -> Result<Step, BadHeader> {
    match input.first() {
        None => Ok(Step::More),
        Some(b'P') => v1::read(input),
        Some(_) => v2::read(input),
    }
}

/// Appends a header to `out`: a connection from `source` to `destination` is relayed. Of two families, IPv4 is written
/// as IPv4-mapped; a destination that is not known, as the unspecified address. Without a `source` (the client is at a
/// Unix socket) the header says that nothing is known.
pub fn write(version: ProxyHeader, source: Option<SocketAddr>, destination: Option<SocketAddr>, out: &mut Vec<u8>) {
    let pair = source.map(|source| Pair::new(source, destination));
    match version {
        ProxyHeader::V1 => v1::write(pair, out),
        ProxyHeader::V2 => v2::write(pair, out),
    }
}

/// Appends a header to `out` that says: this connection is our own (a check), no client's.
pub fn write_local(version: ProxyHeader, out: &mut Vec<u8>) {
    match version {
        ProxyHeader::V1 => v1::write(None, out),
        ProxyHeader::V2 => v2::write_local(out),
    }
}

/// Source and destination, of one family.
#[derive(Clone, Copy)]
enum Pair {
    V4([(Ipv4Addr, u16); 2]),
    V6([(Ipv6Addr, u16); 2]),
}

impl Pair {
    fn new(source: SocketAddr, destination: Option<SocketAddr>) -> Pair {
        let from = source.ip().to_canonical();
        let to = destination.map_or_else(
            || if from.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
            |destination| destination.ip().to_canonical(),
        );
        let ports = [source.port(), destination.map_or(0, |destination| destination.port())];
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Pair::V4([(from, ports[0]), (to, ports[1])]),
            (from, to) => Pair::V6([(mapped(from), ports[0]), (mapped(to), ports[1])]),
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// An address of a header as the rest of the program has it: access lists for IPv4 hold for IPv4-mapped addresses, too.
fn canonical(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into().to_canonical(), port)
}

#[cfg(test)]
mod tests;

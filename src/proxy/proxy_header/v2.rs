//! Version 2: binary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BadHeader, Pair, Step, canonical};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// What we take; the specification would have up to 65551 bytes, of which senders use a few hundred.
pub(super) const LONGEST: usize = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;
/// Two addresses of `sockaddr_un`, 108 bytes each.
const UNIX_LENGTH: usize = 216;

/// The TLV with the header's CRC-32C (section 2.2.3).
const CHECKSUM: u8 = 0x03;

pub(super) fn read(input: &[u8]) -> Result<Step, BadHeader> {
    if !input.iter().zip(&SIGNATURE).all(|(is, must)| is == must) {
        return Err(BadHeader::Absent);
    }
    // Each byte is judged as soon as it is there, so that the first fault is the one that is told.
    let command = match input.get(12) {
        None => return Ok(Step::More),
        Some(byte) if byte & 0xf0 != 0x20 => return Err(BadHeader::Version),
        Some(byte @ (&LOCAL | &PROXY)) => *byte,
        Some(_) => return Err(BadHeader::Command),
    };
    let Some(&family) = input.get(13) else { return Ok(Step::More) };
    // Of a LOCAL header all that follows is to be skipped, the family included.
    let addresses = if command == LOCAL { 0 } else { addresses_length(family)? };
    let Some(&[high, low]) = input.get(14..FIXED) else { return Ok(Step::More) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let consumed = FIXED + length;
    if consumed > LONGEST {
        return Err(BadHeader::TooLong);
    }
    if length < addresses {
        return Err(BadHeader::Length);
    }
    let Some(header) = input.get(..consumed) else { return Ok(Step::More) };
    if command == LOCAL || family == UNSPECIFIED {
        return Ok(Step::Header { consumed, source: None, destination: None });
    }
    check_tlvs(header, FIXED + addresses)?;
    let pair = pair(family, &header[FIXED..FIXED + addresses]);
    Ok(Step::Header { consumed, source: pair.map(|(source, _)| source), destination: pair.map(|(_, to)| to) })
}

/// How many bytes the addresses of `family` take.
fn addresses_length(family: u8) -> Result<usize, BadHeader> {
    match family {
        UNSPECIFIED => Ok(0),
        TCP4 | UDP4 => Ok(12),
        TCP6 | UDP6 => Ok(36),
        UNIX_STREAM | UNIX_DATAGRAM => Ok(UNIX_LENGTH),
        _ => Err(BadHeader::Family),
    }
}

/// Source and destination; none of a Unix socket.
fn pair(family: u8, addresses: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (ips, ports) = addresses.split_at(addresses.len() - 4);
    let (from, to) = ips.split_at(ips.len() / 2);
    let (from, to): (IpAddr, IpAddr) = match family {
        TCP4 | UDP4 => (<[u8; 4]>::try_from(from).ok()?.into(), <[u8; 4]>::try_from(to).ok()?.into()),
        TCP6 | UDP6 => (<[u8; 16]>::try_from(from).ok()?.into(), <[u8; 16]>::try_from(to).ok()?.into()),
        _ => return None,
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((canonical(from, port(0)), canonical(to, port(2))))
}

/// Walks through the TLVs from `start` on, and verifies the checksum if there is one.
fn check_tlvs(header: &[u8], start: usize) -> Result<(), BadHeader> {
    let mut checksum = None;
    let mut at = start;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else { return Err(BadHeader::Tlv) };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(bytes) = header.get(value..at) else { return Err(BadHeader::Tlv) };
        if kind == CHECKSUM {
            let stated = <[u8; 4]>::try_from(bytes).map_err(|_| BadHeader::Tlv)?;
            if checksum.replace((value, u32::from_be_bytes(stated))).is_some() {
                return Err(BadHeader::Tlv);
            }
        }
    }
    match checksum {
        Some((value, stated)) if stated != crc32c(&[&header[..value], &[0; 4], &header[value + 4..]]) => {
            Err(BadHeader::Checksum)
        }
        _ => Ok(()),
    }
}

/// CRC-32C (RFC 3720, appendix B.4) of the parts, one behind the other.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = !0u32;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

pub(super) fn write(pair: Option<Pair>, out: &mut Vec<u8>) {
    match pair {
        // Some take a PROXY without addresses for an error.
        None => write_local(out),
        Some(Pair::V4([(from, from_port), (to, to_port)])) => {
            fixed(PROXY, TCP4, 12, out);
            out.extend([from, to].map(|address: Ipv4Addr| address.octets()).concat());
            out.extend([from_port, to_port].map(u16::to_be_bytes).concat());
        }
        Some(Pair::V6([(from, from_port), (to, to_port)])) => {
            fixed(PROXY, TCP6, 36, out);
            out.extend([from, to].map(|address: Ipv6Addr| address.octets()).concat());
            out.extend([from_port, to_port].map(u16::to_be_bytes).concat());
        }
    }
}

pub(super) fn write_local(out: &mut Vec<u8>) {
    fixed(LOCAL, UNSPECIFIED, 0, out);
}

fn fixed(command: u8, family: u8, length: u16, out: &mut Vec<u8>) {
    out.extend(SIGNATURE);
    out.extend([command, family]);
    out.extend(length.to_be_bytes());
}

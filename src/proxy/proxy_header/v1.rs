//! Version 1: a line of text.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{BadHeader, Pair, Step, canonical};

const PREFIX: &[u8] = b"PROXY ";
/// With CR and LF (section 2.1).
const LONGEST: usize = 107;

pub(super) fn read(input: &[u8]) -> Result<Step, BadHeader> {
    if !input.iter().zip(PREFIX).all(|(is, must)| is == must) {
        return Err(BadHeader::Absent);
    }
    let within = &input[..input.len().min(LONGEST)];
    match within.iter().position(|byte| !matches!(byte, b' '..=b'~')) {
        None if input.len() < LONGEST => Ok(Step::More),
        None => Err(BadHeader::TooLong),
        Some(end) if within[end] != b'\r' => Err(BadHeader::Line),
        Some(end) => match within.get(end + 1) {
            None if input.len() < LONGEST => Ok(Step::More),
            None => Err(BadHeader::TooLong),
            Some(b'\n') if end >= PREFIX.len() => parse(&within[PREFIX.len()..end], end + 2),
            Some(_) => Err(BadHeader::Line),
        },
    }
}

/// `line`: what stands between `PROXY ` and the line's end.
fn parse(line: &[u8], consumed: usize) -> Result<Step, BadHeader> {
    let line = std::str::from_utf8(line).map_err(|_| BadHeader::Line)?;
    let (protocol, rest) = line.split_once(' ').unwrap_or((line, ""));
    match protocol {
        "TCP4" => addresses::<Ipv4Addr>(rest, consumed),
        "TCP6" => addresses::<Ipv6Addr>(rest, consumed),
        // Whatever follows is to be ignored.
        "UNKNOWN" => Ok(Step::Header { consumed, source: None, destination: None }),
        _ => Err(BadHeader::Protocol),
    }
}

fn addresses<A: FromStr + Into<IpAddr>>(words: &str, consumed: usize) -> Result<Step, BadHeader> {
    let mut words = words.split(' ');
    let mut word = || words.next().filter(|word| !word.is_empty()).ok_or(BadHeader::Words);
    let [source, destination, from, to] = [word()?, word()?, word()?, word()?];
    if words.next().is_some() {
        return Err(BadHeader::Words);
    }
    let address = |word: &str| word.parse::<A>().map_err(|_| BadHeader::Address);
    Ok(Step::Header {
        consumed,
        source: Some(canonical(address(source)?, port(from)?)),
        destination: Some(canonical(address(destination)?, port(to)?)),
    })
}

/// Digits alone: the standard library would take a sign, too.
fn port(word: &str) -> Result<u16, BadHeader> {
    let leading_zero = word.len() > 1 && word.starts_with('0');
    if leading_zero || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadHeader::Port);
    }
    word.parse().map_err(|_| BadHeader::Port)
}

pub(super) fn write(pair: Option<Pair>, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = match pair {
        None => out.write_all(b"PROXY UNKNOWN\r\n"),
        Some(Pair::V4([(from, from_port), (to, to_port)])) => {
            write!(out, "PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        }
        Some(Pair::V6([(from, from_port), (to, to_port)])) => {
            write!(out, "PROXY TCP6 {from} {to} {from_port} {to_port}\r\n")
        }
    };
}

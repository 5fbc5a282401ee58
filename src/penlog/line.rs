//! What a line says: a web server's, in the common or the combined log format; the balancer's, in the plain layout of its
//! access log, or as Pen writes it.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::request::{Passed, RequestLine, Served};
use crate::proxy::access::{Civil, MONTHS, seconds_since_epoch};

/// No line is longer than a datagram can be, bytes.
pub const LONGEST: usize = 65_507;

/// Reads a line of a web server: `HOST IDENT USER [DATE] "REQUEST" STATUS BYTES ...`. `None`: it is none.
pub fn served(line: &[u8]) -> Option<Served> {
    // A user's name may have blanks and brackets in it; what looks like a date and stands in front of a quote is one.
    let mut from = host_length(line)?;
    let (time, rest) = loop {
        from += line[from..].windows(2).position(|two| two == b" [")? + 2;
        if let Some(found) = date(&line[from..]) {
            break found;
        }
    };
    let (request, rest) = quoted(rest)?;
    let mut words = words(rest);
    let status = number(words.next()?)?;
    let body = number(words.next()?)?;
    Some(Served { time, request: RequestLine::new(request), status: status.map(|status| status as u16), body })
}

/// `line` with `client` for its first word.
pub fn with_client(line: &[u8], client: IpAddr) -> Vec<u8> {
    let rest = host_length(line).map_or(&b""[..], |length| &line[length..]);
    [client.to_string().as_bytes(), rest].concat()
}

/// Reads a line of the balancer; `received` is the time, milliseconds since 1970, for one that has none. `None`: it is
/// none. It may say nothing of use ([`Line::Nothing`]): which server, which request.
pub fn passed(line: &[u8], received: Option<i64>) -> Option<Line> {
    ours(line).or_else(|| pens(line, received))
}

/// A line of the balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Something went to a server.
    Passed(Passed),
    /// Nothing did, or nobody knows what.
    Nothing,
}

/// `192.0.2.7:40000 1795433625.042 10.0.0.11:80 "GET / HTTP/1.1" 200 body=5 ... total=40.331 end=closed`
fn ours(line: &[u8]) -> Option<Line> {
    let quote = line.iter().position(|&byte| byte == b'"')?;
    let mut head = words(&line[..quote]);
    let client = head.next()?;
    let start = milliseconds(head.next()?)?;
    let server = head.next()?;
    if head.next().is_some() {
        return None;
    }
    let (request, rest) = quoted(&line[quote..])?;
    let mut rest = words(rest);
    let status = number(rest.next()?)?;
    let (mut body, mut total, mut end) = (None, None, None);
    for word in rest {
        let at = word.iter().position(|&byte| byte == b'=')?;
        let value = &word[at + 1..];
        match &word[..at] {
            b"body" => body = Some(number(value)??),
            b"total" => total = Some(milliseconds_of_duration(value)?),
            b"end" => end = Some(value),
            _ => {}
        }
    }
    let (total, _) = (total?, end?);
    let client = match client {
        b"unix" => None,
        client => Some(parse::<SocketAddr>(client)?.ip()),
    };
    let server = match server {
        b"-" => None,
        server => Some(parse::<SocketAddr>(server)?.ip()),
    };
    let (Some(client), Some(server)) = (client, server) else { return Some(Line::Nothing) };
    if request == b"-" {
        return Some(Line::Nothing);
    }
    // Of a connection that was relayed as it came, the first request is at its beginning.
    let end = if body.is_some() { start.saturating_add(total) } else { start };
    let status = status.map(|status| status as u16);
    Some(Line::Passed(Passed { client, server, start, end, request: RequestLine::new(request), status, body }))
}

/// Pen's: `+ CLIENT SERVER REQUEST` from UDP, `CLIENT SECONDS SERVER REQUEST` in a file.
fn pens(line: &[u8], received: Option<i64>) -> Option<Line> {
    let (client, time, server, request) = match (line.strip_prefix(b"+ "), received) {
        (Some(rest), Some(received)) => {
            let mut parts = rest.splitn(3, |&byte| byte == b' ');
            (parts.next()?, received, parts.next()?, parts.next()?)
        }
        (None, None) => {
            let mut parts = line.splitn(4, |&byte| byte == b' ');
            let (client, seconds) = (parts.next()?, parse::<i64>(parts.next()?)?);
            (client, seconds.checked_mul(1000)?, parts.next()?, parts.next()?)
        }
        _ => return None,
    };
    let client = parse::<IpAddr>(client)?.to_canonical();
    let server = parse::<IpAddr>(server)?.to_canonical();
    let request = RequestLine::new(request.to_vec());
    Some(Line::Passed(Passed { client, server, start: time, end: time, request, status: None, body: None }))
}

/// How long the first word is, if another follows.
fn host_length(line: &[u8]) -> Option<usize> {
    line.iter().position(|&byte| byte == b' ').filter(|&length| length > 0)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

fn parse<T: FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// A number, or a dash for none.
fn number(word: &[u8]) -> Option<Option<u64>> {
    match word {
        b"-" => Some(None),
        word => digits(word).map(Some),
    }
}

/// The standard library would take a sign, too.
fn digits(word: &[u8]) -> Option<u64> {
    word.iter().all(u8::is_ascii_digit).then(|| parse(word)).flatten()
}

/// `1795433625.042`: seconds and milliseconds.
fn milliseconds(word: &[u8]) -> Option<i64> {
    let at = word.len().checked_sub(4)?;
    let (seconds, rest) = word.split_at(at);
    let thousandths = digits(rest.strip_prefix(b".")?)?;
    i64::try_from(digits(seconds)?.checked_mul(1000)?.checked_add(thousandths)?).ok()
}

/// `40.331`: milliseconds, of which the fraction is dropped.
fn milliseconds_of_duration(word: &[u8]) -> Option<i64> {
    i64::try_from(digits(word.split(|&byte| byte == b'.').next()?)?).ok()
}

/// `23/Nov/2026:11:33:45 +0100] "...`: seconds since 1970, and what follows from the quote on.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (stamp, rest) = text.split_at_checked(26)?;
    let quote = rest.strip_prefix(b"] ").filter(|rest| rest.starts_with(b"\""))?;
    let stamp = std::str::from_utf8(stamp).ok()?;
    let marks = [(2, '/'), (6, '/'), (11, ':'), (14, ':'), (17, ':'), (20, ' ')];
    if !stamp.is_ascii() || !marks.iter().all(|&(at, mark)| stamp[at..].starts_with(mark)) {
        return None;
    }
    let two = |at: usize| digits(&stamp.as_bytes()[at..at + 2]).and_then(|value| u8::try_from(value).ok());
    let month = MONTHS.iter().position(|name| *name == &stamp[3..6])?;
    let local = seconds_since_epoch(Civil {
        year: i64::try_from(digits(&stamp.as_bytes()[7..11])?).ok()?,
        month: u8::try_from(month + 1).ok()?,
        day: two(0)?,
        hour: two(12)?,
        minute: two(15)?,
        second: two(18)?,
    })?;
    let offset = i64::from(two(22)?) * 3600 + i64::from(two(24)?) * 60;
    match stamp.as_bytes()[21] {
        b'+' => Some((local - offset, quote)),
        b'-' => Some((local + offset, quote)),
        _ => None,
    }
}

/// What stands between the quote that `text` begins with and the next one, unescaped; and what follows. Web servers and
/// the balancer write `\"`, `\\` and `\xHH`, and Apache `\t` and the like, too.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut unescaped = Vec::new();
    loop {
        match rest {
            [] => return None,
            [b'"', after @ ..] => return Some((unescaped, after)),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
                unescaped.push(value(*high) << 4 | value(*low));
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                unescaped.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'f' => 12,
                    b'v' => 11,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                unescaped.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests;

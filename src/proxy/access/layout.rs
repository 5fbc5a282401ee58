//! What a line looks like. docs/ACCESSLOG.md has it for people.

use std::time::UNIX_EPOCH;

use super::calendar::{Civil, MONTHS};
use super::{About, Entry, Request, text};
use crate::config::proxy::LogLayout;

/// A request's target, or a stream's first line, is cut off after so many bytes. With every byte escaped, and all the
/// other texts, a line still is one datagram.
const TARGET: usize = 4096;
/// Other texts of clients: method, host, referer, user agent.
const TEXT: usize = 1024;
/// Names that are configured.
const NAME: usize = 256;

/// Formats entries; keeps the last second's text, as most entries are of the same second as the one before.
#[derive(Debug)]
pub struct Formatter {
    layout: LogLayout,
    second: Option<u64>,
    stamp: Vec<u8>,
}

impl Formatter {
    /// A formatter for `layout`.
    pub fn new(layout: LogLayout) -> Formatter {
        Formatter { layout, second: None, stamp: Vec::with_capacity(32) }
    }

    /// Appends the line about `entry`, with its end of line.
    pub fn line(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        match self.layout {
            LogLayout::Plain => plain(entry, out),
            LogLayout::Common => self.common(entry, out),
            LogLayout::Combined => {
                self.common(entry, out);
                combined(entry, out);
            }
            LogLayout::Json => self.json(entry, out),
        }
        out.push(b'\n');
    }

    fn common(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        match entry.client {
            Some(client) => text::ip(client.ip(), out),
            None => out.extend(b"unix"),
        }
        out.extend(b" - - [");
        self.stamp(entry, out);
        out.extend(b"] \"");
        match &entry.about {
            About::Stream(first) => first_line(first, out),
            About::Request(request) => request_line(request, out),
        }
        out.extend(b"\" ");
        match &entry.about {
            About::Request(request) => {
                status(request.status, out);
                out.push(b' ');
                match request.body {
                    0 => out.push(b'-'),
                    body => text::number(body, out),
                }
            }
            About::Stream(_) => {
                out.extend(b"- ");
                text::number(entry.sent, out);
            }
        }
    }

    fn json(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        out.extend(b"{\"time\":\"");
        self.stamp(entry, out);
        out.push(b'.');
        text::padded(since_epoch(entry).1, 3, out);
        out.extend(b"Z\"");
        if let Some(client) = entry.client {
            out.extend(b",\"client\":\"");
            text::ip(client.ip(), out);
            out.extend(b"\",\"client_port\":");
            text::number(client.port().into(), out);
        }
        string("listener", Some(entry.listener.as_bytes()), NAME, out);
        if let Some(server) = &entry.server {
            string("server", Some(server.name.as_bytes()), NAME, out);
            if let Some(address) = server.address {
                out.extend(b",\"server_address\":\"");
                text::socket(address, out);
                out.push(b'"');
            }
        }
        match &entry.about {
            About::Stream(first) => {
                string("first_line", Some(line_of(first)).filter(|line| !line.is_empty()), TARGET, out)
            }
            About::Request(request) => {
                string("method", Some(request.method), TEXT, out);
                string("target", Some(request.target), TARGET, out);
                string("version", Some(request.version.as_bytes()), TEXT, out);
                string("host", request.host, TEXT, out);
                if request.status != 0 {
                    integer("status", request.status.into(), out);
                }
                integer("body", request.body, out);
                string("referer", request.referer, TEXT, out);
                string("user_agent", request.user_agent, TEXT, out);
            }
        }
        integer("received", entry.received, out);
        integer("sent", entry.sent, out);
        if let Some(connect) = entry.connect {
            out.extend(b",\"connect_ms\":");
            text::milliseconds(connect, out);
        }
        out.extend(b",\"total_ms\":");
        text::milliseconds(entry.total, out);
        out.extend(b",\"end\":\"");
        out.extend(entry.end.word().as_bytes());
        out.extend(b"\"}");
    }

    /// The second of `entry`: `23/Nov/2026:11:33:45 +0000`, or for JSON `2026-11-23T11:33:45`.
    fn stamp(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        let (second, _) = since_epoch(entry);
        if self.second != Some(second) {
            self.second = Some(second);
            self.stamp.clear();
            let civil = Civil::from_epoch(second.try_into().unwrap_or_default());
            let year = u32::try_from(civil.year).unwrap_or_default();
            let stamp = &mut self.stamp;
            if self.layout == LogLayout::Json {
                separated([(year, 4), (civil.month.into(), 2), (civil.day.into(), 2)], b'-', stamp);
                stamp.push(b'T');
                time(&civil, stamp);
            } else {
                text::padded(civil.day.into(), 2, stamp);
                stamp.push(b'/');
                stamp.extend(MONTHS[usize::from(civil.month - 1) % 12].as_bytes());
                stamp.push(b'/');
                text::padded(year, 4, stamp);
                stamp.push(b':');
                time(&civil, stamp);
                stamp.extend(b" +0000");
            }
        }
        out.extend_from_slice(&self.stamp);
    }
}

/// `CLIENT SECONDS SERVER "REQUEST" STATUS name=value...`: what Pen has in its log (client, second, server, request), and
/// more behind it.
fn plain(entry: &Entry, out: &mut Vec<u8>) {
    match entry.client {
        Some(client) => text::socket(client, out),
        None => out.extend(b"unix"),
    }
    let (second, millisecond) = since_epoch(entry);
    out.push(b' ');
    text::number(second, out);
    out.push(b'.');
    text::padded(millisecond, 3, out);
    out.push(b' ');
    match entry.server.and_then(|server| server.address) {
        Some(address) => text::socket(address, out),
        None => out.push(b'-'),
    }
    out.extend(b" \"");
    match &entry.about {
        About::Stream(first) => {
            first_line(first, out);
            out.extend(b"\" -");
        }
        About::Request(request) => {
            request_line(request, out);
            out.extend(b"\" ");
            status(request.status, out);
            out.extend(b" body=");
            text::number(request.body, out);
        }
    }
    if let Some(server) = entry.server {
        out.extend(b" server=");
        text::word(server.name.as_bytes(), NAME, out);
    }
    out.extend(b" listener=");
    text::word(entry.listener.as_bytes(), NAME, out);
    out.extend(b" received=");
    text::number(entry.received, out);
    out.extend(b" sent=");
    text::number(entry.sent, out);
    if let Some(connect) = entry.connect {
        out.extend(b" connect=");
        text::milliseconds(connect, out);
    }
    out.extend(b" total=");
    text::milliseconds(entry.total, out);
    out.extend(b" end=");
    out.extend(entry.end.word().as_bytes());
}

/// What the combined layout has more than the common one.
fn combined(entry: &Entry, out: &mut Vec<u8>) {
    let (referer, agent) = match &entry.about {
        About::Request(request) => (request.referer, request.user_agent),
        About::Stream(_) => (None, None),
    };
    for field in [referer, agent] {
        out.extend(b" \"");
        text::quoted(field.unwrap_or(b"-"), TEXT, out);
        out.push(b'"');
    }
}

fn request_line(request: &Request, out: &mut Vec<u8>) {
    text::quoted(request.method, TEXT, out);
    out.push(b' ');
    text::quoted(request.target, TARGET, out);
    out.push(b' ');
    text::quoted(request.version.as_bytes(), TEXT, out);
}

fn first_line(first: &[u8], out: &mut Vec<u8>) {
    match line_of(first) {
        [] => out.push(b'-'),
        line => text::quoted(line, TARGET, out),
    }
}

/// The first line of `bytes`, without its end.
fn line_of(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    &bytes[..end]
}

fn status(status: u16, out: &mut Vec<u8>) {
    match status {
        0 => out.push(b'-'),
        status => text::number(status.into(), out),
    }
}

/// Seconds since 1970, and milliseconds; a clock that stands before that is at its beginning.
fn since_epoch(entry: &Entry) -> (u64, u32) {
    let since = entry.start.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_millis())
}

fn time(civil: &Civil, out: &mut Vec<u8>) {
    separated([(civil.hour.into(), 2), (civil.minute.into(), 2), (civil.second.into(), 2)], b':', out);
}

fn separated(parts: [(u32, u32); 3], separator: u8, out: &mut Vec<u8>) {
    for (index, (value, width)) in parts.into_iter().enumerate() {
        if index > 0 {
            out.push(separator);
        }
        text::padded(value, width, out);
    }
}

fn name(name: &str, out: &mut Vec<u8>) {
    out.extend(b",\"");
    out.extend(name.as_bytes());
    out.extend(b"\":");
}

fn integer(key: &str, value: u64, out: &mut Vec<u8>) {
    name(key, out);
    text::number(value, out);
}

fn string(key: &str, value: Option<&[u8]>, limit: usize, out: &mut Vec<u8>) {
    if let Some(value) = value {
        name(key, out);
        text::json(value, limit, out);
    }
}

#[cfg(test)]
mod tests;

//! A request's head as the server gets it: what is meant for one hop is taken out, where it comes from is put in.

use std::io::Write as _;
use std::net::IpAddr;

use super::head::{Mark, What};
use super::request::{Method, RequestReader};
use crate::config::proxy::{Forwarded, OwnHeader};

/// What a request's head is written with.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'a> {
    /// The client's address; none: it has none (a Unix socket).
    pub client: Option<IpAddr>,
    /// Did it come over TLS?
    pub https: bool,
    /// Which headers are given.
    pub forwarded: Forwarded,
    /// Is the client one whose headers are believed?
    pub trusted: bool,
    /// Is the server's connection to be used again?
    pub reuse: bool,
    /// `Host` for a client that names none, as it may in HTTP/1.0.
    pub host: &'a str,
}

/// What becomes of a client's own headers of a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    /// They pass.
    Keep,
    /// They are taken out, and ours is put in.
    Replace,
    /// Ours is put behind the last element.
    Append,
    /// They are taken out.
    Remove,
}

impl Rewrite<'_> {
    /// For headers of a kind of which we are to put in our own, or not.
    fn own(&self, ours: bool) -> Own {
        match (self.forwarded.own, ours) {
            (_, true) if self.trusted => Own::Append,
            (_, false) if self.trusted => Own::Keep,
            (OwnHeader::Append, true) => Own::Append,
            (OwnHeader::Append, false) => Own::Keep,
            (OwnHeader::Replace, true) => Own::Replace,
            (OwnHeader::Replace, false) | (OwnHeader::Drop, _) => Own::Remove,
        }
    }
}

impl RequestReader {
    /// Appends to `out` the head that the server gets for `head`: the bytes that [`Step::Head`](super::Step::Head) told
    /// of.
    pub fn write_head(&self, head: &[u8], rewrite: &Rewrite<'_>, out: &mut Vec<u8>) {
        let facts = self.head();
        out.reserve(head.len() + 192);
        let mut writer = Writer { head, at: 0, out };
        if facts.absolute || facts.http10 {
            let path = match (facts.absolute, facts.path.of(head)) {
                (false, _) => facts.target.of(head),
                (true, []) if facts.method == Method::Options => b"*",
                (true, []) => b"/",
                (true, path) => path,
            };
            writer.put(facts.method_name.of(head));
            writer.put(b" ");
            writer.put(path);
            writer.put(b" HTTP/1.1\r\n");
            writer.at = facts.fields as usize;
        }
        if !facts.has_host || facts.absolute {
            writer.put(b"Host: ");
            writer.put(if facts.host.is_empty() { rewrite.host.as_bytes() } else { facts.host.of(head) });
            writer.put(b"\r\n");
        }
        writer.fields(&self.marks, rewrite);
        if facts.upgrade {
            writer.put(b"Connection: upgrade\r\n");
        } else if !rewrite.reuse {
            writer.put(b"Connection: close\r\n");
        }
        writer.put(b"\r\n");
    }
}

struct Writer<'a> {
    head: &'a [u8],
    /// So far the head has been written, or left out.
    at: usize,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes the head up to `to`.
    #[inline]
    fn pass(&mut self, to: u32) {
        self.out.extend_from_slice(&self.head[self.at..to as usize]);
        self.at = to as usize;
    }

    /// The client's fields, without those that go, and with those that come.
    fn fields(&mut self, marks: &[Mark], rewrite: &Rewrite<'_>) {
        let x_forwarded = rewrite.own(rewrite.forwarded.x_forwarded);
        let forwarded = rewrite.own(rewrite.forwarded.forwarded);
        // One hop's fact, not a list: what a believed peer says holds, of others ours alone.
        let proto = match x_forwarded {
            Own::Append if rewrite.trusted && marks.iter().any(|mark| mark.what == What::XForwardedProto) => Own::Keep,
            Own::Append => Own::Replace,
            other => other,
        };
        let mut appended = Appended::default();
        if !marks.is_empty() {
            appended = self.marked(marks, x_forwarded, forwarded, proto, rewrite);
        }
        self.pass(self.head.len() as u32 - 2);
        if !appended.x_forwarded_for && matches!(x_forwarded, Own::Replace | Own::Append) {
            self.put(b"X-Forwarded-For: ");
            self.address(rewrite.client);
            self.put(b"\r\n");
        }
        if proto == Own::Replace {
            self.put(if rewrite.https { b"X-Forwarded-Proto: https\r\n" } else { b"X-Forwarded-Proto: http\r\n" });
        }
        if !appended.forwarded && matches!(forwarded, Own::Replace | Own::Append) {
            self.put(b"Forwarded: ");
            self.element(rewrite);
            self.put(b"\r\n");
        }
    }

    /// Up to the last marked field.
    fn marked(&mut self, marks: &[Mark], x_for: Own, forwarded: Own, proto: Own, rewrite: &Rewrite<'_>) -> Appended {
        let mut appended = Appended::default();
        let last = |what| marks.iter().rposition(|mark| mark.what == what && mark.value_end != 0);
        for (index, mark) in marks.iter().enumerate() {
            let own = match mark.what {
                What::Out => Own::Remove,
                What::XForwardedProto => proto,
                What::XForwardedFor => x_for,
                What::Forwarded => forwarded,
            };
            match own {
                Own::Keep => {}
                Own::Append if mark.value_end != 0 => {
                    if last(mark.what) != Some(index) {
                        continue;
                    }
                    self.pass(mark.value_end);
                    self.put(b", ");
                    if mark.what == What::Forwarded {
                        self.element(rewrite);
                        appended.forwarded = true;
                    } else {
                        self.address(rewrite.client);
                        appended.x_forwarded_for = true;
                    }
                }
                Own::Append | Own::Replace | Own::Remove => {
                    self.pass(mark.start);
                    self.at = mark.end as usize;
                }
            }
        }
        appended
    }

    /// An address as `X-Forwarded-For` has it.
    #[inline]
    fn address(&mut self, address: Option<IpAddr>) {
        match address.map(|address| address.to_canonical()) {
            None => self.put(b"unknown"),
            Some(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                self.octet(a);
                for octet in [b, c, d] {
                    self.out.push(b'.');
                    self.octet(octet);
                }
            }
            Some(IpAddr::V6(address)) => {
                // A Vec takes whatever is written.
                let _ = write!(self.out, "{address}");
            }
        }
    }

    /// As [`address`](Self::address), without the detour of `fmt`: this is written for every request.
    #[inline]
    fn octet(&mut self, octet: u8) {
        let digits = [b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10];
        let zeros = if octet >= 100 {
            0
        } else if octet >= 10 {
            1
        } else {
            2
        };
        self.out.extend_from_slice(&digits[zeros..]);
    }

    /// An element of `Forwarded` (RFC 7239 section 4); an IPv6 address stands in brackets and quotes (section 6).
    fn element(&mut self, rewrite: &Rewrite<'_>) {
        self.put(b"for=");
        let quoted = rewrite.client.is_some_and(|client| client.to_canonical().is_ipv6());
        if quoted {
            self.put(b"\"[");
        }
        self.address(rewrite.client);
        if quoted {
            self.put(b"]\"");
        }
        self.put(if rewrite.https { b";proto=https" } else { b";proto=http" });
    }
}

/// Which of our headers stand behind a client's own.
#[derive(Clone, Copy, Default)]
struct Appended {
    x_forwarded_for: bool,
    forwarded: bool,
}

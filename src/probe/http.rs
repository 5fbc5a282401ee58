//! An HTTP/1.1 request (RFC 9112) and the verdict on its answer, as early as it can be given.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// So much of a body is looked at, bytes.
pub const LONGEST_BODY: usize = 64 << 10;
/// A status line and headers beyond this are not worth reading, bytes.
const LONGEST_HEAD: usize = 16 << 10;
const MOST_HEADERS: usize = 128;
/// The line with the size of a chunk, its extensions included, bytes.
const LONGEST_CHUNK_LINE: usize = 1 << 10;

/// The request. `host` is the Host header's value; without one it is made of the VIP and `port`.
pub fn request(path: &str, host: Option<&str>, vip: IpAddr, port: u16) -> Vec<u8> {
    let host = match (host, vip, port) {
        (Some(host), ..) => host.to_owned(),
        (None, IpAddr::V4(vip), 80) => vip.to_string(),
        (None, IpAddr::V6(vip), 80) => format!("[{vip}]"),
        (None, IpAddr::V4(vip), port) => format!("{vip}:{port}"),
        (None, IpAddr::V6(vip), port) => format!("[{vip}]:{port}"),
    };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pen-dsr\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// What is to be said of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Good,
    /// The status is another.
    Status(u16),
    /// The body does not contain what it should.
    Body,
    /// The connection ended too early.
    Cut,
    /// It is not HTTP.
    Malformed(&'static str),
}

/// An answer that is coming in.
#[derive(Debug)]
pub struct Answer {
    status: RangeInclusive<u16>,
    /// Empty: the body does not matter.
    wanted: String,
    /// What has come and is not taken apart yet.
    pending: Vec<u8>,
    body: Vec<u8>,
    stage: Stage,
    begun: bool,
}

#[derive(Debug)]
enum Stage {
    Head,
    /// Bytes that are still to come.
    Length(u64),
    /// The body ends with the connection.
    UntilClosed,
    ChunkLine,
    /// Bytes of the chunk that are still to come.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
}

impl Answer {
    /// An answer whose status has to be in `status`, and whose body has to contain `wanted`.
    pub fn new(status: RangeInclusive<u16>, wanted: Option<&str>) -> Answer {
        let wanted = wanted.unwrap_or_default().to_owned();
        Answer { status, wanted, pending: Vec::new(), body: Vec::new(), stage: Stage::Head, begun: false }
    }

    /// Which status codes will do.
    pub fn status(&self) -> RangeInclusive<u16> {
        self.status.clone()
    }

    /// What the body has to contain.
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// Has anything come?
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// More of it has come.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Finding> {
        self.begun |= !bytes.is_empty();
        self.pending.extend(bytes);
        loop {
            match self.step() {
                Step::Again => {}
                Step::More => return None,
                Step::Done(finding) => return Some(finding),
            }
        }
    }

    /// The server has sent all that it wants to send.
    pub fn end(&self) -> Finding {
        match self.stage {
            // What was looked for would have been found by now.
            Stage::UntilClosed => Finding::Body,
            _ => Finding::Cut,
        }
    }

    fn step(&mut self) -> Step {
        match self.stage {
            Stage::Head => self.head(),
            Stage::UntilClosed => self.content(u64::MAX),
            Stage::Length(0) => Step::Done(Finding::Body),
            Stage::Length(left) | Stage::Chunk(left) => self.content(left),
            Stage::ChunkLine => match httparse::parse_chunk_size(&self.pending) {
                Ok(httparse::Status::Complete((_, 0))) => Step::Done(Finding::Body),
                Ok(httparse::Status::Complete((line, size))) => {
                    self.pending.drain(..line);
                    self.stage = Stage::Chunk(size);
                    Step::Again
                }
                Ok(httparse::Status::Partial) if self.pending.len() <= LONGEST_CHUNK_LINE => Step::More,
                Ok(httparse::Status::Partial) | Err(_) => Step::Done(Finding::Malformed("the size of a chunk")),
            },
            Stage::ChunkEnd => match *self.pending {
                [b'\r', b'\n', ..] => {
                    self.pending.drain(..2);
                    self.stage = Stage::ChunkLine;
                    Step::Again
                }
                [] | [b'\r'] => Step::More,
                _ => Step::Done(Finding::Malformed("the end of a chunk")),
            },
        }
    }

    /// The status line and the headers.
    fn head(&mut self) -> Step {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let (length, status) = match (response.parse(&self.pending), response.code) {
            (Ok(httparse::Status::Complete(length)), Some(status)) => (length, status),
            (Ok(_), _) if self.pending.len() <= LONGEST_HEAD => return Step::More,
            (Ok(_), _) => return Step::Done(Finding::Malformed("endless headers")),
            (Err(httparse::Error::Version | httparse::Error::Status), _) => {
                return Step::Done(Finding::Malformed("no status line"));
            }
            (Err(httparse::Error::TooManyHeaders), _) => return Step::Done(Finding::Malformed("endless headers")),
            (Err(_), _) => return Step::Done(Finding::Malformed("a bad header")),
        };
        // An interim answer (RFC 9110 section 15.2); the real one follows.
        if (100..200).contains(&status) && status != 101 {
            self.pending.drain(..length);
            return Step::Again;
        }
        if !self.status.contains(&status) {
            return Step::Done(Finding::Status(status));
        }
        if self.wanted.is_empty() {
            return Step::Done(Finding::Good);
        }
        let Some(stage) = framing(status, response.headers) else {
            return Step::Done(Finding::Malformed("a bad Content-Length"));
        };
        self.stage = stage;
        self.pending.drain(..length);
        Step::Again
    }

    /// Takes up to `left` bytes over into the body.
    fn content(&mut self, left: u64) -> Step {
        if self.pending.is_empty() {
            return Step::More;
        }
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(self.pending.len());
        let wanted = self.wanted.as_bytes();
        // What is looked for may have begun in what was there before.
        let from = self.body.len().saturating_sub(wanted.len().saturating_sub(1));
        let room = LONGEST_BODY.saturating_sub(self.body.len());
        self.body.extend(self.pending.drain(..taken).take(room));
        if wanted.is_empty() || self.body[from..].windows(wanted.len()).any(|window| window == wanted) {
            return Step::Done(Finding::Good);
        }
        if self.body.len() >= LONGEST_BODY {
            return Step::Done(Finding::Body);
        }
        let left = left - taken as u64;
        match self.stage {
            Stage::Length(_) => self.stage = Stage::Length(left),
            Stage::Chunk(_) => self.stage = if left == 0 { Stage::ChunkEnd } else { Stage::Chunk(left) },
            Stage::Head | Stage::UntilClosed | Stage::ChunkLine | Stage::ChunkEnd => {}
        }
        Step::Again
    }
}

enum Step {
    Again,
    More,
    Done(Finding),
}

/// Where the body ends (RFC 9112 section 6.3); `None` if the headers contradict themselves.
fn framing(status: u16, headers: &[httparse::Header<'_>]) -> Option<Stage> {
    if matches!(status, 204 | 304) {
        return Some(Stage::Length(0));
    }
    let mut length = None;
    for header in headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let last = value.rsplit(|&b| b == b',').next().unwrap_or_default().trim_ascii();
            let chunked = last.eq_ignore_ascii_case(b"chunked");
            return Some(if chunked { Stage::ChunkLine } else { Stage::UntilClosed });
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let number = str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let number = number.and_then(|text| text.parse::<u64>().ok())?;
            if length.is_some_and(|length| length != number) {
                return None;
            }
            length = Some(number);
        }
    }
    Some(length.map_or(Stage::UntilClosed, Stage::Length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OK: RangeInclusive<u16> = 200..=299;

    /// What is found in `bytes`, when they come in pieces of `size`, and the connection ends then.
    fn find(bytes: &[u8], size: usize, wanted: Option<&str>) -> Finding {
        let mut answer = Answer::new(OK, wanted);
        for piece in bytes.chunks(size) {
            if let Some(finding) = answer.push(piece) {
                return finding;
            }
        }
        answer.end()
    }

    #[test]
    fn the_request_names_the_vip_or_the_host() {
        let lines = |host, vip: &str, port| String::from_utf8(request("/x", host, vip.parse().unwrap(), port)).unwrap();
        assert_eq!(
            lines(None, "10.0.0.100", 80),
            "GET /x HTTP/1.1\r\nHost: 10.0.0.100\r\nUser-Agent: pen-dsr\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        assert!(lines(None, "fd00::100", 8080).contains("\r\nHost: [fd00::100]:8080\r\n"));
        assert!(lines(None, "fd00::100", 80).contains("\r\nHost: [fd00::100]\r\n"));
        assert!(lines(None, "10.0.0.100", 81).contains("\r\nHost: 10.0.0.100:81\r\n"));
        assert!(lines(Some("www.example.org"), "10.0.0.100", 81).contains("\r\nHost: www.example.org\r\n"));
    }

    #[test]
    fn the_same_is_found_in_pieces_of_any_size() {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n4\r\nI'm \r\n5;x=y\r\nwell.\r\n0\r\n\r\n";
        let hundred = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nI'm well.";
        for (bytes, wanted, finding) in [
            ("HTTP/1.1 200 OK\r\n\r\n", None, Finding::Good),
            ("HTTP/1.0 204 No Content\r\nServer: x\r\n\r\n", None, Finding::Good),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", None, Finding::Status(503)),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", Some("well"), Finding::Status(304)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", None, Finding::Status(101)),
            ("HTTP/1.1 200 OK\r\n\r\nI'm well.", Some("well"), Finding::Good),
            ("HTTP/1.1 200 OK\r\n\r\nI'm ill.", Some("well"), Finding::Body),
            ("HTTP/1.1 204 OK\r\n\r\nI'm well.", Some("well"), Finding::Body),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nI'm well.", Some("well"), Finding::Body),
            ("HTTP/1.1 200 OK\r\ncontent-length:  9 \r\n\r\nI'm well.", Some("well."), Finding::Good),
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nI'm ill.", Some("well"), Finding::Cut),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Some("x"), Finding::Malformed("a bad Content-Length")),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Some("x"),
                Finding::Malformed("a bad Content-Length"),
            ),
            (chunked, Some("I'm well."), Finding::Good),
            (chunked, Some("ill"), Finding::Body),
            (hundred, Some("I'm well."), Finding::Good),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                Some("x"),
                Finding::Malformed("the size of a chunk"),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
                Some("x"),
                Finding::Malformed("the end of a chunk"),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nI'm", Some("x"), Finding::Cut),
            ("HTTP/1.1 200 OK\r\nServ", None, Finding::Cut),
            ("", None, Finding::Cut),
            ("SSH-2.0-OpenSSH_9.2p1\r\n", None, Finding::Malformed("no status line")),
            ("\x15\x03\x03\x00\x02\x02\x32", None, Finding::Malformed("no status line")),
            ("HTTP/1.1 2x0 OK\r\n\r\n", None, Finding::Malformed("no status line")),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", None, Finding::Malformed("a bad header")),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(find(bytes.as_bytes(), size, wanted), finding, "{bytes:?} for {wanted:?}");
            }
        }
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let mut endless = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        endless.extend([b'x'; LONGEST_HEAD]);
        assert_eq!(find(&endless, 1000, None), Finding::Malformed("endless headers"));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MOST_HEADERS + 1));
        assert_eq!(find(many.as_bytes(), 1000, None), Finding::Malformed("endless headers"));
        let mut extension = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;".to_vec();
        extension.extend([b'x'; 2 * LONGEST_CHUNK_LINE]);
        assert_eq!(find(&extension, 1000, Some("y")), Finding::Malformed("the size of a chunk"));
        let mut body = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        body.extend([b'.'; LONGEST_BODY - 4]);
        body.extend(b"well");
        assert_eq!(find(&body, 1460, Some("well")), Finding::Good, "the last of what is looked at");
        body.insert(20, b'.');
        assert_eq!(find(&body, 1460, Some("well")), Finding::Body, "one byte behind it");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_panic_it(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..40, head in 0usize..5) {
            let heads = [
                "",
                "HTTP/1.1 200 OK\r\n",
                "HTTP/1.1 200 OK\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            ];
            let all = [heads[head].as_bytes(), &bytes].concat();
            find(&all, size, Some("xyz"));
            find(&all, size, None);
        }
    }
}

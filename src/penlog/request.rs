//! When a web server's line and one of the balancer are about the same request.

use std::net::IpAddr;

/// A shorter request was not cut off: Pen keeps about a hundred bytes of each, and we keep more.
const LEAST_CUT: usize = 64;
/// The balancer's access log cuts targets off there, and writes the version behind them all the same.
const CUT: usize = 4096;

/// What a request is looked up by: the server, and the beginning of its method and target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    server: IpAddr,
    begin: Box<[u8]>,
}

/// Method and target of a request. The version is left out, as the balancer may speak another one with the server than
/// the client does with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    text: Vec<u8>,
    /// It goes on, nobody knows how.
    cut: bool,
}

impl RequestLine {
    /// Reads `GET /x HTTP/1.1`, or any other first line of a stream.
    pub fn new(mut text: Vec<u8>) -> RequestLine {
        let complete = match text.iter().rposition(|&byte| byte == b' ') {
            Some(at) if is_version(&text[at + 1..]) => {
                text.truncate(at);
                true
            }
            // Cut off within the version; a method and a target are in front of it.
            Some(at) if b"HTTP/1.".starts_with(&text[at + 1..]) && text[..at].contains(&b' ') => {
                text.truncate(at);
                true
            }
            _ => false,
        };
        let cut = if complete { text.len() >= CUT } else { text.len() >= LEAST_CUT };
        RequestLine { text, cut }
    }

    /// What it is looked up by, at `server`.
    pub fn key(&self, server: IpAddr) -> Key {
        Key { server: server.to_canonical(), begin: self.text[..self.text.len().min(LEAST_CUT)].into() }
    }

    /// Could this, the balancer's, be `other`, the server's?
    pub fn matches(&self, other: &RequestLine) -> bool {
        if self.cut { other.text.starts_with(&self.text) } else { other.text == self.text }
    }
}

fn is_version(word: &[u8]) -> bool {
    word.strip_prefix(b"HTTP/").is_some_and(|number| {
        !number.is_empty() && number.len() <= 3 && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
    })
}

/// What a web server says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// When: seconds since 1970.
    pub time: i64,
    /// What was asked for.
    pub request: RequestLine,
    /// The response's status, if there was one.
    pub status: Option<u16>,
    /// Bytes of its body, if they are known.
    pub body: Option<u64>,
}

/// What the balancer says of a request, or of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Whose it was.
    pub client: IpAddr,
    /// To which server it went.
    pub server: IpAddr,
    /// When it began: milliseconds since 1970.
    pub start: i64,
    /// When it ended; a connection of which only the first request is known counts from its beginning.
    pub end: i64,
    /// What was asked for.
    pub request: RequestLine,
    /// As [`Served`] has it, where HTTP was read.
    pub status: Option<u16>,
    /// As [`Served`] has it, where HTTP was read.
    pub body: Option<u64>,
}

impl Passed {
    /// How well this fits to what a server says it `served`: the less, the better. `None`: it is about something else, or
    /// the times differ by more than `jitter`, milliseconds. The servers are known to be the same.
    ///
    /// Fractions of a second do not make one better than another, as the server does not tell them: of equal ones the
    /// first is right more often.
    pub fn distance(&self, served: &Served, jitter: i64) -> Option<(bool, i64)> {
        let differs = |ours: Option<u64>, theirs: Option<u64>| matches!((ours, theirs), (Some(a), Some(b)) if a != b);
        if !self.request.matches(&served.request) || differs(self.status.map(u64::from), served.status.map(u64::from)) {
            return None;
        }
        // The server has whole seconds, of the beginning or of the end.
        let (first, last) = (served.time.saturating_mul(1000), served.time.saturating_mul(1000).saturating_add(999));
        let apart = self.start.saturating_sub(last).max(first.saturating_sub(self.end)).max(0);
        (apart <= jitter).then_some((differs(self.body, served.body), apart / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> RequestLine {
        RequestLine::new(text.as_bytes().to_vec())
    }

    #[test]
    fn requests_are_the_same_whatever_their_version() {
        assert!(line("GET /x HTTP/2.0").matches(&line("GET /x HTTP/1.1")));
        assert!(line("GET /x HTT").matches(&line("GET /x HTTP/1.0")));
        assert!(line("GET /").matches(&line("GET /")));
        assert!(!line("GET /").matches(&line("GET /x HTTP/1.1")));
        assert!(!line("GET /x HTTP/1.1").matches(&line("HEAD /x HTTP/1.1")));
        assert!(!line("GET H HTTP/1.1").matches(&line("GET HTTP/1.1")));
    }

    #[test]
    fn a_request_that_was_cut_off_is_the_beginning_of_the_servers() {
        let long = format!("GET /{}", "a".repeat(90));
        let whole = format!("{long}bcd HTTP/1.1");
        assert!(line(&long).matches(&line(&whole)));
        let server = "10.0.0.1".parse().unwrap();
        assert_eq!(line(&long).key(server), line(&whole).key(server));
        assert!(!line(&format!("{long}x")).matches(&line(&whole)));
        let (cut, whole) = ("b".repeat(4096), "b".repeat(5000));
        assert!(line(&format!("GET /{cut} HTTP/1.1")).matches(&line(&format!("GET /{whole} HTTP/1.1"))));
    }

    #[test]
    fn times_are_apart_by_what_lies_between_a_second_and_a_request() {
        let passed = |start, end| Passed {
            client: "192.0.2.7".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            start,
            end,
            request: line("GET / HTTP/1.1"),
            status: Some(200),
            body: Some(5),
        };
        let served = |time, status, body| Served {
            time,
            request: line("GET / HTTP/1.1"),
            status: Some(status),
            body: Some(body),
        };
        assert_eq!(passed(10_500, 10_600).distance(&served(10, 200, 5), 0), Some((false, 0)));
        assert_eq!(passed(9000, 30_000).distance(&served(10, 200, 5), 0), Some((false, 0)));
        assert_eq!(passed(11_500, 11_600).distance(&served(10, 200, 5), 501), Some((false, 0)));
        assert_eq!(passed(12_500, 12_600).distance(&served(10, 200, 5), 1501), Some((false, 1)));
        assert_eq!(passed(11_500, 11_600).distance(&served(10, 200, 5), 500), None);
        assert_eq!(passed(9000, 9100).distance(&served(10, 200, 4), 900), Some((true, 0)));
        assert_eq!(passed(10_500, 10_600).distance(&served(10, 404, 5), 0), None);
        assert_eq!(passed(i64::MIN, i64::MAX).distance(&served(i64::MAX, 200, 5), 0), Some((false, 0)));
    }
}

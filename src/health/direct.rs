//! Why a check over an ordinary socket failed, as the proxy makes them: asked is the server itself, not a VIP.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A check over an ordinary socket that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Who was asked: an address with its port, or without one for an echo, or the path of a Unix socket.
    pub at: String,
    /// What happened.
    pub trouble: Trouble,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing came back within so long.
    NoAnswer(Duration),
    /// Nothing listens there.
    Refused,
    /// There is no Unix socket.
    NoSocket,
    /// The system, or a host on the way, says why not.
    Unreachable(String),
    /// An HTTP answer with this status; what would have done.
    Status(u16, RangeInclusive<u16>),
    /// An HTTP answer whose body (or the first 64 KiB of it) does not contain this.
    Body(String),
    /// Connected, and then not one byte of an answer within so long.
    Hang(Duration),
    /// The answer began, but there was not enough of it to decide within so long.
    Slow(Duration),
    /// The connection ended before the answer did: by a reset, or in an orderly way?
    Closed {
        /// By a reset.
        reset: bool,
    },
    /// The answer is not HTTP, and what is wrong with it.
    Malformed(&'static str),
    /// A datagram came back that does not contain what it should.
    Mismatch,
    /// A name server's answer says that it failed: the response code (RFC 1035 section 4.1.1).
    Dns(u8),
    /// What came back is not an answer to the DNS query.
    DnsMalformed,
}

impl Direct {
    /// As [`Reason::name`](super::Reason::name).
    pub(super) fn name(&self) -> &'static str {
        match self.trouble {
            Trouble::NoAnswer(_) => "no-answer",
            Trouble::Refused => "refused",
            Trouble::NoSocket => "no-socket",
            Trouble::Unreachable(_) => "unreachable",
            Trouble::Status(..) => "http-status",
            Trouble::Body(_) => "http-body",
            Trouble::Hang(_) => "http-hang",
            Trouble::Slow(_) => "http-slow",
            Trouble::Closed { .. } => "http-closed",
            Trouble::Malformed(_) => "http-malformed",
            Trouble::Mismatch => "udp-mismatch",
            Trouble::Dns(_) => "dns-error",
            Trouble::DnsMalformed => "dns-malformed",
        }
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.at;
        match &self.trouble {
            Trouble::NoAnswer(within) => {
                write!(
                    f,
                    "no answer from {at} within {} ms: is the host up, does a packet filter drop it?",
                    within.as_millis()
                )
            }
            Trouble::Refused => write!(f, "nothing listens on {at}"),
            Trouble::NoSocket => write!(f, "there is no socket {at}: is the server running?"),
            Trouble::Unreachable(why) => write!(f, "{at} cannot be reached: {why}"),
            Trouble::Status(status, wanted) if wanted.start() == wanted.end() => {
                write!(f, "HTTP status {status} from {at}, {} is wanted", wanted.start())
            }
            Trouble::Status(status, wanted) => {
                write!(f, "HTTP status {status} from {at}, {} to {} is wanted", wanted.start(), wanted.end())
            }
            Trouble::Body(wanted) => write!(f, "the HTTP answer of {at} does not contain {wanted:?}"),
            Trouble::Hang(within) => {
                write!(
                    f,
                    "connected, but no HTTP answer within {} ms: does the server of {at} hang?",
                    within.as_millis()
                )
            }
            Trouble::Slow(within) => {
                write!(f, "the HTTP answer of {at} began, but did not come to an end within {} ms", within.as_millis())
            }
            Trouble::Closed { reset } => {
                let how = if *reset { "reset" } else { "closed" };
                write!(f, "connected, but {at} {how} the connection before its HTTP answer was complete")
            }
            Trouble::Malformed(what) => {
                write!(f, "{at} does not answer in HTTP ({what}): is it another service, or TLS?")
            }
            Trouble::Mismatch => write!(f, "a datagram from {at} does not contain what is expected"),
            Trouble::Dns(rcode) => match super::reason::rcode_name(*rcode) {
                Some(name) => write!(f, "DNS {name} from {at}"),
                None => write!(f, "DNS error {rcode} from {at}"),
            },
            Trouble::DnsMalformed => {
                write!(f, "what {at} sends is no answer to a DNS query: is it another service?")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_who_was_asked_and_what_happened() {
        let text = |at: &str, trouble| Direct { at: at.to_owned(), trouble }.to_string();
        let second = Duration::from_secs(1);
        assert_eq!(text("/run/x", Trouble::NoSocket), "there is no socket /run/x: is the server running?");
        assert_eq!(text("10.0.0.1:80", Trouble::Refused), "nothing listens on 10.0.0.1:80");
        assert!(text("10.0.0.1", Trouble::NoAnswer(second)).starts_with("no answer from 10.0.0.1 within 1000 ms"));
        assert_eq!(text("a", Trouble::Status(503, 200..=399)), "HTTP status 503 from a, 200 to 399 is wanted");
        assert_eq!(text("a", Trouble::Status(503, 200..=200)), "HTTP status 503 from a, 200 is wanted");
        assert_eq!(text("a", Trouble::Dns(2)), "DNS SERVFAIL from a");
        assert_eq!(text("a", Trouble::Dns(11)), "DNS error 11 from a");
    }
}

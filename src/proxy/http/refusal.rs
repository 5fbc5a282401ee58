//! Why a message is not forwarded, and what the client is told.

use std::io::Write as _;

/// A message that is not forwarded. The client gets [`response`](Refusal::response), then its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code of the answer (RFC 9110 section 15).
    pub status: u16,
    /// Why, in words.
    pub why: &'static str,
}

impl Refusal {
    /// No more than a status and a reason.
    pub const fn new(status: u16, why: &'static str) -> Refusal {
        Refusal { status, why }
    }

    /// A request that is not well-formed, or that two readers may understand differently.
    pub(super) const fn bad_request(why: &'static str) -> Refusal {
        Refusal::new(400, why)
    }

    /// A response that is not well-formed, or that two readers may understand differently.
    pub(super) const fn bad_response(why: &'static str) -> Refusal {
        Refusal::new(502, why)
    }

    /// The whole response to the client, appended to `out`; it announces that the connection will be closed. `bodiless`:
    /// the request was HEAD.
    pub fn response(&self, bodiless: bool, out: &mut Vec<u8>) {
        let Refusal { status, why } = self;
        // A Vec takes whatever is written.
        let _ = write!(
            out,
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            reason(*status),
            why.len() + 1,
        );
        if !bodiless {
            out.extend_from_slice(why.as_bytes());
            out.push(b'\n');
        }
    }
}

/// The reason phrase of a status code that the proxy itself answers with.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}

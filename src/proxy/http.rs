//! HTTP/1.0 and 1.1 for a reverse proxy (RFC 9110, RFC 9112), without sockets, clock and, once it runs, allocation.
//!
//! - [`Exchange`]: one request at a time and its response; an event loop only moves bytes by what it says.
//! - [`RequestReader`], [`ResponseReader`]: what bytes are. httparse finds the fields of a head; what it lets pass and
//!   servers may understand differently is refused here.
//! - [`h2`]: HTTP/2 from clients, each request of which is served as one of HTTP/1.1.
//! - `rewrite`: a request's head as the server gets it. `body`: where a body ends; it passes as it is.
//!
//! A message that could be understood in two ways is never forwarded: it is answered with a [`Refusal`].

mod body;
mod exchange;
mod fields;
pub mod h2;
mod head;
mod refusal;
mod request;
mod response;
mod rewrite;
mod target;
#[cfg(test)]
mod tests;

pub use body::Framing;
pub use exchange::{ClientClosed, ClientNext, Exchange, Finish, ServerClosed};
pub use head::Span;
pub use refusal::Refusal;
pub use request::{Method, RequestHead, RequestReader};
pub use response::{Asked, ResponseHead, ResponseReader, Toward};
pub use rewrite::Rewrite;

/// How much of a message is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest head, and the longest trailer section, bytes. Whoever collects the bytes needs room for so many.
    pub head: u32,
}

/// What the bytes that came begin with. They are consumed by as many as it says (the reader counts on that: it must not be
/// shown them again), then the rest is asked about, even if there is none, until it is [`More`](Step::More) or
/// [`Hold`](Step::Hold).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing that can be said yet: more bytes are needed.
    More,
    /// The next bytes are not read before the response has ended.
    Hold,
    /// Bytes that lead nowhere.
    Skip {
        /// How many.
        raw: usize,
    },
    /// A message's head: it is written anew.
    Head {
        /// Its length, bytes.
        consumed: usize,
    },
    /// Bytes of a body, to be forwarded exactly as they are.
    Body {
        /// How many.
        raw: usize,
    },
    /// A trailer field with its line end, where chunks are taken off ([`Asked::unwrap`]).
    Trailer {
        /// How many bytes.
        raw: usize,
    },
    /// The message ended before these bytes.
    End,
}

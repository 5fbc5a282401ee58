//! Whom an event is for. Event loops for connections and for datagrams number their sockets alike.

use mio::Token;

/// The main thread's, which has orders.
pub(super) const WAKER: Token = Token(usize::MAX);

/// Whom an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// There are orders.
    Waker,
    /// The socket at this place that listens, or that clients send datagrams to.
    Listener(usize),
    /// A stream of this key; where datagrams are relayed, the client at this place.
    Stream(usize),
}

/// Of the socket at place `key` among those that listen.
pub(super) fn of_listener(key: usize) -> Token {
    Token(key << 1 | 1)
}

/// Of the stream, or client of datagrams, `key`.
pub(super) fn of_stream(key: usize) -> Token {
    Token(key << 1)
}

/// Whom an event of `token` is for.
pub(super) fn whose(token: Token) -> Whose {
    match token {
        WAKER => Whose::Waker,
        Token(number) if number & 1 == 1 => Whose::Listener(number >> 1),
        Token(number) => Whose::Stream(number >> 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_whose_they_are() {
        assert_eq!(whose(WAKER), Whose::Waker);
        for key in [0, 1, 2, 77, 1 << 32] {
            assert_eq!(whose(of_listener(key)), Whose::Listener(key));
            assert_eq!(whose(of_stream(key)), Whose::Stream(key));
        }
    }
}

//! Clients that cannot be served are told so, in the protocol that they speak, and never left waiting.

use std::io::Write;

use socket2::Socket;

use super::plan::Listener;
use super::select::Why;
use crate::config::proxy::Mode;

/// Tells the client behind `socket` that it is not served; the caller closes the connection. Whoever speaks HTTP gets a
/// status (RFC 9110 sections 15.5.4, 15.6.4), everybody else the end of the connection.
pub(super) fn turn_away(socket: &Socket, listener: &Listener, why: Why) {
    if matches!(listener.config.mode, Mode::Http(_)) && listener.tls.is_none() {
        // A new connection has room for so much, and who does not read it has gone.
        let mut writer: &Socket = socket;
        let _ = writer.write(response(why));
    }
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

/// The response of HTTP that says so.
pub(super) fn response(why: Why) -> &'static [u8] {
    match why {
        Why::Denied => {
            b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 14\r\nConnection: close\r\n\r\nNot permitted\n"
        }
        _ => {
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 34\r\nConnection: close\r\nRetry-After: 5\r\n\r\nNo server can serve this just now\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_are_those_of_the_bodies() {
        for why in [Why::Denied, Why::Full] {
            let text = std::str::from_utf8(response(why)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
        }
    }
}

//! Clients that cannot be served are told so, in the protocol that they speak, and never left waiting.

use std::io::Write;

use socket2::Socket;

use super::http::Refusal;
use super::plan::Listener;
use super::select::Why;
use crate::config::proxy::Mode;

/// Tells the client behind `socket` that it is not served; the caller closes the connection. Whoever speaks HTTP gets a
/// status (RFC 9110 sections 15.5.4, 15.6.4), everybody else the end of the connection.
pub(super) fn turn_away(socket: &Socket, listener: &Listener, why: Why) {
    if matches!(listener.config.mode, Mode::Http(_)) && listener.tls.is_none() {
        // A new connection has room for so much, and who does not read it has gone.
        let mut response = Vec::new();
        refusal(why).response(false, &mut response);
        let mut writer: &Socket = socket;
        let _ = writer.write(&response);
    }
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

/// What HTTP says of it.
pub(super) fn refusal(why: Why) -> Refusal {
    match why {
        Why::Denied => Refusal::new(403, "you are not permitted to use this server"),
        _ => Refusal::new(503, "no server can serve this just now"),
    }
}

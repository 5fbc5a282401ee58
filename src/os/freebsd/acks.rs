//! Packets that carry nothing but an acknowledgement. This system decides by itself when they go.

use std::io;

use socket2::Socket;

/// Nothing.
///
/// # Errors
/// Never.
pub fn join_handshake_with_data(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Nothing.
///
/// # Errors
/// Never.
pub fn join_acks_with_answers(_: &Socket, _: bool) -> io::Result<()> {
    Ok(())
}

/// Nothing.
///
/// # Errors
/// Never.
pub fn acknowledge(_: &Socket) -> io::Result<()> {
    Ok(())
}

//! Who is at the other end of a Unix socket.

use std::io;
use std::os::unix::net::UnixStream;

use nix::unistd::{Uid, getpeereid};

/// The user who connected, or, at the end that connected, who listened (getpeereid(3)).
///
/// # Errors
/// It is not connected.
pub fn peer_user(socket: &UnixStream) -> io::Result<Uid> {
    Ok(getpeereid(socket)?.0)
}

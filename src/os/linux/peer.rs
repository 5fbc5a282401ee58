//! Who is at the other end of a Unix socket.

use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;

/// The user who connected, or, at the end that connected, who listened (SO_PEERCRED, unix(7)).
///
/// # Errors
/// It is not connected.
pub fn peer_user(socket: &UnixStream) -> io::Result<Uid> {
    Ok(Uid::from_raw(getsockopt(socket, sockopt::PeerCredentials)?.uid()))
}

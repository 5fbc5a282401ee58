//! Packets that carry nothing but an acknowledgement, and that can be had for nothing with what is sent anyway.

use std::io;

use socket2::Socket;

use super::option;

/// Has the last packet of the handshake that `socket` is about to begin wait for what is sent first. Only for those who
/// speak first, and at once: the peer accepts the connection when that comes (tcp(7), TCP_DEFER_ACCEPT, of which Linux
/// makes this for those who connect; `tcp_rcv_synsent_state_process` in net/ipv4/tcp_input.c).
///
/// # Errors
/// It is no TCP socket.
pub fn join_handshake_with_data(socket: &Socket) -> io::Result<()> {
    option::set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)
}

/// Whether connections that are accepted from `listening` acknowledge what comes first with the answer, instead of at once
/// (tcp(7), TCP_QUICKACK). Whoever has no answer to it yet calls [`acknowledge`].
///
/// # Errors
/// It is no TCP socket.
pub fn join_acks_with_answers(listening: &Socket, join: bool) -> io::Result<()> {
    listening.set_tcp_quickack(!join)
}

/// Acknowledges what has come, at once, and for a while what comes (tcp(7), TCP_QUICKACK): the peer may send more only then
/// (RFC 1122, 4.2.3.4, Nagle).
///
/// # Errors
/// It is no TCP socket.
pub fn acknowledge(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_quickack(true)
}

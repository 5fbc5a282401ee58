//! Sockets for clients' datagrams, one for each event loop: the kernel shares clients out among them.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::proxy::Address;
use crate::os;
use crate::proxy::plan::Listener;

/// Room for datagrams that wait, bytes; the system may have a lower limit.
const BUFFER: usize = 4 << 20;

/// Opens what `listener`, one for datagrams, listens on, for so many event loops.
///
/// # Errors
/// The system's; a Unix socket takes no datagrams here.
pub(in crate::proxy) fn open(listener: &Listener, loops: usize) -> io::Result<Vec<Socket>> {
    let Address::Ip(address) = listener.config.address else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "datagrams are taken at an address and port only"));
    };
    if loops > 1 {
        // Sockets that share a port would share it with another program's that has done the same.
        bound(address, false)?;
    }
    (0..loops).map(|_| bound(address, loops > 1)).collect()
}

/// Does the listener take datagrams to every address of its family?
pub(super) fn is_wildcard(listener: &Listener) -> bool {
    matches!(listener.config.address, Address::Ip(address) if address.ip().is_unspecified())
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if shared {
        os::share_port(&socket)?;
    }
    if address.is_ipv6() {
        // There is one for each family.
        socket.set_only_v6(true)?;
    }
    if address.ip().is_unspecified() {
        os::tell_local(&socket, address.is_ipv4())?;
    }
    // As much as the system lets us have.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    Ok(socket)
}

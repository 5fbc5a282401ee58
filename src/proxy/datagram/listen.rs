//! Sockets for clients' datagrams, one for each event loop: the kernel shares clients out among them.

use std::io;

use socket2::{Socket, Type};

use crate::config::proxy::Address;
use crate::os;
use crate::proxy::listen::bound;
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
    bound(address, loops, Type::DGRAM, |socket| {
        if address.ip().is_unspecified() {
            os::tell_local(socket, address.is_ipv4())?;
        }
        // As much as the system lets us have.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        Ok(())
    })
}

/// Does the listener take datagrams to every address of its family?
pub(super) fn is_wildcard(listener: &Listener) -> bool {
    matches!(listener.config.address, Address::Ip(address) if address.ip().is_unspecified())
}

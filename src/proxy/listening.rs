//! The sockets that an event loop listens on, for connections or for datagrams: which of them another snapshot of the
//! configuration keeps, which go, and which come. [`super::listen`] opens them.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use slab::Slab;
use socket2::Socket;

use super::plan::{Listener, Plan};
use super::shared::{Shared, Trouble};
use super::token;

/// A socket that listens.
pub(super) struct Listening {
    pub(super) socket: Socket,
    pub(super) listener: Arc<Listener>,
    /// Connections, or datagrams, may wait.
    pub(super) ready: bool,
}

/// Goes on by `plan` with those that are in it; they keep their sockets. Returns the places of the others, which the loop
/// has to close.
pub(super) fn renew(listeners: &mut Slab<Listening>, plan: &Plan) -> Vec<usize> {
    let mut gone = Vec::new();
    for (place, listening) in listeners {
        match plan.listener(&listening.listener.config) {
            Some(listener) => {
                listener.prepare(&listening.socket);
                listening.listener = Arc::clone(listener);
            }
            None => gone.push(place),
        }
    }
    gone
}

/// Listens on `sockets`, too, which are for the listeners at these places of `plan`. One whose events cannot be told is
/// left out, and the main thread is told.
pub(super) fn add(
    listeners: &mut Slab<Listening>,
    plan: &Plan,
    sockets: Vec<(usize, Socket)>,
    registry: &Registry,
    shared: &Shared,
) {
    for (index, socket) in sockets {
        let Some(listener) = plan.listeners.get(index) else { continue };
        listener.prepare(&socket);
        let entry = listeners.vacant_entry();
        let token = token::of_listener(entry.key());
        match registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE) {
            Ok(()) => drop(entry.insert(Listening { socket, listener: Arc::clone(listener), ready: true })),
            Err(e) => shared.tell(Trouble::Short(format!("{}: {e}", listener.config.setting()))),
        }
    }
}

//! A client and its server: the socket between the proxy and the server, and how it is found.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, Socket, Type};

use super::tally::Reason;
use crate::os::Local;
use crate::proxy::core::{bind_source, is_own_fault};
use crate::proxy::descriptors::reserved;
use crate::proxy::plan::{Listener, Target};
use crate::proxy::select::{self, Tried};
use crate::proxy::server::Engaged;
use crate::proxy::shared::{Admitted, Shared, Trouble};
use crate::proxy::token;

/// That a server does not want a datagram is told within this time, or it means another one.
const REFUSAL: Duration = Duration::from_secs(3);
/// So often, at most, it is told that this host is short of something.
const TOLD: Duration = Duration::from_secs(10);

/// What clients are known by: the place of the listener's socket, their address, and which address of ours they speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) listening: usize,
    pub(super) address: SocketAddr,
    pub(super) local: Option<Local>,
}

/// What all clients of a loop work with.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Registry,
    /// The time of this round of events.
    pub(super) now: Instant,
    /// When the main thread was last told that this host is short of something.
    pub(super) told: Cell<Option<Instant>>,
}

impl Core {
    /// Tells the main thread that this host is short of something; not for every datagram that shows it.
    pub(super) fn short(&self, what: impl FnOnce() -> String) {
        if self.told.get().is_none_or(|told| self.now.saturating_duration_since(told) >= TOLD) {
            self.told.set(Some(self.now));
            self.shared.tell(Trouble::Short(what()));
        }
    }
}

/// A client that is being served.
pub(super) struct Client {
    pub(super) key: Key,
    pub(super) began: Instant,
    /// Where it came to, as that was then.
    pub(super) listener: Arc<Listener>,
    pub(super) link: Link,
    /// Datagrams and bytes from it, and to it.
    pub(super) from: (u64, u64),
    pub(super) to: (u64, u64),
    /// Who could not serve it since a server has answered.
    tried: Tried,
    /// The last datagram that has gone to the server and was not answered yet, and when.
    unanswered: Option<Instant>,
    kept: Vec<u8>,
    _admitted: Admitted,
}

/// The way to a server.
pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) target: Target,
    _engaged: Engaged,
}

impl Client {
    /// A new one, which gets `place`.
    ///
    /// # Errors
    /// Why there is no server for it.
    pub(super) fn begin(
        core: &Core,
        listener: &Arc<Listener>,
        key: Key,
        place: usize,
        admitted: Admitted,
    ) -> Result<Client, Reason> {
        let mut tried = Tried::new();
        let link = Link::new(core, listener, &key, place, &mut tried)?;
        listener.served(&selected(&key), link.target.server.id, core.now);
        Ok(Client {
            key,
            began: core.now,
            listener: Arc::clone(listener),
            link,
            from: (0, 0),
            to: (0, 0),
            tried,
            unanswered: None,
            kept: Vec::new(),
            _admitted: admitted,
        })
    }

    /// Its server has failed by `error`, or cannot be asked any more: another one serves it from now on.
    ///
    /// # Errors
    /// There is no other one; it has the old one still.
    pub(super) fn change_server(&mut self, core: &Core, listener: &Listener, place: usize) -> Result<(), Reason> {
        // The address of a transparent socket is free only when the old one is gone.
        if listener.config.transparent {
            let any = Socket::new(Domain::for_address(self.key.address), Type::DGRAM, None);
            self.link.socket = any.map_err(|_| Reason::Short)?;
        }
        self.link = Link::new(core, listener, &self.key, place, &mut self.tried)?;
        listener.served(&selected(&self.key), self.link.target.server.id, core.now);
        Ok(())
    }

    /// These datagrams went to the server, `last` at the end.
    pub(super) fn sent(&mut self, core: &Core, count: u64, bytes: u64, last: &[u8]) {
        self.from = (self.from.0 + count, self.from.1 + bytes);
        self.link.target.server.sent.fetch_add(bytes, Relaxed);
        self.unanswered = Some(core.now);
        self.kept.clear();
        self.kept.extend_from_slice(last);
    }

    /// The server has answered by so many.
    pub(super) fn answered(&mut self, count: u64, bytes: u64) {
        self.to = (self.to.0 + count, self.to.1 + bytes);
        self.link.target.server.received.fetch_add(bytes, Relaxed);
        self.unanswered = None;
        self.tried = Tried::new();
    }

    /// Is there nothing that the server might still answer?
    pub(super) fn is_answered(&self) -> bool {
        self.unanswered.is_none()
    }

    /// The datagram that the server has just said it does not want.
    pub(super) fn refused(&self, now: Instant) -> Option<&[u8]> {
        self.unanswered.filter(|&sent| now.saturating_duration_since(sent) <= REFUSAL).map(|_| self.kept.as_slice())
    }

    /// The servers' numbers have changed.
    pub(super) fn forget_tried(&mut self) {
        self.tried = Tried::new();
    }

    /// The server does not serve: it is left out for a while, if that is its fault.
    pub(super) fn server_failed(&self, core: &Core, listener: &Listener, error: &io::Error) {
        failed(core, listener, &self.link.target, error);
    }
}

impl Link {
    /// To a server that is not among those `tried`.
    fn new(core: &Core, listener: &Listener, key: &Key, place: usize, tried: &mut Tried) -> Result<Link, Reason> {
        loop {
            let (target, engaged) = listener.engage(&selected(key), tried, core.now)?;
            let target = target.clone();
            let Some(address) = target.address.as_socket() else {
                core.short(|| {
                    let setting = listener.config.setting();
                    format!("{setting}: server {} is a Unix socket, which takes no datagrams", target.server.name)
                });
                continue;
            };
            match connect(core, listener, key, address, place) {
                Ok(socket) => {
                    target.server.made.fetch_add(1, Relaxed);
                    return Ok(Link { socket, target, _engaged: engaged });
                }
                Err(e) => {
                    failed(core, listener, &target, &e);
                    if is_own_fault(&e) {
                        return Err(Reason::Short);
                    }
                }
            }
        }
    }
}

fn selected(key: &Key) -> select::Client {
    select::Client { address: Some(key.address.ip().to_canonical()), port: key.address.port() }
}

fn connect(core: &Core, listener: &Listener, key: &Key, server: SocketAddr, place: usize) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(server), kind, Some(Protocol::UDP))?;
    if socket.as_raw_fd() >= reserved() {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    bind_source(&socket, listener, Some(key.address), server)?;
    socket.connect(&server.into())?;
    core.registry.register(&mut SourceFd(&socket.as_raw_fd()), token::of_stream(place), Interest::READABLE)?;
    Ok(socket)
}

fn failed(core: &Core, listener: &Listener, target: &Target, error: &io::Error) {
    let server = &target.server;
    if is_own_fault(error) {
        core.short(|| format!("{}: no socket to server {}: {error}", listener.config.setting(), server.name));
        return;
    }
    server.failed.fetch_add(1, Relaxed);
    core.shared.leave_out(target, listener.settings.timeouts.blacklist, error, core.now);
}

//! The control socket: takes commands over Unix sockets and TCP, hands them to the main loop, and passes its replies on.
//!
//! One thread for each address accepts, one for each connection reads lines. A command goes to the main loop through a
//! bounded channel, with a channel of its own for the reply. What comes over a Unix socket is the owner's (mode 0600);
//! over TCP an access list decides, at accept and again before each command.

mod bind;
mod connection;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::User;
use parking_lot::{Condvar, Mutex, RwLock};
use socket2::Socket;
use tracing::{debug, error, warn};

use crate::config::ControlAddress;
use crate::control::wire::Request;
use crate::failure::{Failure, Sysexit};
use crate::lb::acl::Acl;

use bind::{Listener, SocketFile};

/// The list that those who come over TCP have to pass; `None`: nobody does. It may be replaced at any time.
pub type ControlAcl = Arc<RwLock<Option<Arc<Acl>>>>;

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Of those, the ones that TCP never gets, so that the owner always comes in by the Unix socket.
    pub reserved: usize,
    /// Bytes in a line, without its end.
    pub line: usize,
    /// How long a client may take to send a line, or to read a reply.
    pub idle: Duration,
    /// How long the main loop may take to reply.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 32,
            reserved: 8,
            line: 64 * 1024,
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(10),
        }
    }
}

/// How long connections get to pass on their last replies when the server ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long accepting pauses when the system has no room for another connection.
const ACCEPT_PAUSE_MS: u16 = 1000;

/// Sockets that are bound and listen, but that nobody serves yet: no thread runs. To be opened while still privileged,
/// and served when the process is the one that it will be (user, background).
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Opens `addresses`; Unix sockets belong to `owner`, if one is given, and have mode 0600 from their first moment.
    ///
    /// # Errors
    /// One cannot be opened. Sockets that a process left behind are replaced; one that is in use, or a file that is
    /// none, stays and is an error.
    pub fn open(addresses: &[ControlAddress], owner: Option<&User>) -> Result<Listeners, Failure> {
        addresses.iter().map(|address| bind::open(address, owner, false)).collect::<Result<_, _>>().map(Listeners)
    }

    /// As [`Listeners::open`], but in place of the Unix sockets of the process that this one succeeds.
    ///
    /// # Errors
    /// As [`Listeners::open`]; addresses of TCP cannot be succeeded to.
    pub fn succeed(addresses: &[ControlAddress], owner: Option<&User>) -> Result<Listeners, Failure> {
        addresses.iter().map(|address| bind::open(address, owner, true)).collect::<Result<_, _>>().map(Listeners)
    }

    /// Starts to accept. The receiver gives what is asked for; it stays open as long as the server is there. Keep it as
    /// long: who waits in it when it is dropped hears nothing until his time is up or the server ends.
    ///
    /// # Errors
    /// The system gives no threads or descriptors.
    pub fn serve(self, acl: ControlAcl, limits: Limits) -> Result<(Server, Receiver<Request>), Failure> {
        let os_error = |e: io::Error| Failure::new(Sysexit::OsErr, format!("commands cannot be taken: {e}"));
        // Each connection waits for its reply before it asks again.
        let (requests, receiver) = bounded(limits.connections);
        let (stop, stopped) = bounded(0);
        let (wake, woken) = UnixStream::pair().map_err(os_error)?;
        let woken = Arc::new(woken);
        let shared = Arc::new(Shared {
            limits,
            acl,
            requests,
            stopped,
            places: Mutex::new(vec![None; limits.connections]),
            freed: Condvar::new(),
            refused: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        });
        let mut server = Server {
            shared,
            stop: Some((stop, wake)),
            acceptors: Vec::new(),
            files: Vec::new(),
            addresses: self.0.iter().map(|listener| listener.address.clone()).collect(),
        };
        for (number, mut listener) in self.0.into_iter().enumerate() {
            server.files.extend(listener.file.take());
            let (shared, woken) = (Arc::clone(&server.shared), Arc::clone(&woken));
            let accept = move || accept(&shared, &listener, &woken);
            let thread = thread::Builder::new().name(format!("ctl-accept-{number}")).spawn(accept);
            server.acceptors.push(thread.map_err(os_error)?);
        }
        Ok((server, receiver))
    }
}

/// Takes commands until it is dropped. Then its sockets go, what waits for a reply hears that the balancer ends, and
/// replies that were given already still get to their clients.
pub struct Server {
    shared: Arc<Shared>,
    /// Closed, both say that it is over: one to those that wait in a select, one to those that wait in a poll.
    stop: Option<(Sender<()>, UnixStream)>,
    acceptors: Vec<JoinHandle<()>>,
    files: Vec<SocketFile>,
    addresses: Vec<ControlAddress>,
}

impl Server {
    /// Opens `addresses` and serves them at once, within the usual limits: [`Listeners::open`], [`Listeners::serve`].
    ///
    /// # Errors
    /// Theirs.
    pub fn listen(
        addresses: &[ControlAddress],
        owner: Option<&User>,
        acl: ControlAcl,
    ) -> Result<(Server, Receiver<Request>), Failure> {
        Listeners::open(addresses, owner)?.serve(acl, Limits::default())
    }

    /// Where commands are taken, with the ports that TCP really has.
    pub fn addresses(&self) -> &[ControlAddress] {
        &self.addresses
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.places.lock().iter().flatten().count()
    }

    /// Connections that the access list did not permit, so far.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Connections that there was no room for, so far.
    pub fn turned_away(&self) -> u64 {
        self.shared.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // No new ones.
        self.files.clear();
        self.stop = None;
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
        // The end of what clients have to say ends those that wait for it.
        let mut places = self.shared.places.lock();
        for socket in places.iter().flatten() {
            let _ = socket.shutdown(std::net::Shutdown::Read);
        }
        let until = Instant::now() + FAREWELL;
        while places.iter().any(Option::is_some) && !self.shared.freed.wait_until(&mut places, until).timed_out() {}
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// What all threads of a server know.
struct Shared {
    limits: Limits,
    acl: ControlAcl,
    requests: Sender<Request>,
    /// Gives an error as soon as the server ends; never anything else.
    stopped: Receiver<()>,
    /// The sockets of the connections.
    places: Mutex<Vec<Option<Arc<Socket>>>>,
    /// A place has become free.
    freed: Condvar,
    refused: AtomicU64,
    turned_away: AtomicU64,
}

impl Shared {
    /// May `peer` give commands? Who is not anybody on the network came over a Unix socket: he may.
    fn permits(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|peer| self.acl.read().as_ref().is_some_and(|acl| acl.permits(peer.to_canonical())))
    }

    /// Takes a place for a connection, if there is one for its kind.
    fn place(self: &Arc<Shared>, socket: &Arc<Socket>, trusted: bool) -> Option<Place> {
        let mut places = self.places.lock();
        let kept = if trusted { 0 } else { self.limits.reserved };
        if places.iter().filter(|place| place.is_none()).count() <= kept {
            return None;
        }
        let (number, place) = places.iter_mut().enumerate().find(|(_, place)| place.is_none())?;
        *place = Some(Arc::clone(socket));
        Some(Place { shared: Arc::clone(self), number })
    }
}

/// A connection's place among the others, free again when this is dropped.
struct Place {
    shared: Arc<Shared>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.shared.places.lock().get_mut(self.number) {
            *place = None;
        }
        self.shared.freed.notify_all();
    }
}

/// Accepts connections until the other end of `stop` is closed.
fn accept(shared: &Arc<Shared>, listener: &Listener, stop: &UnixStream) {
    let address = &listener.address;
    let mut troubled = false;
    loop {
        let mut ready =
            [PollFd::new(stop.as_fd(), PollFlags::POLLIN), PollFd::new(listener.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(e) => return error!("{address}: no more commands are taken: {e}"),
        }
        if ready.first().is_some_and(|stop| stop.any().unwrap_or(true)) {
            return;
        }
        match listener.socket.accept() {
            Ok((socket, from)) => {
                troubled = false;
                admit(shared, address, socket, from.as_socket().map(|from| from.ip()));
            }
            // Somebody came and went before we looked.
            Err(e)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted, io::ErrorKind::ConnectionAborted]
                    .contains(&e.kind()) => {}
            Err(e) => {
                if !std::mem::replace(&mut troubled, true) {
                    warn!("{address}: nobody can give commands for now: {e}");
                }
                let mut stop = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut stop, ACCEPT_PAUSE_MS);
            }
        }
    }
}

/// Gives a connection a thread, or closes it.
fn admit(shared: &Arc<Shared>, address: &ControlAddress, socket: Socket, from: Option<IpAddr>) {
    let trusted = matches!(address, ControlAddress::Unix(_));
    if !trusted && !from.is_some_and(|from| shared.permits(Some(from))) {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        let from = from.map_or_else(|| "somebody".to_owned(), |from| from.to_string());
        return debug!("{address}: {from} is not permitted to give commands");
    }
    let peer = from.filter(|_| !trusted);
    let socket = Arc::new(socket);
    let Some(place) = shared.place(&socket, trusted) else {
        shared.turned_away.fetch_add(1, Ordering::Relaxed);
        debug!("{address}: too many connections");
        return connection::turn_away(&socket);
    };
    let name = format!("ctl-conn-{}", place.number);
    let serve = move || {
        connection::serve(&place.shared, &socket, peer);
        // The place has the other hold on it: once that is free, the socket is closed.
        drop(socket);
    };
    if let Err(e) = thread::Builder::new().name(name).spawn(serve) {
        warn!("{address}: no thread for another connection: {e}");
    }
}

//! What an event loop's sessions work with: streams, their registration, the wheel, shared memory, the snapshot.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use mio::Registry;
use slab::Slab;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::access::{About, End, Entry, Recorder};
use super::flow::Supplies;
use super::http_session::{Idle, Pool};
use super::memory::Memory;
use super::plan::{Listener, Target};
use super::proxy_header;
use super::queue::Queue;
use super::select::{Client, Tried, Why};
use super::server::Engaged;
use super::shared::{Shared, Trouble};
use super::stream::{Owner, Side, Stream};
use super::token;
use super::wheel::{Tick, Wheel};
use crate::config::proxy::{Mode, ProxyHeader, source_of};
use crate::os;

/// Whom a session is with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    /// The client's address: its own, or what a PROXY header says; `None` for a Unix socket's.
    pub(super) address: Option<SocketAddr>,
    /// Where it connected to, by the PROXY header; `None`: as the socket says.
    pub(super) local: Option<SocketAddr>,
}

impl Peer {
    /// What selection needs to know of it.
    pub(super) fn client(&self) -> Client {
        Client { address: self.ip(), port: self.address.map_or(0, |a| a.port()) }
    }

    /// Its address, an IPv4 one as such.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }
}

/// What all sessions of a loop work with.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Registry,
    pub(super) streams: Slab<Stream>,
    /// Streams to be closed after this round of events.
    pub(super) gone: Vec<usize>,
    /// The places of those of them that are to servers: each is free once its connection is closed.
    pub(super) leaving: Vec<Engaged>,
    pub(super) wheel: Wheel,
    pub(super) supplies: Supplies,
    /// The time of this round of events.
    pub(super) now: Instant,
    /// The same as a tick.
    pub(super) tick: Tick,
    /// Sessions whose turn is over, and that have more to do.
    pub(super) again: Vec<usize>,
    /// Sessions that begin after this one's turn: requests within its connection.
    pub(super) births: Vec<Birth>,
    /// Connections to servers that are being made.
    pub(super) pending: u32,
    /// So many at most.
    pub(super) most_pending: u32,
    /// Much happens at a time: what saves work is worth more than what overlaps with others' work.
    pub(super) crowded: bool,
    /// Requests that wait for a place at a server.
    pub(super) queue: Queue,
    /// Connections end as soon as they can.
    pub(super) draining: bool,
    /// Connections to servers that wait for requests.
    pub(super) pool: Pool,
    /// Where lines of the access log go.
    pub(super) recorder: Option<Recorder>,
}

/// A request within another connection, for which a session is to begin.
pub(super) struct Birth {
    pub(super) listener: Arc<Listener>,
    pub(super) peer: Peer,
    /// The session that carries it.
    pub(super) parent: usize,
    pub(super) memory: Rc<RefCell<Memory>>,
}

/// A connection to a server that is being made.
#[derive(Debug)]
pub(super) struct Started {
    /// Its stream.
    pub(super) stream: usize,
    /// To whom.
    pub(super) target: Target,
    /// Its place there.
    pub(super) engaged: Engaged,
    /// It is made already.
    pub(super) connected: bool,
}

impl Core {
    /// With no streams.
    pub(super) fn new(shared: Arc<Shared>, registry: Registry) -> Core {
        let now = Instant::now();
        let queue = Queue::new(shared.epoch, Arc::clone(&shared.waits));
        Core {
            shared,
            registry,
            streams: Slab::new(),
            gone: Vec::new(),
            leaving: Vec::new(),
            wheel: Wheel::new(now),
            supplies: Supplies::new(),
            now,
            tick: 0,
            again: Vec::new(),
            births: Vec::new(),
            pending: 0,
            most_pending: u32::MAX,
            crowded: false,
            queue,
            draining: false,
            pool: Pool::default(),
            recorder: None,
        }
    }

    /// A stream of `owner`'s, whose readiness is told.
    pub(super) fn adopt(&mut self, stream: Stream) -> io::Result<usize> {
        let entry = self.streams.vacant_entry();
        let key = entry.key();
        stream.register(&self.registry, token::of_stream(key))?;
        entry.insert(stream);
        Ok(key)
    }

    /// Closes a stream, after this round of events.
    pub(super) fn close(&mut self, key: usize) {
        if let Some(stream) = self.streams.get_mut(key)
            && stream.owner != Owner::Gone
        {
            stream.owner = Owner::Gone;
            self.gone.push(key);
        }
    }

    /// Closes a connection to a server, whose place is free after that.
    pub(super) fn close_and_leave(&mut self, stream: usize, engaged: Engaged) {
        self.close(stream);
        self.leaving.push(engaged);
    }

    /// Closes a connection that was kept ready.
    pub(super) fn discard(&mut self, idle: Idle) {
        self.close_and_leave(idle.stream, idle.kept.place());
    }

    /// What was closed is gone, and leaves room for others.
    pub(super) fn bury(&mut self) {
        for key in self.gone.drain(..) {
            self.streams.remove(key);
        }
        if !self.leaving.is_empty() {
            self.leaving.clear();
            self.queue.stir();
        }
    }

    /// Connections that are kept ready go, where a new one would else be one too many: this loop's, else those of others.
    pub(super) fn make_way(&mut self, engaged: &Engaged) {
        while engaged.crowds() {
            let Some(idle) = self.pool.any(engaged.server().id) else { return self.shared.wake_loops() };
            self.end_at_once(idle.stream);
        }
    }

    /// The same, for those whom other loops' new connections have no room beside.
    pub(super) fn make_way_for_all(&mut self) {
        for stream in self.pool.make_way() {
            self.end_at_once(stream);
        }
    }

    /// Closes a connection, of which the server hears before it hears of the next one.
    fn end_at_once(&mut self, key: usize) {
        if let Some(socket) = self.streams[key].socket() {
            // One that is gone already need not be told.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.close(key);
    }

    /// Are as many connections to servers being made as may be? Who connects then is refused: it would only wait.
    pub(super) fn is_overloaded(&self) -> bool {
        self.pending >= self.most_pending
    }

    /// Begins to connect to a server of `listener`'s that is not among those `tried`, for session `key`. A server that
    /// refuses at once is left out for a while, and another tried.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn dial(
        &mut self,
        key: usize,
        listener: &Listener,
        peer: &Peer,
        tried: &mut Tried,
    ) -> Result<Started, Why> {
        loop {
            let (target, engaged) = listener.engage(&peer.client(), tried, self.now)?;
            let target = target.clone();
            // Where HTTP is read, one that waits may have served requests; whoever dials wants a new one.
            if listener.config.mode == Mode::Stream
                && let Some(stream) = self.take_ready(listener, target.server.id)
            {
                self.streams[stream].owner = Owner::Session(key, Side::Server);
                return Ok(Started { stream, target, engaged, connected: true });
            }
            self.make_way(&engaged);
            match self.connect(Owner::Session(key, Side::Server), listener, peer, &target) {
                Ok((stream, connected)) => return Ok(Started { stream, target, engaged, connected }),
                Err(e) => self.failed(listener, &target, &e),
            }
        }
    }

    /// A connection that was made before it was wanted, and that the server has not closed since.
    fn take_ready(&mut self, listener: &Listener, id: u32) -> Option<usize> {
        while let Some(idle) = self.pool.take(listener, id) {
            if self.streams[idle.stream].is_alive() {
                return Some(idle.stream);
            }
            self.discard(idle);
        }
        None
    }

    /// Begins to connect to `target`; the stream, and whether it is connected already.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn connect(
        &mut self,
        owner: Owner,
        listener: &Listener,
        peer: &Peer,
        target: &Target,
    ) -> io::Result<(usize, bool)> {
        let joins = self.crowded && matches!(owner, Owner::Session(..));
        let mut socket = bound(listener, peer.address, target, joins)?;
        let mut result = socket.connect(&target.address);
        // A client that comes from one port to two listeners can have that port with a server only once.
        if let (Err(e), Some(client)) = (&result, peer.address)
            && listener.config.transparent
            && matches!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE))
        {
            socket = bound(listener, Some(SocketAddr::new(client.ip(), 0)), target, joins)?;
            result = socket.connect(&target.address);
        }
        let connected = match result {
            Ok(()) => true,
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => false,
            Err(e) => return Err(e),
        };
        let mut stream = Stream::new(socket, owner, target.address.is_unix());
        if listener.settings.tcp.nodelay {
            stream.send_at_once();
        }
        stream.writable = connected;
        stream.owes_ack = joins;
        let stream = self.adopt(stream)?;
        Ok((stream, connected))
    }

    /// A connection to a server is there: what comes before anything else on it. `client` is the client's stream.
    ///
    /// # Errors
    /// It cannot be: nothing may go over it.
    pub(super) fn begin_upstream(
        &mut self,
        stream: usize,
        listener: &Listener,
        peer: &Peer,
        client: usize,
        target: &Target,
    ) -> io::Result<()> {
        // A request, a PROXY header and TLS go at once, and take the last packet of the handshake along.
        let config = &listener.config;
        let speaks = config.mode != Mode::Stream || config.send_proxy.is_some() || listener.backend_tls.is_some();
        let connection = &mut self.streams[stream];
        connection.owes_ack &= !speaks;
        connection.writable = true;
        if let Some(version) = config.send_proxy {
            let header = self.proxy_header(version, peer, client);
            // It goes in front of everything, TLS included. A new connection has room for it.
            if self.streams[stream].write_raw(&header)? < header.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        match &listener.backend_tls {
            Some(tls) => self.streams[stream].start_tls(tls, &target.host),
            None => Ok(()),
        }
    }

    /// The PROXY header that tells a server of the client behind `stream`.
    fn proxy_header(&self, version: ProxyHeader, peer: &Peer, stream: usize) -> Vec<u8> {
        let local = || self.streams[stream].socket()?.local_addr().ok()?.as_socket();
        let mut header = Vec::new();
        proxy_header::write(version, peer.address, peer.local.or_else(local), &mut header);
        header
    }

    /// One line for a client that was accepted at `began`, and not served.
    pub(super) fn record_unserved(&mut self, listener: &Listener, peer: &Peer, began: Instant, end: End) {
        let Some(recorder) = &mut self.recorder else { return };
        let total = self.now.saturating_duration_since(began);
        recorder.record(&Entry {
            client: peer.address,
            listener: &listener.name,
            server: None,
            start: SystemTime::now() - total,
            connect: None,
            total,
            received: 0,
            sent: 0,
            end,
            about: About::Stream(&[]),
        });
    }

    /// A server could not be connected to: it is left out for a while, if that was its fault.
    pub(super) fn failed(&self, listener: &Listener, target: &Target, error: &io::Error) {
        let server = &target.server;
        if is_own_fault(error) {
            let what = format!("{}: no socket to server {}: {error}", listener.config.setting(), server.name);
            self.shared.tell(Trouble::Short(what));
            return;
        }
        server.failed.fetch_add(1, Relaxed);
        self.shared.leave_out(target, listener.settings.timeouts.blacklist, error, self.now);
    }
}

/// A socket for a connection to a server, with the address that it is to come from. `joins_ack`: its
/// handshake's last packet goes with what is sent first, or when it is told to.
fn bound(listener: &Listener, client: Option<SocketAddr>, target: &Target, joins_ack: bool) -> io::Result<Socket> {
    let socket = open(&target.address)?;
    if let Some(server) = target.address.as_socket() {
        if joins_ack {
            // It is cheaper, that is all.
            let _ = os::join_handshake_with_data(&socket);
        }
        bind_source(&socket, listener, client, server)?;
    }
    Ok(socket)
}

/// Gives `socket`, which is to connect to `server`, the address that servers of `listener` are to see: the client's, one of
/// this host's, or none.
pub(super) fn bind_source(
    socket: &Socket,
    listener: &Listener,
    client: Option<SocketAddr>,
    server: SocketAddr,
) -> io::Result<()> {
    if listener.config.transparent
        && let Some(client) = client
    {
        os::bind_foreign(socket, client)
    } else if let Some(source) = source_of(&listener.config.source, server.is_ipv4()) {
        socket.bind(&SocketAddr::new(source, 0).into())
    } else {
        Ok(())
    }
}

fn open(address: &SockAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    match address.as_socket() {
        Some(address) => Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP)),
        None => Socket::new_raw(Domain::UNIX, kind, None),
    }
}

/// Is it this host that has no room, rather than the server that does not serve?
pub(super) fn is_own_fault(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EADDRINUSE
                | libc::EAGAIN
                | libc::EPERM
                | libc::EINVAL
        )
    )
}

//! Sockets that listen, one for each event loop: the kernel shares connections out among them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};
use tracing::warn;

use super::handover::Taken;
use super::plan::{Listener, Plan};
use crate::config::proxy::{Address, TransportProtocol};
use crate::failure::{Failure, Sysexit};
use crate::os;

/// For each event loop the sockets, by the listeners' places.
pub(super) type Opened = Vec<Vec<(usize, Socket)>>;

/// Opens what the listeners of `plan` at these `places` listen on, for `loops` event loops: for each of them the sockets,
/// by the listeners' places. What was `taken` from the process before this one is not opened anew.
///
/// # Errors
/// The first address that cannot be listened on.
pub(super) fn open(
    plan: &Plan,
    places: &[usize],
    loops: usize,
    mut taken: Option<&mut Taken>,
) -> Result<Vec<Vec<(usize, Socket)>>, Failure> {
    let mut all: Vec<Vec<(usize, Socket)>> = (0..loops).map(|_| Vec::new()).collect();
    for &place in places {
        let listener = &plan.listeners[place];
        let known = taken.as_mut().map_or_else(Vec::new, |taken| taken.of(&listener.config.setting()));
        let sockets = if known.is_empty() {
            sockets(listener, loops)
        } else {
            shared_out(known, loops, listener.config.transport)
        };
        let sockets = match sockets {
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) && has_twin(plan, listener) => {
                warn!("the proxy does not listen at {}: this system has no IPv6", listener.config.address);
                continue;
            }
            sockets => sockets.map_err(|e| refused(listener, &e))?,
        };
        // More of them than loops: connections may be waiting in each.
        for (index, socket) in sockets.into_iter().enumerate() {
            all[index % loops].push((place, socket));
        }
    }
    Ok(all)
}

/// Is `listener` every IPv6 address, beside one for every IPv4 address? A port alone is both, also where there is no IPv6.
fn has_twin(plan: &Plan, listener: &Listener) -> bool {
    let every = |listener: &Listener| match listener.config.address {
        Address::Ip(address) if address.ip().is_unspecified() => Some((address.is_ipv4(), address.port())),
        _ => None,
    };
    let is_twin = |other: &Listener, port| {
        every(other) == Some((true, port)) && other.config.transport == listener.config.transport
    };
    matches!(every(listener), Some((false, port)) if plan.listeners.iter().any(|other| is_twin(other, port)))
}

/// The sockets of another process, for so many event loops: all of them, and each loop gets one.
fn shared_out(known: Vec<OwnedFd>, loops: usize, transport: TransportProtocol) -> io::Result<Vec<Socket>> {
    let mut sockets: Vec<Socket> = known.into_iter().map(Socket::from).collect();
    if transport == TransportProtocol::Udp {
        // Who read a client's datagrams would be a matter of chance: some loops go without.
        return Ok(sockets);
    }
    for index in sockets.len()..loops {
        sockets.push(sockets[index % sockets.len()].try_clone()?);
    }
    Ok(sockets)
}

/// Of sockets that were opened: those for connections, and those for datagrams.
pub(super) fn divide(plan: &Plan, sockets: Vec<Vec<(usize, Socket)>>) -> (Opened, Opened) {
    let is_stream = |(place, _): &(usize, Socket)| {
        plan.listeners.get(*place).is_none_or(|listener| listener.config.transport == TransportProtocol::Tcp)
    };
    sockets.into_iter().map(|one| one.into_iter().partition(is_stream)).unzip()
}

fn sockets(listener: &Listener, loops: usize) -> io::Result<Vec<Socket>> {
    if listener.config.transport == TransportProtocol::Udp {
        return super::datagram::open(listener, loops);
    }
    match &listener.config.address {
        Address::Unix(path) => {
            let socket = unix(path, listener)?;
            (0..loops).map(|_| socket.try_clone()).collect()
        }
        Address::Ip(address) => {
            // Addresses of connections that have ended may still be in use.
            let sockets = bound(*address, loops, Type::STREAM, |socket| socket.set_reuse_address(true))?;
            sockets.iter().try_for_each(|socket| socket.listen(backlog(listener)))?;
            Ok(sockets)
        }
    }
}

fn backlog(listener: &Listener) -> i32 {
    i32::try_from(listener.settings.limits.backlog).unwrap_or(i32::MAX)
}

/// So many sockets of this `kind` with the same address, each `set_up` before it gets it.
pub(super) fn bound(
    address: SocketAddr,
    sockets: usize,
    kind: Type,
    set_up: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<Vec<Socket>> {
    let one = |shared: bool| {
        let socket = Socket::new_raw(Domain::for_address(address), kind.nonblocking().cloexec(), None)?;
        if shared {
            os::share_port(&socket)?;
        }
        if address.is_ipv6() {
            // There is one for each family.
            socket.set_only_v6(true)?;
        }
        set_up(&socket)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    if sockets > 1 {
        // Those that share a port would share it with another program's that has done the same.
        one(false)?;
    }
    (0..sockets).map(|_| one(sockets > 1)).collect()
}

fn unix(path: &Path, listener: &Listener) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let kind = Type::STREAM.nonblocking().cloexec();
    // One that nobody listens on is left over; whatever else is there stays.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let probe = Socket::new_raw(Domain::UNIX, kind, None)?;
        if probe.connect(&address).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            fs::remove_file(path)?;
        }
    }
    let socket = Socket::new_raw(Domain::UNIX, kind, None)?;
    socket.bind(&address)?;
    socket.listen(backlog(listener))?;
    Ok(socket)
}

/// Is there something at a path that is no socket?
fn is_occupied(address: &Address) -> bool {
    let Address::Unix(path) = address else { return false };
    fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket())
}

fn refused(listener: &Listener, error: &io::Error) -> Failure {
    let (code, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse if is_occupied(&listener.config.address) => {
            (Sysexit::CantCreat, "something else that is no socket is there; remove it, or name another path")
        }
        io::ErrorKind::AddrInUse => (Sysexit::Unavailable, "another program has it; stop that one, or name another"),
        io::ErrorKind::AddrNotAvailable => {
            (Sysexit::Unavailable, "it is no address of this host; name one that is, or 0.0.0.0 or [::] for all")
        }
        io::ErrorKind::PermissionDenied => (Sysexit::NoPerm, "start as root, or take a port above 1023"),
        io::ErrorKind::NotFound => (Sysexit::CantCreat, "create its folder first"),
        _ => (Sysexit::OsErr, "name another"),
    };
    Failure::new(code, format!("{}: {error}: {remedy}", listener.config.setting()))
}

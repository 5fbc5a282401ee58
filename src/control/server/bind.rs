//! Sockets to listen on.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, umask};
use nix::unistd::{User, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::ControlAddress;
use crate::failure::{Failure, Sysexit};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket that listens, does not block, and is of nobody's concern yet.
#[derive(Debug)]
pub(super) struct Listener {
    pub socket: Socket,
    /// With the port that it really has.
    pub address: ControlAddress,
    /// A Unix socket's file.
    pub file: Option<SocketFile>,
}

/// Opens a socket at `address`; a Unix socket's file belongs to `owner`.
///
/// `succeeds`: from the process that this one succeeds, which still listens there.
pub(super) fn open(address: &ControlAddress, owner: Option<&User>, succeeds: bool) -> Result<Listener, Failure> {
    let listener = match address {
        ControlAddress::Unix(path) => open_unix(path, owner, succeeds)?,
        ControlAddress::Tcp(tcp) => open_tcp(*tcp)?,
    };
    listener.socket.set_nonblocking(true).map_err(|e| {
        Failure::new(Sysexit::OsErr, format!("control socket {address}: it cannot be used without blocking: {e}"))
    })?;
    Ok(listener)
}

fn open_tcp(address: SocketAddr) -> Result<Listener, Failure> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            // One for each family; which one gets an IPv4 client is never a question.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Listener { socket, address: ControlAddress::Tcp(bound), file: None })
    };
    open().map_err(|e: io::Error| {
        let (code, remedy) = match e.kind() {
            io::ErrorKind::AddrInUse => {
                (Sysexit::Unavailable, "another program has it; stop that one or take another port")
            }
            io::ErrorKind::AddrNotAvailable => (Sysexit::Unavailable, "it has to be an address of this host"),
            io::ErrorKind::PermissionDenied => (Sysexit::NoPerm, "start as root, or take a port above 1023"),
            _ => (Sysexit::OsErr, "name another with -C"),
        };
        Failure::new(code, format!("control socket {address}: {e}: {remedy}"))
    })
}

fn open_unix(path: &Path, owner: Option<&User>, succeeds: bool) -> Result<Listener, Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let bound = if succeeds { Path::new(&beside) } else { path };
    make_room(bound)?;
    let refused = |e: io::Error| {
        let (code, remedy) = match e.kind() {
            io::ErrorKind::NotFound => (Sysexit::CantCreat, "create its directory first, or name another with -C"),
            io::ErrorKind::PermissionDenied => {
                (Sysexit::NoPerm, "start as root, or name a path in a directory of your own with -C")
            }
            io::ErrorKind::AddrInUse => (Sysexit::CantCreat, "another program has just made it; stop that one first"),
            _ => (Sysexit::CantCreat, "name another with -C"),
        };
        Failure::new(code, format!("control socket {}: {e}: {remedy}", path.display()))
    };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused)?;
    bind_for_owner(&socket, bound).map_err(refused)?;
    if succeeds {
        fs::rename(bound, path).map_err(refused)?;
    }
    // From here on the file goes if anything fails.
    let file = SocketFile::of(path).map_err(refused)?;
    if let Some(owner) = owner.filter(|owner| owner.uid != geteuid()) {
        // Never what a link points to that somebody may have put there.
        lchown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).map_err(|e| {
            let message = format!(
                "control socket {}: it cannot be given to user {}: {e}: start as root",
                path.display(),
                owner.name
            );
            Failure::new(Sysexit::NoPerm, message)
        })?;
    }
    // Until now nobody could connect at all.
    socket.listen(BACKLOG).map_err(refused)?;
    Ok(Listener { socket, address: ControlAddress::Unix(path.to_owned()), file: Some(file) })
}

/// Binds `socket` to `path` so that at no time anybody but the owner can use it.
fn bind_for_owner(socket: &Socket, path: &Path) -> io::Result<()> {
    let address = SockAddr::unix(path)?;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    // The file gets the mode that the socket has (Linux). Elsewhere the socket has none, and the process's umask, which
    // other threads would notice, has to do it.
    if fchmod(socket, mode).is_ok() {
        socket.bind(&address)?;
    } else {
        let before = umask(Mode::S_IRWXG | Mode::S_IRWXO);
        let bound = socket.bind(&address);
        umask(before);
        bound?;
    }
    if fs::symlink_metadata(path)?.mode() & 0o777 != 0o600 {
        let narrowed = fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink);
        if let Err(e) = narrowed {
            let _ = fs::remove_file(path);
            return Err(e.into());
        }
    }
    Ok(())
}

/// Removes a socket at `path` that nobody listens on; whatever else is there stays.
fn make_room(path: &Path) -> Result<(), Failure> {
    let occupied = |what: &str| Failure::new(Sysexit::CantCreat, format!("control socket {}: {what}", path.display()));
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => {
            let code = if e.kind() == io::ErrorKind::PermissionDenied { Sysexit::NoPerm } else { Sysexit::CantCreat };
            return Err(Failure::new(code, format!("control socket {}: {e}: name another with -C", path.display())));
        }
        Ok(found) if !found.file_type().is_socket() => {
            return Err(occupied("there is something else that is no socket; remove it, or name another with -C"));
        }
        Ok(_) => {}
    }
    let connected = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
        // One that is alive but does not accept would make us wait.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    });
    match connected {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(|e| {
            let message = format!(
                "control socket {}: a process that has ended left it there, and it cannot be removed: {e}; remove it as root, or name another with -C",
                path.display()
            );
            Failure::new(Sysexit::NoPerm, message)
        }),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(Failure::new(
            Sysexit::NoPerm,
            format!(
                "control socket {}: there is one of another user; remove it as root, or name another with -C",
                path.display()
            ),
        )),
        _ => Err(occupied("another program listens there; stop that one first, or name another with -C")),
    }
}

/// The file of a Unix socket, removed with this; if that is not permitted any more, it stays, and the next start removes
/// it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let found = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

//! A second process takes the sockets over that clients connect to, so that nobody is refused while the one replaces the
//! other.
//!
//! ```text
//! successor                     the process that serves
//! connect            ------->   who is it? (root, or the same user)
//! greeting           ------->
//!                    <-------   greeting, how many sockets; their names with the sockets, in several messages
//! opens the rest, serves
//! ready              ------->   tells its main thread: accept no more, drain
//!                    <-------   goes
//! ```
//!
//! Both have the same sockets then: what waits to be accepted waits for either. Until the successor is ready nothing
//! changes for the process that serves; a successor that goes away, is silent, or talks nonsense, is forgotten.

mod take;

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Uid, geteuid};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

pub use take::{Taken, take};

use crate::os::{MOST_RIGHTS, peer_user, send_rights};

/// What both say first.
const GREETING: &[u8; 16] = b"pen-dsr handover";
const READY: u8 = b'R';
const GOES: u8 = b'G';
/// Sockets that are offered at most.
const MOST_SOCKETS: usize = 4096;
/// Bytes of a name at most.
const MOST_NAME: usize = 1024;

/// Sockets that listen, each with what it is called on both sides ([`socket_name`]).
pub type Named = Vec<(String, OwnedFd)>;

/// What a socket is called: of this listener ([`ListenConfig::setting`](crate::config::proxy::ListenConfig::setting)), of
/// this event loop.
pub fn socket_name(setting: &str, event_loop: usize) -> String {
    format!("{setting}#{event_loop}")
}

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For each step that needs no thought.
    step: Duration,
    /// Until a successor is ready.
    ready: Duration,
}

const PATIENCE: Patience = Patience { step: Duration::from_secs(5), ready: Duration::from_secs(60) };

/// A successor serves from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver;

/// Where a successor is waited for. Listened at before privileges are dropped, it is root's, and trusted by root.
#[derive(Debug)]
pub struct Place {
    listener: UnixListener,
    file: SocketFile,
}

impl Place {
    /// Listens at `path`, as [`Offer::serve`] has it; nobody is answered yet.
    ///
    /// # Errors
    /// The path cannot be listened at.
    pub fn listen(path: &Path) -> io::Result<Place> {
        listen(path).map(|(listener, file)| Place { listener, file })
    }
}

/// The offer of sockets to a successor; taken back when this goes.
#[derive(Debug)]
pub struct Offer {
    sockets: Arc<Mutex<Arc<Named>>>,
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Offer {
    /// Offers `sockets` (duplicates of those that are used) at `path`, whose file only this user and root can use; another
    /// one's file is replaced. The channel tells once, when a successor has taken over: stop accepting, drain. By then the
    /// successor may have left sockets behind that it has no use for: accept what waits there before they are closed.
    ///
    /// # Errors
    /// The path cannot be listened at; no room for a thread.
    pub fn serve(path: &Path, sockets: Named) -> io::Result<(Offer, Receiver<TakenOver>)> {
        Offer::serve_at(Place::listen(path)?, sockets)
    }

    /// The same at a place that is listened at already.
    ///
    /// # Errors
    /// No room for a thread.
    pub fn serve_at(place: Place, sockets: Named) -> io::Result<(Offer, Receiver<TakenOver>)> {
        Offer::serve_with(place, sockets, PATIENCE)
    }

    fn serve_with(place: Place, sockets: Named, patience: Patience) -> io::Result<(Offer, Receiver<TakenOver>)> {
        let Place { listener, file } = place;
        let (stop, stopped) = UnixStream::pair()?;
        let sockets = Arc::new(Mutex::new(Arc::new(sockets)));
        let (tell, told) = bounded(1);
        let server = Server { listener, file, stopped, sockets: Arc::clone(&sockets), tell, patience };
        let thread = thread::Builder::new().name("handover".to_owned()).spawn(move || server.run())?;
        Ok((Offer { sockets, stop: Some(stop), thread: Some(thread) }, told))
    }

    /// Offers other sockets from now on, after a reload.
    pub fn replace(&self, sockets: Named) {
        *self.sockets.lock() = Arc::new(sockets);
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What went wrong has been said by the panic.
            let _ = thread.join();
        }
    }
}

/// The file of the socket, removed with this unless somebody has put another there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`. The file is made beside it, is closed to others before it can be found, and then takes the place of
/// whatever socket is there: at no time is there none, or one that others can use.
fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    use std::os::unix::fs::FileTypeExt;
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else that is no socket"));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    let found = fs::symlink_metadata(&beside)?;
    let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    fs::rename(&beside, path)?;
    Ok((listener, file))
}

/// Who may take over, or be taken over from.
fn trusted(peer: Uid) -> bool {
    peer.is_root() || peer == geteuid()
}

fn stranger(peer: Uid) -> io::Error {
    let what = format!("user {peer} is at the other end, neither root nor the user of this process");
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the other end {what}"))
}

/// The thread of an [`Offer`].
struct Server {
    listener: UnixListener,
    file: SocketFile,
    stopped: UnixStream,
    sockets: Arc<Mutex<Arc<Named>>>,
    tell: Sender<TakenOver>,
    patience: Patience,
}

impl Server {
    fn run(self) {
        while self.wait(self.listener.as_fd(), None) == Woken::Readable {
            let successor = match self.listener.accept() {
                Ok((successor, _)) => successor,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => {
                    // No descriptors, most likely: not at once again.
                    debug!("handover: {e}");
                    if self.wait(self.stopped.as_fd(), Some(Instant::now() + self.patience.step)) == Woken::Stopped {
                        return;
                    }
                    continue;
                }
            };
            match self.attend(&successor) {
                Ok(()) => {
                    info!("a successor has taken the listeners over");
                    // The file first: what the successor puts there after our answer is its own.
                    drop(self.file);
                    let _ = self.tell.send(TakenOver);
                    let _ = (&successor).write_all(&[GOES]);
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return,
                Err(e) => warn!("handover: {e}; this process goes on"),
            }
        }
    }

    /// Gives the sockets to `successor` and waits until it is ready. `Interrupted`: the offer was taken back.
    fn attend(&self, successor: &UnixStream) -> io::Result<()> {
        let peer = peer_user(successor)?;
        if !trusted(peer) {
            return Err(stranger(peer));
        }
        successor.set_nonblocking(false)?;
        successor.set_write_timeout(Some(self.patience.step))?;
        let mut greeting = [0; GREETING.len()];
        self.read(successor, &mut greeting, self.patience.step)?;
        if greeting != *GREETING {
            return Err(nonsense("is no successor"));
        }
        let sockets = Arc::clone(&self.sockets.lock());
        offer(successor, &sockets)?;
        let mut ready = [0];
        self.read(successor, &mut ready, self.patience.ready)?;
        if ready != [READY] {
            return Err(nonsense("talks nonsense"));
        }
        Ok(())
    }

    fn read(&self, mut from: &UnixStream, mut buffer: &mut [u8], patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while !buffer.is_empty() {
            match self.wait(from.as_fd(), Some(deadline)) {
                Woken::Readable => {}
                Woken::Late => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "a successor has come and says nothing"));
                }
                Woken::Stopped => return Err(io::ErrorKind::Interrupted.into()),
            }
            match from.read(buffer) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a successor has come and gone")),
                Ok(n) => buffer = &mut buffer[n..],
                // Not that the offer was taken back.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits for something to read from `socket`.
    fn wait(&self, socket: BorrowedFd<'_>, deadline: Option<Instant>) -> Woken {
        loop {
            let timeout = match deadline {
                // Rounded up, or the last millisecond would be spent asking.
                Some(deadline) => deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1),
                None => Duration::MAX,
            };
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            let timeout = if deadline.is_none() { PollTimeout::NONE } else { timeout };
            let mut polled =
                [PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN), PollFd::new(socket, PollFlags::POLLIN)];
            match poll(&mut polled, timeout) {
                Err(Errno::EINTR) => {}
                Err(_) => return Woken::Stopped,
                Ok(_) if polled[0].any().unwrap_or(false) => return Woken::Stopped,
                Ok(0) => return Woken::Late,
                Ok(_) => return Woken::Readable,
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Readable,
    Late,
    Stopped,
}

/// Sends greeting, number, then names with their sockets, as many at a time as a message takes.
fn offer(successor: &UnixStream, sockets: &Named) -> io::Result<()> {
    let fits = |(name, _): &&(String, OwnedFd)| name.len() <= MOST_NAME;
    let sockets: Vec<&(String, OwnedFd)> = sockets.iter().filter(fits).take(MOST_SOCKETS).collect();
    let mut bytes = GREETING.to_vec();
    bytes.extend((sockets.len() as u32).to_be_bytes());
    send_all(successor, &bytes, &[])?;
    for part in sockets.chunks(MOST_RIGHTS) {
        let mut bytes = Vec::new();
        for (name, _) in part {
            bytes.extend((name.len() as u16).to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        let rights: Vec<BorrowedFd<'_>> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
        send_all(successor, &bytes, &rights)?;
    }
    Ok(())
}

fn send_all(mut to: &UnixStream, bytes: &[u8], rights: &[BorrowedFd<'_>]) -> io::Result<()> {
    let sent = loop {
        match send_rights(to, bytes, rights) {
            // With a timeout it is not begun again after a signal, nor after a stop (signal(7)).
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            sent => break sent?,
        }
    };
    // The rights have gone with the first byte.
    to.write_all(&bytes[sent..])
}

#[cfg(test)]
mod tests;

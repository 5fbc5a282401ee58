//! Active checks: each server is asked over an ordinary socket whether it serves, by a thread that does nothing else.
//!
//! When to ask and what follows from the answers is [`crate::health`]'s, the same as for Direct Server Return; what is
//! asked is a [`Check`]. But there the VIP is asked through the data path, here the server where the proxy connects to:
//!
//! | check | here |
//! |---|---|
//! | `link` | none: the server is always up (a connection that fails still has it left out for a while) |
//! | `icmp` | an echo request: by an ICMP socket where the system lets us have one (Linux: `net.ipv4.ping_group_range`), else by a raw one, for which root or `CAP_NET_RAW` is needed. The sockets are opened with the checker, before privileges are dropped |
//! | `tcp` | a connection, closed as soon as it is open |
//! | `http` | a GET request; no TLS |
//! | `udp`, `dns` | a datagram, sent three times within the timeout unless it is answered |
//!
//! A Unix socket has no ICMP and no datagrams: `icmp`, `udp` and `dns` come down to a connection there. Ports that the
//! check names are for addresses only.
//!
//! What fails for lack of descriptors or memory here says nothing about the server: it is asked again half a second later.

mod ask;
mod echo;
mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use std::{io, thread};

use crossbeam_channel::Sender;
use mio::Waker;
use parking_lot::Mutex;

use crate::config::proxy::Address;
use crate::health::{Change, Policy, Reason, State, Streak};
use crate::probe::Check;
pub use echo::permitted;
use watch::Watch;

/// A server that is to be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What it is told apart by; it stays when the list changes.
    pub id: u32,
    /// Where the proxy connects to.
    pub at: Address,
    /// The address that checks come from, of the same family; `None`: the system's choice.
    pub source: Option<IpAddr>,
    /// What is asked.
    pub check: Check,
    /// When, and how many outcomes decide.
    pub policy: Policy,
}

/// How a server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is believed; always [`State::Up`] without a check.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// How the last checks ended.
    pub streak: Streak,
    /// Why the last failed one failed. It may be long ago: see `streak`.
    pub reason: Option<Reason>,
}

/// The thread that checks. It ends when this is dropped.
#[derive(Debug)]
pub struct Checker {
    inbox: Arc<Mutex<Inbox>>,
    board: Arc<Board>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// How all servers stand, for everybody to read.
type Board = Mutex<HashMap<u32, Standing>>;

/// What the thread has been asked to do.
#[derive(Debug, Default)]
struct Inbox {
    servers: Option<Vec<Checked>>,
    hurried: Vec<u32>,
    stop: bool,
}

impl Checker {
    /// Begins to check `servers`. What changes is told to `changes` as a server's [`Checked::id`] and what has become of it;
    /// servers are believed to be up until then.
    ///
    /// # Errors
    /// The system gives no epoll or kqueue descriptor, or no thread. That an ICMP socket cannot be had is no error: it is
    /// the reason why the servers that are to be checked by it are down.
    pub fn start(servers: Vec<Checked>, changes: Sender<(u32, Change)>) -> io::Result<Checker> {
        let (inbox, board) = (Arc::<Mutex<Inbox>>::default(), Arc::<Board>::default());
        let mut watch = Watch::new(Arc::clone(&inbox), Arc::clone(&board), changes)?;
        let waker = watch.waker()?;
        watch.set(servers, Instant::now());
        let thread = thread::Builder::new().name("checks".to_owned()).spawn(move || watch.run())?;
        Ok(Checker { inbox, board, waker, thread: Some(thread) })
    }

    /// From now on these are checked. Of those that were checked before, by their ids, the state stays, also when it is
    /// something else that is asked.
    pub fn set(&self, servers: Vec<Checked>) {
        self.inbox.lock().servers = Some(servers);
        self.wake();
    }

    /// A connection to `id` has failed: the next check is due soon. Cheap enough for every such failure.
    pub fn hurry(&self, id: u32) {
        let mut inbox = self.inbox.lock();
        if inbox.hurried.contains(&id) {
            return;
        }
        inbox.hurried.push(id);
        drop(inbox);
        self.wake();
    }

    /// How server `id` stands.
    pub fn standing(&self, id: u32) -> Option<Standing> {
        self.board.lock().get(&id).cloned()
    }

    /// How all stand, by their ids.
    pub fn standings(&self) -> HashMap<u32, Standing> {
        self.board.lock().clone()
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!("cannot wake the thread that checks servers: {error}");
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.inbox.lock().stop = true;
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that checks servers has panicked");
        }
    }
}

//! The companion proxy: it ends clients' connections itself and makes its own to the servers, where Direct Server Return
//! cannot serve.
//!
//! # The way of a connection
//!
//! ```text
//! client -> listener -> event loop: greeting (PROXY header, TLS) -> relay: bytes both ways -> server
//!                                                                \-> http: requests, each to its server
//! ```
//!
//! - `event_loop`: one thread, and all that it does; there is one for each processor, and each listens for itself.
//! - `stream`: a connection; `flow`: one direction of it; `relay`: both.
//! - [`plan`]: the configuration as the loops use it; [`select`]: the choice of a server; [`server`]: what all loops know
//!   of one.
//! - Between the loops nothing is shared but counters, the table of clients and the servers' state.

pub mod access;
mod core;
pub mod datagram;
mod event_loop;
mod flow;
mod greeting;
pub mod handover;
mod listen;
pub mod plan;
pub mod proxy_header;
mod refusal;
mod relay;
pub mod select;
pub mod server;
pub mod shared;
mod stream;
pub mod tls;
mod wheel;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::{Poll, Waker};
use socket2::Socket;
use tracing::warn;

use event_loop::{EventLoop, Order};
use plan::{Acceptors, Plan};
use server::Wanted;
use shared::{Shared, Trouble};

use crate::config::Config;
use crate::director::{Condition, Standing};
use crate::failure::{Failure, Sysexit};

/// What is told and not yet read at most; what comes then is not told.
const TROUBLE: usize = 1024;

/// The running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    acceptors: Acceptors,
    loops: Vec<Loop>,
    datagrams: datagram::Loops,
    /// Sockets that were opened, and not yet given to the loops: for each loop, by the listeners' places.
    opened: Vec<Vec<(usize, Socket)>>,
    trouble: Receiver<Trouble>,
    remarks: Vec<String>,
}

/// Another configuration, with all that can fail done.
pub struct Prepared {
    plan: Arc<Plan>,
    acceptors: Acceptors,
    sockets: Vec<Vec<(usize, Socket)>>,
    remarks: Vec<String>,
}

struct Loop {
    orders: Sender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    fn give(&self, order: Order) {
        // One that has ended needs no orders.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }
}

impl Proxy {
    /// Opens what `config` listens on; serves nobody yet.
    ///
    /// # Errors
    /// An address that cannot be listened on, certificates that cannot be used, servers without addresses.
    pub fn prepare(config: &Config) -> Result<Proxy, Failure> {
        let (sender, trouble) = bounded(TROUBLE);
        let shared = Arc::new(Shared::new(sender, Instant::now()));
        let mut acceptors = Acceptors::new();
        let mut remarks = Vec::new();
        let plan = Plan::new(config, None, &mut |name| shared.server(name), &mut acceptors, &mut remarks)?;
        let threads = match config.proxy.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let all: Vec<usize> = (0..plan.listeners.len()).collect();
        let opened = listen::open(&plan, &all, threads)?;
        Ok(Proxy {
            shared,
            plan: Arc::new(plan),
            acceptors,
            loops: Vec::new(),
            datagrams: datagram::Loops::default(),
            opened,
            trouble,
            remarks,
        })
    }

    /// Serves.
    ///
    /// # Errors
    /// The system has no room for the event loops.
    pub fn start(&mut self) -> Result<(), Failure> {
        let os_error =
            |e: std::io::Error| Failure::new(Sysexit::OsErr, format!("an event loop of the proxy cannot begin: {e}"));
        let (streams, datagrams) = listen::divide(&self.plan, std::mem::take(&mut self.opened));
        self.datagrams.adopt(&self.shared, &self.plan, datagrams, None).map_err(os_error)?;
        for (index, sockets) in streams.into_iter().enumerate() {
            let poll = Poll::new().map_err(os_error)?;
            let waker = Waker::new(poll.registry(), event_loop::WAKER).map_err(os_error)?;
            let (orders, receiver) = unbounded();
            let shared = Arc::clone(&self.shared);
            let event_loop = EventLoop::new(poll, shared, receiver).map_err(os_error)?;
            let thread = std::thread::Builder::new()
                .name(format!("proxy {index}"))
                .spawn(move || event_loop.run())
                .map_err(os_error)?;
            let new = Loop { orders, waker, thread: Some(thread) };
            new.give(Order::Plan(Arc::clone(&self.plan), sockets));
            self.loops.push(new);
        }
        Ok(())
    }

    /// What it takes to go on with `config`; nothing changes yet.
    ///
    /// # Errors
    /// As [`Proxy::prepare`].
    pub fn plan_for(&self, config: &Config) -> Result<Prepared, Failure> {
        let mut remarks = Vec::new();
        let shared = &self.shared;
        let mut acceptors = self.acceptors.clone();
        let plan =
            Plan::new(config, Some(&self.plan), &mut |name| shared.server(name), &mut acceptors, &mut remarks)?;
        let is_new = |&place: &usize| self.plan.listener(&plan.listeners[place].config).is_none();
        let new: Vec<usize> = (0..plan.listeners.len()).filter(is_new).collect();
        let sockets = listen::open(&plan, &new, self.loops.len())?;
        Ok(Prepared { plan: Arc::new(plan), acceptors, sockets, remarks })
    }

    /// Goes on with what was prepared; connections are kept.
    pub fn adopt(&mut self, prepared: Prepared) {
        self.plan = prepared.plan;
        self.acceptors = prepared.acceptors;
        self.remarks.extend(prepared.remarks);
        let (streams, datagrams) = listen::divide(&self.plan, prepared.sockets);
        if let Err(e) = self.datagrams.adopt(&self.shared, &self.plan, datagrams, None) {
            self.shared.tell(Trouble::Short(format!("no event loop for datagrams: {e}")));
        }
        for (one, sockets) in self.loops.iter().zip(streams) {
            one.give(Order::Plan(Arc::clone(&self.plan), sockets));
        }
    }

    /// Does what is due at `now`: says what went wrong, and takes in what checks have found.
    pub fn advance(&mut self, now: Instant) {
        let _ = now;
        while let Ok(trouble) = self.trouble.try_recv() {
            self.hear_of(&trouble);
        }
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Takes in what went wrong.
    pub fn hear_of(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Failed { id, why, left_out } => {
                let name = self.shared.server_of(*id).map_or_else(String::new, |server| server.name.clone());
                warn!("server {name} could not be connected to: {why}; it is left out for {} s", left_out.as_secs());
            }
            Trouble::Short(what) => warn!("the proxy is short of something: {what}"),
        }
    }

    /// Files that are written to, or opened anew.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::empty()
    }

    /// Takes in what Direct Server Return knows of its backends, and the operator wants of them.
    pub fn follow(&mut self, standings: &[Standing]) {
        let mut changed = false;
        for standing in standings {
            let Some(server) = self.plan.servers.iter().find(|server| server.name == standing.name) else { continue };
            let (healthy, wanted) = match standing.condition {
                Condition::Draining | Condition::Drained | Condition::Leaving => (true, Wanted::Draining),
                Condition::Maintenance | Condition::Blacklisted => (true, Wanted::Maintenance),
                Condition::Down => (false, Wanted::Active),
                Condition::Up | Condition::Starting | Condition::SlowStart | Condition::Emergency => {
                    (true, Wanted::Active)
                }
            };
            if (server.is_healthy(), server.wanted()) != (healthy, wanted) {
                server.set_healthy(healthy);
                server.set_wanted(wanted);
                changed = true;
            }
        }
        if changed {
            self.plan.rebuild();
        }
    }

    /// Accepts no more; what there is goes on.
    pub fn drain(&self) {
        self.loops.iter().for_each(|one| one.give(Order::Drain));
        self.datagrams.drain();
    }

    /// Has everything ended, after [`Proxy::drain`]?
    pub fn is_over(&self) -> bool {
        self.datagrams.is_over() && self.loops.iter().all(|one| one.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }

    /// Ends everything, now.
    pub fn stop(&mut self) {
        self.loops.iter().for_each(|one| one.give(Order::Stop));
        self.datagrams.stop();
        for one in &mut self.loops {
            if let Some(thread) = one.thread.take() {
                // What went wrong has been said by the panic.
                let _ = thread.join();
            }
        }
    }

    /// What went wrong.
    pub fn trouble(&self) -> &Receiver<Trouble> {
        &self.trouble
    }

    /// What all loops share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The configuration as it is used.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What there is to say about the configuration, once.
    pub fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }
}
pub mod http;

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
//! - `orders`: what the main thread wants of it; `listening`: its sockets that listen; `token`: whom an event is for. They
//!   are the same for [`datagram`]s, which have loops of their own.
//! - `stream`: a connection; `flow`: one direction of it; `relay`: both.
//! - [`plan`]: the configuration as the loops use it; [`select`]: the choice of a server; [`server`]: what all loops know
//!   of one.
//! - Between the loops nothing is shared but counters, the table of clients and the servers' state.

pub mod access;
pub mod check;
mod core;
mod counted;
pub mod datagram;
mod descriptors;
mod event_loop;
mod flow;
mod greeting;
mod h2_session;
pub mod handover;
pub mod http;
mod http_session;
mod keepalive;
mod listen;
mod listening;
mod memory;
mod orders;
pub mod plan;
pub mod proxy_header;
mod queue;
mod refusal;
mod relay;
pub mod select;
pub mod server;
pub mod shared;
mod stream;
mod supervise;
pub mod tls;
mod token;
mod warm;
mod wheel;

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use socket2::Socket;

use access::AccessWriter;
use check::Checker;
use event_loop::EventLoop;
use handover::{Named, Offer, Place, Taken, TakenOver};
use orders::{Loop, Order};
use plan::{Acceptors, Plan};
use shared::{Shared, Trouble};

use crate::config::Config;
use crate::failure::{Failure, Sysexit};
use crate::health::Change;

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
    access: Option<AccessWriter>,
    /// When it was last said what this host is short of, and how often it has been since.
    complained: Option<Instant>,
    unsaid: u64,
    checker: Option<Checker>,
    check_changes: Sender<(u32, Change)>,
    checks: Receiver<(u32, Change)>,
    /// The sockets of the process that this one succeeds, until it serves.
    taken: Option<Taken>,
    /// Where a successor is waited for, until it is answered.
    place: Option<Place>,
    /// Copies of all sockets that listen, for a successor.
    named: Named,
    /// Where a successor gets the sockets, and what tells that it has them.
    offer: Option<(Offer, Receiver<TakenOver>)>,
}

/// Another configuration, with all that can fail done.
pub struct Prepared {
    plan: Arc<Plan>,
    acceptors: Acceptors,
    sockets: Vec<Vec<(usize, Socket)>>,
    remarks: Vec<String>,
    /// Another access log, or none any more, where that has changed.
    access: Option<Option<AccessWriter>>,
}

/// Whether the files that `config` names for the proxy are what they should be: certificates, keys, authorities. What
/// there is to say about them, a line each.
///
/// # Errors
/// The first that is not.
pub fn rehearse(config: &Config) -> Result<Vec<String>, Failure> {
    let mut remarks = Vec::new();
    let server = &mut |name: &str| Arc::new(server::Server::new(0, name, Instant::now()));
    let plan = Plan::new(config, (None, true), server, &mut Acceptors::new(), &mut remarks)?;
    remarks.extend(supervise::compare_with_host(&plan)?);
    Ok(each_once(remarks))
}

/// Listeners that stand for one setting have the same to say.
fn each_once(mut remarks: Vec<String>) -> Vec<String> {
    let mut said = std::collections::HashSet::new();
    remarks.retain(|remark| said.insert(remark.clone()));
    remarks
}

impl Proxy {
    /// Opens what `config` listens on; serves nobody yet.
    ///
    /// # Errors
    /// An address that cannot be listened on, certificates that cannot be used, servers without addresses.
    pub fn prepare(config: &Config) -> Result<Proxy, Failure> {
        let (sender, trouble) = bounded(TROUBLE);
        let (check_changes, checks) = unbounded();
        let shared = Arc::new(Shared::new(sender, Instant::now()));
        let mut acceptors = Acceptors::new();
        let mut remarks = Vec::new();
        remarks.extend(supervise::make_room(config));
        let plan = Plan::new(config, (None, true), &mut |name| shared.server(name), &mut acceptors, &mut remarks)?;
        remarks.extend(supervise::compare_with_host(&plan)?);
        supervise::may_check(config, &plan)?;
        plan.settle();
        let threads = match config.proxy.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let all: Vec<usize> = (0..plan.listeners.len()).collect();
        let mut taken = supervise::succeed(config)?;
        let opened = listen::open(&plan, &all, threads, taken.as_mut())?;
        let access = config.proxy.access_log.as_ref().map(AccessWriter::open).transpose()?;
        remarks.extend(supervise::missing_return_path(&plan));
        Ok(Proxy {
            shared,
            plan: Arc::new(plan),
            acceptors,
            loops: Vec::new(),
            datagrams: datagram::Loops::default(),
            opened,
            trouble,
            remarks,
            access,
            complained: None,
            unsaid: 0,
            checker: None,
            check_changes,
            checks,
            taken,
            place: supervise::wait_for_successor(config)?,
            named: Named::new(),
            offer: None,
        })
    }

    /// Serves.
    ///
    /// # Errors
    /// The system has no room for the event loops.
    pub fn start(&mut self, config: &Config) -> Result<(), Failure> {
        let os_error =
            |e: std::io::Error| Failure::new(Sysexit::OsErr, format!("an event loop of the proxy cannot begin: {e}"));
        self.start_access()?;
        let all = std::mem::take(&mut self.opened);
        self.offer(&all)?;
        let (streams, datagrams) = listen::divide(&self.plan, all);
        let mut opened = Vec::new();
        self.datagrams.adopt(&self.shared, &self.plan, datagrams, self.access.as_ref()).map_err(os_error)?;
        for (index, sockets) in streams.into_iter().enumerate() {
            let shared = Arc::clone(&self.shared);
            let new = Loop::begin(format!("proxy {index}"), |poll, orders| {
                let registry = poll.registry().try_clone()?;
                // What a loop works with does not leave its thread.
                Ok(move || EventLoop::new(poll, registry, shared, orders).run())
            });
            let new = new.map_err(os_error)?;
            self.shared.wakes(new.waker());
            new.give(Order::Record(self.access.as_ref().map(AccessWriter::recorder)));
            self.loops.push(new);
            opened.push(sockets);
        }
        self.check(config)?;
        for (one, sockets) in self.loops.iter().zip(opened) {
            one.give(Order::Plan(Arc::clone(&self.plan), sockets));
        }
        self.tell_predecessor();
        Ok(())
    }

    /// What it takes to go on with `config`; nothing changes yet. `reread`: certificates are read anew.
    ///
    /// # Errors
    /// As [`Proxy::prepare`].
    pub fn plan_for(&self, config: &Config, reread: bool) -> Result<Prepared, Failure> {
        let mut remarks = Vec::new();
        let shared = &self.shared;
        let mut acceptors = self.acceptors.clone();
        let plan = Plan::new(
            config,
            (Some(&self.plan), reread),
            &mut |name| shared.server(name),
            &mut acceptors,
            &mut remarks,
        )?;
        remarks.extend(supervise::compare_with_host(&plan)?);
        let is_new = |&place: &usize| self.plan.listener(&plan.listeners[place].config).is_none();
        let new: Vec<usize> = (0..plan.listeners.len()).filter(is_new).collect();
        let sockets = listen::open(&plan, &new, self.loops.len(), None)?;
        let access = if self.plan.settings.access_log == config.proxy.access_log {
            None
        } else {
            Some(config.proxy.access_log.as_ref().map(AccessWriter::open).transpose()?)
        };
        remarks.extend(supervise::missing_return_path(&plan));
        Ok(Prepared { plan: Arc::new(plan), acceptors, sockets, remarks, access })
    }

    /// Goes on with what was prepared; connections are kept.
    pub fn adopt(&mut self, prepared: Prepared, config: &Config) {
        self.plan = prepared.plan;
        self.plan.settle();
        self.acceptors = prepared.acceptors;
        self.remarks.extend(prepared.remarks);
        if let Some(access) = prepared.access {
            self.access = access;
            if let Err(failure) = self.start_access() {
                self.shared.tell(Trouble::Short(failure.message));
            }
        }
        if let Err(failure) = self.offer(&prepared.sockets) {
            self.shared.tell(Trouble::Short(failure.message));
        }
        if let Err(failure) = self.check(config) {
            self.shared.tell(Trouble::Short(failure.message));
        }
        let (streams, datagrams) = listen::divide(&self.plan, prepared.sockets);
        if let Err(e) = self.datagrams.adopt(&self.shared, &self.plan, datagrams, self.access.as_ref()) {
            self.shared.tell(Trouble::Short(format!("no event loop for datagrams: {e}")));
        }
        for (one, sockets) in self.loops.iter().zip(streams) {
            one.give(Order::Plan(Arc::clone(&self.plan), sockets));
        }
    }

    /// Accepts no more; what there is goes on.
    pub fn drain(&self) {
        self.loops.iter().for_each(|one| one.give(Order::Drain));
        self.datagrams.drain();
    }

    /// Has everything ended, after [`Proxy::drain`]?
    pub fn is_over(&self) -> bool {
        self.datagrams.is_over() && self.loops.iter().all(Loop::is_over)
    }

    /// Ends everything, now.
    pub fn stop(&mut self) {
        self.loops.iter().for_each(|one| one.give(Order::Stop));
        self.datagrams.stop();
        self.loops.iter_mut().for_each(Loop::join);
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
        each_once(std::mem::take(&mut self.remarks))
    }
}

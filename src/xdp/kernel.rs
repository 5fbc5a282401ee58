//! The program at work: a thread that gives it new tables, and tells the engine what it has learnt of flows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::Mutex;
use tracing::{error, info};

use super::image::{Image, Lists};
use super::layout::{Totals, Traffic};
use crate::counters::{self, Counters, MOST_BACKENDS};
use crate::engine::{RecentClient, Station};
use crate::lb::Tables;
use crate::lb::acl::Acl;
use crate::lb::flow::{Elsewhere, Record};
use crate::os::{KernelFlows, Program, Walk};
use crate::verdict::DropReason;

/// Between two walks through all flows, at least,
const WALK_INTERVAL: Duration = Duration::from_millis(250);
/// and so many times as long as the last one took: they take at most two hundredths of a processor.
const WALK_SHARE: u32 = 50;
/// How long tables that an earlier process has left may go on, until every backend has been found again.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(5);
/// How often the program is told that this process is there.
const BEAT: Duration = Duration::from_millis(500);
/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where flows are told of.
pub type Sink = Box<dyn Fn(Vec<Record>) + Send>;

enum Order {
    Publish(Arc<Tables>, Station),
    /// Walk through all flows, and say when that is done.
    Tell(Sender<()>),
}

/// The program in the kernel, attached; it goes when this is dropped, unless it is pinned.
pub struct Kernel {
    program: Arc<Mutex<Program>>,
    orders: Sender<Order>,
    todo: Option<Receiver<Order>>,
    thread: Option<JoinHandle<()>>,
    counted: Mutex<Counted>,
    /// Flows that were in the nursery at the last walk.
    begun: Arc<AtomicU64>,
    flow_key: (u64, u64),
}

/// What it had counted when it was looked at last.
#[derive(Default)]
struct Counted {
    totals: Totals,
    displaced: u64,
    /// By the number of its counter.
    traffic: Vec<Traffic>,
}

impl Kernel {
    /// `program`, whose flows are named by `flow_key`. It has no tables yet.
    pub fn new(program: Program, flow_key: (u64, u64)) -> Kernel {
        let (orders, todo) = unbounded();
        let program = Arc::new(Mutex::new(program));
        let (counted, begun) = (Mutex::default(), Arc::default());
        Kernel { program, orders, todo: Some(todo), thread: None, counted, begun, flow_key }
    }

    /// What stays when the process ends, for whoever this becomes.
    pub fn pinned(&self) -> Vec<PathBuf> {
        self.program.lock().pinned()
    }

    /// What the engine is to share with the program.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn flows(&self) -> io::Result<Box<dyn Elsewhere>> {
        Ok(Box::new(self.program.lock().flows()?))
    }

    /// Begins: what it learns of flows goes to `sink`.
    ///
    /// # Errors
    /// No thread, no descriptors.
    pub fn start(&mut self, sink: Sink) -> io::Result<()> {
        let Some(orders) = self.todo.take() else {
            return Ok(());
        };
        let mut program = self.program.lock();
        let inherited = program.is_inherited();
        program.beat();
        let lists = Lists::new(if inherited { program.forbid_below(None) } else { 0 });
        let flows = program.flows()?;
        drop(program);
        let keeper = Keeper {
            program: Arc::clone(&self.program),
            flows,
            begun: Arc::clone(&self.begun),
            flow_key: self.flow_key,
            sink,
            lists,
            first_list: inherited.then_some(()),
            pending: None,
            patience: inherited.then(|| Instant::now() + TAKEOVER_PATIENCE),
        };
        let thread = thread::Builder::new().name("kernel".to_owned()).spawn(move || keeper.run(&orders))?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Frames are decided by `tables`, a moment from now: see [`Kernel::tell`].
    pub fn publish(&self, tables: &Arc<Tables>, station: Station) {
        let _ = self.orders.send(Order::Publish(Arc::clone(tables), station));
    }

    /// Waits until frames are decided by the tables that were published last, and all flows that there are then have been
    /// told of.
    pub fn tell(&self) {
        let (done, is_done) = bounded(1);
        if self.thread.is_some() && self.orders.send(Order::Tell(done)).is_ok() {
            let _ = is_done.recv_timeout(PATIENCE);
        }
    }

    /// Adds what was counted since the last time to `counters`, as far as it is of the VIPs and backends of `tables`.
    pub fn count(&self, tables: &Tables, counters: &Counters) {
        let (program, mut counted) = (self.program.lock(), self.counted.lock());
        let totals = program.totals();
        let before = counted.totals;
        add(&counters.received, &totals.transmitted, &before.transmitted);
        add(&counters.received, &totals.denied, &before.denied);
        add(&counters.received, &totals.no_backend, &before.no_backend);
        add(&counters.transmitted, &totals.transmitted, &before.transmitted);
        add(&counters.received, &totals.answered, &before.answered);
        add(&counters.transmitted, &totals.answered, &before.answered);
        let less = |now: &Traffic, before: &Traffic| now.frames.saturating_sub(before.frames);
        counters.dropped(DropReason::Denied).add(less(&totals.denied, &before.denied));
        counters.dropped(DropReason::NoBackend).add(less(&totals.no_backend, &before.no_backend));
        counters.neighbor_answers.add(less(&totals.answered, &before.answered));
        counters.flows.opened.add(totals.opened.saturating_sub(before.opened));
        // Who has neither left the nursery nor is still there was pushed out of it.
        let begun = totals.promoted + self.begun.load(Ordering::Relaxed);
        let displaced = totals.opened.saturating_sub(begun).max(counted.displaced);
        counters.flows.displaced.add(displaced - counted.displaced);
        counted.displaced = displaced;
        counted.totals = totals;
        let backends = (0..tables.backends().len()).filter_map(|n| Some((n as u32, counters.backends.get(n)?)));
        let vips = tables.vips().iter().map(|vip| vip.number);
        let vips = vips.filter_map(|n| Some(((MOST_BACKENDS + n) as u32, counters.vips.get(n)?)));
        for (number, sum) in backends.chain(vips) {
            let (now, place) = (program.traffic(number), number as usize);
            if counted.traffic.len() <= place {
                counted.traffic.resize(place + 1, Traffic::default());
            }
            let before = std::mem::replace(&mut counted.traffic[place], now);
            add(sum, &now, &before);
        }
    }

    /// The clients that have opened a flow within the last `within`.
    pub fn recent(&self, within: Duration) -> Vec<RecentClient> {
        let now = Instant::now();
        let openers = self.program.lock().openers().into_iter().filter(|(.., ago)| *ago <= within);
        openers
            .filter_map(|(key, backend, ago)| {
                Some(RecentClient { client: key.client(), backend, seen: now.checked_sub(ago)? })
            })
            .collect()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // The thread ends when nobody can give it orders.
        self.orders = unbounded().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn add(sum: &counters::Traffic, now: &Traffic, before: &Traffic) {
    sum.frames.add(now.frames.saturating_sub(before.frames));
    sum.bytes.add(now.bytes.saturating_sub(before.bytes));
}

/// The thread's part.
struct Keeper {
    program: Arc<Mutex<Program>>,
    flows: KernelFlows,
    begun: Arc<AtomicU64>,
    flow_key: (u64, u64),
    sink: Sink,
    lists: Lists,
    /// Are there access lists of an earlier process?
    first_list: Option<()>,
    /// Tables that wait to be put into the kernel.
    pending: Option<(Arc<Tables>, Station)>,
    /// Until when the tables of an earlier process may go on.
    patience: Option<Instant>,
}

impl Keeper {
    fn run(mut self, orders: &Receiver<Order>) {
        let (mut next_walk, mut next_beat) = (Instant::now(), Instant::now());
        loop {
            if Instant::now() >= next_beat {
                self.program.lock().beat();
                next_beat = Instant::now() + BEAT;
            }
            let until = self.patience.filter(|_| self.pending.is_some()).into_iter().fold(next_walk, Instant::min);
            let until = until.min(next_beat);
            match orders.recv_deadline(until) {
                Ok(order) => {
                    // Only the latest tables count.
                    let mut waiting = Vec::new();
                    for order in std::iter::once(order).chain(orders.try_iter()) {
                        match order {
                            Order::Publish(tables, station) => self.pending = Some((tables, station)),
                            Order::Tell(done) => waiting.push(done),
                        }
                    }
                    self.publish();
                    if !waiting.is_empty() {
                        self.walk();
                    }
                    for done in waiting {
                        let _ = done.send(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.publish();
                    let began = Instant::now();
                    if began >= next_walk {
                        self.walk();
                        next_walk = Instant::now() + WALK_INTERVAL.max(began.elapsed() * WALK_SHARE);
                    }
                }
            }
        }
    }

    /// Puts the tables that wait into the kernel, unless those that are there are better still.
    fn publish(&mut self) {
        let Some((tables, station)) = self.pending.take() else {
            return;
        };
        if let Some(patience) = self.patience {
            // An earlier process knew where its backends were; we are still asking for them.
            let is_whole = tables.backends().iter().all(|backend| !backend.in_service || backend.mac.is_some());
            if !is_whole && Instant::now() < patience {
                self.pending = Some((tables, station));
                return;
            }
            self.patience = None;
            info!("the program in the kernel goes on with tables of this process");
        }
        if let Err(e) = self.install(&tables, &station) {
            error!("the program in the kernel goes on by the tables of before: {e}");
        }
    }

    fn install(&mut self, tables: &Tables, station: &Station) -> io::Result<()> {
        let mut program = self.program.lock();
        let mut new: Vec<(Arc<Acl>, u32)> = Vec::new();
        let image = Image::new(tables, station, self.flow_key, |acl| {
            let (number, is_new) = self.lists.number(acl);
            if is_new {
                new.push((Arc::clone(acl), number));
            }
            number
        });
        let first = new.first().map(|(_, number)| *number);
        for (acl, number) in &new {
            program.permit(acl, *number)?;
        }
        program.install(image)?;
        // No frame is decided by the tables of before any more.
        for (acl, number) in self.lists.retire(tables) {
            program.forbid(&acl, number);
        }
        if self.first_list.take().is_some() {
            program.forbid_below(Some(first.unwrap_or(u32::MAX)));
        }
        Ok(())
    }

    /// Tells of all flows.
    fn walk(&mut self) {
        let mut walk = Walk::default();
        loop {
            match self.flows.walk(&mut walk) {
                Ok((records, is_over)) => {
                    if !records.is_empty() {
                        (self.sink)(records);
                    }
                    if is_over {
                        return self.begun.store(walk.begun, Ordering::Relaxed);
                    }
                }
                Err(e) => return error!("the program's flows cannot be read: {e}"),
            }
        }
    }
}

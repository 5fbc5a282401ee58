//! The program at work: what the appliance asks of it. A thread gives it new tables, and tells the engine what it has learnt
//! of flows.

mod keeper;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use tracing::debug;

use super::layout::{Totals, Traffic};
use crate::counters::{self, Counters, MOST_BACKENDS, MOST_VIPS};
use crate::engine::{RecentClient, Station};
use crate::lb::Tables;
use crate::lb::flow::{Elsewhere, Record};
use crate::os::Program;
use crate::verdict::DropReason;
use keeper::Keeper;

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where flows are told of. It returns when they have been taken in.
pub type Sink = Box<dyn Fn(Vec<Record>) + Send>;

enum Order {
    /// All flows that were known before are in the kernel now: tables may go there.
    Begin,
    Publish(Arc<Tables>, Station),
    /// Say when what was published is what counts.
    Settle(Sender<()>),
    /// And when all flows that there are then have been told of.
    Tell(Sender<()>),
    /// The same, unless that takes long.
    Refresh(Sender<()>),
}

/// The program in the kernel, attached; it goes when this is dropped, unless it is pinned.
pub struct Kernel {
    program: Arc<Mutex<Program>>,
    orders: Sender<Order>,
    todo: Option<Receiver<Order>>,
    thread: Option<JoinHandle<()>>,
    counted: Mutex<Counted>,
    flow_key: (u64, u64),
    answers: bool,
}

/// What it had counted when it was looked at last.
#[derive(Default)]
struct Counted {
    totals: Totals,
    /// By the number of its counter.
    traffic: Vec<Traffic>,
}

impl Kernel {
    /// `program`, whose flows are named by `flow_key`. It has no tables yet. `answers`: left alone by this process, it answers
    /// who asks for the VIPs' MAC.
    pub fn new(program: Program, flow_key: (u64, u64), answers: bool) -> Kernel {
        let (orders, todo) = unbounded();
        let mut counted = Counted::default();
        if program.is_inherited() {
            // What it did for an earlier process is not this one's.
            counted.totals = program.totals();
            counted.traffic = (0..(MOST_BACKENDS + MOST_VIPS) as u32).map(|number| program.traffic(number)).collect();
        }
        let program = Arc::new(Mutex::new(program));
        Kernel { program, orders, todo: Some(todo), thread: None, counted: Mutex::new(counted), flow_key, answers }
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
        let keeper = Keeper::new(Arc::clone(&self.program), self.flow_key, self.answers, sink)?;
        let thread = thread::Builder::new().name("kernel".to_owned()).spawn(move || keeper.run(&orders))?;
        self.thread = Some(thread);
        Ok(())
    }

    /// What says that all flows that were known before are in the kernel: no table goes there before.
    pub fn beginning(&self) -> impl FnOnce() + Send + 'static {
        let orders = self.orders.clone();
        move || {
            let _ = orders.send(Order::Begin);
        }
    }

    /// Frames are decided by `tables`, a moment from now: see [`Kernel::settle`].
    pub fn publish(&self, tables: &Arc<Tables>, station: Station) {
        let _ = self.orders.send(Order::Publish(Arc::clone(tables), station));
    }

    /// Waits until frames are decided by the tables that were published last, but for those that an earlier process has left
    /// and that are to go on for a while; for two seconds at most.
    pub fn settle(&self) {
        self.order(Order::Settle);
    }

    /// The same, and until all flows that there are then have been told of.
    pub fn tell(&self) {
        self.order(Order::Tell);
    }

    /// The same, unless there are so many flows that it takes long: then what was told last has to do.
    pub fn refresh(&self) {
        self.order(Order::Refresh);
    }

    fn order(&self, order: impl Fn(Sender<()>) -> Order) {
        let (done, is_done) = bounded(1);
        let sent = self.thread.is_some() && self.orders.send(order(done)).is_ok();
        if sent && is_done.recv_timeout(PATIENCE).is_err() {
            debug!("the program in the kernel is not as far yet as was asked for");
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

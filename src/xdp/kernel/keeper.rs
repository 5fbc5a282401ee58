//! The thread `kernel`: puts tables into the kernel, tells of the flows there, and says that the process is there.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use tracing::{error, info};

use super::{Order, Sink};
use crate::engine::Station;
use crate::lb::Tables;
use crate::lb::acl::Acl;
use crate::lb::flow::Timeouts;
use crate::os::{KernelFlows, Program, Walk};
use crate::xdp::image::{Image, Lists};

/// Between two walks through all flows, at least,
const WALK_INTERVAL: Duration = Duration::from_millis(250);
/// and so many times as long as the last one took: they take at most two hundredths of a processor.
const WALK_SHARE: u32 = 50;
/// How long tables that an earlier process has left may go on, until every backend has been found again.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(5);
/// How often the program is told that this process is there.
const BEAT: Duration = Duration::from_millis(500);
/// A walk that takes longer is not made for everybody who asks.
const QUICK: Duration = Duration::from_millis(200);
/// Until what has failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread has.
pub(super) struct Keeper {
    program: Arc<Mutex<Program>>,
    flows: KernelFlows,
    flow_key: (u64, u64),
    answers: bool,
    sink: Sink,
    lists: Lists,
    /// Are there access lists of an earlier process?
    old_lists: bool,
    timeouts: Timeouts,
    /// May tables be put into the kernel?
    begun: bool,
    /// Those that wait for that.
    pending: Option<(Arc<Tables>, Station)>,
    /// Not before; until then the tables of an earlier process may go on, or it has just failed.
    not_before: Option<Instant>,
    /// Are the tables in the kernel those of an earlier process?
    takes_over: bool,
    next_beat: Instant,
    /// How long the last walk took.
    walk_took: Duration,
}

impl Keeper {
    pub(super) fn new(
        program: Arc<Mutex<Program>>,
        flow_key: (u64, u64),
        answers: bool,
        sink: Sink,
    ) -> io::Result<Keeper> {
        let now = Instant::now();
        let mut locked = program.lock();
        let inherited = locked.is_inherited();
        let lists = Lists::new(if inherited { locked.forbid_below(None) } else { 0 });
        let flows = locked.flows()?;
        drop(locked);
        Ok(Keeper {
            program,
            flows,
            flow_key,
            answers,
            sink,
            lists,
            old_lists: inherited,
            timeouts: Timeouts::default(),
            begun: false,
            pending: None,
            not_before: inherited.then(|| now + TAKEOVER_PATIENCE),
            takes_over: inherited,
            next_beat: now,
            walk_took: Duration::ZERO,
        })
    }

    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let mut next_walk = Instant::now();
        loop {
            self.beat();
            let waits = self.not_before.filter(|_| self.begun && self.pending.is_some());
            let until = waits.into_iter().chain([next_walk, self.next_beat]).min().unwrap_or(next_walk);
            match orders.recv_deadline(until) {
                Ok(first) => self.carry_out(std::iter::once(first).chain(orders.try_iter())),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.publish();
                    if Instant::now() >= next_walk {
                        self.walk();
                        next_walk = Instant::now() + WALK_INTERVAL.max(self.walk_took * WALK_SHARE);
                    }
                }
            }
        }
    }

    /// Says that the process is there, if that is due.
    fn beat(&mut self) {
        let now = Instant::now();
        if now >= self.next_beat {
            self.program.lock().beat();
            self.next_beat = now + BEAT;
        }
    }

    /// Of tables, only the latest count.
    fn carry_out(&mut self, orders: impl Iterator<Item = Order>) {
        let (mut waiting, mut tell) = (Vec::new(), false);
        for order in orders {
            match order {
                Order::Begin => self.begun = true,
                Order::Publish(tables, station) => self.pending = Some((tables, station)),
                Order::Settle(done) => waiting.push(done),
                Order::Tell(done) => {
                    waiting.push(done);
                    tell = true;
                }
                Order::Refresh(done) => {
                    waiting.push(done);
                    tell |= self.walk_took < QUICK;
                }
            }
        }
        self.publish();
        if tell {
            self.walk();
        }
        for done in waiting {
            let _ = done.send(());
        }
    }

    /// Puts the tables that wait into the kernel, unless those that are there are better still.
    fn publish(&mut self) {
        let now = Instant::now();
        let too_early = self.not_before.is_some_and(|time| now < time);
        let Some((tables, station)) = self.pending.take_if(|_| self.begun) else {
            return;
        };
        // An earlier process knew where its backends were; we may still be asking for them.
        let is_whole = || tables.backends().iter().all(|backend| !backend.in_service || backend.mac.is_some());
        if too_early && !(self.takes_over && is_whole()) {
            self.pending = Some((tables, station));
            return;
        }
        match self.install(&tables, &station) {
            Ok(()) => {
                if std::mem::take(&mut self.takes_over) {
                    info!("the program in the kernel goes on by tables of this process");
                }
                self.not_before = None;
                self.timeouts = tables.settings().timeouts;
            }
            Err(e) => {
                error!(
                    "the program in the kernel is not given its tables, all is left to the process, and that is tried again: {e}"
                );
                // What is there does not hold any more.
                self.program.lock().clear();
                self.takes_over = false;
                self.pending = Some((tables, station));
                self.not_before = Some(now + RETRY);
            }
        }
    }

    fn install(&mut self, tables: &Tables, station: &Station) -> io::Result<()> {
        let mut new: Vec<(Arc<Acl>, u32)> = Vec::new();
        let image = Image::new(tables, station, self.flow_key, self.answers, |acl| {
            let (number, is_new) = self.lists.number(acl);
            if is_new {
                new.push((Arc::clone(acl), number));
            }
            number
        });
        let first = new.first().map(|(_, number)| *number);
        let put = || -> io::Result<()> {
            for (acl, number) in &new {
                self.program.lock().permit(acl, *number)?;
            }
            self.program.lock().install(image)
        };
        if let Err(e) = put() {
            for (acl, number) in &new {
                self.lists.forget(*number);
                self.program.lock().forbid(acl, *number);
            }
            return Err(e);
        }
        // No frame is decided by the tables of before any more.
        for (acl, number) in self.lists.retire(tables) {
            self.program.lock().forbid(&acl, number);
        }
        if std::mem::take(&mut self.old_lists) {
            self.program.lock().forbid_below(Some(first.unwrap_or(u32::MAX)));
        }
        Ok(())
    }

    /// Tells of all flows, and removes those that have expired.
    fn walk(&mut self) {
        let began = Instant::now();
        self.walk_through();
        self.walk_took = began.elapsed();
    }

    fn walk_through(&mut self) {
        let mut walk = Walk::default();
        loop {
            match self.flows.walk(&mut walk) {
                Ok((mut records, is_over)) => {
                    records.retain(|record| {
                        let lives = record.idle < self.timeouts.of(record.stage);
                        if !lives {
                            self.flows.drop_expired(record);
                        }
                        lives
                    });
                    if !records.is_empty() {
                        (self.sink)(records);
                    }
                    if is_over {
                        return;
                    }
                }
                Err(e) => return error!("the program's flows cannot be read: {e}"),
            }
            self.beat();
        }
    }
}

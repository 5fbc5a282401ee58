//! The balancer on its interface: port, worker and director, for as long as the interface is there, and again when it
//! returns.

mod ground;
mod in_kernel;
mod opening;
mod peer;
mod remarks;
mod surroundings;
mod workers;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tracing::{debug, error, info, warn};

use crate::config::{self, BackendConfig, Config};
use crate::counters::Counters;
use crate::director::{Director, Start};
use crate::engine::{Engine, RecentClient};
use crate::failure::{Failure, Sysexit};
use crate::flowfile::{FlowFile, Key};
use crate::lb::Seed;
use crate::lb::flow::{Owner, Record, Shape};
use crate::os;
use crate::sync;
use crate::worker::{Command, Report};
use crate::xdp::kernel::Kernel;
pub use ground::Ground;
use opening::{Drives, Prepared};
use workers::{Stock, Workers};

/// Seconds with a link in which nothing is taken from a tx ring, until the interface is opened anew.
const STUCK_LOOKS: u32 = 10;

/// The balancer.
pub struct Appliance {
    config: Config,
    ground: Ground,
    drives: Drives,
    director: Director,
    serving: Option<Workers>,
    prepared: Option<Prepared>,
    stock: Stock,
    kept_seats: Vec<(String, u8)>,
    /// The seed of the start: what the other balancer knows flows by.
    peer_seed: Seed,
    /// Backends by what that calls them.
    peer_owners: HashMap<u64, Owner>,
    /// When that was last heard of.
    peer_heard: Option<Instant>,
    /// Why the program cannot go on.
    broken: Option<Failure>,
    /// Why the interface could not be opened again, so that it is said once.
    last_failure: Option<Failure>,
    /// Has it been said that frames come with unfinished checksums?
    finishing: bool,
    /// How often it has been said that a queue took nothing.
    gave_up: u64,
    /// How many looks in a row have found a tx ring that nothing is taken from.
    stuck: u32,
}

impl Appliance {
    /// Opens what needs privileges. Nothing runs yet.
    ///
    /// # Errors
    /// What could not be set up.
    pub fn prepare(config: Config, ground: Ground) -> Result<Appliance, Failure> {
        let now = Instant::now();
        let key = os::random_key()?;
        let probe_seed = key.0 ^ key.1;
        // Flows that another balancer is told of have names that it knows, too.
        let file_key = match config.process.peer {
            Some(_) => Key::Shared(sync::flow_key(config.balance.seed)),
            None => Key::Own(key),
        };
        let shape = Shape::of(config.process.flow_entries);
        let (stock, seats) = Stock::open(config.process.flow_file.clone(), shape, file_key)?;
        check_host(&config, &ground)?;
        let has_peer = config.process.peer.is_some();
        let start = Start { silent: config.process.standby, seats, seed: probe_seed, has_peer };
        let director = Director::new(Arc::new(config.balance.clone()), ground.segment(&config), start, now);
        let mut appliance = Appliance {
            serving: None,
            prepared: None,
            stock,
            kept_seats: Vec::new(),
            last_failure: None,
            peer_seed: config.balance.seed,
            peer_owners: HashMap::new(),
            peer_heard: None,
            broken: None,
            finishing: false,
            gave_up: 0,
            stuck: 0,
            drives: Drives::default(),
            director,
            config,
            ground,
        };
        let prepared = appliance.open()?;
        appliance.stock.provide(prepared.lines.len())?;
        appliance.prepared = Some(prepared);
        if !appliance.ground.is_running() {
            appliance.director.link_down();
        }
        Ok(appliance)
    }

    /// Starts the workers on what was prepared.
    ///
    /// # Errors
    /// No thread.
    pub fn start(&mut self) -> Result<(), Failure> {
        let Some(prepared) = self.prepared.take() else {
            return Ok(());
        };
        self.stock.provide(prepared.lines.len())?;
        let station = self.ground.station(&self.config);
        let tables = Arc::clone(self.director.tables());
        let seed = self.config.balance.seed;
        let engine = move |memory, counters| Engine::new(station, tables, seed, memory, counters, Instant::now());
        let mut serving = Workers::start(prepared, &mut self.stock, &self.config.process, engine)?;
        if let Err(failure) = serving.start_kernel(self.director.tables(), station) {
            serving.stop(&mut self.stock);
            return Err(failure);
        }
        self.serving = Some(serving);
        if !self.ground.is_running() {
            warn!("{}: no link yet", self.ground.name());
        }
        Ok(())
    }

    /// Does what is due, and passes on what the director has to say: to the worker, to the log, to the kernel.
    pub fn advance(&mut self) {
        self.director.advance(Instant::now());
        self.carry_out();
    }

    /// Why the program cannot go on, if it cannot.
    pub fn broken(&mut self) -> Option<Failure> {
        self.broken.take()
    }

    /// When [`Appliance::advance`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.director.poll_timeout()
    }

    /// What the workers have to tell.
    pub fn reports(&self) -> Option<&Receiver<Report>> {
        self.serving.as_ref().map(|serving| &serving.reports)
    }

    /// Flows that another balancer is to know of.
    pub fn records(&self) -> Option<&Receiver<Vec<Record>>> {
        self.serving.as_ref().map(|serving| &serving.records)
    }

    /// Takes in what the worker has told; an error is its end.
    pub fn handle_report(&mut self, report: Option<Report>) {
        match report {
            Some(Report::Learnt(event)) => {
                self.director.handle_event(event, Instant::now());
                self.carry_out();
            }
            Some(Report::Failed(e)) => self.stop_serving(&format!("{}: {e}", self.ground.name())),
            None => self.stop_serving(&format!("{}: the worker has ended", self.ground.name())),
        }
    }

    fn carry_out(&mut self) {
        let mut told = false;
        if let Some(tables) = self.director.poll_tables() {
            self.keep_seats();
            self.note_owners();
            self.surround(&tables);
            if let Some(kernel) = self.kernel() {
                kernel.publish(&tables, self.ground.station(&self.config));
            }
            told |= self.tell(Command::Install(tables));
        }
        while let Some(frame) = self.director.poll_transmit() {
            told |= self.tell(Command::Send(frame));
        }
        while let Some(notice) = self.director.poll_notice() {
            if notice.is_bad() { warn!("{notice}") } else { info!("{notice}") }
        }
        if told {
            self.wake();
        }
    }

    /// Tells all workers; false if there are none.
    fn tell(&self, command: Command) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.tell(command))
    }

    /// The workers look at what they were told.
    fn wake(&self) {
        if let Some(serving) = &self.serving {
            serving.wake();
        }
    }

    /// Keeps the backends' numbers beside the flows that know them by these.
    fn keep_seats(&mut self) {
        if self.stock.files().is_empty() {
            return;
        }
        let seats: Vec<(String, u8)> = self.director.seats().iter().map(|s| (s.key.clone(), s.epoch)).collect();
        if seats != self.kept_seats {
            match self.stock.keep_seats(&seats) {
                Ok(()) => self.kept_seats = seats,
                Err((path, e)) => error!("flow file {}: {e}", path.display()),
            }
        }
    }

    /// Once a second: are the interfaces still those that were opened, do they have a link, and how many flows are left to
    /// backends that are drained?
    pub fn watch(&mut self) {
        let counters = self.counters();
        self.director.observe(&counters.flows);
        self.note_finishing(&counters);
        self.note_giving_up(&counters);
        let found = Ground::find(&self.config.process).ok();
        if self.serving.is_none() {
            if let Some(ground) = found {
                self.reopen(ground);
            }
            return;
        }
        if self.serving.as_ref().is_some_and(|serving| !serving.are_alive()) {
            return self.stop_serving(&format!("{}: a worker has ended", self.ground.name()));
        }
        let known = &self.ground;
        let name = known.name();
        match found {
            Some(ground) if ground.is_same(known) => {
                if ground.is_running() && !known.is_running() {
                    info!("{name}: the link is back");
                    self.director.link_up(Instant::now());
                } else if !ground.is_running() && known.is_running() {
                    error!("{name}: the link is down; until it is back, every backend counts as what it was");
                    self.director.link_down();
                }
                if !known.is_up() && ground.is_up() && self.is_by_netmap() {
                    return self.stop_serving(&format!("{name} was taken down and up: opening it anew"));
                }
                if let Some(what) = self.disturbance() {
                    return self.stop_serving(&format!(
                        "{name}: somebody has switched on what is in the way ({what}): setting it up and opening it anew"
                    ));
                }
                self.stuck = if counters.stuck.get() > 0 && ground.is_running() { self.stuck + 1 } else { 0 };
                if self.stuck >= STUCK_LOOKS {
                    self.stuck = 0;
                    return self.stop_serving(&format!(
                        "{name}: its tx ring has been full for {STUCK_LOOKS} s, with a link: opening it anew"
                    ));
                }
                let segment = ground.segment(&self.config);
                if self.director.segment() != &segment {
                    debug!("{name}: its addresses or gateways have changed");
                    self.director.readdress(segment, Instant::now());
                }
                self.ground = ground;
            }
            Some(ground) if ground.is_there_still(known) => {
                self.stop_serving(&format!("{name} has another MAC, {}: opening it anew", ground.macs()));
            }
            _ => self.stop_serving(&format!("{name} has gone; waiting for it to return")),
        }
    }

    fn reopen(&mut self, ground: Ground) {
        let name = ground.name();
        let before = std::mem::replace(&mut self.ground, ground);
        let opened = self.open().and_then(|prepared| {
            self.director.reopen(self.ground.segment(&self.config), Instant::now());
            self.prepared = Some(prepared);
            self.start()
        });
        match opened {
            Ok(()) => {
                self.last_failure = None;
                info!("{name} is back");
            }
            Err(failure) => {
                self.ground = before;
                if self.last_failure.as_ref() != Some(&failure) {
                    warn!("{name} cannot be opened again yet: {failure}");
                }
                self.last_failure = Some(failure);
            }
        }
    }

    fn stop_serving(&mut self, why: &str) {
        error!("{why}");
        self.stop();
    }

    /// Ends the workers; what they remember of flows stays.
    pub fn stop(&mut self) {
        self.count_kernel();
        if let Some(serving) = self.serving.take()
            && !serving.stop(&mut self.stock)
        {
            // A fault of ours. Whoever looks after the program starts it again, and a flow file keeps the flows.
            self.broken = Some(Failure::new(Sysexit::Software, "a worker has panicked, which is a fault in pen-dsr"));
        }
    }

    /// Everything by `config` from now on, or nothing of it. Returns what differs from before.
    ///
    /// # Errors
    /// It contradicts itself, or this host, or changes what cannot be changed while the program runs.
    pub fn apply(&mut self, config: Config) -> Result<Vec<String>, Failure> {
        config.validate()?;
        let fixed = self.config.fixed_difference(&config);
        if !fixed.is_empty() {
            return Err(Failure::new(
                Sysexit::Config,
                format!(
                    "this cannot be changed while the program runs: {}; restart it, or take that back",
                    fixed.join(", ")
                ),
            ));
        }
        check_host(&config, &self.ground)?;
        let difference = config::difference(&self.config, &config);
        if config.balance.vips != self.config.balance.vips {
            opening::warn_of_own_vips(&config, &self.ground);
        }
        self.director.reconfigure(Arc::new(config.balance.clone()), Instant::now());
        self.config = config;
        self.carry_out();
        self.await_workers();
        // Whoever has left the list goes when his last flow does.
        self.take_stock();
        Ok(difference)
    }

    /// The configuration as it stands.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the workers have counted, in all, and the program in the kernel.
    pub fn counters(&self) -> Arc<Counters> {
        self.count_kernel();
        self.stock.counters()
    }

    fn count_kernel(&self) {
        if let Some(kernel) = self.kernel() {
            kernel.count(self.director.tables(), self.stock.kernel_counters());
        }
    }

    /// The program in the kernel, where that drives the interface.
    fn kernel(&self) -> Option<&Kernel> {
        self.serving.as_ref()?.surroundings.kernel.as_ref()
    }

    /// The clients that have opened a flow within the last `within`; `None` if no worker answers.
    pub fn recent(&self, within: Duration) -> Option<Vec<RecentClient>> {
        let mut clients = self.inspect(move |engine| engine.recent(within))?.concat();
        clients.extend(self.kernel().into_iter().flat_map(|kernel| kernel.recent(within)));
        clients.sort_by_key(|client| std::cmp::Reverse(client.seen));
        Some(clients)
    }

    /// The files that flows are kept in.
    pub fn flow_files(&self) -> impl Iterator<Item = &Path> {
        self.stock.files().iter().map(FlowFile::path)
    }

    /// The director, to look at.
    pub fn director(&self) -> &Director {
        &self.director
    }

    /// Lets `change` change the director, and carries out what comes of it.
    pub fn direct<T>(&mut self, change: impl FnOnce(&mut Director, Instant) -> T) -> T {
        let outcome = change(&mut self.director, Instant::now());
        self.carry_out();
        self.settle();
        outcome
    }

    /// Waits until what was changed is what counts for the workers and in the kernel, too: whoever has asked for it relies
    /// on that.
    fn settle(&self) {
        self.await_workers();
        if let Some(kernel) = self.kernel() {
            kernel.settle();
        }
    }

    /// Waits until each worker has heard all that it was told, if none is stuck.
    fn await_workers(&self) {
        if self.inspect(|_| ()).is_none() && self.serving.is_some() {
            debug!("a worker is not as far yet as was asked for");
        }
    }

    /// Takes in which flows there are in the kernel now.
    pub fn take_stock(&self) {
        if let Some(kernel) = self.kernel() {
            kernel.tell();
        }
    }

    /// The same for who only asks: not if there are so many that it takes long.
    pub fn glance_at_flows(&self) {
        if let Some(kernel) = self.kernel() {
            kernel.refresh();
        }
    }

    /// Has each worker look at its engine, and returns what they saw; `None` if there is none, or one is stuck.
    pub fn inspect<T: Send + 'static>(
        &self,
        look: impl Fn(&mut Engine) -> T + Clone + Send + 'static,
    ) -> Option<Vec<T>> {
        self.serving.as_ref()?.inspect(&look)
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.stop();
        // The ports are closed before the interfaces become again what they were.
        self.prepared = None;
    }
}

/// Is the configuration one for this host?
fn check_host(config: &Config, ground: &Ground) -> Result<(), Failure> {
    let balance = &config.balance;
    let everybody = balance.backends.iter().chain(&balance.emergency);
    let whose = |backend: &BackendConfig| backend.address.and_then(|address| ground.owner(address));
    if let Some((backend, interface)) = everybody.into_iter().find_map(|b| whose(b).map(|interface| (b, interface))) {
        return Err(Failure::usage(format!(
            "backend {:?} is this host: {} has its address; leave it out",
            backend.name, interface.name
        )));
    }
    let Some(list) = balance.tarpit.and_then(|tarpit| balance.acls.get(&tarpit.acl).map(|acl| (tarpit.acl, acl)))
    else {
        return Ok(());
    };
    let (number, acl) = list;
    let own = ground.segment(config);
    if let Some((address, whose)) = own.precious().find(|(address, _)| acl.permits(*address)) {
        return Err(Failure::usage(format!(
            "the tarpit's list {number} permits {address}, which is {whose}: put \"deny {address}\" in front"
        )));
    }
    Ok(())
}

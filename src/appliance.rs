//! The balancer on its interface: port, worker and director, for as long as the interface is there, and again when it
//! returns.

mod peer;
mod surroundings;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::RwLock;
use tracing::{debug, error, info, warn};

use crate::config::{self, BackendConfig, Config};
use crate::counters::{Counters, MOST_BACKENDS, MOST_VIPS};
use crate::director::{Director, Segment, Start};
use crate::engine::{Engine, Station};
use crate::failure::{Failure, Sysexit};
use crate::flowfile::{FlowFile, Key};
use crate::lb::Seed;
use crate::lb::acl::Acl;
use crate::lb::flow::{Memory, Owner, Record, Shape};
use crate::logging;
use crate::os::{self, Interface};
use crate::port::packet::PacketPort;
use crate::port::{Waker, waker};
use crate::sync;
use crate::worker::{self, Channels, Command, Report};
use surroundings::{Surroundings, wanted};

/// Reports that may wait for the director; a worker never waits for room.
const REPORTS: usize = 4096;
/// Batches of flows that may wait to be told to another balancer; a worker never waits for room.
const RECORD_BATCHES: usize = 256;
/// How long a look at a worker's engine may take to be granted.
const INSPECTION: Duration = Duration::from_secs(2);

/// The balancer.
pub struct Appliance {
    config: Config,
    /// How many configurations there have been.
    version: u64,
    interface: Interface,
    counters: Arc<Counters>,
    director: Director,
    serving: Option<Serving>,
    prepared: Option<Prepared>,
    /// What is remembered of flows, while no worker has it.
    memory: Option<Memory>,
    flow_file: Option<FlowFile>,
    kept_seats: Vec<(String, u8)>,
    /// Who may give commands over TCP.
    control_acl: Arc<RwLock<Option<Arc<Acl>>>>,
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
}

/// What has to be opened while still privileged.
struct Prepared {
    port: PacketPort,
    waker: Waker,
    surroundings: Surroundings,
}

/// The part that lives while the interface does.
struct Serving {
    commands: Sender<Command>,
    reports: Receiver<Report>,
    records: Receiver<Vec<Record>>,
    waker: Waker,
    thread: Option<JoinHandle<Memory>>,
    surroundings: Surroundings,
}

impl Appliance {
    /// Opens what needs privileges. Nothing runs yet.
    ///
    /// # Errors
    /// What could not be set up.
    pub fn prepare(config: Config, interface: Interface) -> Result<Appliance, Failure> {
        let now = Instant::now();
        let key = os::random_key()?;
        let probe_seed = key.0 ^ key.1;
        // Flows that another balancer is told of have names that it knows, too.
        let file_key = match config.process.peer {
            Some(_) => Key::Shared(sync::flow_key(config.balance.seed)),
            None => Key::Own(key),
        };
        let (Key::Own(key) | Key::Shared(key)) = file_key;
        let shape = Shape::of(config.process.flow_entries);
        let no_memory = |e: io::Error| Failure::new(Sysexit::OsErr, format!("no memory for the flow table: {e}"));
        let (flow_file, memory, seats) = match &config.process.flow_file {
            None => (None, Memory::fresh(shape, key).map_err(no_memory)?, Vec::new()),
            Some(path) => {
                let (file, kept) = FlowFile::open(path, shape, file_key)?;
                if let Some(why) = kept.discarded {
                    warn!("flow file {}: begun anew: {why}", path.display());
                }
                (Some(file), kept.memory, kept.seats)
            }
        };
        check_host(&config, &interface)?;
        let has_peer = config.process.peer.is_some();
        let start = Start { silent: config.process.standby, seats, seed: probe_seed, has_peer };
        let director = Director::new(Arc::new(config.balance.clone()), segment(&config, &interface), start, now);
        let mut appliance = Appliance {
            counters: Arc::new(Counters::new(MOST_BACKENDS, MOST_VIPS)),
            control_acl: Arc::default(),
            serving: None,
            prepared: None,
            memory: Some(memory),
            flow_file,
            kept_seats: Vec::new(),
            last_failure: None,
            version: 0,
            peer_seed: config.balance.seed,
            peer_owners: HashMap::new(),
            peer_heard: None,
            broken: None,
            director,
            config,
            interface,
        };
        if !appliance.interface.running {
            appliance.director.link_down();
        }
        appliance.prepared = Some(appliance.open(&appliance.interface)?);
        appliance.publish_control_acl();
        Ok(appliance)
    }

    /// Starts the worker on what was prepared.
    ///
    /// # Errors
    /// No thread.
    pub fn start(&mut self) -> Result<(), Failure> {
        let Some(prepared) = self.prepared.take() else {
            return Ok(());
        };
        let interface = &self.interface;
        let station = station(&self.config, interface);
        let Some(memory) = self.memory.take() else {
            return Err(Failure::new(Sysexit::OsErr, "the flow table's memory is gone"));
        };
        let tables = Arc::clone(self.director.tables());
        let engine =
            Engine::new(station, tables, self.config.balance.seed, memory, Arc::clone(&self.counters), Instant::now());
        let (commands, command_receiver) = unbounded();
        let (report_sender, reports) = bounded(REPORTS);
        let (record_sender, records) = bounded(RECORD_BATCHES);
        let channels = Channels { commands: command_receiver, reports: report_sender, records: record_sender };
        let Prepared { port, waker, surroundings } = prepared;
        let busy_poll = Duration::from_micros(u64::from(self.config.process.busy_poll));
        let thread = std::thread::Builder::new()
            .name("worker-0".into())
            .spawn(move || worker::run(port, engine, busy_poll, &channels))
            .map_err(|e| Failure::new(Sysexit::OsErr, format!("no thread: {e}")))?;
        if !interface.running {
            warn!("{}: no link yet", interface.name);
        }
        self.serving = Some(Serving { commands, reports, records, waker, thread: Some(thread), surroundings });
        Ok(())
    }

    /// Opens the interface.
    fn open(&self, interface: &Interface) -> Result<Prepared, Failure> {
        let name = &interface.name;
        warn_of_own_vips(&self.config, interface);
        let wanted = wanted(self.director.tables());
        let (waker, receiver) = waker().map_err(|e| Failure::new(Sysexit::OsErr, format!("no socket pair: {e}")))?;
        let port = PacketPort::open(interface, &wanted, receiver).map_err(|e| open_failure(name, &e))?;
        let filters = port.filters().map_err(|e| open_failure(name, &e))?;
        let vips = self.config.balance.vips.clone();
        let memberships = self.join(interface, &wanted).map_err(|e| open_failure(name, &e))?;
        let ingress = self.keep_from_host(interface, &wanted);
        Ok(Prepared { port, waker, surroundings: Surroundings { wanted, vips, filters, memberships, ingress } })
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

    /// What the worker has to tell.
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
            Some(Report::Failed(e)) => self.stop_serving(&format!("{}: {e}", self.interface.name)),
            None => self.stop_serving(&format!("{}: the worker has ended", self.interface.name)),
        }
    }

    fn carry_out(&mut self) {
        let mut told = false;
        if let Some(tables) = self.director.poll_tables() {
            self.keep_seats();
            self.note_owners();
            self.surround(&tables);
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

    fn tell(&self, command: Command) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.commands.send(command).is_ok())
    }

    /// The worker looks at what it was told.
    fn wake(&self) {
        if let Some(serving) = &self.serving {
            serving.waker.wake();
        }
    }

    /// Keeps the backends' numbers beside the flows that know them by these.
    fn keep_seats(&mut self) {
        let Some(file) = &self.flow_file else { return };
        let seats: Vec<(String, u8)> = self.director.seats().iter().map(|s| (s.key.clone(), s.epoch)).collect();
        if seats != self.kept_seats {
            match file.keep_seats(seats.iter().map(|(name, epoch)| (name.as_str(), *epoch))) {
                Ok(()) => self.kept_seats = seats,
                Err(e) => error!("flow file {}: {e}", file.path().display()),
            }
        }
    }

    /// Once a second: is the interface still the one that was opened, does it have a link, and how many flows are left to
    /// backends that are drained?
    pub fn watch(&mut self) {
        self.director.observe(&self.counters.flows);
        let name = self.interface.name.clone();
        let found = Interface::find(&name).ok();
        if self.serving.is_none() {
            if let Some(interface) = found {
                self.reopen(interface);
            }
            return;
        }
        let known = &self.interface;
        match found {
            Some(interface) if (interface.index, interface.mac) == (known.index, known.mac) => {
                if interface.running && !known.running {
                    info!("{name}: the link is back");
                    self.director.link_up(Instant::now());
                } else if !interface.running && known.running {
                    error!("{name}: the link is down; until it is back, every backend counts as what it was");
                    self.director.link_down();
                }
                let segment = segment(&self.config, &interface);
                if self.director.segment() != &segment {
                    debug!("{name}: its addresses or gateways have changed");
                    self.director.readdress(segment, Instant::now());
                }
                self.interface = interface;
            }
            Some(interface) if interface.index == known.index => {
                self.stop_serving(&format!("{name} has another MAC, {}: opening it anew", interface.mac));
            }
            _ => self.stop_serving(&format!("{name} has gone; waiting for it to return")),
        }
    }

    fn reopen(&mut self, interface: Interface) {
        let name = interface.name.clone();
        let opened = self.open(&interface).and_then(|prepared| {
            self.director.reopen(segment(&self.config, &interface), Instant::now());
            self.prepared = Some(prepared);
            self.interface = interface;
            self.start()
        });
        match opened {
            Ok(()) => {
                self.last_failure = None;
                info!("{name} is back");
            }
            Err(failure) => {
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

    /// Ends the worker; what it remembers of flows stays.
    pub fn stop(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            let _ = serving.commands.send(Command::Stop);
            serving.waker.wake();
            match serving.thread.take().map(JoinHandle::join) {
                Some(Ok(memory)) => self.memory = Some(memory),
                // A fault of ours. Whoever looks after the program starts it again, and a flow file keeps the flows.
                Some(Err(_)) => {
                    self.broken =
                        Some(Failure::new(Sysexit::Software, "the worker has panicked, which is a fault in pen-dsr"));
                }
                None => {}
            }
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
        check_host(&config, &self.interface)?;
        let difference = config::difference(&self.config, &config);
        if config.balance.vips != self.config.balance.vips {
            warn_of_own_vips(&config, &self.interface);
        }
        self.director.reconfigure(Arc::new(config.balance.clone()), Instant::now());
        if config.process.debug != self.config.process.debug {
            logging::set_level(config.process.debug);
        }
        self.config = config;
        self.version += 1;
        self.publish_control_acl();
        self.carry_out();
        Ok(difference)
    }

    fn publish_control_acl(&self) {
        let balance = &self.config.balance;
        let acl = balance.control_acl.and_then(|number| balance.acls.get(&number));
        *self.control_acl.write() = acl.map(|acl| Arc::new(acl.clone()));
    }

    /// Who may give commands over TCP, as it stands at any time.
    pub fn control_acl(&self) -> Arc<RwLock<Option<Arc<Acl>>>> {
        Arc::clone(&self.control_acl)
    }

    /// The configuration as it stands.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Another number for every configuration that there has been.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What the workers have counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The director, to look at.
    pub fn director(&self) -> &Director {
        &self.director
    }

    /// Lets `change` change the director, and carries out what comes of it.
    pub fn direct<T>(&mut self, change: impl FnOnce(&mut Director, Instant) -> T) -> T {
        let outcome = change(&mut self.director, Instant::now());
        self.carry_out();
        outcome
    }

    /// Has the worker look at its engine, and returns what it saw; `None` if there is no worker, or it is stuck.
    pub fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&mut Engine) -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = bounded(1);
        let look = move |engine: &mut Engine| {
            let _ = sender.send(look(engine));
        };
        if !self.tell(Command::Inspect(Box::new(look))) {
            return None;
        }
        self.wake();
        receiver.recv_timeout(INSPECTION).ok()
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.stop();
    }
}

fn station(config: &Config, interface: &Interface) -> Station {
    Station { mac: interface.mac, vip_mac: config.process.vip_mac.unwrap_or(interface.mac) }
}

fn segment(config: &Config, interface: &Interface) -> Segment {
    Segment {
        station: station(config, interface),
        ipv4: interface.ipv4.clone(),
        ipv6: interface.ipv6.clone(),
        link_local: interface.link_local,
        gateways: os::gateways(),
    }
}

fn warn_of_own_vips(config: &Config, interface: &Interface) {
    for vip in config.balance.vip_addresses().iter().filter(|&&vip| interface.has(vip)) {
        warn!(
            "{} itself has the virtual address {vip}: clients of this host's own services there will not reach them",
            interface.name
        );
    }
}

/// Is the configuration one for this host?
fn check_host(config: &Config, interface: &Interface) -> Result<(), Failure> {
    let balance = &config.balance;
    let everybody = balance.backends.iter().chain(&balance.emergency);
    let is_own = |backend: &&BackendConfig| backend.address.is_some_and(|address| interface.has(address));
    if let Some(backend) = everybody.into_iter().find(is_own) {
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
    let own = segment(config, interface);
    if let Some((address, whose)) = own.precious().find(|(address, _)| acl.permits(*address)) {
        return Err(Failure::usage(format!(
            "the tarpit's list {number} permits {address}, which is {whose}: put \"deny {address}\" in front"
        )));
    }
    Ok(())
}

/// The port could not be opened: why, and what to do.
fn open_failure(interface: &str, e: &io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::new(Sysexit::NoPerm, format!("{interface}: {e}: {}", os::PERMISSION_REMEDY))
        }
        _ => Failure::new(Sysexit::Unavailable, format!("{interface}: cannot be opened for raw frames: {e}")),
    }
}

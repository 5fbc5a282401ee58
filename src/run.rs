//! The running balancer: set up the interface, start the worker, direct it, until somebody says stop.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing::{debug, error, info, warn};

use crate::config::Balance;
use crate::config::cli::ProcessArgs;
use crate::counters::Counters;
use crate::director::{Director, Segment};
use crate::engine::{Engine, Station};
use crate::failure::{Failure, Sysexit};
use crate::os::{self, IngressDrop, Interface, Memberships, Pidfile};
use crate::port::packet::PacketPort;
use crate::port::{Waker, waker};
use crate::stats;
use crate::worker::{self, Command, Report};

/// Reports that may wait for the director; a worker never waits for room.
const REPORTS: usize = 4096;
/// Between two looks at the interface.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until TERM or INT.
///
/// # Errors
/// What could not be set up. Once it runs, it goes on: an interface that goes away is waited for.
pub fn run(balance: Balance, process: &ProcessArgs) -> Result<(), Failure> {
    let Some(name) = process.interface.as_deref() else {
        return Err(Failure::usage("no interface: say with -i IF on which segment the backends are"));
    };
    let user = process.user.as_deref().map(os::user).transpose()?;
    let interface = Interface::find(name)?;
    let mut pidfile = process.pidfile.as_deref().map(Pidfile::take).transpose()?;
    let mut appliance = Appliance::new(Arc::new(balance), process);
    let prepared = appliance.prepare(&interface)?;
    if let Some(user) = &user {
        os::drop_privileges(user)?;
    }
    if process.daemon {
        os::daemonize()?;
    }
    let carry_on = || {
        if let Some(pidfile) = &mut pidfile {
            pidfile.write()?;
        }
        let signals = signals()?;
        appliance.say_hello(&interface);
        appliance.start(&interface, prepared)?;
        appliance.serve(name, &signals)
    };
    carry_on().inspect_err(|failure| {
        // Nobody reads a daemon's standard error.
        if process.daemon {
            error!("{failure}");
        }
    })
}

/// TERM, INT, HUP and USR1 as messages.
fn signals() -> Result<Receiver<i32>, Failure> {
    let os_error = |e: io::Error| Failure::new(Sysexit::OsErr, format!("signals cannot be handled: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map_err(os_error)?;
    let (sender, receiver) = unbounded();
    let forward = move || signals.forever().all(|signal| sender.send(signal).is_ok());
    std::thread::Builder::new().name("signals".into()).spawn(forward).map_err(os_error)?;
    Ok(receiver)
}

/// What has to be opened while still privileged.
struct Prepared {
    port: PacketPort,
    waker: Waker,
    ingress: Option<IngressDrop>,
    memberships: Memberships,
}

/// The part that lives while the interface does.
struct Serving {
    interface: Interface,
    director: Director,
    commands: Sender<Command>,
    reports: Receiver<Report>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    _ingress: Option<IngressDrop>,
    _memberships: Memberships,
}

struct Appliance<'a> {
    balance: Arc<Balance>,
    process: &'a ProcessArgs,
    counters: Arc<Counters>,
    serving: Option<Serving>,
    /// Why the interface could not be opened again, so that it is said once.
    last_failure: Option<Failure>,
}

impl<'a> Appliance<'a> {
    fn new(balance: Arc<Balance>, process: &'a ProcessArgs) -> Appliance<'a> {
        let counters = Arc::new(Counters::new(balance.backends.len(), balance.vip_addresses().len()));
        Appliance { balance, process, counters, serving: None, last_failure: None }
    }

    /// Opens what needs privileges.
    fn prepare(&self, interface: &Interface) -> Result<Prepared, Failure> {
        let vips = self.balance.vip_addresses();
        let name = &interface.name;
        for vip in vips.iter().filter(|&&vip| interface.has(vip)) {
            warn!(
                "{name} itself has the virtual address {vip}: clients of this host's own services there will not reach them"
            );
        }
        let own = self.balance.backends.iter().find(|b| b.address.is_some_and(|a| interface.has(a)));
        if let Some(own) = own {
            return Err(Failure::usage(format!(
                "backend {:?} is this host: {name} has its address; leave it out",
                own.name
            )));
        }
        let (waker, receiver) = waker().map_err(|e| Failure::new(Sysexit::OsErr, format!("no socket pair: {e}")))?;
        let port = PacketPort::open(interface, &vips, receiver).map_err(|e| open_failure(name, &e))?;
        let extra = self.process.vip_mac.filter(|&mac| mac != interface.mac);
        let memberships = Memberships::join(interface.index, &vips, extra).map_err(|e| open_failure(name, &e))?;
        let ingress = if self.process.no_ingress_drop {
            None
        } else {
            match IngressDrop::install(name, &self.balance.vips) {
                Ok(ingress) => Some(ingress),
                Err(e) => {
                    warn!(
                        "{name}: the host's IP stack sees the VIPs' frames, too, which costs throughput: no ingress filter ({e})"
                    );
                    None
                }
            }
        };
        Ok(Prepared { port, waker, ingress, memberships })
    }

    /// Starts the worker and its director.
    fn start(&mut self, interface: &Interface, prepared: Prepared) -> Result<(), Failure> {
        let now = Instant::now();
        let station = Station { mac: interface.mac, vip_mac: self.process.vip_mac.unwrap_or(interface.mac) };
        let segment = Segment { station, ipv4: interface.ipv4.clone(), link_local: interface.link_local };
        let director = Director::new(Arc::clone(&self.balance), segment, now);
        let engine =
            Engine::new(station, Arc::clone(director.tables()), self.balance.seed, Arc::clone(&self.counters), now);
        let (commands, command_receiver) = unbounded();
        let (report_sender, reports) = bounded(REPORTS);
        let Prepared { port, waker, ingress, memberships } = prepared;
        let busy_poll = Duration::from_micros(u64::from(self.process.busy_poll));
        let thread = std::thread::Builder::new()
            .name("worker-0".into())
            .spawn(move || worker::run(port, engine, busy_poll, &command_receiver, &report_sender))
            .map_err(|e| Failure::new(Sysexit::OsErr, format!("no thread: {e}")))?;
        if !interface.running {
            warn!("{}: no link yet", interface.name);
        }
        self.serving = Some(Serving {
            interface: interface.clone(),
            director,
            commands,
            reports,
            waker,
            thread: Some(thread),
            _ingress: ingress,
            _memberships: memberships,
        });
        Ok(())
    }

    /// Directs the worker until TERM or INT.
    fn serve(&mut self, name: &str, signals: &Receiver<i32>) -> Result<(), Failure> {
        let mut next_watch = Instant::now() + WATCH_INTERVAL;
        loop {
            let now = Instant::now();
            let mut wake = next_watch;
            if let Some(serving) = &mut self.serving {
                serving.director.advance(now);
                serving.carry_out();
                wake = serving.director.poll_timeout().map_or(wake, |timeout| timeout.min(wake));
            }
            if now >= next_watch {
                next_watch = now + WATCH_INTERVAL;
                self.watch(name);
                continue;
            }
            let nothing = never();
            let reports = self.serving.as_ref().map_or(&nothing, |serving| &serving.reports);
            select! {
                recv(signals) -> signal => match signal {
                    Ok(SIGUSR1) => self.log_statistics(),
                    Ok(SIGHUP) => info!("HUP: nothing to reload, the configuration is the command line"),
                    _ => break,
                },
                recv(reports) -> report => match report {
                    Ok(Report::Learnt(event)) => {
                        if let Some(serving) = &mut self.serving {
                            serving.director.handle_event(event, Instant::now());
                        }
                    }
                    Ok(Report::Failed(e)) => self.stop_serving(&format!("{name}: {e}")),
                    Err(_) => self.stop_serving(&format!("{name}: the worker has ended")),
                },
                default(wake.saturating_duration_since(now)) => {}
            }
        }
        self.serving = None;
        self.log_statistics();
        info!("stopped");
        Ok(())
    }

    /// Looks whether the interface is still the one that was opened, and has a link.
    fn watch(&mut self, name: &str) {
        let found = Interface::find(name).ok();
        if let Some(serving) = &mut self.serving {
            let known = &serving.interface;
            match found {
                Some(interface) if (interface.index, interface.mac) == (known.index, known.mac) => {
                    if interface.running && !known.running {
                        info!("{name}: the link is back");
                        serving.director.link_up(Instant::now());
                    } else if !interface.running && known.running {
                        error!("{name}: the link is down");
                    }
                    if (&interface.ipv4, interface.link_local) != (&known.ipv4, known.link_local) {
                        debug!("{name}: its addresses have changed");
                        serving.director.readdress(interface.ipv4.clone(), interface.link_local);
                    }
                    serving.interface = interface;
                }
                Some(interface) if interface.index == known.index => {
                    self.stop_serving(&format!("{name} has another MAC, {}: opening it anew", interface.mac));
                }
                _ => self.stop_serving(&format!("{name} has gone; waiting for it to return")),
            }
            return;
        }
        let Some(interface) = found else { return };
        let started = self.prepare(&interface).and_then(|prepared| self.start(&interface, prepared));
        match started {
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
        self.serving = None;
    }

    fn say_hello(&self, interface: &Interface) {
        let b = &*self.balance;
        if let Some(user) = &self.process.user {
            info!("running as user {user}");
        }
        let vips: Vec<String> = b.vips.iter().map(|vip| format!("{vip} ({})", vip.protocols)).collect();
        info!(
            "{}: {} by {} backends, hashing the client's {}, seed {:x}, {} slots",
            interface.name,
            vips.join(", "),
            b.backends.len(),
            if b.hash_port { "address and port" } else { "address" },
            b.seed.0,
            b.slots_wanted()
        );
        for backend in &b.backends {
            let at = backend.mac.map_or_else(|| "its MAC is being asked for".to_owned(), |mac| format!("at {mac}"));
            let address = backend.address.map_or(String::new(), |a| format!(" ({a})"));
            info!("backend {}{address}, weight {}, {at}", backend.name, backend.weight);
            if backend.soft != 0 || backend.hard != 0 || backend.prio != 0 {
                warn!(
                    "backend {}: soft and hard limits and priority have no effect on Direct Server Return",
                    backend.name
                );
            }
        }
        if b.backends.iter().all(|backend| backend.weight == 0) {
            warn!("all backends have weight 0: nobody is served");
        }
    }

    fn log_statistics(&self) {
        let tables = match &self.serving {
            Some(serving) => Arc::clone(serving.director.tables()),
            None => return self.log_totals(),
        };
        for line in stats::lines(&self.counters, &self.balance, &tables) {
            info!("{line}");
        }
    }

    fn log_totals(&self) {
        let c = &*self.counters;
        info!(
            "in all: received {}, transmitted {}, left to the host {}, dropped {} frames",
            c.received.frames.get(),
            c.transmitted.frames.get(),
            c.host.frames.get(),
            c.lost()
        );
    }
}

impl Serving {
    /// Passes on what the director has to say: to the worker, to the log.
    fn carry_out(&mut self) {
        let mut told = false;
        if let Some(tables) = self.director.poll_tables() {
            told |= self.commands.send(Command::Install(tables)).is_ok();
        }
        while let Some(frame) = self.director.poll_transmit() {
            told |= self.commands.send(Command::Send(frame)).is_ok();
        }
        while let Some(notice) = self.director.poll_notice() {
            if notice.is_bad() { warn!("{notice}") } else { info!("{notice}") }
        }
        if told {
            self.waker.wake();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
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

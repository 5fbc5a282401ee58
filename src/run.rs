//! The running balancer: set-up, signals, commands, until somebody says stop.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::appliance::Appliance;
use crate::balancer::Balancer;
use crate::config::{Config, Edit, Loaded, Lookup};
use crate::control::execute::{self, Outcome};
use crate::control::server::{Limits, Listeners};
use crate::control::wire::{Reply, Request};
use crate::failure::{Failure, Sysexit};
use crate::lb::flow::Shape;
use crate::os::{self, Pidfile};
use crate::proxy::Proxy;
use crate::sync::{self, Peer};
use crate::{logging, stats};

/// Between two looks at the interface.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Reports that are taken in at a time.
const MOST_REPORTS: usize = 1024;
/// Between two looks whether all connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Runs until TERM or INT, or a command. `load` reads the configuration anew, for HUP.
///
/// # Errors
/// What could not be set up. Once it runs, it goes on: an interface that goes away is waited for, a configuration that
/// makes no sense is not taken.
pub fn run(config: Config, load: impl Fn() -> Result<Loaded, Failure> + Clone + Send + 'static) -> Result<(), Failure> {
    let process = config.process.clone();
    let user = process.user.as_deref().map(os::user).transpose()?;
    // First of all, so that a second process is told of the first one. Only a successor may find it there.
    let first = process.pidfile.as_deref().filter(|_| config.proxy.handover.is_none());
    let mut pidfile = first.map(Pidfile::take).transpose()?;
    let mut balancer = Balancer::prepare(config)?;
    let succeeds = balancer.proxy().is_some_and(Proxy::succeeds);
    if pidfile.is_none() {
        let take = if succeeds { Pidfile::succeed } else { Pidfile::take };
        pidfile = process.pidfile.as_deref().map(take).transpose()?;
    }
    let peer = process.peer.map(|peer| Peer::open(peer, balancer.config().balance.seed)).transpose()?;
    let listen = if succeeds { Listeners::succeed } else { Listeners::open };
    let control = listen(&process.control, user.as_ref())?;
    if let Some(user) = &user {
        // Both are written to, and the log opened anew, as that user.
        for path in balancer.files() {
            os::give(path, user)?;
        }
        for path in balancer.appliance().iter().flat_map(|appliance| appliance.pinned()) {
            os::give(&path, user)?;
        }
    }
    if let Some(root) = &balancer.config().proxy.chroot {
        os::change_root(root)?;
    }
    if let Some(user) = &user {
        if balancer.kept().foreign_addresses && !os::KEEPS_CAPABILITIES {
            let what =
                "only root can give sockets the addresses of clients on this system: leave -u out, or transparent";
            return Err(Failure::new(Sysexit::Config, what));
        }
        os::drop_privileges(user, balancer.kept())?;
    }
    if process.daemon {
        os::daemonize()?;
    }
    let carry_on = || {
        if let Some(pidfile) = &mut pidfile {
            pidfile.write()?;
        }
        let signals = signals()?;
        say_hello(balancer.config());
        balancer.start()?;
        let (_control, requests) = control.serve(balancer.control_acl(), Limits::default())?;
        let peer = peer.map(Peer::serve).transpose()?;
        Loop { balancer, signals, requests, peer, load, worked_out: bounded(16), reloads: 0, ends: None }.run()
    };
    carry_on().inspect_err(|failure: &Failure| {
        // Nobody reads a daemon's standard error.
        if process.daemon {
            error!("{failure}");
        }
    })
}

/// The signals that mean something to us, as messages.
fn signals() -> Result<Receiver<i32>, Failure> {
    let os_error = |e: io::Error| Failure::new(Sysexit::OsErr, format!("signals cannot be handled: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]).map_err(os_error)?;
    let (sender, receiver) = unbounded();
    let forward = move || signals.forever().all(|signal| sender.send(signal).is_ok());
    std::thread::Builder::new().name("signals".into()).spawn(forward).map_err(os_error)?;
    Ok(receiver)
}

/// What the main thread waits for.
struct Loop<L> {
    balancer: Balancer,
    signals: Receiver<i32>,
    requests: Receiver<Request>,
    peer: Option<sync::Channels>,
    load: L,
    /// Configurations that were worked out in another thread.
    worked_out: (Sender<WorkedOut>, Receiver<WorkedOut>),
    /// The number of the last reload that was started.
    reloads: u64,
    /// When what is being drained is cut off.
    ends: Option<Instant>,
}

/// A configuration that may be the next one, and who wants to know what comes of it.
enum WorkedOut {
    /// Read anew from its sources.
    Reload { number: u64, outcome: Result<Loaded, Failure>, asked: Option<Sender<Reply>> },
    /// Changed by a command.
    Edit { version: u64, edit: Edit, outcome: Result<(Config, String), Failure>, asked: Sender<Reply> },
}

impl<L: Fn() -> Result<Loaded, Failure> + Clone + Send + 'static> Loop<L> {
    fn run(mut self) -> Result<(), Failure> {
        let mut next_watch = Instant::now() + WATCH_INTERVAL;
        loop {
            // Whatever has held this thread up, what has come meanwhile counts before what has not.
            if let Some(appliance) = self.balancer.appliance_mut() {
                for _ in 0..MOST_REPORTS {
                    let Some(report) = appliance.reports().and_then(|reports| reports.try_recv().ok()) else { break };
                    appliance.handle_report(Some(report));
                }
            }
            self.balancer.advance();
            if let Some(failure) = self.balancer.appliance_mut().and_then(Appliance::broken) {
                return Err(failure);
            }
            let now = Instant::now();
            if self.ends.is_some_and(|ends| now >= ends || self.balancer.is_drained()) {
                break;
            }
            if now >= next_watch {
                next_watch = now + WATCH_INTERVAL;
                if let Some(appliance) = self.balancer.appliance_mut() {
                    appliance.watch();
                }
                continue;
            }
            let next = self.balancer.poll_timeout().map_or(next_watch, |timeout| timeout.min(next_watch));
            // Nobody tells that the last connection has ended.
            let wake = if self.ends.is_some() { next.min(now + DRAIN_LOOK) } else { next };
            let (nothing, no_records, no_flows) = (never(), never(), never());
            let (no_trouble, no_checks) = (never(), never());
            let appliance = self.balancer.appliance();
            let reports = appliance.and_then(Appliance::reports).unwrap_or(&nothing);
            let records = appliance.and_then(Appliance::records).unwrap_or(&no_records);
            let trouble = self.balancer.proxy().map_or(&no_trouble, Proxy::trouble);
            let checks = self.balancer.proxy().map_or(&no_checks, Proxy::checks);
            let taken_over = self.balancer.proxy().map_or_else(never, Proxy::taken_over);
            let told = self.peer.as_ref().map_or(&no_flows, |peer| &peer.told);
            let goes_on = select! {
                recv(self.signals) -> signal => self.handle_signal(signal.unwrap_or(SIGTERM)),
                recv(reports) -> report => {
                    if let Some(appliance) = self.balancer.appliance_mut() {
                        appliance.handle_report(report.ok());
                    }
                    true
                }
                recv(trouble) -> trouble => {
                    if let (Ok(trouble), Some(proxy)) = (trouble, self.balancer.proxy_mut()) {
                        proxy.hear_of(&trouble);
                    }
                    true
                }
                recv(records) -> records => {
                    if let (Ok(records), Some(peer), Some(appliance)) =
                        (records, &self.peer, self.balancer.appliance())
                    {
                        // What finds no room is told in the next round.
                        let _ = peer.tell.try_send(appliance.to_peer(&records));
                    }
                    true
                }
                recv(checks) -> check => {
                    if let (Ok((id, change)), Some(proxy)) = (check, self.balancer.proxy_mut()) {
                        proxy.hear_of_check(id, &change);
                    }
                    true
                }
                recv(taken_over) -> taken => self.ends.is_some() || taken.is_err() || {
                    info!("another process has taken the listeners over");
                    self.drain()
                },
                recv(told) -> flows => {
                    match flows {
                        Ok(flows) => {
                            if let Some(appliance) = self.balancer.appliance_mut() {
                                appliance.hear_of(&flows);
                            }
                        }
                        Err(_) => self.peer = None,
                    }
                    true
                }
                recv(self.requests) -> request => request.is_ok_and(|request| self.handle_request(request)),
                recv(self.worked_out.1) -> worked_out => {
                    match worked_out {
                        Ok(WorkedOut::Reload { number, outcome, asked }) => self.reload(number, outcome, asked),
                        Ok(WorkedOut::Edit { version, edit, outcome, asked }) => self.edit(version, edit, outcome, asked),
                        Err(_) => {}
                    }
                    true
                }
                default(wake.saturating_duration_since(now)) => true,
            };
            if !goes_on {
                break;
            }
        }
        log_statistics(&self.balancer);
        self.balancer.stop();
        info!("stopped");
        Ok(())
    }

    /// Does it go on?
    fn handle_signal(&mut self, signal: i32) -> bool {
        match signal {
            SIGUSR1 => log_statistics(&self.balancer),
            SIGUSR2 => {
                if let Some(appliance) = self.balancer.appliance_mut() {
                    let silent = appliance.director().is_silent();
                    appliance.direct(|d, now| if silent { d.take_over(now) } else { d.go_silent(now) });
                }
            }
            // Once, connections may end; twice, that is over.
            SIGTERM if self.ends.is_none() => return self.drain(),
            SIGHUP => {
                logging::reopen();
                if let Some(proxy) = self.balancer.proxy() {
                    proxy.reopen();
                }
                self.start_reload(None);
            }
            _ => return false,
        }
        true
    }

    /// Lets the proxy's connections end. Is there something to wait for?
    fn drain(&mut self) -> bool {
        self.ends = self.balancer.drain().map(|time| Instant::now() + time);
        self.ends.is_some()
    }

    /// Does it go on?
    fn handle_request(&mut self, request: Request) -> bool {
        match execute::execute(&mut self.balancer, &request) {
            Outcome::Done(reply) => {
                let _ = request.reply.send(reply);
                true
            }
            Outcome::Reload => {
                self.start_reload(Some(request.reply));
                true
            }
            Outcome::Edit(edit) => {
                self.start_edit(edit, request.reply);
                true
            }
            Outcome::Exit(reply) => {
                let _ = request.reply.send(Ok(reply));
                // The answer gets a moment to leave.
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        }
    }

    /// Works out a configuration in another thread, as names may have to be looked up, which takes its time.
    fn work_out(&self, work: impl FnOnce() -> WorkedOut + Send + 'static) {
        let sender = self.worked_out.0.clone();
        let started = std::thread::Builder::new().name("configure".into()).spawn(move || {
            let _ = sender.send(work());
        });
        if let Err(e) = started {
            error!("the configuration cannot be worked out: no thread: {e}");
        }
    }

    fn start_reload(&mut self, asked: Option<Sender<Reply>>) {
        self.reloads += 1;
        let (load, number) = (self.load.clone(), self.reloads);
        self.work_out(move || WorkedOut::Reload { number, outcome: load(), asked });
    }

    fn start_edit(&self, edit: Edit, asked: Sender<Reply>) {
        let (config, version) = (self.balancer.config().clone(), self.balancer.version());
        self.work_out(move || {
            let outcome = config.edited(&edit, Lookup::Names);
            WorkedOut::Edit { version, edit, outcome, asked }
        });
    }

    /// A command's change, unless another one was quicker: then it is worked out again on top of that.
    fn edit(&mut self, version: u64, edit: Edit, outcome: Result<(Config, String), Failure>, asked: Sender<Reply>) {
        if version != self.balancer.version() {
            return self.start_edit(edit, asked);
        }
        let applied = outcome.and_then(|(config, said)| {
            let changes = self.balancer.apply(config, false)?;
            changes.iter().for_each(|line| info!("{line}"));
            Ok(execute::edited(&said, &changes))
        });
        let _ = asked.send(applied);
    }

    /// All of the configuration, or nothing of it. One that a later reload has overtaken is none.
    fn reload(&mut self, number: u64, outcome: Result<Loaded, Failure>, asked: Option<Sender<Reply>>) {
        let outcome = outcome.and_then(|loaded| {
            if number != self.reloads {
                return Err(Failure::new(Sysexit::Config, "a later reload has overtaken this one"));
            }
            let difference = self.balancer.apply(loaded.config, true)?;
            loaded.remarks.iter().for_each(|remark| warn!("{remark}"));
            Ok(difference)
        });
        match &outcome {
            Ok(difference) if difference.is_empty() => info!("reloaded: nothing has changed"),
            Ok(difference) => {
                info!("reloaded, with {} change{}", difference.len(), if difference.len() == 1 { "" } else { "s" });
                difference.iter().for_each(|line| info!("{line}"));
            }
            Err(failure) => error!("NOT RELOADED, the old configuration still serves: {failure}"),
        }
        if let Some(asked) = asked {
            let proxy = self.balancer.proxy();
            let _ = asked.send(outcome.and_then(|difference| execute::reloaded(&difference, proxy.map(Proxy::plan))));
        }
    }
}

fn say_hello(config: &Config) {
    let (b, process) = (&config.balance, &config.process);
    if let Some(user) = &process.user {
        info!("running as user {user}");
    }
    if !b.vips.is_empty() {
        say_direct(config);
    }
    for listener in &config.proxy.listeners {
        let servers = if listener.backends.is_empty() { b.backends.len() } else { listener.backends.len() };
        let s = if servers == 1 { "" } else { "s" };
        info!("the proxy listens: {}, for {servers} server{s}", listener.setting());
    }
    for address in &process.control {
        info!("commands are taken at {address}");
    }
}

fn say_direct(config: &Config) {
    let (b, process) = (&config.balance, &config.process);
    let vips: Vec<String> = b.vips.iter().map(|vip| format!("{vip} ({})", vip.protocols)).collect();
    info!(
        "{}: {} by {} backends, hashing the client's {}, seed {}, {} slots",
        process.ports(),
        vips.join(", "),
        b.backends.len(),
        if b.hash_port { "address and port" } else { "address" },
        b.seed,
        b.slots_wanted()
    );
    let shape = Shape::of(process.flow_entries);
    info!(
        "flow table: {} flows and {} that have just begun, {} MiB{}",
        shape.main_entries(),
        shape.nursery_entries(),
        shape.bytes().div_ceil(1 << 20),
        process.flow_file.as_ref().map_or(String::new(), |path| format!(" in {}", path.display()))
    );
    for backend in b.backends.iter().chain(&b.emergency) {
        let at = backend.mac.map_or_else(|| "its MAC is being asked for".to_owned(), |mac| format!("at {mac}"));
        let address = backend.address.map_or(String::new(), |a| format!(" ({a})"));
        info!("backend {}{address}, weight {}, {at}", backend.name, backend.weight);
    }
    if let Some(peer) = process.peer {
        info!("the balancer at {peer} is told of flows");
        if b.seed == crate::lb::Seed::default() {
            warn!("the peer's flows are not protected from forgery: give both balancers the same --seed");
        }
    }
    if process.standby {
        info!("standing by: silent until told to take over (USR2, or the command takeover)");
    }
}

fn log_statistics(balancer: &Balancer) {
    for line in stats::all(balancer) {
        info!("{line}");
    }
}

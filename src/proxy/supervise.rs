//! What the main thread does for the running proxy: says what went wrong, takes in who is well, keeps the access log, and
//! hands the listeners over to a successor.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never};
use nix::sys::socket::SockaddrStorage;
use socket2::Socket;
use tracing::{info, warn};

use super::Proxy;
use super::check::{self, Checked, Checker};
use super::handover::{self, Named, Offer, Place, Taken, TakenOver};
use super::orders::Order;
use super::plan::Plan;
use super::server::Wanted;
use super::shared::Trouble;
use crate::config::Config;
use crate::config::proxy::{Address, LogTarget, ProxyLimits};
use crate::director::{Condition, Standing};
use crate::failure::{Failure, Sysexit};
use crate::health::{Change, Reason, State};
use crate::os;
use crate::probe::Check;

/// What this host is short of is said at most this often.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(10);

/// The sockets of the process that `config` makes this one succeed, if there is one.
///
/// # Errors
/// There is somebody who does not hand them over.
pub(super) fn succeed(config: &Config) -> Result<Option<Taken>, Failure> {
    let Some(path) = &config.proxy.handover else { return Ok(None) };
    let refused = |e: std::io::Error| {
        let what = format!("{}: the listeners cannot be taken over: {e}; stop the other process first", path.display());
        Failure::new(Sysexit::Unavailable, what)
    };
    handover::take(path).map_err(refused)
}

/// Listens for a successor, if `config` wants one.
///
/// # Errors
/// The path cannot be listened at.
pub(super) fn wait_for_successor(config: &Config) -> Result<Option<Place>, Failure> {
    let Some(path) = &config.proxy.handover else { return Ok(None) };
    let failed = |e: std::io::Error| {
        let what = format!("{}: no successor can be waited for: {e}; name another path (--handover)", path.display());
        Failure::new(Sysexit::CantCreat, what)
    };
    Place::listen(path).map(Some).map_err(failed)
}

/// Has the process open as many files as the system lets it; says so if that is too few for the connections that `config`
/// wants.
pub(super) fn make_room(config: &Config) -> Option<String> {
    let most = os::raise_file_limit().ok()?;
    // Each has a client and a server.
    let wanted = u64::from(config.proxy.limits.connections) * 2;
    let asked_for = config.proxy.limits.connections != ProxyLimits::default().connections;
    (asked_for && most < wanted).then(|| {
        format!(
            "{} connections (-x) may take {wanted} descriptors, of which {most} can be had: accepting will pause; raise the limit (ulimit -n, LimitNOFILE), or lower -x",
            config.proxy.limits.connections
        )
    })
}

/// Looks at `plan` as this host is: addresses that are its own, and such that are not but should be.
///
/// # Errors
/// `Config` for a listener at every address that has itself as its server by one of those: one client would take all
/// descriptors.
pub(super) fn compare_with_host(plan: &Plan) -> Result<Vec<String>, Failure> {
    // Without a list nothing can be said.
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Ok(Vec::new()) };
    let own: Vec<IpAddr> = interfaces.filter_map(|one| address_of(one.address.as_ref()?)).collect();
    let mut remarks = Vec::new();
    for listener in &plan.listeners {
        let setting = listener.config.setting();
        if let Address::Ip(at) = listener.config.address
            && at.ip().is_unspecified()
        {
            let is_itself =
                |to: &SocketAddr| to.port() == at.port() && to.is_ipv4() == at.is_ipv4() && own.contains(&to.ip());
            if let Some(to) = listener.all_targets().filter_map(|target| target.address.as_socket()).find(is_itself) {
                let what = format!(
                    "{setting} would have itself as its server, {to}, which is an address of this host: give one of them another port"
                );
                return Err(Failure::new(Sysexit::Config, what));
            }
        }
        for source in listener.config.source.iter().filter(|source| !source.is_loopback() && !own.contains(source)) {
            let what = "it is no address of this host, as long as that is so no server can be connected to";
            remarks.push(format!("{setting}: source {source}: {what}"));
        }
    }
    Ok(remarks)
}

/// May servers be checked as `config` says?
///
/// # Errors
/// `NoPerm`: they would all count as down.
pub(super) fn may_check(config: &Config, plan: &Plan) -> Result<(), Failure> {
    if config.balance.health.check != Check::Icmp || !config.balance.vips.is_empty() {
        return Ok(());
    }
    let servers = plan.listeners.iter().flat_map(|listener| listener.all_targets());
    servers.filter_map(|target| target.address.as_socket()).try_for_each(|to| check::permitted(to.is_ipv4()))
}

fn address_of(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// What is missing for answers of servers to come back to transparent listeners.
pub(super) fn missing_return_path(plan: &Plan) -> Vec<String> {
    let transparent = plan.listeners.iter().filter(|listener| listener.config.transparent);
    let addresses = transparent.flat_map(|listener| listener.targets());
    let mut servers: Vec<_> = addresses.filter_map(|target| Some(target.address.as_socket()?.ip())).collect();
    servers.sort_unstable();
    servers.dedup();
    if servers.is_empty() { Vec::new() } else { os::return_path(&servers) }
}

impl Proxy {
    /// Takes in all that has been told since the last time.
    pub fn advance(&mut self) {
        while let Ok(trouble) = self.trouble.try_recv() {
            self.hear_of(&trouble);
        }
        while let Ok((id, change)) = self.checks.try_recv() {
            self.hear_of_check(id, &change);
        }
    }

    /// What checks find.
    pub fn checks(&self) -> &Receiver<(u32, Change)> {
        &self.checks
    }

    /// A check has found that something is other than before.
    pub fn hear_of_check(&mut self, id: u32, change: &Change) {
        let Some(server) = self.shared.server_of(id) else { return };
        match change {
            Change::Up => {
                info!("server {} is up", server.name);
                server.blacklist(Duration::ZERO, Instant::now());
            }
            Change::Down(reason) => warn!("server {} IS DOWN: {reason}", server.name),
        }
        server.set_healthy(*change == Change::Up);
        self.plan.rebuild();
    }

    /// Why the server `id` is down, by its last check.
    pub fn reason(&self, id: u32) -> Option<Reason> {
        let standing = self.checker.as_ref()?.standing(id)?;
        if standing.state == State::Down { standing.reason } else { None }
    }

    /// Checks those that `config` has, as it says; with virtual addresses Direct Server Return does that for both.
    ///
    /// # Errors
    /// The system has no room for the thread.
    pub(super) fn check(&mut self, config: &Config) -> Result<(), Failure> {
        for backend in &config.balance.backends {
            let server = self.shared.server(&backend.name);
            match (backend.maintenance, server.wanted()) {
                (true, _) => server.set_wanted(Wanted::Maintenance),
                (false, Wanted::Maintenance) => server.set_wanted(Wanted::Active),
                (false, _) => {}
            }
        }
        let health = &config.balance.health;
        if health.check == Check::Link || !config.balance.vips.is_empty() {
            if self.checker.take().is_some() {
                self.plan.servers.iter().for_each(|server| server.set_healthy(true));
            }
            return Ok(());
        }
        let mut checked: Vec<Checked> = Vec::new();
        for target in self.plan.listeners.iter().flat_map(|listener| listener.all_targets()) {
            // One that serves several listeners is asked once, where the first of them connects to.
            if checked.iter().any(|known| known.id == target.server.id) {
                continue;
            }
            let (at, source) = match target.address.as_socket() {
                Some(address) if address.is_ipv4() => (Address::Ip(address), health.source4.map(IpAddr::V4)),
                Some(address) => (Address::Ip(address), health.source6.map(IpAddr::V6)),
                None => match target.address.as_pathname() {
                    Some(path) => (Address::Unix(path.to_owned()), None),
                    None => continue,
                },
            };
            let (check, policy) = (health.check.clone(), health.policy);
            checked.push(Checked { id: target.server.id, at, source, check, policy });
        }
        match &self.checker {
            Some(checker) => checker.set(checked),
            None => {
                let started = Checker::start(checked, self.check_changes.clone());
                let failed = |e| Failure::new(Sysexit::OsErr, format!("servers cannot be checked: {e}"));
                self.checker = Some(started.map_err(failed)?);
            }
        }
        Ok(())
    }

    /// Takes in what went wrong.
    pub fn hear_of(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Failed { id, why, left_out } => {
                let name = self.shared.server_of(*id).map_or_else(String::new, |server| server.name.clone());
                let consequence = match left_out.as_secs() {
                    0 => String::new(),
                    seconds => format!("; it is left out for {seconds} s"),
                };
                warn!("server {name} could not be connected to: {why}{consequence}");
                if let Some(checker) = &self.checker {
                    checker.hurry(*id);
                }
            }
            Trouble::Short(what) => self.complain(what),
        }
    }

    /// Says that this host is short of something, and not more often than needed.
    fn complain(&mut self, what: &str) {
        let now = Instant::now();
        self.unsaid += 1;
        if self.complained.is_some_and(|at| now < at + BETWEEN_COMPLAINTS) {
            return;
        }
        let more = if self.unsaid > 1 { format!(" ({} times)", self.unsaid) } else { String::new() };
        warn!("the proxy is short of something: {what}{more}");
        (self.complained, self.unsaid) = (Some(now), 0);
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

    /// The files that are opened anew by whoever this becomes.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.plan.settings.access_log.iter().filter_map(|log| match &log.target {
            LogTarget::File(path) => Some(path.as_path()),
            LogTarget::Syslog | LogTarget::Udp(_) => None,
        })
    }

    /// Has the access log's file opened by its name again.
    pub fn reopen(&self) {
        if let Some(access) = &self.access {
            access.reopen();
        }
    }

    /// Starts the access log that there is, or has the loops forget the one that there was.
    pub(super) fn start_access(&mut self) -> Result<(), Failure> {
        if let Some(access) = &mut self.access {
            access.start()?;
        }
        for one in &self.loops {
            one.give(Order::Record(self.access.as_ref().map(super::AccessWriter::recorder)));
        }
        self.datagrams.record(self.access.as_ref());
        Ok(())
    }

    /// Does this process succeed another one?
    pub fn succeeds(&self) -> bool {
        self.taken.is_some()
    }

    /// Offers the sockets that were opened to a successor, besides those that are offered already.
    pub(super) fn offer(&mut self, opened: &[Vec<(usize, Socket)>]) -> Result<(), Failure> {
        let Some(path) = &self.plan.settings.handover else { return Ok(()) };
        let failed = |e: std::io::Error| {
            Failure::new(Sysexit::CantCreat, format!("{}: no successor could be served: {e}", path.display()))
        };
        let settings: Vec<String> = self.plan.listeners.iter().map(|listener| listener.config.setting()).collect();
        self.named.retain(|(name, _)| settings.iter().any(|setting| name.starts_with(&format!("{setting}#"))));
        for (index, sockets) in opened.iter().enumerate() {
            for (place, socket) in sockets {
                let name = handover::socket_name(&settings[*place], index);
                self.named.push((name, socket.as_fd().try_clone_to_owned().map_err(failed)?));
            }
        }
        let copies = self.named.iter().map(|(name, socket)| Ok((name.clone(), socket.try_clone()?)));
        let copies: Named = copies.collect::<std::io::Result<_>>().map_err(failed)?;
        match (&self.offer, self.place.take()) {
            (Some((offer, _)), _) => offer.replace(copies),
            (None, Some(place)) => self.offer = Some(Offer::serve_at(place, copies).map_err(failed)?),
            (None, None) => {}
        }
        Ok(())
    }

    /// This process serves: the one before it need not any more.
    pub(super) fn tell_predecessor(&mut self) {
        if let Some(taken) = self.taken.take() {
            match taken.ready() {
                Ok(()) => info!("the listeners are taken over"),
                Err(e) => warn!("the process before this one does not answer: {e}; it may have ended"),
            }
        }
    }

    /// Tells when a successor has taken over.
    pub fn taken_over(&self) -> Receiver<TakenOver> {
        self.offer.as_ref().map_or_else(never, |(_, told)| told.clone())
    }
}

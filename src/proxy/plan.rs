//! The configuration as the event loops use it: one snapshot of listeners with their servers, replaced as a whole.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use socket2::{SockAddr, Socket};

use super::queue::Longest;
use super::select::{Choice, Client, Selector, Servers, Tried, View, Why};
use super::server::{Engaged, Kept, Server};
use super::tls::{Acceptor, Connector};
use crate::config::proxy::{Address, ListenConfig, Mode, ProxyConfig, TransportProtocol};
use crate::config::{BackendConfig, Balance, Config};
use crate::failure::{Failure, Sysexit};
use crate::lb::acl::Acl;
use crate::os;

/// How often a place at a server that another event loop has taken first is looked for anew: only where places come free
/// and are lost each time is nobody found then.
const CONTESTS: u32 = 32;

/// Of the next listener.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// TLS of listeners, by their names: what of it outlives a reload.
pub type Acceptors = HashMap<String, Arc<Acceptor>>;

/// A snapshot.
pub struct Plan {
    /// All listeners.
    pub listeners: Vec<Arc<Listener>>,
    /// All servers, in the order of the configuration, then the emergency server and that for abuse.
    pub servers: Vec<Arc<Server>>,
    /// What is the same for all listeners.
    pub settings: Arc<ProxyConfig>,
    /// Why files were not read anew, of which what they held before still counts.
    pub kept: Vec<Failure>,
}

/// A listener, and whom its clients can be sent to.
pub struct Listener {
    /// A number that no other has had, in this snapshot or another.
    pub serial: u64,
    /// Its address, in words.
    pub name: String,
    /// As configured.
    pub config: ListenConfig,
    /// What is the same for all listeners.
    pub settings: Arc<ProxyConfig>,
    /// Who may use it; `None`: everybody.
    pub acl: Option<Arc<Acl>>,
    /// TLS from clients.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// TLS to servers.
    pub backend_tls: Option<Connector>,
    servers: Vec<Target>,
    emergency: Option<Target>,
    abuse: Option<Target>,
    selector: Arc<Selector>,
    /// Since when, of all loops, a request waits for one of the servers.
    pub(super) longest: Longest,
}

/// A server at a listener.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who it is.
    pub server: Arc<Server>,
    /// Where.
    pub address: SockAddr,
    /// What stands for the place that the configuration gives the server, of whichever listener.
    pub(super) place: u64,
    /// The host: what its certificate is for.
    pub host: String,
    /// Which clients may be sent there.
    acl: Option<Arc<Acl>>,
    soft: u32,
    hard: u32,
    weight: u32,
    prio: u32,
}

impl Target {
    fn new(
        backend: &BackendConfig,
        server: Arc<Server>,
        listen: &ListenConfig,
        acls: &dyn Fn(Option<u8>) -> Option<Arc<Acl>>,
    ) -> Result<Target, Failure> {
        let address = match (&backend.path, backend.address) {
            (Some(path), _) => SockAddr::unix(path).map_err(|e| {
                Failure::new(Sysexit::Config, format!("server {}: {e}: the path is too long", path.display()))
            })?,
            (None, Some(address)) => {
                let ports = [listen.backend_port, backend.port, listen.address.port()];
                let port = ports.into_iter().find(|&port| port != 0).unwrap_or(0);
                SocketAddr::new(address, port).into()
            }
            (None, None) => {
                let what = format!(
                    "backend {:?} has no address for the proxy, only a MAC: give its address, or leave it out at {}",
                    backend.name,
                    listen.setting()
                );
                return Err(Failure::new(Sysexit::Config, what));
            }
        };
        let BackendConfig { soft, hard, weight, prio, .. } = *backend;
        let host = backend.host.clone().unwrap_or_else(|| backend.name.clone());
        Ok(Target { server, address, place: place(backend), host, acl: acls(backend.acl), soft, hard, weight, prio })
    }
}

/// What stands for where `backend` is: equal for the same place, and never 0.
fn place(backend: &BackendConfig) -> u64 {
    let mut hasher = DefaultHasher::new();
    (backend.address, backend.port, &backend.path).hash(&mut hasher);
    hasher.finish().max(1)
}

impl Target {
    /// May it have another connection? It may have been given away by the time that one is made.
    fn has_room(&self) -> bool {
        self.hard == 0 || self.server.connections() < self.hard
    }

    /// A place for a connection that is kept ready, if it may have one more of any kind.
    pub(super) fn keep_one(&self) -> Option<Kept> {
        Kept::new(&self.server, &self.address, self.hard)
    }
}

/// What one choice needs to know of servers.
struct Candidates<'a> {
    targets: &'a [Target],
    emergency: Option<&'a Target>,
    abuse: Option<&'a Target>,
    /// Do connections have the client's address?
    transparent: bool,
    /// Are servers left out that are only suspected?
    strict: bool,
    now: Instant,
}

impl Candidates<'_> {
    /// Can a connection that has the client's address go there? Not to one of the other family.
    fn reaches(&self, target: &Target, client: &Client) -> bool {
        let Some(address) = client.address.filter(|_| self.transparent) else { return true };
        target.address.as_socket().is_none_or(|server| server.is_ipv4() == address.to_canonical().is_ipv4())
    }
}

impl Servers for Candidates<'_> {
    fn len(&self) -> usize {
        self.targets.len()
    }

    fn view(&self, index: usize, client: &Client) -> View {
        let target = &self.targets[index];
        let permits = |acl: &Arc<Acl>| client.address.is_none_or(|address| acl.permits(address));
        View {
            usable: target.server.takes(self.strict, self.now),
            known_only: false,
            connections: target.server.connections(),
            soft: target.soft,
            hard: target.hard,
            weight: target.weight,
            prio: target.prio,
            permits: target.acl.as_ref().is_none_or(permits) && self.reaches(target, client),
        }
    }

    fn id(&self, index: usize) -> u32 {
        self.targets[index].server.id
    }

    fn identity(&self, index: usize) -> &str {
        &self.targets[index].server.name
    }

    fn emergency(&self) -> bool {
        self.emergency.is_some_and(|target| target.server.takes(false, self.now) && target.has_room())
    }

    fn abuse(&self) -> bool {
        self.abuse.is_some_and(|target| target.server.takes(false, self.now) && target.has_room())
    }
}

impl Plan {
    /// A snapshot of `config`; `server` gives the server of a name. `reread`: files that an earlier snapshot has read are
    /// read anew; one that cannot be, because another user may not or the root is another one by now, is remarked upon, and
    /// what it held then still counts.
    ///
    /// # Errors
    /// A server without an address; certificates that cannot be used.
    pub fn new(
        config: &Config,
        (previous, reread): (Option<&Plan>, bool),
        server: &mut dyn FnMut(&str) -> Arc<Server>,
        acceptors: &mut Acceptors,
        remarks: &mut Vec<String>,
    ) -> Result<Plan, Failure> {
        let Config { balance, proxy, .. } = config;
        let settings = Arc::new(proxy.clone());
        let acls: Vec<Option<Arc<Acl>>> = (0..10).map(|n| balance.acls.get(&n).cloned().map(Arc::new)).collect();
        // A list that nobody has written permits nobody, as everywhere.
        let acl = |number: Option<u8>| {
            let list = |n: u8| acls.get(usize::from(n)).cloned().flatten().unwrap_or_default();
            number.map(list)
        };
        let all = balance.backends.iter().chain(&balance.emergency).chain(&proxy.abuse);
        let servers: Vec<Arc<Server>> = all.map(|backend| server(&backend.name)).collect();
        let mut listeners: Vec<Arc<Listener>> = Vec::new();
        let mut failures = Vec::new();
        let known = previous.and_then(|plan| plan.listeners.first()).map(|listener| Arc::clone(&listener.selector));
        for listen in &proxy.listeners {
            let mut target = |backend: &BackendConfig| Target::new(backend, server(&backend.name), listen, &acl);
            let wanted =
                |backend: &&BackendConfig| listen.backends.is_empty() || listen.backends.contains(&backend.name);
            let targets = balance.backends.iter().filter(wanted).map(&mut target).collect::<Result<Vec<_>, _>>()?;
            let emergency = balance.emergency.as_ref().map(&mut target).transpose()?;
            let abuse = proxy.abuse.as_ref().map(&mut target).transpose()?;
            // All know the same clients: who comes by TLS is sent where he was without.
            let elder = listeners.first().map(|listener| Arc::clone(&listener.selector)).or(known.clone());
            let selector = selector(balance, proxy, elder.as_deref());
            selector.rebuild(&Candidates {
                targets: &targets,
                emergency: None,
                abuse: None,
                transparent: false,
                strict: false,
                now: Instant::now(),
            });
            let http = matches!(listen.mode, Mode::Http(_));
            let tls = match &listen.tls {
                Some(tls) => {
                    let before =
                        previous.and_then(|plan| plan.listener(listen)).filter(|old| old.config.tls == listen.tls);
                    let before = before.and_then(|old| old.tls.clone());
                    match (before, reread) {
                        (Some(before), false) => Some(before),
                        (before, _) => {
                            let loaded = acceptors.entry(listen.setting()).or_default().load(tls, http);
                            Some(kept(
                                loaded.map(|loaded| (loaded.config, loaded.remarks)),
                                before,
                                remarks,
                                &mut failures,
                            )?)
                        }
                    }
                }
                None => None,
            };
            let backend_tls = match &listen.backend_tls {
                Some(tls) => {
                    let same = |old: &&Arc<Listener>| old.config.backend_tls == listen.backend_tls;
                    let before = previous.and_then(|plan| plan.listener(listen)).filter(same);
                    let before = before.and_then(|old| old.backend_tls.clone());
                    match (before, reread) {
                        (Some(before), false) => Some(before),
                        (before, _) => {
                            let loaded = Connector::load(tls, http);
                            Some(kept(
                                loaded.map(|loaded| (loaded.connector, loaded.remarks)),
                                before,
                                remarks,
                                &mut failures,
                            )?)
                        }
                    }
                }
                None => None,
            };
            if let Some(tls) = &backend_tls {
                // A name that no certificate can be for would fail every connection.
                for target in targets.iter().chain(&emergency).chain(&abuse) {
                    tls.connect(&target.host)?;
                }
            }
            listeners.push(Arc::new(Listener {
                serial: SERIAL.fetch_add(1, Ordering::Relaxed),
                name: listen.address.to_string(),
                acl: acl(listen.client_acl.or(balance.client_acl)),
                config: listen.clone(),
                settings: Arc::clone(&settings),
                tls,
                backend_tls,
                servers: targets,
                emergency,
                abuse,
                selector: Arc::new(selector),
                longest: Longest::default(),
            }));
        }
        Ok(Plan { listeners, servers, settings, kept: failures })
    }

    /// The listener at `address`, by the same protocol as `like`.
    pub fn listener(&self, like: &ListenConfig) -> Option<&Arc<Listener>> {
        let same = |listener: &&Arc<Listener>| {
            listener.config.address == like.address && listener.config.transport == like.transport
        };
        self.listeners.iter().find(same)
    }

    /// This is what counts from now on: servers that were somewhere else before begin anew.
    pub fn settle(&self) {
        for target in self.listeners.iter().flat_map(|listener| listener.all_targets()) {
            target.server.settle(target.place);
        }
    }

    /// The tables are made anew: who is well has changed.
    pub fn rebuild(&self) {
        let now = Instant::now();
        for listener in &self.listeners {
            listener.selector.rebuild(&listener.candidates(false, now));
        }
    }
}

/// What there is to say of certificates that were not read anew.
pub fn still_counts(failure: &Failure) -> String {
    format!("the certificates from before still count: {failure}")
}

/// What was loaded anew, or else what was there before.
fn kept<T>(
    loaded: Result<(T, Vec<String>), Failure>,
    before: Option<T>,
    remarks: &mut Vec<String>,
    failures: &mut Vec<Failure>,
) -> Result<T, Failure> {
    match (loaded, before) {
        (Ok((new, said)), _) => {
            remarks.extend(said);
            Ok(new)
        }
        (Err(failure), Some(before)) => {
            remarks.push(still_counts(&failure));
            failures.push(failure);
            Ok(before)
        }
        (Err(failure), None) => Err(failure),
    }
}

fn selector(balance: &Balance, proxy: &ProxyConfig, elder: Option<&Selector>) -> Selector {
    let mut selector = Selector::new(proxy.selection, balance.seed, balance.slots_wanted());
    if let Some(elder) = elder {
        selector.adopt(elder);
    }
    selector
}

impl Listener {
    /// Finds a server for `client` that is not among those `tried`, adds it to them, and takes a place there: whoever else
    /// chooses at this moment, the server never has more connections than it may.
    ///
    /// Servers that could not be connected to lately are left out; if there is nobody else, they are tried all the same:
    /// better one attempt too many than a client that is turned away without any.
    ///
    /// # Errors
    /// Why there is none.
    pub fn engage(&self, client: &Client, tried: &mut Tried, now: Instant) -> Result<(&Target, Engaged), Why> {
        let denied = !self.admits(client.address);
        for _ in 0..CONTESTS {
            let choose = |strict| self.selector.choose_for(&self.candidates(strict, now), client, denied, tried, now);
            let (mut choice, mut known) = choose(true);
            if matches!(choice, Choice::Refuse(Why::Down | Why::Failed)) {
                (choice, known) = choose(false);
            }
            let (target, most) = match choice {
                Choice::Server(index) => {
                    let target = &self.servers[index];
                    (target, if known { 0 } else { target.soft })
                }
                Choice::Emergency => (self.emergency.as_ref().ok_or(Why::Down)?, 0),
                Choice::Abuse => (self.abuse.as_ref().ok_or(Why::Denied)?, 0),
                Choice::Refuse(why) => return Err(why),
            };
            // Without one, another loop was faster, and what is seen of the server now says so.
            if let Some(engaged) = Engaged::new(&target.server, &target.address, most, target.hard) {
                tried.add(choice);
                return Ok((target, engaged));
            }
        }
        Err(Why::Full)
    }

    fn candidates(&self, strict: bool, now: Instant) -> Candidates<'_> {
        let (emergency, abuse) = (self.emergency.as_ref(), self.abuse.as_ref());
        Candidates { targets: &self.servers, emergency, abuse, transparent: self.config.transparent, strict, now }
    }

    /// Does the access list let `client` in?
    pub fn admits(&self, client: Option<IpAddr>) -> bool {
        match (&self.acl, client) {
            (Some(acl), Some(address)) => acl.permits(address),
            _ => true,
        }
    }

    /// `client` is being served by the server of this number.
    pub fn served(&self, client: &Client, id: u32, now: Instant) {
        self.selector.served(client, id, now);
    }

    /// The servers, without those for emergencies and abuse.
    pub fn targets(&self) -> &[Target] {
        &self.servers
    }

    /// All that clients can be sent to.
    pub fn all_targets(&self) -> impl Iterator<Item = &Target> {
        self.servers.iter().chain(&self.emergency).chain(&self.abuse)
    }

    /// What finds servers here.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Is it a Unix socket?
    pub fn is_unix(&self) -> bool {
        matches!(self.config.address, Address::Unix(_))
    }

    /// Does the peer at `address` send a PROXY header first?
    pub(super) fn sends_header(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.config.accept_proxy.iter().any(|network| network.contains(ip))
    }

    /// Is what a client sends first acknowledged with the answer? Requests are: it is known whether they are whole.
    pub(super) fn joins_acks(&self) -> bool {
        let requests_come_first = self.tls.is_none() && self.config.accept_proxy.is_empty();
        self.config.mode != Mode::Stream && requests_come_first && !self.is_unix()
    }

    /// Sets on a socket that listens what connections have from it.
    pub(super) fn prepare(&self, socket: &Socket) {
        if self.is_unix() || self.config.transport != TransportProtocol::Tcp {
            return;
        }
        // Without these it is slower, and serves.
        let _ = socket.set_tcp_nodelay(self.settings.tcp.nodelay);
        let _ = os::join_acks_with_answers(socket, self.joins_acks());
    }
}

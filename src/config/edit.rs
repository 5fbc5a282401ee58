//! Changes of a configuration, as commands make them: in files (`-F`), on the command line (`-O`) and at run time.

mod proxy;
mod server;
mod which;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use proxy::{ProxyEdit, TlsEdit};
pub use which::{Which, WhichVip};

use super::{
    BackendConfig, Balance, Config, Lookup, TarpitConfig, VipConfig, WhenEmpty, check, commands, limits, rule, words,
};
use crate::failure::Failure;
use crate::lb::acl::{Acl, Rule};
use crate::probe::Check;
use crate::wire::ether::Mac;

/// What changes of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another host, with its MAC if that is not to be asked for. A named backend that gets an address stays who it is
    /// and keeps its clients; anything else makes it another backend.
    Address(BackendConfig),
    /// A MAC that is not to be asked for, or `None`: ask.
    Mac(Option<Mac>),
    /// Its port: 0, or the VIP's.
    Port(u16),
    /// Its share of the clients.
    Weight(u32),
    /// Pen's soft limit.
    Soft(u32),
    /// Pen's hard limit.
    Hard(u32),
    /// Pen's priority.
    Prio(u32),
    /// The access list that clients have to pass to be sent there by the proxy; `None`: everybody.
    Acl(Option<u8>),
}

/// One change of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Rules behind those that an access list has.
    Permit {
        /// The list, 0 to 9.
        acl: u8,
        /// What is added.
        rules: Vec<Rule>,
    },
    /// An access list without rules.
    ClearAcl(u8),
    /// Which list clients have to pass.
    ClientAcl {
        /// `None`: no list, everybody passes.
        acl: Option<u8>,
        /// Of this VIP alone; `None`: of all that have no list of their own.
        vip: Option<WhichVip>,
    },
    /// Which list those have to pass who give commands over TCP.
    ControlAcl(Option<u8>),
    /// Which list names a tarpit.
    TarpitAcl(Option<u8>),
    /// Answers a second that the tarpit gives.
    TarpitRate(u32),
    /// Settings of a backend.
    Server {
        /// Which backend.
        backend: Which,
        /// What changes, in this order.
        changes: Vec<Change>,
    },
    /// One more backend.
    Add(BackendConfig),
    /// A backend less.
    Remove(Which),
    /// Out of service, until somebody says otherwise, or back.
    Maintenance {
        /// Which backend.
        backend: Which,
        /// Out?
        on: bool,
    },
    /// Who serves when nobody else does.
    Emergency(Option<BackendConfig>),
    /// Does the client's address alone decide? Of the proxy: are servers selected by a hash of it?
    Hash(bool),
    /// Does the client's port take part in the choice? Of the proxy: are clients not remembered?
    RoundRobin(bool),
    /// What is the proxy's alone.
    Proxy(ProxyEdit),
    /// How backends are asked.
    Check(Check),
    /// Between two checks.
    CheckInterval(Duration),
    /// How long a check may take.
    CheckTimeout(Duration),
    /// Successes in a row that make a backend up.
    Rise(u32),
    /// Failures in a row that make it down.
    Fall(u32),
    /// Where checks come from.
    Source(IpAddr),
    /// The panic threshold, percent.
    Panic(u8),
    /// How long a backend that returns takes to reach its weight.
    SlowStart(Duration),
    /// How long a table that was replaced still decides.
    Predecessor(Duration),
    /// What clients get when no backend is in service.
    WhenEmpty {
        /// That.
        what: WhenEmpty,
        /// At this VIP alone; `None`: at all.
        vip: Option<WhichVip>,
    },
    /// The level of the log.
    Debug(u8),
    /// Where the log goes: at the start alone.
    Log(Option<PathBuf>),
    /// On which interface: at the start alone.
    Interface(String),
    /// Start silent.
    Standby,
    /// The commands in a file.
    Include(PathBuf),
}

impl Config {
    /// This configuration after `edit`, checked as a whole, and what to answer; this one stays as it is. A name that the
    /// edit brings in is looked up, which may take as long as the system's resolver does.
    ///
    /// # Errors
    /// The edit cannot be made, or what it leads to cannot be.
    pub fn edited(&self, edit: &Edit, lookup: Lookup) -> Result<(Config, String), Failure> {
        let mut config = self.clone();
        let reply = edit.apply(&mut config)?;
        config.resolve(lookup)?;
        config.validate()?;
        Ok((config, reply))
    }
}

impl Edit {
    /// Changes `config`; says what has changed, as a line for whoever gave the command. The whole is not checked
    /// ([`Config::validate`]); after an error `config` may be changed in part.
    ///
    /// # Errors
    /// Usage: there is no such backend, or no room; or an included file is at fault.
    pub fn apply(&self, config: &mut Config) -> Result<String, Failure> {
        let Config { balance, process, proxy } = config;
        Ok(match self {
            Edit::Permit { acl, rules } => {
                let old = balance.acls.get(acl).map_or(&[][..], Acl::rules);
                if old.len() + rules.len() > limits::RULES {
                    return Err(Failure::usage(format!("access list {acl} is full: {} rules at most", limits::RULES)));
                }
                let new = Acl::new(old.iter().chain(rules).copied().collect());
                let count = new.rules().len();
                balance.acls.insert(*acl, new);
                format!("acl {acl}: {count} {}", if count == 1 { "rule" } else { "rules" })
            }
            Edit::ClearAcl(acl) => {
                balance.acls.remove(acl);
                format!("acl {acl}: no rules")
            }
            Edit::ClientAcl { acl, vip: None } => {
                balance.client_acl = *acl;
                format!("client_acl: {}", list(*acl))
            }
            Edit::ClientAcl { acl, vip: Some(which) } if proxy::at(proxy, which).next().is_some() => {
                proxy::at(proxy, which).for_each(|listener| listener.client_acl = *acl);
                // An address may be a virtual one, too.
                balance.vips.iter_mut().filter(|vip| which.is(vip)).for_each(|vip| vip.client_acl = *acl);
                format!("{which}: client_acl {}", list(*acl))
            }
            Edit::ClientAcl { vip: Some(which), .. }
                if !proxy.is_empty() && !balance.vips.iter().any(|vip| which.is(vip)) =>
            {
                let vips = balance.vips.iter().map(ToString::to_string);
                let listeners = proxy.listeners.iter().map(|listener| listener.address.to_string());
                let known: Vec<String> = vips.chain(listeners).take(8).collect();
                return Err(Failure::usage(format!(
                    "{which} is no virtual address here, and no listener; these are: {}",
                    known.join(", ")
                )));
            }
            Edit::ClientAcl { acl, vip: Some(which) } => {
                each(balance, which, |vip| vip.client_acl = *acl)?;
                format!("{which}: client_acl {}", list(*acl))
            }
            Edit::ControlAcl(acl) => {
                balance.control_acl = *acl;
                format!("control_acl: {}", list(*acl))
            }
            Edit::TarpitAcl(acl) => {
                let rate = balance.tarpit.map_or(TarpitConfig::RATE, |tarpit| tarpit.rate);
                balance.tarpit = acl.map(|acl| TarpitConfig { acl, rate });
                format!("tarpit_acl: {}", list(*acl))
            }
            Edit::TarpitRate(rate) => match &mut balance.tarpit {
                Some(tarpit) => {
                    tarpit.rate = *rate;
                    format!("tarpit_rate: {rate} answers a second")
                }
                None => return Err(Failure::usage("there is no tarpit yet: first say tarpit_acl N")),
            },
            Edit::Server { backend, changes } => {
                let index = backend.find(balance)?;
                server::change(balance, index, changes, !proxy.is_empty())?
            }
            Edit::Add(backend) => {
                let name = add(balance, backend.clone())?;
                format!("{name} added, as server {}", balance.backends.len() - 1)
            }
            Edit::Remove(backend) => {
                let removed = balance.backends.remove(backend.find(balance)?);
                format!("{} removed; the servers behind it have moved up by one number", removed.name)
            }
            Edit::Maintenance { backend, on } => {
                let index = backend.find(balance)?;
                let backend = &mut balance.backends[index];
                backend.maintenance = *on;
                format!("{}: {} maintenance", backend.name, if *on { "in" } else { "no longer in" })
            }
            Edit::Emergency(backend) => {
                let named = |backend: BackendConfig| match balance.vips.is_empty() {
                    true => words::named_with_port(backend),
                    false => backend,
                };
                balance.emergency = backend.clone().map(named);
                format!("emergency: {}", backend.as_ref().map_or_else(|| "none".to_owned(), words::backend_word))
            }
            Edit::Hash(on) => proxy::choice(balance, proxy, !*on, |proxy| proxy::hash(proxy, *on)),
            Edit::RoundRobin(on) => proxy::choice(balance, proxy, *on, |proxy| proxy::roundrobin(proxy, *on)),
            Edit::Proxy(edit) => edit.apply(proxy)?,
            Edit::Check(check) => {
                balance.health.check = check.clone();
                format!("check: {}", check::Shown(check))
            }
            Edit::CheckInterval(interval) => {
                balance.health.set_interval(*interval);
                let policy = &balance.health.policy;
                format!(
                    "check_interval: {} ms (check_timeout {} ms, in doubt {} ms)",
                    interval.as_millis(),
                    policy.timeout.as_millis(),
                    policy.doubt.as_millis()
                )
            }
            Edit::CheckTimeout(timeout) => {
                balance.health.policy.timeout = *timeout;
                format!("check_timeout: {} ms", timeout.as_millis())
            }
            Edit::Rise(n) => {
                balance.health.policy.rise = *n;
                format!("rise: {n}")
            }
            Edit::Fall(n) => {
                balance.health.policy.fall = *n;
                format!("fall: {n}")
            }
            Edit::Source(address) => {
                match *address {
                    IpAddr::V4(address) => balance.health.source4 = Some(address),
                    IpAddr::V6(address) => balance.health.source6 = Some(address),
                }
                proxy::source(proxy, *address);
                format!("source: {address}")
            }
            Edit::Panic(percent) => {
                balance.panic_threshold = *percent;
                format!("panic: {percent} %")
            }
            Edit::SlowStart(duration) => {
                balance.slow_start = *duration;
                format!("slow_start: {} s", duration.as_secs())
            }
            Edit::Predecessor(duration) => {
                balance.predecessor = *duration;
                format!("predecessor: {} s", duration.as_secs())
            }
            Edit::WhenEmpty { what, vip: None } => {
                balance.vips.iter_mut().for_each(|vip| vip.when_empty = *what);
                format!("when_empty: {what}")
            }
            Edit::WhenEmpty { what, vip: Some(which) } => {
                each(balance, which, |vip| vip.when_empty = *what)?;
                format!("{which}: when_empty {what}")
            }
            Edit::Debug(level) => {
                process.debug = *level;
                format!("debug: {level}")
            }
            Edit::Log(file) => {
                process.log_file.clone_from(file);
                "log: changed".to_owned()
            }
            Edit::Interface(name) => {
                process.interface = Some(name.parse().map_err(Failure::usage)?);
                format!("interface: {name}")
            }
            Edit::Standby => {
                process.standby = true;
                "standby: it starts silent".to_owned()
            }
            Edit::Include(path) => {
                let mut notes = commands::Notes::default();
                commands::carry_out_file(path, config, &mut notes)?;
                let count = format!("{}: {} commands", path.display(), notes.count);
                std::iter::once(count).chain(notes.remarks).collect::<Vec<_>>().join("\n")
            }
        })
    }

    /// The setting that it is about, as problems name it, in the configuration after it.
    pub(crate) fn setting(&self, config: &Config) -> String {
        let named = |backend: &Which| {
            let found = backend.find(&config.balance).ok().and_then(|index| config.balance.backends.get(index));
            found.map_or(String::new(), |backend| format!("backend {}", backend.name))
        };
        match self {
            Edit::Permit { acl, .. } | Edit::ClearAcl(acl) => format!("acl {acl}"),
            Edit::ClientAcl { vip: None, .. } => "client-acl".to_owned(),
            Edit::ClientAcl { vip: Some(which), .. } | Edit::WhenEmpty { vip: Some(which), .. } => {
                let found = config.balance.vips.iter().find(|vip| which.is(vip));
                found.map_or(String::new(), VipConfig::setting)
            }
            Edit::ControlAcl(_) => "control-acl".to_owned(),
            Edit::TarpitAcl(_) => "tarpit acl".to_owned(),
            Edit::TarpitRate(_) => "tarpit rate".to_owned(),
            Edit::Server { backend, .. } | Edit::Maintenance { backend, .. } => named(backend),
            Edit::Remove(_) => "backends".to_owned(),
            Edit::Add(_) => {
                config.balance.backends.last().map_or(String::new(), |added| format!("backend {}", added.name))
            }
            Edit::Emergency(_) => "emergency".to_owned(),
            Edit::Check(_) => "health check".to_owned(),
            Edit::CheckInterval(_) => "health interval".to_owned(),
            Edit::CheckTimeout(_) => "health timeout".to_owned(),
            Edit::Rise(_) => "health rise".to_owned(),
            Edit::Fall(_) => "health fall".to_owned(),
            Edit::Source(_) => "health source".to_owned(),
            Edit::Hash(_) | Edit::RoundRobin(_) => "hash-port".to_owned(),
            Edit::Proxy(edit) => edit.setting(config),
            Edit::Panic(_) => "panic-threshold".to_owned(),
            Edit::SlowStart(_) => "slow-start".to_owned(),
            Edit::Predecessor(_) => "predecessor".to_owned(),
            Edit::Interface(_) => "interface".to_owned(),
            Edit::Log(_) => "log-file".to_owned(),
            Edit::Debug(_) => "debug".to_owned(),
            Edit::Standby => "standby".to_owned(),
            Edit::WhenEmpty { vip: None, .. } | Edit::Include(_) => String::new(),
        }
    }
}

fn list(acl: Option<u8>) -> String {
    acl.map_or_else(|| "none".to_owned(), |acl| acl.to_string())
}

/// Does `what` to the VIPs that `which` names.
fn each(balance: &mut Balance, which: &WhichVip, what: impl Fn(&mut VipConfig)) -> Result<(), Failure> {
    let mut found = balance.vips.iter_mut().filter(|vip| which.is(vip)).peekable();
    if found.peek().is_none() {
        let known: Vec<String> = balance.vips.iter().take(8).map(ToString::to_string).collect();
        return Err(Failure::usage(format!("{which} is no virtual address here; these are: {}", known.join(", "))));
    }
    found.for_each(what);
    Ok(())
}

/// One more backend, unless one of that name is there. Gives back what it is called.
pub(crate) fn add(balance: &mut Balance, backend: BackendConfig) -> Result<String, Failure> {
    let backend = if balance.vips.is_empty() { words::named_with_port(backend) } else { backend };
    if balance.backends.iter().any(|known| known.name == backend.name) {
        return Err(Failure::usage(format!(
            "backend {:?} is the same host as one that is there already: leave it out, or change that one",
            backend.name
        )));
    }
    if balance.backends.len() >= limits::MOST {
        return Err(Failure::usage(format!("there are {} backends, and no more than that can be", limits::MOST)));
    }
    let name = backend.name.clone();
    balance.backends.push(backend);
    Ok(name)
}

/// The commands that make access list `number` of `balance`, one a line, as the answer to who asks for it.
pub fn acl_lines(balance: &Balance, number: u8) -> Vec<String> {
    let rules = balance.acls.get(&number).map_or_else(Vec::new, rule::render_rules);
    rules.into_iter().map(|rule| format!("acl {number} {rule}")).collect()
}

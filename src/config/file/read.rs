//! From the text of a file to a configuration, each setting checked by itself.

mod backend;
mod proxy;

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::super::origin::{Origins, Place, Source};
use super::super::{
    Config, Lookup, TableSize, TarpitConfig, VipConfig, WhenEmpty, check, limits, nearest::nearest, rule, words,
};
use super::{BalanceTable, File, HealthTable, Number, Switch, TarpitTable, Text, TimeoutsTable, VipTable};
use crate::failure::Failure;
use crate::lb::Protocols;
use crate::lb::acl::Acl;
use crate::probe::{Check, HTTP_STATUS};

/// What the command line means for the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    /// As the command line says; it counts before the file's `[balance] protocol`.
    pub(crate) protocols: Option<Protocols>,
    /// What clients of VIPs get that do not say it themselves, when no backend is in service.
    pub(crate) when_empty: WhenEmpty,
    /// Does the command line name VIPs? Without any, servers have their ports in their names.
    pub(crate) vips: bool,
    /// Are names of listeners looked up?
    pub(crate) lookup: Lookup,
}

/// The file of this text.
///
/// # Errors
/// It is no TOML, has a key that is not known, or a value of another type: where, and what to do.
pub(crate) fn parse(source: &Arc<Source>) -> Result<File, Failure> {
    toml::from_str(source.text()).map_err(|e| {
        let place = source.place(e.span().unwrap_or(0..0));
        place.blame(Failure::usage(explained(e.message())))
    })
}

/// What the parser says, with the remedy.
fn explained(message: &str) -> String {
    let message = message.trim().replace('\n', ", ").replace("expected i64", "expected a whole number");
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((key, rest)) = rest.split_once('`')
    {
        // "expected one of `a`, `b`": what stands at odd places is between quotes.
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return match nearest(key, known.iter().copied()) {
            Some(meant) => format!("there is no key {key:?} here; {meant:?} is one"),
            None => format!("there is no key {key:?} here; these are known: {}", known.join(", ")),
        };
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("the key {key:?} is missing here; add it");
    }
    if message.starts_with("duplicate key") {
        return format!("{message}: it is already there further up, leave one out");
    }
    if message.starts_with("invalid type: ") {
        return format!("{message}; texts have quotes (\"eth0\"), numbers and true or false have none");
    }
    format!("{message}; is that TOML? (key = value, texts in quotes, [tables] in brackets)")
}

/// Adds what `file` says to `config`, and notes in `origins` where it says so. Gives back which protocols VIPs serve that
/// do not say themselves.
///
/// # Errors
/// The first setting that cannot be, with its place.
pub(crate) fn apply(
    file: &File,
    source: &Arc<Source>,
    defaults: Defaults,
    config: &mut Config,
    origins: &mut Origins,
) -> Result<Protocols, Failure> {
    let mut reader = Reader { source, origins, config };
    reader.process(file)?;
    reader.balance(&file.balance)?;
    let protocols = reader.parsed("protocol", file.balance.protocol.as_ref(), words::parse_protocols)?;
    let vips = defaults.vips || !file.vip.is_empty();
    let defaults = Defaults { protocols: defaults.protocols.or(protocols), vips, ..defaults };
    reader.emergency(&file.balance, defaults)?;
    for vip in &file.vip {
        reader.vip(vip, defaults)?;
    }
    for backend in &file.backend {
        reader.backend(backend, defaults)?;
    }
    for listener in &file.listen {
        reader.listen(listener, defaults)?;
    }
    if let Some(proxy) = &file.proxy {
        reader.proxy(proxy)?;
    }
    reader.health(&file.health)?;
    reader.timeouts(&file.timeouts)?;
    for (number, rules) in &file.acl {
        reader.acl(number, rules)?;
    }
    if let Some(tarpit) = &file.tarpit {
        reader.tarpit(tarpit)?;
    }
    Ok(defaults.protocols.unwrap_or_default())
}

impl File {
    /// Does it name an interface or a virtual address?
    pub(crate) fn is_of_a_segment(&self) -> bool {
        self.interface.is_some() || !self.vip.is_empty()
    }
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    origins: &'a mut Origins,
    config: &'a mut Config,
}

impl Reader<'_> {
    fn process(&mut self, file: &File) -> Result<(), Failure> {
        let path = |text: &str| match text {
            "" => Err("an empty path; leave the key out".to_owned()),
            path => Ok(PathBuf::from(path)),
        };
        let name = |text: &str| match text {
            "" => Err("an empty name; leave the key out".to_owned()),
            name => Ok(name.to_owned()),
        };
        let interface = self.parsed("interface", file.interface.as_ref(), FromStr::from_str)?;
        let out = self.parsed("out", file.out.as_ref(), FromStr::from_str)?;
        let driver = self.parsed("driver", file.driver.as_ref(), FromStr::from_str)?;
        let mac = self.parsed("mac", file.mac.as_ref(), words::parse_station)?;
        let dedicated = self.switch("dedicated", &file.dedicated);
        let ifconfig = self.switch("ifconfig", &file.ifconfig);
        let xdp_mode = self.parsed("xdp-mode", file.xdp_mode.as_ref(), FromStr::from_str)?;
        let xdp_pin = self.parsed("xdp-pin", file.xdp_pin.as_ref(), path)?;
        let cpus = self.parsed("cpus", file.cpus.as_ref(), FromStr::from_str)?;
        let vip_mac = self.parsed("vip-mac", file.vip_mac.as_ref(), words::parse_station)?;
        let busy_poll = self.number("busy-poll", &file.busy_poll, limits::BUSY_POLL)?;
        let ingress_drop = self.switch("ingress-drop", &file.ingress_drop);
        let user = self.parsed("user", file.user.as_ref(), name)?;
        let pidfile = self.parsed("pidfile", file.pidfile.as_ref(), path)?;
        let log_file = self.parsed("log-file", file.log_file.as_ref(), path)?;
        let log_format = self.parsed("log-format", file.log_format.as_ref(), FromStr::from_str)?;
        let debug = self.number("debug", &file.debug, limits::DEBUG)?;
        let daemon = self.switch("daemon", &file.daemon);
        let allow_exit = self.switch("allow-exit", &file.allow_exit);
        let standby = self.switch("standby", &file.standby);
        let flow_entries = self.number("flow-entries", &file.flow_entries, limits::FLOW_ENTRIES)?;
        let flow_file = self.parsed("flow-file", file.flow_file.as_ref(), path)?;
        let peer = self.parsed("peer", file.peer.as_ref(), super::super::parse_peer)?;
        for address in &file.control {
            let address = self.parsed("control", Some(address), FromStr::from_str)?;
            self.config.process.control.extend(address);
        }
        let process = &mut self.config.process;
        process.interface = interface.or(process.interface.take());
        process.out = out.or(process.out.take());
        set(&mut process.driver, driver);
        process.mac = mac.or(process.mac);
        set(&mut process.dedicated, dedicated);
        set(&mut process.no_ifconfig, ifconfig.map(|ifconfig| !ifconfig));
        set(&mut process.xdp_mode, xdp_mode);
        process.xdp_pin = xdp_pin.or(process.xdp_pin.take());
        set(&mut process.cpus, cpus);
        process.vip_mac = vip_mac.or(process.vip_mac);
        set(&mut process.busy_poll, busy_poll);
        set(&mut process.no_ingress_drop, ingress_drop.map(|drop| !drop));
        process.user = user.or(process.user.take());
        process.pidfile = pidfile.or(process.pidfile.take());
        process.log_file = log_file.or(process.log_file.take());
        set(&mut process.log_format, log_format);
        set(&mut process.debug, debug.map(|level| level as u8));
        set(&mut process.daemon, daemon);
        set(&mut process.allow_exit, allow_exit);
        set(&mut process.standby, standby);
        set(&mut process.flow_entries, flow_entries.map(|n| (n as usize).next_power_of_two()));
        process.flow_file = flow_file.or(process.flow_file.take());
        process.peer = peer.or(process.peer);
        Ok(())
    }

    fn balance(&mut self, table: &BalanceTable) -> Result<(), Failure> {
        let hash_port = self.switch("hash-port", &table.hash_port);
        let seed = self.parsed("seed", table.seed.as_ref(), FromStr::from_str)?;
        let size = self.number("table-size", &table.table_size, 0..=u32::MAX)?;
        let size = size.map(TableSize::new).transpose();
        let size = size.map_err(|e| self.blame(table.table_size.as_ref(), e))?;
        let interval = self.number("neighbor-interval", &table.neighbor_interval, limits::NEIGHBOR_INTERVAL)?;
        let predecessor = self.number("predecessor", &table.predecessor, limits::PREDECESSOR)?;
        let slow_start = self.number("slow-start", &table.slow_start, limits::SLOW_START)?;
        let panic_threshold = self.number("panic-threshold", &table.panic_threshold, limits::PERCENT)?;
        let client_acl = self.number("client-acl", &table.client_acl, limits::ACL)?;
        let control_acl = self.number("control-acl", &table.control_acl, limits::ACL)?;
        let balance = &mut self.config.balance;
        set(&mut balance.hash_port, hash_port);
        set(&mut balance.seed, seed);
        set(&mut balance.table_size, size);
        set(&mut balance.neighbor.revalidate, interval.map(seconds));
        set(&mut balance.predecessor, predecessor.map(seconds));
        set(&mut balance.slow_start, slow_start.map(seconds));
        set(&mut balance.panic_threshold, panic_threshold.map(|percent| percent as u8));
        balance.client_acl = client_acl.map(|n| n as u8).or(balance.client_acl);
        balance.control_acl = control_acl.map(|n| n as u8).or(balance.control_acl);
        Ok(())
    }

    fn emergency(&mut self, table: &BalanceTable, defaults: Defaults) -> Result<(), Failure> {
        if let Some(backend) = self.parsed("emergency", table.emergency.as_ref(), words::parse_backend)? {
            let backend = if defaults.vips { backend } else { words::named_with_port(backend) };
            self.config.balance.emergency = Some(backend);
        }
        Ok(())
    }

    fn acl(&mut self, number: &Spanned<String>, texts: &Spanned<Vec<Spanned<String>>>) -> Result<(), Failure> {
        let index: u8 =
            number.get_ref().parse().ok().filter(|&n| limits::ACL.contains(&u32::from(n))).ok_or_else(|| {
                let what = format!("there is no access list {:?}: they have the numbers 0 to 9", number.get_ref());
                self.blame(Some(number), what)
            })?;
        let mut rules = Vec::new();
        for text in texts.get_ref() {
            let parsed = rule::parse_rules(text.get_ref());
            rules.extend(parsed.map_err(|failure| self.blame(Some(text), failure))?);
        }
        self.note(&format!("acl {index}"), number);
        self.config.balance.acls.insert(index, Acl::new(rules));
        Ok(())
    }

    fn vip(&mut self, table: &Spanned<VipTable>, defaults: Defaults) -> Result<(), Failure> {
        let VipTable { address, port, protocol, when_empty, client_acl } = table.get_ref();
        let parsed = words::parse_host_address(address.get_ref()).map_err(|what| self.blame(Some(address), what))?;
        let mut vip = VipConfig::new(parsed, 0);
        // What the VIP is called is only known with its port and protocol: "vip" stands for it until then.
        vip.port = self.number("vip port", port, limits::PORT)?.unwrap_or(0) as u16;
        let protocols = self.parsed("vip protocol", protocol.as_ref(), words::parse_protocols)?;
        vip.protocols = protocols.or(defaults.protocols).unwrap_or_default();
        let name = vip.setting();
        self.note(&name, address);
        if self.config.balance.vips.iter().any(|known| known.setting() == name) {
            return Err(self.blame(Some(address), format!("the virtual address {vip} is given twice: leave one out")));
        }
        vip.when_empty = self
            .parsed(&format!("{name} when-empty"), when_empty.as_ref(), FromStr::from_str)?
            .unwrap_or(defaults.when_empty);
        let client_acl = self.number(&format!("{name} client-acl"), client_acl, limits::ACL)?;
        vip.client_acl = client_acl.map(|n| n as u8);
        self.config.balance.vips.push(vip);
        Ok(())
    }

    fn health(&mut self, table: &HealthTable) -> Result<(), Failure> {
        if let Some(check) = self.check(table)? {
            self.config.balance.health.check = check;
        }
        let interval = self.number("health interval", &table.interval, limits::CHECK_INTERVAL)?;
        let timeout = self.number("health timeout", &table.timeout, limits::CHECK_TIMEOUT)?;
        let doubt = self.number("health doubt-interval", &table.doubt_interval, limits::DOUBT_INTERVAL)?;
        let rise = self.number("health rise", &table.rise, limits::IN_A_ROW)?;
        let fall = self.number("health fall", &table.fall, limits::IN_A_ROW)?;
        let jitter = self.number("health jitter", &table.jitter, limits::JITTER)?;
        for text in &table.source {
            let setting = "health source";
            // Whether one of this machine's own will do is known when it is known who checks.
            let address = self.parsed(setting, Some(text), words::parse_server_address)?;
            let Some(address) = address else { continue };
            let health = &mut self.config.balance.health;
            let before = match address {
                IpAddr::V4(address) => health.source4.replace(address).map(IpAddr::V4),
                IpAddr::V6(address) => health.source6.replace(address).map(IpAddr::V6),
            };
            if let Some(before) = before {
                let what = format!("{before} is the source of that family already: one for IPv4, one for IPv6");
                return Err(self.blame(Some(text), what));
            }
        }
        let health = &mut self.config.balance.health;
        if let Some(interval) = interval {
            health.set_interval(milliseconds(interval));
        }
        let policy = &mut health.policy;
        set(&mut policy.timeout, timeout.map(milliseconds));
        set(&mut policy.doubt, doubt.map(milliseconds));
        set(&mut policy.rise, rise);
        set(&mut policy.fall, fall);
        set(&mut policy.jitter, jitter.map(|percent| percent as u8));
        Ok(())
    }

    /// The kind of check, and the keys that belong to it.
    fn check(&mut self, table: &HealthTable) -> Result<Option<Check>, Failure> {
        let port = self.number("health port", &table.port, limits::ONE_PORT)?.map(|port| port as u16);
        let kind = table.check.as_ref().map_or("link", |kind| kind.get_ref().as_str());
        let own = |value: &Text| value.as_ref().map(|text| text.get_ref().clone());
        let check = match kind {
            "link" => Check::Link,
            "icmp" => Check::Icmp,
            "tcp" => Check::Tcp { port },
            "http" => {
                let status = table.status.as_ref().map(|status| check::parse_status(&status.get_ref().0)).transpose();
                let status = status.map_err(|what| self.blame(table.status.as_ref(), what))?;
                let path = own(&table.path).unwrap_or_else(|| "/".to_owned());
                let status = status.unwrap_or(HTTP_STATUS);
                Check::Http { port, path, host: own(&table.host), status, body: own(&table.body) }
            }
            "udp" => {
                let payload = table.payload.as_ref().map_or(Vec::new(), |bytes| bytes.get_ref().0.clone());
                let expect = table.expect.as_ref().map_or(Vec::new(), |bytes| bytes.get_ref().0.clone());
                Check::Udp { port, payload, expect }
            }
            "dns" => {
                let name = own(&table.name).ok_or_else(|| {
                    self.blame(
                        table.check.as_ref(),
                        "a dns check needs a name to ask for: add name = \"www.example.org\"",
                    )
                })?;
                Check::Dns { port, name }
            }
            other => {
                let known = ["link", "icmp", "tcp", "http", "udp", "dns"];
                let remedy = nearest(other, known).map_or(String::new(), |meant| format!("; {meant:?} is one"));
                let what = format!("{other:?} is no kind of check{remedy}: write one of {}", known.join(", "));
                return Err(self.blame(table.check.as_ref(), what));
            }
        };
        let places = [
            ("port", table.port.as_ref().map(Spanned::span), "tcp http udp dns"),
            ("path", table.path.as_ref().map(Spanned::span), "http"),
            ("host", table.host.as_ref().map(Spanned::span), "http"),
            ("status", table.status.as_ref().map(Spanned::span), "http"),
            ("body", table.body.as_ref().map(Spanned::span), "http"),
            ("payload", table.payload.as_ref().map(Spanned::span), "udp"),
            ("expect", table.expect.as_ref().map(Spanned::span), "udp"),
            ("name", table.name.as_ref().map(Spanned::span), "dns"),
        ];
        for (key, span, kinds) in places {
            let Some(span) = span else { continue };
            let place = self.source.place(span);
            if !kinds.split(' ').any(|known| known == kind) {
                let what = format!("{key} is of no use with check = {kind:?}, but with {kinds}: leave it out");
                return Err(place.blame(Failure::usage(what)));
            }
            self.origins.note(format!("health {key}"), place);
        }
        if let Some(kind) = &table.check {
            self.note("health check", kind);
        }
        Ok(table.check.is_some().then_some(check))
    }

    fn timeouts(&mut self, table: &TimeoutsTable) -> Result<(), Failure> {
        let opening = self.number("timeouts opening", &table.opening, limits::FLOW_TIMEOUT)?;
        let established = self.number("timeouts established", &table.established, limits::FLOW_TIMEOUT)?;
        let closing = self.number("timeouts closing", &table.closing, limits::FLOW_TIMEOUT)?;
        let udp = self.number("timeouts udp", &table.udp, limits::FLOW_TIMEOUT)?;
        let timeouts = &mut self.config.balance.timeouts;
        set(&mut timeouts.opening, opening.map(seconds));
        set(&mut timeouts.established, established.map(seconds));
        set(&mut timeouts.closing, closing.map(seconds));
        set(&mut timeouts.udp, udp.map(seconds));
        Ok(())
    }

    fn tarpit(&mut self, table: &Spanned<TarpitTable>) -> Result<(), Failure> {
        let TarpitTable { acl, rate } = table.get_ref();
        let acl = self.one_number("tarpit acl", acl, limits::ACL)? as u8;
        let rate = self.number("tarpit rate", rate, limits::TARPIT_RATE)?.unwrap_or(TarpitConfig::RATE);
        self.config.balance.tarpit = Some(TarpitConfig { acl, rate });
        Ok(())
    }

    /// Where `value` stands, noted as where `setting` was written.
    fn note<T>(&mut self, setting: &str, value: &Spanned<T>) -> Place {
        let place = self.source.place(value.span());
        self.origins.note(setting, place.clone());
        place
    }

    fn blame<T>(&self, value: Option<&Spanned<T>>, what: impl Display) -> Failure {
        let place = self.source.place(value.map_or(0..0, Spanned::span));
        place.blame(Failure::usage(what.to_string()))
    }

    fn number(&mut self, setting: &str, value: &Number, range: RangeInclusive<u32>) -> Result<Option<u32>, Failure> {
        value.as_ref().map(|value| self.one_number(setting, value, range)).transpose()
    }

    fn one_number(&mut self, setting: &str, value: &Spanned<i64>, range: RangeInclusive<u32>) -> Result<u32, Failure> {
        let number = u32::try_from(*value.get_ref()).ok().filter(|number| range.contains(number));
        let place = self.note(setting, value);
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            place.blame(Failure::usage(format!(
                "{} is out of range: write a number from {least} to {most}",
                value.get_ref()
            )))
        })
    }

    fn switch(&mut self, setting: &str, value: &Switch) -> Option<bool> {
        let value = value.as_ref()?;
        self.note(setting, value);
        Some(*value.get_ref())
    }

    fn parsed<T, E: Display>(
        &mut self,
        setting: &str,
        value: Option<&Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = value else { return Ok(None) };
        let place = self.note(setting, value);
        parse(value.get_ref()).map(Some).map_err(|what| place.blame(Failure::usage(what.to_string())))
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(u64::from(number))
}

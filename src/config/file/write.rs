//! A configuration as the text of a file that says the same.

mod proxy;

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::super::{BackendConfig, Config, ProxyConfig, VipConfig, check, rule, words};
use super::{
    BackendTable, BalanceTable, Bytes, File, HealthTable, Number, Status, Switch, TarpitTable, Text, TimeoutsTable,
    VipTable,
};
use crate::probe::Check;

impl Config {
    /// The configuration as a TOML file, with all that has a default. Loading it gives an equal configuration, if names
    /// resolve to the same addresses as before.
    pub fn to_toml(&self) -> String {
        // Nothing in the tables can fail to be written: they hold texts, numbers and switches alone.
        toml::to_string(&File::from(self)).unwrap_or_default()
    }
}

impl From<&Config> for File {
    fn from(config: &Config) -> File {
        let Config { balance, process, proxy } = config;
        let vips = !balance.vips.is_empty();
        let health = &balance.health;
        File {
            interface: process.interface.as_ref().and_then(text),
            out: process.out.as_ref().and_then(text),
            driver: text(process.driver),
            mac: process.mac.and_then(text),
            dedicated: switch(process.dedicated),
            ifconfig: switch(!process.no_ifconfig),
            xdp_mode: text(process.xdp_mode),
            xdp_pin: process.xdp_pin.as_deref().and_then(path),
            cpus: Some(&process.cpus).filter(|cpus| !cpus.0.is_empty()).and_then(text),
            vip_mac: process.vip_mac.and_then(text),
            busy_poll: number(process.busy_poll),
            ingress_drop: switch(!process.no_ingress_drop),
            user: process.user.as_ref().and_then(text),
            pidfile: process.pidfile.as_deref().and_then(path),
            log_file: process.log_file.as_deref().and_then(path),
            log_format: text(process.log_format),
            debug: number(process.debug),
            daemon: switch(process.daemon),
            control: process.control.iter().map(|address| unplaced(address.to_string())).collect(),
            allow_exit: switch(process.allow_exit),
            standby: switch(process.standby),
            flow_entries: number(process.flow_entries as u32),
            flow_file: process.flow_file.as_deref().and_then(path),
            peer: process.peer.and_then(text),
            balance: BalanceTable {
                hash_port: switch(balance.hash_port),
                seed: text(format_args!("{:x}", balance.seed.0)),
                table_size: number(balance.slots_wanted()),
                protocol: None,
                neighbor_interval: seconds(balance.neighbor.revalidate),
                predecessor: seconds(balance.predecessor),
                slow_start: seconds(balance.slow_start),
                panic_threshold: number(balance.panic_threshold),
                client_acl: balance.client_acl.and_then(number),
                control_acl: balance.control_acl.and_then(number),
                emergency: balance.emergency.as_ref().map(words::backend_word).and_then(text),
            },
            vip: balance.vips.iter().map(|vip| unplaced(vip.into())).collect(),
            backend: balance.backends.iter().map(|backend| unplaced(backend_table(backend, vips))).collect(),
            listen: proxy.listeners.iter().map(|listener| unplaced(listener.into())).collect(),
            // Who has no proxy is not told of its settings.
            proxy: (*proxy != ProxyConfig::default()).then(|| proxy.into()),
            health: HealthTable {
                interval: milliseconds(health.policy.interval),
                timeout: milliseconds(health.policy.timeout),
                doubt_interval: milliseconds(health.policy.doubt),
                rise: number(health.policy.rise),
                fall: number(health.policy.fall),
                jitter: number(health.policy.jitter),
                source: health
                    .source4
                    .map(|a| a.to_string())
                    .into_iter()
                    .chain(health.source6.map(|a| a.to_string()))
                    .map(unplaced)
                    .collect(),
                ..HealthTable::from(&health.check)
            },
            timeouts: TimeoutsTable {
                opening: seconds(balance.timeouts.opening),
                established: seconds(balance.timeouts.established),
                closing: seconds(balance.timeouts.closing),
                udp: seconds(balance.timeouts.udp),
            },
            acl: balance
                .acls
                .iter()
                .map(|(index, acl)| {
                    let rules = rule::render_rules(acl).into_iter().map(unplaced).collect();
                    (unplaced(index.to_string()), unplaced(rules))
                })
                .collect(),
            tarpit: balance.tarpit.map(|tarpit| {
                unplaced(TarpitTable { acl: unplaced(i64::from(tarpit.acl)), rate: number(tarpit.rate) })
            }),
        }
    }
}

impl From<&VipConfig> for VipTable {
    fn from(vip: &VipConfig) -> VipTable {
        VipTable {
            address: unplaced(vip.address.to_string()),
            port: number(vip.port),
            protocol: text(words::protocols_word(vip.protocols)),
            when_empty: text(vip.when_empty),
            client_acl: vip.client_acl.and_then(number),
        }
    }
}

/// `backend` beside VIPs, or without any, where servers have their ports in their names.
fn backend_table(backend: &BackendConfig, vips: bool) -> BackendTable {
    let told = |value: u32| if value == 0 { None } else { number(value) };
    let host = backend.host.as_ref().unwrap_or(&backend.name);
    let literal = words::parse_host(host).is_ok_and(|(_, literal)| literal.is_some());
    let socket = backend.path.as_deref();
    let named = match socket {
        Some(path) => path.to_str() != Some(&backend.name),
        None => backend.host.is_some() || (backend.port != 0 && !vips),
    };
    BackendTable {
        name: if named { text(&backend.name) } else { None },
        host: if socket.is_none() { text(host) } else { None },
        path: socket.and_then(path),
        address: backend.address.filter(|_| !literal && !backend.looked_up).and_then(text),
        mac: backend.mac.and_then(text),
        port: told(u32::from(backend.port)),
        weight: number(backend.weight),
        soft: told(backend.soft),
        hard: told(backend.hard),
        prio: told(backend.prio),
        acl: backend.acl.and_then(number),
        maintenance: if backend.maintenance { switch(true) } else { None },
    }
}

impl From<&Check> for HealthTable {
    fn from(asked: &Check) -> HealthTable {
        let kind = |kind: &str, port: Option<u16>| HealthTable {
            check: text(kind),
            port: port.and_then(number),
            ..HealthTable::default()
        };
        match asked {
            Check::Link => kind("link", None),
            Check::Icmp => kind("icmp", None),
            Check::Tcp { port } => kind("tcp", *port),
            Check::Http { port, path, host, status, body } => HealthTable {
                path: text(path),
                host: host.as_ref().and_then(text),
                status: Some(unplaced(Status(check::status_text(status)))),
                body: body.as_ref().and_then(text),
                ..kind("http", *port)
            },
            Check::Udp { port, payload, expect } => HealthTable {
                payload: Some(unplaced(Bytes(payload.clone()))),
                expect: Some(unplaced(Bytes(expect.clone()))),
                ..kind("udp", *port)
            },
            Check::Dns { port, name } => HealthTable { name: text(name), ..kind("dns", *port) },
        }
    }
}

fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn text(value: impl Display) -> Text {
    Some(unplaced(value.to_string()))
}

fn path(path: &Path) -> Text {
    text(path.display())
}

fn number(value: impl Into<i64>) -> Number {
    Some(unplaced(value.into()))
}

fn switch(value: bool) -> Switch {
    Some(unplaced(value))
}

fn seconds(duration: Duration) -> Number {
    Some(unplaced(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
}

fn milliseconds(duration: Duration) -> Number {
    Some(unplaced(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
}

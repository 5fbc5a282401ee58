//! A configuration as a list of settings, and what is different between two.

mod proxy;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;

use super::proxy::ListenConfig;
use super::{BackendConfig, Balance, Config, Process, VipConfig, check, rule, words};

impl Config {
    /// Every setting by its name: `backend be1 weight` is `3`. What is not set is not there.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = Settings(BTreeMap::new());
        settings.process(&self.process);
        settings.balance(&self.balance);
        settings.proxy(&self.proxy);
        settings.0
    }

    /// What `new` has different of what a running process cannot change: `interface: eth0 -> eth1`.
    pub fn fixed_difference(&self, new: &Config) -> Vec<String> {
        let fixed = |config: &Config| {
            let mut settings = Settings(BTreeMap::new());
            settings.proxy(&config.proxy);
            settings.0.retain(|key, _| proxy::FIXED.contains(&key.as_str()));
            settings.process(&config.process);
            settings.0.remove("debug");
            settings.0
        };
        let (old, new) = (fixed(self), fixed(new));
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let value =
            |settings: &BTreeMap<String, String>, key| settings.get(key).map_or("none".to_owned(), String::clone);
        keys.into_iter()
            .filter(|&key| old.get(key) != new.get(key))
            .map(|key| format!("{key}: {} -> {}", value(&old, key), value(&new, key)))
            .collect()
    }
}

/// What is different in `new`, a line each: `+ backend be4 (weight 1)`, `- backend be2`, `~ backend be1 weight: 1 -> 3`.
pub fn difference(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let (before, after) = (&old.balance, &new.balance);
    let vips = |balance: &Balance| -> HashSet<String> { balance.vips.iter().map(VipConfig::setting).collect() };
    let backends = |balance: &Balance| -> HashSet<String> { balance.backends.iter().map(setting).collect() };
    let (old_vips, new_vips) = (vips(before), vips(after));
    let (old_backends, new_backends) = (backends(before), backends(after));
    for vip in before.vips.iter().map(VipConfig::setting).filter(|vip| !new_vips.contains(vip)) {
        lines.push(format!("- {vip}"));
    }
    for vip in after.vips.iter().map(VipConfig::setting).filter(|vip| !old_vips.contains(vip)) {
        lines.push(format!("+ {vip}"));
    }
    for backend in before.backends.iter().map(setting).filter(|backend| !new_backends.contains(backend)) {
        lines.push(format!("- {backend}"));
    }
    for backend in after.backends.iter().filter(|backend| !old_backends.contains(&setting(backend))) {
        lines.push(format!("+ {} (weight {})", setting(backend), backend.weight));
    }
    let listeners =
        |config: &Config| -> HashSet<String> { config.proxy.listeners.iter().map(ListenConfig::setting).collect() };
    let (old_listeners, new_listeners) = (listeners(old), listeners(new));
    let gone = old.proxy.listeners.iter().map(ListenConfig::setting).filter(|name| !new_listeners.contains(name));
    lines.extend(gone.map(|listener| format!("- {listener}")));
    let come = new.proxy.listeners.iter().map(ListenConfig::setting).filter(|name| !old_listeners.contains(name));
    lines.extend(come.map(|listener| format!("+ {listener}")));
    let kept = |names: &[&HashSet<String>; 2], name: &str| names[0].contains(name) && names[1].contains(name);
    let order = |balance: &Balance| -> Vec<String> {
        balance.backends.iter().map(setting).filter(|name| kept(&[&old_backends, &new_backends], name)).collect()
    };
    if order(before) != order(after) {
        lines.push("~ the order of the backends, and so their numbers".to_owned());
    }
    let order = |config: &Config| -> Vec<String> {
        let names = config.proxy.listeners.iter().map(ListenConfig::setting);
        names.filter(|name| kept(&[&old_listeners, &new_listeners], name)).collect()
    };
    if order(old) != order(new) {
        lines.push("~ the order of the listeners".to_owned());
    }

    let (old_settings, new_settings) = (old.settings(), new.settings());
    // Settings of what came or went are told by that.
    let told = |key: &str| match key.split_once(' ').map(|(kind, _)| kind) {
        Some(kind @ ("vip" | "backend" | "listen")) => {
            let name: String = key.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
            match kind {
                "vip" => !kept(&[&old_vips, &new_vips], &name),
                "listen" => !kept(&[&old_listeners, &new_listeners], &name),
                _ => !kept(&[&old_backends, &new_backends], &name),
            }
        }
        _ => false,
    };
    for (key, value) in old_settings.iter().filter(|(key, _)| !told(key)) {
        match new_settings.get(key) {
            None => lines.push(format!("- {key}: {value}")),
            Some(now) if now != value => lines.push(format!("~ {key}: {value} -> {now}")),
            Some(_) => {}
        }
    }
    for (key, value) in new_settings.iter().filter(|(key, _)| !told(key) && !old_settings.contains_key(*key)) {
        lines.push(format!("+ {key}: {value}"));
    }
    lines
}

fn setting(backend: &BackendConfig) -> String {
    format!("backend {}", backend.name)
}

struct Settings(BTreeMap<String, String>);

impl Settings {
    fn put(&mut self, key: impl Into<String>, value: impl Display) {
        self.0.insert(key.into(), value.to_string());
    }

    fn maybe(&mut self, key: impl Into<String>, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn process(&mut self, process: &Process) {
        self.maybe("interface", process.interface.as_ref());
        self.maybe("out", process.out.as_ref());
        self.put("driver", process.driver);
        self.maybe("mac", process.mac);
        self.put("dedicated", process.dedicated);
        self.put("ifconfig", !process.no_ifconfig);
        self.put("xdp-mode", process.xdp_mode);
        self.maybe("xdp-pin", process.xdp_pin.as_ref().map(|path| path.display()));
        self.maybe("cpus", Some(&process.cpus).filter(|cpus| !cpus.0.is_empty()));
        self.maybe("vip-mac", process.vip_mac);
        self.put("busy-poll", process.busy_poll);
        self.put("ingress-drop", !process.no_ingress_drop);
        self.maybe("user", process.user.as_ref());
        self.maybe("pidfile", process.pidfile.as_ref().map(|path| path.display()));
        self.maybe("log-file", process.log_file.as_ref().map(|path| path.display()));
        self.put("log-format", process.log_format);
        self.put("debug", process.debug);
        self.put("daemon", process.daemon);
        let control: Vec<String> = process.control.iter().map(ToString::to_string).collect();
        self.maybe("control", (!control.is_empty()).then(|| control.join(", ")));
        self.put("allow-exit", process.allow_exit);
        self.put("standby", process.standby);
        self.put("flow-entries", process.flow_entries);
        self.maybe("flow-file", process.flow_file.as_ref().map(|path| path.display()));
        self.maybe("peer", process.peer);
    }

    fn balance(&mut self, balance: &Balance) {
        self.put("hash-port", balance.hash_port);
        self.put("seed", format_args!("{:x}", balance.seed.0));
        self.put("table-size", balance.slots_wanted());
        self.put("neighbor-interval", balance.neighbor.revalidate.as_secs());
        self.put("predecessor", balance.predecessor.as_secs());
        self.put("slow-start", balance.slow_start.as_secs());
        self.put("panic-threshold", balance.panic_threshold);
        self.maybe("client-acl", balance.client_acl);
        self.maybe("control-acl", balance.control_acl);
        for vip in &balance.vips {
            let name = vip.setting();
            self.put(format!("{name} protocol"), vip.protocols);
            self.put(format!("{name} when-empty"), vip.when_empty);
            self.maybe(format!("{name} client-acl"), vip.client_acl);
        }
        for backend in &balance.backends {
            self.backend(backend);
        }
        self.maybe("emergency", balance.emergency.as_ref().map(words::backend_word));
        let address = balance.emergency.as_ref().and_then(|emergency| emergency.address);
        self.maybe("emergency address", address);
        let health = &balance.health;
        self.put("health check", check::Shown(&health.check));
        self.put("health interval", health.policy.interval.as_millis());
        self.put("health timeout", health.policy.timeout.as_millis());
        self.put("health doubt-interval", health.policy.doubt.as_millis());
        self.put("health rise", health.policy.rise);
        self.put("health fall", health.policy.fall);
        self.put("health jitter", health.policy.jitter);
        self.maybe("health source ipv4", health.source4);
        self.maybe("health source ipv6", health.source6);
        self.put("timeouts opening", balance.timeouts.opening.as_secs());
        self.put("timeouts established", balance.timeouts.established.as_secs());
        self.put("timeouts closing", balance.timeouts.closing.as_secs());
        self.put("timeouts udp", balance.timeouts.udp.as_secs());
        for (number, acl) in &balance.acls {
            self.put(format!("acl {number}"), rule::render_rules(acl).join(", "));
        }
        if let Some(tarpit) = &balance.tarpit {
            self.put("tarpit acl", tarpit.acl);
            self.put("tarpit rate", tarpit.rate);
        }
    }

    fn backend(&mut self, backend: &BackendConfig) {
        let name = setting(backend);
        self.maybe(format!("{name} host"), backend.host.as_ref());
        self.maybe(format!("{name} path"), backend.path.as_ref().map(|path| path.display()));
        self.maybe(format!("{name} address"), backend.address);
        self.maybe(format!("{name} mac"), backend.mac);
        self.put(format!("{name} port"), backend.port);
        self.put(format!("{name} weight"), backend.weight);
        self.put(format!("{name} soft"), backend.soft);
        self.put(format!("{name} hard"), backend.hard);
        self.put(format!("{name} prio"), backend.prio);
        self.maybe(format!("{name} acl"), backend.acl);
        self.put(format!("{name} maintenance"), backend.maintenance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Edit, Lookup};

    fn config() -> Config {
        let mut config = Config::default();
        config.balance.vips = vec![VipConfig::new("10.0.0.100".parse().unwrap(), 80)];
        config.balance.backends = ["be1", "be2", "be3"].map(BackendConfig::named).to_vec();
        config
    }

    /// `config` after commands.
    fn after(commands: &[&str]) -> Config {
        use crate::control::command::Command;
        commands.iter().fold(config(), |config, command| {
            let Command::Configure(edit) = Command::parse(command).unwrap() else { panic!("{command}") };
            config.edited(&edit, Lookup::Nothing).unwrap().0
        })
    }

    #[test]
    fn what_came_went_and_changed_is_told_each_in_one_line() {
        assert_eq!(difference(&config(), &config()), [""; 0]);
        for (commands, lines) in [
            (&["add be4"][..], &["+ backend be4 (weight 1)"][..]),
            (&["remove be2"], &["- backend be2"]),
            (&["server be1 weight 3"], &["~ backend be1 weight: 1 -> 3"]),
            (
                &["remove be1", "add be1::::2"],
                &["~ the order of the backends, and so their numbers", "~ backend be1 weight: 1 -> 2"],
            ),
            (&["server be2 address be9"], &["- backend be2", "+ backend be9 (weight 1)"]),
            (&["acl 1 deny 10.0.0.7", "acl 1 permit all"], &["+ acl 1: deny 10.0.0.7, permit all"]),
            (&["roundrobin", "panic 50"], &["~ hash-port: false -> true", "~ panic-threshold: 0 -> 50"]),
            (&["emergency be8"], &["+ emergency: be8"]),
            (&["check tcp:80"], &["~ health check: link -> tcp:80"]),
            (&["when_empty reject"], &["~ vip 10.0.0.100:80 when-empty: drop -> reject"]),
            (&["maintenance be3"], &["~ backend be3 maintenance: false -> true"]),
        ] {
            assert_eq!(difference(&config(), &after(commands)), lines, "{commands:?}");
        }
        let back = difference(&after(&["emergency be8", "server be1 weight 3"]), &config());
        assert_eq!(back, ["~ backend be1 weight: 3 -> 1", "- emergency: be8"]);
        let mut other = config();
        other.balance.vips = vec![VipConfig::new("10.0.0.101".parse().unwrap(), 80)];
        assert_eq!(difference(&config(), &other), ["- vip 10.0.0.100:80", "+ vip 10.0.0.101:80"]);
    }

    #[test]
    fn a_name_that_begins_like_another_is_another() {
        let mut old = config();
        old.balance.backends.push(BackendConfig::named("be10"));
        let mut new = old.clone();
        new.balance.backends.retain(|backend| backend.name != "be1");
        assert_eq!(difference(&old, &new), ["- backend be1"]);
    }

    #[test]
    fn what_a_running_process_cannot_change_is_named() {
        let mut new = after(&["server be1 weight 3", "debug 2"]);
        assert_eq!(config().fixed_difference(&new), [""; 0]);
        new.process.interface = "eth1".parse().ok();
        new.process.flow_entries = 1024;
        assert_eq!(config().fixed_difference(&new), ["flow-entries: 1048576 -> 1024", "interface: none -> eth1"]);
        assert!(config().edited(&Edit::Debug(1), Lookup::Nothing).is_ok());
    }
}

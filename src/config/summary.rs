//! What a configuration means, in lines for people: `pen-dsr check`.

mod proxy;

use super::proxy::TransportProtocol;
use super::{BackendConfig, Balance, Config, Driver, Process, XdpMode, check, rule, validate};
use crate::lb::Protocols;
use crate::lb::acl::Action;
use crate::probe::Check;

impl Config {
    /// What would be done with it, a line each.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let Config { balance, process, proxy } = self;
        let of_segment = !balance.vips.is_empty();
        let many = count(balance.backends.len(), "backend", "backends");
        if of_segment {
            let interface = process.ports();
            let silent = if process.standby { ", silent until told to take over" } else { "" };
            let vips = count(balance.vips.len(), "virtual address", "virtual addresses");
            lines.push(format!("{interface}: {vips}, {many}{silent}"));
        }
        if !proxy.is_empty() {
            lines.push(format!("proxy: {}, {many}", count(proxy.listeners.len(), "listener", "listeners")));
        }
        vips(balance, &mut lines);
        proxy::listeners(self, &mut lines);
        backends(self, &mut lines);
        proxy::selected(self, &mut lines);
        if !of_segment {
            health(balance, &mut lines);
            lists_of(balance, &mut lines);
            proxy::limited(proxy, &mut lines);
            running(process, &mut lines);
            return lines;
        }
        lines.push(format!(
            "hash: the client's {}, seed {:x}, {} slots",
            if balance.hash_port { "address and port" } else { "address" },
            balance.seed.0,
            balance.slots_wanted()
        ));
        health(balance, &mut lines);
        lists_of(balance, &mut lines);
        if let Some(tarpit) = &balance.tarpit {
            lines.push(format!("tarpit: what acl {} permits, {} answers a second at most", tarpit.acl, tarpit.rate));
        }
        flows(balance, process, &mut lines);
        driving(process, &mut lines);
        if !proxy.is_empty() {
            proxy::limited(proxy, &mut lines);
        }
        running(process, &mut lines);
        lines
    }

    /// What is allowed but may not be meant, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let Config { balance, process, proxy } = self;
        let backends = &balance.backends;
        let of_segment = !balance.vips.is_empty();
        if backends.iter().all(|backend| backend.weight == 0) {
            remarks.push("all backends have weight 0: nobody is served".to_owned());
        } else if backends.iter().all(|backend| backend.weight == 0 || backend.maintenance) {
            remarks.push("all backends are in maintenance: nobody is served".to_owned());
        }
        let limited = backends.iter().find(|backend| backend.soft != 0 || backend.hard != 0 || backend.prio != 0);
        if let Some(backend) = limited.filter(|_| proxy.is_empty()) {
            remarks.push(format!(
                "backend {}: soft and hard limits and priority have no effect on Direct Server Return",
                backend.name
            ));
        }
        let members = backends.iter().filter(|backend| backend.weight > 0).count();
        let table = of_segment || proxy.selection.method == super::proxy::Method::Consistent;
        if table && members * 100 > balance.slots_wanted() as usize {
            remarks.push(format!(
                "{} slots are few for {members} backends, so that their shares are uneven: some hundred times their number is good (--table-size)",
                balance.slots_wanted()
            ));
        }
        if matches!(balance.health.check, Check::Tcp { .. } | Check::Http { .. })
            && balance.vips.iter().all(|vip| vip.protocols == Protocols::Udp)
            && proxy.listeners.iter().all(|listener| listener.transport == TransportProtocol::Udp)
        {
            remarks.push("the check asks over TCP, and the virtual addresses serve UDP alone".to_owned());
        }
        lists(self, &mut remarks);
        proxy::remarks(self, &mut remarks);
        if process.allow_exit && process.control.is_empty() {
            remarks.push("a command may end the program (-X), but there is nowhere to give one (-C)".to_owned());
        }
        remarks
    }
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

fn vips(balance: &Balance, lines: &mut Vec<String>) {
    for vip in &balance.vips {
        let clients = match vip.client_acl.or(balance.client_acl) {
            None => "everybody".to_owned(),
            Some(acl) => format!("whom acl {acl} permits"),
        };
        let empty = vip.when_empty;
        lines.push(format!("vip {}: serves {clients}; without backends: {empty}", validate::served(vip)));
    }
}

fn lists_of(balance: &Balance, lines: &mut Vec<String>) {
    for (number, acl) in &balance.acls {
        lines.push(format!("acl {number}: {}", rule::render_rules(acl).join(", ")));
    }
    if let Some(acl) = balance.control_acl {
        lines.push(format!("commands over TCP: from whom acl {acl} permits"));
    }
}

fn backends(config: &Config, lines: &mut Vec<String>) {
    let balance = &config.balance;
    let total: u64 = balance.backends.iter().filter(|b| !b.maintenance).map(|b| u64::from(b.weight)).sum();
    for (number, backend) in balance.backends.iter().enumerate() {
        let share = match backend {
            backend if backend.maintenance => "in maintenance".to_owned(),
            _ if total == 0 => "0 % of the clients".to_owned(),
            backend => format!("{:.2} % of the clients", 100.0 * f64::from(backend.weight) / total as f64),
        };
        if balance.vips.is_empty() {
            let out = if backend.maintenance { ": in maintenance" } else { "" };
            lines.push(format!("backend {number} {}{}{out}", place(backend), proxy::limits(backend)));
        } else {
            let limits = if config.proxy.is_empty() { String::new() } else { proxy::limits(backend) };
            let limits = limits.replacen(&format!(", weight {}", backend.weight), "", 1);
            lines.push(format!("backend {number} {}, weight {}{limits}: {share}", place(backend), backend.weight));
        }
    }
    if let Some(emergency) = &balance.emergency {
        lines.push(format!("emergency {}: serves when no other does", place(emergency)));
    }
    if balance.panic_threshold > 0 {
        lines.push(format!("with fewer than {} % of the backends in service, all are used", balance.panic_threshold));
    }
    if !balance.slow_start.is_zero() {
        lines.push(format!("a backend that returns has its whole weight after {} s", balance.slow_start.as_secs()));
    }
}

/// A backend's name and how it is reached.
fn place(backend: &BackendConfig) -> String {
    let name = &backend.name;
    if backend.host.as_ref().is_some_and(|host| backend.address.is_some_and(|address| address.to_string() == *host)) {
        return name.clone();
    }
    match (backend.mac, backend.address) {
        (Some(mac), _) => format!("{name} at {mac}"),
        (None, Some(address)) if address.to_string() == *name => name.clone(),
        (None, Some(address)) => format!("{name} ({address})"),
        (None, None) => name.clone(),
    }
}

fn health(balance: &Balance, lines: &mut Vec<String>) {
    let policy = &balance.health.policy;
    let check = &balance.health.check;
    if *check == Check::Link && balance.vips.is_empty() {
        lines.push("check: none, but whether servers can be connected to when clients want them".to_owned());
        return;
    }
    if *check == Check::Link {
        lines.push("check: link, ARP and neighbour discovery alone".to_owned());
        return;
    }
    lines.push(format!(
        "check: {} every {} ms ({} ms in doubt), {} ms for an answer; up after {} in a row, down after {}",
        check::Shown(check),
        policy.interval.as_millis(),
        policy.doubt.as_millis(),
        policy.timeout.as_millis(),
        policy.rise,
        policy.fall
    ));
    let health = &balance.health;
    let sources: Vec<String> =
        health.source4.iter().map(ToString::to_string).chain(health.source6.iter().map(ToString::to_string)).collect();
    if !sources.is_empty() {
        lines.push(format!("checks come from {}", sources.join(" and ")));
    }
}

fn flows(balance: &Balance, process: &Process, lines: &mut Vec<String>) {
    let timeouts = &balance.timeouts;
    lines.push(format!(
        "flows: {} places a worker; remembered for {} s while opening, {} s established, {} s closing, {} s UDP",
        process.flow_entries,
        timeouts.opening.as_secs(),
        timeouts.established.as_secs(),
        timeouts.closing.as_secs(),
        timeouts.udp.as_secs()
    ));
    lines.push(format!(
        "a table that was replaced still decides about older flows for {} s",
        balance.predecessor.as_secs()
    ));
    if let Some(path) = &process.flow_file {
        lines.push(format!("flows are kept over a restart in {}", path.display()));
    }
    if let Some(peer) = &process.peer {
        lines.push(format!("flows are told to the balancer at {peer}"));
    }
}

/// How the ports are driven, as far as it is not as always.
fn driving(process: &Process, lines: &mut Vec<String>) {
    let said = [
        (process.driver != Driver::Auto).then(|| format!("by {} alone", process.driver)),
        process.mac.map(|mac| format!("our MAC is {mac}")),
        process.dedicated.then(|| "the host's stack is left without it".to_owned()),
        process.no_ifconfig.then(|| "flags and offloads are left as they are".to_owned()),
        (process.xdp_mode != XdpMode::Auto).then(|| format!("xdp {}", process.xdp_mode)),
        process.xdp_pin.as_ref().map(|path| format!("xdp's program and tables stay in {}", path.display())),
        (!process.cpus.0.is_empty()).then(|| format!("workers on processors {}", process.cpus)),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    if !said.is_empty() {
        lines.push(format!("interface: {}", said.join("; ")));
    }
}

fn running(process: &Process, lines: &mut Vec<String>) {
    for address in &process.control {
        let exit = if process.allow_exit { ", also to end" } else { "" };
        lines.push(format!("commands are taken at {address}{exit}"));
    }
    let log = match (&process.log_file, process.daemon) {
        (Some(path), _) => path.display().to_string(),
        (None, true) => "syslog".to_owned(),
        (None, false) => "standard error".to_owned(),
    };
    let ground = if process.daemon { "in the background" } else { "in the foreground" };
    let user = process.user.as_ref().map_or(String::new(), |user| format!(" as {user}"));
    lines.push(format!("runs {ground}{user}; the log goes to {log}"));
}

fn lists(config: &Config, remarks: &mut Vec<String>) {
    let balance = &config.balance;
    let vips = balance.vips.iter().filter_map(|vip| vip.client_acl);
    let listeners = config.proxy.listeners.iter().filter_map(|listener| listener.client_acl);
    let servers = balance.backends.iter().filter_map(|backend| backend.acl);
    let clients: Vec<u8> = balance.client_acl.into_iter().chain(vips).chain(listeners).chain(servers).collect();
    let tarpit = balance.tarpit.map(|tarpit| tarpit.acl);
    for (number, acl) in &balance.acls {
        let used = clients.contains(number) || balance.control_acl == Some(*number) || tarpit == Some(*number);
        if !used {
            remarks.push(format!(
                "acl {number} is not used: client_acl, control_acl, tarpit_acl and a server's acl say what for"
            ));
        } else if acl.rules().iter().all(|rule| rule.action == Action::Deny) {
            remarks.push(format!("acl {number} permits nobody: what no rule matches is denied"));
        }
    }
}

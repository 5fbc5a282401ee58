//! Does the whole fit together? Each setting has been checked by itself before; here it is one against the other.

mod lists;
mod proxy;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::origin::Problem;
use super::{
    BackendConfig, Balance, Config, ControlAddress, Driven, Driver, Process, VipConfig, XdpMode, check, limits,
};
use crate::failure::Failure;
use crate::lb::Protocols;
use crate::port::PortName;
use crate::probe::Check;
use crate::wire::ether::Mac;

impl Config {
    /// Checks all of it, as it has to be checked after every change.
    ///
    /// # Errors
    /// What contradicts what, and what to do.
    pub fn validate(&self) -> Result<(), Failure> {
        self.complete().and_then(|()| self.consistent()).map_err(Failure::from)
    }

    /// Is there something to balance?
    pub(crate) fn complete(&self) -> Result<(), Problem> {
        let Balance { vips, backends, .. } = &self.balance;
        let listener = self.proxy.listeners.first();
        match vips.first() {
            None if listener.is_none() => Err(Problem::new(
                "vips",
                "nothing to balance: name the virtual address, then the backends (pen-dsr -i IF VIP[:port] BACKEND...), or, for a proxy, the listener, then the servers (pen-dsr [HOST:]PORT SERVER...), or a file with a [[vip]] or a [[listen]] (-c)",
            )),
            Some(vip) if backends.is_empty() => Err(Problem::new(
                "backends",
                format!(
                    "no backends: after the virtual address {vip} name at least one (pen-dsr -i IF {vip} BACKEND...), or add a [[backend]] to the file (-c)"
                ),
            )),
            None if backends.is_empty() => Err(Problem::new(
                "backends",
                "no backends: after the listener name at least one server (pen-dsr [HOST:]PORT SERVER...), or add a [[backend]] to the file (-c)",
            )),
            _ => Ok(()),
        }
    }

    /// Does nothing contradict anything else?
    pub(crate) fn consistent(&self) -> Result<(), Problem> {
        let balance = &self.balance;
        vips(balance)?;
        backends(balance, self.process.vip_mac)?;
        emergency(balance)?;
        health(balance)?;
        lists::check(self)?;
        process(self)?;
        proxy::check(self)
    }
}

fn vips(balance: &Balance) -> Result<(), Problem> {
    let vips = &balance.vips;
    if vips.len() > limits::MOST {
        let what =
            format!("{} virtual addresses are more than {}: divide them among balancers", vips.len(), limits::MOST);
        return Err(Problem::new("vips", what));
    }
    let mut seen: HashMap<(IpAddr, u16), Protocols> = HashMap::new();
    for vip in vips {
        let Some(&other) = seen.get(&(vip.address, vip.port)) else {
            seen.insert((vip.address, vip.port), vip.protocols);
            continue;
        };
        if vip.protocols == Protocols::All || other == Protocols::All || other == vip.protocols {
            let what = format!(
                "the virtual address {vip} is given twice, for {other} and for {}: leave one out, or give them different ports or protocols",
                vip.protocols
            );
            return Err(Problem::new(vip.setting(), what));
        }
        seen.insert((vip.address, vip.port), Protocols::All);
    }
    Ok(())
}

fn backends(balance: &Balance, vip_mac: Option<Mac>) -> Result<(), Problem> {
    let backends = &balance.backends;
    if backends.len() > limits::MOST {
        let what = format!("{} backends are more than {}: divide them among balancers", backends.len(), limits::MOST);
        return Err(Problem::new("backends", what));
    }
    let mut names: HashSet<&str> = HashSet::new();
    // Frames go to a host, connections to a port of it.
    let of_segment = !balance.vips.is_empty();
    let mut addresses: HashMap<(IpAddr, u16), &str> = HashMap::new();
    let mut macs: HashMap<Mac, &str> = HashMap::new();
    for backend in backends {
        let name = backend.name.as_str();
        let setting = format!("backend {name}");
        if !names.insert(name) {
            return Err(Problem::new(setting, format!("backend {name:?} is given twice: leave one out")));
        }
        let same = |what: String, known: &str| {
            format!("backend {name:?} is the same host as backend {known:?}, which has {what}, too: leave one out")
        };
        let port = if of_segment { 0 } else { backend.port };
        if let Some(address) = backend.address
            && let Some(known) = addresses.insert((address, port), name)
        {
            let what = if port == 0 { address.to_string() } else { format!("{address} port {port}") };
            return Err(Problem::new(format!("{setting} address"), same(what, known)));
        }
        if let Some(mac) = backend.mac {
            if vip_mac == Some(mac) {
                let what = format!(
                    "backend {name:?} has the MAC {mac} that the virtual addresses are announced with: give them another (vip-mac)"
                );
                return Err(Problem::new(format!("{setting} mac"), what));
            }
            if let Some(known) = macs.insert(mac, name) {
                return Err(Problem::new(format!("{setting} mac"), same(mac.to_string(), known)));
            }
        }
        beside_vips(balance, backend, &setting)?;
    }
    let members = backends.iter().filter(|backend| backend.weight > 0).count();
    let slots = balance.slots_wanted();
    if members > slots as usize {
        let what = format!(
            "{members} backends do not find room in a table of {slots} slots: make it larger (--table-size), some hundred times their number"
        );
        return Err(Problem::new("table-size", what));
    }
    Ok(())
}

/// Does a backend go with the VIPs?
fn beside_vips(balance: &Balance, backend: &BackendConfig, setting: &str) -> Result<(), Problem> {
    let name = &backend.name;
    if let Some(vip) = balance.vips.first() {
        let elsewhere = match (&backend.path, backend.address) {
            (Some(_), _) => Some("is a Unix socket".to_owned()),
            (None, Some(address)) if !super::words::is_host(address) => {
                Some(format!("has the address {address}, which is not the address of one host"))
            }
            _ => None,
        };
        if let Some(elsewhere) = elsewhere {
            let what = format!(
                "backend {name:?} {elsewhere} on the segment of {vip}: Direct Server Return needs one; a proxy does not (leave -i and the virtual addresses out)"
            );
            return Err(Problem::new(setting, what));
        }
    }
    for vip in &balance.vips {
        if backend.address == Some(vip.address) {
            let what = format!(
                "backend {name:?} has the virtual address {} itself: name the backend's own address, the VIP goes on its loopback",
                vip.address
            );
            return Err(Problem::new(setting, what));
        }
        if backend.port != 0 && vip.port != backend.port {
            let what = format!(
                "backend {name:?}: Direct Server Return cannot change ports, and {vip} is not port {}; leave the port out",
                backend.port
            );
            return Err(Problem::new(format!("{setting} port"), what));
        }
    }
    Ok(())
}

fn emergency(balance: &Balance) -> Result<(), Problem> {
    let Some(emergency) = &balance.emergency else { return Ok(()) };
    let same = |backend: &&BackendConfig| {
        let port = !balance.vips.is_empty() || backend.port == emergency.port;
        backend.name == emergency.name
            || (emergency.address.is_some() && backend.address == emergency.address && port)
            || (emergency.mac.is_some() && backend.mac == emergency.mac)
    };
    if let Some(backend) = balance.backends.iter().find(same) {
        let what = format!(
            "the emergency backend {:?} is the backend {:?}, which is out of service when it is needed: name another host",
            emergency.name, backend.name
        );
        return Err(Problem::new("emergency", what));
    }
    beside_vips(balance, emergency, "emergency")
}

fn health(balance: &Balance) -> Result<(), Problem> {
    let health = &balance.health;
    let policy = &health.policy;
    if let Some(what) = health.check.problem(1) {
        return Err(Problem::new(format!("health {}", check::culprit(&health.check)), what));
    }
    if policy.timeout > policy.interval {
        let what = format!(
            "a check may take {} ms, which is longer than the {} ms between two: shorten the timeout (--check-timeout), or lengthen the interval (--check-interval)",
            policy.timeout.as_millis(),
            policy.interval.as_millis()
        );
        return Err(Problem::new("health timeout", what));
    }
    if policy.doubt > policy.interval {
        let what = format!(
            "while in doubt backends would be asked every {} ms, which is less often than the {} ms without: shorten the doubt-interval",
            policy.doubt.as_millis(),
            policy.interval.as_millis()
        );
        return Err(Problem::new("health doubt-interval", what));
    }
    let kind = match &health.check {
        Check::Tcp { .. } => "tcp",
        _ => "udp",
    };
    let lost = |vip: &&VipConfig| health.check.problem(vip.port).is_some();
    if let Some(vip) = balance.vips.iter().find(lost) {
        let what = format!(
            "the {kind} check has no port, and {vip} is every port: say which to ask (--check {kind}:PORT, or port = in [health])"
        );
        return Err(Problem::new("health check", what));
    }
    for source in sources(balance) {
        let problem = |whose: String| {
            let what =
                format!("checks cannot come from {source}, {whose}: name an address of its own, which nobody has");
            Err(Problem::new("health source", what))
        };
        if balance.vips.iter().any(|vip| vip.address == source) {
            return problem("a virtual address".to_owned());
        }
        if balance.vips.is_empty() {
            // Ordinary sockets, which may be next to the servers.
            match super::words::is_server(source) {
                true => continue,
                false => return problem("which is not the address of one host".to_owned()),
            }
        }
        let servers = balance.backends.iter().chain(&balance.emergency);
        if let Some(backend) = servers.into_iter().find(|backend| backend.address == Some(source)) {
            return problem(format!("which is backend {:?}", backend.name));
        }
        if !super::words::is_host(source) {
            return problem("which is not the address of one host".to_owned());
        }
    }
    Ok(())
}

/// The addresses that checks come from, as far as they are said.
fn sources(balance: &Balance) -> impl Iterator<Item = IpAddr> {
    let health = &balance.health;
    health.source4.map(IpAddr::V4).into_iter().chain(health.source6.map(IpAddr::V6))
}

/// Do the ports and what is said of them go together?
fn ports(process: &Process) -> Result<(), Problem> {
    let Some(front) = &process.interface else {
        return process.out.as_ref().map_or(Ok(()), |back| {
            let what = "is the backends' port where the clients' is the interface (-i): name that, too, or leave this out; a command is given with -O";
            Err(Problem::new("out", format!("{back} {what}")))
        });
    };
    if let Driver::Only(driven) = process.driver
        && driven != Driven::Netmap
        && let Some(port) = process.each_port().find(|port| matches!(port, PortName::Netmap(_)))
    {
        let what =
            format!("{driven} cannot drive {port}, a port of netmap: leave the driver out, or name an interface");
        return Err(Problem::new("driver", what));
    }
    if let Some(back) = &process.out {
        if process.each_port().any(|port| !process.candidates(port).contains(&Driven::Netmap)) {
            let what = format!("{front} and {back}: two arms need netmap on both: write netmap:{front}, netmap:{back}")
                .replace("netmap:netmap:", "netmap:");
            return Err(Problem::new("out", what));
        }
        if front.as_netmap().port == back.as_netmap().port {
            return Err(Problem::new("out", format!("{back} is the clients' port, too: leave it out for one arm")));
        }
    }
    xdp(process, front)?;
    if let Some(mac) = process.mac
        && front.interface().is_some()
    {
        let what = format!(
            "{front} is an interface and has its own MAC: leave {mac} out (vip-mac is what VIPs are announced with)"
        );
        return Err(Problem::new("mac", what));
    }
    Ok(())
}

/// What is said of xdp wants a port that may be driven by it, and what its flows' numbers mean has to be kept, too.
fn xdp(process: &Process, front: &PortName) -> Result<(), Problem> {
    let pin = process.xdp_pin.as_ref().map(|_| "xdp-pin");
    let said = pin.or((process.xdp_mode != XdpMode::Auto).then_some("xdp-mode"));
    if let Some(setting) = said.filter(|_| !process.candidates(front).contains(&Driven::Xdp)) {
        let what = format!("{front} is not driven by xdp: leave {setting} out, or say driver xdp (Linux)");
        return Err(Problem::new(setting, what));
    }
    if let Some(path) = process.xdp_pin.as_ref().filter(|_| process.flow_file.is_none()) {
        let what = format!(
            "what stays in {} has numbers for names: say with flow-file where these are kept, too",
            path.display()
        );
        return Err(Problem::new("xdp-pin", what));
    }
    Ok(())
}

fn process(config: &Config) -> Result<(), Problem> {
    let process = &config.process;
    ports(process)?;
    let mut files: HashMap<&std::path::Path, &str> = HashMap::new();
    let control = process.control.iter().filter_map(|address| match address {
        ControlAddress::Unix(path) => Some(("control", path)),
        ControlAddress::Tcp(_) => None,
    });
    let own = [("pidfile", &process.pidfile), ("log-file", &process.log_file), ("flow-file", &process.flow_file)];
    let own = own.into_iter().filter_map(|(setting, path)| path.as_ref().map(|path| (setting, path)));
    for (setting, path) in own.chain(control).chain(proxy::files(&config.proxy)) {
        if let Some(other) = files.insert(path.as_path(), setting) {
            let what = format!("{} is both {other} and {setting}: give each its own path", path.display());
            return Err(Problem::new(setting, what));
        }
    }
    Ok(())
}

/// Where a VIP is written, in words.
pub(crate) fn served(vip: &VipConfig) -> String {
    format!("{vip} ({})", vip.protocols)
}

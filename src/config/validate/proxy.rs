//! The proxy's listeners: each makes sense by itself, beside the others, and with the servers that it has.

mod tls;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use super::super::origin::Problem;
use super::super::proxy::{Address, ListenConfig, LogTarget, Mode, ProxyConfig, TransportProtocol};
use super::super::{BackendConfig, Config, ControlAddress, limits};

/// The files that the proxy makes, with the settings that say so.
pub(super) fn files(proxy: &ProxyConfig) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    let log = proxy.access_log.iter().filter_map(|log| match &log.target {
        LogTarget::File(path) => Some(("proxy access-log", path)),
        LogTarget::Syslog | LogTarget::Udp(_) => None,
    });
    log.chain(proxy.handover.iter().map(|path| ("proxy handover", path)))
}

pub(super) fn check(config: &Config) -> Result<(), Problem> {
    let listeners = &config.proxy.listeners;
    if listeners.len() > limits::LISTENERS {
        let what = format!("{} listeners are more than {}: divide them", listeners.len(), limits::LISTENERS);
        return Err(Problem::new("listen", what));
    }
    let mut seen = HashSet::new();
    let files: HashMap<&PathBuf, &str> = files(&config.proxy).map(|(setting, path)| (path, setting)).collect();
    for listener in listeners {
        let setting = listener.setting();
        if !seen.insert((&listener.address, listener.transport)) {
            let (address, transport) = (&listener.address, listener.transport);
            let what = format!(
                "the listener {address} ({transport}) is given twice: leave one out, or give them different ports"
            );
            return Err(Problem::new(setting, what));
        }
        if let Address::Unix(path) = &listener.address
            && let Some(other) = files.get(path)
        {
            let what = format!("{} is both a listener and {other}: give each its own path", path.display());
            return Err(Problem::new(setting, what));
        }
        place(config, listener)?;
        by_protocol(listener)?;
        sources(config, listener)?;
        tls::check(listener)?;
        servers(config, listener)?;
    }
    if listeners.is_empty() {
        return Ok(());
    }
    for backend in &config.balance.backends {
        limited(backend, &format!("backend {}", backend.name))?;
    }
    if let Some(abuse) = &config.proxy.abuse {
        limited(abuse, "proxy abuse")?;
        let portless = listeners.iter().find(|listener| listener.backend_port == 0 && listener.address.port() == 0);
        if abuse.port == 0 && abuse.path.is_none() && portless.is_some() {
            let what = format!("the abuse server {:?} has no port: write {}:PORT", abuse.name, abuse.name);
            return Err(Problem::new("proxy abuse", what));
        }
    }
    Ok(())
}

/// A soft limit is reached before the hard one.
fn limited(backend: &BackendConfig, setting: &str) -> Result<(), Problem> {
    let BackendConfig { name, soft, hard, .. } = backend;
    if *hard != 0 && soft > hard {
        let what = format!(
            "backend {name:?}: the soft limit {soft} is above the hard one, {hard}, and would never be reached: lower it, or raise that"
        );
        return Err(Problem::new(format!("{setting} soft"), what));
    }
    Ok(())
}

/// Can somebody listen there?
fn place(config: &Config, listener: &ListenConfig) -> Result<(), Problem> {
    let Address::Ip(address) = &listener.address else { return Ok(()) };
    if address.port() == 0 {
        return Err(Problem::new(listener.setting(), format!("{address} has no port: write one from 1 to 65535")));
    }
    if let Some(vip) = config.balance.vips.iter().find(|vip| vip.address == address.ip()) {
        let what = format!(
            "nobody can listen at {address}: {} is a virtual address, which this machine does not have; listen at an address of its own",
            vip.address
        );
        return Err(Problem::new(listener.setting(), what));
    }
    Ok(())
}

/// What one listener says goes with its protocol.
fn by_protocol(listener: &ListenConfig) -> Result<(), Problem> {
    let setting = listener.setting();
    let unix = matches!(listener.address, Address::Unix(_));
    let udp = listener.transport == TransportProtocol::Udp;
    let http = listener.mode != Mode::Stream;
    let address = &listener.address;
    let contradictions = [
        (unix && udp, "protocol", "a Unix socket is a stream, no UDP: make it tcp".to_owned()),
        (
            unix && listener.transparent,
            "transparent",
            "who connects over a Unix socket has no address that servers could see: leave transparent out".to_owned(),
        ),
        (
            unix && !listener.accept_proxy.is_empty(),
            "accept-proxy",
            "who connects over a Unix socket has no address that could be listed: leave accept-proxy out".to_owned(),
        ),
        (
            udp && http,
            "mode",
            "HTTP is read from TCP, not from UDP: leave mode http (-H) out, or make it tcp".to_owned(),
        ),
        (udp && listener.tls.is_some(), "tls", "TLS is for TCP, not for UDP: leave it out, or make it tcp".to_owned()),
        (
            udp && listener.backend_tls.is_some(),
            "backend-tls",
            "TLS is for TCP, not for UDP: leave it out, or make it tcp".to_owned(),
        ),
        (
            udp && !listener.accept_proxy.is_empty(),
            "accept-proxy",
            "PROXY headers are at the beginning of TCP connections, not in UDP: leave accept-proxy out".to_owned(),
        ),
        (
            udp && listener.send_proxy.is_some(),
            "send-proxy",
            "PROXY headers are at the beginning of TCP connections, not in UDP: leave send-proxy out".to_owned(),
        ),
        (
            listener.transparent && !listener.source.is_empty(),
            "source",
            "connections come either from the client's address (transparent) or from one of our own: leave one out"
                .to_owned(),
        ),
    ];
    match contradictions.into_iter().find(|(wrong, ..)| *wrong) {
        Some((_, key, what)) => Err(Problem::new(format!("{setting} {key}"), format!("listener {address}: {what}"))),
        None => Ok(()),
    }
}

/// The servers of a listener.
fn served<'a>(config: &'a Config, listener: &'a ListenConfig) -> impl Iterator<Item = &'a BackendConfig> {
    let all = listener.backends.is_empty();
    config.balance.backends.iter().filter(move |backend| all || listener.backends.contains(&backend.name))
}

/// The addresses that connections come from: one of a family, and for each family of the servers.
fn sources(config: &Config, listener: &ListenConfig) -> Result<(), Problem> {
    let wrong = |what: String| Err(Problem::new(format!("{} source", listener.setting()), what));
    let address = &listener.address;
    for (at, source) in listener.source.iter().enumerate() {
        if let Some(before) = listener.source.iter().take(at).find(|before| before.is_ipv4() == source.is_ipv4()) {
            return wrong(format!(
                "listener {address}: {before} is the source of {source}'s family already: one of each"
            ));
        }
        if source.is_unspecified() || source.is_multicast() {
            return wrong(format!(
                "listener {address}: connections cannot come from {source}: name an address of ours"
            ));
        }
        if config.balance.vips.iter().any(|vip| vip.address == *source) {
            return wrong(format!(
                "listener {address}: connections cannot come from {source}, a virtual address: name an address of ours"
            ));
        }
    }
    let family = |a: IpAddr| if a.is_ipv4() { "IPv4" } else { "IPv6" };
    let strange = |backend: &&BackendConfig| {
        let suits = |to: IpAddr| listener.source.iter().any(|source| source.is_ipv4() == to.is_ipv4());
        !listener.source.is_empty() && backend.address.is_some_and(|to| !suits(to))
    };
    match served(config, listener).find(strange) {
        Some(BackendConfig { name, address: Some(to), .. }) => wrong(format!(
            "listener {address}: there is no source for backend {name:?}, which has the {} address {to}: name one of that family, too",
            family(*to)
        )),
        _ => Ok(()),
    }
}

/// Are there servers, and can they be connected to?
fn servers(config: &Config, listener: &ListenConfig) -> Result<(), Problem> {
    let setting = listener.setting();
    let address = &listener.address;
    for (at, name) in listener.backends.iter().enumerate() {
        let wrong = |what: String| Err(Problem::new(format!("{setting} backends"), what));
        if !config.balance.backends.iter().any(|backend| backend.name == *name) {
            let known = config.balance.backends.iter().map(|backend| backend.name.as_str());
            let near = super::super::nearest(name, known).map_or(String::new(), |near| format!("; {near:?} is one"));
            return wrong(format!("listener {address}: there is no backend {name:?}{near}"));
        }
        if listener.backends.iter().take(at).any(|before| before == name) {
            return wrong(format!("listener {address}: backend {name:?} is named twice: leave one out"));
        }
    }
    for backend in served(config, listener) {
        let name = &backend.name;
        if backend.path.is_some() {
            let only_stream = [
                (listener.transport == TransportProtocol::Udp, "protocol", "is a stream, no UDP"),
                (listener.transparent, "transparent", "cannot see the clients' addresses: leave transparent out"),
            ];
            if let Some((_, key, why)) = only_stream.into_iter().find(|(wrong, ..)| *wrong) {
                let what = format!(
                    "listener {address}: the Unix socket {name:?} {why}, or say with backends which servers it has"
                );
                return Err(Problem::new(format!("{setting} {key}"), what));
            }
        } else if port_at(listener, backend).is_none() {
            let what = format!(
                "listener {address}: there is no port to connect to backend {name:?}: write {name}:PORT, or say backend-port"
            );
            return Err(Problem::new(format!("{setting} backend-port"), what));
        }
    }
    let (emergency, abuse) = (config.balance.emergency.iter(), config.proxy.abuse.iter());
    let backends = served(config, listener).map(|backend| ("backend", backend));
    let others = emergency.map(|one| ("the emergency server", one)).chain(abuse.map(|one| ("the abuse server", one)));
    for (role, server) in backends.chain(others) {
        let name = &server.name;
        let why = if is_itself(listener, server) {
            "would have itself as its server"
        } else if takes_commands(config, listener, server) {
            "would let its clients give commands to this program"
        } else {
            continue;
        };
        let remedy = if server.path.is_some() { "name another socket" } else { "give that another port" };
        return Err(Problem::new(setting, format!("listener {address} {why}, {role} {name:?}: {remedy}")));
    }
    Ok(())
}

/// Is the server where this program takes commands, or hands its sockets over?
fn takes_commands(config: &Config, listener: &ListenConfig, server: &BackendConfig) -> bool {
    let handover = config.proxy.handover.iter().any(|path| server.path.as_ref() == Some(path));
    handover
        || config.process.control.iter().any(|control| match control {
            ControlAddress::Unix(path) => server.path.as_ref() == Some(path),
            ControlAddress::Tcp(at) => {
                let host = server
                    .address
                    .map(|to| to.to_canonical())
                    .is_some_and(|to| to == at.ip() || (at.ip().is_unspecified() && to.is_loopback()));
                host && port_at(listener, server) == Some(at.port())
            }
        })
}

/// The port that a listener connects to at this server.
fn port_at(listener: &ListenConfig, server: &BackendConfig) -> Option<u16> {
    [listener.backend_port, server.port, listener.address.port()].into_iter().find(|&port| port != 0)
}

/// Would what comes to the listener come to it again? One connection, or datagram, would take all there is.
fn is_itself(listener: &ListenConfig, server: &BackendConfig) -> bool {
    match (&listener.address, server.address) {
        (Address::Unix(path), _) => server.path.as_ref().is_some_and(|server| server == path),
        (Address::Ip(own), Some(to)) => {
            port_at(listener, server) == Some(own.port())
                && (own.ip() == to || (own.ip().is_unspecified() && to.is_loopback() && own.is_ipv4() == to.is_ipv4()))
        }
        (Address::Ip(_), None) => false,
    }
}

//! What the proxy would do, in lines for people.

use std::time::Duration;

use super::super::proxy::{
    Address, BackendTls, ListenConfig, Method, Mode, OwnHeader, ProxyConfig, TlsConfig, TransportProtocol,
};
use super::super::rule::network_word;
use super::super::{BackendConfig, Config};

/// A line for each listener.
pub(super) fn listeners(config: &Config, lines: &mut Vec<String>) {
    for listener in &config.proxy.listeners {
        let clients = match listener.client_acl.or(config.balance.client_acl) {
            None => "everybody".to_owned(),
            Some(acl) => format!("whom acl {acl} permits"),
        };
        let said: Vec<String> = [
            mode(&listener.mode),
            listener.tls.as_ref().map(tls),
            listener.backend_tls.as_ref().map(backend_tls),
            (listener.backend_port != 0).then(|| format!("to port {}", listener.backend_port)),
            (!listener.backends.is_empty()).then(|| format!("to {}", listener.backends.join(", "))),
            listener.transparent.then(|| "transparent: servers see the clients' addresses".to_owned()),
            (!listener.source.is_empty()).then(|| format!("from {}", list(&listener.source))),
            (!listener.accept_proxy.is_empty())
                .then(|| format!("PROXY header from {}", list(&networks(&listener.accept_proxy)))),
            listener.send_proxy.map(|version| format!("PROXY header {version} to servers")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let said = if said.is_empty() { String::new() } else { format!("; {}", said.join("; ")) };
        lines.push(format!("listener {} ({}): serves {clients}{said}", place(listener), listener.transport));
    }
}

fn place(listener: &ListenConfig) -> String {
    match &listener.address {
        Address::Ip(address) if address.ip().is_unspecified() => {
            format!("{address}, every IPv{} address", if address.is_ipv4() { 4 } else { 6 })
        }
        address => address.to_string(),
    }
}

fn mode(mode: &Mode) -> Option<String> {
    let Mode::Http(headers) = mode else { return None };
    let names: Vec<&str> = [(headers.x_forwarded, "X-Forwarded-For and -Proto"), (headers.forwarded, "Forwarded")]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect();
    let own = match headers.own {
        OwnHeader::Replace => "clients' own replaced",
        OwnHeader::Append => "appended to clients' own",
        OwnHeader::Drop => "clients' own dropped, none put in",
    };
    Some(if names.is_empty() { "http".to_owned() } else { format!("http with {} ({own})", names.join(", ")) })
}

fn tls(tls: &TlsConfig) -> String {
    let mut text = format!("TLS {}", tls.oldest);
    if tls.oldest != tls.newest {
        text += &format!(" to {}", tls.newest);
    }
    let mut from: Vec<String> = tls.default.iter().map(|files| files.chain.display().to_string()).collect();
    if !tls.names.is_empty() {
        from.push(super::count(tls.names.len(), "name with its own", "names with their own"));
    }
    from.extend(tls.sni_path.iter().map(|path| format!("those in {}", path.display())));
    text += &format!(" with the certificate {}", from.join(", "));
    match &tls.clients {
        Some(clients) if clients.required => text += ", clients need one, too",
        Some(_) => text += ", clients may show one",
        None => {}
    }
    text
}

fn backend_tls(tls: &BackendTls) -> String {
    format!("TLS to servers, {}", if tls.verify { "verified" } else { "not verified" })
}

fn networks(networks: &[crate::lb::acl::Network]) -> Vec<String> {
    networks.iter().map(network_word).collect()
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What counts of a server for the proxy, as far as it is said.
pub(super) fn limits(backend: &BackendConfig) -> String {
    let said = [
        (backend.weight != 1).then(|| format!(", weight {}", backend.weight)),
        (backend.soft != 0).then(|| format!(", {} connections", backend.soft)),
        (backend.hard != 0).then(|| format!(", {} at most", backend.hard)),
        (backend.prio != 0).then(|| format!(", priority {}", backend.prio)),
        backend.acl.map(|acl| format!(", for whom acl {acl} permits")),
    ];
    said.into_iter().flatten().collect()
}

/// How servers are selected.
pub(super) fn selected(config: &Config, lines: &mut Vec<String>) {
    let (proxy, selection) = (&config.proxy, &config.proxy.selection);
    if proxy.is_empty() {
        return;
    }
    let with_port = if selection.hash_port { "address and port" } else { "address" };
    let method = match selection.method {
        Method::RoundRobin => "one after the other".to_owned(),
        Method::Hash => format!("by a hash of the client's {with_port}"),
        Method::Weight => "the least connections for the weight".to_owned(),
        Method::Prio => "the smallest priority number".to_owned(),
        Method::Consistent => format!("by a consistent hash of the client's {with_port}"),
        Method::LeastConnections => "the least connections".to_owned(),
        Method::PowerOfTwo => "the better of two that are drawn".to_owned(),
    };
    let known = match (selection.track, selection.tracking) {
        (false, _) => "clients are not remembered".to_owned(),
        (true, Duration::ZERO) => format!("{} clients are remembered, as long as there is room", selection.clients),
        (true, time) => format!("{} clients are remembered, for {} s", selection.clients, time.as_secs()),
    };
    let stubborn = if selection.stubborn { "; whose server cannot serve is refused" } else { "" };
    lines.push(format!("selection {}: {method}; {known}{stubborn}", selection.method));
    if let Some(abuse) = &proxy.abuse {
        lines.push(format!("abuse {}: serves whom the access lists keep out", super::place(abuse)));
    }
}

/// How much at a time, and for how long.
pub(super) fn limited(proxy: &ProxyConfig, lines: &mut Vec<String>) {
    let seconds = |time: Duration| match time {
        Duration::ZERO => "never".to_owned(),
        time => format!("after {} s", time.as_secs()),
    };
    let (limits, timeouts) = (&proxy.limits, &proxy.timeouts);
    lines.push(format!(
        "connections: {} at most; idle ones end {}; {} s to connect to a server, which is left out for {} s after a failure",
        limits.connections,
        seconds(timeouts.idle),
        timeouts.connect.as_secs(),
        timeouts.blacklist.as_secs()
    ));
    if proxy.listeners.iter().any(|listener| listener.transport == TransportProtocol::Udp) {
        lines.push(format!("UDP: {} clients at most, each is forgotten {}", limits.udp_clients, seconds(timeouts.udp)));
    }
    if !proxy.trusted.is_empty() {
        lines.push(format!("forwarded headers are believed from {}", list(&networks(&proxy.trusted))));
    }
    let threads = match proxy.threads {
        0 => "one event loop for each processor".to_owned(),
        n => super::count(n, "event loop", "event loops"),
    };
    lines.push(format!("{threads}; {} s to end after TERM", timeouts.drain.as_secs()));
    if let Some(log) = &proxy.access_log {
        lines.push(format!("the access log ({}) goes to {}", log.layout, log.target));
    }
    if let Some(path) = &proxy.handover {
        lines.push(format!("a successor takes the listeners over at {}", path.display()));
    }
    if let Some(path) = &proxy.chroot {
        lines.push(format!("the root is {} once everything is set up", path.display()));
    }
}

/// What is allowed of the proxy and may not be meant.
pub(super) fn remarks(config: &Config, remarks: &mut Vec<String>) {
    let (balance, proxy) = (&config.balance, &config.proxy);
    if proxy.is_empty() {
        if *proxy != ProxyConfig::default() && balance.vips.is_empty() {
            remarks.push("there is no listener: what is said of the proxy has no effect".to_owned());
        }
        return;
    }
    if config.process.interface.is_some() && balance.vips.is_empty() {
        remarks.push(format!(
            "{} is not used: there is no virtual address, only the proxy's listeners",
            config.process.ports()
        ));
    }
    let backends = &balance.backends;
    if proxy.selection.method == Method::Prio
        && backends.len() > 1
        && backends.windows(2).all(|pair| matches!(pair, [a, b] if a.prio == b.prio))
    {
        remarks.push("servers are selected by priority, and all have the same".to_owned());
    }
    let http = proxy.listeners.iter().any(|listener| listener.mode != Mode::Stream);
    if !proxy.trusted.is_empty() && !http {
        remarks.push("no listener reads HTTP: whose headers are trusted has no effect".to_owned());
    }
    for listener in proxy.listeners.iter().filter(|listener| listener.transparent) {
        let Address::Ip(address) = &listener.address else { continue };
        let mut servers =
            backends.iter().filter(|b| listener.backends.is_empty() || listener.backends.contains(&b.name));
        let suits = |b: &BackendConfig| b.address.is_none_or(|to| to.is_ipv4() == address.is_ipv4());
        // Of the two sockets of every address the one for the other family may well be of no use.
        if !address.ip().is_unspecified() && !servers.any(suits) {
            remarks.push(format!(
                "listener {address} is transparent, and no server is of its clients' family: nobody is served there"
            ));
        }
    }
}

//! What commands do and say about the proxy.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::command::{Act, Query};
use super::super::wire::{Answer, Reply};
use super::joined;
use crate::balancer::Balancer;
use crate::config::{Config, Which};
use crate::failure::Failure;
use crate::proxy::Proxy;
use crate::proxy::datagram::Reason;
use crate::proxy::server::{Server, Wanted};
use crate::stats;

/// Clients that `recent` lists at most.
const MOST_RECENT: usize = 10_000;

/// Does what concerns the proxy alone.
pub(super) fn perform(balancer: &mut Balancer, act: &Act) -> Reply {
    let config = balancer.config();
    match act {
        Act::Drain(which) => want(balancer, &name(config, which)?, Wanted::Draining),
        Act::Undrain(which) => want(balancer, &name(config, which)?, Wanted::Active),
        Act::Blacklist { backend, time } => {
            let name = name(config, backend)?;
            let server = server(balancer, &name)?;
            server.blacklist(*time, Instant::now());
            described(balancer, server)
        }
        Act::Takeover | Act::Standby => {
            Err(Failure::usage("there are no virtual addresses here: a proxy has no standby"))
        }
        // Those are not for here.
        Act::Reload | Act::Exit | Act::Statistics => Ok(Answer::plain("")),
    }
}

/// Answers what concerns the proxy alone.
pub(super) fn answer(balancer: &Balancer, query: &Query) -> Reply {
    let Some(proxy) = balancer.proxy() else { return Err(Failure::usage("nothing runs here")) };
    let config = balancer.config();
    Ok(match query {
        Query::Servers => servers(config, proxy),
        Query::Server(which) => described(balancer, server(balancer, &name(config, which)?)?)?,
        Query::Status => status(config, proxy),
        Query::Mode => {
            let selection = &config.proxy.selection;
            let track = if selection.track { "tracking" } else { "no tracking" };
            let stubborn = if selection.stubborn { "stubborn" } else { "no stubborn" };
            let text = format!("proxy {} {track} {stubborn} check {}\n", selection.method, config.balance.health.check);
            let json = json!({
                "method": selection.method.to_string(),
                "track": selection.track,
                "stubborn": selection.stubborn,
                "check": config.balance.health.check.to_string(),
            });
            Answer::new(text, json)
        }
        Query::Recent(within) => recent(proxy, *within),
        _ => return Err(Failure::usage("that is about Direct Server Return, and there are no virtual addresses here")),
    })
}

/// `answer` about Direct Server Return, and behind it the proxy's.
pub(super) fn beside(balancer: &Balancer, mut answer: Answer) -> Answer {
    if let Some(proxy) = balancer.proxy() {
        answer.text.push_str(&joined(&stats::proxied(proxy)));
        if let Value::Object(object) = &mut answer.json {
            object.insert("proxy".to_owned(), json(balancer.config(), proxy));
        }
    }
    answer
}

fn name(config: &Config, which: &Which) -> Result<String, Failure> {
    Ok(config.balance.backends[which.find(&config.balance)?].name.clone())
}

fn server<'a>(balancer: &'a Balancer, name: &str) -> Result<&'a Server, Failure> {
    let servers = balancer.proxy().map(|proxy| &proxy.plan().servers);
    let found = servers.into_iter().flatten().find(|server| server.name == name);
    found.map(|server| &**server).ok_or_else(|| Failure::usage(format!("server {name} is not served yet")))
}

fn want(balancer: &Balancer, name: &str, wanted: Wanted) -> Reply {
    let config = balancer.config();
    if config.balance.backends.iter().any(|backend| backend.name == name && backend.maintenance) {
        let message = format!("{name} is in maintenance: take it out with \"maintenance {name} off\"");
        return Err(Failure::usage(message));
    }
    let server = server(balancer, name)?;
    server.set_wanted(wanted);
    server.blacklist(Duration::ZERO, Instant::now());
    if let Some(proxy) = balancer.proxy() {
        proxy.plan().rebuild();
    }
    described(balancer, server)
}

/// What a server does, in a word.
fn state(server: &Server) -> &'static str {
    match server.wanted() {
        Wanted::Maintenance => "maintenance",
        Wanted::Draining if server.connections() == 0 => "drained",
        Wanted::Draining => "draining",
        Wanted::Active if !server.is_healthy() => "down",
        Wanted::Active if server.blacklisted_for(Instant::now()).is_some() => "blacklisted",
        Wanted::Active => "up",
    }
}

fn line(config: &Config, proxy: &Proxy, server: &Server) -> String {
    let balance = &config.balance;
    let place = balance.backends.iter().position(|backend| backend.name == server.name);
    let backend = place.map(|place| &balance.backends[place]);
    let backend = backend.or(balance.emergency.as_ref().filter(|emergency| emergency.name == server.name));
    let backend = backend.or(config.proxy.abuse.as_ref().filter(|abuse| abuse.name == server.name));
    let place = place.map_or("-".to_owned(), |place| place.to_string());
    let settings = backend.map_or(String::new(), |backend| {
        let address = match (&backend.path, backend.address) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "-".to_owned(),
        };
        format!(
            " addr {address} port {} conn {} max {} hard {} weight {} prio {}",
            backend.port,
            server.connections(),
            backend.soft,
            backend.hard,
            backend.weight,
            backend.prio
        )
    });
    let reason = proxy.reason(server.id).map_or(String::new(), |reason| format!(" ({reason})"));
    format!(
        "{place} {}{settings} sx {} rx {} state {}{reason}",
        server.name,
        server.sent.load(Relaxed),
        server.received.load(Relaxed),
        state(server)
    )
}

fn server_json(proxy: &Proxy, server: &Server) -> Value {
    let reason = proxy.reason(server.id);
    json!({
        "reason": reason.as_ref().map(ToString::to_string),
        "reason_name": reason.as_ref().map(crate::health::Reason::name),
        "name": server.name,
        "state": state(server),
        "connections": server.connections(),
        "made": server.made.load(Relaxed),
        "failed": server.failed.load(Relaxed),
        "requests": server.requests.load(Relaxed),
        "sent": server.sent.load(Relaxed),
        "received": server.received.load(Relaxed),
        "blacklisted": server.blacklisted_for(Instant::now()).map(|left| left.as_secs_f64()),
    })
}

fn described(balancer: &Balancer, server: &Server) -> Reply {
    let Some(proxy) = balancer.proxy() else { return Err(Failure::usage("nothing runs here")) };
    Ok(Answer::new(line(balancer.config(), proxy, server) + "\n", server_json(proxy, server)))
}

fn servers(config: &Config, proxy: &Proxy) -> Answer {
    let all = &proxy.plan().servers;
    let lines: Vec<String> = all.iter().map(|server| line(config, proxy, server)).collect();
    Answer::new(joined(&lines), all.iter().map(|server| server_json(proxy, server)).collect())
}

fn json(config: &Config, proxy: &Proxy) -> Value {
    let (totals, datagrams) = (&proxy.shared().totals, &proxy.shared().datagrams);
    json!({
        "listeners": config.proxy.listeners.iter().map(|listener| listener.setting()).collect::<Vec<_>>(),
        "connections": proxy.shared().connections(),
        "accepted": totals.accepted.load(Relaxed),
        "refused": totals.refused.load(Relaxed),
        "requests": totals.requests.load(Relaxed),
        "requests_waiting": proxy.shared().waits.now.load(Relaxed),
        "requests_waited": proxy.shared().waits.ever.load(Relaxed),
        "bad_requests": totals.bad_requests.load(Relaxed),
        "bad_handshakes": totals.bad_handshakes.load(Relaxed),
        "bad_headers": totals.bad_headers.load(Relaxed),
        "pauses": totals.pauses.load(Relaxed),
        "datagrams": json!({
            "clients": datagrams.clients(),
            "clients_begun": datagrams.begun.load(Relaxed),
            "clients_evicted": datagrams.evicted.load(Relaxed),
            "to_servers": datagrams.to_servers.load(Relaxed),
            "bytes_to_servers": datagrams.bytes_to_servers.load(Relaxed),
            "to_clients": datagrams.to_clients.load(Relaxed),
            "bytes_to_clients": datagrams.bytes_to_clients.load(Relaxed),
            "dropped": Reason::ALL.iter().map(|&reason| (reason.to_string(), datagrams.dropped(reason).into()))
                .collect::<serde_json::Map<String, Value>>(),
        }),
        "servers": proxy.plan().servers.iter().map(|server| server_json(proxy, server)).collect::<Value>(),
    })
}

fn status(config: &Config, proxy: &Proxy) -> Answer {
    let head = format!("pen-dsr {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let listeners = config.proxy.listeners.iter().map(|listener| listener.setting());
    let lines: Vec<String> = std::iter::once(head).chain(listeners).chain(stats::proxied(proxy)).collect();
    let mut json = json(config, proxy);
    json["version"] = env!("CARGO_PKG_VERSION").into();
    json["pid"] = std::process::id().into();
    Answer::new(joined(&lines), json)
}

fn recent(proxy: &Proxy, within: Duration) -> Answer {
    let plan = proxy.plan();
    let now = Instant::now();
    let clients = plan.listeners.first().map(|listener| listener.selector().clients(within, MOST_RECENT, now));
    let name = |id: u32| plan.servers.iter().find(|server| server.id == id).map_or("", |server| server.name.as_str());
    let clients: Vec<(String, u64, &str)> = clients
        .into_iter()
        .flatten()
        .map(|c| (c.address.to_string(), now.saturating_duration_since(c.at).as_secs(), name(c.id)))
        .collect();
    let lines: Vec<String> = clients.iter().map(|(client, ago, at)| format!("{client} {ago} s ago, at {at}")).collect();
    let json = clients.iter().map(|(client, ago, at)| json!({ "client": client, "seconds": ago, "server": at }));
    Answer::new(joined(&lines), json.collect())
}

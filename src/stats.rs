//! Statistics in words.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::balancer::Balancer;
use crate::counters::{Counters, Traffic};
use crate::director::Director;
use crate::proxy::Proxy;
use crate::verdict::DropReason;

/// Frames and bytes in words.
pub fn count(traffic: &Traffic) -> String {
    format!("{} frames, {} bytes", traffic.frames.get(), traffic.bytes.get())
}

/// What `balancer` has counted, a line each.
pub fn all(balancer: &Balancer) -> Vec<String> {
    let appliance = balancer.appliance().map(|appliance| lines(&appliance.counters(), appliance.director()));
    let proxy = balancer.proxy().map(proxied);
    appliance.into_iter().chain(proxy).flatten().collect()
}

/// What the proxy has counted, a line each.
pub fn proxied(proxy: &Proxy) -> Vec<String> {
    let shared = proxy.shared();
    let n = |counter: &AtomicU64| counter.load(Relaxed);
    let (totals, datagrams) = (&shared.totals, &shared.datagrams);
    let mut lines = vec![
        format!(
            "proxy: {} connections of clients, {} accepted, {} turned away; accepting paused {} times",
            shared.connections(),
            n(&totals.accepted),
            n(&totals.refused),
            n(&totals.pauses)
        ),
        format!(
            "proxy: {} requests, {} bad; {} wait for a place at a server, {} have waited; {} TLS handshakes and {} PROXY \
             headers failed",
            n(&totals.requests),
            n(&totals.bad_requests),
            n(&shared.waits.now),
            n(&shared.waits.ever),
            n(&totals.bad_handshakes),
            n(&totals.bad_headers)
        ),
        format!(
            "proxy: {} clients with datagrams, {} forgotten for others; {} datagrams ({} bytes) to servers, {} ({} bytes) to \
             clients, {} dropped",
            datagrams.clients(),
            n(&datagrams.evicted),
            n(&datagrams.to_servers),
            n(&datagrams.bytes_to_servers),
            n(&datagrams.to_clients),
            n(&datagrams.bytes_to_clients),
            datagrams.all_dropped()
        ),
    ];
    lines.extend(proxy.plan().servers.iter().map(|server| {
        format!(
            "server {}: {} connections, {} made, {} failed, {} requests, {} bytes sent, {} received",
            server.name,
            server.connections(),
            n(&server.made),
            n(&server.failed),
            n(&server.requests),
            n(&server.sent),
            n(&server.received)
        )
    }));
    lines
}

/// What `counters` say, a line each: totals, VIPs, backends. Numbers of frames and bytes.
pub fn lines(counters: &Counters, director: &Director) -> Vec<String> {
    let mut lines = totals(counters);
    for address in director.balance().vip_addresses() {
        if let Some(traffic) = director.vip_number(address).and_then(|number| counters.vips.get(number)) {
            lines.push(format!("VIP {address}: {}", count(traffic)));
        }
    }
    for standing in director.standings() {
        let at = standing.mac.map_or(String::new(), |mac| format!(" at {mac}"));
        let traffic = counters.backends.get(standing.number).map(count).unwrap_or_default();
        lines.push(format!(
            "backend {}: {}{at}, {:.2} % of the slots, {} flows, {traffic}",
            standing.name,
            standing.condition.name(),
            standing.share,
            counters.flows.live(standing.number)
        ));
    }
    lines
}

/// What `counters` say as a whole, a line each.
pub fn totals(counters: &Counters) -> Vec<String> {
    let lost = DropReason::ALL.iter().filter(|reason| reason.is_loss());
    let lost: Vec<String> = lost.map(|&reason| format!("{reason} {}", counters.dropped(reason).get())).collect();
    vec![
        format!("received {}", count(&counters.received)),
        format!("transmitted {}", count(&counters.transmitted)),
        format!("left to the host {}", count(&counters.host)),
        format!("dropped {} frames: {}", counters.lost(), lost.join(", ")),
        format!(
            "held {} frames for a while: {} released, {} expired",
            counters.dropped(DropReason::Held).get(),
            counters.released.frames.get(),
            counters.expired.get()
        ),
        format!(
            "answered {} neighbour questions, {} pings; passed on {} ICMP errors",
            counters.neighbor_answers.get(),
            counters.echo_answers.get(),
            counters.icmp_errors.get()
        ),
        format!(
            "lost by the port: {} not sent, {} not read in time, {} in slots that made no sense; rings in error {} times",
            counters.send_failed.get(),
            counters.overrun.get(),
            counters.bad_slots.get(),
            counters.ring_errors.get()
        ),
        format!("unfinished checksums, finished here: {}", counters.finished.get()),
        format!(
            "answers to checks {}; swallowed by the tarpit {}",
            counters.dropped(DropReason::Probe).get(),
            counters.dropped(DropReason::Tarpit).get()
        ),
        format!(
            "flows: {} remembered, {} opened; pushed out {} that had just begun and {} others; no room for {} packets of others",
            counters.flows.total(),
            counters.flows.opened.get(),
            counters.flows.displaced.get(),
            counters.flows.evicted.get(),
            counters.flows.full.get()
        ),
    ]
}

/// The same as [`totals`], for programs.
pub fn json(counters: &Counters) -> serde_json::Value {
    let traffic = |t: &Traffic| serde_json::json!({ "frames": t.frames.get(), "bytes": t.bytes.get() });
    let dropped: serde_json::Map<String, serde_json::Value> = DropReason::ALL
        .iter()
        .map(|&reason| (reason.name().to_owned(), counters.dropped(reason).get().into()))
        .collect();
    serde_json::json!({
        "received": traffic(&counters.received),
        "transmitted": traffic(&counters.transmitted),
        "host": traffic(&counters.host),
        "dropped": dropped,
        "released": traffic(&counters.released),
        "expired": counters.expired.get(),
        "neighbor_answers": counters.neighbor_answers.get(),
        "echo_answers": counters.echo_answers.get(),
        "icmp_errors": counters.icmp_errors.get(),
        "send_failed": counters.send_failed.get(),
        "overrun": counters.overrun.get(),
        "bad_slots": counters.bad_slots.get(),
        "ring_errors": counters.ring_errors.get(),
        "finished_checksums": counters.finished.get(),
        "flows": counters.flows.total(),
        "flows_opened": counters.flows.opened.get(),
        "flows_displaced": counters.flows.displaced.get(),
        "flows_evicted": counters.flows.evicted.get(),
        "flows_full": counters.flows.full.get(),
    })
}

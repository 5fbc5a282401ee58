//! Statistics in words.

use crate::config::Balance;
use crate::counters::{Counters, Traffic};
use crate::lb::Tables;
use crate::verdict::DropReason;

/// What `counters` say, a line each: totals, VIPs, backends. Numbers of frames and bytes.
pub fn lines(counters: &Counters, balance: &Balance, tables: &Tables) -> Vec<String> {
    let count = |traffic: &Traffic| format!("{} frames, {} bytes", traffic.frames.get(), traffic.bytes.get());
    let lost = DropReason::ALL.iter().filter(|reason| reason.is_loss());
    let lost: Vec<String> = lost.map(|&reason| format!("{reason} {}", counters.dropped(reason).get())).collect();
    let mut lines = vec![
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
            "lost by the port: {} not sent, {} not read in time",
            counters.send_failed.get(),
            counters.overrun.get()
        ),
    ];
    for (address, traffic) in balance.vip_addresses().iter().zip(&counters.vips) {
        lines.push(format!("VIP {address}: {}", count(traffic)));
    }
    let shares = tables.vips().first().and_then(|vip| vip.services.first());
    let shares = shares.map(|service| (service.slots.shares(balance.backends.len()), service.slots.size()));
    for (index, (backend, traffic)) in balance.backends.iter().zip(&counters.backends).enumerate() {
        let state = match tables.backend(index) {
            Some(b) if !b.in_service && backend.weight > 0 => "down".to_owned(),
            Some(crate::lb::Backend { mac: Some(mac), .. }) => format!("up at {mac}"),
            _ => "being resolved".to_owned(),
        };
        let share = shares.as_ref().map_or(0.0, |(shares, size)| 100.0 * shares[index] as f64 / *size as f64);
        lines.push(format!("backend {}: {state}, {share:.2} % of the slots, {}", backend.name, count(traffic)));
    }
    lines
}

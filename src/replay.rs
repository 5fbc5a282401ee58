//! `pen-dsr replay`: a capture through the engine, all backends being up.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::config::Balance;
use crate::counters::Counters;
use crate::engine::{Engine, Station};
use crate::failure::{Failure, Sysexit};
use crate::lb::flow::{DEFAULT_ENTRIES, Memory, Shape};
use crate::port::Port;
use crate::port::pcap::PcapPort;
use crate::stats;
use crate::verdict::Verdict;
use crate::wire::ether::{self, Mac};
use crate::wire::ip::protocol;
use crate::wire::{arp, ip, l4};

/// Runs the capture `input` through the engine, prints one line per frame and the counters to `out`, and writes what
/// would be sent to `output`.
///
/// We are the station `mac`; without one, that to which the first frame for a VIP is addressed. Nobody answers ARP in a
/// file: a backend without a MAC is given one.
///
/// # Errors
/// A capture that cannot be read, an output that cannot be written.
pub fn replay(
    mut balance: Balance,
    mac: Option<Mac>,
    input: &Path,
    output: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let damaged = |e: std::io::Error| Failure::new(Sysexit::DataErr, format!("{}: {e}", input.display()));
    let written = |e: std::io::Error| Failure::new(Sysexit::OsErr, format!("standard output: {e}"));
    let station = match mac {
        Some(mac) => mac,
        None => addressed_station(&balance, input)?,
    };
    let mut port = PcapPort::open(input)?;
    if let Some(output) = output {
        port.write_to(output)?;
    }
    writeln!(out, "we are {station}").map_err(written)?;
    for (index, backend) in balance.backends.iter_mut().enumerate().filter(|(_, backend)| backend.mac.is_none()) {
        let [high, low] = (index as u16 + 1).to_be_bytes();
        let mac = Mac([2, 0, b'b', b'e', high, low]);
        writeln!(out, "backend {} is taken to be at {mac}", backend.name).map_err(written)?;
        backend.mac = Some(mac);
    }
    let counters = Arc::new(Counters::new(balance.backends.len(), balance.vip_addresses().len()));
    let tables = Arc::new(balance.all_up());
    // What a capture holds has no need of a secret.
    let memory = Memory::fresh(Shape::of(DEFAULT_ENTRIES), balance.seed.keys())
        .map_err(|e| Failure::new(Sysexit::OsErr, format!("no memory for the flow table: {e}")))?;
    let mut engine =
        Engine::new(Station::new(station), tables, balance.seed, memory, Arc::clone(&counters), port.now());

    let mut number = 0u64;
    while !port.ended() {
        let mut line = None;
        let clock = port.clock();
        port.drive(1, &mut |_, frame| {
            engine.advance(clock.now());
            let before = summary(frame);
            let verdict = engine.handle_frame(frame);
            let outcome = match verdict {
                Verdict::Transmit => destination(&balance, frame),
                Verdict::Host => "to the host".to_owned(),
                Verdict::Drop(reason) if reason.is_loss() => format!("dropped: {reason}"),
                Verdict::Drop(reason) => reason.to_string(),
            };
            line = Some(format!("{before} -> {outcome}"));
            verdict
        })
        .map_err(damaged)?;
        if let Some(line) = line {
            number += 1;
            writeln!(out, "{number:6}  {line}").map_err(written)?;
        }
        while let Some(frame) = engine.poll_transmit() {
            writeln!(out, "        sent: {} -> {}", summary(&frame), destination(&balance, &frame)).map_err(written)?;
            port.send(&frame).map_err(damaged)?;
        }
    }
    port.finish().map_err(damaged)?;
    let mut lines = stats::totals(&counters);
    for (address, traffic) in balance.vip_addresses().iter().zip(&counters.vips) {
        lines.push(format!("VIP {address}: {}", stats::count(traffic)));
    }
    let shares = engine.tables().vips().first().and_then(|vip| vip.services.first()).map(|s| s.current.slots.clone());
    let shares = shares.map(|slots| (slots.shares(balance.backends.len()), slots.size()));
    for (index, (backend, traffic)) in balance.backends.iter().zip(&counters.backends).enumerate() {
        let share = shares.as_ref().map_or(0.0, |(shares, size)| 100.0 * shares[index] as f64 / *size as f64);
        lines.push(format!("backend {}: {share:.2} % of the slots, {}", backend.name, stats::count(traffic)));
    }
    lines.iter().try_for_each(|line| writeln!(out, "{line}")).map_err(written)
}

/// The MAC that the first frame for a VIP in the capture is addressed to.
fn addressed_station(balance: &Balance, input: &Path) -> Result<Mac, Failure> {
    let mut port = PcapPort::open(input)?;
    let vips = balance.vip_addresses();
    let mut found = None;
    while found.is_none() && !port.ended() {
        port.drive(1, &mut |_, frame| {
            if let Ok(eth) = ether::parse(frame) {
                let to = ip::destination(eth.ethertype, &frame[eth.payload..]);
                if to.is_some_and(|to| vips.contains(&to)) && eth.destination.is_station() {
                    found = Some(eth.destination);
                }
            }
            Verdict::Host
        })
        .map_err(|e| Failure::new(Sysexit::DataErr, format!("{}: {e}", input.display())))?;
    }
    // With no such frame, whatever it is, nothing is for us.
    Ok(found.unwrap_or(Mac([2, 0, 0, 0, 0, 0])))
}

/// Whom a frame goes to: a backend, or whoever asked.
fn destination(balance: &Balance, frame: &[u8]) -> String {
    let Ok(eth) = ether::parse(frame) else { return "sent".to_owned() };
    let mac = eth.destination;
    match balance.backends.iter().find(|backend| backend.mac == Some(mac)) {
        Some(backend) => format!("backend {} at {mac}", backend.name),
        None => format!("answered to {mac}"),
    }
}

/// What a frame is, in few words.
fn summary(frame: &[u8]) -> String {
    let Ok(eth) = ether::parse(frame) else {
        return format!("runt of {} bytes", frame.len());
    };
    let vlan = if eth.payload > ether::HEADER_LEN { "VLAN " } else { "" };
    if eth.ethertype == ether::ARP {
        return match arp::parse(&frame[eth.payload..]) {
            Ok(Some(m)) => {
                format!("{vlan}ARP {:?} {} asks or tells {}", m.operation, m.sender, m.target).to_lowercase()
            }
            _ => format!("{vlan}ARP"),
        };
    }
    let Some((header, l4)) = ip::locate(frame) else {
        return format!("{vlan}EtherType {:04x}, {} bytes", eth.ethertype, frame.len());
    };
    let first = header.fragment.is_none_or(|fragment| fragment.offset == 0);
    let part = header.fragment.map_or(String::new(), |f| format!(" fragment {:x} at {}", f.id, f.offset));
    let name = match header.protocol {
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::ICMP | protocol::ICMPV6 => "ICMP".to_owned(),
        other => format!("protocol {other}"),
    };
    let endpoints = match (header.protocol, l4::leading_ports(&frame[l4])) {
        (protocol::TCP | protocol::UDP, Ok(p)) if first => {
            format!("{} port {} to {} port {}", header.source, p.source, header.destination, p.destination)
        }
        _ => format!("{} to {}", header.source, header.destination),
    };
    format!("{vlan}{name} {endpoints}{part}, {} bytes", frame.len())
}

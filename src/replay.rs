//! `pen-dsr replay`: a capture through the engine, with the director beside it in the same thread.

use std::io::Write;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use crate::config::Balance;
use crate::counters::Counters;
use crate::director::{Director, Segment};
use crate::engine::{Engine, Station};
use crate::failure::{Failure, Sysexit};
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
/// We are the station `mac`; without one, that to which the first frame for a VIP is addressed.
///
/// # Errors
/// A capture that cannot be read, an output that cannot be written.
pub fn replay(
    balance: Balance,
    mac: Option<Mac>,
    input: &Path,
    output: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let unreadable = |e: std::io::Error| Failure::new(Sysexit::NoInput, e.to_string());
    let damaged = |e: std::io::Error| Failure::new(Sysexit::DataErr, format!("{}: {e}", input.display()));
    let balance = Arc::new(balance);
    let station = match mac {
        Some(mac) => mac,
        None => addressed_station(&balance, input).map_err(unreadable)?,
    };
    let mut port = PcapPort::open(input, output).map_err(unreadable)?;
    let segment = Segment { station: Station::new(station), ipv4: Vec::new(), link_local: None::<Ipv6Addr> };
    let counters = Arc::new(Counters::new(balance.backends.len(), balance.vip_addresses().len()));
    let mut director = Director::new(Arc::clone(&balance), segment, port.now());
    let mut engine = Engine::new(
        Station::new(station),
        Arc::clone(director.tables()),
        balance.seed,
        Arc::clone(&counters),
        port.now(),
    );

    let written = |e: std::io::Error| Failure::new(Sysexit::OsErr, format!("standard output: {e}"));
    writeln!(out, "we are {station}").map_err(written)?;
    let mut number = 0u64;
    while !port.ended() {
        // Time stands still while a frame is looked at, and moves on to the next one's.
        director.advance(port.now());
        while let Some(frame) = director.poll_transmit() {
            port.send(&frame).map_err(damaged)?;
        }
        let mut line = None;
        engine.advance(port.now());
        port.drive(1, &mut |frame| {
            let before = summary(frame);
            let verdict = engine.handle_frame(frame);
            let outcome = match verdict {
                Verdict::Transmit => describe_transmit(&balance, &engine, frame),
                Verdict::Host => "to the host".to_owned(),
                Verdict::Drop(reason) => format!("dropped: {reason}"),
            };
            line = Some(format!("{before} -> {outcome}"));
            verdict
        })
        .map_err(damaged)?;
        if let Some(line) = line {
            number += 1;
            writeln!(out, "{number:6}  {line}").map_err(written)?;
        }
        while let Some(event) = engine.poll_event() {
            director.handle_event(event, port.now());
        }
        while let Some(notice) = director.poll_notice() {
            writeln!(out, "        {notice}").map_err(written)?;
        }
        if let Some(tables) = director.poll_tables() {
            engine.install(tables);
        }
        while let Some(frame) = engine.poll_transmit() {
            writeln!(out, "        sent: {} -> {}", summary(&frame), describe_transmit(&balance, &engine, &frame))
                .map_err(written)?;
            port.send(&frame).map_err(damaged)?;
        }
    }
    port.finish().map_err(damaged)?;
    for line in stats::lines(&counters, &balance, engine.tables()) {
        writeln!(out, "{line}").map_err(written)?;
    }
    Ok(())
}

/// The MAC that the first frame for a VIP in the capture is addressed to.
fn addressed_station(balance: &Balance, input: &Path) -> std::io::Result<Mac> {
    let mut port = PcapPort::open(input, None)?;
    let vips = balance.vip_addresses();
    let mut found = None;
    while found.is_none() && !port.ended() {
        port.drive(1, &mut |frame| {
            if let Ok(eth) = ether::parse(frame) {
                let to = ip::destination(eth.ethertype, &frame[eth.payload..]);
                if to.is_some_and(|to| vips.contains(&to)) && eth.destination.is_station() {
                    found = Some(eth.destination);
                }
            }
            Verdict::Host
        })?;
    }
    // With no such frame, whatever it is, nothing is for us.
    Ok(found.unwrap_or(Mac([2, 0, 0, 0, 0, 0])))
}

fn describe_transmit(balance: &Balance, engine: &Engine, frame: &[u8]) -> String {
    let Ok(eth) = ether::parse(frame) else {
        return "sent".to_owned();
    };
    let mac = eth.destination;
    let backend =
        (0..balance.backends.len()).find(|&index| engine.tables().backend(index).is_some_and(|b| b.mac == Some(mac)));
    match backend {
        Some(index) => format!("backend {} at {mac}", balance.backends[index].name),
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

//! The golden table (`tests/golden/`) through the engine and the memory port, and the table itself under etherparse.

#[path = "golden/mod.rs"]
mod golden;

use std::net::IpAddr;
use std::time::Instant;

use etherparse::{LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice};
use golden::{Expect, Outcome, Row, config, rows, text};
use pen_dsr::port::Port;
use pen_dsr::port::memory::MemoryPort;
use pen_dsr::verdict::Verdict;

/// The engine behind a memory port, driven as a worker drives it.
fn memory_port() -> impl FnMut(&[u8]) -> Outcome {
    let mut engine = config::engine(false, Instant::now());
    move |frame| {
        let mut port = MemoryPort::default();
        port.incoming.push_back(frame.to_vec());
        let mut dropped = None;
        let shown = port.drive(1, &mut |_, frame: &mut [u8]| {
            let verdict = engine.handle_frame(frame);
            if let Verdict::Drop(reason) = verdict {
                dropped = Some(reason);
            }
            verdict
        });
        assert_eq!(shown.expect("memory does not fail"), 1);
        while let Some(own) = engine.poll_transmit() {
            port.send(&own).expect("memory does not fail");
        }
        assert_eq!(port.dropped, u64::from(dropped.is_some()));
        Outcome { sent: port.sent, to_host: port.to_host, dropped }
    }
}

#[test]
fn the_memory_port_passes_the_golden_table() {
    golden::run(memory_port());
}

#[test]
fn the_table_is_large_and_its_names_are_unique() {
    let rows = rows();
    let mut names: Vec<_> = rows.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rows.len());
    assert!(rows.len() >= 60, "{} rows", rows.len());
    println!("{} rows", rows.len());
}

#[test]
fn the_table_as_text_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/table.txt");
    let table = text::table();
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(path, &table).expect("tests/golden/table.txt is writable");
    }
    let file = std::fs::read_to_string(path).expect("tests/golden/table.txt is readable");
    for (line, (file, table)) in file.lines().zip(table.lines()).enumerate() {
        assert_eq!(
            file,
            table,
            "table.txt, line {}: if the change is meant, GOLDEN_WRITE=1 cargo test --test golden",
            line + 1
        );
    }
    assert_eq!(file.len(), table.len(), "table.txt: if the change is meant, GOLDEN_WRITE=1 cargo test --test golden");
}

fn forwards() -> impl Iterator<Item = (Row, Vec<u8>)> {
    rows().into_iter().filter(|row| matches!(row.expect, Expect::Forward(_))).map(|row| {
        let out = row.outcome().sent.swap_remove(0);
        (row, out)
    })
}

#[test]
fn what_is_forwarded_differs_in_the_two_macs_only() {
    let mut path = memory_port();
    let mut forwarded = 0;
    for row in rows() {
        let outcome = path(&row.frame);
        if let Expect::Forward(backend) = row.expect {
            let out = outcome.sent.first().unwrap_or_else(|| panic!("{}: nothing left", row.name));
            assert_eq!(out[..6], backend, "{}", row.name);
            assert_eq!(out[6..12], config::OWN, "{}", row.name);
            assert_eq!(out[12..], row.frame[12..], "{}", row.name);
            forwarded += 1;
        }
    }
    assert!(forwarded >= 60, "{forwarded} rows are forwarded");
}

#[test]
fn etherparse_reads_the_same_packet_before_and_after_and_it_is_for_a_vip() {
    for (row, out) in forwards() {
        let before = LaxSlicedPacket::from_ethernet(&row.frame).expect("an Ethernet frame");
        let after = LaxSlicedPacket::from_ethernet(&out).expect("an Ethernet frame");
        // etherparse takes the middle of a datagram for the extension header that its first part begins with.
        let misread = row.name == "v6 last fragment, options before UDP";
        assert_eq!(before.stop_err.is_some(), misread, "{}", row.name);
        assert_eq!(
            (&before.link_exts, &before.net, &before.transport),
            (&after.link_exts, &after.net, &after.transport),
            "{}",
            row.name
        );
        assert!(config::is_vip(addresses(&row.frame).expect(row.name).1), "{}", row.name);
    }
}

#[test]
fn etherparse_finds_every_answer_right() {
    let mut echoes = 0;
    for row in rows() {
        let Expect::Answer(out) = &row.expect else {
            continue;
        };
        assert_eq!((&out[..6], out.len()), (&row.frame[6..12], row.frame.len()), "{}: it goes to who asked", row.name);
        let (asked, answer) =
            (SlicedPacket::from_ethernet(&row.frame).unwrap(), SlicedPacket::from_ethernet(out).unwrap());
        assert_eq!(asked.vlan_ids(), answer.vlan_ids(), "{}", row.name);
        let (Some((client, vip)), damaged) = (addresses(&row.frame), row.name.contains("damaged")) else {
            continue;
        };
        assert_eq!(addresses(out), Some((vip, client)), "{}", row.name);
        match (&asked.transport, &answer.transport, &answer.net) {
            (Some(TransportSlice::Icmpv4(a)), Some(TransportSlice::Icmpv4(b)), Some(NetSlice::Ipv4(ip))) => {
                assert_eq!((b.type_u8(), a.bytes5to8(), a.payload()), (0, b.bytes5to8(), b.payload()), "{}", row.name);
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum(), "{}", row.name);
                let mut sum = etherparse::checksum::Sum16BitWords::new();
                sum = sum.add_slice(b.slice());
                assert_eq!(sum.ones_complement() == 0, !damaged, "{}", row.name);
            }
            (Some(TransportSlice::Icmpv6(a)), Some(TransportSlice::Icmpv6(b)), Some(NetSlice::Ipv6(ip))) => {
                assert_eq!(
                    (b.type_u8(), a.bytes5to8(), a.payload()),
                    (129, b.bytes5to8(), b.payload()),
                    "{}",
                    row.name
                );
                assert!(b.is_checksum_valid(ip.header().source(), ip.header().destination()), "{}", row.name);
            }
            _ => panic!("{}: no echo", row.name),
        }
        echoes += 1;
    }
    assert!(echoes >= 10, "{echoes} echo replies");
}

/// Source and destination as etherparse reads them.
fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match LaxSlicedPacket::from_ethernet(frame).ok()?.net? {
        etherparse::LaxNetSlice::Ipv4(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        etherparse::LaxNetSlice::Ipv6(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        etherparse::LaxNetSlice::Arp(_) => None,
    }
}

#[test]
fn every_seen_backend_is_one_of_the_three() {
    let mut seen: Vec<_> = forwards().map(|(_, out)| out[..6].to_vec()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [config::BE1, config::BE2, config::BE3].map(|mac| mac.to_vec()));
}

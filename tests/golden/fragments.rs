//! Fragments: all parts of a datagram go to one backend.

use pen_dsr::verdict::DropReason::{Held, Malformed, NoBackend};

use super::Expect::{Drop, Forward, Host};
use super::Row;
use super::config::{ALL, BE1, BE2, BE3, DEAD, OWN, SOME, VIP_MAC};
use super::frames::{Packet, Tags, patched, udp_datagram};

fn part(client: &str, vip: &str, id: u16, offset: u16, more: bool) -> Packet {
    Packet::new(VIP_MAC, client, vip).fragment(id, offset, more)
}

/// What becomes of a fragment that was held, when it is let go.
fn released(mut frame: Vec<u8>, backend: [u8; 6]) -> Vec<u8> {
    frame[..6].copy_from_slice(&backend);
    frame[6..12].copy_from_slice(&OWN);
    frame
}

pub fn rows() -> Vec<Row> {
    let mut rows = every_port();
    rows.extend(some_ports());
    rows.extend(other_protocols());
    rows
}

/// Where every port is served and the client's port does not count, a part needs its first one nevertheless: its flow may
/// be older than the table.
#[rustfmt::skip] // One row, one line.
fn every_port() -> Vec<Row> {
    let v4 = udp_datagram("10.0.0.3", ALL[0], (40000, 9), &[0x55; 64]);
    let v6 = udp_datagram("2001:db8::1", ALL[1], (40000, 9), &[0x55; 64]);
    let tagged = Tags::Customer(7);
    vec![
        Row::new("v4 UDP first fragment", part("10.0.0.3", ALL[0], 1, 0, true).protocol(17, &v4[..24]), Forward(BE2)),
        Row::new("v4 UDP middle fragment", part("10.0.0.3", ALL[0], 1, 24, true).protocol(17, &v4[24..48]), Forward(BE2)),
        Row::new("v4 UDP last fragment", part("10.0.0.3", ALL[0], 1, 48, false).protocol(17, &v4[48..]), Forward(BE2)),
        Row::new("v4 UDP last fragment before all others waits for the ports", part("10.0.0.3", ALL[0], 2, 48, false).protocol(17, &v4[48..]), Drop(Held)),
        Row::new("v4 TCP last fragment before all others waits for the ports", part("10.0.0.1", ALL[0], 3, 48, false).protocol(6, b"payload."), Drop(Held)),
        Row::new(
            "v4 TCP first fragment with a part of its header",
            part("10.0.0.4", ALL[0], 4, 0, true).protocol(6, &[0x9c, 0x40, 0, 80, 0, 0, 0, 1]),
            Forward(BE1),
        ),
        Row::new("v4 UDP first fragment, 802.1Q", part("10.0.0.4", ALL[0], 5, 0, true).tags(tagged).protocol(17, &v4[..24]), Forward(BE1)),
        Row::new("v4 UDP later fragment, QinQ", part("10.0.0.4", ALL[0], 5, 24, false).tags(Tags::QinQ(5, 7)).protocol(17, &v4[24..]), Forward(BE1)),
        Row::new("v4 UDP first fragment with options", part("10.0.0.4", ALL[0], 6, 0, true).options(&[1; 8]).protocol(17, &v4[..24]), Forward(BE1)),
        Row::new("v4 tiny first fragment without whole ports", part("10.0.0.3", ALL[0], 7, 0, true).protocol(17, &v4[..2]), Drop(Malformed)),
        Row::new("v4 tiny first fragment of seven bytes", part("10.0.0.3", ALL[0], 8, 0, true).protocol(6, &v4[..7]), Drop(Malformed)),
        Row::new("v4 UDP first fragment, no backend in service", part("10.0.0.3", DEAD[0], 9, 0, true).protocol(17, &v4[..24]), Drop(NoBackend)),
        Row::new("v4 UDP later fragment, no backend in service", part("10.0.0.3", DEAD[0], 9, 24, false).protocol(17, &v4[24..]), Drop(NoBackend)),
        Row::new("v6 UDP first fragment", part("2001:db8::1", ALL[1], 1, 0, true).protocol(17, &v6[..24]), Forward(BE2)),
        Row::new("v6 UDP middle fragment", part("2001:db8::1", ALL[1], 1, 24, true).protocol(17, &v6[24..48]), Forward(BE2)),
        Row::new("v6 UDP last fragment", part("2001:db8::1", ALL[1], 1, 48, false).protocol(17, &v6[48..]), Forward(BE2)),
        Row::new("v6 UDP last fragment before all others waits for the ports", part("fd00::5", ALL[1], 2, 48, false).protocol(17, &v6[48..]), Drop(Held)),
        Row::new("v6 UDP atomic fragment", part("2001:db8::1", ALL[1], 3, 0, false).udp(40000, 9, b"whole"), Forward(BE2)),
        Row::new("v6 TCP atomic fragment, 802.1Q", part("fd00::1", ALL[1], 4, 0, false).tags(tagged).tcp(40000, 80, b"whole"), Forward(BE1)),
        Row::new("v6 UDP first fragment, QinQ", part("fd00::1", ALL[1], 5, 0, true).tags(Tags::QinQ(5, 7)).protocol(17, &v6[..24]), Forward(BE1)),
        Row::new("v6 UDP later fragment, 802.1Q", part("fd00::1", ALL[1], 5, 24, false).tags(tagged).protocol(17, &v6[24..]), Forward(BE1)),
        Row::new("v6 tiny first fragment", part("2001:db8::1", ALL[1], 6, 0, true).protocol(17, &v6[..4]), Drop(Malformed)),
    ]
}

/// Where the port decides, a part that comes before its first one has to wait for it.
#[rustfmt::skip] // One row, one line.
fn some_ports() -> Vec<Row> {
    let query = udp_datagram("10.0.0.3", SOME[0], (40000, 53), &[0x55; 40]);
    let late = part("10.0.0.3", SOME[0], 20, 24, false).protocol(17, &query[24..]);
    let query6 = udp_datagram("fd00::5", SOME[1], (40000, 53), &[0x55; 40]);
    let late6 = [
        part("fd00::5", SOME[1], 20, 24, true).tags(Tags::Customer(7)).protocol(17, &query6[24..40]),
        part("fd00::5", SOME[1], 20, 40, false).tags(Tags::Customer(7)).protocol(17, &query6[40..]),
    ];
    vec![
        Row::new("v4 UDP last fragment waits for the ports", late.clone(), Drop(Held)),
        Row {
            originates: vec![released(late.clone(), BE2)],
            ..Row::new("v4 UDP first fragment releases the last", part("10.0.0.3", SOME[0], 20, 0, true).protocol(17, &query[..24]), Forward(BE2))
        },
        Row::new("v4 UDP last fragment, sent again, follows", late, Forward(BE2)),
        Row::new(
            "v4 UDP first fragment to a port that is not served",
            patched(part("10.0.0.3", SOME[0], 21, 0, true).protocol(17, &query[..24]), 14 + 20 + 2, &[0, 99]),
            Host,
        ),
        Row::new("v4 UDP later fragment to a port that is not served: the host has the first", part("10.0.0.3", SOME[0], 21, 24, false).protocol(17, &query[24..]), Host),
        Row::new("v6 UDP middle fragment waits for the ports", late6[0].clone(), Drop(Held)),
        Row::new("v6 UDP last fragment waits for the ports", late6[1].clone(), Drop(Held)),
        Row {
            originates: late6.iter().map(|frame| released(frame.clone(), BE3)).collect(),
            ..Row::new(
                "v6 UDP first fragment releases both, in their order",
                part("fd00::5", SOME[1], 20, 0, true).tags(Tags::Customer(7)).protocol(17, &query6[..24]),
                Forward(BE3),
            )
        },
        Row::new("v6 UDP fragment of another datagram still waits", part("fd00::5", SOME[1], 21, 24, false).protocol(17, &query6[24..]), Drop(Held)),
    ]
}

/// A ping in parts goes to a backend, as it is too long to be answered in place.
#[rustfmt::skip] // One row, one line.
fn other_protocols() -> Vec<Row> {
    let ping = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &[0x55; 40]].concat();
    let ping6 = [&[128, 0, 0, 0, 0, 1, 0, 1][..], &[0x55; 40]].concat();
    // Behind the fragment header, destination options stand before UDP.
    let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp_datagram("fd00::1", ALL[1], (40000, 9), &[0x55; 32])].concat();
    vec![
        Row::new("v4 ICMP echo request, first fragment", part("10.0.0.3", ALL[0], 30, 0, true).protocol(1, &ping[..24]), Forward(BE2)),
        Row::new("v4 ICMP echo request, last fragment", part("10.0.0.3", ALL[0], 30, 24, false).protocol(1, &ping[24..]), Forward(BE2)),
        Row::new("v6 ICMP echo request, first fragment", part("fd00::1", ALL[1], 30, 0, true).protocol(58, &ping6[..24]), Forward(BE1)),
        Row::new("v6 ICMP echo request, last fragment", part("fd00::1", ALL[1], 30, 24, false).protocol(58, &ping6[24..]), Forward(BE1)),
        Row::new("v6 first fragment, options before UDP", part("fd00::1", ALL[1], 31, 0, true).protocol(60, &options[..24]), Forward(BE1)),
        Row::new("v6 last fragment, options before UDP", part("fd00::1", ALL[1], 31, 24, false).protocol(60, &options[24..]), Forward(BE1)),
        Row::new("v4 GRE first fragment", part("10.0.0.3", ALL[0], 32, 0, true).protocol(47, &ping[..24]), Host),
        Row::new("v4 GRE later fragment: the host has the first", part("10.0.0.3", ALL[0], 32, 24, false).protocol(47, &ping[24..]), Host),
    ]
}

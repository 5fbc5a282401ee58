//! ARP and neighbour discovery: who asks for a VIP is answered.

use pen_dsr::verdict::DropReason::{Answered, Malformed};

use super::Expect::{Answer, Drop, Host};
use super::Row;
use super::config::{ALL, BE1, DEAD, OWN, SOME, VIP_MAC};
use super::frames::{
    self, BROADCAST, CLIENT, MacBytes, Packet, ROUTER, Tags, advertisement, cut, link_layer_option, padded, patched,
    solicitation,
};

const NOBODY: MacBytes = [0; 6];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// The Ethernet group of fd00::100's solicited-node address.
const GROUP: MacBytes = [0x33, 0x33, 0xff, 0, 0x01, 0x00];
const SOLICITED_NODE: &str = "ff02::1:ff00:100";
const ALL_NODES: (MacBytes, &str) = ([0x33, 0x33, 0, 0, 0, 1], "ff02::1");
const OVERRIDE: u8 = 0x20;
const SOLICITED: u8 = 0x40;

pub fn rows() -> Vec<Row> {
    let mut rows = arp();
    rows.extend(neighbor_discovery());
    rows
}

#[rustfmt::skip] // One row, one line.
fn arp() -> Vec<Row> {
    let (plain, tag, tags) = (Tags::None, Tags::Customer(7), Tags::QinQ(5, 7));
    let client = (CLIENT, "10.0.0.1");
    let ask = |target, tags| frames::arp(BROADCAST, REQUEST, client, (NOBODY, target), tags);
    let answer = |vip, tags| Answer(frames::arp(CLIENT, REPLY, (VIP_MAC, vip), client, tags));
    let request = ask(ALL[0], plain);
    let probe = frames::arp(BROADCAST, REQUEST, (CLIENT, "0.0.0.0"), (NOBODY, ALL[0]), plain);
    let probe_answer = frames::arp(CLIENT, REPLY, (VIP_MAC, ALL[0]), (CLIENT, "0.0.0.0"), plain);
    let Answer(padded_answer) = answer(ALL[0], plain) else { panic!("an answer") };
    vec![
        Row::new("ARP request for a VIP", request.clone(), answer(ALL[0], plain)),
        Row::new("ARP request for another VIP", ask(SOME[0], plain), answer(SOME[0], plain)),
        Row::new("ARP request for a VIP without backends", ask(DEAD[0], plain), answer(DEAD[0], plain)),
        Row::new("ARP request, padded", padded(request.clone()), Answer(padded(padded_answer))),
        Row::new("ARP request, 802.1Q", ask(ALL[0], tag), answer(ALL[0], tag)),
        Row::new("ARP request, QinQ", ask(ALL[0], tags), answer(ALL[0], tags)),
        Row::new("ARP request to our MAC (a cache is revalidated)", patched(request.clone(), 0, &VIP_MAC), answer(ALL[0], plain)),
        Row::new("ARP request to somebody else's MAC", patched(request.clone(), 0, &BE1), Host),
        Row::new("ARP request for another address", ask("10.0.0.2", plain), Host),
        Row::new("ARP probe for a VIP (RFC 5227)", probe, Answer(probe_answer)),
        Row::new("gratuitous ARP request for a VIP: somebody claims it", frames::arp(BROADCAST, REQUEST, (ROUTER, ALL[0]), (NOBODY, ALL[0]), plain), Host),
        Row::new("gratuitous ARP reply for a VIP: somebody claims it", frames::arp(BROADCAST, REPLY, (ROUTER, ALL[0]), (ROUTER, ALL[0]), plain), Host),
        Row::new("gratuitous ARP of a backend", frames::arp(BROADCAST, REQUEST, (BE1, "10.0.0.11"), (NOBODY, "10.0.0.11"), plain), Host),
        Row::new("ARP reply of a backend to us", frames::arp(OWN, REPLY, (BE1, "10.0.0.11"), (OWN, "10.0.0.2"), plain), Host),
        Row::new("ARP request of our own, come back", frames::arp(BROADCAST, REQUEST, (OWN, "10.0.0.2"), (NOBODY, ALL[0]), plain), Host),
        Row::new("ARP announcement of our own, come back", frames::arp(BROADCAST, REQUEST, (VIP_MAC, ALL[0]), (NOBODY, ALL[0]), plain), Host),
        Row::new("ARP request from a group MAC", patched(request.clone(), 22, &BROADCAST), Drop(Malformed)),
        Row::new("ARP request from no MAC", patched(request.clone(), 22, &NOBODY), Drop(Malformed)),
        Row::new("ARP request cut by a byte", cut(request.clone(), 41), Drop(Malformed)),
        Row::new("ARP of another hardware", patched(request.clone(), 15, &[6]), Host),
        Row::new("ARP of another operation", patched(request, 21, &[3]), Host),
    ]
}

#[rustfmt::skip] // One row, one line.
fn neighbor_discovery() -> Vec<Row> {
    let (tag, tags) = (Tags::Customer(7), Tags::QinQ(5, 7));
    let vip = ALL[1];
    let source = link_layer_option(1, CLIENT);
    let target = link_layer_option(2, VIP_MAC);
    let ask = |mac, to| Packet::new(mac, "fd00::1", to);
    let reply = || Packet::new(CLIENT, vip, "fd00::1").sent_by(VIP_MAC);
    let answer = || advertisement(reply(), SOLICITED | OVERRIDE, vip, &target);
    let asked = |name, frame, answer| Row { originates: vec![answer], ..Row::new(name, frame, Drop(Answered)) };
    let to_all = Packet::new(ALL_NODES.0, vip, ALL_NODES.1).sent_by(VIP_MAC);
    let request = solicitation(ask(GROUP, SOLICITED_NODE), vip, &source);
    let probe = Packet::new(GROUP, "::", SOLICITED_NODE);
    let claim = Packet::new(ALL_NODES.0, vip, ALL_NODES.1).sent_by(ROUTER);
    let backend = Packet::new(OWN, "fd00::11", "fd00::2").sent_by(BE1);
    vec![
        asked("solicitation for a VIP", request.clone(), answer()),
        asked("solicitation without the asker's MAC: the frame's source is answered", solicitation(ask(GROUP, SOLICITED_NODE), vip, &[]), answer()),
        asked("solicitation to our MAC (a cache is revalidated)", solicitation(ask(VIP_MAC, vip), vip, &source), answer()),
        asked("solicitation with an option that nobody knows", solicitation(ask(GROUP, SOLICITED_NODE), vip, &[&[200, 1, 0, 0, 0, 0, 0, 0], &source[..]].concat()), answer()),
        asked(
            "solicitation, 802.1Q: so is the answer",
            solicitation(ask(GROUP, SOLICITED_NODE).tags(tag), vip, &source),
            advertisement(reply().tags(tag), SOLICITED | OVERRIDE, vip, &target),
        ),
        asked(
            "solicitation, QinQ: so is the answer",
            solicitation(ask(GROUP, SOLICITED_NODE).tags(tags), vip, &source),
            advertisement(reply().tags(tags), SOLICITED | OVERRIDE, vip, &target),
        ),
        asked("duplicate address detection for a VIP: all are answered", solicitation(probe.clone(), vip, &[]), advertisement(to_all, OVERRIDE, vip, &target)),
        Row::new("duplicate address detection that names a MAC", solicitation(probe, vip, &source), Host),
        Row::new("solicitation for another address", solicitation(ask(GROUP, SOLICITED_NODE), "fd00::abc:100", &source), Host),
        Row::new("solicitation for a group", solicitation(ask(GROUP, SOLICITED_NODE), "ff02::100", &source), Host),
        Row::new("solicitation that came through a router", patched(request.clone(), 21, &[254]), Host),
        Row::new("solicitation with a wrong checksum", patched(request.clone(), 56, &[0xde, 0xad]), Host),
        Row::new("solicitation with an option of length 0", solicitation(ask(GROUP, SOLICITED_NODE), vip, &[1, 0, 2, 0, 0, 0, 0, 1]), Host),
        Row::new("solicitation of our own, come back", solicitation(ask(GROUP, SOLICITED_NODE).sent_by(OWN), vip, &link_layer_option(1, OWN)), Host),
        Row::new("solicitation cut in its target", cut(request.clone(), 70), Host),
        Row::new("solicitation to another group's MAC", patched(request, 0, &BE1), Host),
        Row::new("unsolicited advertisement of a VIP: somebody claims it", advertisement(claim, OVERRIDE, vip, &link_layer_option(2, ROUTER)), Host),
        Row::new("advertisement of a backend to us", advertisement(backend, SOLICITED | OVERRIDE, "fd00::11", &link_layer_option(2, BE1)), Host),
    ]
}

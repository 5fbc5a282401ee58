use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

use super::*;
use crate::counters::Counters;
use crate::engine::Station;
use crate::lb::acl::{Acl, Action, Rule};
use crate::lb::flow::{Memory, Shape};
use crate::lb::{Settings, Tables};
use crate::wire::ether::Mac;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 2]);
const VIP_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x99]);
const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn list(rules: &[(Action, &str)], excluded: &[&str], rate: u32) -> TarpitList {
    let rule = |&(action, network): &(Action, &str)| Rule { action, network: network.parse().unwrap() };
    let excluded: HashSet<IpAddr> = excluded.iter().map(|text| text.parse().unwrap()).collect();
    TarpitList { acl: Arc::new(Acl::new(rules.iter().map(rule).collect())), excluded, rate }
}

/// 10.0.0.0/24 and fd00::/64 but for a few.
fn most(rate: u32) -> TarpitList {
    let rules = [
        (Action::Deny, "10.0.0.0/27"),
        (Action::Permit, "10.0.0.0/24"),
        (Action::Deny, "fd00::/123"),
        (Action::Permit, "fd00::/64"),
        (Action::Permit, "fe80::/10"),
    ];
    list(&rules, &["10.0.0.100", "fd00::100"], rate)
}

struct Bench {
    engine: Engine,
    now: Instant,
}

impl Bench {
    fn new(list: TarpitList) -> Bench {
        Bench::with(Settings { tarpit: Some(Arc::new(list)), ..Settings::default() })
    }

    fn with(settings: Settings) -> Bench {
        let now = Instant::now();
        let tables = Arc::new(Tables::new(vec![], vec![], settings));
        let station = Station { vip_mac: VIP_MAC, ..Station::new(OWN) };
        let memory = Memory::fresh(Shape::of(1024), (1, 2)).unwrap();
        let engine = Engine::new(station, tables, Seed(7), memory, Arc::new(Counters::new(0, 0)), now);
        Bench { engine, now }
    }

    fn sleep(&mut self, time: Duration) {
        self.now += time;
        self.engine.advance(self.now);
    }

    /// What becomes of `frame`, and what leaves: the frame itself changed, or another one.
    fn show(&mut self, frame: &[u8]) -> (Verdict, Option<Vec<u8>>) {
        let mut frame = frame.to_vec();
        match self.engine.handle_frame(&mut frame) {
            Verdict::Transmit => (Verdict::Transmit, Some(frame)),
            verdict => (verdict, self.engine.poll_transmit()),
        }
    }

    fn answers(&mut self, frame: &[u8]) -> bool {
        self.show(frame).1.is_some()
    }
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn request(mac: Mac, sender: &str, target: &str) -> Vec<u8> {
    let (sender, target) = (v4(sender), v4(target));
    let message = arp::Message {
        operation: arp::Operation::Request,
        sender_mac: mac,
        sender,
        target_mac: Mac::default(),
        target,
    };
    message.to_frame(Mac::BROADCAST)
}

fn solicitation(source: &str, target: &str) -> Vec<u8> {
    let (source, target): (Ipv6Addr, Ipv6Addr) = (source.parse().unwrap(), target.parse().unwrap());
    let destination = nd::solicited_node(target);
    let route = nd::Route { mac: CLIENT, source, destination_mac: nd::multicast_mac(destination), destination };
    nd::solicitation(route, target)
}

fn syn(destination: &str, port: u16) -> Vec<u8> {
    let eth = PacketBuilder::ethernet2(CLIENT.0, VIP_MAC.0);
    let ip = match destination.parse().unwrap() {
        IpAddr::V4(destination) => eth.ipv4([10, 0, 0, 1], destination.octets(), 64),
        IpAddr::V6(destination) => {
            eth.ipv6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], destination.octets(), 64)
        }
    };
    let mut frame = Vec::new();
    ip.tcp(40000, port, 1000, 64240).syn().write(&mut frame, b"").unwrap();
    frame
}

const SWALLOWED: Verdict = Verdict::Drop(DropReason::Tarpit);
const ANSWERED: Verdict = Verdict::Drop(DropReason::Answered);

#[test]
fn arp_for_an_address_of_the_list_is_answered_with_the_vips_mac() {
    let mut bench = Bench::new(most(100));
    let mut asked = request(CLIENT, "10.0.0.1", "10.0.0.200");
    asked.splice(12..12, [0x81, 0, 0, 5]);
    let (verdict, answer) = bench.show(&asked);
    let answer = answer.expect("an answer");
    assert_eq!(verdict, Verdict::Transmit);
    assert_eq!((&answer[..6], &answer[6..12], &answer[12..18]), (&CLIENT.0[..], &VIP_MAC.0[..], &asked[12..18]));
    let message = arp::parse(&answer[18..]).unwrap().unwrap();
    assert_eq!((message.operation, message.sender_mac), (arp::Operation::Reply, VIP_MAC));
    assert_eq!((message.sender, message.target), (v4("10.0.0.200"), v4("10.0.0.1")));
    for other in ["10.0.0.20", "10.0.1.1", "10.0.0.100"] {
        assert_eq!(bench.show(&request(CLIENT, "10.0.0.1", other)), (Verdict::Host, None), "{other}");
    }
}

#[test]
fn a_solicitation_is_answered_without_override() {
    let mut bench = Bench::new(most(100));
    let (verdict, answer) = bench.show(&solicitation("fd00::1", "fd00::200"));
    let answer = answer.expect("an answer");
    assert_eq!(verdict, ANSWERED);
    let (header, upper) = ip::locate(&answer).unwrap();
    assert_eq!(header.destination, "fd00::1".parse::<IpAddr>().unwrap());
    assert_eq!((&answer[..6], &answer[6..12]), (&CLIENT.0[..], &VIP_MAC.0[..]));
    let target = "fd00::200".parse().unwrap();
    assert_eq!(
        nd::parse(&header, &answer[upper]),
        Ok(nd::Message::Advertisement { target, target_mac: Some(VIP_MAC), solicited: true, override_cache: false })
    );
    for other in ["fd00::2", "fd00::100", "fd01::1", "fe80::77"] {
        assert_eq!(bench.show(&solicitation("fd00::1", other)), (Verdict::Host, None), "{other}");
    }
}

#[test]
fn each_syn_gets_a_syn_ack_and_the_rest_vanishes() {
    let mut bench = Bench::new(most(100));
    for destination in ["10.0.0.200", "fd00::200"] {
        let (verdict, answer) = bench.show(&syn(destination, 80));
        let answer = answer.expect("an answer");
        assert_eq!(verdict, ANSWERED);
        let sliced = SlicedPacket::from_ethernet(&answer).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        assert!(tcp.syn() && tcp.ack() && tcp.window_size() == WINDOW);

        let mut segment = syn(destination, 80);
        let flags = if destination.contains(':') { 14 + 40 + 13 } else { 14 + 20 + 13 };
        segment[flags] = 0x10;
        assert_eq!(bench.show(&segment), (SWALLOWED, None), "an ACK");
    }
    let eth = || PacketBuilder::ethernet2(CLIENT.0, VIP_MAC.0).ipv4([10, 0, 0, 1], [10, 0, 0, 200], 64);
    let (mut ping, mut datagram) = (Vec::new(), Vec::new());
    eth().icmpv4_echo_request(1, 1).write(&mut ping, b"ping").unwrap();
    eth().udp(4000, 53).write(&mut datagram, b"?").unwrap();
    assert_eq!(bench.show(&ping), (SWALLOWED, None));
    assert_eq!(bench.show(&datagram), (SWALLOWED, None));
    ping[17] = 200; // longer than the frame
    assert_eq!(bench.show(&ping), (Verdict::Drop(DropReason::Malformed), None));
    assert_eq!(bench.show(&syn("10.0.0.20", 80)), (Verdict::Host, None), "what the list denies");
    assert_eq!(bench.show(&syn("10.0.0.100", 80)), (Verdict::Host, None), "what is excluded");
}

#[test]
fn sequence_numbers_belong_to_their_flow() {
    let number = |bench: &mut Bench, frame: &[u8]| {
        let answer = bench.show(frame).1.expect("an answer");
        u32::from_be_bytes(answer[14 + 20 + 4..14 + 20 + 8].try_into().unwrap())
    };
    let mut bench = Bench::new(most(100));
    let first = number(&mut bench, &syn("10.0.0.200", 80));
    assert_eq!(number(&mut bench, &syn("10.0.0.200", 80)), first, "a SYN that was sent again");
    assert_ne!(number(&mut bench, &syn("10.0.0.200", 81)), first);
    assert_ne!(number(&mut bench, &syn("10.0.0.201", 80)), first);
}

#[test]
fn answers_of_all_kinds_share_one_rate() {
    let mut bench = Bench::new(most(3));
    let frames =
        [request(CLIENT, "10.0.0.1", "10.0.0.200"), solicitation("fd00::1", "fd00::200"), syn("10.0.0.200", 80)];
    assert!(frames.iter().all(|frame| bench.answers(frame)));
    assert!(!frames.iter().any(|frame| bench.answers(frame)), "the fourth to sixth within a second");
    assert_eq!(bench.show(&frames[2]), (SWALLOWED, None));
    bench.sleep(Duration::from_millis(334));
    assert!(bench.answers(&frames[0]) && !bench.answers(&frames[0]));
}

#[test]
fn who_asks_before_he_takes_an_address_gets_it() {
    let mut bench = Bench::new(most(100));
    assert!(!bench.answers(&request(CLIENT, "0.0.0.0", "10.0.0.200")), "an ARP probe");
    assert!(!bench.answers(&solicitation("::", "fd00::200")), "duplicate address detection");
    for frame in [request(CLIENT, "10.0.0.1", "10.0.0.200"), solicitation("fd00::1", "fd00::200"), syn("fd00::200", 80)]
    {
        assert!(!bench.answers(&frame), "while he is about to take it");
    }
    // He did not.
    bench.sleep(ASKED_FOR);
    assert!(bench.answers(&request(CLIENT, "10.0.0.1", "10.0.0.200")) && bench.answers(&syn("fd00::200", 80)));
}

#[test]
fn who_was_heard_to_have_an_address_keeps_it() {
    let host = Mac([2, 0, 0, 0, 0, 7]);
    let announcement = request(host, "10.0.0.200", "10.0.0.200");
    let question = request(host, "10.0.0.200", "10.0.0.1");
    for frame in [announcement, question] {
        let mut bench = Bench::new(most(100));
        assert!(!bench.answers(&frame));
        assert!(!bench.answers(&request(CLIENT, "10.0.0.1", "10.0.0.200")));
        assert_eq!(bench.show(&syn("10.0.0.200", 80)), (Verdict::Host, None));
        assert!(bench.answers(&request(CLIENT, "10.0.0.1", "10.0.0.201")), "its neighbour is nobody's");
        bench.sleep(INHABITED);
        assert!(bench.answers(&request(CLIENT, "10.0.0.1", "10.0.0.200")), "long gone");
    }
    let mut bench = Bench::new(most(100));
    bench.answers(&solicitation("fd00::200", "fd00::1"));
    assert!(!bench.answers(&solicitation("fd00::1", "fd00::200")), "by neighbour discovery");
}

#[test]
fn what_is_remembered_of_hosts_is_bounded() {
    let mut bench = Bench::new(list(&[(Action::Permit, "10.0.0.0/8")], &[], 100));
    for n in 0..2 * INHABITANTS as u32 {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + n).to_string();
        bench.sleep(Duration::from_millis(1));
        bench.answers(&request(CLIENT, &address, "192.0.2.1"));
    }
    assert_eq!(bench.engine.tarpit.inhabited.len(), INHABITANTS);
    let newest = Ipv4Addr::from_bits(0x0a01_0000 + 2 * INHABITANTS as u32 - 1).to_string();
    assert!(!bench.answers(&request(CLIENT, "192.0.2.1", &newest)), "the newest is known");
    assert!(bench.answers(&request(CLIENT, "192.0.2.1", "10.1.0.0")), "the oldest is forgotten");
}

#[test]
fn a_silent_balancer_has_no_tarpit() {
    let mut bench = Bench::with(Settings { tarpit: Some(Arc::new(most(100))), silent: true, ..Settings::default() });
    let asked =
        [request(CLIENT, "10.0.0.1", "10.0.0.200"), solicitation("fd00::1", "fd00::200"), syn("10.0.0.200", 80)];
    for frame in asked {
        assert_eq!(bench.show(&frame), (Verdict::Host, None));
    }
}

#[test]
fn an_empty_list_swallows_nothing() {
    let mut bench = Bench::new(list(&[], &[], 100));
    assert_eq!(bench.show(&request(CLIENT, "10.0.0.1", "10.0.0.200")), (Verdict::Host, None));
    assert_eq!(bench.show(&syn("10.0.0.200", 80)), (Verdict::Host, None));
}

#[test]
fn sockets_are_asked_for_exactly_what_the_engine_takes() {
    let everything = list(&[(Action::Permit, "0.0.0.0/0"), (Action::Permit, "::/0")], &["10.0.0.2", "fd00::2"], 1);
    let networks = networks(&everything);
    let tarpit = Tarpit::new(Seed(0));
    let addresses = [
        "0.0.0.0",
        "0.255.255.255",
        "1.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "126.255.255.255",
        "127.0.0.1",
        "128.0.0.0",
        "169.253.255.255",
        "169.254.0.1",
        "169.255.0.0",
        "223.255.255.255",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "fd00::1",
        "fd00::2",
        "fd00::3",
        "fe7f::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
    ];
    let mut taken = 0;
    for address in addresses.map(|text| text.parse::<IpAddr>().unwrap()) {
        let wants = tarpit.wants(&everything, address, Instant::now());
        assert_eq!(networks.iter().any(|network| network.contains(address)), wants, "{address}");
        taken += usize::from(wants);
    }
    assert_eq!(taken, 13);
}

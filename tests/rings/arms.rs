//! Two arms: clients on one NIC, backends on the other.

use pen_dsr::engine::Event;
use pen_dsr::port::Port;
use pen_dsr::port::netmap::model::{Nic, Shape};
use pen_dsr::wire::ether::Mac;

use crate::golden::config;
use crate::golden::frames::{Packet, Tags, arp};
use crate::harness::{BACK, Bench, CLIENT, syn_to};

const SHAPE: Shape = Shape { pairs: 1, host: true, slots: 16 };
const ASKER: [u8; 6] = [2, 0, 0, 0, 7, 7];

fn bench() -> Bench {
    Bench::two_arms(&Nic::new(SHAPE), &Nic::new(SHAPE))
}

/// Somebody asks who has 10.0.0.100.
fn question() -> Vec<u8> {
    arp([0xff; 6], 1, (ASKER, "10.0.0.7"), ([0; 6], "10.0.0.100"), Tags::None)
}

#[test]
fn clients_frames_leave_by_the_back_and_with_its_mac() {
    let mut bench = bench();
    let frame = syn_to("10.0.0.100");
    bench.front.arrive(0, &frame);
    bench.drive();
    let sent = bench.back().take_sent(0);
    assert_eq!(sent.len(), 1);
    assert_eq!((&sent[0][6..12], &sent[0][12..]), (&BACK[..], &frame[12..]));
    assert!(bench.front.take_sent(0).is_empty());
    bench.check();
}

#[test]
fn answers_for_the_vip_leave_by_the_front() {
    let mut bench = bench();
    bench.front.arrive(0, &question());
    let ping = Packet::new(config::VIP_MAC, CLIENT, "10.0.0.100").echo_request(1, 1, b"ping");
    bench.front.arrive(0, &ping);
    bench.drive();
    let sent = bench.front.take_sent(0);
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|frame| frame[6..12] == config::VIP_MAC));
    assert!(bench.back().take_sent(0).is_empty());
    bench.check();
}

#[test]
fn nobody_is_served_on_the_back() {
    let mut bench = bench();
    let back = bench.back().clone();
    back.arrive(0, &question());
    let mut stray = syn_to("10.0.0.100");
    stray[..6].copy_from_slice(&BACK);
    back.arrive(0, &stray);
    bench.drive();
    assert!(back.take_sent(0).is_empty() && bench.front.take_sent(0).is_empty());
    assert_eq!(back.take_host(), vec![question(), stray], "its own host gets them, untouched");
    assert!(bench.front.take_host().is_empty());
    bench.check();
}

#[test]
fn who_backends_are_is_heard_on_the_back() {
    let mut bench = bench();
    let answer = arp(BACK, 2, (config::BE1, "10.0.0.11"), (BACK, "10.0.0.2"), Tags::None);
    bench.back().arrive(0, &answer);
    bench.drive();
    let heard = Event::Answer { address: "10.0.0.11".parse().unwrap(), mac: Mac(config::BE1) };
    assert_eq!(bench.engines[0].poll_event(), Some(heard));
    assert_eq!(bench.back().take_host(), vec![answer], "the host learns it, too");
    bench.check();
}

#[test]
fn what_is_originated_leaves_by_the_arm_of_its_mac() {
    let mut bench = bench();
    let from = |mac: [u8; 6]| [[0xff; 6], mac].concat().into_iter().chain([8, 6]).chain([0; 46]).collect::<Vec<u8>>();
    for mac in [BACK, config::VIP_MAC, config::OWN] {
        bench.ports[0].send(&from(mac)).unwrap();
    }
    bench.drive();
    assert_eq!(bench.back().take_sent(0), vec![from(BACK)]);
    assert_eq!(bench.front.take_sent(0), vec![from(config::VIP_MAC), from(config::OWN)]);
    bench.check();
}

#[test]
fn each_arms_host_keeps_its_own_frames() {
    let mut bench = bench();
    let (front, back) = (bench.front.clone(), bench.back().clone());
    front.host_sends(&[1; 60]);
    back.host_sends(&[2; 60]);
    bench.drive();
    assert_eq!((front.take_sent(0), back.take_sent(0)), (vec![vec![1; 60]], vec![vec![2; 60]]));
    bench.check();
}

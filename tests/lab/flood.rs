//! Half-open connections from addresses that nobody has, while others live.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use pnet::datalink::{self, Channel};

use crate::harness::{BACKENDS, Lab, VIP4, lab, number_after, wait_until};
use crate::sessions::{Load, PORT, serve};

const SYNS: u32 = 300_000;
/// A second, so that the machine has time for the rest of the test.
const RATE: f64 = 40_000.0;

/// Sends `count` SYNs from random addresses and ports out of the client's eth0, at `RATE`; how long it took.
fn flood(lab: &Lab, count: u32) -> std::thread::JoinHandle<Duration> {
    lab.inside("client", move || {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == "eth0").expect("eth0");
        let Ok(Channel::Ethernet(mut sender, _)) = datalink::channel(&interface, datalink::Config::default()) else {
            panic!("no raw channel")
        };
        let began = Instant::now();
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        let mut frame = Vec::new();
        for sent in 0..count {
            // 11.0.0.0 to 126.255.255.255: no route leads there, so that no backend's answer goes anywhere.
            let [_, b, c, d] = random().to_be_bytes();
            let source = Ipv4Addr::new(11 + (random() % 116) as u8, b, c, d);
            let syn = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
                .ipv4(source.octets(), [10, 0, 0, 100], 64)
                .tcp(1024 + (random() % 60000) as u16, PORT, random(), 64240)
                .syn();
            frame.clear();
            syn.write(&mut frame, &[]).expect("a frame");
            // A full queue loses it, which is what a flood is for.
            let _ = sender.send_to(&frame, None);
            let ahead = f64::from(sent) / RATE - began.elapsed().as_secs_f64();
            if ahead > 0.002 {
                std::thread::sleep(Duration::from_secs_f64(ahead));
            }
        }
        began.elapsed()
    })
}

/// What `flows` counts under `name`.
fn counted(lab: &Lab, name: &str) -> u64 {
    number_after(&lab.ctl("lb.sock", "--json flows"), &format!("\"{name}\":"))
}

/// The flows that each backend has and that are not over.
fn held(lab: &Lab) -> Vec<String> {
    BACKENDS.iter().map(|backend| lab.server("lb.sock", backend, "flows")).collect()
}

/// Without a predecessor, and with most connections off the hash, only the flow table knows where they belong: one that
/// was evicted would go to another backend, and break. The table has less room than the flood needs.
#[test]
fn a_flood_of_syns_evicts_nobody() {
    lab("flood::a_flood_of_syns_evicts_nobody", &[], &[], |lab| {
        serve(lab, &["be1", "be2", "be3"]);
        let (control, file) = (lab.path("lb.sock"), lab.path("pen-dsr.toml"));
        // So that the flood is soon forgotten, and the count of what is left says who is not.
        fs::write(&file, "timeouts.opening = 3\n").expect("a configuration");
        let mut words = vec!["-r", "-C", &control, "-c", &file, "--flow-entries", "16384", "--predecessor", "0", VIP4];
        words.extend(BACKENDS);
        let balancer = lab.balancer(&words, 3);
        let load = Load::start(lab, VIP4, 200);
        lab.ctl("lb.sock", "server 10.0.0.11 weight 20");
        load.everybody_is_served();
        let (before, served_by) = (held(lab), load.backends());
        assert_eq!(before.iter().map(|n| n.parse::<u64>().expect("a number")).sum::<u64>(), 200, "{before:?}");
        let seen = || number_after(&balancer.statistics(), "VIP 10.0.0.100:");
        let (received, evicted) = (seen(), counted(lab, "evicted"));

        load.mark();
        let took = flood(lab, SYNS).join().expect("the flood ends");
        load.everybody_is_served();
        let (received, displaced) = (seen() - received, counted(lab, "displaced"));
        println!("{SYNS} SYNs in {} ms; the balancer saw {received} frames for the VIP meanwhile", took.as_millis());
        println!("{displaced} half-open flows pushed each other out; {}", load.pause());
        assert!(received > u64::from(SYNS / 4), "the flood has reached the balancer: {received}");
        assert!(displaced > 10_000, "it was more than the table has room for: {displaced}");
        assert!(load.broken().is_empty(), "{:?}", load.broken());
        assert_eq!((load.living(), load.backends()), (200, served_by));
        assert_eq!(counted(lab, "evicted"), evicted);
        wait_until("the flood to be forgotten, and nobody else", || held(lab) == before);
        load.more(50);
        assert!(load.broken().is_empty() && load.refused() == 0, "{:?}", load.broken());
    });
}

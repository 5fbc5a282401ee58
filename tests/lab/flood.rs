//! Half-open connections from addresses that nobody has, while others live.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use pnet::datalink::{self, Channel};

use crate::driver;
use crate::harness::{BACKENDS, Lab, VIP4, lab, number_after, wait_to_see};
use crate::load::{Load, PORT, serve};

const SYNS: u32 = 300_000;
/// A slow machine may stop at fewer, when so much time has passed.
const ENOUGH: Duration = Duration::from_secs(60);
const LEAST: u32 = 100_000;
/// A second, at most.
const RATE: f64 = 40_000.0;
/// Frames that are on their way through the balancer, at most.
const ON_THE_WAY: i64 = 512;
/// If none of those leaves for so long, they are lost. Longer than the balancer may get no processor.
const WAIT: Duration = Duration::from_secs(5);

/// What eth0 of the network of the process `pid` has received and sent, frames.
fn carried(pid: i32) -> (i64, i64) {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("its interfaces");
    let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("eth0");
    let frames = |column| line.split_whitespace().nth(column).and_then(|frames| frames.parse().ok());
    frames(1).zip(frames(9)).expect("two numbers")
}

/// Holds the flood up while too many frames are on their way.
struct Pace {
    balancer: i32,
    sent_before: i64,
    /// How many more frames had come than left when none was on its way.
    kept: i64,
    /// Those that leave before the interface counts them (a program in its driver) are in nobody's way.
    is_counted: bool,
}

impl Pace {
    fn new(balancer: i32) -> Pace {
        let (received, sent) = carried(balancer);
        Pace { balancer, sent_before: sent, kept: received - sent, is_counted: true }
    }

    /// Waits, when `number` frames were sent.
    fn wait(&mut self, number: u32) {
        let (mut waiting, mut least) = (Instant::now(), i64::MAX);
        while self.is_counted {
            let (received, sent) = carried(self.balancer);
            let kept = received - sent;
            if kept <= self.kept + ON_THE_WAY {
                return;
            }
            if kept < least {
                (waiting, least) = (Instant::now(), kept);
            } else if waiting.elapsed() > WAIT {
                self.kept = kept;
                self.is_counted = sent - self.sent_before > i64::from(number) / 4;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sends `count` SYNs from random addresses and ports out of the client's eth0, at `RATE` or as fast as `balancer` passes
/// them on: what happens when it loses frames, of the flood and of all others, is another matter. How many they were in the
/// end, and how long it took.
fn flood(lab: &Lab, count: u32, balancer: i32) -> std::thread::JoinHandle<(u32, Duration)> {
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
        let mut pace = Pace::new(balancer);
        for number in 0..count {
            if number >= LEAST && began.elapsed() > ENOUGH {
                return (number, began.elapsed());
            }
            // 11.0.0.0 to 126.255.255.255: no route leads there, so that no backend's answer goes anywhere.
            let [_, b, c, d] = random().to_be_bytes();
            let source = Ipv4Addr::new(11 + (random() % 116) as u8, b, c, d);
            let syn = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
                .ipv4(source.octets(), [10, 0, 0, 100], 64)
                .tcp(1024 + (random() % 60000) as u16, PORT, random(), 64240)
                .syn();
            frame.clear();
            syn.write(&mut frame, &[]).expect("a frame");
            // What the link refuses is lost, as in any flood.
            let _ = sender.send_to(&frame, None);
            let ahead = f64::from(number) / RATE - began.elapsed().as_secs_f64();
            if ahead > 0.002 {
                std::thread::sleep(Duration::from_secs_f64(ahead));
            }
            if number % 64 == 0 {
                pace.wait(number);
            }
        }
        (count, began.elapsed())
    })
}

/// What `flows` counts under `name`.
fn counted(lab: &Lab, name: &str) -> u64 {
    number_after(&lab.ctl("lb.sock", "--json flows"), &format!("\"{name}\":"))
}

/// Without a predecessor, and with most connections off the hash, only the flow table knows where they belong: one that
/// was evicted would go to another backend, and break. The table has less room than the flood needs.
#[test]
fn a_flood_of_syns_evicts_nobody() {
    lab("flood::a_flood_of_syns_evicts_nobody", &[], &[], |lab| {
        serve(lab, &["be1", "be2", "be3"]);
        let control = lab.path("lb.sock");
        let mut words = vec!["-r", "-C", &control, "--flow-entries", "16384", "--predecessor", "0", VIP4];
        words.extend(BACKENDS);
        let balancer = lab.balancer(&words, 3);
        let load = Load::start(lab, VIP4, 200);
        lab.ctl("lb.sock", "server 10.0.0.11 weight 20");
        load.everybody_is_served();
        // What the kernel alone has seen (driver xdp), pen-dsr is told of from time to time.
        wait_to_see("all flows to be known", || counted(lab, "total"), |total| *total == 200);
        let lost = || ["evicted", "full"].map(|name| counted(lab, name));
        let seen = || number_after(&balancer.statistics(), "VIP 10.0.0.100:");
        let (received, lost_before, served_by) = (seen(), lost(), load.backends());

        load.mark();
        let (syns, took) = flood(lab, SYNS, balancer.pid()).join().expect("the flood ends");
        load.everybody_is_served();
        let (received, displaced) = (seen() - received, counted(lab, "displaced"));
        println!("{syns} SYNs in {} ms; the balancer saw {received} frames for the VIP meanwhile", took.as_millis());
        println!("{displaced} half-open flows pushed each other out; {}", load.pause());
        assert!(received > u64::from(syns / 2), "the flood has reached the balancer: {received}");
        // The kernel does not tell what its maps have pushed out.
        let tells = driver::asked().is_some_and(|driver| driver != "xdp");
        assert!(!tells || displaced > u64::from(syns / 4), "it was more than the table has room for: {displaced}");
        assert!(load.broken().is_empty(), "{:?}", load.broken());
        assert_eq!((load.living(), load.backends()), (200, served_by));
        assert_eq!(lost(), lost_before, "no flow that lives was evicted, none found no room");
        load.more(50);
        assert!(load.broken().is_empty() && load.refused() == 0, "{:?}", load.broken());
    });
}

//! Numbered frames over the wire: a port on a mapped ring sends each back to where it came from, once, in its flow's order,
//! and but for its MACs as it was.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use pen_dsr::os::{Interface, Wanted};
use pen_dsr::port::ring::{self, RingPort};
use pen_dsr::port::{Arm, Port, waker};
use pen_dsr::verdict::{DropReason, Verdict};

use crate::golden::frames::{MacBytes, Packet, Tags};
use crate::raw::{self, Raw};
use crate::{sandbox, table};

const VIP4: &str = "10.0.0.100";
const VIP6: &str = "fd00::100";
const FLOWS: usize = 1024;
/// Bytes on their way at a time, at most 64 frames: less than a ring has room for, or the socket at the far end.
const WINDOW: usize = 128 << 10;
/// From the frame's start to the payload, with two tags, IPv6 and TCP.
const HEADERS: usize = 14 + 8 + 40 + 20;
const MACS: usize = 12;
/// If none comes back for so long, none will.
const PATIENCE: Duration = Duration::from_secs(45);

/// The number in a frame, which its payload ends with, and so every frame that is cut off lacks.
fn number(frame: &[u8]) -> Option<u64> {
    frame.last_chunk().copied().map(u64::from_be_bytes)
}

/// The frame of this number: one flow after the other, UDP and TCP in turn, a quarter of them IPv6, tags as they come.
fn frame(near: MacBytes, number: u64, length: usize) -> Vec<u8> {
    let flow = number as usize % FLOWS;
    let packet = match flow % 4 {
        3 => Packet::new(near, &format!("fd00::1:{flow:x}"), VIP6),
        _ => Packet::new(near, &format!("10.1.{}.{}", flow / 256, flow % 256), VIP4),
    };
    let packet = packet.tags(match flow % 7 {
        5 => Tags::Customer(5),
        6 => Tags::QinQ(6, 7),
        _ => Tags::None,
    });
    let filler = length.saturating_sub(HEADERS).max(8);
    let mut payload: Vec<u8> = (0..filler).map(|at| (at as u64 ^ number) as u8).collect();
    let at = payload.len() - 8;
    payload[at..].copy_from_slice(&number.to_be_bytes());
    let port = 1024 + flow as u16;
    if flow.is_multiple_of(2) { packet.udp(port, 9, &payload) } else { packet.tcp(port, 80, &payload) }
}

/// Runs `body` with a port for each of `workers` on a wire with this MTU.
fn on_wire(name: &str, mtu: usize, workers: usize, body: impl FnOnce(&mut Bench)) {
    on_wire_with(name, mtu, "", workers, body);
}

/// The same, the near end with these `queues` in ip-link(8)'s words.
fn on_wire_with(name: &str, mtu: usize, queues: &str, workers: usize, body: impl FnOnce(&mut Bench)) {
    if !sandbox::is_inside() {
        return sandbox::enter(name).unwrap_or_else(|why| println!("SKIPPED wire::{name}: {why}"));
    }
    table::lay_wire_with(mtu, queues);
    let near = Interface::find(table::NEAR).expect("the near end");
    let wanted =
        Wanted { vips: [VIP4, VIP6].map(|vip| vip.parse().expect("an address")).to_vec(), ..Wanted::default() };
    let (_wakers, wakes): (Vec<_>, Vec<_>) = (0..workers).map(|_| waker().expect("a waker")).unzip();
    let (ports, _filters) = match ring::open(&near, &wanted, wakes) {
        Ok(opened) => opened,
        Err(e) => return println!("SKIPPED wire::{name}: {e}"),
    };
    for why in ports.iter().filter_map(RingPort::slow) {
        println!("wire::{name}: small frames by a packet socket, too: {why}");
    }
    body(&mut Bench { ports, far: Raw::open(table::FAR, raw::ALL), near: near.mac.0, seen: vec![0; workers], lost: 0 });
}

struct Bench {
    ports: Vec<RingPort>,
    far: Raw,
    near: MacBytes,
    /// Frames that each port was shown.
    seen: Vec<u64>,
    /// Frames that are known to be lost.
    lost: u64,
}

impl Bench {
    /// Sends the frames of `numbers`, each with its length, and sees them come back.
    fn exchange(&mut self, numbers: impl IntoIterator<Item = u64>, length: impl Fn(u64) -> usize) {
        let mut waiting: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut numbers, mut on_way) = (numbers.into_iter(), 0);
        let mut last_came = Instant::now();
        loop {
            while waiting.len() < 64
                && on_way < WINDOW
                && let Some(number) = numbers.next()
            {
                let frame = frame(self.near, number, length(number));
                on_way += frame.len();
                self.far.send(&frame).expect("a frame sent");
                waiting.insert(number, frame);
            }
            if waiting.is_empty() {
                break;
            }
            self.drive();
            while let Some(back) = self.far.receive() {
                last_came = Instant::now();
                let number = number(&back.frame).expect("a numbered frame");
                let sent = waiting.remove(&number).unwrap_or_else(|| panic!("frame {number} came twice"));
                on_way -= sent.len();
                assert_eq!(back.frame[..MACS], [&sent[6..12], &sent[..6]].concat(), "frame {number}: its MACs");
                assert!(back.frame[MACS..] == sent[MACS..], "frame {number} of {} bytes was changed", sent.len());
                let before = last.insert(number % FLOWS as u64, number);
                assert!(before < Some(number), "frame {number} overtook {before:?} of its flow");
            }
            assert!(last_came.elapsed() < PATIENCE, "these do not come back: {:?}", waiting.keys());
        }
        assert_eq!(self.losses(), self.lost);
    }

    /// Frames that the ports have lost.
    fn losses(&mut self) -> u64 {
        let tallies = self.ports.iter_mut().map(Port::tally);
        tallies.map(|tally| tally.send_failed + tally.overrun + tally.bad_slots).sum()
    }

    /// Each port sends back what it has; how many frames there were.
    fn drive(&mut self) -> usize {
        let mut all = 0;
        for (port, seen) in self.ports.iter_mut().zip(&mut self.seen) {
            let mut back = |_: Arm, frame: &mut [u8]| {
                let Some((to, rest)) = frame.split_at_mut_checked(6) else {
                    return Verdict::Drop(DropReason::Malformed);
                };
                let Some(from) = rest.get_mut(..6) else { return Verdict::Drop(DropReason::Malformed) };
                to.swap_with_slice(from);
                Verdict::Transmit
            };
            let count = port.drive(64, &mut back).expect("a port that works");
            *seen += count as u64;
            all += count;
        }
        all
    }
}

/// Of all lengths between these, each number another.
fn between(least: usize, most: usize) -> impl Fn(u64) -> usize {
    move |number| least + number as usize * 7919 % (most - least + 1)
}

/// So many numbers of one flow.
fn of_flow(flow: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| n * FLOWS as u64 + flow)
}

#[test]
fn frames_of_a_thousand_flows_come_back_once_and_unchanged() {
    on_wire("numbered::frames_of_a_thousand_flows_come_back_once_and_unchanged", 1500, 1, |bench| {
        // Several rounds of the ring.
        bench.exchange(0..20_000, between(60, 1514));
    });
}

#[test]
fn frames_that_are_larger_than_a_slot_keep_their_order() {
    on_wire("numbered::frames_that_are_larger_than_a_slot_keep_their_order", table::ANY, 1, |bench| {
        bench.exchange(0..4_000, between(60, 65535));
        // One flow, small and large in turn.
        bench.exchange(of_flow(8, 2_000), |number| if (number / FLOWS as u64).is_multiple_of(2) { 60 } else { 20_000 });
    });
}

#[test]
fn workers_share_an_interface_by_flow() {
    on_wire("numbered::workers_share_an_interface_by_flow", 1500, 3, |bench| {
        bench.exchange(0..6_000, between(60, 1514));
        assert_eq!(bench.seen.iter().sum::<u64>(), 6_000, "each frame by one of them: {:?}", bench.seen);
        assert!(bench.seen.iter().all(|&seen| seen > 600), "no equal shares: {:?}", bench.seen);
        // A flow has one worker, whatever its frames' lengths.
        for flow in 0..64 {
            let before = bench.seen.clone();
            bench.exchange(of_flow(flow, 8), between(60, 1514));
            let busy = bench.seen.iter().zip(&before).filter(|(now, before)| now > before).count();
            assert_eq!(busy, 1, "flow {flow}: {before:?}, {:?}", bench.seen);
        }
    });
}

#[test]
fn a_worker_without_a_tx_queue_of_its_own_loses_nothing() {
    let name = "numbered::a_worker_without_a_tx_queue_of_its_own_loses_nothing";
    on_wire_with(name, 1500, "numrxqueues 2 numtxqueues 1", 2, |bench| {
        bench.exchange(0..4_000, between(60, 1514));
        assert!(bench.seen.iter().all(|&seen| seen > 600), "no equal shares: {:?}", bench.seen);
        let why = bench.ports[1].slow().map(str::to_owned);
        assert!(why.as_ref().is_some_and(|why| why.contains("has 1 tx queue (")), "{why:?}");
        // It stays so when the way for small frames is opened again.
        set("down");
        for port in &mut bench.ports {
            port.send(&[0; 60]).expect("counted, no error");
            port.wait(Some(Instant::now())).expect("a port that works");
        }
        bench.lost = 2;
        assert_eq!(bench.losses(), 2);
        up();
        bench.exchange(4_000..8_000, between(60, 1514));
        assert!(bench.ports[1].slow().is_some());
    });
}

#[test]
fn a_port_goes_on_when_its_interface_was_down() {
    on_wire("numbered::a_port_goes_on_when_its_interface_was_down", 1500, 1, |bench| {
        bench.exchange(0..100, |_| 60);
        set("down");
        for _ in 0..10 {
            bench.drive();
            let port = &mut bench.ports[0];
            port.send(&[0; 60]).expect("counted, no error");
            port.wait(Some(Instant::now())).expect("a port that works");
        }
        assert_eq!(bench.losses(), 10);
        up();
        bench.lost = 10;
        bench.exchange(100..300, |_| 60);
    });
}

#[test]
fn a_port_whose_interface_has_gone_says_so() {
    on_wire("numbered::a_port_whose_interface_has_gone_says_so", 1500, 1, |bench| {
        bench.exchange(0..100, |_| 60);
        let gone = Command::new("ip").args(["link", "del", table::NEAR]).status().expect("ip");
        assert!(gone.success());
        let port = &mut bench.ports[0];
        let said = (0..3).find_map(|_| port.send(&[0; 60]).err());
        assert!(said.is_some(), "it sends on nothing");
    });
}

/// Takes the near end up, and waits for its link.
fn up() {
    set("up");
    let running = || Interface::find(table::NEAR).is_ok_and(|near| near.running);
    let began = Instant::now();
    while !running() {
        assert!(began.elapsed() < PATIENCE, "no link");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn set(state: &str) {
    let done = Command::new("ip").args(["link", "set", table::NEAR, state]).status().expect("ip");
    assert!(done.success());
}

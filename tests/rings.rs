//! The netmap port's own code on rings in memory, with the kernel's side modelled: what becomes of frames, slots and
//! buffers, and what goes wrong.

#[path = "rings/arms.rs"]
mod arms;
#[path = "rings/faults.rs"]
mod faults;
#[path = "golden/mod.rs"]
mod golden;
#[path = "rings/harness.rs"]
mod harness;
#[path = "rings/random.rs"]
mod random;
#[path = "rings/stress.rs"]
mod stress;

use std::time::Instant;

use golden::frames::Packet;
use golden::{Outcome, config};
use harness::{Bench, CLIENT, forwarded, syn_to};
use netmap_sys::RingKind;
use pen_dsr::port::Port;
use pen_dsr::port::netmap::model::{Memory, Nic, Shape};
use pen_dsr::verdict::{Arm, DropReason, Verdict};
use pen_dsr::wire::checksum::{Finish, finish};

const BUFFER: usize = 2048;

/// The engine behind the netmap port, a row at a time.
fn netmap_port() -> impl FnMut(&[u8]) -> Outcome {
    let mut bench = Bench::one_arm(Shape { pairs: 1, host: true, slots: 64 });
    move |frame| {
        let parts: Vec<&[u8]> = if frame.is_empty() { vec![frame] } else { frame.chunks(BUFFER).collect() };
        bench.front.arrive_in_parts(0, &parts);
        let mut dropped = None;
        let Bench { front, ports, engines, .. } = &mut bench;
        let shown = ports[0].drive(1, &mut |arm, frame: &mut [u8]| {
            let verdict = engines[0].handle_frame_from(arm, frame);
            if let Verdict::Drop(reason) = verdict {
                dropped = Some(reason);
            }
            verdict
        });
        assert_eq!(shown.expect("the model does not fail"), 1);
        ports[0].wait(Some(Instant::now())).expect("the model does not fail");
        let mut sent = front.take_sent(0);
        while let Some(own) = engines[0].poll_transmit() {
            ports[0].send(&own).expect("the model does not fail");
            ports[0].wait(Some(Instant::now())).expect("the model does not fail");
            let frames = front.take_sent(0);
            assert!(frames.len() == 1 && frames[0].len() == own.len().max(60), "padded");
            sent.push(frames[0][..own.len()].to_vec());
        }
        assert_eq!(bench.front.violations(), Vec::<String>::new());
        bench.front.memory().audit().expect("every buffer in one slot");
        Outcome { sent, to_host: bench.front.take_host(), dropped }
    }
}

#[test]
fn the_netmap_port_passes_the_golden_table() {
    golden::run(netmap_port());
}

#[test]
fn a_forwarded_frame_is_not_copied_its_buffer_changes_the_slot() {
    let mut bench = Bench::one_arm(Shape { pairs: 1, host: true, slots: 8 });
    let mut addresses = Vec::new();
    for _ in 0..20 {
        bench.front.arrive(0, &syn_to("10.0.0.100"));
        bench.ports[0]
            .drive(8, &mut |_, frame: &mut [u8]| {
                addresses.push(frame.as_ptr() as usize);
                Verdict::Transmit
            })
            .unwrap();
        bench.ports[0].wait(Some(Instant::now())).unwrap();
    }
    assert_eq!(bench.front.take_sent(0).len(), 20);
    // Those that were sent came back as places for others: with copies it would be the same eight all the time.
    addresses.sort_unstable();
    addresses.dedup();
    assert!(addresses.len() > 8, "{} buffers were read from", addresses.len());
    bench.check();
}

#[test]
fn between_regions_frames_are_copied() {
    let shape = Shape { pairs: 1, host: false, slots: 8 };
    all_cross(&Nic::new(shape), &Nic::new(shape));
}

#[test]
fn in_one_region_two_nics_exchange_buffers() {
    let memory = Memory::new(128, 2048);
    let shape = Shape { pairs: 1, host: true, slots: 8 };
    all_cross(&Nic::in_memory(&memory, shape), &Nic::in_memory(&memory, shape));
}

/// More frames than a ring has slots go from `front` to `back`.
fn all_cross(front: &Nic, back: &Nic) {
    let mut bench = Bench::two_arms(front, back);
    let frame = syn_to("10.0.0.100");
    for _ in 0..20 {
        front.arrive(0, &frame);
        bench.drive();
    }
    assert_eq!(back.take_sent(0), vec![bench.as_forwarded(&frame); 20]);
    bench.check();
}

#[test]
fn the_hosts_frames_go_both_ways_beside_the_vips() {
    let mut bench = Bench::one_arm(Shape { pairs: 1, host: true, slots: 16 });
    let ssh = Packet::new(config::OWN, CLIENT, "10.0.0.2").tcp(5000, 22, b"hello");
    let reply = Packet::new([2, 0, 0, 0, 9, 9], "10.0.0.2", CLIENT).tcp(22, 5000, b"hello yourself");
    for _ in 0..50 {
        bench.front.arrive(0, &ssh);
        bench.front.arrive(0, &syn_to("10.0.0.100"));
        bench.front.host_sends(&reply);
        bench.drive();
    }
    assert_eq!(bench.front.take_host(), vec![ssh; 50]);
    let sent = bench.front.take_sent(0);
    assert_eq!(sent.iter().filter(|frame| **frame == reply).count(), 50);
    assert_eq!(sent.iter().filter(|frame| forwarded(frame)).count(), 50);
    bench.check();
}

#[test]
fn a_dedicated_nic_keeps_frames_for_the_host_from_it() {
    let mut bench = Bench::one_arm(Shape { pairs: 1, host: false, slots: 16 });
    bench.front.arrive(0, &Packet::new(config::OWN, CLIENT, "10.0.0.2").tcp(5000, 22, b"hello"));
    bench.drive();
    assert!(bench.front.take_sent(0).is_empty());
    assert_eq!(bench.ports[0].tally().send_failed, 0, "nothing is lost: nobody was to have it");
    bench.check();
}

#[test]
fn what_we_originate_is_padded_to_the_shortest_frame() {
    let mut bench = Bench::one_arm(Shape { pairs: 1, host: true, slots: 16 });
    bench.ports[0].send(&[0xaa; 42]).unwrap();
    bench.drive();
    let sent = bench.front.take_sent(0);
    assert_eq!(sent, vec![[[0xaa; 42].as_slice(), &[0; 18]].concat()]);
    bench.check();
}

#[test]
fn several_workers_share_a_nic_and_its_host_rings() {
    let nic = Nic::new(Shape { pairs: 4, host: true, slots: 32 });
    let mut bench = Bench::workers(&nic, 3);
    let ssh = |port| Packet::new(config::OWN, CLIENT, "10.0.0.2").tcp(port, 22, b"hello");
    for ring in 0..4 {
        nic.arrive(ring, &syn_to("10.0.0.100"));
        nic.arrive(ring, &ssh(ring as u16 + 1));
    }
    bench.drive();
    for ring in 0..4 {
        assert!(nic.take_sent(ring).iter().all(|frame| forwarded(frame)), "each by its own tx ring");
    }
    // The first worker carries what the others had for the host.
    bench.drive();
    let mut to_host = nic.take_host();
    to_host.sort();
    assert_eq!(to_host, (1..=4).map(ssh).collect::<Vec<_>>());
    nic.host_sends(&[0x55; 60]);
    bench.drive();
    assert_eq!(nic.take_sent(0), vec![vec![0x55; 60]]);
    bench.check();
}

#[test]
fn a_frame_of_several_slots_goes_as_one() {
    let mut bench = Bench::one_arm(Shape { pairs: 1, host: true, slots: 64 });
    let big = Packet::new(config::OWN, CLIENT, "10.0.0.100").tcp(1000, 80, &[0xab; 9000]);
    let parts: Vec<&[u8]> = big.chunks(BUFFER).collect();
    for _ in 0..30 {
        bench.front.arrive_in_parts(0, &parts);
        bench.front.arrive(0, &syn_to("10.0.0.100"));
        bench.drive();
    }
    let sent = bench.front.take_sent(0);
    assert_eq!(sent.iter().filter(|frame| frame.len() == big.len() && frame[12..] == big[12..]).count(), 30);
    assert_eq!(sent.iter().filter(|frame| frame.len() < 100).count(), 30);
    bench.check();
}

#[test]
fn an_empty_slot_in_front_of_a_frame_is_not_passed_on() {
    // As e1000's driver for netmap leaves one at each turn of its ring.
    let mut bench = Bench::one_arm(Shape { pairs: 1, host: true, slots: 8 });
    let frame = syn_to("10.0.0.100");
    for _ in 0..20 {
        bench.front.arrive_in_parts(0, &[&[], &frame]);
        bench.drive();
    }
    assert_eq!(bench.front.take_sent(0), vec![bench.as_forwarded(&frame); 20]);
    assert_eq!(bench.ports[0].tally().bad_slots, 0);
    bench.check();
}

#[test]
fn an_unfinished_checksum_is_finished_and_counted() {
    let whole = Packet::new(config::OWN, CLIENT, "10.0.0.100").udp(1000, 53, b"some question");
    let at = 14 + 20 + 6;
    // What is left to the hardware: the pseudo header's sum alone.
    let length = (whole.len() - 34) as u32;
    let words = whole[26..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let sum = words.sum::<u32>() + 17 + length;
    let partial = ((sum & 0xffff) + (sum >> 16)) as u16;
    let mut unfinished = whole.clone();
    unfinished[at..at + 2].copy_from_slice(&partial.to_be_bytes());
    assert_eq!(finish(&mut unfinished.clone()), Finish::Finished, "the test's own frame is as it should be");

    let mut bench = Bench::finishing();
    bench.front.arrive(0, &unfinished);
    bench.front.arrive(0, &whole);
    bench.drive();
    let sent = bench.front.take_sent(0);
    assert_eq!(sent.iter().map(|frame| &frame[34..]).collect::<Vec<_>>(), vec![&whole[34..]; 2]);
    assert_eq!(bench.ports[0].tally().finished, 1);
    bench.check();
}

#[test]
fn rings_take_their_turns() {
    let nic = Nic::new(Shape { pairs: 2, host: false, slots: 64 });
    let mut bench = Bench::one_port(&nic);
    for _ in 0..40 {
        nic.arrive(0, &syn_to("10.0.0.100"));
    }
    for _ in 0..4 {
        nic.arrive(1, &syn_to("10.0.0.100"));
    }
    let mut seen = 0;
    bench.ports[0]
        .drive(8, &mut |arm, _: &mut [u8]| {
            assert_eq!(arm, Arm::Front);
            seen += 1;
            Verdict::Drop(DropReason::Looped)
        })
        .unwrap();
    assert_eq!(seen, 8);
    assert_eq!(nic.waiting(RingKind::NicRx, 1), 0, "the full ring did not keep the other one waiting");
}

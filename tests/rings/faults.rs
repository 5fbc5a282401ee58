//! What goes wrong on the kernel's side, and what the port makes of it.

use std::time::{Duration, Instant};

use netmap_sys::RingKind;
use nix::errno::Errno;
use pen_dsr::port::Port;
use pen_dsr::port::netmap::model::{Fault, Shape};
use pen_dsr::verdict::Verdict;

use crate::harness::{Bench, forwarded, syn_to};

const SHAPE: Shape = Shape { pairs: 1, host: true, slots: 16 };

fn arrive(bench: &Bench, frames: usize) {
    for _ in 0..frames {
        bench.front.arrive(0, &syn_to("10.0.0.100"));
    }
}

#[test]
fn a_full_tx_ring_is_counted_and_holds_nobody_up() {
    let mut bench = Bench::one_arm(SHAPE);
    bench.front.set_stuck(0, true);
    let host = crate::Packet::new(crate::config::OWN, crate::CLIENT, "10.0.0.2").tcp(5000, 22, b"hello");
    for _ in 0..10 {
        arrive(&bench, 10);
        bench.front.arrive(0, &host);
        bench.drive();
    }
    assert_eq!(bench.ports[0].tally().send_failed, 100 - 15, "one slot of sixteen stays empty");
    assert_eq!(bench.front.take_host().len(), 10, "the host is served on");
    bench.front.set_stuck(0, false);
    arrive(&bench, 5);
    bench.drive();
    assert_eq!(bench.front.take_sent(0).len(), 15 + 5, "what had found room is not lost");
    bench.check();
}

#[test]
fn a_tx_ring_that_is_full_for_a_moment_loses_nothing() {
    // The host's ring, of the same registration, has room all the time: that must not pass for room in this one.
    let mut bench = Bench::one_arm(SHAPE);
    bench.front.set_stuck_for(0, 1);
    arrive(&bench, 15);
    assert_eq!(bench.ports[0].drive(64, &mut |_, _: &mut [u8]| Verdict::Transmit).unwrap(), 15);
    arrive(&bench, 10);
    bench.front.set_stuck_for(0, 2);
    bench.drive();
    bench.drive();
    assert_eq!((bench.front.take_sent(0).len(), bench.ports[0].tally().send_failed), (25, 0));
    bench.check();
}

#[test]
fn a_slot_that_makes_no_sense_is_counted_and_the_next_is_read() {
    for (buffer, len) in
        [(None, Some(2049)), (None, Some(u16::MAX)), (Some(0), None), (Some(1), None), (Some(u32::MAX), None)]
    {
        let mut bench = Bench::one_arm(SHAPE);
        for round in 1..=40 {
            bench.front.corrupt_next(0, buffer, len);
            arrive(&bench, 3);
            bench.drive();
            assert_eq!(bench.front.take_sent(0).len(), 2);
            assert_eq!(bench.ports[0].tally().bad_slots, round, "{buffer:?} {len:?}");
        }
        bench.drive();
        bench.check();
    }
}

#[test]
fn a_ring_that_the_kernel_sets_up_anew_goes_on() {
    for kind in [RingKind::NicRx, RingKind::NicTx] {
        let mut bench = Bench::one_arm(SHAPE);
        arrive(&bench, 3);
        bench.drive();
        bench.front.damage_head(kind, 0, 4711);
        // The kernel notices at its next sync, and says so in the next poll at the latest.
        for _ in 0..3 {
            bench.drive();
            bench.ports[0].wait(Some(Instant::now())).unwrap();
        }
        assert!(bench.front.reinits() > 0, "{kind:?}");
        bench.front.take_sent(0);
        for _ in 0..20 {
            arrive(&bench, 3);
            bench.drive();
        }
        let sent = bench.front.take_sent(0);
        assert_eq!(sent.len(), 60, "{kind:?}");
        assert!(sent.iter().all(|frame| forwarded(frame)));
        bench.front.memory().audit().expect("every buffer in one slot");
    }
}

#[test]
fn an_interface_that_is_reset_begins_anew() {
    let mut bench = Bench::one_arm(SHAPE);
    for round in 0..50 {
        arrive(&bench, 7);
        if round % 5 == 0 {
            bench.front.reset();
        }
        bench.drive();
        bench.front.take_sent(0);
    }
    arrive(&bench, 7);
    bench.drive();
    assert_eq!(bench.front.take_sent(0).len(), 7);
    bench.check();
}

#[test]
fn a_reset_between_reading_and_sending_loses_nothing_but_what_was_in_the_rings() {
    let mut bench = Bench::one_arm(SHAPE);
    let front = bench.front.clone();
    arrive(&bench, 5);
    bench.ports[0]
        .drive(64, &mut |_, _: &mut [u8]| {
            front.reset();
            Verdict::Transmit
        })
        .unwrap();
    // Whatever the port has written into the rings meanwhile, the kernel puts right.
    for _ in 0..3 {
        bench.drive();
        bench.ports[0].wait(Some(Instant::now())).unwrap();
    }
    front.take_sent(0);
    arrive(&bench, 7);
    bench.drive();
    assert_eq!(front.take_sent(0).len(), 7);
    front.memory().audit().expect("every buffer in one slot");
}

#[test]
fn a_ring_in_error_is_waited_for_without_spinning() {
    let mut bench = Bench::one_arm(SHAPE);
    bench.front.set_fault(Some(Fault::PollError));
    let begun = Instant::now();
    let mut waits = 0;
    while begun.elapsed() < Duration::from_millis(200) || bench.ports[0].tally().ring_errors < 2 {
        bench.ports[0].wait(Some(Instant::now() + Duration::from_millis(200))).unwrap();
        waits += 1;
        assert!(begun.elapsed() < Duration::from_secs(45), "it does not look again");
    }
    let took = begun.elapsed();
    assert!(waits <= 40 * (1 + took.as_millis() / 200), "{waits} looks in {took:?}");
    bench.front.set_fault(None);
    arrive(&bench, 3);
    bench.drive();
    assert_eq!(bench.front.take_sent(0).len(), 3);
}

#[test]
fn a_wake_ends_the_pause_of_a_ring_in_error() {
    let mut bench = Bench::one_arm(SHAPE);
    bench.front.set_fault(Some(Fault::Refuse(Errno::EIO)));
    for _ in 0..3 {
        bench.wakers[0].wake();
        bench.ports[0].wait(None).unwrap();
    }
    assert_eq!(bench.drive(), 0);
    bench.front.set_fault(None);
    arrive(&bench, 1);
    bench.drive();
    assert_eq!(bench.front.take_sent(0).len(), 1);
}

#[test]
fn an_interface_that_has_gone_ends_the_port() {
    for errno in [Errno::ENXIO, Errno::ENODEV, Errno::EBADF] {
        let mut bench = Bench::one_arm(SHAPE);
        bench.front.set_fault(Some(Fault::Refuse(errno)));
        let failed = bench.ports[0].drive(64, &mut |_, _: &mut [u8]| Verdict::Host);
        assert_eq!(failed.err().and_then(|e| e.raw_os_error()), Some(errno as i32));
    }
}

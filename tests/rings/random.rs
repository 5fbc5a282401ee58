//! Whatever comes in whatever order, every frame is accounted for and every buffer is kept.

use pen_dsr::port::Port;
use pen_dsr::port::netmap::model::{Memory, Nic, Shape};
use pen_dsr::verdict::{DropReason, Verdict};
use proptest::prelude::*;

use crate::harness::Bench;

#[derive(Clone, Debug)]
enum Step {
    /// So many frames arrive, each of so many slots.
    Arrive(u8, u8),
    /// The host sends so many.
    Host(u8),
    /// The next frame's slot has this length.
    Corrupt(u16),
    /// Is anything taken from the tx ring?
    Stuck(bool),
    /// The worker drives with this budget; frames are decided about by these verdicts in turn.
    Drive(u8, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..12u8, 1..4u8).prop_map(|(frames, slots)| Step::Arrive(frames, slots)),
        (1..8u8).prop_map(Step::Host),
        any::<u16>().prop_map(Step::Corrupt),
        any::<bool>().prop_map(Step::Stuck),
        (1..80u8, proptest::collection::vec(0..3u8, 1..8)).prop_map(|(budget, verdicts)| Step::Drive(budget, verdicts)),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_accounted_for(steps in steps(), slots in 5..40u32, shared in any::<bool>(), arms in any::<bool>()) {
        let shape = Shape { pairs: 1, host: true, slots };
        let memory = Memory::new(1024, 2048);
        let front = Nic::in_memory(&memory, shape);
        let back = if shared { Nic::in_memory(&memory, shape) } else { Nic::new(shape) };
        let mut bench = if arms { Bench::two_arms(&front, &back) } else { Bench::one_port(&front) };
        let (mut sent, mut to_host, mut dropped, mut shown) = (0u64, 0u64, 0u64, 0u64);
        let mut host_frames = 0u64;
        for step in steps {
            match step {
                Step::Arrive(frames, slots) => for n in 0..frames {
                    let part = [n; 600];
                    front.arrive_in_parts(0, &vec![&part[..]; usize::from(slots).min(bench_slots(slots))]);
                },
                Step::Host(frames) => for _ in 0..frames {
                    front.host_sends(&[0x77; 60]);
                    host_frames += 1;
                },
                Step::Corrupt(len) => front.corrupt_next(0, None, Some(len.max(2049))),
                Step::Stuck(stuck) => front.set_stuck(0, stuck),
                Step::Drive(budget, verdicts) => {
                    let mut turn = verdicts.iter().cycle();
                    bench.ports[0].drive(usize::from(budget), &mut |_, _: &mut [u8]| {
                        shown += 1;
                        match turn.next() {
                            Some(0) => Verdict::Transmit,
                            Some(1) => Verdict::Host,
                            _ => { dropped += 1; Verdict::Drop(DropReason::Looped) }
                        }
                    }).expect("the model does not fail");
                    let out = front.take_sent(0);
                    sent += out.iter().filter(|frame| frame[0] != 0x77).count() as u64;
                    host_frames -= out.iter().filter(|frame| frame[0] == 0x77).count() as u64;
                    to_host += front.take_host().len() as u64;
                }
            }
            prop_assert_eq!(front.violations(), Vec::<String>::new());
        }
        // What is still on its way.
        front.set_stuck(0, false);
        for _ in 0..40 {
            bench.ports[0].drive(64, &mut |_, _: &mut [u8]| { shown += 1; dropped += 1; Verdict::Drop(DropReason::Looped) })
                .expect("the model does not fail");
            bench.ports[0].wait(Some(std::time::Instant::now())).expect("the model does not fail");
            let out = front.take_sent(0);
            sent += out.iter().filter(|frame| frame[0] < 0x20).count() as u64;
            host_frames -= out.iter().filter(|frame| frame[0] == 0x77).count() as u64;
            to_host += front.take_host().len() as u64;
        }
        let tally = bench.ports[0].tally();
        prop_assert_eq!(sent + to_host + dropped + tally.send_failed, shown + host_frames, "{:?}", tally);
        prop_assert_eq!(front.reinits(), 0);
        prop_assert_eq!(memory.audit(), Ok(()));
        prop_assert_eq!(back.memory().audit(), Ok(()));
    }
}

/// Frames of no more slots than the smallest ring has room for.
fn bench_slots(slots: u8) -> usize {
    usize::from(slots).min(4)
}

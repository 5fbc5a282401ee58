//! On VALE switches, whose ports have memory of their own: frames are copied.

use std::time::Duration;

use crate::ends::End;
use crate::harness::{Machine, machine, wait_until};
use crate::load::{BACKENDS, Load, VIP4, macs, words};

const FRAMES: u32 = 20_000;

/// One frame, so that the switch learns where its sender is.
fn introduce(end: &mut End, mac: [u8; 6]) {
    let greeting = crate::frames::arp([0xff; 6], 1, (mac, "0.0.0.0"), ([0; 6], "192.0.2.9"), crate::frames::Tags::None);
    end.send(&crate::frames::padded(greeting));
}

fn check(machine: &Machine, frames: usize) {
    let transmitted = machine.count("transmitted.frames");
    assert!(transmitted >= frames as u64, "{transmitted} of {frames} and what it asked itself");
    assert_eq!((machine.count("send_failed"), machine.count("overrun")), (0, 0));
}

#[test]
fn on_one_switch_backends_are_found_by_asking_and_served_by_one_port() {
    machine("vale::on_one_switch_backends_are_found_by_asking_and_served_by_one_port", |machine| {
        let switch = format!("vale{}", machine.word());
        let mut ends = [End::open(&format!("{switch}:client")), End::open(&format!("{switch}:servers"))];
        introduce(&mut ends[0], crate::frames::CLIENT);
        // Their MACs are not given.
        let names = BACKENDS.map(|(name, _)| name).join(" ");
        let vips = words().split(" 10.77.0.11").next().expect("the addresses").to_owned();
        let balancer = machine.balancer(&format!("-i {switch}:lb --neighbor-interval 3600 {vips} {names}"));
        let macs = macs(&balancer.output());
        // It asks for all of them, in whatever order; until it knows them, again.
        wait_until("the backends to be up", || {
            let missing = BACKENDS.into_iter().find(|(name, _)| machine.server(name, "state") != "up");
            if let Some((name, mac)) = missing {
                ends[1].answer_for(name, mac);
                ends[1].wait(Duration::from_millis(50));
            }
            missing.is_none()
        });
        assert_eq!(ends[0].resolve(VIP4), macs[0]);
        let account = Load::new(macs[0]).carry(&mut ends, (&[0], &[1]), macs[0], FRAMES);
        assert_eq!(account.by_backend.len(), BACKENDS.len());
        check(machine, FRAMES as usize);
    });
}

#[test]
fn two_switches_are_two_arms() {
    machine("vale::two_switches_are_two_arms", |machine| {
        let (front, back) = (format!("vale{}", machine.word()), format!("vale{}", machine.word()));
        let mut ends = [End::open(&format!("{front}:client")), End::open(&format!("{back}:servers"))];
        introduce(&mut ends[0], crate::frames::CLIENT);
        BACKENDS.iter().for_each(|(_, mac)| introduce(&mut ends[1], *mac));
        let balancer = machine.balancer(&format!("-i {front}:lb -o {back}:lb {}", words()));
        let macs = macs(&balancer.output());
        assert_eq!(ends[0].resolve(VIP4), macs[0], "it answers on the front");
        let account = Load::new(macs[0]).carry(&mut ends, (&[0], &[1]), macs[1], FRAMES);
        assert_eq!(account.by_backend.len(), BACKENDS.len());
        check(machine, FRAMES as usize);
    });
}

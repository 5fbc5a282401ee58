//! A worker for each ring pair.

use nix::sys::signal::Signal;

use crate::ends::End;
use crate::harness::{machine, skipped};
use crate::load::{BACKENDS, Load, macs, words};
use crate::system::Cable;

const FRAMES: u32 = 20_000;

/// Which of two ring pairs' frames arrive by which: on some drivers, all by the first.
fn rings_are_apart(cable: &Cable) -> bool {
    let [near, far] = [0, 1].map(|end| End::open_all(&format!("netmap:{}", cable.ends[end]), 2));
    let (mut near, mut far) = (near, far);
    if near.len() != 2 || far.len() != 2 {
        return false;
    }
    let mut found = [false; 2];
    for _ in 0..20 {
        for (ring, end) in near.iter_mut().enumerate() {
            end.send(&[ring as u8; 60]);
        }
        for (ring, end) in far.iter_mut().enumerate() {
            end.wait(std::time::Duration::from_millis(10));
            end.receive(|frame| found[ring] |= frame.iter().all(|&byte| byte == ring as u8));
        }
    }
    found == [true; 2]
}

#[test]
fn two_workers_share_an_interface() {
    machine("workers::two_workers_share_an_interface", |machine| {
        let cable = match Cable::up(&machine.word()) {
            Ok(cable) => cable,
            Err(why) => return skipped(machine.name, &why),
        };
        if !rings_are_apart(&cable) {
            return skipped(machine.name, "no interface whose ring pairs get frames of their own can be made");
        }
        let [near, far] = &cable.ends;
        let mut balancer = machine.balancer(&format!("-i netmap:{near} --cpus 0,1 {}", words()));
        assert!(balancer.output().contains("2 workers"), "{}", balancer.output());
        let mac = macs(&balancer.output())[0];
        let mut ends = End::open_all(&format!("netmap:{far}"), 2);
        let account = Load::new(mac).carry(&mut ends, (&[0, 1], &[0, 1]), mac, FRAMES);
        assert_eq!(account.by_backend.len(), BACKENDS.len());
        assert!(account.by_end.iter().all(|&frames| frames > 0), "each worker has sent some: {:?}", account.by_end);
        assert!(machine.count("transmitted.frames") >= u64::from(FRAMES), "what both have counted");
        assert_eq!(balancer.end_by(Signal::SIGTERM).code(), Some(0), "{}", balancer.output());
    });
}

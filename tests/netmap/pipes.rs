//! Through netmap pipes: the whole way of a frame, and nothing else.

use crate::ends::End;
use crate::harness::{Machine, machine};
use crate::load::{Account, BACKENDS, Load, VIP4, macs, words};

const FRAMES: u32 = 100_000;

/// The statistics say what the account says.
fn agree(machine: &Machine, account: &Account, frames: u32) {
    let frames = u64::from(frames);
    assert_eq!(account.by_backend.values().sum::<usize>() as u64, frames);
    assert_eq!(account.by_backend.len(), BACKENDS.len(), "all backends are used: {:?}", account.by_backend);
    // It counts its answers to questions, too.
    let own = machine.count("neighbor_answers");
    assert_eq!(machine.count("transmitted.frames"), frames + own, "{}", machine.ask("status"));
    let served = machine.ask("servers");
    for (name, mac) in BACKENDS {
        let counted = served.as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
        let counted = counted.and_then(|one| one["frames"].as_u64());
        assert_eq!(counted, account.by_backend.get(&mac).map(|&frames| frames as u64), "{name}: {served}");
    }
    assert_eq!((machine.count("send_failed"), machine.count("overrun")), (0, 0));
    assert_eq!(machine.count("dropped.malformed") + machine.count("dropped.looped"), 0);
}

#[test]
fn every_frame_passes_between_two_pipes_once_and_unchanged() {
    machine("pipes::every_frame_passes_between_two_pipes_once_and_unchanged", |machine| {
        let pipe = machine.word();
        let balancer = machine.balancer(&format!("-i netmap:{pipe}{{1 -o netmap:{pipe}{{2 {}", words()));
        let mut ends = [End::open(&format!("netmap:{pipe}}}1")), End::open(&format!("netmap:{pipe}}}2"))];
        let macs = macs(&balancer.output());
        assert_eq!(macs.len(), 2);
        assert_eq!(ends[0].resolve(VIP4), macs[0], "it answers for the address that it serves");
        let account = Load::new(macs[0]).carry(&mut ends, (&[0], &[1]), macs[1], FRAMES);
        agree(machine, &account, FRAMES);
    });
}

#[test]
fn every_frame_passes_between_pipes_without_common_memory() {
    machine("pipes::every_frame_passes_between_pipes_without_common_memory", |machine| {
        let (one, other) = (machine.word(), machine.word());
        let balancer = machine.balancer(&format!("-i netmap:{one}}}1 -o netmap:{other}}}1 {}", words()));
        let mut ends = [End::open(&format!("netmap:{one}{{1")), End::open(&format!("netmap:{other}{{1"))];
        let macs = macs(&balancer.output());
        let frames = FRAMES / 5;
        let account = Load::new(macs[0]).carry(&mut ends, (&[0], &[1]), macs[1], frames);
        agree(machine, &account, frames);
    });
}

#[test]
fn one_pipe_carries_both_ways() {
    machine("pipes::one_pipe_carries_both_ways", |machine| {
        let pipe = machine.word();
        let mac = [2, 0x77, 0, 0, 0, 2];
        let balancer = machine.balancer(&format!("-i netmap:{pipe}{{1 --mac 02:77:00:00:00:02 {}", words()));
        assert_eq!(macs(&balancer.output()), [mac], "the MAC that it was given");
        let mut ends = [End::open(&format!("netmap:{pipe}}}1"))];
        let frames = FRAMES / 5;
        let account = Load::new(mac).carry(&mut ends, (&[0], &[0]), mac, frames);
        agree(machine, &account, frames);
    });
}

//! Restarted a hundred times, by all ways to end: nothing is left behind.

use nix::sys::signal::Signal;

use crate::ends::End;
use crate::harness::{Process, machine, wait_until};
use crate::load::{Load, VIP4, macs, words};
use crate::nic::lab_of;
use crate::system;

const ENDS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL];
const RESTARTS: usize = 100;
const NIC_RESTARTS: usize = 10;

fn end(balancer: &mut Process, by: Signal) {
    let status = balancer.end_by(by);
    assert_eq!(status.code(), (by != Signal::SIGKILL).then_some(0), "{by}: {}", balancer.output());
}

/// The kernel's netmap is as much in use as it was `before`; where that takes it a moment, after this.
fn is_used_as(before: &str, when: &str) {
    wait_until(&format!("the kernel's netmap to have {before} users, {when}"), || system::netmap_uses() == before);
}

/// What the kernel's netmap has is what it had after the first restart, which may have been its first use at all.
fn has_what_it_had(first: &mut Option<String>, restart: usize) {
    let first = first.get_or_insert_with(system::netmap_state);
    wait_until(&format!("the kernel's netmap, after {} restarts, to be\n{first}\n", restart + 1), || {
        system::netmap_state() == *first
    });
}

fn exists(interface: &str) -> bool {
    nix::net::if_::if_nametoindex(interface).is_ok()
}

#[test]
fn a_hundred_restarts_on_pipes_leave_nothing() {
    machine("restarts::a_hundred_restarts_on_pipes_leave_nothing", |machine| {
        let pipe = machine.word();
        let before = system::netmap_uses();
        {
            let mut ends = [End::open(&format!("netmap:{pipe}}}1")), End::open(&format!("netmap:{pipe}}}2"))];
            let held = system::netmap_uses();
            let (mut load, mut state) = (None, None);
            for restart in 0..RESTARTS {
                let mut balancer = machine.balancer(&format!("-i netmap:{pipe}{{1 -o netmap:{pipe}{{2 {}", words()));
                let macs = macs(&balancer.output());
                assert_eq!(ends[0].resolve(VIP4), macs[0]);
                let load = load.get_or_insert_with(|| Load::new(macs[0]));
                load.carry(&mut ends, (&[0], &[1]), macs[1], 100);
                end(&mut balancer, ENDS[restart % ENDS.len()]);
                is_used_as(&held, &format!("after {} restarts", restart + 1));
                has_what_it_had(&mut state, restart);
            }
        }
        is_used_as(&before, "with all ports closed");
        assert!(!exists(&pipe), "the pipes' parent has gone with them");
        // All of it can be had again.
        drop([End::open(&format!("netmap:{pipe}}}1")), End::open(&format!("netmap:{pipe}{{1"))]);
    });
}

#[test]
fn restarts_on_an_interface_leave_nothing() {
    machine("restarts::restarts_on_an_interface_leave_nothing", |machine| {
        let before = system::netmap_uses();
        lab_of(machine, |lab| {
            let (mut netmap, interface) = (None, lab.segment.state("lb"));
            for restart in 0..NIC_RESTARTS {
                let mut balancer = lab.balancer("");
                assert!(lab.is_served());
                end(&mut balancer, ENDS[restart % ENDS.len()]);
                // After KILL, its keeper has put it back when it has ended.
                assert_eq!(lab.segment.state("lb"), interface, "after {} restarts", restart + 1);
                has_what_it_had(&mut netmap, restart);
            }
            wait_until("the host alone", || lab.ping());
        });
        // A queue of the emulation's may stay with an interface, after KILL, until that is opened again or gone.
        is_used_as(&before, "without the interface");
    });
}

//! Interfaces that lose their link, or go away, and return.

use crate::harness::wait_until;
use crate::nic::{LB, LB_MAC, lab};
use crate::system;

#[test]
fn a_link_that_was_away_is_used_again() {
    lab("returns::a_link_that_was_away_is_used_again", |lab| {
        let balancer = lab.balancer("");
        assert!(lab.is_served());
        for _ in 0..3 {
            lab.segment.set_link("lb", false);
            std::thread::sleep(std::time::Duration::from_millis(1500));
            lab.segment.set_link("lb", true);
            wait_until("service", || lab.is_served());
        }
        wait_until("the host", || lab.ping());
        if system::LINKS_ARE_SEEN {
            balancer.wait_for("the loss to be noticed", |log| log.contains("the link is down"));
            balancer.wait_for("the return to be noticed", |log| log.contains("the link is back"));
        }
    });
}

#[test]
fn an_interface_that_goes_away_is_opened_again() {
    lab("returns::an_interface_that_goes_away_is_opened_again", |lab| {
        let before = lab.segment.state("lb");
        let mut balancer = lab.balancer("");
        assert!(lab.is_served());
        let descriptors = system::descriptors(balancer.pid());
        let children = system::children(balancer.pid());
        for round in 1..=3 {
            lab.segment.unplug("lb");
            balancer.wait_for("the loss to be noticed", |log| log.matches("has gone").count() >= round);
            lab.segment.plug("lb", LB_MAC);
            lab.segment.add_address("lb", LB);
            balancer.wait_for("its return", |log| log.matches("is back").count() >= round);
            lab.wait_up();
            wait_until("service", || lab.is_served());
            wait_until("the host", || lab.ping());
        }
        assert_eq!(system::descriptors(balancer.pid()), descriptors, "no descriptor was left open");
        assert_eq!(system::children(balancer.pid()).len(), children.len(), "as many processes as before");
        assert_eq!(balancer.end_by(nix::sys::signal::Signal::SIGTERM).code(), Some(0), "{}", balancer.output());
        assert_eq!(lab.segment.state("lb"), before, "offloads of the new one are restored, too");
    });
}

//! Two hundred connections of both families over a balancer that is killed and started again, by whatever driver.

use nix::sys::signal::Signal;

use crate::harness::{BACKENDS, VIP4, VIP6, lab, wait_until};
use crate::load::{Load, serve};

/// By the table of the one that is started, which knows nothing of weights that were given at run time, most connections
/// would be elsewhere.
#[test]
fn what_the_flow_file_knows_survives_kill_and_term() {
    let name = "steady::what_the_flow_file_knows_survives_kill_and_term";
    lab(name, &[], &[], |lab| {
        serve(lab, &["be1", "be2", "be3"]);
        let (flows, control) = (lab.path("flows"), lab.path("lb.sock"));
        let words = ["--flow-file", &flows, "--flow-entries", "65536", "-C", &control, "-r", VIP4, "--vip", VIP6];
        let start = || lab.balancer(&[&words[..], &BACKENDS].concat(), 3);
        let mut balancer = start();
        let loads = [Load::start(lab, VIP4, 100), Load::start(lab, VIP6, 60)];
        lab.ctl("lb.sock", "server 10.0.0.11 weight 9");
        loads.iter().for_each(|load| load.more(20));
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let before: Vec<_> = loads.iter().map(Load::backends).collect();
            // What the kernel alone has seen (driver xdp), pen-dsr is told of from time to time.
            let held = |backend: &&str| lab.server("lb.sock", backend, "flows").parse().unwrap_or(0);
            wait_until("all flows to be known", || BACKENDS.iter().map(held).sum::<usize>() >= 200);
            loads.iter().for_each(Load::mark);
            balancer.signal(signal);
            balancer.end();
            balancer = start();
            for load in &loads {
                load.everybody_is_served();
                println!("{signal}: {} connections, {}", load.living(), load.pause());
                assert!(load.broken().is_empty() && load.refused() == 0, "{signal}: {:?}", load.broken());
            }
            assert_eq!(loads.iter().map(Load::backends).collect::<Vec<_>>(), before, "{signal}: nobody has moved");
        }
    });
}

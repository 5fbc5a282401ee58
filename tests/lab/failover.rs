//! keepalived decides by VRRP which of two balancers serves the VIPs; scripts/failover tells them.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{BACKENDS, Lab, PEN_DSR, Process, VIP4, VIP6, lab, skipped_for_want_of_users, wait_until};
use crate::load::{Load, serve};

/// One of the two machines: pen-dsr, silent until it is told otherwise, and keepalived.
struct Machine<'a> {
    lab: &'a Lab,
    host: &'static str,
    balancer: Process,
    keepalived: Process,
}

impl<'a> Machine<'a> {
    fn start(lab: &'a Lab, host: &'static str, priority: u8) -> Machine<'a> {
        let balancer = balancer(lab, host);
        fs::write(lab.directory.join(format!("{host}.conf")), configuration(lab, host, priority)).expect("a file");
        Machine { lab, host, balancer, keepalived: keepalived(lab, host) }
    }

    /// Does pen-dsr answer for the VIPs, as far as it knows?
    fn is_active(&self) -> bool {
        let (status, mode) = self.lab.try_ctl(&format!("{}.sock", self.host), "mode");
        status.success() && mode.contains("active")
    }

    fn keepalived_said(&self, what: &str) -> usize {
        self.keepalived.output().matches(what).count()
    }
}

fn balancer(lab: &Lab, host: &str) -> Process {
    let control = lab.path(&format!("{host}.sock"));
    let peer = if host == "lb" { "10.0.0.10" } else { "10.0.0.2" };
    let mut words = vec!["-r", "--standby", "--peer", peer, "-C", &control, VIP4, "--vip", VIP6];
    words.extend(BACKENDS);
    lab.balancer_on(host, &words, BACKENDS.len())
}

fn keepalived(lab: &Lab, host: &str) -> Process {
    let file = |what: &str| lab.path(&format!("{host}.{what}"));
    let configuration = file("conf");
    let (main, checker, vrrp) = (file("keepalived"), file("checkers"), file("vrrp"));
    // In the foreground, VRRP alone, log to standard error.
    let words = ["keepalived", "-n", "-l", "-D", "-P", "-f", &configuration, "-p", &main, "-c", &checker, "-r", &vrrp];
    lab.start(host, &words)
}

fn script() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/failover").display().to_string()
}

/// As docs/FAILOVER.md has it, but for the paths, and that a machine which gets no processor for seconds keeps its place.
fn configuration(lab: &Lab, host: &str, priority: u8) -> String {
    let script = format!("{} -p {PEN_DSR} -C {}", script(), lab.path(&format!("{host}.sock")));
    format!(
        "global_defs {{
             router_id {host}
             vrrp_version 3
             script_user root
         }}
         vrrp_script pen-dsr {{
             script \"{script} check\"
             interval 1
             timeout 30
             rise 1
             fall 1
             init_fail
         }}
         vrrp_instance VIPs {{
             interface eth0
             state BACKUP
             nopreempt
             virtual_router_id 100
             priority {priority}
             advert_int 1
             virtual_ipaddress {{
                 10.0.0.20/24
             }}
             track_script {{
                 pen-dsr
             }}
             notify \"{script}\"
         }}
        "
    )
}

#[test]
fn keepalived_fails_the_vips_over_under_traffic() {
    let name = "failover::keepalived_fails_the_vips_over_under_traffic";
    lab(name, &["--standby"], &["keepalived"], |lab| {
        // keepalived sets the groups of its scripts, which such a namespace refuses.
        if skipped_for_want_of_users(name) {
            return;
        }
        serve(lab, &["be1", "be2", "be3"]);
        let mut lb = Machine::start(lab, "lb", 150);
        wait_until("lb to serve", || lb.is_active());
        let mut lb2 = Machine::start(lab, "lb2", 100);
        wait_until("lb2 to know its place", || lb2.keepalived_said("Entering BACKUP STATE") > 0);
        wait_until("lb2 to be silent", || !lb2.is_active());
        let loads = [("IPv4", Load::start(lab, VIP4, 200)), ("IPv6", Load::start(lab, VIP6, 40))];
        let settled = |what: &str| {
            for (family, load) in &loads {
                load.everybody_is_served();
                println!("{what}, {family}: {}", load.pause());
                assert!(load.broken().is_empty(), "{what}: {:?}", load.broken());
                assert_eq!(load.refused(), 0, "{what}");
                load.mark();
            }
        };

        lb.keepalived.signal(Signal::SIGTERM);
        lb.keepalived.end();
        wait_until("lb2 to take over", || lb2.is_active() && !lb.is_active());
        settled("keepalived on the master is ended");

        lb.keepalived = keepalived(lab, "lb");
        wait_until("lb to know its place", || lb.keepalived_said("Entering BACKUP STATE") > 0);
        settled("it returns, and does not preempt");

        lb2.balancer.signal(Signal::SIGKILL);
        wait_until("lb to take over", || lb.is_active());
        settled("pen-dsr on the master is killed");

        lb2.balancer = balancer(lab, "lb2");
        wait_until("lb2 to know its place", || lb2.keepalived_said("Entering BACKUP STATE") > 1);
        wait_until("lb to serve alone", || lb.is_active() && !lb2.is_active());
        settled("it is started again");

        lab.run("sw", &["ip", "link", "set", "lb", "down"]);
        wait_until("lb2 to take over", || lb2.is_active() && !lb.is_active());
        settled("the master's cable is pulled");

        lab.run("sw", &["ip", "link", "set", "lb", "up"]);
        wait_until("lb to know its place", || lb.keepalived_said("Entering BACKUP STATE") > 1);
        settled("it is plugged in again");

        lb2.keepalived.signal(Signal::SIGKILL);
        lb2.keepalived.end();
        wait_until("lb to take over", || lb.is_active() && !lb2.is_active());
        settled("keepalived on the master is killed");
        assert_eq!(loads.each_ref().map(|(_, load)| load.living()), [200, 40]);
    });
}

#[test]
fn a_balancer_that_is_started_again_is_told_again() {
    let name = "failover::a_balancer_that_is_started_again_is_told_again";
    lab(name, &["--backends", "1"], &[], |lab| {
        let control = lab.path("lb.sock");
        let script = script();
        let call = |words: &[&str]| {
            let mut all = vec![script.as_str(), "-p", PEN_DSR, "-C", &control];
            all.extend(words);
            lab.try_run("lb", &all)
        };
        let (status, said) = call(&["check"]);
        assert_eq!(status.code(), Some(69), "nobody answers: {said}");
        let (status, said) = call(&["INSTANCE", "VIPs", "ASLEEP"]);
        assert_eq!(status.code(), Some(64), "{said}");

        let words = ["--standby", "-C", &control, VIP4, BACKENDS[0]];
        let mut balancer = lab.balancer(&words, 1);
        assert!(lab.ctl("lb.sock", "mode").contains("standby"));
        let (status, said) = call(&["carp", "MASTER", "1@eth0"]);
        assert!(status.success(), "{said}");
        assert!(lab.ctl("lb.sock", "mode").contains("active"));

        balancer.signal(Signal::SIGKILL);
        balancer.end();
        let balancer = lab.balancer(&words, 1);
        assert!(lab.ctl("lb.sock", "mode").contains("standby"));
        let (status, said) = call(&["check"]);
        assert!(status.success(), "{said}");
        assert!(lab.ctl("lb.sock", "mode").contains("active"), "{}", balancer.output());
        let (status, said) = call(&["check"]);
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "once is enough");

        let (status, said) = call(&["GROUP", "VIPs", "FAULT", "100"]);
        assert!(status.success(), "{said}");
        assert!(lab.ctl("lb.sock", "mode").contains("standby"));
    });
}

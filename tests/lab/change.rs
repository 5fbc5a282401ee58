//! Two hundred long-lived connections, while everything behind and around them changes.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{BACKENDS, Lab, PEN_DSR, Process, VIP4, lab, wait_until};
use crate::load::{Load, serve};

const HOSTS: [&str; 4] = ["be1", "be2", "be3", "be4"];

/// Writes the configuration file: backends by the last part of their addresses, with their weights.
fn configure(lab: &Lab, backends: &[(u8, u32)]) {
    let mut text = format!("balance.hash-port = true\n\n[[vip]]\naddress = \"{VIP4}\"\n");
    for (last, weight) in backends {
        text += &format!("\n[[backend]]\nhost = \"10.0.0.{last}\"\nweight = {weight}\n");
    }
    // As one should: whoever reads it finds the old one or the new one.
    fs::write(lab.directory.join("new.toml"), text).expect("a configuration");
    fs::rename(lab.directory.join("new.toml"), lab.directory.join("pen-dsr.toml")).expect("a configuration");
}

/// A balancer on `host` that reads that file.
fn start(lab: &Lab, host: &str, options: &[&str], backends: usize) -> Process {
    let (file, control) = (lab.path("pen-dsr.toml"), lab.path(&format!("{host}.sock")));
    let flows = lab.path(&format!("{host}.flows"));
    // Small, as it is looked through at the start, which takes its time in a program that is not optimized.
    let mut words = vec!["-c", &file, "-C", &control, "--flow-file", &flows, "--flow-entries", "65536"];
    words.extend(options);
    lab.balancer_on(host, &words, backends)
}

/// How `servers` says that a backend stands.
fn state(lab: &Lab, backend: &str) -> String {
    lab.server("lb.sock", backend, "state")
}

fn reload(lab: &Lab, balancer: &Process, backends: &[(u8, u32)]) {
    let before = balancer.output().matches("reloaded").count();
    configure(lab, backends);
    balancer.signal(Signal::SIGHUP);
    balancer.wait_for("the reload", |log| log.matches("reloaded").count() > before);
}

/// After `what`, all connections are served, and none has broken.
fn nobody_broke(load: &Load, what: &str) {
    load.everybody_is_served();
    println!("{what}: {}", load.pause());
    assert!(load.broken().is_empty(), "{what}: {:?}", load.broken());
    assert_eq!(load.refused(), 0, "{what}");
    load.mark();
}

/// What opens a flow is told from what belongs to one, so most connections here are soon with another backend than the
/// table would give them.
#[test]
fn two_hundred_connections_live_through_every_change() {
    let name = "change::two_hundred_connections_live_through_every_change";
    lab(name, &["--backends", "4"], &[], |lab| {
        let began = Instant::now();
        serve(lab, &HOSTS);
        let three = [(11, 1), (12, 1), (13, 1)];
        configure(lab, &three);
        let mut balancer = start(lab, "lb", &[], 3);
        let load = Load::start(lab, VIP4, 200);
        println!("200 connections: {:?}", load.spread());
        let served_by = load.backends();

        lab.ctl("lb.sock", "add 10.0.0.14");
        wait_until("the new backend", || state(lab, "10.0.0.14") == "up");
        // Workers hear of it a moment later than who asks how it stands.
        wait_until("new ones to go by the new table", || {
            load.more(20);
            load.spread().contains_key("be4")
        });
        nobody_broke(&load, "a backend is added");
        lab.ctl("lb.sock", "server 10.0.0.11 weight 5");
        nobody_broke(&load, "one gets more weight");
        lab.ctl("lb.sock", "drain 10.0.0.12");
        assert_eq!(state(lab, "10.0.0.12"), "draining");
        let own = load.spread()["be2"];
        load.more(40);
        assert_eq!(load.spread()["be2"], own, "it gets no new ones");
        nobody_broke(&load, "one is drained");
        lab.ctl("lb.sock", "undrain 10.0.0.12");
        nobody_broke(&load, "it is not drained any more");
        reload(lab, &balancer, &three);
        assert_eq!(state(lab, "10.0.0.14"), "leaving");
        nobody_broke(&load, "one is taken off the list, and keeps its connections");
        let closed = load.close("be4");
        nobody_broke(&load, &format!("its {closed} connections are closed"));

        for round in 0..50 {
            let weights = [(11, 1 + round % 5), (12, 1 + round % 3), (13, 2), (14, 3)];
            reload(lab, &balancer, &weights[..if round % 2 == 0 { 4 } else { 3 }]);
        }
        nobody_broke(&load, "50 reloads");
        assert_eq!(load.backends()[..200], served_by, "nobody has moved");

        fs::write(lab.directory.join("pen-dsr.toml"), "[[vip]]\naddress = \"10.0.0.100\"\nwieght = 3\n")
            .expect("a file");
        balancer.signal(Signal::SIGHUP);
        balancer.wait_for("the refusal", |log| log.contains("wieght"));
        let (status, said) = lab.try_run("lb", &[PEN_DSR, "check", "-c", &lab.path("pen-dsr.toml")]);
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains("pen-dsr.toml:3:1") && said.contains("wieght"), "{said}");
        load.more(10);
        nobody_broke(&load, "a reload is refused");

        // By this table, most connections would be elsewhere: only the flow file knows better.
        reload(lab, &balancer, &[(11, 1), (12, 1), (13, 20)]);
        let before = load.backends();
        balancer.signal(Signal::SIGKILL);
        balancer.end();
        balancer = start(lab, "lb", &[], 3);
        nobody_broke(&load, "the balancer is killed and started again");
        assert_eq!(load.backends(), before);

        let own = load.spread()["be3"];
        lab.run("sw", &["ip", "link", "set", "be3", "down"]);
        balancer.wait_for("the loss of a backend", |log| log.contains("10.0.0.13 is down"));
        load.everybody_is_served();
        let broken = load.broken();
        assert_eq!(broken.len(), own, "all of the killed one, and of no other: {broken:?}");
        assert!(broken.iter().all(|broken| broken.backend.as_deref() == Some("be3")), "{broken:?}");
        println!("a backend is killed: {}; its {own} connections are opened again elsewhere", load.pause());
        lab.run("sw", &["ip", "link", "set", "be3", "up"]);
        wait_until("its return", || state(lab, "10.0.0.13") == "up");
        load.everybody_is_served();
        assert_eq!(load.broken().len(), own, "{:?}", load.broken());
        assert_eq!(load.spread().get("be3"), None, "those that were opened elsewhere stay there");
        println!("in all {} connections, {} broken, in {:?}", load.living(), own, began.elapsed());
    });
}

/// The flows that each backend has, as the balancer with that control socket knows them.
fn held(lab: &Lab, socket: &str) -> Vec<String> {
    BACKENDS.iter().map(|backend| lab.server(socket, backend, "flows")).collect()
}

/// Most connections are off the hash, and there is no predecessor: the second balancer knows them only because it is
/// told of flows.
#[test]
fn a_second_balancer_takes_over_and_gives_back() {
    lab("change::a_second_balancer_takes_over_and_gives_back", &["--standby"], &[], |lab| {
        serve(lab, &HOSTS[..3]);
        configure(lab, &[(11, 1), (12, 2), (13, 3)]);
        let first = start(lab, "lb", &["--predecessor", "0", "--peer", "10.0.0.10"], 3);
        let second = start(lab, "lb2", &["--predecessor", "0", "--peer", "10.0.0.2", "--standby"], 3);
        assert!(lab.ctl("lb2.sock", "mode").contains("standby"));
        let load = Load::start(lab, VIP4, 200);
        for socket in ["lb.sock", "lb2.sock"] {
            lab.ctl(socket, "server 10.0.0.11 weight 30");
        }
        load.more(40);
        let digest = |socket: &str| lab.ctl(socket, "table").split(',').next().unwrap_or_default().to_owned();
        assert_eq!(digest("lb.sock"), digest("lb2.sock"), "both have the same table");
        let agree = || wait_until("both to know the same flows", || held(lab, "lb.sock") == held(lab, "lb2.sock"));
        agree();

        // First the one, then the other: for a moment both serve, which is nothing to anybody as they agree.
        lab.ctl("lb2.sock", "takeover");
        lab.ctl("lb.sock", "standby");
        nobody_broke(&load, "the second balancer takes over, then the first goes silent");
        load.more(20);
        agree();
        lab.ctl("lb2.sock", "standby");
        lab.ctl("lb.sock", "takeover");
        nobody_broke(&load, "the second goes silent, then the first takes over");
        first.signal(Signal::SIGUSR2);
        second.signal(Signal::SIGUSR2);
        nobody_broke(&load, "both are told to change by USR2");
        assert!(lab.ctl("lb2.sock", "mode").contains("active") && lab.ctl("lb.sock", "mode").contains("standby"));
        let sent = || ["lb", "lb2"].map(|host| lab.counter(host, "tx_packets"));
        let (before, _) = (sent(), load.more(20));
        let [first_sent, second_sent] = [0, 1].map(|n| sent()[n] - before[n]);
        assert!(first_sent * 5 < second_sent, "the first one is silent: {first_sent}, {second_sent}");

        agree();
        drop(second);
        lab.ctl("lb.sock", "takeover");
        nobody_broke(&load, "the one that serves is killed, the other takes over");
        assert_eq!(load.living(), 280);
    });
}

#[test]
fn draining_ends_by_itself() {
    lab("change::draining_ends_by_itself", &["--backends", "2"], &[], |lab| {
        serve(lab, &HOSTS[..2]);
        let control = lab.path("lb.sock");
        let _balancer = lab.balancer(&["-r", "-C", &control, VIP4, BACKENDS[0], BACKENDS[1]], 2);
        let load = Load::start(lab, VIP4, 40);
        let own = load.spread()["be1"];
        lab.ctl("lb.sock", "drain 10.0.0.11");
        assert_eq!(state(lab, "10.0.0.11"), "draining");
        wait_until("the connections that are left to be known", || {
            lab.server("lb.sock", "10.0.0.11", "flows") == own.to_string()
        });
        load.more(20);
        assert_eq!(load.spread()["be1"], own, "no new ones");
        assert_eq!(load.close("be1"), own);
        wait_until("the end of draining", || state(lab, "10.0.0.11") == "drained");
        nobody_broke(&load, "one of two backends is drained");
        lab.ctl("lb.sock", "undrain 10.0.0.11");
        load.more(40);
        assert!(load.spread()["be1"] > 0, "it takes new ones again");
    });
}

#[test]
fn one_that_is_taken_off_the_list_is_gone_when_its_last_connection_is_forgotten() {
    let name = "change::one_that_is_taken_off_the_list_is_gone_when_its_last_connection_is_forgotten";
    lab(name, &["--backends", "2"], &[], |lab| {
        serve(lab, &HOSTS[..2]);
        configure(lab, &[(11, 1), (12, 1)]);
        let mut text = fs::read_to_string(lab.directory.join("pen-dsr.toml")).expect("a configuration");
        text.insert_str(0, "timeouts.closing = 1\n");
        fs::write(lab.directory.join("pen-dsr.toml"), text).expect("a configuration");
        let _balancer = start(lab, "lb", &[], 2);
        let load = Load::start(lab, VIP4, 20);
        lab.ctl("lb.sock", "remove 10.0.0.12");
        assert_eq!(state(lab, "10.0.0.12"), "leaving");
        nobody_broke(&load, "one of two backends is taken off the list");
        load.close("be2");
        // A round through the flow table takes 16 s.
        let began = Instant::now();
        while state(lab, "10.0.0.12") != "-" {
            assert!(began.elapsed() < Duration::from_secs(120), "it has no connections any more");
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}

#[test]
fn weights_at_run_time_move_no_connection() {
    lab("change::weights_at_run_time_move_no_connection", &["--backends", "2"], &[], |lab| {
        serve(lab, &HOSTS[..2]);
        let control = lab.path("lb.sock");
        let _balancer = lab.balancer(&["-r", "-C", &control, VIP4, BACKENDS[0], BACKENDS[1]], 2);
        let load = Load::start(lab, VIP4, 100);
        let (before, spread) = (load.backends(), load.spread());
        lab.ctl("lb.sock", "server 10.0.0.11 weight 9");
        load.more(100);
        nobody_broke(&load, "a weight of 1 becomes 9");
        let new = load.spread()["be1"] - spread["be1"];
        println!("of 100 connections before, {} went to be1; of 100 after, {new}", spread["be1"]);
        assert_eq!(load.backends()[..100], before);
        // 90 are to be expected; 70 or fewer has a chance of one in ten million.
        assert!(spread["be1"] < 75 && new > 70);
        lab.ctl("lb.sock", "server 10.0.0.11 weight 0");
        load.more(20);
        nobody_broke(&load, "it becomes 0");
        assert_eq!(load.spread()["be1"], spread["be1"] + new, "no new ones");
    });
}

#[test]
fn a_backend_that_returns_starts_slowly() {
    lab("change::a_backend_that_returns_starts_slowly", &["--backends", "2"], &[], |lab| {
        let control = lab.path("lb.sock");
        let words = ["-C", &control, "--neighbor-interval", "1", "--slow-start", "12", VIP4, BACKENDS[0], BACKENDS[1]];
        let balancer = lab.balancer(&words, 2);
        let share = || lab.server("lb.sock", "10.0.0.12", "share").parse::<f64>().expect("a number");
        let whole = share();
        lab.run("sw", &["ip", "link", "set", "be2", "down"]);
        balancer.wait_for("the loss of a backend", |log| log.contains("10.0.0.12 is down"));
        assert_eq!(share(), 0.0);
        lab.run("sw", &["ip", "link", "set", "be2", "up"]);
        let mut shares = vec![0.0];
        wait_until("its whole share", || {
            shares.push(share());
            std::thread::sleep(Duration::from_millis(100));
            shares.last() == Some(&whole)
        });
        shares.dedup();
        println!("shares of a backend that returns, %: {shares:?}");
        assert!(shares.is_sorted(), "it never loses what it has: {shares:?}");
        assert!(shares.len() >= 4, "it has it neither at once nor in one step: {shares:?}");
    });
}

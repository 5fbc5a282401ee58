//! Backends that come and go, and hosts that claim what is ours.

use std::time::{Duration, Instant};

use crate::harness::{BACKENDS, CLIENTS, Lab, VIP4, VIP6, lab, wait_to_see, wait_until};

/// Who serves each of the client's addresses; all have to be served.
fn served(lab: &Lab) -> Vec<String> {
    CLIENTS.map(|n| lab.curl_once(&format!("10.0.0.{n}"), "http://10.0.0.100/").expect("an answer")).into()
}

/// Waits until the client's addresses are served so. (Workers, and a program in the kernel, hear of a change a moment later
/// than the log.)
fn are_served(lab: &Lab, what: &str, good: impl Fn(&[String]) -> bool) {
    let look = || CLIENTS.map(|n| lab.curl(&format!("10.0.0.{n}"), "http://10.0.0.100/").unwrap_or_else(|e| e));
    wait_to_see(what, look, |now| good(now));
}

#[test]
fn a_backend_whose_interface_goes_down_leaves_and_returns() {
    lab("neighbors::a_backend_whose_interface_goes_down_leaves_and_returns", &[], &["nginx", "curl"], |lab| {
        let _web = ["be1", "be2", "be3"].map(|host| lab.nginx(host, b""));
        let mut arguments = vec!["--neighbor-interval", "1", VIP4];
        arguments.extend(BACKENDS);
        let balancer = lab.balancer(&arguments, 3);
        let before = served(lab);
        assert!(before.iter().any(|host| host == "be1"));

        lab.run("be1", &["ip", "link", "set", "eth0", "down"]);
        balancer.wait_for("be1 to leave", |log| log.contains("backend 10.0.0.11 is down"));
        are_served(lab, "only be1's clients to move", |during| {
            let is_right = |(before, during): (&String, &String)| match before.as_str() {
                "be1" => during == "be2" || during == "be3",
                _ => before == during,
            };
            before.iter().zip(during).all(is_right)
        });
        lab.run("be1", &["ip", "link", "set", "eth0", "up"]);
        balancer.wait_for("be1 to return", |log| log.matches("backend 10.0.0.11 is up").count() >= 2);
        are_served(lab, "all clients to be where they were", |now| now == before);
    });
}

#[test]
fn an_unresolvable_backend_costs_the_others_nothing() {
    lab(
        "neighbors::an_unresolvable_backend_costs_the_others_nothing",
        &["--backends", "2"],
        &["nginx", "curl"],
        |lab| {
            let _web = ["be1", "be2"].map(|host| lab.nginx(host, b""));
            let balancer = lab.balancer(&[VIP4, BACKENDS[0], BACKENDS[1], "10.0.0.98"], 2);
            // Right from the start, while the third one is still being asked for: its frames wait, the others' do not.
            let start = Instant::now();
            let first = CLIENTS.map(|n| lab.curl_once(&format!("10.0.0.{n}"), "http://10.0.0.100/"));
            assert!(first.iter().all(Result::is_ok), "{first:?}");
            println!("{} clients were served in {:?}", first.len(), start.elapsed());
            balancer.wait_for("the silent backend to leave", |log| log.contains("backend 10.0.0.98 is down"));
            are_served(lab, "the others to serve all", |now| now.iter().all(|host| host == "be1" || host == "be2"));
            assert!(balancer.statistics().contains("backend 10.0.0.98: down, 0.00 %"));
        },
    );
}

#[test]
fn a_backend_with_another_mac_is_found_again() {
    lab("neighbors::a_backend_with_another_mac_is_found_again", &["--backends", "1"], &["nginx", "curl"], |lab| {
        let _web = lab.nginx("be1", b"");
        let balancer = lab.balancer(&["--neighbor-interval", "1", VIP4, BACKENDS[0]], 1);
        assert_eq!(served(lab)[0], "be1");
        lab.run("be1", &["ip", "link", "set", "eth0", "address", "02:00:00:00:00:77"]);
        balancer.wait_for("the new MAC", |log| log.contains("has moved from 02:00:00:00:00:11 to 02:00:00:00:00:77"));
        assert_eq!(served(lab)[0], "be1");
    });
}

#[test]
fn backends_are_found_by_neighbour_discovery_too() {
    lab("neighbors::backends_are_found_by_neighbour_discovery_too", &["--backends", "2"], &["nginx", "curl"], |lab| {
        let _web = ["be1", "be2"].map(|host| lab.nginx(host, b""));
        let _balancer = lab.balancer(&[VIP6, "--vip", VIP4, "fd00::11", "[fd00::12]"], 2);
        for n in CLIENTS {
            lab.curl_once(&format!("fd00::{n}"), "http://[fd00::100]/").expect("an answer by IPv6");
            lab.curl_once(&format!("10.0.0.{n}"), "http://10.0.0.100/")
                .expect("an answer by IPv4 from the same backends");
        }
    });
}

#[test]
fn another_host_with_the_vip_is_reported() {
    lab("neighbors::another_host_with_the_vip_is_reported", &["--backends", "2"], &[], |lab| {
        lab.run("be2", &["ip", "address", "add", "10.0.0.100/24", "dev", "eth0"]);
        let loud = "for each in all eth0; do echo 0 > /proc/sys/net/ipv4/conf/$each/arp_ignore; done";
        lab.run("be2", &["sh", "-c", loud]);
        let balancer = lab.balancer(&[VIP4, BACKENDS[0]], 1);
        balancer.wait_for("the conflict", |log| log.contains("IS CLAIMED BY ANOTHER HOST, 02:00:00:00:00:12"));
        drop(balancer);
        let balancer = lab.balancer(&[VIP4, BACKENDS[0], BACKENDS[1]], 2);
        lab.run("be2", &["ip", "neigh", "flush", "all"]);
        // A backend that does not keep quiet asks for its clients in the VIP's name.
        wait_until("the backend's name in the report", || {
            lab.try_run("be2", &["ping", "-c", "1", "-W", "1", "-I", "10.0.0.100", "10.0.0.9"]);
            lab.run("be2", &["ip", "neigh", "flush", "all"]);
            balancer.output().contains("IS CLAIMED BY")
        });
        assert!(balancer.output().contains("02:00:00:00:00:12"));
    });
}

#[test]
fn a_first_frame_waits_for_its_backends_mac() {
    lab("neighbors::a_first_frame_waits_for_its_backends_mac", &["--backends", "1"], &["nginx", "curl"], |lab| {
        let _web = lab.nginx("be1", b"");
        // The backend is away when the balancer starts, and its first answer comes half a second late.
        lab.run("be1", &["ip", "link", "set", "eth0", "down"]);
        let balancer = lab.balancer(&[VIP4, BACKENDS[0]], 0);
        std::thread::sleep(Duration::from_millis(200));
        let client = lab.start("client", &["curl", "-sS", "-m", "45", "http://10.0.0.100/"]);
        std::thread::sleep(Duration::from_millis(300));
        lab.run("be1", &["ip", "link", "set", "eth0", "up"]);
        client.wait_for("an answer", |output| output.contains("be1"));
        drop(balancer);
    });
}

//! Addresses that nobody has, as scanners, clients and hosts that come later see them.

use nix::sys::signal::Signal;

use crate::harness::{
    BACKENDS, Lab, Process, VIP4, VIP6, lab, number_after, skipped_for_want_of_users, wait_to_see, wait_until,
};

/// The list: of 10.0.0.0/24 all but 10.0.0.0 to .31, where the lab's hosts are, and the VIP.
const LIST: [&str; 10] = [
    "-O",
    "acl 5 deny 10.0.0.0/27",
    "-O",
    "acl 5 deny 10.0.0.100",
    "-O",
    "acl 5 permit 10.0.0.0 255.255.255.0",
    "-O",
    "acl 5 permit fd00::200/126",
    "-O",
    "tarpit_acl 5",
];
const BALANCER_MAC: &str = "02:00:00:00:00:02";

/// A balancer with a tarpit, for `backends`.
fn balancer(lab: &Lab, backends: &[&str]) -> Process {
    let mut arguments = LIST.to_vec();
    arguments.extend([VIP4, "--vip", VIP6]);
    arguments.extend(backends);
    lab.balancer(&arguments, backends.len())
}

/// Has the client find out who has `address`; waits until it is `mac`.
fn is_found_at(lab: &Lab, address: &str, mac: &str) {
    let look = || {
        lab.try_run("client", &["ping", "-n", "-c", "1", "-W", "1", address]);
        mac_of(lab, address)
    };
    wait_to_see(&format!("{address} at {mac}"), look, |found| found == mac);
}

/// Who the client believes has `address`; empty if it found nobody.
fn mac_of(lab: &Lab, address: &str) -> String {
    let line = lab.run("client", &["ip", "neigh", "show", address]);
    line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
}

#[test]
fn scanners_find_it_open_and_clients_hang_to_their_own_timeout() {
    let name = "tarpit::scanners_find_it_open_and_clients_hang_to_their_own_timeout";
    lab(name, &["--backends", "1"], &["nmap", "curl"], |lab| {
        let _balancer = balancer(lab, &BACKENDS[..1]);
        for (family, address) in [("-4", "10.0.0.200"), ("-4", "10.0.0.77"), ("-6", "fd00::200")] {
            let mut words = vec!["nmap", "-n", "-Pn", "-p", "22,80,31337", address];
            words.extend((family == "-6").then_some(family));
            // nmap has a patience of its own.
            wait_to_see(
                &format!("three open ports of {address}"),
                || lab.run("client", &words),
                |seen| seen.matches("/tcp").count() == 3 && seen.matches(" open ").count() == 3,
            );
        }
        // Nobody answers for an address that the list denies, or does not name.
        for words in [&["10.0.0.20"][..], &["-6", "fd00::204"]] {
            let seen = lab.run("client", &[&["nmap", "-n", "-sn"], words].concat());
            assert!(seen.contains("(0 hosts up)"), "{seen}");
        }
        for url in ["http://10.0.0.201/", "http://[fd00::201]/"] {
            let words = ["curl", "-sS", "-g", "-m", "3", "-w", "connections %{num_connects}", url];
            // Where it has no connection within its three seconds, it is tried anew.
            let connected = |(_, said): &(std::process::ExitStatus, String)| said.contains("connections 1");
            let (status, said) =
                wait_to_see(&format!("a connection to {url}"), || lab.try_run("client", &words), connected);
            assert_eq!(status.code(), Some(28), "its own timeout: {said}");
            assert!(said.contains("with 0 bytes received"), "{said}");
        }
        is_found_at(lab, "10.0.0.202", BALANCER_MAC);
        let (status, said) = lab.try_run("client", &["ping", "-n", "-c", "2", "-W", "1", "10.0.0.202"]);
        assert!(!status.success() && said.contains(" 0 received"), "pings vanish: {said}");
        assert!(!said.contains("nreachable"), "nobody says so: {said}");
        assert_eq!(mac_of(lab, "10.0.0.202"), BALANCER_MAC);
    });
}

#[test]
fn tcpdump_finds_nothing_wrong_with_its_answers() {
    let name = "tarpit::tcpdump_finds_nothing_wrong_with_its_answers";
    lab(name, &["--backends", "1"], &["nmap", "tcpdump"], |lab| {
        if skipped_for_want_of_users(name) {
            return;
        }
        let captured = lab.directory.join("tarpit.pcap").display().to_string();
        // What comes in: what the client itself sends has checksums that are left to its interface.
        let mut capture =
            lab.start("client", &["tcpdump", "-i", "eth0", "-U", "-n", "-Q", "in", "-w", &captured, "tcp"]);
        capture.wait_for("tcpdump", |log| log.contains("listening on"));
        let _balancer = balancer(lab, &BACKENDS[..1]);
        let read = || lab.try_run("client", &["tcpdump", "-n", "-vvv", "-r", &captured]);
        for (words, mss) in [(&["10.0.0.200"][..], "[mss 536]"), (&["-6", "fd00::200"], "[mss 1220]")] {
            let answers = || read().1.matches(mss).count();
            wait_to_see(
                &format!("three answers with {mss}"),
                || {
                    lab.run("client", &[&["nmap", "-n", "-Pn", "-p", "80,81,82"], words].concat());
                    answers()
                },
                |count| *count >= 3,
            );
        }
        // It writes what it has, whole.
        capture.signal(Signal::SIGINT);
        capture.end();
        let (ended, said) = read();
        assert!(ended.success(), "{said}");
        assert_eq!(said.matches("Flags [").count(), said.matches("(correct)").count(), "{said}");
        for complaint in ["incorrect", "bad ", "bad-", "truncated", "[|"] {
            assert!(!said.contains(complaint), "{complaint:?} in {said}");
        }
        assert!(
            said.contains("options [mss 536], length 0") && said.contains("options [mss 1220], length 0"),
            "{said}"
        );
        println!("{}", said.lines().find(|line| line.contains("Flags [S.]")).unwrap_or_default().trim());
    });
}

#[test]
fn addresses_in_use_and_the_vip_are_left_alone() {
    let name = "tarpit::addresses_in_use_and_the_vip_are_left_alone";
    lab(name, &["--backends", "2"], &["nginx", "curl", "ping"], |lab| {
        let _web = ["be1", "be2"].map(|host| lab.nginx(host, b""));
        let _balancer = balancer(lab, &BACKENDS[..2]);
        // An address that the list permits, which this host takes later.
        lab.run("lb", &["ip", "address", "add", "10.0.0.40/24", "dev", "eth0"]);
        wait_until("the host's new address", || {
            lab.try_run("client", &["ping", "-n", "-c", "1", "-W", "1", "10.0.0.40"]).0.success()
        });
        for n in [1, 3, 4] {
            lab.curl_once(&format!("10.0.0.{n}"), "http://10.0.0.100/").expect("the VIP serves");
            lab.curl_once(&format!("fd00::{n}"), "http://[fd00::100]/").expect("the VIP serves by IPv6");
        }
        for (address, mac) in [
            ("10.0.0.11", "02:00:00:00:00:11"),
            ("10.0.0.12", "02:00:00:00:00:12"),
            ("10.0.0.40", BALANCER_MAC),
            ("10.0.0.100", BALANCER_MAC),
        ] {
            lab.run("client", &["ping", "-n", "-c", "1", "-W", "45", address]);
            assert_eq!(mac_of(lab, address), mac, "{address}");
        }
    });
}

#[test]
fn a_host_that_takes_an_address_gets_it() {
    let name = "tarpit::a_host_that_takes_an_address_gets_it";
    lab(name, &["--backends", "2"], &["ping"], |lab| {
        let balancer = balancer(lab, &BACKENDS[..1]);
        // Not a backend any more, but a host that asks in the name of the address that it speaks for.
        let plain = "for each in all eth0; do
            echo 0 >/proc/sys/net/ipv4/conf/$each/arp_ignore; echo 0 >/proc/sys/net/ipv4/conf/$each/arp_announce
            done; echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad";
        lab.run("be2", &["sh", "-c", plain]);
        ["10.0.0.202", "fd00::202"].iter().for_each(|address| is_found_at(lab, address, BALANCER_MAC));

        lab.run("be2", &["ip", "address", "add", "10.0.0.202/24", "dev", "eth0"]);
        lab.run("be2", &["ip", "address", "add", "fd00::202/64", "dev", "eth0"]);
        // The kernel asks whether anybody has the IPv6 address; the tarpit must not say that it has.
        wait_until("the end of duplicate address detection", || {
            !lab.run("be2", &["ip", "-6", "address", "show", "dev", "eth0"]).contains("tentative")
        });
        let addresses = lab.run("be2", &["ip", "-6", "address", "show", "dev", "eth0"]);
        assert!(addresses.contains("fd00::202") && !addresses.contains("dadfailed"), "{addresses}");
        // The first thing that it says for itself.
        lab.run(
            "be2",
            &["sh", "-c", "ping -n -c 1 -W 45 -I 10.0.0.202 10.0.0.9; ping -n -c 1 -W 45 -I fd00::202 fd00::9"],
        );

        // Two answers would be a race: the balancer must not say anything.
        let answers = || number_after(&balancer.statistics(), "answered ");
        let before = answers();
        assert!(before >= 2, "the tarpit's to the client");
        lab.run("client", &["ip", "neigh", "flush", "all"]);
        lab.run("client", &["ping", "-n", "-c", "1", "-W", "45", "10.0.0.202"]);
        lab.run("client", &["ping", "-n", "-c", "1", "-W", "45", "fd00::202"]);
        let host = "02:00:00:00:00:12";
        assert_eq!((mac_of(lab, "10.0.0.202"), mac_of(lab, "fd00::202")), (host.into(), host.into()));
        assert_eq!(answers(), before);
    });
}

#[test]
fn without_permission_in_the_list_nothing_is_a_tarpit() {
    let name = "tarpit::without_permission_in_the_list_nothing_is_a_tarpit";
    lab(name, &["--backends", "1"], &["nmap"], |lab| {
        let words = ["-O", "acl 5 deny 10.0.0.0/24", "-O", "tarpit_acl 5", VIP4, BACKENDS[0]];
        let _balancer = lab.balancer(&words, 1);
        let seen = lab.run("client", &["nmap", "-n", "-sn", "10.0.0.200-203"]);
        assert!(seen.contains("(0 hosts up)"), "{seen}");
    });
}

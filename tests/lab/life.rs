//! The life of the process: signals, user, pid file, the interface that goes away, what is left behind.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::harness::{BACKENDS, Lab, VIP4, lab, skipped_for_want_of_users, wait_until};

/// The nftables rules on the balancer's host.
fn rules(lab: &Lab) -> String {
    lab.run("lb", &["nft", "list", "ruleset"])
}

#[test]
fn it_ends_cleanly_and_leaves_nothing_behind_however_it_ends() {
    lab("life::it_ends_cleanly_and_leaves_nothing_behind_however_it_ends", &["--backends", "1"], &["nft"], |lab| {
        let pidfile = lab.directory.join("pid");
        let pidfile_text = pidfile.display().to_string();
        for (signal, code) in [(Signal::SIGTERM, Some(0)), (Signal::SIGINT, Some(0)), (Signal::SIGKILL, None)] {
            let mut balancer = lab.balancer(&["-p", &pidfile_text, VIP4, BACKENDS[0]], 1);
            assert_eq!(fs::read_to_string(&pidfile).expect("a pid file").trim(), balancer.pid().to_string());
            assert!(rules(lab).contains("pen-dsr-eth0"), "the host's stack is kept from the VIP's frames");
            balancer.signal(signal);
            let status = balancer.end();
            assert_eq!(status.code(), code, "{signal}: {:?}", status.signal());
            wait_until("the rules to go", || !rules(lab).contains("pen-dsr"));
            assert!(code.is_none() || !pidfile.exists(), "the pid file is removed");
        }
        // One that was killed does not keep the next one from starting, but one that runs does.
        let _balancer = lab.balancer(&["-p", &pidfile_text, VIP4, BACKENDS[0]], 1);
        let (status, message) =
            lab.try_run("lb", &[env!("CARGO_BIN_EXE_pen-dsr"), "-i", "eth0", "-p", &pidfile_text, VIP4, BACKENDS[0]]);
        assert_eq!(status.code(), Some(73), "{message}");
        assert!(message.contains("holds it"), "{message}");
    });
}

#[test]
fn another_user_keeps_two_capabilities() {
    lab("life::another_user_keeps_two_capabilities", &["--backends", "1"], &["nginx", "curl"], |lab| {
        if skipped_for_want_of_users("life::another_user_keeps_two_capabilities") {
            return;
        }
        let _web = lab.nginx("be1", b"");
        let balancer = lab.balancer(&["-u", "nobody", VIP4, BACKENDS[0]], 1);
        let status = fs::read_to_string(format!("/proc/{}/status", balancer.pid())).expect("its status");
        let line = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
        };
        assert!(!line("Uid:").starts_with('0'), "{status}");
        // CAP_NET_ADMIN is bit 12, CAP_NET_RAW bit 13.
        assert_eq!((line("CapEff:"), line("CapPrm:")), ("0000000000003000".to_owned(), "0000000000003000".to_owned()));
        assert_eq!(lab.curl("10.0.0.1", "http://10.0.0.100/").as_deref(), Ok("be1"));
    });
}

#[test]
fn an_interface_that_goes_away_is_waited_for() {
    lab("life::an_interface_that_goes_away_is_waited_for", &["--backends", "1"], &["nginx", "curl"], |lab| {
        let _web = lab.nginx("be1", b"");
        let balancer = lab.balancer(&[VIP4, BACKENDS[0]], 1);
        lab.run("lb", &["ip", "link", "delete", "eth0"]);
        balancer.wait_for("the loss to be noticed", |log| log.contains("eth0 has gone"));
        lab.run(
            "lb",
            &["ip", "link", "add", "eth0", "address", "02:00:00:00:00:02", "type", "veth", "peer", "name", "new"],
        );
        lab.run("lb", &["ip", "link", "set", "new", "netns", "/run/netns/sw"]);
        lab.run("sw", &["ip", "link", "set", "new", "master", "br0", "up"]);
        lab.run("lb", &["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]);
        lab.run("lb", &["ip", "link", "set", "eth0", "up"]);
        balancer.wait_for("its return", |log| log.contains("eth0 is back") && log.matches("is up").count() >= 2);
        wait_until("service", || lab.curl("10.0.0.1", "http://10.0.0.100/").is_ok());
    });
}

#[test]
fn the_background_and_the_machine_readable_log() {
    lab("life::the_background_and_the_machine_readable_log", &["--backends", "1"], &[], |lab| {
        let log = lab.directory.join("daemon.log");
        let (pidfile, logfile) = (lab.directory.join("pid").display().to_string(), log.display().to_string());
        lab.run(
            "lb",
            &[
                env!("CARGO_BIN_EXE_pen-dsr"),
                "-i",
                "eth0",
                "--daemon",
                "-p",
                &pidfile,
                "--log-file",
                &logfile,
                "--log-format",
                "json",
                VIP4,
                BACKENDS[0],
            ],
        );
        wait_until("the log", || fs::read_to_string(&log).is_ok_and(|text| text.contains("is up")));
        let text = fs::read_to_string(&log).unwrap_or_default();
        assert!(
            text.lines().all(|line| line.starts_with('{') && line.ends_with('}') && line.contains("\"message\":")),
            "{text}"
        );
        let pid: i32 = fs::read_to_string(&pidfile).expect("a pid file").trim().parse().expect("a number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
        wait_until("its end", || !std::path::Path::new(&pidfile).exists());
    });
}

#[test]
fn a_file_that_is_no_pid_file_is_left_alone() {
    lab("life::a_file_that_is_no_pid_file_is_left_alone", &["--backends", "1"], &[], |lab| {
        let precious = lab.directory.join("precious");
        fs::write(&precious, "not a number\n").expect("a file");
        let words =
            [env!("CARGO_BIN_EXE_pen-dsr"), "-i", "eth0", "-p", &precious.display().to_string(), VIP4, BACKENDS[0]];
        let (status, message) = lab.try_run("lb", &words);
        assert_eq!(status.code(), Some(73), "{message}");
        assert_eq!(fs::read_to_string(&precious).expect("it is still there"), "not a number\n");
    });
}

#[test]
fn thousands_of_addresses_are_served() {
    lab("life::thousands_of_addresses_are_served", &["--backends", "1"], &["nft", "curl", "nginx"], |lab| {
        let _web = lab.nginx("be1", b"");
        let vips: Vec<String> = (0..2000).map(|n| format!("--vip=10.1.{}.{}", n / 200, 1 + n % 200)).collect();
        let mut arguments: Vec<&str> = vips.iter().map(String::as_str).collect();
        arguments.extend([VIP4, BACKENDS[0]]);
        let balancer = lab.balancer(&arguments, 1);
        assert!(rules(lab).contains("10.1.9.200"), "{}", balancer.output());
        assert_eq!(lab.curl("10.0.0.1", "http://10.0.0.100/").as_deref(), Ok("be1"));
    });
}

#[test]
fn without_permission_it_says_what_to_do() {
    lab("life::without_permission_it_says_what_to_do", &["--backends", "1"], &["setpriv"], |lab| {
        let words = [
            "setpriv",
            "--bounding-set",
            "-all",
            "--inh-caps",
            "-all",
            env!("CARGO_BIN_EXE_pen-dsr"),
            "-i",
            "eth0",
            VIP4,
            BACKENDS[0],
        ];
        let (status, message) = lab.try_run("lb", &words);
        assert_eq!(status.code(), Some(77), "{message}");
        assert!(message.contains("CAP_NET_RAW"), "{message}");
    });
}

#[test]
fn an_interface_with_another_mac_is_opened_anew() {
    lab("life::an_interface_with_another_mac_is_opened_anew", &["--backends", "1"], &["nginx", "curl"], |lab| {
        let _web = lab.nginx("be1", b"");
        let balancer = lab.balancer(&[VIP4, BACKENDS[0]], 1);
        lab.curl("10.0.0.1", "http://10.0.0.100/").expect("an answer");
        lab.run("lb", &["ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"]);
        balancer.wait_for("the new MAC", |log| log.contains("eth0 is back") && log.matches("is up").count() == 2);
        // The client learns of it by the announcement.
        wait_until("service", || lab.curl("10.0.0.1", "http://10.0.0.100/").is_ok());
    });
}

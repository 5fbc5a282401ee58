//! The command line as a user meets it: what is wrong is said, with what to do, and the exit code tells scripts.

use std::process::{Command, Output};

fn pen_dsr(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pen-dsr")).args(line.split_whitespace()).output().expect("it starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn wrong_calls_say_what_is_wrong_and_exit_after_sysexits() {
    for (line, code, words) in [
        ("", 64, "virtual address"),
        ("-i eth0", 64, "virtual address"),
        ("10.0.0.100 10.0.0.11", 64, "-i IF"),
        ("-i eth0 10.0.0.100", 64, "no backends"),
        ("-i eth0 be1 be2", 64, "be1"),
        ("-i eth0 10.0.0.300 10.0.0.11", 64, "10.0.0.300"),
        ("-i eth0 10.0.0.100:70000 10.0.0.11", 64, "10.0.0.100:70000"),
        ("-i eth0 224.0.0.9 10.0.0.11", 64, "not the address of one host"),
        ("-i eth0 10.0.0.100:80 10.0.0.11:81", 64, "cannot change ports"),
        ("-i eth0 10.0.0.100 10.0.0.11 10.0.0.11", 64, "same host"),
        ("-i eth0 10.0.0.100 10.0.0.100", 64, "loopback"),
        ("-i eth0 10.0.0.100 10.0.0.11@zz", 64, "MAC"),
        ("-i eth0 10.0.0.100 10.0.0.11:0:0:0:x", 64, "weight"),
        ("-i eth0 10.0.0.100 [fd00::11", 64, "bracket"),
        ("-i eth0 --table-size 65536 10.0.0.100 10.0.0.11", 64, "prime"),
        ("-i eth0 --seed wxyz 10.0.0.100 10.0.0.11", 64, "hexadecimal"),
        ("-i eth0 -U --protocol tcp 10.0.0.100 10.0.0.11", 64, "cannot be used with"),
        ("-i eth0 --neighbor-interval 0 10.0.0.100 10.0.0.11", 64, "neighbor-interval"),
        ("-i eth0 --no-such-option 10.0.0.100 10.0.0.11", 64, "--no-such-option"),
        ("-i eth0 10.0.0.100 no-such-host.invalid", 68, "no-such-host.invalid"),
        ("-i no-such-if 10.0.0.100 10.0.0.11", 69, "no-such-if"),
        ("-i lo 10.0.0.100 10.0.0.11", 69, "not an Ethernet"),
        ("-i no-such-if -u no-such-user 10.0.0.100 10.0.0.11", 67, "no-such-user"),
        ("-r 10.0.0.100 be1 explain 192.0.2.7", 64, "port"),
        ("10.0.0.100 be1 explain 192.0.2.300", 64, "192.0.2.300"),
        ("10.0.0.100 be1 explain 2001:db8::1", 64, "family"),
        ("10.0.0.100 be1 replay /no/such/file.pcap", 66, "/no/such/file.pcap"),
        ("10.0.0.100 be1 replay Cargo.toml", 65, "not a pcap file"),
        ("10.0.0.100 be1 replay tests/data/demo.pcap --write /no/such/dir/out.pcap", 73, "/no/such/dir/out.pcap"),
        ("-i eth0 --vip-mac ff:ff:ff:ff:ff:ff 10.0.0.100 10.0.0.11", 64, "not the address of one station"),
    ] {
        let output = pen_dsr(line);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "pen-dsr {line}: {message}");
        assert!(message.contains(words), "pen-dsr {line}: {message}");
        assert!(!message.contains("panicked"), "pen-dsr {line}: {message}");
    }
}

#[test]
fn check_says_what_would_be_done_wherever_the_words_stand() {
    let words = "-i eth0 -r 10.0.0.100:80 10.0.0.11::::3 10.0.0.12 --check http/health -C /run/x.sock -X";
    let behind = pen_dsr(&format!("check {words}"));
    assert_eq!(behind.status.code(), Some(0), "{}", String::from_utf8_lossy(&behind.stderr));
    for expected in [
        "eth0: 1 virtual address, 2 backends",
        "vip 10.0.0.100:80 (tcp+udp): serves everybody",
        "backend 0 10.0.0.11, weight 3: 75.00 % of the clients",
        "backend 1 10.0.0.12, weight 1: 25.00 % of the clients",
        "the client's address and port",
        "check: http/health (status 200-399) every 2000 ms",
        "commands are taken at /run/x.sock, also to end",
    ] {
        assert!(stdout(&behind).contains(expected), "{expected}: {}", stdout(&behind));
    }
    assert_eq!(stdout(&pen_dsr(&format!("{words} check"))), stdout(&behind));
    let warned = stdout(&pen_dsr("check -i eth0 10.0.0.100 10.0.0.11::::0"));
    assert!(warned.contains("warning: all backends have weight 0: nobody is served"), "{warned}");
}

#[test]
fn without_an_interface_the_words_are_a_listener_and_its_servers() {
    let own = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.pem"), own.cert.pem()).expect("a file");
    std::fs::write(folder.path().join("a.key"), own.signing_key.serialize_pem()).expect("a file");
    let (folder, _keep) = (folder.path().display().to_string(), folder);
    for (line, expected) in [
        (
            "127.0.0.1:8080 127.0.0.1:8001 127.0.0.1:8002:5:9:3:1",
            &[
                "proxy: 1 listener, 2 backends",
                "listener 127.0.0.1:8080 (tcp): serves everybody\n",
                "backend 0 127.0.0.1:8001\n",
                "backend 1 127.0.0.1:8002, weight 3, 5 connections, 9 at most, priority 1\n",
                "selection roundrobin: one after the other; 65536 clients are remembered",
                "check: none",
            ][..],
        ),
        (
            "-U -h -r 53 10.0.0.11",
            &[
                "listener 0.0.0.0:53, every IPv4 address (udp)",
                "listener [::]:53, every IPv6 address (udp)",
                "selection hash: by a hash of the client's address; clients are not remembered",
                "UDP: 20000 clients at most",
            ],
        ),
        (
            "-H --forwarded -E DIR/a.pem -K DIR/a.key -G DIR/a.pem -R -s -T 60 --backend-tls 10.0.0.2:443 10.0.0.11",
            &[
                "http with X-Forwarded-For and -Proto, Forwarded (clients' own replaced)",
                "TLS 1.2 to 1.3 with the certificate DIR/a.pem, clients need one, too",
                "TLS to servers",
                "clients are remembered, for 60 s; whose server cannot serve is refused",
            ],
        ),
        (
            "-i eth0 -r 10.0.0.100 10.0.0.11 --listen 127.0.0.1:80 --transparent -l syslog --log-layout json",
            &[
                "eth0: 1 virtual address, 1 backend",
                "vip 10.0.0.100 (tcp+udp)",
                "listener 127.0.0.1:80 (tcp): serves everybody; transparent",
                "the client's address and port",
                "clients are not remembered",
                "the access log (json) goes to syslog",
            ],
        ),
        (
            "/run/l /run/s 10.0.0.11:80 -a -P",
            &["listener /run/l (tcp)", "backend 0 /run/s\n", "warning: -a has no effect"],
        ),
    ] {
        let checked = pen_dsr(&format!("check {line}").replace("DIR", &folder));
        assert_eq!(checked.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&checked.stderr));
        for part in expected {
            assert!(stdout(&checked).contains(&part.replace("DIR", &folder)), "{line}: {part}: {}", stdout(&checked));
        }
    }
}

#[test]
fn commands_that_cannot_be_given_say_why() {
    for (line, code, words) in [
        ("ctl", 64, "COMMAND"),
        ("ctl -C lb.example:8888 servers", 64, "ADDRESS:PORT"),
        ("ctl -C /no/such/control servers", 69, "/no/such/control"),
        ("ctl --json -C /no/such/control server 0 weight -1", 69, "/no/such/control"),
        ("-c no-such-file ctl servers", 66, "no-such-file"),
        ("10.0.0.100 be1 be2 simulate remove", 64, "something is missing"),
        ("10.0.0.100 be1 be2 simulate servers", 64, "changes nothing for clients"),
        ("10.0.0.100 be1 be2 simulate remove be1, sevrers", 64, "sevrers"),
        ("simulate remove be1", 64, "nothing to balance"),
    ] {
        let output = pen_dsr(line);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "pen-dsr {line}: {message}");
        assert!(message.contains(words), "pen-dsr {line}: {message}");
    }
}

#[test]
fn by_the_name_penctl_it_takes_pens_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let penctl = folder.path().join("penctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pen-dsr"), &penctl).expect("a link");
    for words in [&["/no/such/control", "servers"][..], &["--json", "/no/such/control", "recent", "7"]] {
        let output = Command::new(&penctl).args(words).output().expect("it starts");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{words:?}: {message}");
        assert!(message.contains("/no/such/control"), "{words:?}: {message}");
    }
    let output = Command::new(&penctl).output().expect("it starts");
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn explain_takes_its_configuration_from_a_file_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.toml");
    let text = "[balance]\nhash-port = true\n[[vip]]\naddress = \"10.0.0.100\"\n[[backend]]\nhost = \"be1\"\n[[backend]]\nhost = \"be2\"\n";
    std::fs::write(&file, text).expect("it can be written");
    let by_file = pen_dsr(&format!("explain -c {} 192.0.2.7:4000 192.0.2.8:4000", file.display()));
    let by_words = pen_dsr("-r 10.0.0.100 be1 be2 explain 192.0.2.7:4000 192.0.2.8:4000");
    assert!(by_file.status.success(), "{}", String::from_utf8_lossy(&by_file.stderr));
    assert_eq!(stdout(&by_file).lines().count(), 2);
    assert_eq!(stdout(&by_file), stdout(&by_words));
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "-h", "check -h", "explain --help", "--version"] {
        let output = pen_dsr(line);
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn explain_answers_the_same_wherever_the_configuration_stands() {
    let behind = pen_dsr("explain 192.0.2.7:4000 -r 10.0.0.100 be1 be2");
    let in_front = pen_dsr("-i vtnet1 -r 10.0.0.100 be1 be2 explain 192.0.2.7:4000");
    assert!(behind.status.success(), "{}", String::from_utf8_lossy(&behind.stderr));
    assert_eq!(stdout(&behind), stdout(&in_front));
    assert!(stdout(&behind).starts_with("192.0.2.7:4000 -> be"), "{}", stdout(&behind));
}

#[test]
fn explain_is_the_same_on_every_balancer_whatever_the_order_of_its_backends() {
    let clients: Vec<String> = (1..=50).map(|n| format!("192.0.2.{n}")).collect();
    let ask = |backends: &str| stdout(&pen_dsr(&format!("10.0.0.100 {backends} explain {}", clients.join(" "))));
    let (one, other) = (ask("be1 be2 be3"), ask("be3 be1 be2"));
    assert_eq!(one.lines().count(), 50);
    assert_eq!(one, other);
    assert_ne!(one, ask("--seed 1 be1 be2 be3"));
}

#[test]
fn a_backend_of_weight_zero_gets_no_clients() {
    let clients: Vec<String> = (1..=200).map(|n| format!("192.0.2.{n}")).collect();
    let answers = stdout(&pen_dsr(&format!("10.0.0.100 be1:0:0:0:0 be2 explain {}", clients.join(" "))));
    assert_eq!(answers.matches("-> be2 ").count(), 200);
}

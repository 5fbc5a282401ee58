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
fn help_and_version_are_no_errors() {
    for line in ["--help", "-h", "--version"] {
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

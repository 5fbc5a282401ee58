//! What cannot be opened is refused with the reason and an exit code after sysexits(3).

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::{Machine, PEN_DSR, machine, text};
use crate::nic::lab;
use crate::system::{INTERFACE, NOBODY};

const REST: [&str; 2] = ["10.77.0.100", "10.77.0.11@02:00:00:00:77:11"];

/// `command` fails with `code` and says `words`.
fn refused(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.output().expect("it starts");
    let message = text(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {message}");
    for word in words {
        assert!(message.contains(word), "{command:?} does not say {word:?}: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

fn call(machine: &Machine, port: &str) -> Command {
    let mut command = Command::new(PEN_DSR);
    command.args(["-i", port]).args(REST).current_dir(&machine.directory);
    command
}

#[test]
fn a_port_that_another_has_is_busy() {
    machine("refusals::a_port_that_another_has_is_busy", |machine| {
        let pipe = format!("netmap:{}{{1", machine.word());
        let _first = machine.balancer(&format!("-i {pipe} {}", REST.join(" ")));
        refused(&mut call(machine, &pipe), 69, &[&pipe, "device busy", "another program"]);
        let port = format!("vale{}:lb", machine.word());
        let _end = crate::ends::End::open(&port);
        refused(&mut call(machine, &port), 69, &[&port, "device busy"]);
    });
}

#[test]
fn ports_that_there_are_not_are_named() {
    machine("refusals::ports_that_there_are_not_are_named", |machine| {
        let nowhere = machine.word();
        refused(&mut call(machine, &format!("netmap:{nowhere}")), 69, &[&nowhere]);
        refused(&mut call(machine, &format!("netmap:{nowhere}-0")), 69, &[&nowhere]);
        refused(call(machine, &nowhere).args(["--driver", "netmap"]), 69, &[&nowhere]);
    });
}

#[test]
fn an_interface_in_use_and_rings_beyond_are_refused() {
    lab("refusals::an_interface_in_use_and_rings_beyond_are_refused", |lab| {
        let call = |port: &str| {
            let mut command = lab.segment.command("lb", PEN_DSR);
            command.args(["-i", port]).args(REST);
            command
        };
        let port = format!("netmap:{INTERFACE}");
        let before = lab.segment.state("lb");
        refused(&mut call(&format!("{port}-4711")), 69, &[INTERFACE, "ring pair 4711"]);
        assert_eq!(lab.segment.state("lb"), before, "what was changed for it is as it was");
        let first = lab.balancer("");
        // Its settings hold for both; its rings are the first one's.
        refused(call(&port).arg("--no-ifconfig"), 69, &[&port, "device busy"]);
        refused(&mut call(&port), 69, &[INTERFACE, &format!("process {}", first.pid())]);
        assert!(lab.is_served() && lab.ping(), "the first one goes on");
    });
}

#[test]
fn without_permission_the_device_is_named() {
    machine("refusals::without_permission_the_device_is_named", |machine| {
        // Its folder may be closed to others.
        let copy = machine.path("pen-dsr");
        fs::copy(PEN_DSR, &copy).expect("a copy");
        let mut command = Command::new(copy);
        let pipe = format!("netmap:{}{{1", machine.word());
        command.args(["-i", &pipe]).args(REST).current_dir("/").uid(NOBODY).gid(NOBODY);
        if fs::metadata("/dev/netmap").is_ok_and(|meta| is_open_to_all(&meta)) {
            println!("/dev/netmap is everybody's here: nothing is refused");
            return;
        }
        refused(&mut command, 77, &[&pipe, "/dev/netmap"]);
    });
}

fn is_open_to_all(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o006 == 0o006
}

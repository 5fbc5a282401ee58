//! What the operator does: addresses that change, the places of commands, the end.

use std::fs;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, free_address, patient};
use crate::process::wait_to_see;
use crate::program::{PATIENT, PEN_DSR, Program, listen, server};
use crate::scratch::Scratch;

#[test]
fn a_server_that_moves_is_no_longer_left_out_unless_the_operator_has_said_so() {
    let scratch = Scratch::new("moves");
    let (address, dead) = (free_address(), free_address());
    let server = format!("[[backend]]\nhost = \"one\"\naddress = \"127.0.0.1\"\nport = {}\n", dead.port());
    let toml = format!("{PATIENT}{}{server}", listen(address.to_string(), ""));
    let program = Program::start(&scratch, &toml);
    let state = || program.ctl("server 0");
    let left_out = |answer: &String| answer.contains("blacklisted");

    let client = TcpStream::connect(address).expect("a connection");
    patient(&client);
    wait_to_see("the server is left out", state, left_out);
    program.ctl("server 0 weight 2");
    assert!(left_out(&state()), "it is where it was: {}", state());
    program.ctl("server 0 address 127.0.0.2");
    assert!(!left_out(&state()), "{}", state());

    program.ctl("server 0 blacklist 600");
    program.ctl("server 0 address 127.0.0.1");
    assert!(left_out(&state()), "the operator has said so: {}", state());
}

#[test]
fn commands_are_taken_at_a_port_alone_and_by_localhost_as_pens_users_write_it() {
    let scratch = Scratch::new("penctl");
    let (address, control) = (free_address(), free_address());
    let port = control.port();
    let toml = format!(
        "control = [\"{port}\"]\n{PATIENT}{}{}[balance]\ncontrol-acl = 1\n[acl]\n1 = [\"permit 127.0.0.1\"]\n",
        listen(address.to_string(), ""),
        server("one", free_address())
    );
    let program = Program::start(&scratch, &toml);
    let penctl = scratch.0.join("penctl");
    std::os::unix::fs::symlink(PEN_DSR, &penctl).expect("a link");
    for place in [format!("{port}"), format!("localhost:{port}"), format!("127.0.0.1:{port}")] {
        let answers = [
            Command::new(PEN_DSR).args(["ctl", "-C", &place, "pid"]).output().expect("pen-dsr runs"),
            Command::new(&penctl).args([&place, "pid"]).output().expect("penctl runs"),
        ];
        for answer in answers {
            let said = String::from_utf8_lossy(&answer.stdout).into_owned();
            let complained = String::from_utf8_lossy(&answer.stderr).into_owned();
            assert_eq!(said.trim(), program.process.pid().to_string(), "{place}: {complained}");
        }
    }
    let refused = Command::new(PEN_DSR).args(["ctl", "-C", "lb.example:1", "pid"]).output().expect("pen-dsr runs");
    assert_eq!(refused.status.code(), Some(64), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn what_a_command_has_changed_and_is_written_to_a_file_can_be_read_again() {
    let scratch = Scratch::new("written");
    let toml = format!("{PATIENT}{}{}", listen(free_address().to_string(), ""), server("one", free_address()));
    let program = Program::start(&scratch, &toml);
    let written = scratch.0.join("written.toml");
    program.ctl("source 127.0.0.2");
    program.ctl(&format!("write {}", written.display()));
    let check = Command::new(PEN_DSR).arg("check").arg("-c").arg(&written).output().expect("pen-dsr runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(fs::read_to_string(&written).expect("a file").contains("127.0.0.2"));
}

#[test]
fn the_log_says_at_the_end_that_clients_with_datagrams_are_not_heard_any_more() {
    let scratch = Scratch::new("deaf");
    let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a server");
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a client");
    for socket in [&echo, &client] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    let address = free_address();
    let server = server("one", echo.local_addr().expect("an address"));
    let toml = format!("{PATIENT}udp = 600\n{}{server}", listen(address.to_string(), "protocol = \"udp\""));
    let mut program = Program::start(&scratch, &toml);
    client.send_to(b"x", address).expect("a datagram is sent");
    echo.recv(&mut [0; 8]).expect("it comes");
    program.process.signal(Signal::SIGTERM);
    assert!(program.process.end().success());
    let log = program.process.output();
    assert!(log.contains("; 1 clients with datagrams are not heard any more"), "{log}");
}

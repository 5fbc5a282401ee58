//! The client: answers as they are, failures with their exit codes, and what cannot be reached with a remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use pen_dsr::control::client::ask;
use pen_dsr::failure::Sysexit;

use super::*;

#[test]
fn answers_and_failures_arrive_as_they_were_given() {
    let bench = Bench::new();
    for address in bench.server().addresses() {
        let command = "server \"be1\" weight 3 \\ ü";
        assert_eq!(ask(address, command).unwrap(), Answer::plain(command), "{address}");
        assert_eq!(ask(address, "fail no such server"), Err(Failure::usage("no such server")), "{address}");
        assert_eq!(ask(address, "large 3000000").unwrap().text.len(), 3_000_000, "{address}");
    }
    let unix = &bench.server().addresses()[0];
    for bad in ["", "  ", "a\nb", "a\0b"] {
        assert_eq!(ask(unix, bad).unwrap_err().code, Sysexit::Usage, "{bad:?}");
    }
    assert!(ask(unix, &"x".repeat(100_000)).unwrap_err().message.contains("longer than"));
}

#[test]
fn what_cannot_be_reached_is_named_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), "").unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    // Bound, so that no other test gets it, but not listened on.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = silent.local_addr().unwrap().as_socket().unwrap();
    for (address, words) in [
        (ControlAddress::Unix(path("missing")), "no such socket: start pen-dsr"),
        (ControlAddress::Unix(path("file")), "is no socket"),
        (ControlAddress::Unix(path("stale")), "nobody listens"),
        (ControlAddress::Tcp(port), "nobody listens"),
    ] {
        let failure = ask(&address, "servers").unwrap_err();
        assert_eq!(failure.code, Sysexit::Unavailable, "{failure}");
        assert!(failure.message.contains(words) && failure.message.contains(&address.to_string()), "{failure}");
    }
}

#[test]
fn somebody_elses_socket_is_not_permitted() {
    if is_root() {
        println!("SKIPPED: root may use every socket");
        return;
    }
    let bench = Bench::new();
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o000)).unwrap();
    let failure = ask(&bench.server().addresses()[0], "servers").unwrap_err();
    assert_eq!(failure.code, Sysexit::NoPerm, "{failure}");
}

#[test]
fn a_host_that_the_list_does_not_permit_is_told_what_is_missing() {
    let bench = Bench::new();
    *bench.acl.write() = None;
    let tcp = ControlAddress::Tcp(bench.tcp()[0]);
    // The server may close before, while or after the command is sent.
    for _ in 0..50 {
        let failure = ask(&tcp, "servers").unwrap_err();
        assert_eq!(failure.code, Sysexit::Unavailable);
        assert!(failure.message.contains("control_acl"), "{failure}");
    }
}

#[test]
fn other_programs_are_not_mistaken_for_pen_dsr() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let replies: [(&[u8], &str); 5] = [
        (b"", "closed without an answer"),
        (b"220 mail ESMTP\r\n", "220 mail ESMTP"),
        (b"\xff\xfe\xfd", "no answer of pen-dsr"),
        (b"{\"ok\":true", "no answer of pen-dsr"),
        (b"error: no such command\n", "no such command"),
    ];
    let other = thread::spawn(move || {
        for (reply, _) in replies {
            let mut stream = listener.accept().unwrap().0;
            let mut heard = String::new();
            stream.read_to_string(&mut heard).expect("the client says when it has said all");
            assert_eq!(heard, "{\"command\":\"servers\"}\n");
            stream.write_all(reply).unwrap();
        }
    });
    for (reply, words) in replies {
        let failure = ask(&ControlAddress::Unix(path.clone()), "servers").unwrap_err();
        assert_eq!(failure.code, Sysexit::Unavailable);
        assert!(failure.message.contains(words), "{}: {failure}", String::from_utf8_lossy(reply));
    }
    other.join().unwrap();
}

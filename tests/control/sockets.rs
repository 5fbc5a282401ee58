//! The sockets: who may use them, what stands in their way, what is left when the server ends.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};

use nix::unistd::User;
use pen_dsr::failure::Sysexit;

use super::*;

fn open(path: &Path) -> Result<Listeners, Failure> {
    Listeners::open(&[ControlAddress::Unix(path.to_owned())], None)
}

#[test]
fn a_unix_socket_is_its_owners_alone() {
    let bench = Bench::new();
    let found = fs::symlink_metadata(bench.path()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(found.uid(), nix::unistd::geteuid().as_raw());
}

#[test]
fn a_unix_socket_belongs_to_whom_the_process_will_run_as() {
    if !is_root() {
        println!("SKIPPED: giving a socket to another user takes root");
        return;
    }
    let Ok(Some(nobody)) = User::from_name("nobody") else {
        println!("SKIPPED: there is no user nobody");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listeners = Listeners::open(&[ControlAddress::Unix(path.clone())], Some(&nobody)).unwrap();
    let found = fs::symlink_metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid()), (nobody.uid.as_raw(), nobody.gid.as_raw()));
    assert_eq!(found.mode() & 0o7777, 0o600);
}

#[test]
fn a_socket_cannot_be_given_away_without_privileges() {
    let Ok(Some(root)) = User::from_uid(0.into()) else {
        println!("SKIPPED: there is no user 0");
        return;
    };
    if is_root() {
        println!("SKIPPED: root may give sockets away");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let failure = Listeners::open(&[ControlAddress::Unix(path.clone())], Some(&root)).unwrap_err();
    assert_eq!(failure.code, Sysexit::NoPerm, "{failure}");
    assert!(!path.exists(), "nothing is left of the attempt");
}

#[test]
fn the_socket_goes_with_the_server() {
    let mut bench = Bench::new();
    let (path, tcp) = (bench.path(), bench.tcp());
    assert!(path.exists());
    bench.server = None;
    assert!(!path.exists());
    for address in tcp {
        assert!(TcpStream::connect(address).is_err(), "{address}");
    }
}

#[test]
fn sockets_that_are_never_served_go_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(open(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn somebody_elses_file_in_the_same_place_stays() {
    let mut bench = Bench::new();
    let path = bench.path();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    bench.server = None;
    assert!(path.exists());
    drop(other);
}

#[test]
fn a_socket_that_may_not_be_removed_any_more_is_left() {
    if is_root() {
        println!("SKIPPED: root may remove every file");
        return;
    }
    let mut bench = Bench::new();
    let directory = bench.directory.path().to_owned();
    let set_mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o500);
    bench.server = None;
    assert!(bench.path().exists());
    set_mode(0o700);
    drop(open(&bench.path()).expect("the next start takes its place"));
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let before = fs::symlink_metadata(&path).expect("it is left behind").mode();
    assert_ne!(before & 0o777, 0o600, "of another mode, to be told from the new one");
    let _listeners = open(&path).unwrap();
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_is_in_use_or_no_socket_is_an_error_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let listener = UnixListener::bind(path("live")).unwrap();
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    fs::write(path("file"), "precious").unwrap();
    fs::create_dir(path("folder")).unwrap();
    symlink(path("live"), path("link")).unwrap();
    symlink(path("nothing"), path("dangling")).unwrap();
    for (name, word) in [
        ("live", "another program listens"),
        ("datagram", "another program listens"),
        ("file", "no socket"),
        ("folder", "no socket"),
        ("link", "no socket"),
        ("dangling", "no socket"),
    ] {
        let before = fs::symlink_metadata(path(name)).unwrap();
        let failure = open(&path(name)).unwrap_err();
        assert_eq!(failure.code, Sysexit::CantCreat, "{failure}");
        let message = &failure.message;
        assert!(message.contains(word) && message.contains(path(name).to_str().unwrap()), "{name}: {message}");
        let after = fs::symlink_metadata(path(name)).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()), "{name}");
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
    assert!(!path("nothing").exists());
    assert!(listener.set_nonblocking(true).is_ok() && listener.accept().is_ok(), "it was asked, no more");
}

/// Whoever hangs may not make the next one hang.
#[cfg(target_os = "linux")]
#[test]
fn a_server_that_does_not_accept_is_in_use_all_the_same() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = SockAddr::unix(&path).unwrap();
    let hanging = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    hanging.bind(&address).unwrap();
    hanging.listen(1).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&address).is_err() {
            break;
        }
        waiting.push(socket);
        assert!(waiting.len() < 100, "there is room for few");
    }
    assert!(open(&path).unwrap_err().message.contains("another program listens"));
}

#[test]
fn addresses_that_cannot_be_had_are_named_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/socket");
    let too_long = directory.path().join("x".repeat(200));
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().map(|address| (address, taken)).unwrap();
    for (address, code, words) in [
        (ControlAddress::Unix(missing.clone()), Sysexit::CantCreat, "directory"),
        (ControlAddress::Unix(too_long), Sysexit::CantCreat, "-C"),
        (ControlAddress::Tcp(taken.0), Sysexit::Unavailable, "another port"),
        // TEST-NET-1: no host has it.
        (ControlAddress::Tcp("192.0.2.1:8888".parse().unwrap()), Sysexit::Unavailable, "address of this host"),
    ] {
        let failure = Listeners::open(std::slice::from_ref(&address), None).unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(&address.to_string()) && failure.message.contains(words), "{failure}");
    }
    // All or nothing: the first one of two is closed again.
    let first = directory.path().join("first");
    Listeners::open(&[ControlAddress::Unix(first.clone()), ControlAddress::Unix(missing)], None).unwrap_err();
    assert!(!first.exists());
    let twice = [ControlAddress::Unix(first.clone()), ControlAddress::Unix(first)];
    assert!(Listeners::open(&twice, None).unwrap_err().message.contains("another program listens"));
}

#[test]
fn without_addresses_nothing_is_asked_and_the_channel_stays_open() {
    let (server, requests) = Server::listen(&[], None, Arc::default()).unwrap();
    assert_eq!(requests.try_recv().unwrap_err(), crossbeam_channel::TryRecvError::Empty);
    drop(server);
    assert_eq!(requests.try_recv().unwrap_err(), crossbeam_channel::TryRecvError::Disconnected);
}

#[test]
fn tcp_is_for_those_that_the_list_permits() {
    let bench = Bench::new();
    for address in bench.tcp() {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        assert_eq!(Client(BufReader::new(stream)).ask("a")["ok"], true, "{address}");
    }
    assert_eq!(bench.server().refused(), 0);
    let mut count = 0;
    for list in [None, Some(permit(&[])), Some(permit(&["10.0.0.0/8", "fd00::/8"]))] {
        *bench.acl.write() = list;
        for address in bench.tcp() {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(HANG)).unwrap();
            assert_eq!(Client(BufReader::new(stream)).rest(), "", "{address}: closed before it has said anything");
            count += 1;
            assert_eq!(bench.server().refused(), count);
        }
        bench.assert_alive();
    }
    assert_eq!(bench.seen.try_iter().filter(|line| line == "a").count(), bench.tcp().len());
}

#[test]
fn a_list_that_changes_ends_what_it_does_not_permit_any_more() {
    let bench = Bench::new();
    let (mut tcp, mut unix) = (bench.connect_tcp(), bench.connect());
    assert_eq!(tcp.ask("a")["ok"], true);
    assert_eq!(unix.ask("a")["ok"], true);
    *bench.acl.write() = None;
    tcp.say("{\"command\":\"b\"}\n");
    assert_eq!(tcp.rest(), "");
    assert_eq!(unix.ask("c")["ok"], true);
    assert_eq!(bench.seen.try_iter().collect::<Vec<_>>(), ["a", "a", "c"]);
    assert_eq!(bench.server().refused(), 1);
}

//! The proxy's checks of its servers, over real sockets on the loopback.

#[path = "proxy_check/servers.rs"]
mod servers;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use pen_dsr::config::proxy::Address;
use pen_dsr::health::{Change, Direct, Policy, Reason, State, Streak, Trouble};
use pen_dsr::probe::{Check, HTTP_STATUS};
use pen_dsr::proxy::check::{Checked, Checker, Standing};
use servers::{answer, loopback, tcp, udp, unix};
use socket2::{Domain, Socket, Type};

/// Nothing takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is answered is answered in time, however busy the machine is. A timeout is no longer than the interval.
const POLICY: Policy = Policy {
    interval: Duration::from_secs(20),
    timeout: Duration::from_secs(20),
    rise: 2,
    fall: 2,
    jitter: 0,
    doubt: Duration::from_millis(10),
};

/// For those that do not answer, and where the next check is waited for: longer than the machine may stand still between a
/// question and what is said of it.
const HASTY: Policy = Policy { interval: Duration::from_secs(3), timeout: Duration::from_secs(3), ..POLICY };

fn checked(id: u32, at: impl Into<Target>, check: Check) -> Checked {
    Checked { id, at: at.into().0, source: None, check, policy: POLICY }
}

struct Target(Address);

impl From<SocketAddr> for Target {
    fn from(at: SocketAddr) -> Target {
        Target(Address::Ip(at))
    }
}

impl From<&Path> for Target {
    fn from(at: &Path) -> Target {
        Target(Address::Unix(at.to_owned()))
    }
}

fn start(servers: Vec<Checked>) -> (Checker, Receiver<(u32, Change)>) {
    let (sender, receiver) = unbounded();
    (Checker::start(servers, sender).expect("a checker"), receiver)
}

fn next(changes: &Receiver<(u32, Change)>) -> (u32, Change) {
    changes.recv_timeout(PATIENCE).expect("a change")
}

/// What becomes of a server at `at` that is asked `check`.
fn verdict(at: impl Into<Target>, check: Check) -> Result<(), Reason> {
    verdict_by(POLICY, at, check)
}

/// The same, by this policy.
fn verdict_by(policy: Policy, at: impl Into<Target>, check: Check) -> Result<(), Reason> {
    let (_checker, changes) = start(vec![Checked { policy, ..checked(7, at, check) }]);
    match next(&changes) {
        (7, Change::Up) => Ok(()),
        (7, Change::Down(reason)) => Err(reason),
        other => panic!("{other:?}"),
    }
}

/// What has happened at whose place, if that is why it is down.
fn trouble(verdict: Result<(), Reason>) -> (String, Trouble) {
    match verdict {
        Err(Reason::Direct(Direct { at, trouble })) => (at, trouble),
        other => panic!("{other:?}"),
    }
}

fn wait_for(checker: &Checker, id: u32, what: impl Fn(&Standing) -> bool) -> Standing {
    let begin = Instant::now();
    loop {
        let standing = checker.standing(id).expect("it is checked");
        if what(&standing) {
            return standing;
        }
        assert!(begin.elapsed() < PATIENCE, "still {standing:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn http(path: &str, body: Option<&str>) -> Check {
    Check::Http { port: None, path: path.to_owned(), host: None, status: HTTP_STATUS, body: body.map(str::to_owned) }
}

fn dns() -> Check {
    Check::Dns { port: None, name: "www.example.org".to_owned() }
}

/// A port where nothing listens, nor ever will: a socket has it that is never asked to.
fn nobody() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&loopback().into()).expect("a socket");
    let at = socket.local_addr().expect("a socket").as_socket().expect("a socket");
    std::mem::forget(socket);
    at
}

#[test]
fn a_server_goes_down_when_it_dies_and_comes_up_again() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let at = listener.local_addr().unwrap();
    let server = Checked { policy: HASTY, ..checked(1, at, Check::Tcp { port: None }) };
    let (checker, changes) = start(vec![server]);
    assert_eq!(next(&changes), (1, Change::Up));
    drop(listener);
    let refused = Reason::Direct(Direct { at: at.to_string(), trouble: Trouble::Refused });
    assert_eq!(next(&changes), (1, Change::Down(refused.clone())));
    let standing = checker.standing(1).unwrap();
    assert!(standing.state == State::Down && standing.reason == Some(refused), "{standing:?}");
    assert!(matches!(standing.streak, Streak::Failures(2..)), "{standing:?}");
    let _listener = TcpListener::bind(at).unwrap();
    assert_eq!(next(&changes), (1, Change::Up));
    assert_eq!(checker.standings()[&1].state, State::Up);
}

#[test]
fn http_answers_are_judged() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall is fine";
    assert_eq!(verdict(tcp(answer(page)), http("/", None)), Ok(()));
    assert_eq!(verdict(tcp(answer(page)), http("/", Some("is fin"))), Ok(()));
    type Case<'a> = (&'a str, Check, fn(&Trouble) -> bool);
    let cases: [Case<'_>; 7] = [
        (page, http("/", Some("mine")), |t| matches!(t, Trouble::Body(wanted) if wanted == "mine")),
        ("HTTP/1.1 503 No\r\n\r\n", http("/", None), |t| *t == Trouble::Status(503, 200..=399)),
        ("SSH-2.0-x\r\n", http("/", None), |t| matches!(t, Trouble::Malformed(_))),
        ("HTTP/1.1 200 OK\r\n", http("/", None), |t| *t == Trouble::Closed { reset: false }),
        ("", http("/", None), |t| *t == Trouble::Closed { reset: false }),
        ("HTTP/1.1 200 OK\r\n...", http("/", None), |t| *t == Trouble::Slow(HASTY.timeout)),
        ("...", http("/", None), |t| *t == Trouble::Hang(HASTY.timeout)),
    ];
    for (text, check, is_right) in cases {
        let at = tcp(answer(text));
        let policy = if text.ends_with("...") { HASTY } else { POLICY };
        let (place, trouble) = trouble(verdict_by(policy, at, check));
        assert!(place == at.to_string() && is_right(&trouble), "{text:?}: {trouble:?}");
    }
    assert_eq!(trouble(verdict(nobody(), http("/", None))).1, Trouble::Refused);
}

#[test]
fn an_answer_longer_than_any_buffer_is_read_to_its_end() {
    let page = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}the end", "x".repeat(60_000));
    assert_eq!(verdict(tcp(answer(&page)), http("/", Some("the end"))), Ok(()));
}

#[test]
fn the_request_names_the_path_and_the_server() {
    let (sender, heads) = mpsc::channel();
    let at = tcp(move |stream| {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap_or(0);
        let _ = sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
    });
    let (_checker, _changes) = start(vec![checked(1, at, http("/health?a=b", None))]);
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("GET /health?a=b HTTP/1.1\r\n") && head.contains(&format!("Host: {at}\r\n")), "{head}");
}

#[test]
fn unix_sockets_are_asked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server");
    let missing = trouble(verdict(path.as_path(), Check::Tcp { port: None }));
    assert_eq!(missing, (path.display().to_string(), Trouble::NoSocket));
    let listener = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert_eq!(trouble(verdict(path.as_path(), http("/", None))).1, Trouble::Refused);
    let path = folder.path().join("other");
    unix(&path, answer("HTTP/1.1 200 OK\r\n\r\nfine"));
    for check in [http("/", Some("fine")), Check::Tcp { port: Some(1) }, Check::Tcp { port: None }, Check::Icmp, dns()]
    {
        assert_eq!(verdict(path.as_path(), check), Ok(()));
    }
    assert_eq!(trouble(verdict(path.as_path(), http("/", Some("well")))).1, Trouble::Body("well".to_owned()));
}

#[test]
fn datagrams_are_answered_or_not() {
    let check = |expect: &[u8]| Check::Udp { port: None, payload: b"ping".to_vec(), expect: expect.to_vec() };
    let echo = || udp(|bytes| Some([b"<", bytes, b">"].concat()));
    assert_eq!(verdict(echo(), check(b"")), Ok(()));
    assert_eq!(verdict(echo(), check(b"<ping>")), Ok(()));
    assert_eq!(trouble(verdict(echo(), check(b"pong"))).1, Trouble::Mismatch);
    assert_eq!(trouble(verdict_by(HASTY, udp(|_| None), check(b""))).1, Trouble::NoAnswer(HASTY.timeout));
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    assert_eq!(trouble(verdict(gone, check(b""))).1, Trouble::Refused);
}

#[test]
fn a_lost_datagram_fails_no_check() {
    let mut count = 0;
    let at = udp(move |bytes| {
        count += 1;
        (count % 3 == 0).then(|| bytes.to_vec())
    });
    let check = Check::Udp { port: None, payload: b"ping".to_vec(), expect: Vec::new() };
    let policy = Policy { timeout: Duration::from_secs(9), ..POLICY };
    assert_eq!(verdict_by(policy, at, check), Ok(()));
}

#[test]
fn name_servers_are_judged_by_their_response_code() {
    let server = |code: u8| {
        udp(move |query| {
            let mut answer = query.to_vec();
            answer[2] |= 0x80;
            answer[3] = code;
            Some(answer)
        })
    };
    assert_eq!(verdict(server(0), dns()), Ok(()));
    assert_eq!(verdict(server(3), dns()), Ok(()));
    assert_eq!(trouble(verdict(server(2), dns())).1, Trouble::Dns(2));
    let garbage = udp(|_| Some(b"what?".to_vec()));
    // A better answer could still come.
    assert_eq!(trouble(verdict_by(HASTY, garbage, dns())).1, Trouble::DnsMalformed);
}

#[test]
fn hosts_answer_echo_requests() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        match verdict(address.parse::<SocketAddr>().unwrap(), Check::Icmp) {
            Ok(()) => {}
            Err(Reason::NotAsked { why }) => println!("SKIPPED: {why}"),
            // A namespace whose loopback has no IPv6.
            Err(Reason::Direct(Direct { trouble: Trouble::Unreachable(why), .. })) if address.starts_with('[') => {
                println!("SKIPPED: {why}");
            }
            Err(other) => panic!("{address}: {other}"),
        }
    }
}

#[test]
fn checks_come_from_the_address_that_was_asked_for() {
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    if let Err(error) = UdpSocket::bind((source, 0)) {
        println!("SKIPPED: {source} cannot be used here: {error}");
        return;
    }
    let listener = TcpListener::bind(loopback()).unwrap();
    let server =
        Checked { source: Some(source), ..checked(1, listener.local_addr().unwrap(), Check::Tcp { port: None }) };
    let (_checker, changes) = start(vec![server.clone()]);
    assert_eq!(listener.accept().unwrap().1.ip(), source);
    assert_eq!(next(&changes), (1, Change::Up));
    let (sender, sources) = mpsc::channel();
    let socket = UdpSocket::bind(loopback()).unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || sender.send(socket.recv_from(&mut [0; 9]).unwrap().1.ip()));
    let check = Check::Udp { port: None, payload: b"ping".to_vec(), expect: Vec::new() };
    let (_checker, _changes) = start(vec![Checked { source: Some(source), ..checked(1, at, check) }]);
    assert_eq!(sources.recv_timeout(PATIENCE), Ok(source));
    // TEST-NET-1 (RFC 5737) is nobody's.
    let (_checker, changes) = start(vec![Checked { source: Some([192, 0, 2, 1].into()), ..server }]);
    let (_, Change::Down(Reason::NotAsked { why })) = next(&changes) else { panic!("it was asked") };
    assert!(why.contains("are to come from"), "{why}");
}

#[test]
fn the_port_of_the_check_counts_before_the_servers_own() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(verdict(nobody(), Check::Tcp { port: Some(port) }), Ok(()));
    let at = SocketAddr::new(loopback().ip(), 0);
    assert!(matches!(verdict(at, Check::Tcp { port: None }), Err(Reason::NotAsked { .. })));
}

#[test]
fn a_failed_connection_brings_the_next_check_forward() {
    let patient = Policy { interval: Duration::from_secs(3600), ..POLICY };
    let listener = TcpListener::bind(loopback()).unwrap();
    let at = listener.local_addr().unwrap();
    let (checker, changes) = start(vec![Checked { policy: patient, ..checked(1, at, Check::Tcp { port: None }) }]);
    assert_eq!(next(&changes), (1, Change::Up));
    drop(listener);
    checker.hurry(1);
    checker.hurry(1);
    checker.hurry(99);
    assert!(matches!(next(&changes), (1, Change::Down(_))));
}

#[test]
fn without_a_check_nobody_is_asked_and_the_server_is_up() {
    let listener = TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let (checker, changes) = start(vec![checked(1, at, Check::Link), checked(2, nobody(), Check::Tcp { port: None })]);
    assert!(matches!(next(&changes), (2, Change::Down(_))));
    assert_eq!(checker.standing(1).map(|standing| standing.state), Some(State::Up));
    assert!(listener.accept().is_err(), "it was asked");
    assert!(changes.is_empty());
}

#[test]
fn servers_come_go_and_change_at_run_time() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let (up, down) = (listener.local_addr().unwrap(), nobody());
    let tcp = Check::Tcp { port: None };
    let (checker, changes) = start(vec![checked(1, up, tcp.clone())]);
    assert_eq!(next(&changes), (1, Change::Up));
    // One more; the first is asked no more and forgotten.
    checker.set(vec![checked(2, down, tcp.clone())]);
    assert!(matches!(next(&changes), (2, Change::Down(_))));
    assert_eq!(checker.standings().keys().copied().collect::<HashSet<_>>(), HashSet::from([2]));
    // Another policy changes nothing about what is believed.
    let since = checker.standing(2).unwrap().since;
    let often = Policy { fall: 9, interval: Duration::from_millis(100), ..POLICY };
    checker.set(vec![Checked { policy: often, ..checked(2, down, tcp.clone()) }]);
    let failures = |standing: &Standing| matches!(standing.streak, Streak::Failures(5..));
    assert_eq!(wait_for(&checker, 2, failures).since, since);
    // It has moved, to where it serves.
    checker.set(vec![checked(2, up, tcp.clone())]);
    assert_eq!(next(&changes), (2, Change::Up));
    // What is not checked any more is up.
    checker.set(vec![checked(2, down, tcp.clone())]);
    assert!(matches!(next(&changes), (2, Change::Down(_))));
    checker.set(vec![checked(2, down, Check::Link)]);
    assert_eq!(next(&changes), (2, Change::Up));
    assert_eq!(checker.standing(2).unwrap().state, State::Up);
    checker.set(vec![checked(2, down, tcp)]);
    assert!(matches!(next(&changes), (2, Change::Down(_))));
}

#[test]
fn many_servers_are_checked_side_by_side() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let (up, down) = (listener.local_addr().unwrap(), nobody());
    thread::spawn(move || listener.incoming().for_each(drop));
    let at = |id: u32| if id.is_multiple_of(3) { down } else { up };
    let (_checker, changes) = start((0..200).map(|id| checked(id, at(id), Check::Tcp { port: None })).collect());
    let mut told = HashSet::new();
    while told.len() < 200 {
        let (id, change) = next(&changes);
        assert_eq!(change == Change::Up, !id.is_multiple_of(3), "{id}: {change:?}");
        assert!(told.insert(id), "{id} was told of twice");
    }
}

#[test]
fn it_ends_when_it_is_dropped_also_in_the_middle_of_a_question() {
    let at = tcp(answer("..."));
    let (checker, changes) = start(vec![checked(1, at, http("/", None)), checked(2, at, Check::Tcp { port: None })]);
    assert_eq!(next(&changes).0, 2);
    drop(checker);
    assert!(changes.iter().count() <= 1, "it goes on");
}

/// In a process of its own, as it takes away all descriptors.
#[test]
fn for_lack_of_descriptors_nobody_is_taken_for_dead() {
    const CHILD: &str = "PROXY_CHECK_WITHOUT_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "for_lack_of_descriptors_nobody_is_taken_for_dead";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "yes")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let listener = TcpListener::bind(loopback()).unwrap();
    let at = listener.local_addr().unwrap();
    let (checker, changes) = start(vec![checked(1, at, Check::Tcp { port: None })]);
    assert_eq!(next(&changes), (1, Change::Up));
    let mut hoard: Vec<_> = std::iter::from_fn(|| UdpSocket::bind(loopback()).ok()).collect();
    assert!(hoard.len() < 64);
    // More than enough for both checks that would have it down.
    for _ in 0..10 {
        checker.hurry(1);
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(checker.standing(1).unwrap().state, State::Up);
    assert!(changes.is_empty());
    drop(listener);
    hoard.truncate(hoard.len() / 2);
    assert!(matches!(next(&changes), (1, Change::Down(_))), "it is not checked any more");
}

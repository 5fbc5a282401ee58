//! penlog, penlogd and mergelogs as programs, on loopback: what web servers and a balancer send becomes one log.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pen_dsr::config::proxy::{AccessLog, LogLayout, LogTarget};
use pen_dsr::proxy::access::{About, AccessWriter, End, Entry, Request, Server};

const PATIENCE: Duration = Duration::from_secs(60);
/// 23 November 2026, 11:33:45.
const SECOND: u64 = 1_795_433_625;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pen-dsr"))
}

fn until(what: &str, mut test: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !test() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A penlogd that runs; it is ended with this value.
struct Penlogd {
    child: Child,
    address: SocketAddr,
    said: PathBuf,
}

impl Penlogd {
    /// One that writes to `folder`/log, with more options.
    fn start(folder: &Path, options: &[&str]) -> Penlogd {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let said = folder.join("said");
        let child = program()
            .args(["penlogd", "-f", "-l"])
            .arg(folder.join("log"))
            .args(options)
            .arg(address.to_string())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let penlogd = Penlogd { child, address, said };
        until("penlogd", || penlogd.said().contains("penlogd takes lines"));
        penlogd
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it with TERM.
    fn end(mut self) -> String {
        self.signal(Signal::SIGTERM);
        assert!(self.child.wait().unwrap().success(), "{}", self.said());
        self.said()
    }
}

impl Drop for Penlogd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `lines` by penlog, from `source`.
fn penlog(collector: SocketAddr, source: &str, lines: &str) {
    let mut child = program()
        .args(["penlog", &collector.ip().to_string(), &collector.port().to_string(), source])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The second web server's address, if loopback has it, as on Linux.
fn second_server(test: &str) -> Option<&'static str> {
    let found = UdpSocket::bind("127.0.0.2:0").is_ok();
    if !found {
        println!("SKIPPED penlog::{test}: 127.0.0.2 is no address of this host");
    }
    found.then_some("127.0.0.2")
}

fn web(host: &str, path: &str, status: u16) -> String {
    format!("{host} - joe [23/Nov/2026:12:33:45 +0100] \"GET /{path} HTTP/1.1\" {status} 9 \"-\" \"curl \\\"8\\\"\"\n")
}

fn balancer(target: LogTarget) -> AccessWriter {
    let mut balancer = AccessWriter::open(&AccessLog { target, layout: LogLayout::Plain }).unwrap();
    balancer.start().unwrap();
    balancer
}

fn request<'a>(client: &str, server: &str, path: &'a [u8], status: u16) -> Entry<'a> {
    let about = Request {
        method: b"GET",
        target: path,
        version: "HTTP/2.0",
        host: None,
        status,
        body: 9,
        referer: None,
        user_agent: None,
    };
    Entry {
        client: format!("{client}:40000").parse().ok(),
        listener: "[::]:443",
        server: Some(Server { name: "be", address: format!("{server}:80").parse().ok() }),
        start: UNIX_EPOCH + Duration::from_millis(SECOND * 1000 - 300),
        connect: None,
        total: Duration::from_millis(400),
        received: 100,
        sent: 200,
        end: End::Closed,
        about: About::Request(about),
    }
}

#[test]
fn what_web_servers_and_the_balancer_send_becomes_one_log() {
    let Some(second) = second_server("what_web_servers_and_the_balancer_send_becomes_one_log") else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let pidfile = folder.path().join("pid");
    let penlogd = Penlogd::start(folder.path(), &["-b", "600", "-p", pidfile.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&pidfile).unwrap().trim(), penlogd.child.id().to_string());
    let target = LogTarget::Udp(penlogd.address);
    let balancer = balancer(target);
    let mut recorder = balancer.recorder();

    // The balancer's line is there before the first server's, after the second server's; the same request of two clients.
    recorder.record(&request("192.0.2.1", "127.0.0.1", b"/a", 200));
    recorder.record(&request("192.0.2.2", "127.0.0.1", b"/a", 404));
    until("two lines", || balancer.written() == 2);
    penlog(penlogd.address, "127.0.0.1", &[web("10.0.0.9", "a", 404), web("10.0.0.9", "a", 200)].concat());
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    let mut expected = [web("192.0.2.2", "a", 404), web("192.0.2.1", "a", 200)].concat();
    until("the first server's lines", || lines() == expected);
    penlog(penlogd.address, second, &[web("10.0.0.9", "b%20\\xff", 200), "no line of a server\n".to_owned()].concat());
    thread::sleep(Duration::from_millis(200));
    assert_eq!(lines(), expected, "it waits for the balancer's");
    // By a Unix socket: it has no address.
    recorder.record(&Entry { client: None, ..request("", second, b"/b%20\xff", 200) });
    recorder.record(&request("[2001:db8::7]", second, b"/b%20\xff", 200));
    expected += &[web("2001:db8::7", "b%20\\xff", 200), "no line of a server\n".to_owned()].concat();
    until("the second server's lines", || lines() == expected);

    // Rotated.
    let moved = folder.path().join("log.1");
    fs::rename(&log, &moved).unwrap();
    penlogd.signal(Signal::SIGHUP);
    until("a new log", || log.exists());
    // A relayed connection, told of when it begins and when it is over; then a line that nobody tells of.
    let stream = |first, end| Entry { end, about: About::Stream(first), ..request("192.0.2.4", second, b"", 0) };
    assert!(recorder.wants_begin() && recorder.wants_first_line());
    recorder.record(&stream(b"GET /c HTTP/1.1\r\nHost: x\r\n", End::Begun));
    recorder.record(&stream(b"", End::Closed));
    penlog(penlogd.address, second, &[web("10.0.0.9", "c", 200), web("10.0.0.9", "d", 200)].concat());
    until("the line of a stream", || lines() == web("192.0.2.4", "c", 200));
    let said = penlogd.end();
    assert_eq!(lines(), [web("192.0.2.4", "c", 200), web("10.0.0.9", "d", 200)].concat());
    assert_eq!(fs::read_to_string(&moved).unwrap(), expected);
    assert!(said.contains("4 with their client, 1 without, 1 malformed, 0 waiting"), "{said}");
    assert!(!pidfile.exists());
    drop(recorder);
    assert_eq!(balancer.lost(), 0);
}

#[test]
fn a_line_that_the_balancer_does_not_tell_of_is_written_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let penlogd = Penlogd::start(folder.path(), &["-b", "0", "--balancer", "192.0.2.1", "-d"]);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"+ 192.0.2.66 127.0.0.1 GET /a HTTP/1.0", penlogd.address).unwrap();
    until("the stranger's line", || penlogd.said().contains("not one of the balancers"));
    penlog(penlogd.address, "127.0.0.1", &web("10.0.0.9", "a", 200));
    let log = folder.path().join("log");
    until("the line", || fs::read_to_string(&log).is_ok_and(|text| text == web("10.0.0.9", "a", 200)));
    assert!(penlogd.end().contains("refused: 1"));
}

#[test]
fn it_goes_to_the_background_and_ends_by_its_pid_file() {
    let folder = tempfile::tempdir().unwrap();
    let (log, pidfile) = (folder.path().join("log"), folder.path().join("pid"));
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let link = folder.path().join("penlogd");
    symlink(env!("CARGO_BIN_EXE_pen-dsr"), &link).unwrap();
    let started = Command::new(&link)
        .arg("-l")
        .arg(&log)
        .arg("-p")
        .arg(&pidfile)
        .arg(address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(started.success());
    let mut pid = None;
    until("the pid file", || {
        pid = fs::read_to_string(&pidfile).ok().and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    penlog(address, "127.0.0.1", "a line\n");
    until("the line", || fs::read_to_string(&log).is_ok_and(|text| text == "a line\n"));
    kill(Pid::from_raw(pid.unwrap()), Signal::SIGTERM).unwrap();
    until("its end", || !pidfile.exists());
}

fn mergelogs(folder: &Path, words: &str) -> Output {
    let link = folder.join("mergelogs");
    if !link.exists() {
        symlink(env!("CARGO_BIN_EXE_pen-dsr"), &link).unwrap();
    }
    Command::new(link).current_dir(folder).args(words.split_whitespace()).output().unwrap()
}

#[test]
fn mergelogs_makes_one_log_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let target = LogTarget::File(folder.path().join("pen.log"));
    let balancer = balancer(target);
    let mut recorder = balancer.recorder();
    recorder.record(&request("192.0.2.1", "10.0.0.1", b"/a", 200));
    recorder.record(&request("192.0.2.2", "10.0.0.2", b"/a", 200));
    drop(recorder);
    drop(balancer);
    // Three seconds later, by the second server's clock.
    let late = |host| web(host, "a", 200).replace(":45 ", ":48 ");
    write("one", &[web("10.0.0.9", "a", 200), "?\n".to_owned()].concat());
    write("two", &[late("10.0.0.9"), late("10.0.0.9")].concat());
    let output = mergelogs(folder.path(), "-p pen.log -j 3 -t 7200 10.0.0.1:one 10.0.0.2:two");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, [web("192.0.2.1", "a", 200), "?\n".to_owned(), late("192.0.2.2"), late("10.0.0.9")].concat());
    assert!(said.contains("2 with their client, 1 without, 1 malformed; 2 of the balancer: 0 unused"), "{said}");
    let output = mergelogs(folder.path(), "-p pen.log -j 2 -c -d 10.0.0.2:two 10.0.0.1:one");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1 with their client, 2 without"), "{said}");
    assert_eq!(said.matches("no such request").count(), 2, "{said}");
}

#[test]
fn wrong_calls_say_what_is_wrong_and_exit_after_sysexits() {
    for (line, code, words) in [
        ("penlog", 64, "HOST PORT"),
        ("penlog 127.0.0.1", 64, "HOST PORT"),
        ("penlog 127.0.0.1 0", 64, "no port"),
        ("penlog 127.0.0.1 10000 192.0.2.77", 69, "192.0.2.77"),
        ("penlog no-such-host.invalid 10000", 68, "no-such-host.invalid"),
        ("penlogd", 64, "PORT"),
        ("penlogd 70000", 64, "70000"),
        ("penlogd -f -l /no/such/folder/log 10000", 73, "/no/such/folder/log"),
        ("penlogd -f -u no-such-user 10000", 67, "no-such-user"),
        ("penlogd -f 192.0.2.77:10000", 69, "192.0.2.77:10000"),
        ("penlogd -n 0 10000", 64, "--lines"),
        ("penlogd -a 10.0.0.0/33 10000", 64, "10.0.0.0/33"),
        ("mergelogs -p x", 64, "SERVER:FILE"),
        ("mergelogs 10.0.0.1:x", 64, "--penlog"),
        ("mergelogs -p /no/such/file 10.0.0.1:x", 66, "/no/such/file"),
        ("mergelogs -p /dev/null 10.0.0.1:/no/such/file", 66, "/no/such/file"),
        ("mergelogs -p /dev/null host:x", 64, "host"),
        ("mergelogs -p / 10.0.0.1:/dev/null", 66, "/"),
        ("-d penlogd 10000", 64, "comes first"),
    ] {
        let output = program().args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "pen-dsr {line}: {message}");
        assert!(message.contains(words), "pen-dsr {line}: {message}");
        assert!(!message.contains("panicked"), "pen-dsr {line}: {message}");
    }
}

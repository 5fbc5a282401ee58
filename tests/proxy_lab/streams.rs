//! Plain connections: bulk by iperf3, and a session that lasts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Lab, MINUTES, PATIENCE, PROXY4, Process, S1, S2, lab, skipped, wait_until};
use crate::servers::echo;

#[test]
fn bulk_goes_both_ways_by_several_connections() {
    lab("streams::bulk_goes_both_ways_by_several_connections", &["iperf3"], |lab| {
        let _server = lab.start("s1", &["iperf3", "-s"]);
        lab.wait_listening("s1", "tcp", 5201);
        let _proxy = lab.proxy(&["10.1.0.254:5201", &format!("{S1}:5201")]);
        for direction in [&[][..], &["-R"], &["--bidir"]] {
            let words = ["iperf3", "-c", PROXY4, "-P", "3", "-n", "60M", "-f", "m"];
            let said = lab.run("client", &[&["timeout", MINUTES], &words[..], direction].concat());
            assert!(said.contains("iperf Done."), "{said}");
            let rate = said.lines().rfind(|line| line.contains("receiver")).unwrap_or_default();
            println!("iperf3 {direction:?}: {}", rate.trim());
        }
    });
}

#[test]
fn a_session_lasts_through_silence_reload_and_drain() {
    lab("streams::a_session_lasts_through_silence_reload_and_drain", &[], |lab| {
        lab.serve("s1", 2222, echo);
        lab.serve("s2", 2222, echo);
        let toml = |server: &str| {
            format!(
                "[[backend]]\nhost = \"{server}\"\n[[listen]]\naddress = \"10.1.0.254:22\"\nbackend-port = 2222\n[proxy.tcp]\nkeepalive = 1\n[proxy.timeouts]\nconnect = 45\ndrain = 600\n"
            )
        };
        let file = lab.file("pen.toml", toml("10.2.0.11"));
        let mut proxy = lab.proxy(&["-c", &file]);
        let talk = |stream: &mut TcpStream, from: usize| {
            for n in from..from + 40 {
                let word = format!("{n}\r\n");
                stream.write_all(word.as_bytes()).unwrap();
                let mut back = vec![0; word.len()];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, word.as_bytes());
                thread::sleep(Duration::from_millis(3));
            }
        };
        let connect = || {
            let stream = TcpStream::connect((PROXY4, 22)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        };
        let mut session = lab.inside("client", connect).join().unwrap();
        talk(&mut session, 0);
        thread::sleep(Duration::from_secs(2));
        talk(&mut session, 100);
        // Its server is no longer in the file: new clients go elsewhere, this one stays.
        lab.file("pen.toml", toml("10.2.0.12"));
        proxy.signal(Signal::SIGHUP);
        wait_until("the reload", || lab.ctl("ctl", "servers").contains("10.2.0.12"));
        talk(&mut session, 200);
        let mut other = lab.inside("client", connect).join().unwrap();
        talk(&mut other, 300);
        // What is drained goes on until it ends by itself.
        proxy.signal(Signal::SIGTERM);
        proxy.wait_for("the end to begin", |log| log.contains("no more connections are accepted"));
        talk(&mut session, 400);
        talk(&mut other, 500);
        drop(session);
        drop(other);
        assert!(proxy.end().success(), "{}", proxy.output());
    });
}

/// How long vanished peers may take to be let go of: 30 s until they are asked, or twice that, and a few seconds for the rest.
const LET_GO: Duration = Duration::from_secs(100);

/// Waits that long at most until `test` holds.
fn wait_long(what: &str, mut test: impl FnMut() -> bool) {
    let end = Instant::now() + LET_GO;
    while !test() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(300));
    }
}

/// Starts the proxy with a keepalive of a second: port 2222 as it comes, port 80 with HTTP, both to `server`.
fn asking_proxy(lab: &Lab, server: &str) -> Process {
    let settings = "echo 1 >/proc/sys/net/ipv4/tcp_keepalive_intvl; echo 3 >/proc/sys/net/ipv4/tcp_keepalive_probes";
    lab.run("proxy", &["sh", "-euc", settings]);
    let toml = format!(
        "[[backend]]\nhost = \"{server}\"\n[[listen]]\naddress = \"{PROXY4}:2222\"\n\
         [[listen]]\naddress = \"{PROXY4}:80\"\nmode = \"http\"\n[proxy.tcp]\nkeepalive = 1\n"
    );
    lab.proxy(&["-c", &lab.file("pen.toml", toml)])
}

#[test]
fn who_has_vanished_without_a_word_is_let_go_of() {
    let name = "streams::who_has_vanished_without_a_word_is_let_go_of";
    if std::env::var("PEN_DSR_THOROUGH").is_ok_and(|word| word == "1") {
        lab(name, &["nginx"], vanish);
    } else {
        skipped(name, "it takes a minute: PEN_DSR_THOROUGH=1");
    }
}

fn vanish(lab: &Lab) {
    // s1 tells when a connection has ended, and never answers at port 80 of s2.
    let (tell, told) = channel();
    let told_end = move |stream: TcpStream| {
        echo(stream);
        let _ = tell.send(());
    };
    lab.serve("s1", 2222, told_end);
    lab.serve("s2", 2222, echo);
    lab.serve("s2", 80, |mut stream| while stream.read(&mut [0; 1000]).is_ok_and(|n| n > 0) {});
    let _nginx = lab.nginx("s1");
    let connect = |port| {
        let connect = move || {
            let stream = TcpStream::connect((PROXY4, port)).unwrap();
            stream.set_read_timeout(Some(LET_GO)).unwrap();
            stream
        };
        lab.inside("client", connect).join().unwrap()
    };
    let say = |stream: &mut TcpStream, what: &str, end: &str| {
        stream.write_all(what.as_bytes()).unwrap();
        let mut back = Vec::new();
        while !back.ends_with(end.as_bytes()) {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1);
            back.push(byte[0]);
        }
    };
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    // Clients vanish: one of each kind.
    let proxy = asking_proxy(lab, S1);
    let (mut plain, mut http) = (connect(2222), connect(80));
    say(&mut plain, "hello", "hello");
    say(&mut http, request, "s1");
    assert!(lab.ctl("ctl", "status").contains("proxy: 2 connections"));
    lab.run("client", &["ip", "link", "set", "eth0", "down"]);
    wait_long("nobody to be left", || lab.ctl("ctl", "status").contains("proxy: 0 connections"));
    told.recv_timeout(PATIENCE).expect("the server to be told");
    drop((plain, http, proxy));
    lab.run("client", &["ip", "link", "set", "eth0", "up"]);

    // A server vanishes, from a session and while it is to answer: their clients are told.
    let _proxy = asking_proxy(lab, S2);
    let (mut plain, mut http) = (connect(2222), connect(80));
    say(&mut plain, "hello", "hello");
    http.write_all(request.as_bytes()).unwrap();
    wait_until("the question to be there", || {
        lab.run("s2", &["ss", "-Htn", "state", "established", "sport = :80"]).lines().count() == 1
    });
    lab.run("s2", &["ip", "link", "set", "eth0", "down"]);
    assert!(!plain.read(&mut [0]).is_ok_and(|n| n > 0));
    let mut answer = String::new();
    let _ = http.read_to_string(&mut answer);
    // It is asked once more, in vain.
    assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
    wait_until("nobody to be left", || lab.ctl("ctl", "status").contains("proxy: 0 connections"));
}

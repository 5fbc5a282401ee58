//! Certificates that change, and proxies that succeed each other, while clients come and go by TLS and UDP.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};

use crate::browser::Connection;
use crate::harness::{Lab, PATIENCE, PEN_DSR, PROXY4, Process, S1, S2, lab, wait_until};
use crate::life::content;

/// Browsers at a time.
const BROWSERS: usize = 6;
/// Answers between two events.
const SOME: usize = 150;

fn address() -> SocketAddr {
    format!("{PROXY4}:8443").parse().unwrap()
}

/// A certificate of its own.
struct Site {
    pem: String,
    der: Vec<u8>,
}

impl Site {
    fn new() -> Site {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Site { pem: format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()), der: made.cert.der().to_vec() }
    }
}

/// A client's settings: it trusts these alone.
fn trusting(sites: &[&Site]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for site in sites {
        roots.add(site.der.clone().into()).unwrap();
    }
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

/// One request; the name of the server that answers.
fn ask(connection: &mut BufReader<Connection>) -> String {
    connection.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    connection.get_mut().flush().unwrap();
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        assert!(connection.read_line(&mut line).unwrap() > 0, "the end");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    std::io::Read::read_exact(connection, &mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn a_new_certificate_is_for_new_handshakes_and_open_sessions_go_on() {
    lab("secure_life::a_new_certificate_is_for_new_handshakes_and_open_sessions_go_on", &["nginx"], |lab| {
        let _nginx = lab.nginx("s1");
        let (old, new) = (Site::new(), Site::new());
        let mut config = trusting(&[&old, &new]);
        // What is resumed shows what it began with.
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        let pem = lab.file("site.pem", &old.pem);
        let listener = format!("{PROXY4}:8443");
        let proxy = lab.proxy(&["-H", "-E", &pem, &listener, &format!("{S1}:80")]);
        let connect = || {
            let config = Arc::clone(&config);
            let made = lab.inside("client", move || Connection::open(address(), Some(&config)));
            BufReader::new(made.join().unwrap().unwrap())
        };
        let mut lasting = connect();
        assert_eq!(ask(&mut lasting), "s1");
        let browsers = lab.browse_by(BROWSERS, &listener, Some(&config));
        browsers.go_on(SOME);
        // What is no certificate changes nothing.
        lab.file("site.pem", "nonsense");
        proxy.signal(Signal::SIGHUP);
        proxy.wait_for("a refusal", |log| log.contains("still count"));
        assert_eq!(connect().get_ref().certificate().unwrap(), old.der);
        browsers.go_on(SOME);
        lab.file("site.pem", &new.pem);
        let reloads = proxy.output().matches("reloaded").count();
        proxy.signal(Signal::SIGHUP);
        // When that is said, each event loop has been told.
        proxy.wait_for("the reload", |log| log.matches("reloaded").count() > reloads);
        wait_until("the new certificate", || connect().get_ref().certificate().unwrap() == new.der);
        browsers.go_on(SOME);
        browsers.each_goes_on();
        let visit = browsers.stop();
        content("another certificate", &visit);
        assert_eq!(visit.shown.len(), 2);
        // Those that kept their connections have them still.
        assert_eq!(visit.repeated, 0);
        // From now on, nobody sees the old one.
        let browsers = lab.browse_by(BROWSERS, &listener, Some(&config));
        browsers.go_on(SOME);
        let visit = browsers.stop();
        content("the new certificate", &visit);
        assert_eq!(visit.shown.into_iter().collect::<Vec<_>>(), [new.der]);
        assert_eq!(ask(&mut lasting), "s1");
        assert_eq!(lasting.get_ref().certificate().unwrap(), old.der);
    });
}

/// Starts a proxy with the configuration `file`, and waits until it serves.
fn start(lab: &Lab, file: &str) -> Process {
    let process = lab.start("proxy", &[PEN_DSR, "-c", file]);
    process.wait_for("the proxy", |log| log.contains("the proxy listens"));
    process
}

/// One takes over from `current`, which ends well.
fn succeed(lab: &Lab, current: &mut Process, file: &str) {
    let mut old = std::mem::replace(current, start(lab, file));
    let status = old.end();
    assert!(status.success(), "{status}\n{}", old.output());
}

#[test]
fn a_successor_takes_over_and_no_request_by_tls_is_lost() {
    lab("secure_life::a_successor_takes_over_and_no_request_by_tls_is_lost", &["nginx"], |lab| {
        let _servers = (lab.nginx("s1"), lab.nginx("s2"));
        let site = Site::new();
        let (pem, handover) = (lab.file("site.pem", &site.pem), lab.path("handover"));
        let file = lab.file(
            "pen.toml",
            format!(
                "[[backend]]\nhost = \"{S1}\"\nport = 80\n[[backend]]\nhost = \"{S2}\"\nport = 80\n\
                 [[listen]]\naddress = \"{PROXY4}:8443\"\nmode = \"http\"\n[listen.tls]\ncertificate = {pem:?}\n\
                 [proxy]\nhandover = {handover:?}\n[proxy.selection]\ntrack = false\n[proxy.timeouts]\nconnect = 45\ndrain = 600\n"
            ),
        );
        // They resume sessions: a successor gets tickets of the one before, which it cannot read.
        let config = Arc::new(trusting(&[&site]));
        let mut current = start(lab, &file);
        let browsers = lab.browse_by(BROWSERS, &address().to_string(), Some(&config));
        for _ in 0..3 {
            browsers.go_on(SOME);
            succeed(lab, &mut current, &file);
        }
        browsers.go_on(SOME);
        let visit = browsers.stop();
        content("takeover by TLS", &visit);
        assert_eq!(visit.answers.len(), 2, "{visit:?}");
    });
}

#[test]
fn a_successor_takes_over_and_who_asks_by_udp_is_answered() {
    lab("secure_life::a_successor_takes_over_and_who_asks_by_udp_is_answered", &[], |lab| {
        for (host, name) in [("s1", b"1"), ("s2", b"2")] {
            let serve = move || {
                let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
                std::thread::spawn(move || {
                    let mut question = [0; 100];
                    while let Ok((length, from)) = socket.recv_from(&mut question) {
                        let _ = socket.send_to(&[name, &question[..length]].concat(), from);
                    }
                });
            };
            lab.inside(host, serve).join().unwrap();
        }
        let file = lab.file(
            "pen.toml",
            format!(
                "[[backend]]\nhost = \"{S1}\"\n[[backend]]\nhost = \"{S2}\"\n\
                 [[listen]]\naddress = \"{PROXY4}:5353\"\nprotocol = \"udp\"\n\
                 [proxy]\nhandover = {:?}\n[proxy.selection]\ntrack = false\n[proxy.timeouts]\ndrain = 2\n",
                lab.path("handover")
            ),
        );
        let mut current = start(lab, &file);
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..BROWSERS)
            .map(|n| {
                let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
                // Half of them keep their socket, and are known.
                lab.inside("client", move || asking(n, n % 2 == 0, &over, &answered))
            })
            .collect();
        let go_on = || {
            let until = answered.load(Relaxed) + 4 * SOME;
            wait_until("answers", || answered.load(Relaxed) >= until);
        };
        for _ in 0..3 {
            go_on();
            succeed(lab, &mut current, &file);
        }
        go_on();
        over.store(true, Relaxed);
        let again: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        println!("takeover by UDP: {} answers, {again} questions had to be asked again", answered.load(Relaxed));
    });
}

/// Asks again and again, each question as often as patience lasts, until `over`; how often it had to ask again.
fn asking(n: usize, keep: bool, over: &AtomicBool, answered: &AtomicUsize) -> usize {
    let socket = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((PROXY4, 5353)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    };
    let (mut again, mut known) = (0, socket());
    for number in 0_usize.. {
        if over.load(Relaxed) {
            break;
        }
        if !keep {
            known = socket();
        }
        let question = format!("{n} {number}");
        let is_answered = |socket: &UdpSocket| {
            let _ = socket.send(question.as_bytes());
            let mut answer = [0; 100];
            // One to an earlier question, late, is none to this.
            while let Ok(length) = socket.recv(&mut answer) {
                if &answer[1..length] == question.as_bytes() {
                    return true;
                }
            }
            false
        };
        let most = 2 * PATIENCE.as_secs() as usize;
        let tries = (0..most).take_while(|_| !is_answered(&known)).count();
        assert!(tries < most, "question {question}");
        again += tries;
        answered.fetch_add(1, Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
    again
}

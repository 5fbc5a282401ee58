//! HTTP between curl and nginx: each kind of request, and the headers of every one of them.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Lab, PATIENCE, PROXY4, Process, S1, S2, SECONDS, lab, wait_to_see, wait_until};
use crate::servers::upgraded_echo;

const NEEDS: [&str; 2] = ["nginx", "curl"];
const URL: &str = "http://10.1.0.254:8080";

/// nginx on s1 behind a proxy that reads HTTP.
fn pair(lab: &Lab, more: &[&str]) -> (Process, Process) {
    let nginx = lab.nginx("s1");
    let (listener, server) = (format!("{PROXY4}:8080"), format!("{S1}:80"));
    let proxy = lab.proxy(&[&["-H"], more, &[&listener, &server]].concat());
    (nginx, proxy)
}

fn curl(lab: &Lab, words: &[&str]) -> String {
    lab.run("client", &[&["curl", "-sS", "-m", SECONDS, "--expect100-timeout", SECONDS], words].concat())
}

#[test]
fn every_kind_of_request_arrives_and_is_answered() {
    lab("http::every_kind_of_request_arrives_and_is_answered", &NEEDS, |lab| {
        let _pair = pair(lab, &[]);
        let url = |path: &str| format!("{URL}{path}");
        assert_eq!(curl(lab, &[&url("/")]), "s1");
        assert_eq!(curl(lab, &["-0", &url("/")]), "s1");
        assert_eq!(curl(lab, &["-d", "a=b", &url("/post")]), "thanks");
        // Without a body, with the length that it would have.
        let head = curl(lab, &["-I", &url("/big")]).to_lowercase();
        assert!(
            head.starts_with("http/1.1 200") && head.contains(&format!("content-length: {}\r\n", 5 << 20)),
            "{head}"
        );
        // What there is not is not, with its body.
        assert!(curl(lab, &[&url("/nowhere")]).contains("404 Not Found"));
        let got = lab.path("got");
        curl(lab, &["-o", &got, &url("/big")]);
        let big = std::fs::read(lab.directory.join("s1/big")).unwrap();
        assert!(std::fs::read(&got).unwrap() == big);
        curl(lab, &["-r", "1000000-1999999", "-o", &got, &url("/big")]);
        assert!(std::fs::read(&got).unwrap() == big[1_000_000..2_000_000]);
        // By length, in chunks, and only when it was permitted (100-continue).
        let file = lab.path("s1/big");
        for (name, headers) in [
            ("length", &["-H", "Expect:"][..]),
            ("chunked", &["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]),
            ("continue", &["-H", "Expect: 100-continue"]),
            ("both", &["-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"]),
        ] {
            let target = url(&format!("/put/{name}"));
            let words = [&["-v", "-o", "/dev/null", "-T", &file][..], headers, &[&target]].concat();
            let said = curl(lab, &words);
            assert!(said.contains("< HTTP/1.1 201"), "{name}: {said}");
            assert_eq!(said.contains("< HTTP/1.1 100"), name == "continue" || name == "both", "{name}: {said}");
            assert!(std::fs::read(lab.directory.join("s1/put").join(name)).unwrap() == big, "{name}");
        }
        assert!(curl(lab, &["-v", "-X", "DELETE", &url("/put/both")]).contains("HTTP/1.1 204"));
    });
}

#[test]
fn every_request_of_a_connection_has_the_clients_address() {
    lab("http::every_request_of_a_connection_has_the_clients_address", &NEEDS, |lab| {
        let _pair = pair(lab, &["--forwarded"]);
        // Twenty of one connection by curl, with a header of the client's own.
        let urls: Vec<String> = (0..20).map(|n| format!("{URL}/?curl{n}")).collect();
        let mut words = vec!["--interface", "10.1.0.2", "-H", "X-Forwarded-For: 192.0.2.99", "-w", "%{num_connects}"];
        words.extend(urls.iter().map(String::as_str));
        let said = curl(lab, &words);
        assert_eq!(said, format!("s11{}", "s10".repeat(19)));
        // Fifty at once, a few bytes at a time (pipelining, RFC 9112 section 9.3.2).
        let answers = lab.inside("client", || {
            let mut stream = TcpStream::connect("10.1.0.254:8080").unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut all = String::new();
            for n in 0..50 {
                let close = if n == 49 { "Connection: close\r\n" } else { "" };
                all += &format!("GET /?pipe{n} HTTP/1.1\r\nHost: a\r\n{close}\r\n");
            }
            for part in all.as_bytes().chunks(101) {
                stream.write_all(part).unwrap();
            }
            let mut answers = String::new();
            stream.read_to_string(&mut answers).unwrap();
            answers
        });
        assert_eq!(answers.join().unwrap().matches("200 OK").count(), 50);
        wait_until("the log", || lab.access("s1").lines().count() == 70);
        for line in lab.access("s1").lines() {
            let client = if line.contains("/?curl") { "10.1.0.2" } else { "10.1.0.1" };
            assert!(line.contains(&format!("xff={client} xfp=http fwd=for={client}")), "{line}");
            // The server's side sees the proxy alone.
            assert!(line.starts_with("10.2.0.254 "), "{line}");
        }
        for n in 0..50 {
            assert_eq!(lab.access("s1").matches(&format!("/?pipe{n} ")).count(), 1);
        }
        // Over connections that are used again.
        let connections: std::collections::HashSet<String> =
            lab.access("s1").lines().filter_map(|line| line.rsplit_once("conn=").map(|(_, n)| n.to_owned())).collect();
        assert!(connections.len() < 10, "{connections:?}");
    });
}

#[test]
fn an_upgrade_carries_what_is_no_http_both_ways() {
    lab("http::an_upgrade_carries_what_is_no_http_both_ways", &NEEDS, |lab| {
        let _pair = pair(lab, &[]);
        lab.serve("s1", 8081, upgraded_echo);
        let body = lab.inside("client", || {
            let mut stream = TcpStream::connect("10.1.0.254:8080").unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            for length in [1_usize, 2, 70_000, 3] {
                // What looks like HTTP is none here.
                let frame = vec![b'\n'; length];
                stream.write_all(&frame).unwrap();
                let mut back = vec![0; length];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, frame);
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        });
        body.join().unwrap();
    });
}

#[test]
fn the_access_log_has_every_request_and_the_clients_address() {
    lab("http::the_access_log_has_every_request_and_the_clients_address", &NEEDS, |lab| {
        let log = lab.path("access");
        let _nginx = (lab.nginx("s1"), lab.nginx("s2"));
        let words = [
            "-H",
            "-r",
            "-l",
            &log,
            "--log-layout",
            "combined",
            "10.1.0.254:8080",
            &format!("{S1}:80"),
            &format!("{S2}:80"),
        ];
        let _proxy = lab.proxy(&words);
        for n in 0..10 {
            curl(lab, &["-A", "a \"browser\"", "-o", "/dev/null", &format!("{URL}/?n{n}")]);
        }
        wait_until("the lines", || lab.read("access").matches('\n').count() == 10);
        let log = lab.read("access");
        for n in 0..10 {
            // The event loops write for themselves, so that the order is not always that of the requests.
            let request = format!("\"GET /?n{n} HTTP/1.1\" 200 2 \"-\" \"a \\\"browser\\\"\"");
            let line = log.lines().find(|line| line.contains(&request));
            assert!(line.is_some_and(|line| line.starts_with("10.1.0.1 ")), "{n}: {log}");
        }
        let served = |host| lab.access(host).lines().count();
        wait_to_see("their own logs", || (served("s1"), served("s2")), |&seen| seen == (5, 5));
    });
}

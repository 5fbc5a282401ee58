use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::config::proxy::LogLayout;
use crate::proxy::access::{About, End, Entry, Formatter, Request, Server};

fn request(text: &str) -> RequestLine {
    RequestLine::new(text.as_bytes().to_vec())
}

#[test]
fn lines_of_web_servers_are_read() {
    for (line, time, asked, status, body) in [
        (
            r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET /x?y=1 HTTP/1.1" 200 4800"#,
            1_795_433_625,
            "GET /x?y=1 HTTP/1.1",
            Some(200),
            Some(4800),
        ),
        (
            r#"be1.example.org - joe [23/Nov/2026:12:33:45 +0100] "HEAD / HTTP/1.0" 304 - "-" "curl/8""#,
            1_795_433_625,
            "HEAD / HTTP/1.0",
            Some(304),
            None,
        ),
        (
            r#"::1 - a [b] "c [23/Nov/2026:01:03:45 -1030] "GET /\"q\"\x00\\ HTTP/1.1" 200 1 "r" "u" 0.002"#,
            1_795_433_625,
            "GET /\"q\"\0\\ HTTP/1.1",
            Some(200),
            Some(1),
        ),
        (r#"10.0.0.1 - - [29/Feb/2000:00:00:00 +0000] "-" 408 -"#, 951_782_400, "-", Some(408), None),
    ] {
        let expected = Served { time, request: request(asked), status, body };
        assert_eq!(served(line.as_bytes()), Some(expected), "{line}");
    }
}

#[test]
fn other_lines_are_none_of_a_web_server() {
    for line in [
        "",
        " ",
        "x",
        "10.0.0.1 - -",
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] GET / 200 1"#,
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET / HTTP/1.1"#,
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET / HTTP/1.1\""#,
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET / HTTP/1.1" 200"#,
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET / HTTP/1.1" OK 1"#,
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET / HTTP/1.1" +200 1"#,
        r#"10.0.0.1 - - [30/Feb/2026:11:33:45 +0000] "GET / HTTP/1.1" 200 1"#,
        r#"10.0.0.1 - - [23/nov/2026:11:33:45 +0000] "GET / HTTP/1.1" 200 1"#,
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45] "GET / HTTP/1.1" 200 1"#,
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 *0000] "GET / HTTP/1.1" 200 1"#,
        "10.0.0.1 - - [23/N\u{f6}v/2026:11:33:4 +0000] \"GET / HTTP/1.1\" 200 1",
    ] {
        assert_eq!(served(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn the_first_word_becomes_the_client_and_nothing_else_changes() {
    let line = b"10.0.0.1 - 10.0.0.1 [x] \xff\"10.0.0.1\"  ";
    assert_eq!(with_client(line, "2001:db8::7".parse().unwrap()), b"2001:db8::7 - 10.0.0.1 [x] \xff\"10.0.0.1\"  ");
}

fn entry<'a>(about: About<'a>) -> Entry<'a> {
    Entry {
        client: "[2001:db8::7]:40000".parse().ok(),
        listener: "0.0.0.0:80",
        server: Some(Server { name: "be 1", address: "10.0.0.11:8080".parse().ok() }),
        start: UNIX_EPOCH + Duration::from_millis(1_795_433_625_042),
        connect: None,
        total: Duration::from_micros(40_331),
        received: 312,
        sent: 5120,
        end: End::Closed,
        about,
    }
}

fn plain(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    Formatter::new(LogLayout::Plain).line(entry, &mut out);
    out.pop();
    out
}

#[test]
fn what_the_access_log_writes_is_read_again() {
    let target = b"/\"a\\ b\x01?\xff";
    let about = Request {
        method: b"GET",
        target,
        version: "HTTP/2.0",
        host: None,
        status: 200,
        body: 4800,
        referer: None,
        user_agent: None,
    };
    let mut expected = Passed {
        client: "2001:db8::7".parse().unwrap(),
        server: "10.0.0.11".parse().unwrap(),
        start: 1_795_433_625_042,
        end: 1_795_433_625_082,
        request: RequestLine::new([b"GET ", &target[..], b" HTTP/1.1"].concat()),
        status: Some(200),
        body: Some(4800),
    };
    assert_eq!(passed(&plain(&entry(About::Request(about))), None), Some(Line::Passed(expected.clone())));
    // Of a stream only its beginning is known.
    expected = Passed { end: expected.start, request: request("GET /"), status: None, body: None, ..expected };
    assert_eq!(passed(&plain(&entry(About::Stream(b"GET / HTTP/1.1\r\n"))), Some(7)), Some(Line::Passed(expected)));
    assert_eq!(passed(&plain(&entry(About::Stream(b""))), Some(7)), Some(Line::Nothing));
    let refused = Entry { server: None, ..entry(About::Stream(b"GET / HTTP/1.1\r\n")) };
    assert_eq!(passed(&plain(&refused), None), Some(Line::Nothing));
    let local = Entry { client: None, ..entry(About::Stream(b"GET / HTTP/1.1\r\n")) };
    assert_eq!(passed(&plain(&local), None), Some(Line::Nothing));
}

#[test]
fn lines_of_pen_are_read() {
    let expected = |start| {
        Some(Line::Passed(Passed {
            client: "192.0.2.7".parse().unwrap(),
            server: "10.0.0.11".parse().unwrap(),
            start,
            end: start,
            request: request("GET /x?y=1 HTTP/1.0"),
            status: None,
            body: None,
        }))
    };
    assert_eq!(passed(b"+ 192.0.2.7 10.0.0.11 GET /x?y=1 HTTP/1.0", Some(42)), expected(42));
    assert_eq!(passed(b"192.0.2.7 1795433625 10.0.0.11 GET /x?y=1 HTTP/1.0", None), expected(1_795_433_625_000));
    // Each where Pen writes it, and nowhere else.
    assert_eq!(passed(b"+ 192.0.2.7 10.0.0.11 GET /x?y=1 HTTP/1.0", None), None);
    assert_eq!(passed(b"192.0.2.7 1795433625 10.0.0.11 GET /x?y=1 HTTP/1.0", Some(42)), None);
}

#[test]
fn other_lines_are_none_of_the_balancer() {
    for line in [
        "",
        "+",
        "+ 192.0.2.7",
        "+ 192.0.2.7 10.0.0.11",
        "+ host 10.0.0.11 GET / HTTP/1.0",
        r#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET / HTTP/1.1" 200 1"#,
        // A web server's line has no port behind its first word, whatever the client makes of the others.
        r#"10.0.0.1 1795433625.042 10.0.0.11:80 "GET / HTTP/1.1" 200 total=1.0 end=closed"#,
        r#"10.0.0.1:1 1795433625 10.0.0.11:80 "GET / HTTP/1.1" 200 total=1.0 end=closed"#,
        r#"10.0.0.1:1 1795433625.042 10.0.0.11 "GET / HTTP/1.1" 200 total=1.0 end=closed"#,
        r#"10.0.0.1:1 1795433625.042 10.0.0.11:80 x "GET / HTTP/1.1" 200 total=1.0 end=closed"#,
        r#"10.0.0.1:1 1795433625.042 10.0.0.11:80 "GET / HTTP/1.1" 200 end=closed"#,
        r#"10.0.0.1:1 1795433625.042 10.0.0.11:80 "GET / HTTP/1.1" 200 total=1.0"#,
        r#"10.0.0.1:1 1795433625.042 10.0.0.11:80 "GET / HTTP/1.1" 200 total=1.0 end"#,
        r#"10.0.0.1:1 99999999999999999999.042 10.0.0.11:80 "GET / HTTP/1.1" 200 total=1.0 end=closed"#,
    ] {
        assert_eq!(passed(line.as_bytes(), Some(42)), None, "{line}");
    }
}

#[test]
fn no_bytes_make_a_reader_fall() {
    let lines: [&[u8]; 3] = [
        br#"10.0.0.1 - - [23/Nov/2026:11:33:45 +0000] "GET /\x41 HTTP/1.1" 200 4800 "-" "x""#,
        br#"10.0.0.1:1 1795433625.042 10.0.0.11:80 "GET /\x41 HTTP/1.1" 200 body=1 total=1.0 end=closed"#,
        b"192.0.2.7 1795433625 10.0.0.11 GET /x?y=1 HTTP/1.0",
    ];
    for line in lines {
        for at in 0..line.len() {
            for byte in [0, b' ', b'"', b'[', b'\\', b'9', 0xff] {
                let mut changed = line.to_vec();
                changed[at] = byte;
                for text in [&changed[..], &changed[..at]] {
                    let _ = (served(text), passed(text, None), passed(text, Some(1)));
                }
            }
        }
    }
}

use std::time::Duration;

use super::*;
use crate::proxy::access::{End, Server};
use crate::proxy::select::Why;

fn stream<'a>(first: &'a [u8]) -> Entry<'a> {
    Entry {
        client: "192.0.2.7:40000".parse().ok(),
        listener: "0.0.0.0:80",
        server: Some(Server { name: "be1", address: "10.0.0.11:8080".parse().ok() }),
        start: UNIX_EPOCH + Duration::from_millis(1_795_433_625_042),
        connect: Some(Duration::from_micros(1204)),
        total: Duration::from_micros(40_331_007),
        received: 312,
        sent: 5120,
        end: End::Closed,
        about: About::Stream(first),
    }
}

fn request<'a>() -> Request<'a> {
    Request {
        method: b"GET",
        target: b"/x?y=1",
        version: "HTTP/1.1",
        host: Some(b"www.example.org"),
        status: 200,
        body: 4800,
        referer: None,
        user_agent: Some(b"curl/8"),
    }
}

fn line(layout: LogLayout, entry: &Entry) -> String {
    let mut out = Vec::new();
    Formatter::new(layout).line(entry, &mut out);
    let line = String::from_utf8(out).unwrap();
    assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
    line.trim_end().to_owned()
}

#[test]
fn a_connection_has_its_line_in_each_layout() {
    let entry = stream(b"SSH-2.0-OpenSSH_9\r\nmore");
    assert_eq!(
        line(LogLayout::Plain, &entry),
        r#"192.0.2.7:40000 1795433625.042 10.0.0.11:8080 "SSH-2.0-OpenSSH_9" - server=be1 listener=0.0.0.0:80 received=312 sent=5120 connect=1.204 total=40331.007 end=closed"#
    );
    assert_eq!(line(LogLayout::Common, &stream(b"")), r#"192.0.2.7 - - [23/Nov/2026:11:33:45 +0000] "-" - 5120"#);
    assert_eq!(
        line(LogLayout::Combined, &stream(b"")),
        r#"192.0.2.7 - - [23/Nov/2026:11:33:45 +0000] "-" - 5120 "-" "-""#
    );
    assert_eq!(
        line(LogLayout::Json, &stream(b"")),
        r#"{"time":"2026-11-23T11:33:45.042Z","client":"192.0.2.7","client_port":40000,"listener":"0.0.0.0:80","server":"be1","server_address":"10.0.0.11:8080","received":312,"sent":5120,"connect_ms":1.204,"total_ms":40331.007,"end":"closed"}"#
    );
}

#[test]
fn a_request_has_its_line_in_each_layout() {
    let entry = Entry { about: About::Request(request()), ..stream(b"") };
    assert_eq!(
        line(LogLayout::Plain, &entry),
        r#"192.0.2.7:40000 1795433625.042 10.0.0.11:8080 "GET /x?y=1 HTTP/1.1" 200 body=4800 server=be1 listener=0.0.0.0:80 received=312 sent=5120 connect=1.204 total=40331.007 end=closed"#
    );
    assert_eq!(
        line(LogLayout::Combined, &entry),
        r#"192.0.2.7 - - [23/Nov/2026:11:33:45 +0000] "GET /x?y=1 HTTP/1.1" 200 4800 "-" "curl/8""#
    );
    let json: serde_json::Value = serde_json::from_str(&line(LogLayout::Json, &entry)).unwrap();
    assert_eq!(json["target"], "/x?y=1");
    assert_eq!(json["status"], 200);
    assert_eq!(json["user_agent"], "curl/8");
    assert!(json.get("referer").is_none());
}

#[test]
fn what_there_was_not_is_a_dash_or_left_out() {
    let request = Request { status: 0, body: 0, user_agent: None, ..request() };
    let entry = Entry {
        client: None,
        server: None,
        connect: None,
        end: End::Refused(Why::Down),
        about: About::Request(request),
        ..stream(b"")
    };
    assert_eq!(
        line(LogLayout::Plain, &entry),
        r#"unix 1795433625.042 - "GET /x?y=1 HTTP/1.1" - body=0 listener=0.0.0.0:80 received=312 sent=5120 total=40331.007 end=down"#
    );
    assert_eq!(line(LogLayout::Common, &entry), r#"unix - - [23/Nov/2026:11:33:45 +0000] "GET /x?y=1 HTTP/1.1" - -"#);
    let json: serde_json::Value = serde_json::from_str(&line(LogLayout::Json, &entry)).unwrap();
    assert!(["client", "server", "status", "connect_ms"].iter().all(|key| json.get(key).is_none()), "{json}");
}

/// Fields that stand between double quotes, where a backslash takes the next byte along; and those that do not.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted, mut bytes) = (Vec::new(), String::new(), false, line.chars());
    while let Some(byte) = bytes.next() {
        match byte {
            '\\' => field.extend([byte, bytes.next().unwrap()]),
            '"' => quoted = !quoted,
            ' ' if !quoted => fields.push(std::mem::take(&mut field)),
            byte => field.push(byte),
        }
    }
    fields.push(field);
    fields
}

#[test]
fn a_client_can_forge_neither_lines_nor_fields() {
    let evil: &[u8] = b"x\" 200 1\r\n10.9.9.9 - - [now] \"GET / HTTP/1.1\" 200 \\\" \0\x1b[31m\xff, \"end\":\"y";
    let nasty = Request {
        method: evil,
        target: evil,
        host: Some(evil),
        referer: Some(evil),
        user_agent: Some(evil),
        ..request()
    };
    for (layout, count) in [(LogLayout::Plain, 13), (LogLayout::Common, 8), (LogLayout::Combined, 10)] {
        let entry = Entry { about: About::Request(nasty), ..stream(b"") };
        let shown = line(layout, &entry);
        assert_eq!(fields(&shown).len(), count, "{shown}");
    }
    let named = Entry { server: Some(Server { name: "a b\"\n=", address: None }), ..stream(evil) };
    assert_eq!(fields(&line(LogLayout::Plain, &named)).len(), 12);
    let json: serde_json::Value =
        serde_json::from_str(&line(LogLayout::Json, &Entry { about: About::Request(nasty), ..named })).unwrap();
    assert_eq!(json["end"], "closed");
    assert_eq!(json["target"], String::from_utf8_lossy(evil).as_ref());
}

#[test]
fn a_line_is_a_datagram_however_much_the_client_sends() {
    let long = vec![0xff; 100_000];
    let much = Request {
        method: &long,
        target: &long,
        host: Some(&long),
        referer: Some(&long),
        user_agent: Some(&long),
        ..request()
    };
    for layout in [LogLayout::Plain, LogLayout::Common, LogLayout::Combined, LogLayout::Json] {
        let entry = Entry { about: About::Request(much), ..stream(b"") };
        assert!(line(layout, &entry).len() < 65_000, "{layout}");
    }
}

#[test]
fn the_second_is_the_entrys_also_when_the_one_before_had_another() {
    let mut formatter = Formatter::new(LogLayout::Common);
    let mut stamp = |second| {
        let (mut out, entry) = (Vec::new(), Entry { start: UNIX_EPOCH + Duration::from_secs(second), ..stream(b"") });
        formatter.line(&entry, &mut out);
        String::from_utf8(out).unwrap()[15..35].to_owned()
    };
    assert_eq!(stamp(1_795_433_625), "23/Nov/2026:11:33:45");
    assert_eq!(stamp(1_795_433_626), "23/Nov/2026:11:33:46");
    assert_eq!(stamp(1_795_433_625), "23/Nov/2026:11:33:45");
    assert_eq!(stamp(0), "01/Jan/1970:00:00:00");
}

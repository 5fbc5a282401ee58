//! The access log of a proxy at work.

use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::time::Instant;

use pen_dsr::config::proxy::{AccessLog, Forwarded, LogLayout, LogTarget, Mode};

use crate::harness::{PATIENCE, config, serve, start};

#[test]
fn a_relayed_connection_is_told_of_when_it_begins_and_when_it_is_over() {
    let (server, _) = serve(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(b"bye").unwrap();
    });
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    collector.set_read_timeout(Some(PATIENCE)).unwrap();
    let line = || {
        let mut buffer = [0; 2000];
        let length = collector.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut config = config(&[server]);
    let target = LogTarget::Udp(collector.local_addr().unwrap());
    config.proxy.access_log = Some(AccessLog { target, layout: LogLayout::Plain });
    let proxy = start(&config);
    let mut client = proxy.connect();
    let from = client.local_addr().unwrap();
    client.write_all(b"HELLO \"x\"\r\nmore").unwrap();
    let begun = line();
    assert!(begun.starts_with(&format!("{from} ")), "{begun}");
    assert!(begun.contains(&format!(" {server} \"HELLO \\\"x\\\"\" - server=be0 ")), "{begun}");
    assert!(begun.ends_with(" end=begun"), "{begun}");
    client.shutdown(Shutdown::Write).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    let over = line();
    assert!(over.contains(&format!(" {server} \"-\" - ")), "{over}");
    assert!(over.contains(" received=15 sent=3 connect=") && over.ends_with(" end=closed"), "{over}");
}

#[test]
fn each_request_has_its_line_in_the_file() {
    let (server, _) = serve(|mut stream| {
        let mut buffer = [0; 4000];
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access");
    let mut config = config(&[server]);
    config.proxy.listeners[0].mode = Mode::Http(Forwarded::default());
    config.proxy.access_log = Some(AccessLog { target: LogTarget::File(path.clone()), layout: LogLayout::Json });
    let proxy = start(&config);
    let mut client = proxy.connect();
    for path in ["/a", "/b"] {
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nUser-Agent: \"u\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nno") {
            let mut buffer = [0; 1000];
            let length = client.read(&mut buffer).unwrap();
            assert!(length > 0);
            answer.extend_from_slice(&buffer[..length]);
        }
    }
    let begin = Instant::now();
    let mut text = String::new();
    // Whole ones.
    while text.matches('\n').count() < 2 {
        assert!(begin.elapsed() < PATIENCE, "{text}");
        std::thread::sleep(std::time::Duration::from_millis(5));
        text = std::fs::read_to_string(&path).unwrap();
    }
    for (line, path) in text.lines().zip(["/a", "/b"]) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["client"], "127.0.0.1");
        assert_eq!(line["server_address"], server.to_string());
        assert_eq!((&line["method"], &line["target"]), (&"GET".into(), &path.into()));
        assert_eq!((&line["status"], &line["body"]), (&404.into(), &2.into()));
        assert_eq!((&line["user_agent"], &line["end"]), (&"\"u".into(), &"closed".into()));
    }
}

//! Requests that pass: what the server gets.

use super::*;

/// The head that the server gets, of a request that is well.
#[track_caller]
fn passes(input: &str, rewrite: &Rewrite<'_>) -> String {
    let outcome = forward(input, rewrite);
    assert_eq!((outcome.refusal, outcome.ended), (None, 1), "{input:?}");
    outcome.text()
}

#[test]
fn a_head_with_nothing_to_change_passes_byte_for_byte() {
    let input = "GET /a?b=c HTTP/1.1\r\nHost: example\r\nUser-Agent: x\r\nAccept:  */* \r\nX-Empty:\r\n\r\n";
    assert_eq!(passes(input, &plain()), input);
}

#[test]
fn what_is_for_one_hop_is_taken_out() {
    for line in [
        "Connection: keep-alive",
        "connection:close",
        "Keep-Alive: timeout=5",
        "Keep_Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eA==",
        "proxy: http://attacker.example/",
        "TE: trailers",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        "Upgrade: websocket",
        "Connection: x-secret\r\nX-Secret: 1",
        "X-Secret: 1\r\nAccept: */*\r\nConnection: close, X-SECRET , te\r\nTE: x",
        "Connection: ,, ,",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: example\r\n{line}\r\nA: b\r\n\r\n");
        let accept = if line.contains("Accept") { "Accept: */*\r\n" } else { "" };
        let expected = format!("GET / HTTP/1.1\r\nHost: example\r\n{accept}A: b\r\n\r\n");
        assert_eq!(passes(&input, &plain()), expected, "{line}");
    }
}

#[test]
fn disguised_names_are_taken_out() {
    for name in ["X_Forwarded_For", "x-forwarded_proto", "Content_Length", "TRANSFER_ENCODING", "Proxy_Connection"] {
        let input = format!("GET / HTTP/1.1\r\nHost: example\r\n{name}: 1\r\n\r\n");
        assert_eq!(passes(&input, &plain()), "GET / HTTP/1.1\r\nHost: example\r\n\r\n", "{name}");
    }
    let harmless = "GET / HTTP/1.1\r\nHost: example\r\nmy_header: 1\r\nUser_Agent: 2\r\n\r\n";
    assert_eq!(passes(harmless, &plain()), harmless);
}

#[test]
fn connection_cannot_take_out_what_is_for_everybody() {
    let input = "POST / HTTP/1.1\r\nConnection: host, content-length\r\nHost: example\r\nContent-Length: 1\r\n\r\nx";
    let expected = "POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(passes(input, &plain()), expected);
}

#[test]
fn a_websocket_upgrade_passes_and_others_do_not() {
    let head = |connection: &str, upgrade: &str| {
        format!("GET /chat HTTP/1.1\r\nHost: example\r\nConnection: {connection}\r\nUpgrade: {upgrade}\r\nA: b\r\n\r\n")
    };
    let passed = "GET /chat HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nA: b\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(passes(&head("Upgrade", "websocket"), &plain()), passed);
    assert_eq!(passes(&head("keep-alive, upgrade", "websocket"), &plain()), passed);
    let without = "GET /chat HTTP/1.1\r\nHost: example\r\nA: b\r\n\r\n";
    assert_eq!(passes(&head("keep-alive", "websocket"), &plain()), without);
    for protocol in ["h2c", "H2C", "websocket, h2c", "TLS/1.0", "HTTP/2.0", ""] {
        assert_eq!(passes(&head("Upgrade, HTTP2-Settings", protocol), &plain()), without, "{protocol}");
    }
    let with_body =
        "POST / HTTP/1.1\r\nHost: example\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(passes(with_body, &plain()), "POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 1\r\n\r\nx");
}

#[test]
fn http10_becomes_http11_with_a_host() {
    assert_eq!(passes("GET / HTTP/1.0\r\n\r\n", &plain()), "GET / HTTP/1.1\r\nHost: default.example\r\n\r\n");
    assert_eq!(
        passes("GET /x HTTP/1.0\r\nExpect: 100-continue\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", &plain()),
        "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    );
}

#[test]
fn an_absolute_target_becomes_a_path_and_replaces_host() {
    for (target, path, host) in [
        ("http://b.example/x?y", "/x?y", "b.example"),
        ("HTTPS://b.example:8443/", "/", "b.example:8443"),
        ("http://[2001:db8::1]:80", "/", "[2001:db8::1]:80"),
    ] {
        assert_eq!(
            passes(&format!("GET {target} HTTP/1.1\r\nA: 1\r\nHost: a.example\r\n\r\n"), &plain()),
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nA: 1\r\n\r\n")
        );
    }
    assert_eq!(
        passes("OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", &plain()),
        "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n"
    );
    let asterisk = "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!(passes(asterisk, &plain()), asterisk);
}

#[test]
fn without_reuse_the_server_is_told() {
    let rewrite = Rewrite { reuse: false, ..plain() };
    assert_eq!(
        passes("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", &rewrite),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
}

/// Their own headers, the policy, whether they are believed, what becomes of them.
#[test]
fn where_a_request_comes_from() {
    use OwnHeader::{Append, Drop, Replace};
    let both = |own| Forwarded { x_forwarded: true, forwarded: true, own };
    let x_only = |own| Forwarded { x_forwarded: true, forwarded: false, own };
    let none = "";
    let spoofed = "X-Forwarded-For: 1.1.1.1\r\nA: b\r\nx-forwarded-for: 2.2.2.2, 3.3.3.3\r\nX-FORWARDED-PROTO: https\r\n\
                   Forwarded: for=1.1.1.1\r\n";
    let ours = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n";
    let element = "Forwarded: for=192.0.2.7;proto=http\r\n";
    for (own, forwarded, trusted, expected) in [
        (none, x_only(Replace), false, ours.to_string()),
        (none, x_only(Append), false, ours.to_string()),
        (none, x_only(Drop), false, String::new()),
        (none, x_only(Drop), true, ours.to_string()),
        (none, both(Replace), false, format!("{ours}{element}")),
        (spoofed, x_only(Replace), false, format!("A: b\r\n{ours}")),
        (spoofed, both(Replace), false, format!("A: b\r\n{ours}{element}")),
        (spoofed, both(Drop), false, "A: b\r\n".to_string()),
        (
            spoofed,
            both(Append),
            false,
            "X-Forwarded-For: 1.1.1.1\r\nA: b\r\nx-forwarded-for: 2.2.2.2, 3.3.3.3, 192.0.2.7\r\n\
             Forwarded: for=1.1.1.1, for=192.0.2.7;proto=http\r\nX-Forwarded-Proto: http\r\n"
                .to_string(),
        ),
        (
            spoofed,
            both(Drop),
            true,
            "X-Forwarded-For: 1.1.1.1\r\nA: b\r\nx-forwarded-for: 2.2.2.2, 3.3.3.3, 192.0.2.7\r\n\
             X-FORWARDED-PROTO: https\r\nForwarded: for=1.1.1.1, for=192.0.2.7;proto=http\r\n"
                .to_string(),
        ),
        ("X-Forwarded-For:\r\nForwarded: \r\n", both(Append), false, format!("{ours}{element}")),
        ("Connection: x-forwarded-for\r\nX-Forwarded-For: 1.1.1.1\r\n", x_only(Append), true, ours.to_string()),
    ] {
        let rewrite = Rewrite { forwarded, trusted, ..plain() };
        let passed = passes(&format!("GET / HTTP/1.1\r\nHost: a\r\n{own}\r\n"), &rewrite);
        assert_eq!(passed, format!("GET / HTTP/1.1\r\nHost: a\r\n{expected}\r\n"), "{own:?} {rewrite:?}");
    }
}

#[test]
fn addresses_are_written_as_each_header_wants_them() {
    let forwarded = Forwarded { x_forwarded: true, forwarded: true, own: OwnHeader::Replace };
    for (client, x_forwarded_for, element) in [
        (Some("0.10.200.99"), "0.10.200.99", "for=0.10.200.99"),
        (Some("255.100.9.1"), "255.100.9.1", "for=255.100.9.1"),
        (Some("2001:db8::1"), "2001:db8::1", "for=\"[2001:db8::1]\""),
        (Some("::ffff:192.0.2.1"), "192.0.2.1", "for=192.0.2.1"),
        (None, "unknown", "for=unknown"),
    ] {
        let client = client.map(|client| client.parse().expect("an address"));
        let rewrite = Rewrite { client, https: true, forwarded, ..plain() };
        assert_eq!(
            passes("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &rewrite),
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {x_forwarded_for}\r\nX-Forwarded-Proto: https\r\n\
                 Forwarded: {element};proto=https\r\n\r\n"
            )
        );
    }
}

#[test]
fn every_request_of_a_pipeline_is_told_where_it_comes_from() {
    let forwarded = Forwarded::default();
    let input = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
                 POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                 GET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
    let outcome = forward(input, &Rewrite { forwarded, ..plain() });
    assert_eq!((outcome.refusal, outcome.ended), (None, 4));
    assert_eq!(outcome.text().matches("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\r\n").count(), 4);
}

#[test]
fn what_the_access_log_wants_is_pointed_at() {
    let input = b"GET http://b/x HTTP/1.1\r\nHost: a\r\nReferer:  r \r\nUser-Agent: u a\r\n\r\n";
    let mut reader = RequestReader::new();
    assert_eq!(reader.next(input, &LIMITS), Ok(Step::Head { consumed: input.len() }));
    let head = reader.head();
    assert_eq!(head.line.of(input), b"GET http://b/x HTTP/1.1");
    assert_eq!(head.method_name.of(input), b"GET");
    assert_eq!(head.target.of(input), b"http://b/x");
    assert_eq!(head.host.of(input), b"b");
    assert_eq!(head.referer.of(input), b"r");
    assert_eq!(head.user_agent.of(input), b"u a");
}

#[test]
fn persistence_is_asked_for_as_each_version_does() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Proxy-Connection: Keep-Alive\r\n", false),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        let mut reader = RequestReader::new();
        reader.next(input.as_bytes(), &LIMITS).expect("a request");
        assert_eq!(reader.head().keep_alive, keep_alive, "{input:?}");
    }
}

//! Requests that two readers may understand differently: none is forwarded.

use super::*;

/// The status that a request is refused with, and that not a byte of it was forwarded.
#[track_caller]
fn refused(input: impl AsRef<[u8]>) -> u16 {
    let input = input.as_ref();
    let outcome = forward(input, &plain());
    let Some(refusal) = outcome.refusal else {
        panic!("{:?} was forwarded as {:?}", String::from_utf8_lossy(input), outcome.text())
    };
    assert_eq!(outcome.text(), "", "{:?}", String::from_utf8_lossy(input));
    refusal.status
}

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn lengths_that_can_be_read_in_two_ways() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 5 5",
        "Content-Length: 0x5",
        "Content-Length: 5a",
        "Content-Length: 5.0",
        "Content-Length: 1_0",
        "Content-Length: ٥",
        "Content-Length:",
        "Content-Length: ",
        "Content-Length:\t5",
        "Content-Length: 5\t",
        "Content-Length: \"5\"",
        "Content-Length: 9223372036854775808",
        "Content-Length: 18446744073709551616",
        "Content-Length: 18446744073709551621",
        "Content-Length: 00000000000000000005",
    ] {
        assert_eq!(refused(post(fields)), 400, "{fields}");
    }
}

#[test]
fn transfer_encodings_that_are_not_exactly_chunked() {
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "identity",
        "gzip",
        "\"chunked\"",
        "'chunked'",
        "chunked;q=1",
        "chunked; x",
        "chun ked",
        "c",
        "",
        "\tchunked",
        " \tchunked",
        "chunked\t",
        "chunked \t",
        "chunk\u{e9}d",
    ] {
        assert_eq!(refused(post(&format!("Transfer-Encoding: {value}"))), 501, "{value:?}");
    }
    for value in ["\u{b}chunked", "chunked\u{b}", "\u{c}chunked", "chunked\0", "\u{7f}chunked", "\u{1}chunked"] {
        assert_eq!(refused(post(&format!("Transfer-Encoding: {value}"))), 400, "{value:?}");
    }
    assert_eq!(refused(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")), 501);
    assert_eq!(refused(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")), 501);
    assert_eq!(refused(post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")), 501);
    assert_eq!(refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
}

#[test]
fn names_that_are_none() {
    for fields in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding\u{b}: chunked",
        " Transfer-Encoding: chunked",
        "Transfer Encoding: chunked",
        "Transfer-Encoding",
        ": chunked",
        ":",
        "Content-Length : 5",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tfolded",
        "X:\r\n folded",
        "X\0: y",
        "\u{e9}: y",
        "X[]: y",
        "(X): y",
        "\"X\": y",
    ] {
        assert_eq!(refused(post(fields)), 400, "{fields:?}");
    }
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
    assert_eq!(refused("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"), 400);
}

#[test]
fn values_with_control_characters() {
    for code in (0..32).chain([127]).filter(|code| *code != b'\t') {
        for value in [vec![code], vec![b'x', code, b'y'], [&b"0123456789abcdef0123456789abcdef"[..], &[code]].concat()]
        {
            let input = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &value[..], b"\r\n\r\n"].concat();
            assert_eq!(refused(&input), 400, "{input:?}");
        }
    }
    // These may be there (RFC 9110 section 5.5).
    let kept = b"GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\xe9\xff\r\n\r\n";
    assert_eq!(forward(kept, &plain()).out, kept);
}

#[test]
fn lines_that_do_not_end_with_cr_lf() {
    for input in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \nY: z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n",
        "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(refused(input), 400, "{input:?}");
    }
}

#[test]
fn hosts_that_are_missing_many_or_none() {
    for input in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a#b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: []\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
    ] {
        assert_eq!(refused(input), 400, "{input:?}");
    }
}

#[test]
fn targets_that_are_none() {
    for target in [
        "x",
        "example/x",
        "*",
        "?x",
        "/#x",
        "/\u{e9}",
        "http:/x",
        "http:///x",
        "http://u@h/x",
        "http://h?x",
        "ftp://h/x",
        "//\u{1}",
        "file:///etc/passwd",
        "http://a,b/",
        "://h/",
    ] {
        assert_eq!(refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")), 400, "{target:?}");
    }
}

#[test]
fn request_lines_that_are_none() {
    for (input, status) in [
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417),
    ] {
        assert_eq!(refused(input), status, "{input:?}");
    }
}

#[test]
fn heads_that_are_too_long() {
    let limit = LIMITS.head as usize;
    assert_eq!(refused(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(limit))), 414);
    assert_eq!(refused(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(limit))), 431);
    assert_eq!(refused(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(128))), 431);
    let fits = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
    for (more, ended) in [(0, 1), (1, 0)] {
        let value = "x".repeat(limit - fits + more);
        let outcome = forward(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n"), &plain());
        assert_eq!(outcome.ended, ended);
    }
}

#[test]
fn connection_with_too_many_names() {
    let names = ["x"; 17].join(",");
    assert_eq!(refused(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {names}\r\n\r\n")), 400);
}

//! Responses: what the client gets, and what it does not.

use super::*;

const ANY: Asked = Asked { head: false, upgrade: false, http10: false, unwrap: false };

#[track_caller]
fn passes(input: &str, asked: Asked, toward: Toward) -> String {
    let outcome = answer_pieces(&[input.as_bytes()], asked, toward);
    assert_eq!((outcome.refusal, outcome.ended), (None, 1), "{input:?}");
    outcome.text()
}

#[test]
fn what_ends_a_response() {
    for (input, asked) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ANY),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ANY),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", ANY),
        ("HTTP/1.1 200 \u{e9}\r\nContent-Length: 0\r\n\r\n", ANY),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n", ANY),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Asked { head: true, ..ANY }),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Asked { head: true, ..ANY }),
        ("HTTP/1.1 200 OK\r\n\r\n", Asked { head: true, ..ANY }),
        ("HTTP/1.1 204 No Content\r\n\r\n", ANY),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ANY),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 x\r\n\r\n", ANY),
    ] {
        assert_eq!(passes(input, asked, Toward::default()), input);
    }
}

#[test]
fn what_is_for_one_hop_is_taken_out() {
    let input = "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
                 Upgrade: h2,h2c\r\nContent-Length: 0\r\nProxy-Connection: close\r\nProxy-Authenticate: Basic\r\n\r\n";
    let expected = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(passes(input, ANY, Toward::default()), expected);
}

#[test]
fn the_client_is_told_what_becomes_of_its_connection() {
    let input = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
    for (toward, line) in [
        (Toward { close: false, keep_alive: false }, ""),
        (Toward { close: true, keep_alive: false }, "Connection: close\r\n"),
        (Toward { close: true, keep_alive: true }, "Connection: close\r\n"),
        (Toward { close: false, keep_alive: true }, "Connection: keep-alive\r\n"),
    ] {
        assert_eq!(passes(input, ANY, toward), format!("{head}{line}\r\n"));
    }
    let input =
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n";
    let expected = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: upgrade";
    assert_eq!(passes(input, ANY, Toward::default()), format!("{expected}\r\n\r\n"));
    let close = Toward { close: true, keep_alive: false };
    assert_eq!(passes(input, ANY, close), format!("{expected}, close\r\n\r\n"));
}

#[test]
fn no_content_speaks_of_no_length() {
    let input = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answer(input, ANY).refusal.map(|refusal| refusal.status), Some(502));
    let input = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(passes(input, ANY, Toward::default()), "HTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn a_client_of_http10_gets_no_chunks_and_one_response() {
    let asked = Asked { http10: true, ..ANY };
    let input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nA: b\r\n\r\n\
                 5;x\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n";
    assert_eq!(passes(input, asked, Toward::default()), "HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello!");
    let mut reader = ResponseReader::new();
    reader.expect(asked);
    reader.next(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &LIMITS).expect("a response");
    assert!(!reader.delimited());
    assert!(reader.head().keep_alive, "the server's connection can still be used again");
}

#[test]
fn chunks_are_taken_off_with_their_trailers_told() {
    let input = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\nHost: z\r\n\r\n";
    let unwrapped = passes(input, Asked { unwrap: true, ..ANY }, Toward::default());
    assert_eq!(unwrapped, "HTTP/1.1 200 OK\r\n\r\nhellotrailer X: y\r\n");
}

#[test]
fn without_a_length_the_end_of_the_connection_ends_it() {
    let mut reader = ResponseReader::new();
    reader.expect(ANY);
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(reader.next(head, &LIMITS), Ok(Step::Head { consumed: head.len() }));
    assert_eq!(reader.next(b"abc", &LIMITS), Ok(Step::Body { raw: 3 }));
    assert_eq!(reader.next(b"", &LIMITS), Ok(Step::More));
    assert!(reader.ends_with_connection() && !reader.head().keep_alive && !reader.delimited());
}

#[test]
fn whether_the_servers_connection_persists() {
    for (head, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
    ] {
        let mut reader = ResponseReader::new();
        reader.expect(ANY);
        reader.next(head.as_bytes(), &LIMITS).expect("a response");
        assert_eq!(reader.head().keep_alive, keep_alive, "{head:?}");
    }
}

#[test]
fn responses_that_can_be_read_in_two_ways_are_not_forwarded() {
    for input in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSet-Cookie a\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "<html>hello</html>",
        "SSH-2.0-OpenSSH\r\n",
    ] {
        let outcome = answer(input, ANY);
        assert_eq!(outcome.refusal.map(|refusal| refusal.status), Some(502), "{input:?}");
        assert_eq!(outcome.text(), "", "{input:?}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2048));
    assert_eq!(answer(long, ANY).refusal.map(|refusal| refusal.status), Some(502));
}

#[test]
fn what_comes_behind_a_response_is_not_forwarded() {
    for (input, asked) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ANY),
        ("HTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ANY),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Asked { head: true, ..ANY }),
    ] {
        let outcome = answer(input, asked);
        assert_eq!((outcome.refusal.map(|refusal| refusal.status), outcome.ended), (Some(502), 1), "{input:?}");
        assert_eq!(outcome.text().matches("HTTP/1.1").count(), 1);
    }
}

#[test]
fn a_refusal_is_a_whole_response() {
    let mut out = Vec::new();
    Refusal::new(431, "too long").response(false, &mut out);
    let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\
                    Connection: close\r\n\r\ntoo long\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
    assert_eq!(answer(&out, ANY).ended, 1);
    out.clear();
    Refusal::new(502, "gone").response(true, &mut out);
    assert!(out.ends_with(b"\r\n\r\n"));
}

//! HTTP/2 clients over memory, and by hand: what their servers get, and what they get.

mod attacks;
mod peer;

use self::peer::{ClientStream, Pair};
use super::*;
use ::http::{HeaderMap, Request};

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://a.example{path}")).body(()).expect("a request")
}

#[test]
fn a_request_becomes_http11_and_its_response_http2() {
    let mut pair = Pair::new(H2Settings::default());
    let request = Request::get("https://a.example/x?y")
        .header("user-agent", "u")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("host", "b.example")
        .header("x-forwarded-for", "1.1.1.1")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let mut stream = pair.send(request, true);
    pair.answers(
        "HTTP/1.1 200 OK\r\nServer: s\r\nConnection: keep-alive, x\r\nX: y\r\nKeep-Alive: 1\r\nContent-Length: 5\r\n\r\nhello",
    );
    pair.run();
    assert_eq!(
        pair.at_server(1),
        "GET /x?y HTTP/1.1\r\nhost: a.example\r\nuser-agent: u\r\ncookie: a=1; b=2\r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    );
    let response = pair.response(&mut stream);
    assert_eq!((response.status.as_u16(), &response.body[..], response.ended), (200, &b"hello"[..], true));
    let fields: Vec<_> = response.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(fields, [("server", &b"s"[..]), ("content-length", b"5")]);
    assert_eq!(pair.server.streams(), 0);
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(Request::post("https://a/").body(()).expect("a request"), false);
    pair.run();
    stream.send.send_data("hello ".into(), false).expect("room");
    pair.run();
    stream.send.send_data("world".into(), false).expect("room");
    let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), "1".parse().expect("a value"))]);
    stream.send.send_trailers(trailers).expect("trailers");
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    pair.answer(1, format!("{head}3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-Sum: 2\r\n\r\n"));
    pair.run();
    assert!(
        pair.at_server(1).ends_with("\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\nx-sum: 1\r\n\r\n"),
        "{}",
        pair.at_server(1)
    );
    let response = pair.response(&mut stream);
    assert_eq!((&response.body[..], response.ended), (&b"abcde"[..], true));
    assert_eq!(response.trailers.expect("trailers")["x-sum"], "2");
    assert!(!response.headers.contains_key("transfer-encoding"));
}

#[test]
fn a_length_that_the_client_says_is_kept() {
    let mut pair = Pair::new(H2Settings::default());
    let request = Request::put("https://a/").header("content-length", "5").body(()).expect("a request");
    let mut stream = pair.send(request, false);
    stream.send.send_data("hello".into(), true).expect("room");
    pair.answers("HTTP/1.1 204 No Content\r\n\r\n");
    pair.run();
    assert!(pair.at_server(1).ends_with("X-Forwarded-Proto: https\r\n\r\nhello"), "{}", pair.at_server(1));
    assert_eq!(pair.response(&mut stream).status.as_u16(), 204);
}

#[test]
fn a_response_without_a_length_ends_with_its_connection() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(get("/"), true);
    pair.answers("HTTP/1.0 200 OK\r\n\r\nabc");
    pair.run();
    let mut response = pair.response(&mut stream);
    assert_eq!((&response.body[..], response.ended), (&b"abc"[..], false));
    pair.server_closes(1);
    pair.run();
    response = pair.response(&mut stream);
    assert!(response.ended && response.error.is_none());
}

#[test]
fn a_response_that_is_cut_off_is_an_error_for_the_client() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut pair = Pair::new(H2Settings::default());
        let mut stream = pair.send(get("/"), true);
        pair.answers(answer);
        pair.run();
        pair.server_closes(1);
        pair.run();
        let response = pair.response(&mut stream);
        assert_eq!(response.error.and_then(|error| error.reason()), Some(Reason::INTERNAL_ERROR));
        assert_eq!(pair.resets, [1]);
    }
}

#[test]
fn head_and_no_content_have_no_body() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(Request::head("https://a/").body(()).expect("a request"), true);
    pair.answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    pair.run();
    let response = pair.response(&mut stream);
    assert!(response.headers["content-length"] == "5" && response.ended);
    let mut stream = pair.send(get("/"), true);
    pair.answers("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
    pair.run();
    let response = pair.response(&mut stream);
    assert_eq!((response.status.as_u16(), response.ended), (304, true));
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let mut pair = Pair::new(H2Settings::default());
    let request = Request::put("https://a/").header("expect", "100-continue").body(()).expect("a request");
    let mut stream = pair.send(request, false);
    pair.run();
    assert!(pair.at_server(1).contains("\r\nexpect: 100-continue\r\n"));
    pair.answer(1, "HTTP/1.1 100 Continue\r\n\r\n");
    pair.run();
    assert_eq!(pair.interim(&mut stream).map(|status| status.as_u16()), Some(100));
    stream.send.send_data("hello".into(), true).expect("room");
    pair.answer(1, "HTTP/1.1 204 No Content\r\n\r\n");
    pair.run();
    assert_eq!(pair.response(&mut stream).status.as_u16(), 204);
}

#[test]
fn an_early_refusal_stops_the_upload_after_a_while() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(Request::post("https://a/").body(()).expect("a request"), false);
    pair.answers("HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\nno");
    pair.run();
    let response = pair.response(&mut stream);
    assert_eq!((response.status.as_u16(), &response.body[..], response.ended), (413, &b"no"[..], true));
    // It may go on for a while.
    assert_eq!(pair.upload(&mut stream, &[0; 1 << 20], 0), 1 << 20);
    assert!(pair.server.lingers());
    assert_eq!(pair.client_reset(&mut stream), None);
    pair.server.let_go();
    pair.run();
    assert_eq!(pair.client_reset(&mut stream), Some(Reason::NO_ERROR));
    assert!(!pair.server.lingers());
}

#[test]
fn an_early_answer_that_is_no_refusal_stops_the_upload_at_once() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(Request::post("https://a/").body(()).expect("a request"), false);
    pair.answers("HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok");
    pair.run();
    let response = pair.response(&mut stream);
    assert_eq!((response.status.as_u16(), &response.body[..], response.ended), (200, &b"ok"[..], true));
    assert_eq!(pair.client_reset(&mut stream), Some(Reason::NO_ERROR));
}

#[test]
fn an_upload_that_ends_behind_its_refusal_is_over() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(Request::post("https://a/").body(()).expect("a request"), false);
    pair.answers("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n");
    pair.run();
    assert_eq!(pair.response(&mut stream).status.as_u16(), 403);
    stream.send.send_data("all the same".into(), true).expect("room");
    pair.run();
    assert!(!pair.server.lingers());
    assert_eq!(pair.client_reset(&mut stream), None);
}

#[test]
fn who_does_not_consume_gets_no_more() {
    const SIZE: usize = 1 << 20;
    let mut pair = Pair::new(H2Settings { wide_window: 65_535, ..H2Settings::default() });
    let mut stream = pair.send(Request::post("https://a/").body(()).expect("a request"), false);
    pair.reads = false;
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let mut sent = pair.upload(&mut stream, &body, 0);
    assert!(sent < 256 * 1024, "{sent}");
    assert!(pair.server.request(1).len() < 128 * 1024);
    pair.reads = true;
    for _ in 0..SIZE {
        if sent == SIZE {
            break;
        }
        sent = pair.upload(&mut stream, &body, sent);
    }
    stream.send.send_data(Bytes::new(), true).expect("the end");
    pair.run();
    assert!(pair.unchunked(1) == body);
}

/// What a client sends at once of a request that nobody consumes.
fn sent_in_vain(pair: &mut Pair) -> (ClientStream, usize) {
    let mut stream = pair.send(Request::post("https://a/").body(()).expect("a request"), false);
    let sent = pair.upload(&mut stream, &[0; 1 << 20], 0);
    (stream, sent)
}

#[test]
fn few_uploads_have_wide_windows_and_many_narrow_ones() {
    let settings = H2Settings::default();
    let mut pair = Pair::new(settings);
    pair.reads = false;
    let few: Vec<_> = (0..FEW).map(|_| sent_in_vain(&mut pair)).collect();
    assert!(few.iter().all(|(_, sent)| *sent >= settings.wide_window as usize), "{:?}", sizes(&few));
    // The first one more makes it many.
    let many: Vec<_> = (FEW..40).map(|_| sent_in_vain(&mut pair)).collect();
    assert!(many[1..].iter().all(|(_, sent)| (65_535..100_000).contains(sent)), "{:?}", sizes(&many));
    // When they have gone, it is few again.
    for (mut stream, _) in few.into_iter().chain(many) {
        stream.send.send_reset(Reason::CANCEL);
    }
    pair.run();
    let (_stream, sent) = sent_in_vain(&mut pair);
    assert!(sent >= settings.wide_window as usize, "{sent}");
}

fn sizes(uploads: &[(ClientStream, usize)]) -> Vec<usize> {
    uploads.iter().map(|(_, sent)| *sent).collect()
}

#[test]
fn a_client_that_does_not_read_stops_its_response_alone() {
    const SIZE: usize = 1 << 20;
    let mut pair = Pair::new(H2Settings::default());
    let mut slow = pair.send(get("/slow"), true);
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    pair.answers([format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes(), body.clone()].concat());
    pair.run();
    let waiting = pair.waiting(1);
    assert!(waiting > SIZE - 200 * 1024, "{waiting}");
    // The connection's window is full, too: small answers without a body still come.
    let mut quick = pair.send(get("/quick"), true);
    pair.answers("HTTP/1.1 204 x\r\n\r\n");
    pair.run();
    assert_eq!(pair.response(&mut quick).status.as_u16(), 204);
    let mut received = Vec::new();
    while received.len() < SIZE {
        let response = pair.response(&mut slow);
        assert!(!response.body.is_empty() && response.error.is_none());
        received.extend(response.body);
        pair.run();
    }
    assert!(received == body);
    assert!(pair.response(&mut slow).ended);
}

#[test]
fn many_streams_do_not_mix() {
    let mut pair = Pair::new(H2Settings::default());
    let mut streams: Vec<_> = (0..100).map(|number| pair.send(get(&format!("/{number}")), true)).collect();
    pair.run();
    assert_eq!(pair.server.streams(), 100);
    for number in (0..100u32).rev() {
        assert!(pair.at_server(number * 2 + 1).starts_with(&format!("GET /{number} ")));
        pair.answer(
            number * 2 + 1,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {number}\r\n\r\n{}", "x".repeat(number as usize)),
        );
    }
    pair.run();
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(pair.response(stream).body.len(), number);
    }
}

#[test]
fn a_client_that_gives_up_is_told_of() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(get("/"), true);
    pair.run();
    stream.send.send_reset(Reason::CANCEL);
    pair.run();
    assert_eq!((&pair.resets[..], pair.server.streams()), (&[1][..], 0));
    assert_eq!(pair.server.respond(1, b"HTTP/1.1 200 OK\r\n\r\n"), 19, "it leads nowhere");
}

#[test]
fn who_gives_up_downloads_is_served_on_and_who_gives_up_requests_only_is_not() {
    for begun in [true, false] {
        let mut pair = Pair::new(H2Settings::default());
        for number in 0..=RESETS {
            let mut stream = pair.send(get("/"), true);
            pair.run();
            if begun {
                pair.answer(number * 2 + 1, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc");
                pair.run();
            }
            stream.send.send_reset(Reason::CANCEL);
            pair.run();
        }
        assert_eq!(pair.server.is_closed(), !begun, "begun: {begun}");
    }
}

#[test]
fn draining_lets_requests_end() {
    let mut pair = Pair::new(H2Settings::default());
    let mut stream = pair.send(get("/"), true);
    pair.run();
    pair.server.goaway();
    pair.run();
    assert!(!pair.server.is_closed());
    pair.answer(1, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    pair.run();
    assert_eq!(pair.response(&mut stream).body, b"hi");
    pair.run();
    assert!(pair.server.is_closed());
}

#[test]
fn a_refusal_reaches_the_client() {
    let mut pair = Pair::new(H2Settings::default());
    let request = Request::get("https://a.example/").header("expect", "wonders").body(()).expect("a request");
    let mut stream = pair.send(request, true);
    pair.run();
    let response = pair.response(&mut stream);
    assert_eq!((response.status.as_u16(), response.ended), (417, true));
    assert!(!response.headers.contains_key("connection"));
    assert!(pair.at_server(1).is_empty());
}

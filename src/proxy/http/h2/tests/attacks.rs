//! Frames made by hand (RFC 9113 section 4), as no well-behaved client sends them.

use super::super::super::{Exchange, Step};
use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields that HPACK leaves as they are (RFC 7541 section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        for text in [name, value] {
            if text == name {
                block.push(0);
            }
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn begin() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

const WELL: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a")];

/// Shows a connection these bytes; what happened, and the frames that it sent, by type.
fn show(connection: &mut H2Connection, bytes: &[u8]) -> (Vec<H2Event>, Vec<(u8, Vec<u8>)>) {
    let mut events = Vec::new();
    connection.input(bytes);
    connection.poll(&mut events);
    let mut out = Vec::new();
    connection.output(&mut out);
    connection.poll(&mut events);
    connection.output(&mut out);
    let mut frames = Vec::new();
    let mut rest = &out[..];
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames.push((*kind, payload[..length].to_vec()));
        rest = &payload[length..];
    }
    (events, frames)
}

/// The reason of a GOAWAY (RFC 9113 section 6.8) among them.
fn goaway(frames: &[(u8, Vec<u8>)]) -> Option<u32> {
    let (_, payload) = frames.iter().find(|(kind, payload)| *kind == GOAWAY && payload[4..8] != [0; 4])?;
    Some(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")))
}

#[test]
fn the_same_frames_in_any_pieces() {
    let request = frame(HEADERS, END_HEADERS, 1, &fields(WELL));
    let bytes = [begin(), request, frame(DATA, 0, 1, b"hello"), frame(DATA, END_STREAM, 1, b"!")].concat();
    let mut connection = H2Connection::new(&H2Settings::default());
    let (events, _) = show(&mut connection, &bytes);
    assert_eq!(events, [H2Event::Request(1)]);
    let whole = connection.request(1).to_vec();
    assert!(whole.ends_with(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"));
    for stride in [1, 2, 3, 7, 24, 33] {
        let mut connection = H2Connection::new(&H2Settings::default());
        for piece in bytes.chunks(stride) {
            show(&mut connection, piece);
        }
        assert_eq!(connection.request(1), whole);
    }
}

#[test]
fn what_is_not_http2_is_closed() {
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        let mut connection = H2Connection::new(&H2Settings::default());
        let (events, _) = show(&mut connection, bytes);
        assert!(connection.is_closed() && events.is_empty());
    }
    let mut connection = H2Connection::new(&H2Settings::default());
    connection.input_end();
    show(&mut connection, b"");
    assert!(connection.is_closed());
}

#[test]
fn fields_that_would_smuggle_in_http11_are_not_forwarded() {
    for extra in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "h2c"),
        ("te", "chunked"),
        ("Transfer-Encoding", "chunked"),
        ("x: y\r\ntransfer-encoding", "chunked"),
        ("x", "y\r\ntransfer-encoding: chunked"),
        ("x", "y\nz"),
        ("x", "y\0"),
        ("x y", "z"),
        ("", "z"),
        (":path", "/other"),
        (":method", "POST"),
        (":unknown", "x"),
        ("content-length", "5"),
        ("content-length", "-1"),
    ] {
        let block = fields(&[WELL, &[extra]].concat());
        let bytes = [begin(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat();
        let mut connection = H2Connection::new(&H2Settings::default());
        let (events, _) = show(&mut connection, &bytes);
        assert_eq!(events, [], "{extra:?}");
    }
}

#[test]
fn pseudo_fields_that_would_smuggle_are_refused() {
    for (method, path, authority) in [
        ("GET", "/ HTTP/1.1\r\nx: y", "a"),
        ("GET", "/\u{7f}", "a"),
        ("GET", "x", "a"),
        ("GET", "*", "a"),
        ("GET", "", "a"),
        ("GET / HTTP/1.1\r\nHost: b\r\n\r\nGET", "/", "a"),
        ("GET /x", "/", "a"),
        ("GET", "/", "a\r\nx: y"),
        ("GET", "/", "user@a"),
        ("GET", "/", "a/b"),
        ("GET", "/", "a b"),
        ("GET", "/", ""),
        ("CONNECT", "/", "a:443"),
    ] {
        let block = fields(&[(":method", method), (":scheme", "https"), (":path", path), (":authority", authority)]);
        let bytes = [begin(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat();
        let mut connection = H2Connection::new(&H2Settings::default());
        show(&mut connection, &bytes);
        let text = connection.request(1).to_vec();
        if !text.is_empty() {
            let limits = Limits { head: 4096 };
            let read = Exchange::new().from_client(&text, &limits);
            assert!(read.is_err(), "{method:?} {path:?} {authority:?} {:?}", String::from_utf8_lossy(&text));
        }
    }
    // And well ones are.
    let mut connection = H2Connection::new(&H2Settings::default());
    show(&mut connection, &[begin(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(WELL))].concat());
    let read = Exchange::new().from_client(connection.request(1), &Limits { head: 4096 });
    assert!(matches!(read, Ok(Step::Head { .. })));
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_cut_off() {
    for data in [&b"123"[..], b"1234567"] {
        let block = fields(&[WELL, &[("content-length", "5")]].concat());
        let bytes = [begin(), frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, END_STREAM, 1, data)].concat();
        let mut connection = H2Connection::new(&H2Settings::default());
        let (events, _) = show(&mut connection, &bytes);
        let over = events.contains(&H2Event::Reset(1)) || events.is_empty();
        assert!(over && connection.streams() == 0, "{data:?} {events:?}");
    }
}

#[test]
fn rapid_resets_end_the_connection() {
    let mut connection = H2Connection::new(&H2Settings::default());
    show(&mut connection, &begin());
    let mut reason = None;
    for number in 0..1000u32 {
        // The request is seen before it is given up, so that a server would have been asked.
        let id = number * 2 + 1;
        let (_, first) = show(&mut connection, &frame(HEADERS, END_HEADERS | END_STREAM, id, &fields(WELL)));
        let (_, second) = show(&mut connection, &frame(RST_STREAM, 0, id, &8u32.to_be_bytes()));
        reason = goaway(&first).or(goaway(&second));
        if connection.is_closed() {
            assert!(number < 200, "{number}");
            break;
        }
    }
    assert_eq!((connection.is_closed(), reason), (true, Some(u32::from(Reason::ENHANCE_YOUR_CALM))));
}

#[test]
fn rapid_resets_in_one_piece_end_the_connection() {
    let mut connection = H2Connection::new(&H2Settings::default());
    let mut bytes = begin();
    for number in 0..500u32 {
        let id = number * 2 + 1;
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &fields(WELL)));
        bytes.extend(frame(RST_STREAM, 0, id, &8u32.to_be_bytes()));
    }
    let (_, frames) = show(&mut connection, &bytes);
    assert_eq!(goaway(&frames), Some(u32::from(Reason::ENHANCE_YOUR_CALM)));
    assert!(connection.is_closed());
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    let mut connection = H2Connection::new(&H2Settings { head: 8192, ..H2Settings::default() });
    show(&mut connection, &begin());
    show(&mut connection, &frame(HEADERS, 0, 1, &fields(WELL)));
    let mut sent = 0;
    while !connection.is_closed() && sent < 10_000 {
        show(&mut connection, &frame(CONTINUATION, 0, 1, &fields(&[("x", "y")])));
        sent += 1;
    }
    assert!(connection.is_closed() && sent < 100, "{sent}");
}

#[test]
fn a_head_that_is_too_long_reaches_no_server() {
    let long = "x".repeat(120);
    let many: Vec<(&str, &str)> = WELL.iter().copied().chain((0..200).map(|_| ("x", &long[..]))).collect();
    let block = fields(&many);
    let mut bytes = begin();
    for (number, piece) in block.chunks(16_000).enumerate() {
        let last = (number + 1) * 16_000 >= block.len();
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        bytes.extend(frame(kind, if last { END_HEADERS } else { 0 } | u8::from(number == 0), 1, piece));
    }
    let mut connection = H2Connection::new(&H2Settings { head: 8192, ..H2Settings::default() });
    let (events, _) = show(&mut connection, &bytes);
    assert_eq!(events, []);
}

#[test]
fn more_requests_at_a_time_than_allowed_are_not_served() {
    let mut connection = H2Connection::new(&H2Settings { streams: 3, ..H2Settings::default() });
    let mut bytes = begin();
    for number in 0..10u32 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &fields(WELL)));
    }
    show(&mut connection, &bytes);
    assert!(connection.streams() <= 3, "{}", connection.streams());
}

#[test]
fn pings_to_a_connection_whose_output_waits_are_not_collected() {
    let mut connection = H2Connection::new(&H2Settings::default());
    show(&mut connection, &begin());
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    let mut events = Vec::new();
    let mut taken = 0;
    while connection.wants_input() && taken < 10_000_000 {
        connection.input(&pings);
        connection.poll(&mut events);
        taken += pings.len();
    }
    assert!(taken < 1_000_000, "{taken}");
    let mut out = Vec::new();
    connection.output(&mut out);
    assert!(out.len() < 300_000, "{}", out.len());
    connection.poll(&mut events);
    assert!(connection.has_output());
}

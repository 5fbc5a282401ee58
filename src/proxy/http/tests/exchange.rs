//! Both sides of an exchange: who may send when, what is sent again, what becomes of the connections.

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// An event loop without sockets: bytes that came, bytes that go.
#[derive(Default)]
struct Relay {
    exchange: Exchange,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Relay {
    /// The client sends; true: it has to wait for the response.
    fn client(&mut self, bytes: impl AsRef<[u8]>) -> Result<bool, Refusal> {
        self.from_client.extend_from_slice(bytes.as_ref());
        loop {
            let raw = match self.exchange.from_client(&self.from_client, &LIMITS)? {
                Step::More => return Ok(false),
                Step::Hold => return Ok(true),
                Step::End => 0,
                Step::Skip { raw } => raw,
                Step::Head { consumed } => {
                    self.exchange.write_request(&self.from_client[..consumed], &plain(), &mut self.to_server);
                    consumed
                }
                Step::Body { raw } | Step::Trailer { raw } => {
                    self.to_server.extend_from_slice(&self.from_client[..raw]);
                    raw
                }
            };
            self.from_client.drain(..raw);
        }
    }

    /// The server sends; true: the response has ended.
    fn server(&mut self, bytes: impl AsRef<[u8]>) -> Result<bool, Refusal> {
        self.from_server.extend_from_slice(bytes.as_ref());
        loop {
            let raw = match self.exchange.from_server(&self.from_server, &LIMITS)? {
                Step::More | Step::Hold => return Ok(false),
                Step::End => return Ok(true),
                Step::Skip { raw } => raw,
                Step::Head { consumed } => {
                    self.exchange.write_response(&self.from_server[..consumed], &mut self.to_client);
                    consumed
                }
                Step::Body { raw } | Step::Trailer { raw } => {
                    self.to_client.extend_from_slice(&self.from_server[..raw]);
                    raw
                }
            };
            self.from_server.drain(..raw);
        }
    }

    fn finish(&mut self) -> Finish {
        self.exchange.finish(!self.from_client.is_empty())
    }

    fn told(&self) -> String {
        String::from_utf8_lossy(&self.to_client).into_owned()
    }
}

const KEEP: Finish = Finish { client: ClientNext::Keep, reuse: true };

#[test]
fn a_pipeline_goes_one_at_a_time() {
    let mut relay = Relay::default();
    assert_eq!(relay.client([GET, POST, b"12345", GET].concat()), Ok(true));
    assert_eq!(relay.to_server, GET);
    assert_eq!(relay.server(OK), Ok(true));
    assert_eq!(relay.finish(), KEEP);
    assert_eq!(relay.client(b""), Ok(true));
    assert_eq!(relay.to_server, [GET, POST, b"12345"].concat());
    assert_eq!(relay.server(OK), Ok(true));
    assert_eq!(relay.finish(), KEEP);
    assert_eq!(relay.client(b""), Ok(true));
    assert_eq!(relay.server(OK), Ok(true));
    assert_eq!(relay.finish(), KEEP);
    assert!(relay.exchange.is_idle() && relay.from_client.is_empty());
    assert_eq!(relay.to_client, [OK, OK, OK].concat());
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_sends() {
    let mut relay = Relay::default();
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(relay.client(head), Ok(false));
    assert_eq!(relay.to_server, head);
    assert!(relay.exchange.request().expect_continue);
    assert_eq!(relay.server(b"HTTP/1.1 100 Continue\r\n\r\n"), Ok(false));
    assert_eq!(relay.to_client, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(relay.client(b"hello"), Ok(true));
    assert_eq!(relay.server(OK), Ok(true));
    assert_eq!(relay.finish(), KEEP);
}

#[test]
fn who_is_refused_before_the_body_is_lingered_on() {
    let mut relay = Relay::default();
    assert_eq!(relay.client(POST), Ok(false));
    assert_eq!(relay.client(b"he"), Ok(false));
    assert_eq!(relay.server(b"HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n"), Ok(true));
    assert_eq!(relay.told(), "HTTP/1.1 413 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(relay.finish(), Finish { client: ClientNext::Linger, reuse: false });
    let sent = relay.to_server.len();
    assert_eq!(relay.client(b"lloGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(false));
    assert_eq!((relay.to_server.len(), relay.from_client.len()), (sent, 0), "it is dropped");
    assert_eq!(relay.exchange.client_closed(), ClientClosed::Idle);
}

#[test]
fn an_early_response_goes_on_with_its_request_then_the_client_is_closed() {
    let mut relay = Relay::default();
    relay.client(POST).expect("a request");
    assert_eq!(relay.server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"), Ok(false));
    assert_eq!(relay.client(b"hello"), Ok(true));
    assert!(relay.to_server.ends_with(b"hello"));
    assert_eq!(relay.server(b"llo"), Ok(true));
    assert_eq!(relay.finish(), Finish { client: ClientNext::Close, reuse: true });
}

#[test]
fn what_becomes_of_both_connections() {
    let keep10 = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    use ClientNext::{Close, Keep, Linger};
    for (request, response, line, client, reuse) in [
        (get, ok, "", Keep, true),
        (get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "", Keep, false),
        (get, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "", Keep, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", ok, "Connection: close\r\n", Close, true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nx", ok, "Connection: close\r\n", Linger, true),
        ("GET / HTTP/1.0\r\n\r\n", ok, "Connection: close\r\n", Close, true),
        (keep10, ok, "Connection: keep-alive\r\n", Keep, true),
        (
            keep10,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Connection: close\r\n",
            Close,
            true,
        ),
        (get, "HTTP/1.1 304 x\r\n\r\n", "", Keep, true),
    ] {
        let mut relay = Relay::default();
        assert_eq!(relay.client(request), Ok(true));
        assert_eq!(relay.server(response), Ok(true), "{response:?}");
        assert!(relay.told().ends_with(&format!("{line}\r\n")), "{}", relay.told());
        assert_eq!(relay.told().contains("Connection:"), !line.is_empty());
        assert_eq!(relay.finish(), Finish { client, reuse }, "{request:?} {response:?}");
    }
}

#[test]
fn a_response_without_a_length_closes_both() {
    let mut relay = Relay::default();
    relay.client(GET).expect("a request");
    assert_eq!(relay.server(b"HTTP/1.1 200 OK\r\n\r\nabc"), Ok(false));
    assert_eq!(relay.told(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
    assert_eq!(relay.exchange.server_closed(false), ServerClosed::Complete);
    assert_eq!(relay.finish(), Finish { client: ClientNext::Close, reuse: false });
}

#[test]
fn only_what_does_no_harm_is_sent_again() {
    let retried = |request: &str, response: &str, reused: bool| {
        let mut relay = Relay::default();
        relay.client(request).expect("a request");
        relay.server(response).expect("a response");
        relay.exchange.server_closed(reused) == ServerClosed::Retry
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(retried(get, "", true));
    assert!(retried("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "", true));
    assert!(!retried(get, "", false), "a new connection that dies says something about the server");
    assert!(!retried(get, "H", true), "it was answered");
    assert!(!retried(get, "HTTP/1.1 100 Continue\r\n\r\n", true));
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PATCH / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert!(!retried(request, "", true), "{request:?}");
    }
}

#[test]
fn a_request_that_was_sent_again_is_answered() {
    let mut relay = Relay::default();
    relay.client(GET).expect("a request");
    assert!(relay.exchange.repeatable());
    assert_eq!(relay.exchange.server_closed(true), ServerClosed::Retry);
    assert_eq!(relay.server(OK), Ok(true));
    assert!(!relay.exchange.repeatable());
    assert_eq!(relay.finish(), KEEP);
}

#[test]
fn a_server_that_closes_too_early() {
    let closed = |response: &str| {
        let mut relay = Relay::default();
        relay.client(GET).expect("a request");
        relay.server(response).expect("a response");
        (relay.exchange.server_closed(false), relay.exchange.can_refuse())
    };
    let refused = |outcome| matches!(outcome, (ServerClosed::Refuse(Refusal { status: 502, .. }), true));
    assert!(refused(closed("")));
    assert!(refused(closed("HTTP/1.1 200")));
    assert!(refused(closed("HTTP/1.1 100 Continue\r\n\r\n")));
    let truncated = (ServerClosed::Truncated, false);
    assert_eq!(closed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), truncated);
    assert_eq!(closed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), truncated);
    assert_eq!(closed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), truncated);
    assert_eq!(Exchange::new().server_closed(true), ServerClosed::Idle);
}

#[test]
fn a_server_that_was_not_asked_is_not_listened_to() {
    let mut relay = Relay::default();
    assert_eq!(relay.server(b""), Ok(false));
    assert!(relay.server(OK).is_err());
    let mut relay = Relay::default();
    relay.client(GET).expect("a request");
    assert_eq!(relay.server([OK, OK].concat()), Ok(true));
    assert_eq!(relay.finish(), KEEP);
    assert!(relay.server(b"").is_err(), "the second response was never asked for: the connection is not used again");
}

#[test]
fn a_client_that_sends_no_more() {
    let closed = |request: &[u8]| {
        let mut relay = Relay::default();
        relay.client(request).expect("a request");
        relay.exchange.client_closed()
    };
    assert_eq!(closed(b""), ClientClosed::Idle);
    assert_eq!(closed(b"GET / HT"), ClientClosed::Idle);
    assert_eq!(closed(POST), ClientClosed::Abort);
    assert_eq!(closed(GET), ClientClosed::Waits);
    let mut relay = Relay::default();
    relay.client(GET).expect("a request");
    relay.exchange.client_closed();
    assert_eq!(relay.server(OK), Ok(true));
    assert_eq!(relay.finish().client, ClientNext::Close);
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let mut relay = Relay::default();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(relay.client(request), Ok(true));
    assert_eq!(relay.client(b"\x81\x00"), Ok(true), "not before the server agrees");
    assert_eq!(relay.to_server, request);
    let response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(relay.server([&response[..], b"\x81\x01a"].concat()), Ok(false));
    assert!(relay.exchange.is_tunnel());
    assert_eq!(relay.to_client, [&response[..], b"\x81\x01a"].concat());
    assert_eq!(relay.client(b"GET / HTTP/1.1\r\n\r\n"), Ok(false));
    assert!(relay.to_server.ends_with(b"\x81\x00GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(relay.exchange.client_closed(), ClientClosed::HalfClosed);
    assert_eq!(relay.exchange.server_closed(true), ServerClosed::HalfClosed);
}

#[test]
fn an_upgrade_that_is_declined_is_an_ordinary_exchange() {
    let mut relay = Relay::default();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(relay.client([&request[..], GET].concat()), Ok(true));
    assert_eq!(relay.server(OK), Ok(true));
    assert_eq!(relay.finish(), KEEP);
    assert_eq!(relay.client(b""), Ok(true));
    assert_eq!(relay.to_server, [&request[..], GET].concat());
}

#[test]
fn draining_tells_the_client() {
    let mut relay = Relay::default();
    relay.client(GET).expect("a request");
    relay.exchange.close_after();
    relay.server(OK).expect("a response");
    assert!(relay.told().contains("\r\nConnection: close\r\n"));
    assert_eq!(relay.finish(), Finish { client: ClientNext::Close, reuse: true });
}

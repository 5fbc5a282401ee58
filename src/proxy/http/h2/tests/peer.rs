//! A client by the h2 crate, an event loop's part, and servers that say what they are told to.

use std::collections::BTreeMap;
use std::task::{Context, Waker};

use ::h2::client::{self, ResponseFuture, SendRequest};
use ::h2::{RecvStream, SendStream};
use ::http::{HeaderMap, Request, StatusCode};

use super::super::super::{Exchange, Limits, Rewrite, ServerClosed, Step};
use super::super::*;
use crate::config::proxy::Forwarded;

const LIMITS: Limits = Limits { head: 32_768 };

/// A request as its client has it.
pub(super) struct ClientStream {
    pub(super) send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    receive: Option<RecvStream>,
    status: StatusCode,
    headers: HeaderMap,
}

/// What a client has got since it last looked.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) ended: bool,
    pub(super) error: Option<::h2::Error>,
}

/// What an event loop keeps of a stream.
#[derive(Default)]
struct Session {
    exchange: Exchange,
    to_server: Vec<u8>,
    from_server: Vec<u8>,
    to_client: Vec<u8>,
}

pub(super) struct Pair {
    pub(super) server: H2Connection,
    wire: Wire,
    requests: SendRequest<Bytes>,
    connection: client::Connection<Wire, Bytes>,
    sessions: BTreeMap<u32, Session>,
    /// The next requests are answered so, at once.
    answers: Vec<Vec<u8>>,
    /// Do the servers read?
    pub(super) reads: bool,
    pub(super) resets: Vec<u32>,
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Pair {
    pub(super) fn new(settings: H2Settings) -> Pair {
        let wire = Wire::default();
        let mut handshake = Box::pin(client::Builder::new().handshake(wire.clone()));
        let Poll::Ready(Ok((requests, connection))) = handshake.as_mut().poll(&mut context()) else {
            panic!("a client needs nothing to begin")
        };
        let mut pair = Pair {
            server: H2Connection::new(&settings),
            wire,
            requests,
            connection,
            sessions: BTreeMap::new(),
            answers: Vec::new(),
            reads: true,
            resets: Vec::new(),
        };
        pair.run();
        pair
    }

    /// Sends a request's head; `ends`: it has no body.
    pub(super) fn send(&mut self, request: Request<()>, ends: bool) -> ClientStream {
        assert!(self.requests.poll_ready(&mut context()).is_ready());
        let (response, send) = self.requests.send_request(request, ends).expect("a request");
        ClientStream {
            send,
            response: Some(response),
            receive: None,
            status: StatusCode::default(),
            headers: HeaderMap::new(),
        }
    }

    /// The next request is answered by these bytes.
    pub(super) fn answers(&mut self, bytes: impl AsRef<[u8]>) {
        self.answers.insert(0, bytes.as_ref().to_vec());
    }

    /// The server of this stream sends these bytes.
    pub(super) fn answer(&mut self, id: u32, bytes: impl AsRef<[u8]>) {
        self.session(id).from_server.extend_from_slice(bytes.as_ref());
    }

    fn session(&mut self, id: u32) -> &mut Session {
        self.sessions.get_mut(&id).expect("a session")
    }

    pub(super) fn at_server(&self, id: u32) -> String {
        self.sessions
            .get(&id)
            .map(|session| String::from_utf8_lossy(&session.to_server).into_owned())
            .unwrap_or_default()
    }

    /// The chunked body that a server has got.
    pub(super) fn unchunked(&self, id: u32) -> Vec<u8> {
        let text = &self.sessions[&id].to_server;
        let head = text.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let mut rest = &text[head..];
        let mut body = Vec::new();
        loop {
            let line = rest.windows(2).position(|two| two == b"\r\n").expect("a line");
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).expect("digits"), 16).expect("a size");
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 2 + size + 2..];
        }
    }

    /// Bytes that wait because the client does not take them.
    pub(super) fn waiting(&self, id: u32) -> usize {
        self.sessions[&id].to_client.len()
    }

    pub(super) fn server_closes(&mut self, id: u32) {
        match self.session(id).exchange.server_closed(false) {
            ServerClosed::Complete => self.server.respond_end(id),
            _ => self.server.reset(id),
        }
    }

    /// Until nothing moves any more.
    pub(super) fn run(&mut self) {
        let mut quiet = 0;
        // What one round leaves is sent by the next.
        while quiet < 2 {
            let _ = Pin::new(&mut self.connection).poll(&mut context());
            let mut to_server = Vec::new();
            self.wire.fetch(&mut to_server);
            self.server.input(&to_server);
            let mut events = Vec::new();
            self.server.poll(&mut events);
            self.happened(&events);
            let mut to_client = Vec::new();
            self.server.output(&mut to_client);
            self.wire.put(&to_client);
            let moved = !to_server.is_empty() || !to_client.is_empty() || !events.is_empty();
            quiet = if moved { 0 } else { quiet + 1 };
        }
    }

    fn happened(&mut self, events: &[H2Event]) {
        for event in events {
            match event {
                H2Event::Request(id) => {
                    let from_server = self.answers.pop().unwrap_or_default();
                    self.sessions.insert(*id, Session { from_server, ..Session::default() });
                }
                H2Event::Reset(id) => self.resets.push(*id),
                H2Event::Readable(_) | H2Event::Writable(_) => {}
            }
        }
        let rewrite = Rewrite {
            client: Some([192, 0, 2, 7].into()),
            https: true,
            forwarded: Forwarded::default(),
            trusted: false,
            reuse: true,
            host: "",
        };
        for (id, session) in &mut self.sessions {
            while self.reads {
                let input = self.server.request(*id);
                let raw = match session.exchange.from_client(input, &LIMITS) {
                    Ok(Step::More | Step::Hold) => break,
                    Ok(Step::End) => 0,
                    Ok(Step::Skip { raw }) => raw,
                    Ok(Step::Head { consumed }) => {
                        session.exchange.write_request(&input[..consumed], &rewrite, &mut session.to_server);
                        consumed
                    }
                    Ok(Step::Body { raw } | Step::Trailer { raw }) => {
                        session.to_server.extend_from_slice(&input[..raw]);
                        raw
                    }
                    Err(refusal) => {
                        refusal.response(false, &mut session.to_client);
                        input.len()
                    }
                };
                self.server.consume(*id, raw);
            }
            if session.to_server.is_empty() {
                session.from_server.clear();
            }
            loop {
                let input = &session.from_server[..];
                let raw = match session.exchange.from_server(input, &LIMITS).expect("a response") {
                    Step::More | Step::Hold | Step::End => break,
                    Step::Skip { raw } => raw,
                    Step::Head { consumed } => {
                        session.exchange.write_response(&input[..consumed], &mut session.to_client);
                        consumed
                    }
                    Step::Body { raw } | Step::Trailer { raw } => {
                        session.to_client.extend_from_slice(&input[..raw]);
                        raw
                    }
                };
                session.from_server.drain(..raw);
            }
            let accepted = self.server.respond(*id, &session.to_client);
            session.to_client.drain(..accepted);
        }
    }

    /// Sends as much of `body` from `at` on as there is room for; returns how far it came.
    pub(super) fn upload(&mut self, stream: &mut ClientStream, body: &[u8], mut at: usize) -> usize {
        for _ in 0..64 {
            stream.send.reserve_capacity(body.len() - at);
            self.run();
            let now = stream.send.capacity().min(body.len() - at);
            if now == 0 {
                break;
            }
            stream.send.send_data(Bytes::copy_from_slice(&body[at..at + now]), false).expect("room");
            at += now;
        }
        at
    }

    /// What has come of a response, all of which the client takes.
    pub(super) fn response(&mut self, stream: &mut ClientStream) -> Response {
        let mut got = Response::default();
        if let Some(future) = &mut stream.response {
            match Pin::new(future).poll(&mut context()) {
                Poll::Ready(Ok(response)) => {
                    let (parts, receive) = response.into_parts();
                    (stream.status, stream.headers) = (parts.status, parts.headers);
                    stream.receive = Some(receive);
                    stream.response = None;
                }
                Poll::Ready(Err(error)) => got.error = Some(error),
                Poll::Pending => {}
            }
        }
        (got.status, got.headers) = (stream.status, stream.headers.clone());
        let Some(receive) = &mut stream.receive else { return got };
        loop {
            match receive.poll_data(&mut context()) {
                Poll::Ready(Some(Ok(bytes))) => {
                    receive.flow_control().release_capacity(bytes.len()).expect("what came");
                    got.body.extend_from_slice(&bytes);
                }
                Poll::Ready(Some(Err(error))) => {
                    got.error = Some(error);
                    return got;
                }
                Poll::Pending => return got,
                Poll::Ready(None) => break,
            }
        }
        got.ended = true;
        if let Poll::Ready(Ok(trailers)) = receive.poll_trailers(&mut context()) {
            got.trailers = trailers;
        }
        got
    }

    /// The status of a response that others follow.
    pub(super) fn interim(&mut self, stream: &mut ClientStream) -> Option<StatusCode> {
        match stream.response.as_mut()?.poll_informational(&mut context()) {
            Poll::Ready(Some(Ok(response))) => Some(response.status()),
            _ => None,
        }
    }

    pub(super) fn client_reset(&mut self, stream: &mut ClientStream) -> Option<Reason> {
        match stream.send.poll_reset(&mut context()) {
            Poll::Ready(Ok(reason)) => Some(reason),
            _ => None,
        }
    }
}

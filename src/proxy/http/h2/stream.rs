//! One request over HTTP/2 and its response, shown as the two byte streams of an HTTP/1.1 client.

use std::io::Write as _;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;

use super::super::body::field_line;
use super::super::head::FIELDS;
use super::super::response::{Asked, ResponseReader, Toward};
use super::super::{Limits, Step};

/// Bytes of a request that wait for their server before no more are taken from the client.
const REQUEST: usize = 32 * 1024;

/// A stream (RFC 9113 section 5).
pub(super) struct Stream {
    pub(super) id: u32,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    /// What is still to come of the request.
    receive: Option<RecvStream>,
    /// Is the request's body chunked, for want of a length?
    chunked: bool,
    /// The request as HTTP/1.1.
    request: Vec<u8>,
    /// So much of it has been consumed.
    consumed: usize,
    /// Bytes of bodies that the client may not yet replace by others.
    held: usize,
    reader: ResponseReader,
    /// Bytes of the response's body that the reader has told of and that did not fit.
    owed: usize,
    trailers: Option<HeaderMap>,
    /// Does the response wait until the client takes more?
    blocked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The response is complete.
    Answered,
    /// The client gave it up, or the connection broke.
    Lost,
    /// We gave it up.
    Reset,
}

/// What became of a response's bytes.
enum Sent {
    All,
    /// More does not fit now.
    Blocked,
}

impl Stream {
    pub(super) fn new(id: u32, request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Stream {
        let mut reader = ResponseReader::new();
        let head = request.method() == Method::HEAD;
        reader.expect(Asked { head, upgrade: false, http10: false, unwrap: true });
        let mut text = Vec::with_capacity(512);
        let ends = request.body().is_end_stream();
        let chunked = write_head(&request, ends, &mut text);
        Stream {
            id,
            respond,
            send: None,
            receive: (!ends).then(|| request.into_body()),
            chunked,
            request: text,
            consumed: 0,
            held: 0,
            reader,
            owed: 0,
            trailers: None,
            blocked: false,
            state: State::Open,
        }
    }

    /// The request's bytes that have not been consumed.
    pub(super) fn request(&self) -> &[u8] {
        &self.request[self.consumed..]
    }

    /// `bytes` of the request have gone on.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.consumed = (self.consumed + bytes).min(self.request.len());
        if self.consumed < self.request.len() {
            return;
        }
        self.request.clear();
        self.consumed = 0;
        if let Some(receive) = &mut self.receive {
            // It fails if the stream is gone, of which `pump` will hear.
            let _ = receive.flow_control().release_capacity(self.held);
        }
        self.held = 0;
    }

    /// Is more of the request's body to come?
    pub(super) fn has_more(&self) -> bool {
        self.receive.is_some()
    }

    /// Was the response complete, and one of an error?
    pub(super) fn is_refused(&self) -> bool {
        self.is_answered() && self.reader.head().status >= 400
    }

    /// What is still to come of the request, which nobody waits for any more.
    pub(super) fn rest(&mut self) -> Option<RecvStream> {
        self.receive.take()
    }

    /// Has everything been said, by either side or both?
    pub(super) fn is_over(&self) -> bool {
        self.state != State::Open
    }

    /// Did the client give it up?
    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Has the head of the response been sent?
    pub(super) fn is_begun(&self) -> bool {
        self.send.is_some()
    }

    /// Was the response complete?
    pub(super) fn is_answered(&self) -> bool {
        self.state == State::Answered
    }

    /// Takes what has come of the request; true: there are new bytes.
    pub(super) fn pump(&mut self, context: &mut Context<'_>) -> bool {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(context),
            None => self.respond.poll_reset(context),
        };
        if reset.is_ready() {
            self.state = State::Lost;
            return false;
        }
        let before = self.request.len();
        while self.request().len() < REQUEST && self.receive_some(context) {}
        self.request.len() > before
    }

    /// May a response that waited go on?
    pub(super) fn unblocked(&mut self) -> bool {
        if !self.blocked || self.send.as_ref().is_none_or(|send| send.capacity() == 0) {
            return false;
        }
        self.blocked = false;
        true
    }

    /// False: there is nothing, now or ever.
    fn receive_some(&mut self, context: &mut Context<'_>) -> bool {
        let Some(receive) = &mut self.receive else { return false };
        match receive.poll_data(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.held += bytes.len();
                if bytes.is_empty() {
                    return true;
                }
                if self.chunked {
                    // A Vec takes whatever is written.
                    let _ = write!(self.request, "{:x}\r\n", bytes.len());
                }
                self.request.extend_from_slice(&bytes);
                if self.chunked {
                    self.request.extend_from_slice(b"\r\n");
                }
                true
            }
            Poll::Ready(None) => match receive.poll_trailers(context) {
                Poll::Ready(Ok(trailers)) => {
                    self.receive = None;
                    if self.chunked {
                        self.request.extend_from_slice(b"0\r\n");
                        for (name, value) in trailers.iter().flatten() {
                            write_field(name, value.as_bytes(), &mut self.request);
                        }
                        self.request.extend_from_slice(b"\r\n");
                    }
                    false
                }
                Poll::Ready(Err(_)) => self.lost(),
                Poll::Pending => false,
            },
            Poll::Ready(Some(Err(_))) => self.lost(),
            Poll::Pending => false,
        }
    }

    fn lost(&mut self) -> bool {
        self.state = State::Lost;
        false
    }

    /// Gives the stream up.
    pub(super) fn reset(&mut self, reason: Reason) {
        if self.state == State::Open {
            self.state = State::Reset;
            match &mut self.send {
                Some(send) => send.send_reset(reason),
                None => self.respond.send_reset(reason),
            }
        }
    }

    /// Bytes of the response as HTTP/1.1, all that were not yet accepted; returns how many are now. Those that are not have
    /// to come again, with more behind them, or once the client takes more.
    pub(super) fn respond(&mut self, response: &[u8], limits: &Limits) -> usize {
        let mut at = 0;
        while self.state == State::Open {
            let rest = &response[at..];
            if self.owed > 0 {
                let now = self.owed.min(rest.len());
                if now == 0 {
                    break;
                }
                let (sent, outcome) = self.send_body(&rest[..now]);
                self.owed -= sent;
                at += sent;
                match outcome {
                    Sent::All => continue,
                    Sent::Blocked => break,
                }
            }
            match self.reader.next(rest, limits) {
                Ok(Step::More | Step::Hold) => break,
                Ok(Step::Skip { raw }) => at += raw,
                Ok(Step::Head { consumed }) => {
                    self.send_head(&rest[..consumed]);
                    at += consumed;
                }
                Ok(Step::Body { raw }) => self.owed = raw,
                Ok(Step::Trailer { raw }) => {
                    self.keep_trailer(&rest[..raw]);
                    at += raw;
                }
                Ok(Step::End) => self.end(),
                Err(_) => self.reset(Reason::INTERNAL_ERROR),
            }
        }
        // Of a stream that is over nobody wants the rest.
        if self.state == State::Open { at } else { response.len() }
    }

    /// The response's connection has ended, and all its bytes were accepted.
    pub(super) fn respond_end(&mut self) {
        if self.state == State::Open {
            if self.owed == 0 && self.reader.ends_with_connection() {
                self.end();
            } else {
                self.reset(Reason::INTERNAL_ERROR);
            }
        }
    }

    /// As much of `bytes` as the client is ready to take (RFC 9113 section 5.2).
    fn send_body(&mut self, bytes: &[u8]) -> (usize, Sent) {
        let Some(send) = &mut self.send else {
            // The response has no body that HTTP/2 could carry.
            return (bytes.len(), Sent::All);
        };
        send.reserve_capacity(bytes.len());
        let now = send.capacity().min(bytes.len());
        if now > 0 && send.send_data(Bytes::copy_from_slice(&bytes[..now]), false).is_err() {
            self.state = State::Lost;
        }
        self.blocked = now < bytes.len();
        (now, if self.blocked { Sent::Blocked } else { Sent::All })
    }

    fn send_head(&mut self, head: &[u8]) {
        let facts = *self.reader.head();
        let Some(response) = self.convert(head) else { return self.reset(Reason::INTERNAL_ERROR) };
        if facts.interim() {
            // A client that is gone does not miss it.
            let _ = self.respond.send_informational(response);
            return;
        }
        let ends = facts.framing == super::super::Framing::None;
        match self.respond.send_response(response, ends) {
            Ok(_) if ends => self.state = State::Answered,
            Ok(send) => self.send = Some(send),
            Err(_) => self.state = State::Lost,
        }
    }

    /// A head in HTTP/2, without what is for one hop (RFC 9113 section 8.2.2).
    fn convert(&self, head: &[u8]) -> Option<Response<()>> {
        let mut text = Vec::new();
        self.reader.write_head(head, &Toward::default(), &mut text);
        let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        config.parse_response_with_uninit_headers(&mut parsed, &text, &mut headers).ok()?;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(parsed.code?).ok()?;
        for field in parsed.headers {
            if field.name.eq_ignore_ascii_case("connection") || field.name.eq_ignore_ascii_case("upgrade") {
                continue;
            }
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            response.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
        }
        Some(response)
    }

    fn keep_trailer(&mut self, line: &[u8]) {
        let Some(name) = field_line(line.trim_ascii_end()) else { return };
        let value = line[name.len() + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            self.trailers.get_or_insert_default().append(name, value);
        }
    }

    fn end(&mut self) {
        self.state = State::Answered;
        let Some(send) = &mut self.send else { return };
        let sent = match self.trailers.take() {
            Some(trailers) => send.send_trailers(trailers),
            None => send.send_data(Bytes::new(), true),
        };
        if sent.is_err() {
            self.state = State::Lost;
        }
    }
}

/// Forgets what has come of a request; may more come?
pub(super) fn comes(rest: &mut RecvStream, context: &mut Context<'_>) -> bool {
    loop {
        match rest.poll_data(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                // It fails if the stream is gone, as is seen next.
                let _ = rest.flow_control().release_capacity(bytes.len());
            }
            Poll::Ready(Some(Err(_)) | None) => return false,
            Poll::Pending => return true,
        }
    }
}

/// A request's head as HTTP/1.1. It says no more than the client did: [`RequestReader`](super::super::RequestReader) reads
/// it as it reads every other. Returns whether a chunked body follows.
fn write_head(request: &Request<RecvStream>, ends: bool, out: &mut Vec<u8>) -> bool {
    let uri = request.uri();
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    match (uri.path_and_query(), uri.authority()) {
        (Some(path), _) if request.method() != Method::CONNECT => out.extend_from_slice(path.as_str().as_bytes()),
        (_, Some(authority)) => out.extend_from_slice(authority.as_str().as_bytes()),
        (_, None) => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = uri.authority() {
        // It takes the place of Host (RFC 9113 section 8.3.1).
        write_field(&header::HOST, authority.as_str().as_bytes(), out);
    }
    let mut has_length = false;
    for (name, value) in request.headers() {
        match name.as_str() {
            "host" if uri.authority().is_some() => continue,
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" | "te" => continue,
            // Crumbs, to be put together (RFC 9113 section 8.2.3).
            "cookie" => continue,
            "content-length" => has_length = true,
            _ => {}
        }
        write_field(name, value.as_bytes(), out);
    }
    let mut crumbs = request.headers().get_all(header::COOKIE).iter();
    if let Some(first) = crumbs.next() {
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for crumb in crumbs {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(crumb.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    let chunked = !ends && !has_length;
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    chunked
}

fn write_field(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

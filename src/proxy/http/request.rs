//! Requests of one client connection: reads them one after the other.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Status};

use super::body::{BodyError, BodyReader, Framing, Part};
use super::fields::{self, Field};
use super::head::{FIELDS, Lines, Mark, Span, What};
use super::refusal::Refusal;
use super::target::{self, Target};
use super::{Limits, Step};

/// Empty lines before a request (RFC 9112 section 2.2): old clients sent one behind a body.
const EMPTY_LINES: u8 = 4;
/// Fields that `Connection` may name, besides the options themselves.
const NAMED: usize = 16;

/// Methods that are treated in a way of their own (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    /// All others, also such as nobody knows; CONNECT is refused.
    Other,
}

impl Method {
    fn of(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "TRACE" => Method::Trace,
            _ => Method::Other,
        }
    }

    /// Does doing it twice do the same as doing it once (RFC 9110 section 9.2.2)?
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Other)
    }
}

/// What a request's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Is it HTTP/1.0, not 1.1?
    pub http10: bool,
    /// Does the client want its connection to persist (RFC 9112 section 9.3)?
    pub keep_alive: bool,
    /// Does the client want another protocol (RFC 9110 section 7.8), one that is let through?
    pub upgrade: bool,
    /// Does the client wait for a 100 before it sends the body (RFC 9110 section 10.1.1)?
    pub expect_continue: bool,
    /// How the body is delimited.
    pub framing: Framing,
    /// The first line, without its line end.
    pub line: Span,
    /// The method's name.
    pub method_name: Span,
    /// The target, in whatever form it came.
    pub target: Span,
    /// The host asked for: of an absolute target, or else `Host`.
    pub host: Span,
    /// `Referer`.
    pub referer: Span,
    /// `User-Agent`.
    pub user_agent: Span,
    /// Of an absolute target, what the server is asked for instead; else empty.
    pub(super) path: Span,
    /// Is the target absolute?
    pub(super) absolute: bool,
    /// Is there a host at all?
    pub(super) has_host: bool,
    /// Where the first field line begins.
    pub(super) fields: u32,
}

impl RequestHead {
    const NONE: RequestHead = RequestHead {
        method: Method::Get,
        http10: false,
        keep_alive: false,
        upgrade: false,
        expect_continue: false,
        framing: Framing::None,
        line: Span::NONE,
        method_name: Span::NONE,
        target: Span::NONE,
        host: Span::NONE,
        referer: Span::NONE,
        user_agent: Span::NONE,
        path: Span::NONE,
        absolute: false,
        has_host: false,
        fields: 0,
    };

    /// May it be sent once more if the server's connection turns out to be dead before any byte of a response? That takes
    /// a method of which a second time does no harm, and no body, since that has gone.
    pub fn repeatable(&self) -> bool {
        self.method.is_idempotent() && self.framing == Framing::None && !self.upgrade
    }
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Before a head; empty lines that were skipped.
    Head(u8),
    Body(BodyReader),
}

/// Reads the requests of one client connection.
#[derive(Debug)]
pub struct RequestReader {
    place: Place,
    /// Bytes of an incomplete head that have been looked at.
    seen: u32,
    head: RequestHead,
    /// Of that head.
    pub(super) marks: Vec<Mark>,
}

impl Default for RequestReader {
    fn default() -> RequestReader {
        RequestReader { place: Place::Head(0), seen: 0, head: RequestHead::NONE, marks: Vec::new() }
    }
}

impl RequestReader {
    /// Before the first request.
    pub fn new() -> RequestReader {
        RequestReader::default()
    }

    /// The last head, since [`Step::Head`] told of it.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Is nothing of a further request here yet?
    pub fn between_requests(&self) -> bool {
        matches!(self.place, Place::Head(_))
    }

    /// What `input` begins with: it is all that came and was not yet consumed. After [`Step::More`] the same bytes have to
    /// be there again, with more behind them.
    pub fn next(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        match &mut self.place {
            Place::Head(empty) => match input {
                [] | [b'\r'] => Ok(Step::More),
                [b'\r', b'\n', ..] if *empty < EMPTY_LINES => {
                    *empty += 1;
                    Ok(Step::Skip { raw: 2 })
                }
                [b'\r' | b'\n', ..] => Err(Refusal::bad_request("a request does not begin with an empty line")),
                _ => self.next_head(input, limits),
            },
            Place::Body(body) => match body.next(input, limits.head) {
                Ok(Part::More) => Ok(Step::More),
                Ok(Part::Body(raw)) => Ok(Step::Body { raw }),
                Ok(Part::Skip(raw)) => Ok(Step::Skip { raw }),
                Ok(Part::Trailer(raw)) => Ok(Step::Trailer { raw }),
                Ok(Part::End) => {
                    self.place = Place::Head(0);
                    Ok(Step::End)
                }
                Err(BodyError::Malformed(why)) => Err(Refusal::bad_request(why)),
                Err(BodyError::TrailersTooLarge) => Err(Refusal::new(431, "the trailer section is too long")),
            },
        }
    }

    /// The connection becomes a tunnel: everything that comes is [`Step::Body`].
    pub(super) fn tunnel(&mut self) {
        self.place = Place::Body(BodyReader::new(Framing::Tunnel, false));
    }

    fn next_head(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        let limit = limits.head as usize;
        let looked_at = &input[..input.len().min(limit)];
        if !worth_parsing(&mut self.seen, looked_at, limit) {
            return Ok(Step::More);
        }
        let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        let consumed = match parsed.parse_with_uninit_headers(looked_at, &mut headers) {
            Ok(Status::Complete(consumed)) => consumed,
            Ok(Status::Partial) if looked_at.len() < limit => return Ok(Step::More),
            Ok(Status::Partial) => return Err(too_large(looked_at)),
            Err(error) => return Err(malformed(error, looked_at)),
        };
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Refusal::bad_request("there is no request line"));
        };
        self.seen = 0;
        self.marks.clear();
        self.head = RequestHead::NONE;
        let head = &input[..consumed];
        let lines = Lines::new(head, parsed.headers)
            .ok_or(Refusal::bad_request("a line of the head does not end with CR LF"))?;
        self.head.http10 = version == 0;
        self.read_line(head, method, target, lines.start())?;
        self.read_fields(head, &lines, parsed.headers)?;
        self.place = Place::Body(BodyReader::new(self.head.framing, false));
        Ok(Step::Head { consumed })
    }

    /// The request line, whose fields begin at `fields`.
    #[inline]
    fn read_line(&mut self, head: &[u8], method: &str, target: &str, fields: usize) -> Result<(), Refusal> {
        if method == "CONNECT" {
            return Err(Refusal::new(501, "CONNECT is not for a reverse proxy"));
        }
        let facts = &mut self.head;
        facts.method = Method::of(method);
        facts.method_name = Span::within(head, method.as_bytes());
        facts.target = Span::within(head, target.as_bytes());
        facts.fields = fields as u32;
        facts.line = Span::within(head, &head[..method.len() + target.len() + "  HTTP/1.1".len()]);
        if let Target::Absolute { host, path } = target::target(facts.method, target.as_bytes())? {
            facts.absolute = true;
            facts.host = Span::within(head, host);
            facts.path = Span::within(head, path);
        }
        Ok(())
    }

    #[inline]
    fn read_fields(&mut self, head: &[u8], lines: &Lines<'_, '_>, headers: &[Header<'_>]) -> Result<(), Refusal> {
        let RequestReader { head: facts, marks, .. } = self;
        let mut connection = Connection::default();
        let mut length = None;
        let mut chunked = false;
        let mut upgrade: Option<usize> = None;
        for (index, header) in headers.iter().enumerate() {
            let value = header.value;
            let what = match fields::request_field(header.name.as_bytes()) {
                Field::Other => continue,
                Field::Referer => {
                    facts.referer = Span::within(head, value);
                    continue;
                }
                Field::UserAgent => {
                    facts.user_agent = Span::within(head, value);
                    continue;
                }
                Field::Trailer => continue,
                Field::Host => {
                    if facts.has_host {
                        return Err(Refusal::bad_request("there are several Host fields"));
                    }
                    facts.has_host = true;
                    if !target::is_host(value) {
                        return Err(Refusal::bad_request("Host is no host"));
                    }
                    if !facts.absolute {
                        facts.host = Span::within(head, value);
                        continue;
                    }
                    // RFC 9112 section 3.2.2: the target's takes its place.
                    What::Out
                }
                Field::ContentLength => {
                    if length.is_some() {
                        return Err(Refusal::bad_request("there are several Content-Length fields"));
                    }
                    length = fields::content_length(value);
                    if length.is_none() || lines.has_tab(index) {
                        return Err(Refusal::bad_request("Content-Length is no number"));
                    }
                    continue;
                }
                Field::TransferEncoding => {
                    if chunked || !value.eq_ignore_ascii_case(b"chunked") || lines.has_tab(index) {
                        return Err(Refusal::new(501, "of transfer encodings only chunked is known, once"));
                    }
                    chunked = true;
                    continue;
                }
                Field::Expect => {
                    if facts.http10 {
                        What::Out
                    } else if value.eq_ignore_ascii_case(b"100-continue") {
                        facts.expect_continue = true;
                        continue;
                    } else {
                        return Err(Refusal::new(417, "of expectations only 100-continue is known"));
                    }
                }
                Field::Connection => {
                    connection.read(value).ok_or(Refusal::bad_request("Connection names too many fields"))?;
                    What::Out
                }
                Field::Upgrade => {
                    if upgrade.replace(index).is_some() {
                        return Err(Refusal::bad_request("there are several Upgrade fields"));
                    }
                    What::Out
                }
                Field::OneHop | Field::Disguised => What::Out,
                Field::XForwardedFor => What::XForwardedFor,
                Field::XForwardedProto => What::XForwardedProto,
                Field::Forwarded => What::Forwarded,
            };
            marks.push(lines.mark(index, what));
        }
        facts.framing = match (chunked, length) {
            (true, Some(_)) => {
                return Err(Refusal::bad_request("there are both Content-Length and Transfer-Encoding"));
            }
            (true, None) if facts.http10 => {
                return Err(Refusal::bad_request("HTTP/1.0 knows no Transfer-Encoding"));
            }
            (true, None) => Framing::Chunked,
            (false, Some(length)) if length > 0 => Framing::Length(length),
            (false, _) => Framing::None,
        };
        if !facts.has_host && !facts.http10 {
            return Err(Refusal::bad_request("there is no Host"));
        }
        facts.keep_alive = !connection.close && (!facts.http10 || connection.keep_alive);
        if !connection.named().is_empty() {
            take_out_named(marks, lines, headers, &connection);
        }
        if let Some(index) = upgrade {
            // With a body it would not be clear whose bytes come behind an early 101.
            let possible = connection.upgrade && !facts.http10 && facts.framing == Framing::None;
            facts.upgrade = possible && upgrade_allowed(headers[index].value);
            if facts.upgrade {
                let start = lines.mark(index, What::Out).start;
                marks.retain(|mark| mark.start != start);
            }
        }
        Ok(())
    }
}

/// What `Connection` says (RFC 9110 section 7.6.1).
#[derive(Default)]
pub(super) struct Connection<'a> {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    named: [&'a [u8]; NAMED],
    count: usize,
}

impl<'a> Connection<'a> {
    /// One field's value. None: it names too many fields.
    pub(super) fn read(&mut self, value: &'a [u8]) -> Option<()> {
        // What nearly all clients send.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Some(());
        }
        for option in fields::elements(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                *self.named.get_mut(self.count)? = option;
                self.count += 1;
            }
        }
        Some(())
    }

    pub(super) fn named(&self) -> &[&'a [u8]] {
        &self.named[..self.count]
    }
}

/// Takes the fields out that `Connection` names: all but those that frame the message or say where it goes, which are for
/// everybody. (Who could have `Host` or `Content-Length` taken out would get a request that we did not read.)
pub(super) fn take_out_named(
    marks: &mut Vec<Mark>,
    lines: &Lines<'_, '_>,
    headers: &[Header<'_>],
    connection: &Connection<'_>,
) {
    for (index, header) in headers.iter().enumerate() {
        let name = header.name.as_bytes();
        if !connection.named().iter().any(|named| named.eq_ignore_ascii_case(name)) {
            continue;
        }
        if matches!(fields::request_field(name), Field::Host | Field::ContentLength | Field::TransferEncoding) {
            continue;
        }
        let mark = lines.mark(index, What::Out);
        match marks.binary_search_by_key(&mark.start, |mark| mark.start) {
            Ok(at) => marks[at] = mark,
            Err(at) => marks.insert(at, mark),
        }
    }
}

/// May a connection be handed over to this protocol? Not to HTTP/2 or to TLS: what goes on inside would be requests that
/// nobody has read.
fn upgrade_allowed(protocols: &[u8]) -> bool {
    let mut some = false;
    for protocol in fields::elements(protocols) {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        if [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
            return false;
        }
        some = true;
    }
    some
}

/// Is it worthwhile to parse an incomplete head again? `seen` bytes of it have been parsed before. Short ones always are;
/// of long ones that come in small pieces only those pieces that end a line, so that a slow client costs little.
#[inline]
pub(super) fn worth_parsing(seen: &mut u32, input: &[u8], limit: usize) -> bool {
    const SHORT: usize = 4096;
    let before = std::mem::replace(seen, input.len() as u32) as usize;
    input.len() <= SHORT
        || input.len() >= limit
        || before == 0
        || input.get(before..).is_none_or(|new| new.contains(&b'\n'))
}

/// The refusal of a head that does not end within the limit.
#[cold]
fn too_large(input: &[u8]) -> Refusal {
    if input.contains(&b'\n') {
        Refusal::new(431, "the request's head is too long")
    } else {
        Refusal::new(414, "the request line is too long")
    }
}

#[cold]
fn malformed(error: Error, input: &[u8]) -> Refusal {
    match error {
        Error::TooManyHeaders => Refusal::new(431, "there are too many header fields"),
        Error::Version if input.starts_with(b"PRI * HTTP/2") => {
            Refusal::new(505, "HTTP/2 is spoken over TLS only, where ALPN agreed on it")
        }
        Error::Version => Refusal::new(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
        Error::HeaderName => Refusal::bad_request("a header field's name is malformed"),
        Error::HeaderValue => Refusal::bad_request("a header field's value is malformed"),
        Error::NewLine | Error::Token | Error::Status => Refusal::bad_request("the request line is malformed"),
    }
}

//! Responses of one server connection: reads them one after the other, and writes their heads for the client.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Status};

use super::body::{BodyError, BodyReader, Framing, Part};
use super::fields::{self, Field};
use super::head::{FIELDS, Lines, Mark, What};
use super::refusal::Refusal;
use super::request::{Connection, Method, RequestHead, take_out_named, worth_parsing};
use super::{Limits, Step};

/// What has to be known of a request to read its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its response has no body, whatever its head says.
    pub head: bool,
    /// It may be answered with 101.
    pub upgrade: bool,
    /// The client does not know chunks, nor responses before the last.
    pub http10: bool,
    /// Chunks are to be taken off for another reason.
    pub unwrap: bool,
}

impl Asked {
    /// By this request.
    pub fn by(request: &RequestHead) -> Asked {
        Asked { head: request.method == Method::Head, upgrade: request.upgrade, http10: request.http10, unwrap: false }
    }
}

/// What a response's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// Is it HTTP/1.0, not 1.1?
    pub http10: bool,
    /// Does the server let its connection persist?
    pub keep_alive: bool,
    /// How the body is delimited.
    pub framing: Framing,
}

impl ResponseHead {
    const NONE: ResponseHead = ResponseHead { status: 0, http10: false, keep_alive: false, framing: Framing::None };

    /// Does another response follow (RFC 9110 section 15.2)? 101 is the last one.
    pub fn interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// What a response's head is written with, for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toward {
    /// The client's connection will be closed behind the response.
    pub close: bool,
    /// The client has to be told that it will not be, since in HTTP/1.0 that is not what goes without saying.
    pub keep_alive: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Head,
    Body(BodyReader),
    /// Behind the last response.
    Behind,
}

/// Reads the responses of one server connection.
#[derive(Debug)]
pub struct ResponseReader {
    place: Place,
    asked: Asked,
    /// Bytes of an incomplete head that have been looked at.
    seen: u32,
    /// Have there been bytes since the request?
    begun: bool,
    head: ResponseHead,
    marks: Vec<Mark>,
}

impl Default for ResponseReader {
    fn default() -> ResponseReader {
        ResponseReader {
            place: Place::Behind,
            asked: Asked::default(),
            seen: 0,
            begun: false,
            head: ResponseHead::NONE,
            marks: Vec::new(),
        }
    }
}

impl ResponseReader {
    /// Before the first request.
    pub fn new() -> ResponseReader {
        ResponseReader::default()
    }

    /// The next response answers this request.
    pub fn expect(&mut self, asked: Asked) {
        self.place = Place::Head;
        self.asked = asked;
        self.seen = 0;
        self.begun = false;
    }

    /// The last head, since [`Step::Head`] told of it.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Have there been bytes since the request?
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Would the end of the connection be a proper end of the response here?
    pub fn ends_with_connection(&self) -> bool {
        match &self.place {
            Place::Head => false,
            Place::Body(body) => body.ends_with_connection(),
            Place::Behind => true,
        }
    }

    /// What `input` begins with: it is all that came and was not yet consumed. After [`Step::More`] the same bytes have to
    /// be there again, with more behind them.
    pub fn next(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        self.begun |= !input.is_empty();
        match &mut self.place {
            Place::Head if input.is_empty() => Ok(Step::More),
            Place::Head => self.next_head(input, limits),
            Place::Body(body) => match body.next(input, limits.head) {
                Ok(Part::More) => Ok(Step::More),
                Ok(Part::Body(raw)) => Ok(Step::Body { raw }),
                Ok(Part::Skip(raw)) => Ok(Step::Skip { raw }),
                // A client of HTTP/1.0 knows of none.
                Ok(Part::Trailer(raw)) if self.asked.http10 => Ok(Step::Skip { raw }),
                Ok(Part::Trailer(raw)) => Ok(Step::Trailer { raw }),
                Ok(Part::End) => {
                    self.place = Place::Behind;
                    Ok(Step::End)
                }
                Err(BodyError::Malformed(why)) => Err(Refusal::bad_response(why)),
                Err(BodyError::TrailersTooLarge) => Err(Refusal::bad_response("the server's trailers are too long")),
            },
            Place::Behind if input.is_empty() => Ok(Step::More),
            Place::Behind => Err(Refusal::bad_response("the server sent what nobody asked for")),
        }
    }

    fn next_head(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        let limit = limits.head as usize;
        let looked_at = &input[..input.len().min(limit)];
        if !worth_parsing(&mut self.seen, looked_at, limit) {
            return Ok(Step::More);
        }
        if matches!(input, [b'\r' | b'\n', ..]) {
            return Err(Refusal::bad_response("the server's response begins with an empty line"));
        }
        let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let consumed = match config.parse_response_with_uninit_headers(&mut parsed, looked_at, &mut headers) {
            Ok(Status::Complete(consumed)) => consumed,
            Ok(Status::Partial) if looked_at.len() < limit => return Ok(Step::More),
            Ok(Status::Partial) => return Err(Refusal::bad_response("the server's response head is too long")),
            Err(error) => return Err(malformed(error)),
        };
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(Refusal::bad_response("there is no status line"));
        };
        self.seen = 0;
        self.marks.clear();
        self.head = ResponseHead { status, http10: version == 0, ..ResponseHead::NONE };
        let head = &input[..consumed];
        let lines = Lines::new(head, parsed.headers)
            .ok_or(Refusal::bad_response("a line of the server's response head does not end with CR LF"))?;
        self.read_fields(&lines, parsed.headers)?;
        if self.head.interim() {
            // HTTP/1.0 knows only the last response.
            return Ok(if self.asked.http10 { Step::Skip { raw: consumed } } else { Step::Head { consumed } });
        }
        let unwrap = self.asked.unwrap || self.asked.http10;
        self.place = Place::Body(BodyReader::new(self.head.framing, unwrap));
        Ok(Step::Head { consumed })
    }

    #[inline]
    fn read_fields(&mut self, lines: &Lines<'_, '_>, headers: &[Header<'_>]) -> Result<(), Refusal> {
        let ResponseReader { head: facts, marks, asked, .. } = self;
        let status = facts.status;
        if status < 100 || (status == 101 && (!asked.upgrade || facts.http10)) {
            return Err(Refusal::bad_response("the server's status code answers nothing that was asked"));
        }
        // RFC 9110 sections 8.6 and 15.2, 15.3.5: no body and nothing that speaks of one.
        let bodiless = status < 200 || status == 204;
        let unwrap = asked.unwrap || asked.http10;
        let mut connection = Connection::default();
        let mut length = None;
        let mut chunked = false;
        for (index, header) in headers.iter().enumerate() {
            let what = match fields::response_field(header.name.as_bytes()) {
                Field::ContentLength => {
                    if length.is_some() {
                        return Err(Refusal::bad_response("the server sent several Content-Length fields"));
                    }
                    length = fields::content_length(header.value);
                    if length.is_none() || lines.has_tab(index) {
                        return Err(Refusal::bad_response("the server's Content-Length is no number"));
                    }
                    if !bodiless {
                        continue;
                    }
                    What::Out
                }
                Field::TransferEncoding => {
                    if chunked || !header.value.eq_ignore_ascii_case(b"chunked") || lines.has_tab(index) {
                        return Err(Refusal::bad_response(
                            "of the server's transfer encodings only chunked is known, once",
                        ));
                    }
                    chunked = true;
                    if !bodiless && !unwrap {
                        continue;
                    }
                    What::Out
                }
                Field::Trailer if unwrap => What::Out,
                Field::Connection => {
                    let read = connection.read(header.value);
                    read.ok_or(Refusal::bad_response("the server's Connection names too many fields"))?;
                    What::Out
                }
                // That of 101 says which protocol it is, that of 426 which one it should be.
                Field::Upgrade if status == 101 || status == 426 => continue,
                Field::Upgrade | Field::OneHop | Field::Disguised => What::Out,
                _ => continue,
            };
            marks.push(lines.mark(index, what));
        }
        facts.framing = match (chunked, length) {
            _ if status == 101 => Framing::Tunnel,
            (true, Some(_)) => {
                return Err(Refusal::bad_response("the server sent both Content-Length and Transfer-Encoding"));
            }
            (true, None) if facts.http10 => {
                return Err(Refusal::bad_response("the server sent Transfer-Encoding in HTTP/1.0"));
            }
            _ if bodiless || asked.head || status == 304 => Framing::None,
            (true, None) => Framing::Chunked,
            (false, Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        if !connection.named().is_empty() {
            take_out_named(marks, lines, headers, &connection);
        }
        facts.keep_alive = !connection.close
            && (!facts.http10 || connection.keep_alive)
            && !matches!(facts.framing, Framing::UntilClose | Framing::Tunnel);
        Ok(())
    }

    /// Does the client learn from the head where the body ends? Otherwise its connection has to be closed behind it.
    pub fn delimited(&self) -> bool {
        match self.head.framing {
            Framing::UntilClose | Framing::Tunnel => false,
            Framing::Chunked => !self.asked.http10,
            Framing::None | Framing::Length(_) => true,
        }
    }

    /// Appends to `out` the head that the client gets for `head`: the bytes that [`Step::Head`] told of.
    pub fn write_head(&self, head: &[u8], toward: &Toward, out: &mut Vec<u8>) {
        let facts = &self.head;
        out.reserve(head.len() + 64);
        let mut at = 0;
        if facts.http10 {
            // The version is that of who sends it (RFC 9112 section 2.3).
            out.extend_from_slice(b"HTTP/1.1");
            at = b"HTTP/1.1".len();
        }
        for mark in &self.marks {
            out.extend_from_slice(&head[at..mark.start as usize]);
            at = mark.end as usize;
        }
        out.extend_from_slice(&head[at..head.len() - 2]);
        match facts.status {
            426 if toward.close => out.extend_from_slice(b"Connection: upgrade, close\r\n"),
            101 | 426 => out.extend_from_slice(b"Connection: upgrade\r\n"),
            100..200 => {}
            _ if toward.close => out.extend_from_slice(b"Connection: close\r\n"),
            _ if toward.keep_alive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            _ => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cold]
fn malformed(error: Error) -> Refusal {
    Refusal::bad_response(match error {
        Error::TooManyHeaders => "there are too many header fields in the server's response",
        Error::Version => "the server does not speak HTTP/1.0 or HTTP/1.1",
        Error::HeaderName => "a header field's name in the server's response is malformed",
        Error::HeaderValue => "a header field's value in the server's response is malformed",
        Error::NewLine | Error::Token | Error::Status => "the server's status line is malformed",
    })
}

//! How far a message's body reaches (RFC 9112 sections 6 and 7), byte range by byte range.
//!
//! A chunked body is validated as it passes: what is handed on as [`Part::Body`] is a part of a well-formed body, so
//! that the server cannot find another end of it than we do.

use super::fields::{is_token, is_value, trailer_allowed};

/// Digits of a chunk's size: 2^60 bytes are enough for one chunk, and cannot overflow anybody's 64 bits.
const SIZE_DIGITS: usize = 15;
/// The longest line of a chunk's size with its extensions, bytes. Nobody uses extensions but to do harm.
const SIZE_LINE: usize = 272;

/// How a message is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its head: there is no body.
    None,
    /// By `Content-Length`: so many bytes are still to come.
    Length(u64),
    /// By `Transfer-Encoding: chunked`.
    Chunked,
    /// By the end of the connection; of a response only.
    UntilClose,
    /// It is no message any more: the connection has been handed over (101, RFC 9110 section 7.8).
    Tunnel,
}

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// More bytes are needed.
    More,
    /// To be forwarded.
    Body(usize),
    /// To be dropped.
    Skip(usize),
    /// A trailer field with its line end, while the chunks are taken off.
    Trailer(usize),
    /// The body ended before these bytes.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Of a body that is not chunked.
    Plain(Framing),
    /// Before a chunk's size.
    Size,
    /// Within a chunk: bytes that are left of it.
    Chunk(u64),
    /// Before the line end behind a chunk.
    ChunkEnd,
    /// Before a line of the trailer section; bytes of it that passed.
    Trailers(u32),
    /// Behind everything.
    Done,
}

/// Why a body cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    Malformed(&'static str),
    TrailersTooLarge,
}

/// Follows one body from its first byte to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyReader {
    place: Place,
    /// Are the chunks to be taken off?
    unwrap: bool,
}

impl BodyReader {
    /// For a body of this framing; `unwrap`: give the content only, without chunk sizes.
    pub(super) fn new(framing: Framing, unwrap: bool) -> BodyReader {
        let place = match framing {
            Framing::None | Framing::Length(0) => Place::Done,
            Framing::Chunked => Place::Size,
            other => Place::Plain(other),
        };
        BodyReader { place, unwrap }
    }

    /// Does the end of the connection end this body properly?
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.place, Place::Plain(Framing::UntilClose | Framing::Tunnel) | Place::Done)
    }

    /// What `input`, the bytes that come next, begins with. A trailer section longer than `trailers` bytes is an error.
    pub(super) fn next(&mut self, input: &[u8], trailers: u32) -> Result<Part, BodyError> {
        match self.place {
            Place::Done => Ok(Part::End),
            Place::Plain(_) if input.is_empty() => Ok(Part::More),
            Place::Plain(Framing::Length(left)) => {
                let now = left.min(input.len() as u64);
                let left = left - now;
                self.place = if left == 0 { Place::Done } else { Place::Plain(Framing::Length(left)) };
                Ok(Part::Body(now as usize))
            }
            Place::Plain(_) => Ok(Part::Body(input.len())),
            Place::Trailers(passed) => self.trailer(input, passed, trailers),
            Place::Size | Place::Chunk(_) | Place::ChunkEnd if self.unwrap => self.unwrapped(input),
            Place::Size | Place::Chunk(_) | Place::ChunkEnd => self.chunks(input),
        }
    }

    /// As many chunks, whole or in part, as there are.
    fn chunks(&mut self, input: &[u8]) -> Result<Part, BodyError> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let step = match self.place {
                Place::Trailers(_) => break,
                Place::Chunk(left) => Ok(self.content(left, rest)),
                _ => self.between(rest),
            };
            match step {
                Ok(0) => break,
                Ok(passed) => at += passed,
                // What came before is forwarded first; the same bytes will be refused at the next call.
                Err(_) if at > 0 => break,
                Err(error) => return Err(error),
            }
        }
        match self.place {
            _ if at > 0 => Ok(Part::Body(at)),
            _ => Ok(Part::More),
        }
    }

    /// One range of content, or one of what is around it.
    fn unwrapped(&mut self, input: &[u8]) -> Result<Part, BodyError> {
        match self.place {
            Place::Chunk(_) if input.is_empty() => Ok(Part::More),
            Place::Chunk(left) => Ok(Part::Body(self.content(left, input))),
            _ => self.between(input).map(|passed| if passed == 0 { Part::More } else { Part::Skip(passed) }),
        }
    }

    /// Bytes of a chunk's content, of which `left` are still to come.
    fn content(&mut self, left: u64, input: &[u8]) -> usize {
        let now = left.min(input.len() as u64);
        self.place = if left == now { Place::ChunkEnd } else { Place::Chunk(left - now) };
        now as usize
    }

    /// A whole line between two chunks' contents; 0: not all of it is there.
    fn between(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        if self.place == Place::ChunkEnd {
            return match input {
                [] | [b'\r'] => Ok(0),
                [b'\r', b'\n', ..] => {
                    self.place = Place::Size;
                    Ok(2)
                }
                _ => Err(BodyError::Malformed("a chunk is longer than its size says")),
            };
        }
        let Some((size, line)) = size_line(input).map_err(BodyError::Malformed)? else { return Ok(0) };
        self.place = if size == 0 { Place::Trailers(0) } else { Place::Chunk(size) };
        Ok(line)
    }

    fn trailer(&mut self, input: &[u8], passed: u32, limit: u32) -> Result<Part, BodyError> {
        let allowed = limit.saturating_sub(passed) as usize;
        let looked_at = &input[..input.len().min(allowed)];
        let Some(end) = looked_at.iter().position(|byte| *byte == b'\n') else {
            return if input.len() >= allowed { Err(BodyError::TrailersTooLarge) } else { Ok(Part::More) };
        };
        let Some(line) = looked_at[..end].strip_suffix(b"\r") else {
            return Err(BodyError::Malformed("a trailer's line ends without CR"));
        };
        if line.is_empty() {
            self.place = Place::Done;
            return Ok(if self.unwrap { Part::Skip(2) } else { Part::Body(2) });
        }
        let name = field_line(line).ok_or(BodyError::Malformed("a trailer is no header field"))?;
        let raw = end + 1;
        self.place = Place::Trailers(passed + raw as u32);
        Ok(match (trailer_allowed(name), self.unwrap) {
            (false, _) => Part::Skip(raw),
            (true, false) => Part::Body(raw),
            (true, true) => Part::Trailer(raw),
        })
    }
}

/// A chunk's size and how long its line is, CR LF included. None: not all of it is there. Whether a byte is refused
/// depends on those before it alone, so that it does not matter how the bytes arrive.
fn size_line(input: &[u8]) -> Result<Option<(u64, usize)>, &'static str> {
    let mut size = 0;
    let mut at = 0;
    while let Some(digit) = input.get(at).and_then(|byte| char::from(*byte).to_digit(16)) {
        if at == SIZE_DIGITS {
            return Err("a chunk's size has too many digits");
        }
        size = size << 4 | u64::from(digit);
        at += 1;
    }
    match input.get(at) {
        None => return Ok(None),
        Some(b'\r') if at > 0 => {}
        Some(b';' | b' ' | b'\t') if at > 0 => at += extensions(&input[at..])?,
        Some(_) => return Err("a chunk's size is no hexadecimal number"),
    }
    match input.get(at..at + 2) {
        Some(b"\r\n") => Ok(Some((size, at + 2))),
        Some(_) => Err("the line of a chunk's size does not end with CR LF"),
        None if input.get(at).is_some_and(|byte| *byte != b'\r') => {
            Err("the line of a chunk's size does not end with CR LF")
        }
        None => Ok(None),
    }
}

/// How long a chunk's extensions are (RFC 9112 section 7.1.1). No line end can hide in them: there are no control
/// characters, quoted or not.
fn extensions(input: &[u8]) -> Result<usize, &'static str> {
    let blank = input.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match input.get(blank) {
        None | Some(b';') => {}
        Some(_) => return Err("white space behind a chunk's size"),
    }
    let length = input.iter().take(SIZE_LINE).take_while(|byte| is_value(**byte)).count();
    if length == SIZE_LINE { Err("a chunk's extensions are too long") } else { Ok(length) }
}

/// The name of a field line without its line end; none if it is no field line (RFC 9112 section 5).
pub(super) fn field_line(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let valid = !name.is_empty() && name.iter().all(|byte| is_token(*byte)) && value.iter().all(|byte| is_value(*byte));
    valid.then_some(name)
}

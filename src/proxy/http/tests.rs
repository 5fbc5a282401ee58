//! Bytes in, bytes out: what is forwarded, what is refused, and that it does not matter in which pieces it came.

mod body;
mod exchange;
mod requests;
mod responses;
mod smuggling;

use super::*;
use crate::config::proxy::{Forwarded, OwnHeader};

const LIMITS: Limits = Limits { head: 2048 };

/// What came out of a reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    out: Vec<u8>,
    /// Messages that ended.
    ended: usize,
    refusal: Option<Refusal>,
}

impl Outcome {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

fn plain() -> Rewrite<'static> {
    Rewrite {
        client: Some([192, 0, 2, 7].into()),
        https: false,
        forwarded: Forwarded { x_forwarded: false, forwarded: false, own: OwnHeader::Append },
        trusted: false,
        reuse: true,
        host: "default.example",
    }
}

/// What comes of these pieces by `read`, which takes one step and writes the heads. `trailer` is put before each trailer.
fn through(
    pieces: &[&[u8]],
    trailer: &[u8],
    mut read: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Step, Refusal>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut waiting: Vec<u8> = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let raw = match read(&waiting, &mut outcome.out) {
                Ok(Step::More) => break,
                Ok(Step::Hold) => panic!("a reader does not hold"),
                Ok(Step::Skip { raw }) => raw,
                Ok(Step::Head { consumed }) => consumed,
                Ok(Step::Body { raw }) => {
                    outcome.out.extend_from_slice(&waiting[..raw]);
                    raw
                }
                Ok(Step::Trailer { raw }) => {
                    outcome.out.extend_from_slice(trailer);
                    outcome.out.extend_from_slice(&waiting[..raw]);
                    raw
                }
                Ok(Step::End) => {
                    outcome.ended += 1;
                    0
                }
                Err(refusal) => {
                    outcome.refusal = Some(refusal);
                    return outcome;
                }
            };
            waiting.drain(..raw);
        }
    }
    outcome
}

/// Requests that come in these pieces, as the server gets them.
fn forward_pieces(pieces: &[&[u8]], rewrite: &Rewrite<'_>) -> Outcome {
    let mut reader = RequestReader::new();
    through(pieces, b"", |waiting, out| {
        let step = reader.next(waiting, &LIMITS)?;
        if let Step::Head { consumed } = step {
            reader.write_head(&waiting[..consumed], rewrite, out);
        }
        Ok(step)
    })
}

fn forward(input: impl AsRef<[u8]>, rewrite: &Rewrite<'_>) -> Outcome {
    forward_pieces(&[input.as_ref()], rewrite)
}

/// Responses to requests that were all the same, in these pieces, as the client gets them.
fn answer_pieces(pieces: &[&[u8]], asked: Asked, toward: Toward) -> Outcome {
    let mut reader = ResponseReader::new();
    reader.expect(asked);
    through(pieces, b"trailer ", |waiting, out| {
        let step = reader.next(waiting, &LIMITS)?;
        if let Step::Head { consumed } = step {
            reader.write_head(&waiting[..consumed], &toward, out);
        }
        Ok(step)
    })
}

fn answer(input: impl AsRef<[u8]>, asked: Asked) -> Outcome {
    answer_pieces(&[input.as_ref()], asked, Toward::default())
}

//! What holds for any bytes that claim to be HTTP: the body of the property tests and of the fuzz target.

#![allow(dead_code, unreachable_pub)] // Each crate uses a part.

use pen_dsr::config::proxy::{Forwarded, OwnHeader};
use pen_dsr::proxy::http::{Asked, Limits, Refusal, RequestReader, ResponseReader, Rewrite, Step, Toward};

const LIMITS: Limits = Limits { head: 2048 };

/// What came out of a reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is forwarded.
    pub out: Vec<u8>,
    /// Messages that ended.
    pub ended: usize,
    /// Why it went no further.
    pub refusal: Option<Refusal>,
}

/// A reader of either kind.
enum Reader {
    Request(RequestReader),
    Response(ResponseReader),
}

impl Reader {
    fn next(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        match self {
            Reader::Request(reader) => reader.next(input, &LIMITS),
            Reader::Response(reader) => reader.next(input, &LIMITS),
        }
    }

    fn write_head(&self, head: &[u8], out: &mut Vec<u8>) {
        let rewrite = Rewrite {
            client: None,
            https: false,
            // What is added to each request again and again could not be compared.
            forwarded: Forwarded { x_forwarded: false, forwarded: false, own: OwnHeader::Append },
            trusted: false,
            reuse: true,
            host: "default.example",
        };
        match self {
            Reader::Request(reader) => reader.write_head(head, &rewrite, out),
            Reader::Response(reader) => reader.write_head(head, &Toward::default(), out),
        }
    }
}

/// Shows a reader `input` in pieces that end at `cuts`; `asked`: it is a response to such a request.
pub fn read(input: &[u8], cuts: &[usize], asked: Option<Asked>) -> Outcome {
    let mut reader = match asked {
        None => Reader::Request(RequestReader::new()),
        Some(asked) => {
            let mut reader = ResponseReader::new();
            reader.expect(asked);
            Reader::Response(reader)
        }
    };
    let mut outcome = Outcome::default();
    let mut from = 0;
    for to in cuts.iter().copied().chain([input.len()]) {
        loop {
            let waiting = &input[from..to.max(from)];
            let raw = match reader.next(waiting) {
                Ok(Step::More) => break,
                Ok(Step::Hold) => panic!("a reader does not hold"),
                Ok(Step::Skip { raw }) => raw,
                Ok(Step::Head { consumed }) => {
                    reader.write_head(&waiting[..consumed], &mut outcome.out);
                    consumed
                }
                Ok(Step::Body { raw } | Step::Trailer { raw }) => {
                    outcome.out.extend_from_slice(&waiting[..raw]);
                    raw
                }
                Ok(Step::End) => {
                    outcome.ended += 1;
                    from += 0;
                    continue;
                }
                Err(refusal) => {
                    outcome.refusal = Some(refusal);
                    return outcome;
                }
            };
            assert!(raw > 0 && raw <= waiting.len(), "{raw} of {} bytes", waiting.len());
            from += raw;
        }
    }
    outcome
}

/// The first byte says what is read, the second and third where it is cut; the rest is read. Asserts that
/// - nothing panics, whatever comes;
/// - the outcome does not depend on the pieces that it comes in;
/// - what is forwarded is itself well-formed, has as many messages, and is not changed by a second reader.
pub fn run(input: &[u8]) {
    let [mode, cut, stride, input @ ..] = input else { return };
    let asked = Asked { head: mode & 2 != 0, upgrade: mode & 4 != 0, http10: mode & 8 != 0, unwrap: false };
    let asked = (mode & 1 != 0).then_some(asked);
    let input = &input[..input.len().min(4096)];
    let whole = read(input, &[], asked);
    let once = [usize::from(*cut) * 8 % (input.len() + 1)];
    let often: Vec<usize> = (1..input.len()).step_by(usize::from(*stride) % 64 + 1).collect();
    for cuts in [&once[..], &often] {
        assert_eq!(read(input, cuts, asked), whole, "cut at {cuts:?}");
    }
    let again = read(&whole.out, &[], asked);
    let text = String::from_utf8_lossy(&whole.out);
    assert_eq!(again.refusal, None, "{text}");
    assert!(again.out == whole.out, "{text}\nbecomes\n{}", String::from_utf8_lossy(&again.out));
    // To a client of HTTP/1.0 the end of the connection says where a body without a length ends.
    if !asked.is_some_and(|asked| asked.http10) {
        assert_eq!(again.ended, whole.ended, "{text}");
    }
}

/// `run`'s input, of these choices.
pub fn input(mode: u8, cut: u8, stride: u8, bytes: &[u8]) -> Vec<u8> {
    [&[mode, cut, stride], bytes].concat()
}

//! The golden table: frame in, what leaves, byte by byte. Every data path has to pass it.
//!
//! A data path is configured as [`config`] says, and is shown the rows in their order, with no time passing: a later
//! fragment relies on the row of its first one. [`run`] compares. The same table stands as text in `table.txt`, for
//! data paths that are not written in Rust.

#![allow(dead_code, unreachable_pub)] // Each test crate uses a part.

#[path = "../common/frames.rs"]
pub mod frames;

pub mod config;
mod foreign;
mod forward;
mod fragments;
mod icmp;
mod malformed;
mod neighbor;
pub mod text;

use pen_dsr::verdict::DropReason;

use frames::MacBytes;

/// One frame, and what is to become of it.
pub struct Row {
    /// What is shown, unique in the table.
    pub name: &'static str,
    /// The frame from the wire.
    pub frame: Vec<u8>,
    /// What becomes of it.
    pub expect: Expect,
    /// Frames that leave besides, in their order.
    pub originates: Vec<Vec<u8>>,
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It goes to the backend with this MAC: its two MACs change, nothing else.
    Forward(MacBytes),
    /// This leaves in its place.
    Answer(Vec<u8>),
    /// The host gets it as it came.
    Host,
    /// Nobody gets it.
    Drop(DropReason),
}

/// What a data path did with one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What went to the wire, in its order.
    pub sent: Vec<Vec<u8>>,
    /// What the host got.
    pub to_host: Vec<Vec<u8>>,
    /// Why it was dropped, if it was.
    pub dropped: Option<DropReason>,
}

impl Row {
    /// A row that originates nothing.
    pub fn new(name: &'static str, frame: Vec<u8>, expect: Expect) -> Row {
        Row { name, frame, expect, originates: Vec::new() }
    }

    /// What a data path has to do with the frame.
    pub fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::default();
        match &self.expect {
            Expect::Forward(backend) => {
                let mut frame = self.frame.clone();
                frame[..6].copy_from_slice(backend);
                frame[6..12].copy_from_slice(&config::OWN);
                outcome.sent.push(frame);
            }
            Expect::Answer(frame) => outcome.sent.push(frame.clone()),
            Expect::Host => outcome.to_host.push(self.frame.clone()),
            Expect::Drop(reason) => outcome.dropped = Some(*reason),
        }
        outcome.sent.extend(self.originates.iter().cloned());
        outcome
    }
}

/// All rows, in the order in which they have to be run.
pub fn rows() -> Vec<Row> {
    [forward::rows(), fragments::rows(), icmp::rows(), neighbor::rows(), foreign::rows(), malformed::rows()]
        .into_iter()
        .flatten()
        .collect()
}

/// Shows every row's frame to the data path `show`, and panics with all rows that went otherwise than the table says.
pub fn run(mut show: impl FnMut(&[u8]) -> Outcome) {
    let mut wrong = String::new();
    for row in rows() {
        let (is, must) = (show(&row.frame), row.outcome());
        if is != must {
            wrong += &format!(
                "\n{}\n  in   {}\n  must {}\n  is   {}",
                row.name,
                text::hex(&row.frame),
                text::outcome(&must),
                text::outcome(&is)
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

//! One direction of a relayed connection.
//!
//! Bytes are read into memory that all sessions of an event loop share, and written at once. What the receiver has no room
//! for is kept, and nothing more is read until it is gone: that is the back-pressure, and what bounds the memory. Bulk goes
//! through a pipe within the kernel instead.

use std::io;

use super::stream::{Received, Stream};
use super::tls::Scratch;
use crate::os::Pipe;

/// So many reads of this many bytes, one after the other, are bulk.
const BULK_READS: u8 = 2;
const BULK_BYTES: usize = 16 * 1024;
/// Bytes that are read at a time.
const SCRATCH: usize = 128 * 1024;
/// Bytes that are moved through a pipe at a time.
const SPLICE_BYTES: usize = 1 << 20;
/// Rounds after which others have their turn.
const MOST_ROUNDS: usize = 32;

/// What the sessions of an event loop share.
pub(super) struct Supplies {
    /// What is read goes here first.
    pub(super) scratch: Vec<u8>,
    /// Memory for what waits.
    pub(super) buffers: Vec<Vec<u8>>,
    /// Pipes with nothing in them.
    pub(super) pipes: Vec<Pipe>,
    /// Buffers of TLS.
    pub(super) tls: Scratch,
    /// Is bulk moved by pipes?
    pub(super) splice: bool,
}

/// Pipes that are kept for the next bulk.
const SPARE_PIPES: usize = 16;

impl Supplies {
    /// With nothing in them yet.
    pub(super) fn new() -> Supplies {
        Supplies {
            scratch: vec![0; SCRATCH],
            buffers: Vec::new(),
            pipes: Vec::new(),
            tls: Scratch::new(),
            splice: true,
        }
    }

    fn pipe(&mut self) -> Option<Pipe> {
        if !self.splice {
            return None;
        }
        self.pipes.pop().or_else(|| Pipe::new().ok())
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.pipes.len() < SPARE_PIPES {
            self.pipes.push(pipe);
        }
    }
}

/// How far a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Bytes may come.
    Open,
    /// The sender has ended; not all is written, or not told.
    Ending,
    /// Nothing comes any more; the receiver has been told.
    Ended,
    /// The sender's connection broke; what it sent before is still to be written.
    Breaking,
    /// All that there was is written, and then nothing: the sender's connection broke, or the receiver takes no more.
    Broken,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) stage: Stage,
    /// Bytes that the receiver has taken.
    pub(super) bytes: u64,
    /// What it has not had room for: from `written` on.
    kept: Vec<u8>,
    written: usize,
    /// Bulk on its way, and how much of it.
    pipe: Option<(Pipe, usize)>,
    bulk: u8,
    /// What came first, if the access log wants it; empty as long as nothing has come.
    first: Option<Box<[u8]>>,
}

/// So much of what comes first is kept for the access log.
const FIRST: usize = 256;

/// Is there more to do at once?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No: what comes next is told.
    Waits,
    /// Yes; it was only the others' turn.
    Continues,
}

impl Flow {
    pub(super) fn new() -> Flow {
        Flow { stage: Stage::Open, bytes: 0, kept: Vec::new(), written: 0, pipe: None, bulk: 0, first: None }
    }

    /// Is it over?
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended | Stage::Broken)
    }

    /// Puts `bytes` before all that comes.
    pub(super) fn put_first(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// What comes first is wanted for the access log.
    pub(super) fn keep_first(&mut self) {
        self.first = Some(Box::default());
    }

    /// What came first, if it was wanted and is there.
    pub(super) fn first(&self) -> &[u8] {
        self.first.as_deref().unwrap_or_default()
    }

    /// The same, once.
    pub(super) fn take_first(&mut self) -> Option<Box<[u8]>> {
        self.first.take_if(|first| !first.is_empty())
    }

    /// Is something kept for the receiver?
    pub(super) fn holds(&self) -> bool {
        self.written < self.kept.len() || self.pipe.is_some()
    }

    /// Carries what there is from `from` to `to`. `last`: nothing comes the other way any more, so that both connections are
    /// closed when this is done, and `to` need not be told of the end before.
    pub(super) fn pump(&mut self, from: &mut Stream, to: &mut Stream, supplies: &mut Supplies, last: bool) -> Progress {
        for _ in 0..MOST_ROUNDS {
            if self.is_over() {
                return Progress::Waits;
            }
            match self.step(from, to, supplies, last) {
                Ok(true) => {}
                Ok(false) => return Progress::Waits,
                Err(_) => {
                    // Nobody takes the rest.
                    self.release(supplies, false);
                    self.stage = Stage::Broken;
                    return Progress::Waits;
                }
            }
        }
        Progress::Continues
    }

    /// One round; does another make sense? Errors are the receiver's.
    fn step(&mut self, from: &mut Stream, to: &mut Stream, supplies: &mut Supplies, last: bool) -> io::Result<bool> {
        if !self.flush(to, supplies)? {
            return Ok(false);
        }
        match self.stage {
            Stage::Open => {}
            Stage::Ending => {
                let need_not_be_told = last && to.is_plain();
                if !need_not_be_told && !to.shut() {
                    return Ok(false);
                }
                self.stage = Stage::Ended;
                return Ok(false);
            }
            Stage::Breaking => {
                self.stage = Stage::Broken;
                return Ok(false);
            }
            Stage::Ended | Stage::Broken => return Ok(false),
        }
        if self.bulk >= BULK_READS
            && from.is_plain()
            && to.is_plain()
            && let Some(pipe) = supplies.pipe()
        {
            return Ok(self.fill(pipe, from, supplies));
        }
        let received = from.read(&mut supplies.scratch, &mut supplies.tls);
        Ok(match received {
            Received::Bytes(n) => {
                if let Some(first) = &mut self.first
                    && first.is_empty()
                {
                    *first = supplies.scratch[..n.min(FIRST)].into();
                }
                self.bulk = if n >= BULK_BYTES { self.bulk.saturating_add(1) } else { 0 };
                let taken = to.write(&supplies.scratch[..n], &mut supplies.tls)?;
                self.bytes += taken as u64;
                if taken < n {
                    self.kept.extend_from_slice(&supplies.scratch[taken..n]);
                }
                from.readable
            }
            other => self.take_in(&other),
        })
    }

    /// Takes in what is no bytes; does another round make sense?
    fn take_in(&mut self, received: &Received) -> bool {
        match received {
            Received::Bytes(_) | Received::Nothing => return false,
            Received::End => self.stage = Stage::Ending,
            Received::Broken => self.stage = Stage::Breaking,
        }
        true
    }

    /// Fills a pipe with what there is.
    fn fill(&mut self, pipe: Pipe, from: &mut Stream, supplies: &mut Supplies) -> bool {
        let received = from.splice_to(&pipe, SPLICE_BYTES);
        match received {
            Received::Bytes(n) => {
                if n < BULK_BYTES {
                    self.bulk = 0;
                }
                self.pipe = Some((pipe, n));
                true
            }
            other => {
                supplies.give_back(pipe);
                self.take_in(&other)
            }
        }
    }

    /// Writes what is kept; is all of it gone?
    fn flush(&mut self, to: &mut Stream, supplies: &mut Supplies) -> io::Result<bool> {
        if self.written < self.kept.len() {
            let taken = to.write(&self.kept[self.written..], &mut supplies.tls)?;
            self.written += taken;
            self.bytes += taken as u64;
            if self.written < self.kept.len() {
                return Ok(false);
            }
            // A connection that stands still shall not hold memory.
            self.kept = Vec::new();
            self.written = 0;
        }
        while let Some((pipe, left)) = &mut self.pipe {
            let taken = to.splice_from(pipe, *left)?;
            if taken == 0 {
                return Ok(false);
            }
            *left -= taken;
            self.bytes += taken as u64;
            if *left == 0 {
                self.release(supplies, true);
            }
        }
        to.flush()
    }

    /// Lets go of what is held; a pipe that is not empty is no good any more.
    pub(super) fn release(&mut self, supplies: &mut Supplies, is_empty: bool) {
        if let Some((pipe, _)) = self.pipe.take()
            && is_empty
        {
            supplies.give_back(pipe);
        }
        self.kept = Vec::new();
        self.written = 0;
    }
}

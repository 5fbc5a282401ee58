//! Bytes that wait. A session that has none waiting has no memory for them: it comes from the loop's supply, and goes back.

use std::io;

use crate::proxy::flow::Supplies;
use crate::proxy::stream::Stream;
use crate::proxy::tls::Scratch;

/// A body of so many bytes is sent together with its head.
pub(super) const TOGETHER: usize = 16 * 1024;
/// Buffers that are kept for the next session.
const SPARE: usize = 256;
/// The largest that is kept, bytes.
const LARGEST: usize = 64 * 1024;

/// Bytes that wait.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// So many are gone already.
    at: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Puts `more` behind what there is.
    pub(super) fn add(&mut self, supply: &mut Vec<Vec<u8>>, more: &[u8]) {
        if !more.is_empty() {
            self.writer(supply).extend_from_slice(more);
        }
    }

    /// Where more is put behind what there is.
    pub(super) fn writer(&mut self, supply: &mut Vec<Vec<u8>>) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = supply.pop().unwrap_or_default();
        } else if self.is_empty() {
            self.bytes.clear();
            self.at = 0;
        }
        &mut self.bytes
    }

    /// Sends `body` behind what there is. A large one goes at once, as far as there is room; a small one is put behind what
    /// there is, so that both go together when that is flushed. May more come before that is gone?
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn send(&mut self, body: &[u8], to: &mut Stream, supplies: &mut Supplies) -> io::Result<bool> {
        let large = body.len() > TOGETHER;
        if large {
            self.flush(to, &mut supplies.tls)?;
        }
        if !large || !self.is_empty() {
            self.add(&mut supplies.buffers, body);
            return Ok(self.len() <= TOGETHER);
        }
        let taken = to.write(body, &mut supplies.tls)?;
        self.add(&mut supplies.buffers, &body[taken..]);
        Ok(self.is_empty())
    }

    /// Writes what there is, as far as there is room.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(&mut self, to: &mut Stream, scratch: &mut Scratch) -> io::Result<()> {
        if !self.is_empty() {
            self.at += to.write(self.bytes(), scratch)?;
        }
        Ok(())
    }

    /// So many are gone.
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// All that was put in is to go again, what is gone already, too.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// What there is leads nowhere.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }

    /// Takes all out, to be looked at.
    pub(super) fn take(&mut self) -> Buffer {
        std::mem::take(self)
    }

    /// Puts back what was taken, without the first `consumed` bytes.
    pub(super) fn restore(&mut self, mut kept: Buffer, consumed: usize) {
        kept.at += consumed;
        if kept.at > kept.bytes.len() / 2 {
            kept.bytes.drain(..kept.at);
            kept.at = 0;
        }
        *self = kept;
    }

    /// Gives the memory back, and what is in it.
    pub(super) fn give_back(&mut self, supply: &mut Vec<Vec<u8>>) {
        let mut bytes = std::mem::take(&mut self.bytes);
        self.at = 0;
        if bytes.capacity() > 0 && bytes.capacity() <= LARGEST && supply.len() < SPARE {
            bytes.clear();
            supply.push(bytes);
        }
    }
}

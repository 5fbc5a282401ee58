//! A connection in memory, as the h2 crate wants one: what is read was put there, what is written is fetched from there.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait to be fetched; the crate is not let to write more, and then stops reading, too.
const OUTPUT: usize = 128 * 1024;

/// Both directions of a connection; clones are the same connection. Nobody is woken: whoever puts bytes in or fetches
/// some polls afterwards.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Rc<RefCell<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    input: Vec<u8>,
    /// So much of the input has been read.
    read: usize,
    /// No more input comes.
    ended: bool,
    output: Vec<u8>,
}

impl Wire {
    pub(super) fn put(&self, bytes: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(bytes);
    }

    pub(super) fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// Bytes that were put there and not yet read.
    pub(super) fn unread(&self) -> usize {
        let wire = self.0.borrow();
        wire.input.len() - wire.read
    }

    /// Appends to `out` what was written.
    pub(super) fn fetch(&self, out: &mut Vec<u8>) {
        let mut wire = self.0.borrow_mut();
        out.extend_from_slice(&wire.output);
        wire.output.clear();
    }

    pub(super) fn has_output(&self) -> bool {
        !self.0.borrow().output.is_empty()
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        let waiting = &wire.input[wire.read..];
        if waiting.is_empty() {
            return if wire.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let now = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..now]);
        wire.read += now;
        if wire.read == wire.input.len() {
            wire.input.clear();
            wire.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let room = OUTPUT.saturating_sub(wire.output.len());
        if room == 0 {
            return Poll::Pending;
        }
        let now = bytes.len().min(room);
        wire.output.extend_from_slice(&bytes[..now]);
        Poll::Ready(Ok(now))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

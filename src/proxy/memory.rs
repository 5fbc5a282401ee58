//! A request within another connection: what its session takes for a client's connection is memory.

use super::core::Core;
use super::stream::{Owner, Received, Side};

/// Bytes that wait in memory, between a connection that carries many requests and the session of one of them.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// For the session.
    pub(super) inbox: Vec<u8>,
    /// Nothing more comes for it.
    pub(super) inbox_ended: bool,
    /// From the session.
    pub(super) outbox: Vec<u8>,
    /// The session sends no more, or is over.
    pub(super) outbox_ended: bool,
    /// It is over before its response was complete.
    pub(super) broken: bool,
    /// Nobody waits for what the session has to say.
    pub(super) abandoned: bool,
    /// The session, and its stream, once there is one.
    pub(super) session: Option<(usize, usize)>,
}

/// Bytes that a session may leave for a connection that does not take them.
pub(super) const OUTBOX: usize = 64 * 1024;

impl Memory {
    /// Has its session look at it again.
    pub(super) fn wake(&self, core: &mut Core) {
        let Some((session, stream)) = self.session else { return };
        if let Some(stream) = core.streams.get_mut(stream)
            && stream.owner == Owner::Session(session, Side::Client)
        {
            (stream.readable, stream.writable) = (true, true);
            core.again.push(session);
        }
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> Received {
        let n = into.len().min(self.inbox.len());
        if self.abandoned {
            return Received::Broken;
        }
        if n == 0 {
            return if self.inbox_ended { Received::End } else { Received::Nothing };
        }
        into[..n].copy_from_slice(&self.inbox[..n]);
        self.inbox.drain(..n);
        Received::Bytes(n)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(OUTBOX.saturating_sub(self.outbox.len()));
        self.outbox.extend_from_slice(&bytes[..n]);
        n
    }
}

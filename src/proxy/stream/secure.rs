//! TLS over a stream's socket: how it begins, and what it holds back.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

use super::{Stream, Transport};
use crate::proxy::tls::{self, Connector, Scratch, TlsSide};

/// How a TLS handshake stands.
#[derive(Debug)]
pub(in crate::proxy) enum Handshake {
    Waits,
    Done,
    Failed,
}

impl Stream {
    /// From here on its bytes are those of a TLS connection with a client.
    ///
    /// # Errors
    /// The settings contradict themselves.
    pub(in crate::proxy) fn accept_tls(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        self.tls = Some(Box::new(TlsSide::accept(Arc::clone(config))?));
        Ok(())
    }

    /// From here on its bytes are those of a TLS connection to the server `host`.
    ///
    /// # Errors
    /// Nothing that a certificate could be for is known of the server.
    pub(in crate::proxy) fn start_tls(&mut self, connector: &Connector, host: &str) -> io::Result<()> {
        let side = connector.connect(host).map_err(|failure| io::Error::other(failure.message))?;
        self.tls = Some(Box::new(side));
        Ok(())
    }

    /// Is its TLS handshake still going on?
    pub(in crate::proxy) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// TLS, if it has that.
    pub(in crate::proxy) fn tls(&self) -> Option<&TlsSide> {
        self.tls.as_deref()
    }

    /// Goes on with the TLS handshake. What a client sends behind it is read by that, and left for [`Stream::read`].
    pub(in crate::proxy) fn handshake(&mut self, scratch: &mut Scratch) -> Handshake {
        let (Some(tls), Transport::Socket(socket)) = (&mut self.tls, &mut self.transport) else {
            return Handshake::Done;
        };
        if self.writable && tls.flush(socket).is_err() {
            return Handshake::Failed;
        }
        while tls.is_handshaking() {
            if !self.readable {
                return Handshake::Waits;
            }
            match tls.receive(socket, scratch, &mut []) {
                Ok(tls::Received::Plain(_)) => {}
                Ok(tls::Received::Blocked) => self.readable = false,
                Ok(tls::Received::Closed | tls::Received::Truncated) | Err(_) => return Handshake::Failed,
            }
        }
        // What came behind it is there, and not told again.
        self.readable = true;
        Handshake::Done
    }

    /// Writes what is held back; is all of it gone?
    ///
    /// # Errors
    /// The connection is broken.
    pub(in crate::proxy) fn flush(&mut self) -> io::Result<bool> {
        let (Some(tls), Transport::Socket(socket)) = (&mut self.tls, &mut self.transport) else { return Ok(true) };
        if tls.wants_write() {
            if !self.writable {
                return Ok(false);
            }
            let flushed = tls.flush(socket);
            self.writable = self.noting(flushed)?;
        }
        Ok(!self.tls.as_ref().is_some_and(|tls| tls.wants_write()))
    }

    /// Is something that was written still to be sent, for want of room?
    pub(in crate::proxy) fn holds_back(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

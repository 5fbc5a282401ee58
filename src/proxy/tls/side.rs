//! One TLS connection over a non-blocking stream, for an edge-triggered event loop.
//!
//! An established connection that is idle holds no buffer: records are received into, decrypted in and sent from a
//! [`Scratch`] that the connections of a loop share. What is kept for a connection is what cannot be finished now: a
//! record of which a part has not come yet, and ciphertext that the socket has not taken yet.

mod drive;

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, CommonState, ServerConfig};

use super::names;
use drive::{Endpoint, Plain, Send};

/// The longest record on the wire, bytes: a header, and what TLS 1.2 allows as ciphertext (RFC 5246 section 6.2.3).
const RECORD: usize = 5 + (1 << 14) + 2048;
/// The most that is kept of an unfinished handshake message, bytes. A handshake message may have 16 MB by RFC 8446
/// section 4; certificates have a few kB.
const UNFINISHED: usize = 64 * 1024;
/// Plaintext that is encrypted at a time, bytes: whole records. What a blocked socket leaves of it is all that is kept.
const SENT_AT_ONCE: usize = 4 << 14;

/// Room for an alert's record, bytes.
const ALERT: usize = 256;

/// Buffers of an event loop, used by each of its connections in turn.
pub struct Scratch {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

impl Scratch {
    /// Buffers for a loop, about 200 kB.
    pub fn new() -> Scratch {
        Scratch {
            incoming: vec![0; UNFINISHED + 4 * RECORD].into_boxed_slice(),
            outgoing: vec![0; SENT_AT_ONCE + SENT_AT_ONCE / 64].into_boxed_slice(),
        }
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

/// What came of [`TlsSide::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes of plaintext, at least one where there was room. There may be more.
    Plain(usize),
    /// Nothing until the socket is readable again.
    Blocked,
    /// The client or server has ended its stream, and says so (close_notify). What we send it still takes.
    Closed,
    /// The stream ended without saying so: what came may not be all (RFC 8446 section 6.1).
    Truncated,
}

/// A TLS connection, of a client or to a server.
pub struct TlsSide {
    endpoint: Endpoint,
    /// Ciphertext of which the end has not come yet.
    unread: Vec<u8>,
    /// Plaintext for which the caller's buffer was too short.
    held: Held,
    /// Ciphertext that the socket has not taken yet.
    unsent: Held,
    /// The name that the client asked for.
    name: Option<Box<str>>,
    state: State,
    drained: bool,
    /// We have ended our direction.
    shut: bool,
}

/// How the receiving direction stands.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Open,
    Closed,
    Truncated,
    Failed(rustls::Error),
}

impl TlsSide {
    /// A client's connection that has been accepted.
    ///
    /// Errors: the settings contradict themselves, which loading them has excluded.
    pub fn accept(config: Arc<ServerConfig>) -> io::Result<TlsSide> {
        let connection = UnbufferedServerConnection::new(config).map_err(failed)?;
        Ok(TlsSide::new(Endpoint::Server(Box::new(connection))))
    }

    /// A connection to a server that is asked for by `name`; its first message is ready to be flushed.
    ///
    /// Errors: the settings contradict themselves, which loading them has excluded.
    pub fn connect(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<TlsSide> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(failed)?;
        let mut side = TlsSide::new(Endpoint::Client(Box::new(connection)));
        side.process(&mut [], &mut []);
        match &side.state {
            State::Failed(error) => Err(failed(error.clone())),
            _ => Ok(side),
        }
    }

    fn new(endpoint: Endpoint) -> TlsSide {
        TlsSide {
            endpoint,
            unread: Vec::new(),
            held: Held::default(),
            unsent: Held::default(),
            name: None,
            state: State::Open,
            drained: false,
            shut: false,
        }
    }

    /// Reads from the socket and gives the plaintext of all records that are whole. What the handshake has to answer is
    /// written at once; what of that the socket does not take is left to [`flush`](TlsSide::flush).
    ///
    /// A buffer of 64 kB or more makes the most of each read; one of less than 19 kB costs a copy. An empty one is for the
    /// handshake alone: then `Plain(0)` says that it is over.
    ///
    /// Errors: the socket's; `InvalidData` with rustls's error if the peer does not keep to the protocol, has a
    /// certificate that is not accepted, or sent an alert. It has been sent an alert then, as far as that was possible
    /// without waiting, and every further call fails the same way.
    pub fn receive<S: Read + Write>(
        &mut self,
        socket: &mut S,
        scratch: &mut Scratch,
        into: &mut [u8],
    ) -> io::Result<Received> {
        let held = self.held.take(into);
        if held > 0 {
            // More may have come since the last read, of which the caller has been told before it reads this.
            self.drained = false;
        }
        // With no room for plaintext it goes on with the handshake alone.
        if held > 0 || (into.is_empty() && !self.is_handshaking()) {
            return Ok(Received::Plain(held));
        }
        loop {
            match &self.state {
                State::Open => {}
                State::Closed => return Ok(Received::Closed),
                State::Truncated => return Ok(Received::Truncated),
                State::Failed(error) => return Err(failed(error.clone())),
            }
            let kept = self.unread.len();
            if kept > UNFINISHED {
                return Err(self.fail("a handshake message of more than 64 kB"));
            }
            // No more ciphertext than what fits into the caller's buffer as plaintext, where that holds a record.
            let end = into.len().max(kept + RECORD).min(scratch.incoming.len());
            let incoming = &mut scratch.incoming[..end];
            let read = match socket.read(&mut incoming[kept..]) {
                Ok(0) => {
                    self.state = State::Truncated;
                    self.unread = Vec::new();
                    continue;
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.drained = true;
                    self.unread.shrink_to(kept);
                    return Ok(Received::Blocked);
                }
                Err(error) => return Err(error),
            };
            self.drained = kept + read < end;
            incoming[..kept].copy_from_slice(&self.unread);
            let handshaking = self.is_handshaking();
            if handshaking {
                names::forget_asked();
            }
            let filled = self.process(&mut incoming[..kept + read], into);
            if handshaking && self.name.is_none() {
                self.name = names::asked();
            }
            if self.wants_write() {
                // Where writing fails, what has come before the connection broke is still to be read; whoever writes next,
                // or reads on, is told.
                let _ = self.flush(socket);
            }
            // Without a buffer: what came behind the handshake is held, and no more of it read.
            if filled > 0 || (into.is_empty() && !self.is_handshaking() && self.state == State::Open) {
                return Ok(Received::Plain(filled));
            }
        }
    }

    /// Encrypts and writes of `plain` what the socket takes, and says how much of it that was, bytes. What has been
    /// taken is written, or kept: then less than all is taken, and [`wants_write`](TlsSide::wants_write) says so.
    /// Before the handshake is over nothing is taken.
    ///
    /// Errors: the socket's; `BrokenPipe` after [`shutdown`](TlsSide::shutdown); `InvalidData` where the connection has
    /// failed.
    pub fn send<S: Write>(&mut self, socket: &mut S, scratch: &mut Scratch, plain: &[u8]) -> io::Result<usize> {
        if let State::Failed(error) = &self.state {
            return Err(failed(error.clone()));
        }
        if self.shut {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if !self.flush(socket)? {
            return Ok(0);
        }
        let mut taken = 0;
        for part in plain.chunks(SENT_AT_ONCE) {
            let outgoing = &mut scratch.outgoing;
            let Some(length) = self.put(Send::Traffic(part, outgoing))? else {
                break;
            };
            taken += part.len();
            // What the handshake had to say first, perhaps a change of keys.
            let whole = self.flush(socket)?;
            let written = if whole { write_some(socket, &outgoing[..length])? } else { 0 };
            if written < length {
                self.unsent.bytes.extend_from_slice(&outgoing[written..length]);
                break;
            }
        }
        Ok(taken)
    }

    /// Writes what is kept; is all of it out?
    ///
    /// Errors: the socket's.
    pub fn flush<S: Write>(&mut self, socket: &mut S) -> io::Result<bool> {
        while !self.unsent.rest().is_empty() {
            let written = write_some(socket, self.unsent.rest())?;
            self.unsent.skip(written);
            if written == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends our direction: close_notify goes out behind all that was sent. Once it is out (the answer, or later
    /// [`flush`](TlsSide::flush)) the socket's sending direction can be shut. Receiving goes on.
    ///
    /// Errors: the socket's.
    pub fn shutdown<S: Write>(&mut self, socket: &mut S) -> io::Result<bool> {
        if !matches!(self.state, State::Failed(_)) && !self.shut {
            self.shut = true;
            let mut alert = [0; ALERT];
            if let Some(length) = self.put(Send::Close(&mut alert))? {
                self.unsent.bytes.extend_from_slice(&alert[..length]);
            }
        }
        self.flush(socket)
    }

    /// Is there ciphertext that the socket has not taken yet, so that [`flush`](TlsSide::flush) has to be called when it
    /// is writable?
    pub fn wants_write(&self) -> bool {
        !self.unsent.rest().is_empty()
    }

    /// Did the last read leave nothing in the socket? Then a further [`receive`](TlsSide::receive) is in vain until it is
    /// readable again. An end, or a failure, that came with the last bytes is still to be received.
    pub fn drained(&self) -> bool {
        self.drained && self.held.rest().is_empty() && self.state == State::Open
    }

    /// Is the connection not established yet?
    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// The name that the client asked for (SNI, RFC 6066 section 3), in lower case.
    pub fn server_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The protocol that was agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// The version, as it is written to logs: `TLSv1.3`.
    pub fn version(&self) -> Option<&'static str> {
        match self.common().protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            rustls::ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            other => other.as_str(),
        }
    }

    /// The cipher suite by its IANA name.
    pub fn cipher(&self) -> Option<&'static str> {
        super::suites::iana_name(self.common().negotiated_cipher_suite()?.suite())
    }

    /// Was an earlier session resumed, so that no certificate was shown?
    pub fn resumed(&self) -> bool {
        self.common().handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The certificate that the peer has shown, DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.common().peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// Memory that is allocated for buffers now, bytes.
    pub fn buffered(&self) -> usize {
        self.unread.capacity() + self.held.bytes.capacity() + self.unsent.bytes.capacity()
    }

    fn common(&self) -> &CommonState {
        self.endpoint.common()
    }

    /// Goes through `incoming`, which begins with what `unread` holds, gives plaintext to `into` and keeps the rest.
    /// Returns how much plaintext there is.
    fn process(&mut self, incoming: &mut [u8], into: &mut [u8]) -> usize {
        let mut plain = Plain { into, filled: 0, rest: &mut self.held.bytes };
        let progress = self.endpoint.advance(incoming, &mut plain, &mut self.unsent.bytes, Send::Nothing);
        let filled = plain.filled;
        let rest = &incoming[progress.consumed..];
        if let Some(error) = progress.failure {
            self.state = State::Failed(error);
        } else if progress.closed {
            self.state = State::Closed;
        }
        if rest.is_empty() || self.state != State::Open {
            self.unread = Vec::new();
        } else {
            self.unread.clear();
            self.unread.extend_from_slice(rest);
        }
        filled
    }

    /// Has something sent, as far as the connection is there.
    fn put(&mut self, send: Send<'_>) -> io::Result<Option<usize>> {
        // Nothing comes of `unread`, as it has been gone through; but rustls has to see it.
        let mut plain = Plain { into: &mut [], filled: 0, rest: &mut self.held.bytes };
        let progress = self.endpoint.advance(&mut self.unread, &mut plain, &mut self.unsent.bytes, send);
        if let Some(error) = progress.failure {
            self.state = State::Failed(error.clone());
            return Err(failed(error));
        }
        progress.sent.transpose().map_err(io::Error::other)
    }

    fn fail(&mut self, why: &str) -> io::Error {
        let error = rustls::Error::General(why.to_owned());
        self.state = State::Failed(error.clone());
        self.unread = Vec::new();
        failed(error)
    }
}

fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Writes until the socket takes no more; returns how much, bytes.
fn write_some<S: Write>(socket: &mut S, mut bytes: &[u8]) -> io::Result<usize> {
    let length = bytes.len();
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(length - bytes.len())
}

/// Bytes that wait, from the front; without memory when there are none.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    gone: usize,
}

impl Held {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    fn skip(&mut self, length: usize) {
        self.gone += length;
        if self.gone == self.bytes.len() {
            *self = Held::default();
        }
    }

    /// Moves what fits into `into`.
    fn take(&mut self, into: &mut [u8]) -> usize {
        let length = self.rest().len().min(into.len());
        into[..length].copy_from_slice(&self.rest()[..length]);
        if length > 0 {
            self.skip(length);
        }
        length
    }
}

//! HTTP/2 from clients (RFC 9113), without sockets: the h2 crate is run over a connection in memory, by hand.
//!
//! Each stream is shown as a client of HTTP/1.1 that makes one request: [`H2Connection::request`] is what it sends,
//! [`H2Connection::respond`] is where its response goes. So one [`Exchange`](super::Exchange) serves it, with the same
//! rules, headers and servers as everybody else. Flow control is back-pressure: who does not consume a request gets no more
//! of it, and a response is accepted no further than the client takes it.
//!
//! ```text
//! bytes from TLS -> input -> poll -> events -> request(id) -> Exchange::from_client -> server
//! bytes to TLS <- output <- poll <------------ respond(id) <- Exchange::write_response <- server
//! ```

mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use ::h2::server::{Builder, Connection, Handshake};
use ::h2::{Reason, RecvStream};
use bytes::Bytes;

use self::stream::Stream;
use self::wire::Wire;
use super::Limits;

/// Unread input of which more is not asked for, bytes.
const INPUT: usize = 64 * 1024;
/// Requests that a client may reset before their responses begin, and before it has had as many others. One that goes on so has servers work for nothing
/// (CVE-2023-44487).
const RESETS: u32 = 100;
/// Bodies that come at a time with wide windows.
const FEW: u32 = 8;
/// Requests that linger at a time.
const LINGERING: usize = 16;

/// What a client is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H2Settings {
    /// Requests at a time (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub streams: u32,
    /// The longest head of a request or response, bytes (SETTINGS_MAX_HEADER_LIST_SIZE).
    pub head: u32,
    /// Bytes of one request's body that may be on their way (SETTINGS_INITIAL_WINDOW_SIZE) where many come at a time. All
    /// requests together may have as many each: those that wait for a server do not hold up the one that has one.
    pub window: u32,
    /// The same where few come at a time: what a client far away can send within a round trip.
    pub wide_window: u32,
}

impl Default for H2Settings {
    fn default() -> H2Settings {
        H2Settings { streams: 128, head: 32_768, window: 65_535, wide_window: 262_144 }
    }
}

/// What has happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2Event {
    /// There is a new one: its [request](H2Connection::request) can be read.
    Request(u32),
    /// More of its request can be read.
    Readable(u32),
    /// More of its response will be accepted.
    Writable(u32),
    /// It is over before its response was complete: it was given up by either side, or the connection broke.
    Reset(u32),
}

enum Phase {
    Handshake(Handshake<Wire, Bytes>),
    Open(Connection<Wire, Bytes>),
    Closed,
}

/// A client's connection that speaks HTTP/2 (ALPN `h2`).
pub struct H2Connection {
    phase: Phase,
    wire: Wire,
    limits: Limits,
    settings: H2Settings,
    /// SETTINGS_INITIAL_WINDOW_SIZE as the client has it, or is told.
    window: u32,
    /// By ascending id, as they come.
    streams: Vec<Stream>,
    /// What still comes of requests that have been refused, to be forgotten. Clients that are told at once that it is not
    /// wanted (RFC 9113 section 8.1) may lose the response over that, as curl 7 does.
    lingering: VecDeque<RecvStream>,
    draining: bool,
    answered: u32,
    reset: u32,
}

impl fmt::Debug for H2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Connection")
            .field("streams", &self.streams.len())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl H2Connection {
    /// Of a client whose TLS handshake is done.
    pub fn new(settings: &H2Settings) -> H2Connection {
        let wire = Wire::default();
        let extra = FEW * settings.wide_window.saturating_sub(settings.window);
        let together = settings.window.saturating_mul(settings.streams).saturating_add(extra);
        let handshake = Builder::new()
            .max_concurrent_streams(settings.streams)
            .max_header_list_size(settings.head)
            .initial_window_size(settings.wide_window)
            .initial_connection_window_size(together.min((1 << 31) - 1))
            .max_send_buffer_size(64 * 1024)
            .handshake(wire.clone());
        H2Connection {
            phase: Phase::Handshake(handshake),
            wire,
            limits: Limits { head: settings.head },
            settings: *settings,
            window: settings.wide_window,
            streams: Vec::new(),
            lingering: VecDeque::new(),
            draining: false,
            answered: 0,
            reset: 0,
        }
    }

    /// Bytes that came from the client.
    pub fn input(&mut self, bytes: &[u8]) {
        self.wire.put(bytes);
    }

    /// The client sends no more.
    pub fn input_end(&mut self) {
        self.wire.end();
    }

    /// Is more input wanted? Not while there is enough that has not been looked at, because output has to go first.
    pub fn wants_input(&self) -> bool {
        self.wire.unread() < INPUT
    }

    /// Appends to `out` the bytes for the client. [`poll`](H2Connection::poll) comes before, and after it, if there had been
    /// so many that some had to wait.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        self.wire.fetch(out);
    }

    /// Are there bytes for the client?
    pub fn has_output(&self) -> bool {
        self.wire.has_output()
    }

    /// Is the connection over? It is closed once its output has gone.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Requests that are being served.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Does what there is to do, after any of the others; appends to `events` what has happened.
    pub fn poll(&mut self, events: &mut Vec<H2Event>) {
        let mut context = Context::from_waker(Waker::noop());
        // What the streams do is sent by the connection, and what comes lets streams do more.
        loop {
            self.fit_windows();
            let new = self.accept(&mut context, events);
            let moved = self.pump(&mut context, events);
            if !new && !moved {
                break;
            }
        }
    }

    /// Windows are wide while few bodies come at a time.
    fn fit_windows(&mut self) {
        let bodies = self.streams.iter().filter(|stream| stream.has_more()).count();
        let window = match bodies {
            // Not to and fro with each that comes and goes.
            n if n <= FEW as usize / 2 => self.settings.wide_window,
            n if n > FEW as usize => self.settings.window,
            _ => return,
        };
        // Refused while the client has not acknowledged the last change: then it is tried again.
        if window != self.window
            && let Phase::Open(connection) = &mut self.phase
            && connection.set_initial_window_size(window).is_ok()
        {
            self.window = window;
        }
    }

    /// Reads, writes, and takes new requests; true: there were some.
    fn accept(&mut self, context: &mut Context<'_>, events: &mut Vec<H2Event>) -> bool {
        if let Phase::Handshake(handshake) = &mut self.phase {
            match Pin::new(handshake).poll(context) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => self.close(),
                Poll::Ready(Ok(connection)) => self.phase = Phase::Open(connection),
            }
            if self.draining {
                self.goaway();
            }
        }
        let mut some = false;
        while let Phase::Open(connection) = &mut self.phase {
            match connection.poll_accept(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let id = respond.stream_id().as_u32();
                    self.streams.push(Stream::new(id, request, respond));
                    events.push(H2Event::Request(id));
                    some = true;
                }
                // The client has been told why, as far as it can be.
                Poll::Ready(Some(Err(_)) | None) => self.close(),
            }
        }
        some
    }

    /// Lets the streams do what they can; true: the connection has something to send.
    fn pump(&mut self, context: &mut Context<'_>, events: &mut Vec<H2Event>) -> bool {
        for stream in &mut self.streams {
            if !stream.is_over() && stream.pump(context) && !events.contains(&H2Event::Request(stream.id)) {
                events.push(H2Event::Readable(stream.id));
            }
            if !stream.is_over() && stream.unblocked() {
                events.push(H2Event::Writable(stream.id));
            }
            if stream.is_over() && !stream.is_answered() {
                events.push(H2Event::Reset(stream.id));
            }
            // Who has seen the head of a response may have had enough of it.
            self.answered += u32::from(stream.is_answered() || (stream.is_lost() && stream.is_begun()));
            self.reset += u32::from(stream.is_lost() && !stream.is_begun());
        }
        self.linger(context);
        let before = self.streams.len();
        self.streams.retain(|stream| !stream.is_over());
        let over = self.streams.len() < before;
        if self.reset > RESETS.saturating_add(self.answered)
            && let Phase::Open(connection) = &mut self.phase
        {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        over
    }

    /// Reads what still comes of requests that have been refused. Of those that were answered otherwise clients are told at
    /// once that it is not wanted: curl 7, when it has such a response, waits for its window for ever.
    fn linger(&mut self, context: &mut Context<'_>) {
        let refused = self.streams.iter_mut().filter(|stream| stream.is_refused());
        self.lingering.extend(refused.filter_map(Stream::rest));
        self.lingering.retain_mut(|rest| stream::comes(rest, context));
        self.lingering.drain(..self.lingering.len().saturating_sub(LINGERING));
    }

    /// Are there requests that were refused before all of them had come? They are [let go](H2Connection::let_go) after a
    /// while.
    pub fn lingers(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// Clients that still send requests which have been refused are told that those are not wanted.
    pub fn let_go(&mut self) {
        // That is what h2 does of a stream that nobody reads.
        self.lingering.clear();
    }

    fn close(&mut self) {
        self.lingering.clear();
        self.phase = Phase::Closed;
        for stream in &mut self.streams {
            stream.reset(Reason::CANCEL);
        }
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.streams.get_mut(at)
    }

    /// Is there such a request, and its response not complete?
    pub fn serves(&self, id: u32) -> bool {
        self.streams.binary_search_by_key(&id, |stream| stream.id).is_ok()
    }

    /// What has come of a stream's request and was not consumed, as HTTP/1.1.
    pub fn request(&self, id: u32) -> &[u8] {
        match self.streams.binary_search_by_key(&id, |stream| stream.id) {
            Ok(at) => self.streams[at].request(),
            Err(_) => &[],
        }
    }

    /// So many bytes of [`request`](H2Connection::request) have gone on; the client may send others in their stead.
    pub fn consume(&mut self, id: u32, bytes: usize) {
        if let Some(stream) = self.stream(id) {
            stream.consume(bytes);
        }
    }

    /// The response of a stream as HTTP/1.1, as far as it was not yet accepted. Returns how many bytes are accepted; the
    /// others have to be offered again, with more behind them, or after [`H2Event::Writable`]. Of a stream that is over
    /// everything is accepted.
    pub fn respond(&mut self, id: u32, response: &[u8]) -> usize {
        let limits = self.limits;
        match self.stream(id) {
            Some(stream) => stream.respond(response, &limits),
            None => response.len(),
        }
    }

    /// No more comes of a stream's response, and all of it was accepted: where its end does not follow from its head, this
    /// is the end; where it should have gone on, the stream is reset.
    pub fn respond_end(&mut self, id: u32) {
        if let Some(stream) = self.stream(id) {
            stream.respond_end();
        }
    }

    /// Gives a stream up: its server is gone in the middle of a response. There will be an [`H2Event::Reset`] of it.
    pub fn reset(&mut self, id: u32) {
        if let Some(stream) = self.stream(id) {
            stream.reset(Reason::INTERNAL_ERROR);
        }
    }

    /// No new requests are served; the connection closes itself behind the last response (GOAWAY, RFC 9113 section 6.8).
    pub fn goaway(&mut self) {
        self.draining = true;
        if let Phase::Open(connection) = &mut self.phase {
            connection.graceful_shutdown();
        }
    }
}

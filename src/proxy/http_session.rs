//! A client's connection on which HTTP is read: each request finds its server, over a connection that may have served
//! others.
//!
//! What bytes mean is [`Exchange`]'s; here they are moved. Input is looked at where it was read, in memory that all
//! sessions of the loop share; what cannot be dealt with at once is kept, and nothing more is read until it is gone.

mod buffer;
mod end;
mod upstream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub(super) use upstream::Pool;

use buffer::Buffer;
use upstream::Upstream;

use super::access;
use super::core::{Core, Peer};
use super::event_loop::Session;
use super::http::{ClientClosed, ClientNext, Exchange, Limits, Refusal, Rewrite, Step};
use super::plan::Listener;
use super::refusal;
use super::relay::{Relay, ticks};
use super::shared::Admitted;
use super::stream::{Received, Side};
use super::wheel::Tick;
use crate::config::proxy::Mode;

/// How long what a client still sends is read after it has got an answer.
const LINGER: Duration = Duration::from_secs(2);
/// A body of so many bytes is sent together with its head.
const TOGETHER: usize = 16 * 1024;

/// What the client's connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requests and responses.
    Open,
    /// Nothing more is answered: what is left is written, then it is closed.
    Closing,
    /// The same, while the client is still sending: until then.
    Lingering(Instant),
}

/// A client's connection on which HTTP is read.
pub(super) struct Http {
    key: usize,
    listener: Arc<Listener>,
    peer: Peer,
    client: usize,
    upstream: Upstream,
    exchange: Exchange,
    state: State,
    /// What the client sent and was not consumed.
    from_client: Buffer,
    /// What the server has had no room for. The head stays in it as long as it may have to be sent again.
    to_server: Buffer,
    from_server: Buffer,
    to_client: Buffer,
    /// The client sends no more.
    client_ended: bool,
    /// The server sends no more.
    server_ended: bool,
    /// When the request that is being read began to come.
    asked: Option<Instant>,
    /// When something last moved.
    last: Tick,
    log: end::Log,
    /// The session whose connection carries this one's request.
    parent: Option<usize>,
    _admitted: Option<Admitted>,
}

/// What a look has led to.
enum After {
    /// It goes on when something happens.
    Waits,
    /// The session is over.
    Over,
    /// From here on bytes go both ways as they come.
    Tunnel,
}

impl Http {
    pub(super) fn begin(
        core: &mut Core,
        key: usize,
        listener: Arc<Listener>,
        (client, peer): (usize, Peer),
        admitted: Option<Admitted>,
        parent: Option<usize>,
    ) -> Option<Session> {
        let http = Box::new(Http {
            key,
            listener,
            peer,
            client,
            upstream: Upstream::None,
            exchange: Exchange::new(),
            state: State::Open,
            from_client: Buffer::default(),
            to_server: Buffer::default(),
            from_server: Buffer::default(),
            to_client: Buffer::default(),
            client_ended: false,
            server_ended: false,
            asked: Some(core.now),
            last: core.tick,
            log: end::Log::default(),
            parent,
            _admitted: admitted,
        });
        // What came with the TLS handshake is not told again.
        http.ready(core, Some(Side::Client))
    }

    pub(super) fn ready(mut self: Box<Http>, core: &mut Core, side: Option<Side>) -> Option<Session> {
        self.last = core.tick;
        let connected = side != Some(Side::Server) || self.connecting(core);
        let after = if connected { self.carry(core) } else { After::Waits };
        self.conclude(core, after)
    }

    fn conclude(mut self: Box<Http>, core: &mut Core, after: After) -> Option<Session> {
        core.again.extend(self.parent);
        match after {
            After::Waits => {
                if self.exchange.is_idle() {
                    self.give_buffers_back(core);
                    if core.draining && self.to_client.is_empty() && self.from_client.is_empty() {
                        self.close(core);
                        return None;
                    }
                }
                Some(Session::Http(self))
            }
            After::Over => {
                self.close(core);
                None
            }
            After::Tunnel => self.tunnel(core),
        }
    }

    pub(super) fn look(mut self: Box<Http>, core: &mut Core) -> Option<Session> {
        let after = self.overdue(core);
        self.conclude(core, after)
    }

    /// What is due?
    fn overdue(&mut self, core: &mut Core) -> After {
        let timeouts = self.listener.settings.timeouts;
        if let State::Lingering(until) = self.state
            && core.now >= until
        {
            return After::Over;
        }
        if let Some(deadline) = self.upstream.deadline()
            && core.now >= deadline
        {
            let error = io::Error::from_raw_os_error(libc::ETIMEDOUT);
            return if self.redial(core, &error) { self.carry(core) } else { After::Waits };
        }
        if let Some(asked) = self.asked
            && core.now >= asked + timeouts.request
            && self.state == State::Open
        {
            if self.exchange.is_idle() && self.from_client.is_empty() {
                self.log.end = access::End::Late;
                return After::Over;
            }
            return self.refuse(core, Refusal::new(408, "the request did not come in time"));
        }
        if !timeouts.idle.is_zero() && core.tick >= self.last + ticks(timeouts.idle) {
            self.log.end = access::End::Idle;
            if !self.exchange.is_idle() && self.exchange.can_refuse() {
                return self.refuse(core, Refusal::new(504, "the server did not answer in time"));
            }
            self.reset_client(core);
            return After::Over;
        }
        After::Waits
    }

    pub(super) fn deadline(&self, core: &Core) -> Tick {
        let timeouts = &self.listener.settings.timeouts;
        let idle = if timeouts.idle.is_zero() { Tick::MAX / 2 } else { self.last + ticks(timeouts.idle) };
        let lingering = match self.state {
            State::Lingering(until) => Some(until),
            _ => None,
        };
        let asked = self.asked.map(|asked| asked + timeouts.request);
        let soonest = lingering.into_iter().chain(self.upstream.deadline()).chain(asked).min();
        soonest.map_or(idle, |at| idle.min(core.wheel.tick(at) + 1))
    }

    /// The time for connections to end by themselves is over.
    pub(super) fn cut(mut self: Box<Http>, core: &mut Core) {
        self.log.end = access::End::Stopped;
        self.close(core);
    }

    /// Carries what there is, both ways, until nothing moves any more.
    fn carry(&mut self, core: &mut Core) -> After {
        for _ in 0..32 {
            match self.round(core) {
                Ok(true) => {}
                Ok(false) => return After::Waits,
                Err(after) => return after,
            }
        }
        core.again.push(self.key);
        After::Waits
    }

    /// One round; did something move?
    fn round(&mut self, core: &mut Core) -> Result<bool, After> {
        if self.state != State::Open {
            return self.wind_up(core);
        }
        let mut moved = self.from_client(core)?;
        if self.upstream.is_connected() {
            moved |= self.from_server(core)?;
        }
        if self.exchange.is_tunnel() && self.to_client.is_empty() && self.to_server.is_empty() {
            return Err(After::Tunnel);
        }
        Ok(moved)
    }

    /// Takes in what the client has sent.
    fn from_client(&mut self, core: &mut Core) -> Result<bool, After> {
        if !self.write_server(core)? {
            return Ok(false);
        }
        let mut moved = false;
        if !self.from_client.is_empty() {
            let kept = self.from_client.take();
            let consumed = self.take_from_client(core, kept.bytes());
            let consumed = self.or_refuse(core, consumed)?;
            moved = consumed > 0;
            self.from_client.restore(kept, consumed);
        }
        // While a request is held back, its bytes stay in the socket, and the client waits.
        let limit = self.listener.settings.limits.head as usize;
        if self.held_back(limit) || self.client_ended {
            return Ok(moved);
        }
        let stream = &mut core.streams[self.client];
        let mut scratch = std::mem::take(&mut core.supplies.scratch);
        let received = stream.read(&mut scratch, &mut core.supplies.tls);
        let outcome = match received {
            Received::Bytes(n) => self.new_from_client(core, &scratch[..n]).map(|()| true),
            Received::Nothing => Ok(moved),
            Received::End => {
                self.client_ended = true;
                self.client_closed().map(|()| true)
            }
            Received::Broken(_) => {
                self.log.end = access::End::ClientReset;
                Err(After::Over)
            }
        };
        core.supplies.scratch = scratch;
        outcome
    }

    /// Is there nothing that could be done with more bytes of the client's?
    fn held_back(&self, limit: usize) -> bool {
        let connecting = !self.exchange.is_idle() && !self.upstream.is_connected();
        // Not while its response is on the way; one more request may be waiting here.
        connecting || self.from_client.len() > limit || (!self.from_client.is_empty() && !self.exchange.is_idle())
    }

    fn new_from_client(&mut self, core: &mut Core, bytes: &[u8]) -> Result<(), After> {
        if self.exchange.is_idle() && self.asked.is_none() {
            self.asked = Some(core.now);
        }
        if self.from_client.is_empty() {
            let consumed = self.take_from_client(core, bytes);
            let consumed = self.or_refuse(core, consumed)?;
            self.from_client.add(&mut core.supplies.buffers, &bytes[consumed..]);
            return Ok(());
        }
        self.from_client.add(&mut core.supplies.buffers, bytes);
        let kept = self.from_client.take();
        let consumed = self.take_from_client(core, kept.bytes());
        let consumed = self.or_refuse(core, consumed)?;
        self.from_client.restore(kept, consumed);
        Ok(())
    }

    fn or_refuse<T>(&mut self, core: &mut Core, outcome: Result<T, Refused>) -> Result<T, After> {
        outcome.map_err(|refused| match refused {
            Refused::Request(refusal) => {
                core.shared.totals.bad_requests.fetch_add(1, Relaxed);
                self.log.end = access::End::BadClient;
                self.refuse(core, refusal)
            }
            Refused::Nobody(why) => {
                core.shared.totals.refused.fetch_add(1, Relaxed);
                self.log.end = access::End::Refused(why);
                self.refuse(core, refusal::refusal(why))
            }
        })
    }

    /// Deals with `input`, what the client sent; says how much of it is consumed.
    fn take_from_client(&mut self, core: &mut Core, input: &[u8]) -> Result<usize, Refused> {
        let limits = Limits { head: self.listener.settings.limits.head };
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.exchange.from_client(rest, &limits)? {
                Step::More | Step::Hold => break,
                Step::Skip { raw } => at += raw,
                Step::End => {}
                Step::Head { consumed } => {
                    self.asked = None;
                    core.shared.totals.requests.fetch_add(1, Relaxed);
                    self.log.request(core, &rest[..consumed], self.exchange.request());
                    self.write_request(core, &rest[..consumed]);
                    at += consumed;
                    self.engage(core)?;
                }
                Step::Body { raw } | Step::Trailer { raw } => {
                    let body = &rest[..raw];
                    at += raw;
                    self.log.received += raw as u64;
                    if !self.send_to_server(core, body)? {
                        break;
                    }
                }
            }
        }
        self.flush_to_server(core)?;
        Ok(at)
    }

    fn write_request(&mut self, core: &mut Core, head: &[u8]) {
        let Mode::Http(forwarded) = self.listener.config.mode else { return };
        let client = self.peer.ip();
        let trusted = client.is_some_and(|ip| self.listener.settings.trusted.iter().any(|net| net.contains(ip)));
        let rewrite = Rewrite {
            client,
            https: self.listener.tls.is_some(),
            forwarded,
            trusted,
            reuse: true,
            host: &self.listener.name,
        };
        let out = self.to_server.writer(&mut core.supplies.buffers);
        self.exchange.write_request(head, &rewrite, out);
    }

    /// Sends `body` behind what waits already; may more come?
    fn send_to_server(&mut self, core: &mut Core, body: &[u8]) -> Result<bool, Refused> {
        let Some(server) = self.upstream.stream() else { return Ok(false) };
        if !self.to_server.is_empty() && body.len() > TOGETHER {
            self.flush_to_server(core)?;
        }
        if !self.to_server.is_empty() || body.len() <= TOGETHER {
            self.to_server.add(&mut core.supplies.buffers, body);
            return Ok(self.to_server.len() <= TOGETHER);
        }
        let taken = core.streams[server].write(body, &mut core.supplies.tls);
        let Ok(taken) = taken else { return self.server_broken() };
        if taken < body.len() {
            self.to_server.add(&mut core.supplies.buffers, &body[taken..]);
        }
        Ok(self.to_server.is_empty())
    }

    fn flush_to_server(&mut self, core: &mut Core) -> Result<(), Refused> {
        let Some(server) = self.upstream.stream().filter(|_| self.upstream.is_connected()) else { return Ok(()) };
        if self.to_server.is_empty() {
            return Ok(());
        }
        let stream = &mut core.streams[server];
        match stream.write(self.to_server.bytes(), &mut core.supplies.tls) {
            Ok(taken) => self.to_server.skip(taken),
            Err(_) => return self.server_broken().map(|_: bool| ()),
        }
        if self.to_server.is_empty() && !self.exchange.repeatable() {
            self.to_server.give_back(&mut core.supplies.buffers);
        }
        Ok(())
    }

    /// The server takes no more. What it has to say about that is still to be read.
    fn server_broken<T: Default>(&mut self) -> Result<T, Refused> {
        self.to_server.forget();
        Ok(T::default())
    }

    /// Writes what waits for the server; is all of it gone?
    fn write_server(&mut self, core: &mut Core) -> Result<bool, After> {
        if self.upstream.is_connected()
            && let Some(server) = self.upstream.stream()
        {
            if core.streams[server].flush().is_err() {
                self.to_server.forget();
            }
            let flushed = self.flush_to_server(core);
            self.or_refuse(core, flushed)?;
        }
        Ok(self.to_server.is_empty() || !self.upstream.is_connected())
    }

    /// Takes in what the server has sent.
    fn from_server(&mut self, core: &mut Core) -> Result<bool, After> {
        if !self.write_client(core)? {
            return Ok(false);
        }
        let Some(server) = self.upstream.stream() else { return Ok(false) };
        if self.server_ended {
            return Ok(false);
        }
        let mut scratch = std::mem::take(&mut core.supplies.scratch);
        let received = core.streams[server].read(&mut scratch, &mut core.supplies.tls);
        let outcome = match received {
            Received::Bytes(n) => self.new_from_server(core, &scratch[..n]).map(|()| true),
            Received::Nothing => Ok(false),
            Received::End => self.server_closed(core, access::End::Closed),
            Received::Broken(_) => self.server_closed(core, access::End::ServerReset),
        };
        core.supplies.scratch = scratch;
        outcome
    }

    fn new_from_server(&mut self, core: &mut Core, bytes: &[u8]) -> Result<(), After> {
        if self.from_server.is_empty() {
            let consumed = self.take_from_server(core, bytes)?;
            if self.upstream.stream().is_some() {
                self.from_server.add(&mut core.supplies.buffers, &bytes[consumed..]);
            }
            return Ok(());
        }
        self.from_server.add(&mut core.supplies.buffers, bytes);
        let kept = self.from_server.take();
        let consumed = self.take_from_server(core, kept.bytes())?;
        self.from_server.restore(kept, consumed);
        Ok(())
    }

    /// Deals with `input`, what the server sent; says how much of it is consumed.
    fn take_from_server(&mut self, core: &mut Core, input: &[u8]) -> Result<usize, After> {
        let limits = Limits { head: self.listener.settings.limits.head };
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let step = match self.exchange.from_server(rest, &limits) {
                Ok(step) => step,
                Err(refusal) => return Err(self.bad_server(core, refusal)),
            };
            match step {
                Step::More | Step::Hold => break,
                Step::Skip { raw } => at += raw,
                Step::Head { consumed } => {
                    // It has begun to answer: the request is not sent again.
                    if self.to_server.is_empty() {
                        self.to_server.give_back(&mut core.supplies.buffers);
                    }
                    if core.draining {
                        self.exchange.close_after();
                    }
                    self.log.status = self.exchange.response().status;
                    let out = self.to_client.writer(&mut core.supplies.buffers);
                    self.exchange.write_response(&rest[..consumed], out);
                    at += consumed;
                }
                Step::Body { raw } | Step::Trailer { raw } => {
                    self.log.body += raw as u64;
                    self.send_to_client(core, &rest[..raw])?;
                    at += raw;
                }
                Step::End => {
                    let unread = !self.from_client.is_empty() || core.streams[self.client].readable;
                    self.finish(core, unread, at < input.len())?;
                    break;
                }
            }
        }
        self.flush_to_client(core)?;
        Ok(at)
    }

    /// A response has ended.
    fn finish(&mut self, core: &mut Core, unread: bool, more: bool) -> Result<(), After> {
        let finish = self.exchange.finish(unread);
        self.log.end = access::End::Closed;
        self.record(core);
        // What comes behind a response is no response: such a connection is not used again.
        self.release(core, finish.reuse && !more && !self.server_ended && self.to_server.is_empty());
        self.from_server.forget();
        self.server_ended = false;
        match finish.client {
            ClientNext::Keep if self.client_ended => self.state = State::Closing,
            ClientNext::Keep => {
                if !self.from_client.is_empty() {
                    self.asked = Some(core.now);
                }
            }
            ClientNext::Close => self.state = State::Closing,
            ClientNext::Linger => self.state = State::Lingering(core.now + LINGER),
        }
        Ok(())
    }

    fn send_to_client(&mut self, core: &mut Core, body: &[u8]) -> Result<(), After> {
        if !self.to_client.is_empty() && body.len() > TOGETHER {
            self.flush_to_client(core)?;
        }
        if !self.to_client.is_empty() || body.len() <= TOGETHER {
            self.to_client.add(&mut core.supplies.buffers, body);
            return Ok(());
        }
        let taken = core.streams[self.client].write(body, &mut core.supplies.tls).map_err(|_| self.client_broken())?;
        self.log.sent += taken as u64;
        if taken < body.len() {
            self.to_client.add(&mut core.supplies.buffers, &body[taken..]);
        }
        Ok(())
    }

    fn flush_to_client(&mut self, core: &mut Core) -> Result<(), After> {
        if self.to_client.is_empty() {
            return Ok(());
        }
        let stream = &mut core.streams[self.client];
        let taken = stream.write(self.to_client.bytes(), &mut core.supplies.tls).map_err(|_| self.client_broken())?;
        self.log.sent += taken as u64;
        self.to_client.skip(taken);
        Ok(())
    }

    fn client_broken(&mut self) -> After {
        self.log.end = access::End::ClientReset;
        After::Over
    }

    /// Writes what waits for the client; is all of it gone?
    fn write_client(&mut self, core: &mut Core) -> Result<bool, After> {
        let flushed = core.streams[self.client].flush();
        if flushed.is_err() {
            return Err(self.client_broken());
        }
        self.flush_to_client(core)?;
        Ok(self.to_client.is_empty())
    }

    fn client_closed(&mut self) -> Result<(), After> {
        match self.exchange.client_closed() {
            ClientClosed::Idle if self.to_client.is_empty() => Err(After::Over),
            ClientClosed::Idle => {
                self.state = State::Closing;
                Ok(())
            }
            ClientClosed::Abort => {
                self.log.end = access::End::ClientReset;
                Err(After::Over)
            }
            ClientClosed::Waits | ClientClosed::HalfClosed => Ok(()),
        }
    }

    /// Writes what is left, and closes.
    fn wind_up(&mut self, core: &mut Core) -> Result<bool, After> {
        if !self.write_client(core)? {
            return Ok(false);
        }
        match self.state {
            State::Lingering(_) if !self.client_ended => {
                if !core.streams[self.client].shut() {
                    return Ok(false);
                }
                let mut scratch = std::mem::take(&mut core.supplies.scratch);
                let received = core.streams[self.client].read(&mut scratch, &mut core.supplies.tls);
                core.supplies.scratch = scratch;
                match received {
                    Received::Bytes(_) => Ok(true),
                    Received::Nothing => Ok(false),
                    Received::End | Received::Broken(_) => Err(After::Over),
                }
            }
            _ => {
                if core.streams[self.client].shut() {
                    return Err(After::Over);
                }
                Ok(false)
            }
        }
    }

    /// Bytes go both ways from here on, as they come.
    fn tunnel(mut self: Box<Http>, core: &mut Core) -> Option<Session> {
        let Some((server, engaged)) = self.upstream.give_up() else {
            self.close(core);
            return None;
        };
        let (up, down) = (self.from_client.take(), self.from_server.take());
        let Http { key, listener, peer, client, _admitted, .. } = *self;
        let mut relay = Relay::of_tunnel(core, key, listener, (client, peer), (server, engaged), _admitted);
        relay.put_first(up.bytes(), down.bytes());
        Session::Relay(Box::new(relay)).ready(core, key, None)
    }
}

/// Why a request goes no further.
enum Refused {
    /// It is not understood, or not wanted.
    Request(Refusal),
    /// Nobody serves it.
    Nobody(super::select::Why),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused::Request(refusal)
    }
}

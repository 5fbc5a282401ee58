//! A client's connection on which HTTP is read: each request finds its server, over a connection that may have served
//! others.
//!
//! What bytes mean is [`Exchange`]'s; here they are moved. Input is looked at where it was read, in memory that all
//! sessions of the loop share; what cannot be dealt with at once is kept, and nothing more is read until it is gone.

mod answering;
mod asking;
mod buffer;
mod end;
mod silence;
mod upstream;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use upstream::{Idle, Pool};

use buffer::Buffer;
use upstream::Upstream;

use super::access;
use super::core::{Core, Peer};
use super::counted::Counted;
use super::event_loop::Session;
use super::http::{Exchange, Refusal};
use super::plan::Listener;
use super::queue::Place;
use super::relay::Relay;
use super::shared::Admitted;
use super::stream::{Received, Side};
use super::wheel::{Tick, ticks};

/// How long what a client still sends is read after it has got an answer.
const LINGER: Duration = Duration::from_secs(2);

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
    /// The request was sent again, as the server had died over it.
    repeated: bool,
    /// Until when the request waits for a place at a server, once it has had to, and the place in the queue that it had then.
    patience: Option<(Instant, Place)>,
    /// When the request that is being read began to come.
    asked: Option<Instant>,
    began: Instant,
    /// When something last moved.
    last: Tick,
    /// Bytes that the client's system had not acknowledged when that was last looked at.
    undelivered: usize,
    log: end::Log,
    counted: Counted,
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
            repeated: false,
            patience: None,
            asked: Some(core.now),
            began: core.now,
            last: core.tick,
            undelivered: 0,
            log: end::Log::default(),
            counted: Counted::begin(core),
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
        if self.counted.is_due(core) {
            self.count(core);
        }
        self.conclude(core, after)
    }

    fn conclude(mut self: Box<Http>, core: &mut Core, after: After) -> Option<Session> {
        core.again.extend(self.parent);
        match after {
            After::Waits => {
                if self.exchange.is_idle() {
                    self.give_buffers_back(core);
                    // Whose first request has not come yet has been promised an answer.
                    let waits = self.asked.is_none() && self.state == State::Open;
                    if core.draining && waits && self.to_client.is_empty() && self.from_client.is_empty() {
                        self.take_leave(core);
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
            // What has not arrived would be lost: when a connection is closed on which something is unread, or comes later,
            // the system drops it (RFC 2525 section 2.17). Who is slow gets all, as long as it takes something.
            let left = core.streams[self.client].undelivered();
            let arrives = left > 0 && left != self.undelivered;
            if !arrives && self.to_client.is_empty() && !core.streams[self.client].holds_back() {
                return After::Over;
            }
            self.undelivered = left;
            self.state = State::Lingering(core.now + LINGER);
        }
        if let Some(deadline) = self.upstream.deadline()
            && core.now >= deadline
        {
            if self.upstream.is_waiting() {
                return self.give_up_waiting(core);
            }
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
        let (silence, whose) = self.silence(core);
        if !silence.is_zero() && core.tick >= self.last + ticks(silence) {
            return self.end_silence(core, whose);
        }
        core.keep_alive(&self.listener, self.began, self.streams());
        After::Waits
    }

    /// Nothing is under way: closing the connection is no loss, and TLS is told that. There is room for it.
    fn take_leave(&self, core: &mut Core) {
        let _ = core.streams[self.client].say_goodbye();
    }

    /// The client's, and the server's of the request that it is at.
    fn streams(&self) -> impl Iterator<Item = usize> {
        [self.client].into_iter().chain(self.upstream.stream())
    }

    pub(super) fn deadline(&self, core: &Core) -> Tick {
        let timeouts = &self.listener.settings.timeouts;
        let (silence, _) = self.silence(core);
        let idle = if silence.is_zero() { Tick::MAX / 2 } else { self.last + ticks(silence) };
        let idle = idle.min(core.keep_alive_due(self.streams()));
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

    /// Does TLS with the server only begin?
    fn is_handshaking(&self, core: &Core) -> bool {
        self.upstream.stream().is_some_and(|stream| core.streams[stream].is_handshaking())
    }

    /// One round; did something move?
    fn round(&mut self, core: &mut Core) -> Result<bool, After> {
        if self.state != State::Open {
            return self.wind_up(core);
        }
        // Who has gone wants no place at a server any more.
        if self.upstream.is_waiting() && self.has_gone(core) {
            return Err(self.client_broken());
        }
        // What is left of a response goes on, whoever has been let go of since.
        let waiting = self.to_client.len();
        self.write_client(core)?;
        let mut moved = self.to_client.len() < waiting;
        moved |= self.hear_client(core)?;
        if self.upstream.is_connected() {
            let handshaking = self.is_handshaking(core);
            moved |= self.hear_server(core)?;
            // What the client has asked for could not go before.
            moved |= handshaking && !self.is_handshaking(core);
        }
        if self.exchange.is_tunnel() && self.to_client.is_empty() && self.to_server.is_empty() {
            return Err(After::Tunnel);
        }
        Ok(moved)
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
                let supplies = &mut core.supplies;
                match core.streams[self.client].read(&mut supplies.scratch, &mut supplies.tls) {
                    Received::Bytes(_) => Ok(true),
                    Received::Nothing => Ok(false),
                    Received::End | Received::Broken => Err(After::Over),
                }
            }
            _ => {
                if core.streams[self.client].say_goodbye() {
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

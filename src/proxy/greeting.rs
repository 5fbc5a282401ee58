//! What comes before a client is served: a PROXY header, if its peer is one that sends it, and TLS.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::access::End;
use super::core::{Core, Peer};
use super::event_loop::Session;
use super::h2_session::H2;
use super::http_session::Http;
use super::plan::Listener;
use super::proxy_header::{self, Step};
use super::refusal;
use super::relay::Relay;
use super::select::Why;
use super::shared::Admitted;
use super::stream::Handshake;
use super::tls::TlsSide;
use super::wheel::Tick;
use crate::config::proxy::Mode;

/// A client that has connected.
pub(super) struct Greeting {
    listener: Arc<Listener>,
    client: usize,
    peer: Peer,
    /// A PROXY header comes first.
    header: bool,
    /// Then TLS.
    tls: bool,
    began: Instant,
    deadline: Instant,
    admitted: Admitted,
}

/// What one look has led to.
enum Outcome {
    /// More has to come.
    Waits,
    /// The client can be served.
    Done,
    /// It has gone, or is not wanted.
    Over,
}

impl Greeting {
    /// A client has connected; the session that serves it, or `None` if it is over already.
    pub(super) fn begin(
        core: &mut Core,
        key: usize,
        listener: Arc<Listener>,
        (client, peer): (usize, Peer),
        admitted: Admitted,
    ) -> Option<Session> {
        let header = peer.address.is_some_and(|address| listener.sends_header(address));
        let tls = listener.tls.is_some();
        let deadline = core.now + listener.settings.timeouts.request;
        let greeting = Greeting { listener, client, peer, header, tls, began: core.now, deadline, admitted };
        if !header && !tls {
            return greeting.serve(core, key);
        }
        if !header && !greeting.start_tls(core) {
            core.close(client);
            return None;
        }
        // What has come with the connection is told; nothing need be read before.
        Some(Session::Greeting(Box::new(greeting)))
    }

    fn start_tls(&self, core: &mut Core) -> bool {
        self.listener.tls.as_ref().is_none_or(|tls| core.streams[self.client].accept_tls(tls).is_ok())
    }

    pub(super) fn ready(mut self: Box<Greeting>, core: &mut Core, key: usize) -> Option<Session> {
        if self.header {
            match self.read_header(core) {
                Outcome::Waits => return Some(Session::Greeting(self)),
                Outcome::Over => {
                    core.shared.totals.bad_headers.fetch_add(1, Relaxed);
                    return self.turn_away(core, End::BadClient);
                }
                Outcome::Done => {
                    self.header = false;
                    if !self.start_tls(core) {
                        core.close(self.client);
                        return None;
                    }
                }
            }
        }
        if self.tls {
            match core.streams[self.client].handshake(&mut core.supplies.tls) {
                Handshake::Waits => return Some(Session::Greeting(self)),
                Handshake::Failed => {
                    core.shared.totals.bad_handshakes.fetch_add(1, Relaxed);
                    return self.turn_away(core, End::BadClient);
                }
                Handshake::Done => self.tls = false,
            }
        }
        self.serve(core, key)
    }

    pub(super) fn look(self: Box<Greeting>, core: &mut Core, _key: usize) -> Option<Session> {
        if core.now < self.deadline {
            return Some(Session::Greeting(self));
        }
        self.turn_away(core, End::Late)
    }

    /// The client is not served.
    fn turn_away(&self, core: &mut Core, end: End) -> Option<Session> {
        core.record_unserved(&self.listener, &self.peer, self.began, end);
        core.close(self.client);
        None
    }

    pub(super) fn deadline(&self, core: &Core) -> Tick {
        core.wheel.tick(self.deadline) + 1
    }

    pub(super) fn cut(&self, core: &mut Core) {
        core.close(self.client);
    }

    /// Takes the header off, and nothing of what follows.
    fn read_header(&mut self, core: &mut Core) -> Outcome {
        let stream = &mut core.streams[self.client];
        let waiting = &mut core.supplies.scratch[..proxy_header::LONGEST];
        let length = match stream.peek(waiting) {
            Ok(0) => return Outcome::Over,
            Ok(length) => length,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Outcome::Waits,
            Err(_) => return Outcome::Over,
        };
        match proxy_header::read(&waiting[..length]) {
            Ok(Step::More) if length < proxy_header::LONGEST && !stream.has_ended() => Outcome::Waits,
            Ok(Step::More) | Err(_) => Outcome::Over,
            Ok(Step::Header { consumed, source, destination }) => {
                if stream.skip(&mut waiting[..consumed]).is_err() {
                    return Outcome::Over;
                }
                if source.is_some() {
                    (self.peer.address, self.peer.local) = (source, destination);
                }
                Outcome::Done
            }
        }
    }

    /// Nothing comes before any more.
    fn serve(self, core: &mut Core, key: usize) -> Option<Session> {
        let Greeting { listener, client, peer, began, admitted, .. } = self;
        if matches!(listener.config.mode, Mode::Http(_)) {
            if core.streams[client].tls().and_then(TlsSide::alpn) == Some(b"h2") {
                return H2::begin(core, key, listener, (client, peer), admitted);
            }
            return Http::begin(core, key, listener, (client, peer), Some(admitted), None);
        }
        match Relay::begin(core, key, Arc::clone(&listener), (client, peer), admitted) {
            Ok(relay) => relay.map(|relay| Session::Relay(Box::new(relay))),
            Err(why) => {
                core.shared.totals.refused.fetch_add(1, Relaxed);
                core.record_unserved(&listener, &peer, began, End::Refused(why));
                refuse(core, client, &listener, why);
                None
            }
        }
    }
}

fn refuse(core: &mut Core, client: usize, listener: &Listener, why: Why) {
    if let Some(socket) = core.streams[client].socket() {
        refusal::turn_away(socket, listener, why);
    }
    core.close(client);
}

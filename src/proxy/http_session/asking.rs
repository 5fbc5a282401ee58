//! From the client to the server: requests.

use std::sync::atomic::Ordering::Relaxed;

use super::super::access;
use super::super::core::Core;
use super::super::http::{ClientClosed, Limits, Rewrite, Step};
use super::super::refusal;
use super::super::stream::Received;
use super::buffer::TOGETHER;
use super::{After, Http, Refused, State};
use crate::config::proxy::Mode;

/// Bytes that are read at a time, from a client that has no server yet.
const WITH_HEAD: usize = 32 * 1024;

impl Http {
    /// Takes in what the client has sent.
    pub(super) fn hear_client(&mut self, core: &mut Core) -> Result<bool, After> {
        if !self.write_server(core) {
            return Ok(false);
        }
        let mut moved = false;
        if !self.from_client.is_empty() {
            moved = self.take_kept(core)? > 0;
        }
        // While a request is held back, its bytes stay in the socket, and the client waits.
        let limit = self.listener.settings.limits.head as usize;
        if self.held_back(limit) || self.client_ended {
            return Ok(moved);
        }
        let stream = &mut core.streams[self.client];
        let mut scratch = std::mem::take(&mut core.supplies.scratch);
        // What comes with a head may have to be kept while the request waits for a server.
        let room = if self.upstream.is_connected() { scratch.len() } else { WITH_HEAD };
        let received = stream.read(&mut scratch[..room], &mut core.supplies.tls);
        let heard = matches!(received, Received::Bytes(_));
        let outcome = match received {
            Received::Bytes(n) => self.new_from_client(core, &scratch[..n]).map(|()| true),
            Received::Nothing => Ok(moved),
            Received::End => {
                self.client_ended = true;
                self.client_closed().map(|()| true)
            }
            Received::Broken => {
                self.log.end = access::End::ClientReset;
                Err(After::Over)
            }
        };
        core.supplies.scratch = scratch;
        if heard && !self.exchange.is_asked() {
            core.streams[self.client].has_no_answer_yet();
        }
        outcome
    }

    /// Is there nothing that could be done with more bytes of the client's?
    pub(super) fn held_back(&self, limit: usize) -> bool {
        let connecting = !self.exchange.is_idle() && !self.upstream.is_connected();
        // What is kept is the next request, while the response to this one is on the way; or what the server has no room
        // for. Else it is the beginning of a line, whose rest has to come.
        let waits = self.exchange.is_asked() || !self.to_server.is_empty();
        let kept = !self.from_client.is_empty() && !self.exchange.is_idle() && waits;
        connecting || kept || self.from_client.len() > limit
    }

    pub(super) fn new_from_client(&mut self, core: &mut Core, bytes: &[u8]) -> Result<(), After> {
        if self.exchange.is_idle() && self.asked.is_none() {
            self.asked = Some(core.now);
        }
        if self.from_client.is_empty() {
            let consumed = self.take_from_client(core, bytes)?;
            self.from_client.add(&mut core.supplies.buffers, &bytes[consumed..]);
            return Ok(());
        }
        self.from_client.add(&mut core.supplies.buffers, bytes);
        self.take_kept(core).map(|_| ())
    }

    /// Deals with what the client sent and is kept; says how much of it is consumed.
    fn take_kept(&mut self, core: &mut Core) -> Result<usize, After> {
        let kept = self.from_client.take();
        let consumed = self.take_from_client(core, kept.bytes())?;
        self.from_client.restore(kept, consumed);
        Ok(consumed)
    }

    /// Deals with `input`, what the client sent; says how much of it is consumed.
    fn take_from_client(&mut self, core: &mut Core, input: &[u8]) -> Result<usize, After> {
        let consumed = self.requests_in(core, input);
        self.or_refuse(core, consumed)
    }

    pub(super) fn or_refuse<T>(&mut self, core: &mut Core, outcome: Result<T, Refused>) -> Result<T, After> {
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

    /// The same, up to what is refused.
    fn requests_in(&mut self, core: &mut Core, input: &[u8]) -> Result<usize, Refused> {
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
                    self.repeated = false;
                    self.patience = None;
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
                    // Behind the last of it the end is still to be noticed, whatever room there is.
                    if !self.send_to_server(core, body) && at < input.len() {
                        break;
                    }
                }
            }
        }
        self.flush_to_server(core);
        Ok(at)
    }

    pub(super) fn write_request(&mut self, core: &mut Core, head: &[u8]) {
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
    pub(super) fn send_to_server(&mut self, core: &mut Core, body: &[u8]) -> bool {
        if !self.upstream.is_connected() {
            // It waits for that, as its head does.
            let comes = self.upstream.deadline().is_some();
            if comes {
                self.to_server.add(&mut core.supplies.buffers, body);
            }
            return comes && self.to_server.len() <= TOGETHER;
        }
        let Some(server) = self.upstream.stream() else { return false };
        let Ok(more) = self.to_server.send(body, &mut core.streams[server], &mut core.supplies) else {
            self.server_broken();
            return false;
        };
        self.spare_sent(core);
        more
    }

    pub(super) fn flush_to_server(&mut self, core: &mut Core) {
        let Some(server) = self.upstream.stream().filter(|_| self.upstream.is_connected()) else { return };
        if self.to_server.is_empty() {
            return;
        }
        match self.to_server.flush(&mut core.streams[server], &mut core.supplies.tls) {
            Ok(()) => self.spare_sent(core),
            Err(_) => self.server_broken(),
        }
    }

    /// What has gone, and never goes again, takes no memory.
    fn spare_sent(&mut self, core: &mut Core) {
        if self.to_server.is_empty() && !self.exchange.repeatable() {
            self.to_server.give_back(&mut core.supplies.buffers);
        }
    }

    /// The server takes no more. What it has to say about that is still to be read; a request that may be sent again is
    /// kept.
    fn server_broken(&mut self) {
        if self.exchange.repeatable() {
            self.to_server.skip(self.to_server.len());
        } else {
            self.to_server.forget();
        }
    }

    /// Writes what waits for the server; is all of it gone, or can none of it go yet?
    pub(super) fn write_server(&mut self, core: &mut Core) -> bool {
        if !self.upstream.is_connected() {
            return true;
        }
        if let Some(server) = self.upstream.stream()
            && core.streams[server].flush().is_err()
        {
            self.server_broken();
        }
        self.flush_to_server(core);
        self.to_server.is_empty()
    }

    pub(super) fn client_closed(&mut self) -> Result<(), After> {
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
}

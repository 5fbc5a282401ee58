//! For how long nothing may move, and what becomes of a client then.

use std::time::Duration;

use super::super::access;
use super::super::core::Core;
use super::super::http::Refusal;
use super::{After, Http};

/// Who is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Neither side has anything to say, or neither says it.
    Both,
    /// The server, before its response.
    Server,
    /// The client, in the midst of its request.
    Request,
    /// The client has ended its side, and may have gone.
    Client,
}

impl Http {
    /// How long nothing may move, zero: for ever; and who is waited for.
    pub(super) fn silence(&self, core: &Core) -> (Duration, Silence) {
        let timeouts = &self.listener.settings.timeouts;
        let mut silence = (timeouts.idle, Silence::Both);
        let mut limit = |time: Duration, whose| {
            if !time.is_zero() && (silence.0.is_zero() || time < silence.0) {
                silence = (time, whose);
            }
        };
        if self.exchange.is_idle() || !self.upstream.is_connected() {
            return silence;
        }
        if self.exchange.can_refuse() {
            let all_sent = self.exchange.is_asked() || !self.to_server.is_empty();
            limit(timeouts.response, if all_sent { Silence::Server } else { Silence::Request });
        }
        // That one which has ended its side is still there cannot be seen before something is sent to it. A request in
        // memory has its end, and stays.
        if self.parent.is_none() && self.to_client.is_empty() && core.streams[self.client].has_ended() {
            limit(timeouts.client_fin, Silence::Client);
        }
        silence
    }

    /// Nothing has moved for too long.
    pub(super) fn end_silence(&mut self, core: &mut Core, whose: Silence) -> After {
        if whose == Silence::Client {
            self.log.end = access::End::ClientReset;
            self.reset_client(core);
            return After::Over;
        }
        if whose == Silence::Request {
            self.log.end = access::End::Late;
            return self.refuse(core, Refusal::new(408, "the rest of the request did not come in time"));
        }
        self.log.end = access::End::Idle;
        if self.exchange.is_idle() && self.to_client.is_empty() {
            self.take_leave(core);
            return After::Over;
        }
        if !self.exchange.is_idle() && self.exchange.can_refuse() {
            return self.refuse(core, Refusal::new(504, "the server did not answer in time"));
        }
        self.reset_client(core);
        After::Over
    }
}

//! How requests and connections end, and what is logged of them.

use std::time::{Duration, Instant, SystemTime};

use super::super::access::{self, About, End};
use super::super::core::Core;
use super::super::http::{Method, Refusal, RequestHead, ServerClosed};
use super::super::server::Engaged;
use super::{After, Http, LINGER, State};

/// What the access log is to have of a request.
pub(super) struct Log {
    /// Its head, if there is an access log.
    head: Vec<u8>,
    about: Option<RequestHead>,
    began: Option<(Instant, SystemTime)>,
    pub(super) connect: Option<Duration>,
    pub(super) status: u16,
    pub(super) body: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) end: End,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            head: Vec::new(),
            about: None,
            began: None,
            connect: None,
            status: 0,
            body: 0,
            received: 0,
            sent: 0,
            end: End::Closed,
        }
    }
}

impl Log {
    /// A request has begun.
    pub(super) fn request(&mut self, core: &mut Core, head: &[u8], about: &RequestHead) {
        self.received += head.len() as u64;
        if core.recorder.is_none() {
            return;
        }
        let mut kept = std::mem::take(&mut self.head);
        kept.clear();
        kept.extend_from_slice(head);
        let began = Some((core.now, SystemTime::now()));
        *self = Log { head: kept, about: Some(*about), began, received: head.len() as u64, ..Log::default() };
    }
}

impl Http {
    /// One line for the request, if there was one.
    pub(super) fn record(&mut self, core: &mut Core) {
        let (Some(about), Some((began, start))) = (self.log.about.take(), self.log.began.take()) else { return };
        let Some(recorder) = &mut core.recorder else { return };
        let head = &self.log.head;
        let field = |span: super::super::http::Span| (!span.is_empty()).then(|| span.of(head));
        let engaged = self.upstream.engaged();
        recorder.record(&access::Entry {
            client: self.peer.address,
            listener: &self.listener.name,
            server: engaged.map(Engaged::logged),
            start,
            connect: self.log.connect,
            total: core.now - began,
            received: self.log.received,
            sent: self.log.sent,
            end: self.log.end,
            about: About::Request(access::Request {
                method: about.method_name.of(head),
                target: about.target.of(head),
                version: match (self.parent, about.http10) {
                    (Some(_), _) => "HTTP/2.0",
                    (None, true) => "HTTP/1.0",
                    (None, false) => "HTTP/1.1",
                },
                host: field(about.host),
                status: self.log.status,
                body: self.log.body,
                referer: field(about.referer),
                user_agent: field(about.user_agent),
            }),
        });
    }

    /// The client gets `refusal` instead of a response, if it has not begun to get another one, and its connection is
    /// closed.
    pub(super) fn refuse(&mut self, core: &mut Core, refusal: Refusal) -> After {
        self.log.status = refusal.status;
        if self.log.about.is_some() {
            self.record(core);
        } else {
            // Nobody knows what it wanted.
            let began = self.asked.unwrap_or(core.now);
            core.record_unserved(&self.listener, &self.peer, began, self.log.end);
        }
        self.release(core, false);
        self.upstream.drop_it(core);
        self.to_server.forget();
        self.asked = None;
        if !self.exchange.can_refuse() {
            self.reset_client(core);
            return After::Over;
        }
        let bodiless = !self.exchange.is_idle() && self.exchange.request().method == Method::Head;
        refusal.response(bodiless, self.to_client.writer(&mut core.supplies.buffers));
        self.state = State::Lingering(core.now + LINGER);
        // It is written in the next round.
        core.again.push(self.key);
        After::Waits
    }

    pub(super) fn bad_server(&mut self, core: &mut Core, refusal: Refusal) -> After {
        self.log.end = End::BadServer;
        self.refuse(core, refusal)
    }

    /// The server sends no more. Did something come of that?
    pub(super) fn server_closed(&mut self, core: &mut Core, how: End) -> Result<bool, After> {
        self.server_ended = true;
        // A server that dies takes what it was asked with it. Once, that is asked again, of whoever lives: a request that
        // kills servers shall not go round them all (RFC 9110 section 9.2.2).
        let again = self.upstream.is_reused() || !self.repeated;
        match self.exchange.server_closed(again) {
            ServerClosed::Idle => {
                self.release(core, false);
                self.server_ended = false;
                Ok(true)
            }
            ServerClosed::Retry => {
                self.repeated |= !self.upstream.is_reused();
                let retried = self.retry(core);
                self.or_refuse(core, retried)?;
                Ok(true)
            }
            ServerClosed::Refuse(refusal) => {
                self.log.end = how;
                Err(self.refuse(core, refusal))
            }
            ServerClosed::Complete if how == End::Closed => {
                let unread = !self.from_client.is_empty();
                self.finish(core, unread, false)?;
                Ok(true)
            }
            ServerClosed::Complete | ServerClosed::Truncated => {
                self.log.end = End::ServerReset;
                self.record(core);
                self.reset_client(core);
                Err(After::Over)
            }
            ServerClosed::HalfClosed => Ok(true),
        }
    }

    /// What the client has got is not all: it is told so by a reset.
    pub(super) fn reset_client(&mut self, core: &mut Core) {
        core.streams[self.client].reset_on_close();
    }

    /// Between two requests nothing is kept.
    pub(super) fn give_buffers_back(&mut self, core: &mut Core) {
        for buffer in [&mut self.from_client, &mut self.to_server, &mut self.from_server, &mut self.to_client] {
            if buffer.is_empty() {
                buffer.give_back(&mut core.supplies.buffers);
            }
        }
    }

    pub(super) fn close(&mut self, core: &mut Core) {
        if !self.exchange.is_idle() {
            self.record(core);
        }
        self.release(core, false);
        self.upstream.drop_it(core);
        for buffer in [&mut self.from_client, &mut self.to_server, &mut self.from_server, &mut self.to_client] {
            buffer.give_back(&mut core.supplies.buffers);
        }
        // Who carries this one's request looks at what is left in memory.
        if self.parent.is_some() {
            let _ = core.streams[self.client].shut();
        }
        core.close(self.client);
    }
}

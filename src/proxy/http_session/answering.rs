//! From the server to the client: responses.

use super::super::access;
use super::super::core::Core;
use super::super::http::{ClientNext, Limits, Step};
use super::super::stream::Received;
use super::{After, Http, LINGER, State};

impl Http {
    /// Takes in what the server has sent.
    pub(super) fn hear_server(&mut self, core: &mut Core) -> Result<bool, After> {
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
            Received::Broken => self.server_closed(core, access::End::ServerReset),
        };
        core.supplies.scratch = scratch;
        outcome
    }

    pub(super) fn new_from_server(&mut self, core: &mut Core, bytes: &[u8]) -> Result<(), After> {
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
        // What stands behind a response must not be taken for the next one's.
        if self.upstream.stream().is_some() {
            self.from_server.restore(kept, consumed);
        }
        Ok(())
    }

    /// Deals with `input`, what the server sent; says how much of it is consumed.
    pub(super) fn take_from_server(&mut self, core: &mut Core, input: &[u8]) -> Result<usize, After> {
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
                    let before = self.to_client.len();
                    let out = self.to_client.writer(&mut core.supplies.buffers);
                    self.exchange.write_response(&rest[..consumed], out);
                    self.log.sent += (self.to_client.len() - before) as u64;
                    at += consumed;
                }
                Step::Body { raw } | Step::Trailer { raw } => {
                    self.log.body += raw as u64;
                    self.log.sent += raw as u64;
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
    pub(super) fn finish(&mut self, core: &mut Core, unread: bool, more: bool) -> Result<(), After> {
        let finish = self.exchange.finish(unread);
        self.log.end = access::End::Closed;
        self.record(core);
        // What comes behind a response is no response: such a connection is not used again.
        self.release(core, finish.reuse && !more && !self.server_ended && self.to_server.is_empty());
        self.from_server.forget();
        // What the server has not taken of this request must not go before the next one.
        self.to_server.forget();
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

    /// Sends `body` behind what waits already.
    pub(super) fn send_to_client(&mut self, core: &mut Core, body: &[u8]) -> Result<(), After> {
        let sent = self.to_client.send(body, &mut core.streams[self.client], &mut core.supplies);
        sent.map(|_| ()).map_err(|_| self.client_broken())
    }

    pub(super) fn flush_to_client(&mut self, core: &mut Core) -> Result<(), After> {
        let flushed = self.to_client.flush(&mut core.streams[self.client], &mut core.supplies.tls);
        flushed.map_err(|_| self.client_broken())
    }

    pub(super) fn client_broken(&mut self) -> After {
        self.log.end = access::End::ClientReset;
        After::Over
    }

    /// Writes what waits for the client; is all of it gone?
    pub(super) fn write_client(&mut self, core: &mut Core) -> Result<bool, After> {
        if core.streams[self.client].flush().is_err() {
            return Err(self.client_broken());
        }
        self.flush_to_client(core)?;
        // TLS may hold the rest of what it has taken.
        let flushed = core.streams[self.client].flush().map_err(|_| self.client_broken())?;
        Ok(flushed && self.to_client.is_empty())
    }
}

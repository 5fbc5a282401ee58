//! A connection whose bytes go both ways as they come.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::access::{self, Recorder};
use super::core::{Core, Peer, Started};
use super::counted::Counted;
use super::flow::{Flow, Progress, Stage};
use super::plan::{Listener, Target};
use super::select::{Tried, Why};
use super::server::Engaged;
use super::shared::Admitted;
use super::stream::Side;
use super::wheel::{Tick, ticks};

/// How long a side that is closed may take nothing of what was sent before, until it gets no more.
const MOST_SETTLING: Duration = Duration::from_secs(10);

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Lives,
    /// It is over, and its streams are closed.
    Over,
}

/// How far a connection to a server is.
struct Dialing {
    tried: Tried,
    target: Target,
    /// When it counts as failed.
    deadline: Instant,
}

/// How it goes with what was sent before it was decided to close.
#[derive(Clone, Copy, Debug)]
struct Settling {
    /// When something last moved.
    since: Instant,
    /// Bytes that were carried, and that are not acknowledged yet.
    left: (u64, usize),
}

impl Settling {
    /// Has nothing moved for too long?
    fn is_late(self, core: &Core) -> bool {
        core.now >= self.since + MOST_SETTLING
    }
}

enum Phase {
    Connecting(Box<Dialing>),
    Relaying,
    /// One side is broken, or the client is let go of. What was sent before arrives, then both are closed.
    Settling(Settling),
}

/// A relayed connection.
pub(super) struct Relay {
    key: usize,
    listener: Arc<Listener>,
    peer: Peer,
    client: usize,
    server: usize,
    phase: Phase,
    up: Flow,
    down: Flow,
    engaged: Option<Engaged>,
    counted: Counted,
    began: Instant,
    connected: Option<Duration>,
    /// When something last moved.
    last: Tick,
    why: access::End,
    _admitted: Option<Admitted>,
}

impl Relay {
    /// Begins to connect `client`, a stream, to a server. `early` are bytes that it has sent already.
    ///
    /// `None`: it is over already, and the client's stream closed.
    ///
    /// # Errors
    /// There is no server; the client's stream is still open.
    pub(super) fn begin(
        core: &mut Core,
        key: usize,
        listener: Arc<Listener>,
        (client, peer): (usize, Peer),
        admitted: Admitted,
    ) -> Result<Option<Relay>, Why> {
        if core.is_overloaded() {
            return Err(Why::Full);
        }
        let mut tried = Tried::default();
        let Started { stream, target, engaged, connected } = core.dial(key, &listener, &peer, &mut tried)?;
        let dialing = dialing_of(core, &listener, tried, target);
        let mut relay = Relay {
            key,
            peer,
            client,
            server: stream,
            phase: Phase::Connecting(dialing),
            up: Flow::new(),
            down: Flow::new(),
            engaged: Some(engaged),
            counted: Counted::begin(core),
            began: core.now,
            connected: None,
            last: core.tick,
            why: access::End::Closed,
            listener,
            _admitted: Some(admitted),
        };
        if core.recorder.as_ref().is_some_and(Recorder::wants_first_line) {
            relay.up.keep_first();
        }
        core.pending += 1;
        // A connection that is made at once may be broken at once, and the last server that could be tried.
        if connected {
            if relay.established(core) == Fate::Over {
                return Ok(None);
            }
            // What the client has said already, behind the handshake of TLS, is not told again.
            core.again.push(key);
        }
        Ok(Some(relay))
    }

    /// What two that have agreed on another protocol say from now on.
    pub(super) fn of_tunnel(
        core: &Core,
        key: usize,
        listener: Arc<Listener>,
        (client, peer): (usize, Peer),
        (server, engaged): (usize, Engaged),
        admitted: Option<Admitted>,
    ) -> Relay {
        Relay {
            key,
            listener,
            peer,
            client,
            server,
            phase: Phase::Relaying,
            up: Flow::new(),
            down: Flow::new(),
            engaged: Some(engaged),
            counted: Counted::begin(core),
            began: core.now,
            connected: Some(Duration::ZERO),
            last: core.tick,
            why: access::End::Closed,
            _admitted: admitted,
        }
    }

    /// Puts `up` and `down`, which have been read already, before what comes.
    pub(super) fn put_first(&mut self, up: &[u8], down: &[u8]) {
        self.up.put_first(up);
        self.down.put_first(down);
    }

    /// One of its streams may have something to read, or room to write.
    pub(super) fn ready(&mut self, core: &mut Core, side: Option<Side>) -> Fate {
        self.last = core.tick;
        if matches!(self.phase, Phase::Connecting(_)) {
            let stream = &core.streams[self.server];
            if side != Some(Side::Server) || !(stream.writable || stream.readable) {
                return Fate::Lives;
            }
            match stream.connected() {
                Ok(()) => {
                    if self.established(core) == Fate::Over {
                        return Fate::Over;
                    }
                    if matches!(self.phase, Phase::Connecting(_)) {
                        return Fate::Lives;
                    }
                }
                Err(e) => return self.redial(core, &e),
            }
        }
        let fate = self.carry(core);
        if fate == Fate::Lives && self.counted.is_due(core) {
            self.count(core);
        }
        if fate == Fate::Lives && core.streams[self.server].owes_ack {
            self.acknowledge(core, side);
        }
        fate
    }

    /// The server hears of the connection with the first that the client sends, if that is among this round's events, else
    /// without it: the server may be the one that speaks first.
    fn acknowledge(&mut self, core: &mut Core, side: Option<Side>) {
        let server = &mut core.streams[self.server];
        if self.up.bytes > 0 {
            server.owes_ack = false;
        } else if side.is_none() {
            server.complete_handshake();
        } else {
            core.again.push(self.key);
        }
    }

    /// When it has to be looked at again, whatever happens.
    pub(super) fn deadline(&self, core: &Core) -> Tick {
        match &self.phase {
            Phase::Connecting(dialing) => core.wheel.tick(dialing.deadline) + 1,
            Phase::Settling(_) => core.tick + 1,
            Phase::Relaying => {
                let idle = self.listener.settings.timeouts.idle;
                let limit = if idle.is_zero() { Tick::MAX / 2 } else { self.last + ticks(idle) };
                let count = self.counted.due((self.up.bytes, self.down.bytes));
                limit.min(count).min(core.keep_alive_due([self.client, self.server]))
            }
        }
    }

    /// Its time has come, perhaps.
    pub(super) fn look(&mut self, core: &mut Core) -> Fate {
        match &self.phase {
            Phase::Connecting(dialing) if core.now >= dialing.deadline => {
                self.redial(core, &io::Error::from_raw_os_error(libc::ETIMEDOUT))
            }
            Phase::Connecting(_) => Fate::Lives,
            Phase::Settling(_) => self.carry(core),
            Phase::Relaying => {
                let idle = self.listener.settings.timeouts.idle;
                if !idle.is_zero() && core.tick >= self.last + ticks(idle) {
                    self.why = access::End::Idle;
                    return self.end(core);
                }
                core.keep_alive(&self.listener, self.began, [self.client, self.server]);
                self.count(core);
                Fate::Lives
            }
        }
    }

    /// The time for connections to end by themselves is over.
    pub(super) fn cut(&mut self, core: &mut Core) {
        self.why = access::End::Stopped;
        self.end(core);
    }

    /// The connection is made.
    fn established(&mut self, core: &mut Core) -> Fate {
        let Phase::Connecting(dialing) = &self.phase else { return Fate::Lives };
        let begun = core.begin_upstream(self.server, &self.listener, &self.peer, self.client, &dialing.target);
        if let Err(e) = begun {
            return self.redial(core, &e);
        }
        let Phase::Connecting(dialing) = std::mem::replace(&mut self.phase, Phase::Relaying) else {
            return Fate::Lives;
        };
        core.pending -= 1;
        let server = &dialing.target.server;
        server.made.fetch_add(1, Relaxed);
        self.connected = Some(core.now - self.began);
        self.listener.served(&self.peer.client(), server.id, core.now);
        Fate::Lives
    }

    /// The server could not be connected to: another one.
    fn redial(&mut self, core: &mut Core, error: &io::Error) -> Fate {
        let Phase::Connecting(dialing) = &mut self.phase else { return Fate::Lives };
        core.failed(&self.listener, &dialing.target, error);
        core.close(self.server);
        let mut tried = std::mem::take(&mut dialing.tried);
        match core.dial(self.key, &self.listener, &self.peer, &mut tried) {
            Ok(Started { stream, target, engaged, connected }) => {
                self.server = stream;
                core.leaving.extend(self.engaged.replace(engaged));
                self.phase = Phase::Connecting(dialing_of(core, &self.listener, tried, target));
                if !connected {
                    return Fate::Lives;
                }
                match self.established(core) {
                    Fate::Lives if matches!(self.phase, Phase::Relaying) => self.carry(core),
                    fate => fate,
                }
            }
            Err(why) => {
                core.pending -= 1;
                self.why = access::End::Refused(why);
                core.shared.totals.refused.fetch_add(1, Relaxed);
                core.streams[self.client].reset_on_close();
                core.close(self.client);
                self.record(core);
                core.leaving.extend(self.engaged.take());
                Fate::Over
            }
        }
    }

    /// Carries what there is, both ways.
    fn carry(&mut self, core: &mut Core) -> Fate {
        let Some((client, server)) = core.streams.get2_mut(self.client, self.server) else { return Fate::Over };
        let supplies = &mut core.supplies;
        let handshaking = server.is_handshaking();
        let last = self.down.is_over();
        let up = self.up.pump(client, server, supplies, last);
        let last = self.up.is_over();
        let down = self.down.pump(server, client, supplies, last);
        if core.recorder.as_ref().is_some_and(Recorder::wants_begin)
            && let Some(first) = self.up.take_first()
        {
            self.record_as(core, access::End::Begun, &first);
        }
        if self.up.stage == Stage::Broken || self.down.stage == Stage::Broken {
            return self.break_off(core);
        }
        if self.down.stage == Stage::Ended && self.listener.settings.tcp.fastclose {
            return self.let_go(core);
        }
        if self.up.is_over() && self.down.is_over() {
            return self.end(core);
        }
        // What the client has sent could not go before.
        let greeted = handshaking && !core.streams[self.server].is_handshaking();
        if greeted || up == Progress::Continues || down == Progress::Continues {
            core.again.push(self.key);
        }
        Fate::Lives
    }

    /// One side is broken: what was sent before goes to the other one, which is then reset.
    fn break_off(&mut self, core: &mut Core) -> Fate {
        let settling = self.settling(core);
        let late = settling.is_late(core);
        self.why = if self.down.stage == Stage::Broken { access::End::Broken } else { self.why };
        for (flow, from, to) in [(&mut self.up, self.client, self.server), (&mut self.down, self.server, self.client)] {
            let Some((from, to)) = core.streams.get2_mut(from, to) else { return Fate::Over };
            if flow.is_over() {
                continue;
            }
            // The end of a broken connection is not told twice; what it left is there now, or never comes.
            from.readable = true;
            while flow.pump(from, to, &mut core.supplies, false) == Progress::Continues {}
            if !flow.is_over() && (late || !(flow.holds() || to.holds_back())) {
                flow.release(&mut core.supplies, false);
                flow.stage = Stage::Broken;
            }
        }
        let undelivered = core.streams[self.client].undelivered() + core.streams[self.server].undelivered();
        if !(self.up.is_over() && self.down.is_over() && (undelivered == 0 || late)) {
            return self.settle(core, settling, undelivered);
        }
        core.streams[self.client].reset_on_close();
        core.streams[self.server].reset_on_close();
        self.end(core)
    }

    /// The server has ended, and the client is not waited for. It gets what was sent before: when a connection is closed on
    /// which something is unread, or comes later, the system drops what has not arrived (RFC 2525, section 2.17).
    fn let_go(&mut self, core: &mut Core) -> Fate {
        let (settling, undelivered) = (self.settling(core), core.streams[self.client].undelivered());
        if undelivered == 0 || settling.is_late(core) {
            return self.end(core);
        }
        self.settle(core, settling, undelivered)
    }

    fn settling(&self, core: &Core) -> Settling {
        match self.phase {
            Phase::Settling(settling) => settling,
            _ => Settling { since: core.now, left: (0, 0) },
        }
    }

    /// Waits for so many bytes to arrive. Who is slow gets all, as long as it takes something.
    fn settle(&mut self, core: &Core, before: Settling, undelivered: usize) -> Fate {
        let left = (self.up.bytes + self.down.bytes, undelivered);
        let since = if left == before.left { before.since } else { core.now };
        self.phase = Phase::Settling(Settling { since, left });
        Fate::Lives
    }

    fn end(&mut self, core: &mut Core) -> Fate {
        self.up.release(&mut core.supplies, false);
        self.down.release(&mut core.supplies, false);
        if matches!(self.phase, Phase::Connecting(_)) {
            core.pending -= 1;
        }
        core.close(self.client);
        core.close(self.server);
        self.count(core);
        self.record(core);
        core.leaving.extend(self.engaged.take());
        Fate::Over
    }

    fn count(&mut self, core: &Core) {
        if let Some(engaged) = &self.engaged {
            self.counted.count(core, engaged.server(), (self.up.bytes, self.down.bytes));
        }
    }

    fn record(&self, core: &mut Core) {
        self.record_as(core, self.why, self.up.first());
    }

    fn record_as(&self, core: &mut Core, end: access::End, first: &[u8]) {
        let Some(recorder) = &mut core.recorder else { return };
        let server = self.engaged.as_ref().map(Engaged::logged);
        recorder.record(&access::Entry {
            client: self.peer.address,
            listener: &self.listener.name,
            server,
            start: std::time::SystemTime::now() - self.began.elapsed(),
            connect: self.connected,
            total: self.began.elapsed(),
            received: self.up.bytes,
            sent: self.down.bytes,
            end,
            about: access::About::Stream(first),
        });
    }
}

fn dialing_of(core: &Core, listener: &Listener, tried: Tried, target: Target) -> Box<Dialing> {
    let deadline = core.now + listener.settings.timeouts.connect;
    Box::new(Dialing { tried, target, deadline })
}

#[cfg(test)]
#[path = "relay/tests.rs"]
mod tests;

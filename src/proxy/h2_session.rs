//! A client's connection that carries many requests at a time (HTTP/2): each is a session of its own, whose client is
//! memory, and this carries between those and the connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::{Birth, Core, Peer};
use super::event_loop::Session;
use super::http::h2::{H2Connection, H2Event, H2Settings};
use super::memory::Memory;
use super::plan::Listener;
use super::relay::Fate;
use super::shared::Admitted;
use super::stream::Received;
use super::wheel::{Tick, ticks};

/// Bytes of a request that wait for its session at most.
const INBOX: usize = 64 * 1024;

/// Rounds after which others have their turn.
const ROUNDS: usize = 32;

/// How long what still comes of requests that have been refused is read at most.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection that carries many requests.
pub(super) struct H2 {
    key: usize,
    listener: Arc<Listener>,
    peer: Peer,
    client: usize,
    connection: H2Connection,
    /// Requests, by their streams' numbers.
    requests: BTreeMap<u32, Request>,
    out: Vec<u8>,
    written: usize,
    events: Vec<H2Event>,
    began: Instant,
    /// There has been a request.
    asked: bool,
    last: Tick,
    /// When those that still send what has been refused are told to stop.
    lingers: Option<Tick>,
    going: bool,
    ended: bool,
    _admitted: Admitted,
}

struct Request {
    memory: Rc<RefCell<Memory>>,
    /// Its response has been given up, or is complete.
    over: bool,
}

impl H2 {
    pub(super) fn begin(
        core: &mut Core,
        key: usize,
        listener: Arc<Listener>,
        (client, peer): (usize, Peer),
        admitted: Admitted,
    ) -> Option<Session> {
        let settings = H2Settings { head: listener.settings.limits.head, ..H2Settings::default() };
        let h2 = Box::new(H2 {
            key,
            listener,
            peer,
            client,
            connection: H2Connection::new(&settings),
            requests: BTreeMap::new(),
            out: Vec::new(),
            written: 0,
            events: Vec::new(),
            began: core.now,
            asked: false,
            last: core.tick,
            lingers: None,
            going: false,
            ended: false,
            _admitted: admitted,
        });
        h2.ready(core)
    }

    pub(super) fn ready(mut self: Box<H2>, core: &mut Core) -> Option<Session> {
        self.last = core.tick;
        if core.draining && !self.going {
            self.going = true;
            self.connection.goaway();
        }
        self.go_on(core)
    }

    fn go_on(mut self: Box<H2>, core: &mut Core) -> Option<Session> {
        let fate = self.carry(core);
        self.lingers = match self.connection.lingers() {
            true => self.lingers.or(Some(core.tick + ticks(LINGER))),
            false => None,
        };
        match fate {
            Fate::Lives => Some(Session::H2(self)),
            Fate::Over => {
                self.close(core);
                None
            }
        }
    }

    pub(super) fn look(mut self: Box<H2>, core: &mut Core) -> Option<Session> {
        if self.lingers.is_some_and(|until| core.tick >= until) {
            self.connection.let_go();
            return self.go_on(core);
        }
        let timeouts = &self.listener.settings.timeouts;
        let late = !self.asked && core.now >= self.began + timeouts.request;
        if !late && (timeouts.idle.is_zero() || core.tick < self.last + ticks(timeouts.idle)) {
            core.keep_alive(&self.listener, self.began, [self.client]);
            return Some(Session::H2(self));
        }
        self.close(core);
        None
    }

    pub(super) fn deadline(&self, core: &Core) -> Tick {
        let timeouts = &self.listener.settings.timeouts;
        let idle = timeouts.idle;
        let late = if self.asked { Tick::MAX / 2 } else { core.wheel.tick(self.began + timeouts.request) + 1 };
        let limit = if idle.is_zero() { Tick::MAX / 2 } else { self.last + ticks(idle) };
        limit.min(late).min(core.keep_alive_due([self.client])).min(self.lingers.unwrap_or(Tick::MAX / 2))
    }

    /// The time for connections to end by themselves is over.
    pub(super) fn cut(mut self: Box<H2>, core: &mut Core) {
        self.close(core);
    }

    fn carry(&mut self, core: &mut Core) -> Fate {
        for round in 0..=ROUNDS {
            if round == ROUNDS {
                core.again.push(self.key);
                break;
            }
            let Ok(written) = self.write(core) else { return Fate::Over };
            let read = match self.read(core, written) {
                Ok(read) => read,
                Err(()) => return Fate::Over,
            };
            self.connection.poll(&mut self.events);
            let happened = self.take_events(core);
            let moved = self.exchange(core);
            // What sessions said may have to go on, and leave room for more.
            self.connection.poll(&mut self.events);
            let more = self.connection.has_output();
            if !(read || happened || moved || more || !self.events.is_empty()) {
                break;
            }
            if more && !written {
                break;
            }
        }
        if self.connection.is_closed() && !self.connection.has_output() && self.written == self.out.len() {
            return Fate::Over;
        }
        Fate::Lives
    }

    /// Writes what there is for the client; is all of it gone?
    fn write(&mut self, core: &mut Core) -> Result<bool, ()> {
        let stream = &mut core.streams[self.client];
        loop {
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                self.connection.output(&mut self.out);
                if self.out.is_empty() {
                    // An idle connection holds no memory.
                    self.out = Vec::new();
                    return stream.flush().map_err(drop);
                }
            }
            let taken = stream.write(&self.out[self.written..], &mut core.supplies.tls).map_err(drop)?;
            self.written += taken;
            if self.written < self.out.len() {
                return Ok(false);
            }
        }
    }

    /// Reads from the client, unless what it is to get has to go first; did something come?
    fn read(&mut self, core: &mut Core, written: bool) -> Result<bool, ()> {
        if !written || self.ended || !self.connection.wants_input() {
            return Ok(false);
        }
        let supplies = &mut core.supplies;
        match core.streams[self.client].read(&mut supplies.scratch, &mut supplies.tls) {
            Received::Bytes(n) => {
                self.connection.input(&supplies.scratch[..n]);
                Ok(true)
            }
            Received::Nothing => Ok(false),
            Received::End => {
                self.ended = true;
                self.connection.input_end();
                Ok(true)
            }
            Received::Broken => Err(()),
        }
    }

    fn take_events(&mut self, core: &mut Core) -> bool {
        let happened = !self.events.is_empty();
        for event in std::mem::take(&mut self.events) {
            match event {
                H2Event::Request(id) => {
                    self.asked = true;
                    let memory = Rc::new(RefCell::new(Memory::default()));
                    core.births.push(Birth {
                        listener: Arc::clone(&self.listener),
                        peer: self.peer,
                        parent: self.key,
                        memory: Rc::clone(&memory),
                    });
                    self.requests.insert(id, Request { memory, over: false });
                }
                H2Event::Readable(_) | H2Event::Writable(_) => {}
                H2Event::Reset(id) => {
                    if let Some(request) = self.requests.remove(&id) {
                        request.abandon(core);
                    }
                }
            }
        }
        happened
    }

    /// Carries between the connection and the sessions of its requests; did something move?
    fn exchange(&mut self, core: &mut Core) -> bool {
        let mut moved = false;
        for (&id, request) in &mut self.requests {
            let mut memory = request.memory.borrow_mut();
            let waiting = self.connection.request(id);
            let room = INBOX.saturating_sub(memory.inbox.len()).min(waiting.len());
            if room > 0 {
                memory.inbox.extend_from_slice(&waiting[..room]);
                self.connection.consume(id, room);
                moved = true;
                memory.wake(core);
            }
            if !memory.outbox.is_empty() {
                let accepted = self.connection.respond(id, &memory.outbox);
                if accepted > 0 {
                    memory.outbox.drain(..accepted);
                    moved = true;
                    memory.wake(core);
                }
            }
            if memory.outbox_ended && memory.outbox.is_empty() && !request.over {
                request.over = true;
                moved = true;
                if memory.broken {
                    self.connection.reset(id);
                } else {
                    self.connection.respond_end(id);
                }
            }
        }
        // A response that is complete: its session has nothing more to wait for.
        let connection = &self.connection;
        self.requests.retain(|&id, request| {
            let over = request.over || !connection.serves(id);
            if over {
                request.memory.borrow_mut().inbox_ended = true;
                request.memory.borrow().wake(core);
            }
            !over
        });
        moved
    }

    fn close(&mut self, core: &mut Core) {
        for request in std::mem::take(&mut self.requests).into_values() {
            request.abandon(core);
        }
        // Frames say themselves whether they are whole, so that this end promises nothing. There is room for it, mostly.
        let _ = core.streams[self.client].say_goodbye();
        core.close(self.client);
    }
}

impl Request {
    /// Nobody waits for its response any more.
    fn abandon(self, core: &mut Core) {
        let mut memory = self.memory.borrow_mut();
        memory.inbox_ended = true;
        memory.outbox.clear();
        memory.abandoned = true;
        memory.wake(core);
    }
}

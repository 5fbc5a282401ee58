//! One event loop: accepts, and carries its sessions' bytes, in one thread. A connection stays in the loop that accepted it.

mod accepting;
mod session;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::event::Event;
use mio::{Events, Poll, Registry};
use slab::Slab;
use socket2::Socket;
use tracing::error;

use accepting::Accepting;
pub(super) use session::Session;

use super::core::{Birth, Core};
use super::http_session::Http;
use super::listening::{self, Listening};
use super::orders::Order;
use super::plan::Plan;
use super::shared::Shared;
use super::stream::{Owner, Side, Stream};
use super::token::{self, Whose};
use super::wheel::{Entry, TICK, Tick, ticks};

/// Events that are taken in at a time.
const EVENTS: usize = 1024;
/// So many at a time are a crowd.
const CROWD: usize = 3;
/// How often those are let go on that had to let others have their turn, before events are looked for.
const ROUNDS: usize = 4;
/// Ticks between two looks at connections that wait.
const SWEEP: Tick = 10;
/// A session and its place on the wheel.
struct Place {
    serial: u64,
    /// When its entry on the wheel comes up.
    armed: Tick,
    /// `None` while it is at work.
    session: Option<Session>,
}

/// The loop.
pub(super) struct EventLoop {
    poll: Poll,
    pub(super) core: Core,
    pub(super) listeners: Slab<Listening>,
    sessions: Slab<Place>,
    serial: u64,
    orders: Receiver<Order>,
    pub(super) accepting: Accepting,
    stopped: bool,
    /// When connections to servers that wait were last looked at.
    swept: Tick,
    /// How long they may wait.
    reuse: Tick,
    /// Are some kept ready before they are wanted?
    pub(super) warms: bool,
}

impl EventLoop {
    /// A loop that takes `orders`; whoever gives one wakes it.
    pub(super) fn new(poll: Poll, registry: Registry, shared: Arc<Shared>, orders: Receiver<Order>) -> EventLoop {
        let core = Core::new(shared, registry);
        let (listeners, sessions) = (Slab::new(), Slab::new());
        EventLoop {
            poll,
            core,
            listeners,
            sessions,
            serial: 0,
            orders,
            accepting: Accepting::default(),
            stopped: false,
            swept: 0,
            reuse: 0,
            warms: false,
        }
    }

    /// Runs until told to stop, or until it is drained.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut due = Vec::new();
        while !self.stopped {
            let timeout = self.timeout();
            if let Err(e) = self.poll.poll(&mut events, timeout)
                && e.kind() != io::ErrorKind::Interrupted
            {
                error!("an event loop of the proxy ends: {e}");
                return;
            }
            self.core.now = Instant::now();
            self.core.tick = self.core.wheel.tick(self.core.now);
            self.core.crowded = events.iter().count() >= CROWD;
            for event in &events {
                self.handle(event);
            }
            self.go_on();
            // No event is left that could be about them, and those who come next may need their places.
            self.core.bury();
            self.let_on();
            self.accept_all();
            self.core.wheel.turn(self.core.now, &mut due);
            for (tick, entry) in due.drain(..) {
                self.look(tick, entry);
            }
            self.expire_idle();
            if let Some(recorder) = &mut self.core.recorder {
                recorder.flush();
            }
            self.core.bury();
            if self.core.draining && self.sessions.is_empty() {
                return;
            }
        }
        for key in 0..self.sessions.capacity() {
            if let Some(session) = self.sessions.get_mut(key).and_then(|place| place.session.take()) {
                session.cut(&mut self.core);
            }
        }
    }

    /// Lets those go on that only had to let others have their turn, and begins requests within connections, each a few
    /// times: what they lead to is dealt with at once, where it can be.
    fn go_on(&mut self) {
        for _ in 0..ROUNDS {
            for birth in std::mem::take(&mut self.core.births) {
                self.give_birth(birth);
            }
            if self.core.again.is_empty() {
                break;
            }
            let mut again = std::mem::take(&mut self.core.again);
            again.sort_unstable();
            again.dedup();
            for key in again {
                self.run_session(key, None);
            }
        }
    }

    /// Lets requests on that wait for a place at a server, as far as there are any.
    fn let_on(&mut self) {
        if !self.core.queue.is_due(self.core.now) {
            return;
        }
        let mut look = self.core.queue.look();
        while let Some((place, key)) = self.core.queue.next(&look) {
            let session = self.sessions.get_mut(key).and_then(|place| place.session.take());
            let Some((after, admission)) = session.map(|session| session.admit(&mut self.core)) else {
                // There is none without a session.
                self.core.queue.leave(place);
                continue;
            };
            self.put_back(key, after);
            look.note(place, admission);
        }
    }

    /// A place for a session whose client's stream is this one: its key, and the stream's.
    ///
    /// # Errors
    /// The stream's readiness cannot be told.
    fn seat(&mut self, stream: impl FnOnce(Owner) -> Stream) -> io::Result<(usize, usize)> {
        let place = self.sessions.vacant_entry();
        let key = place.key();
        let client = self.core.adopt(stream(Owner::Session(key, Side::Client)))?;
        self.serial += 1;
        place.insert(Place { serial: self.serial, armed: Tick::MAX, session: None });
        Ok((key, client))
    }

    fn give_birth(&mut self, birth: Birth) {
        let Birth { listener, peer, parent, memory } = birth;
        // It has no socket that could fail to be registered.
        let Ok((key, client)) = self.seat(|owner| Stream::of_memory(&memory, owner)) else { return };
        memory.borrow_mut().session = Some((key, client));
        let after = Http::begin(&mut self.core, key, listener, (client, peer), None, Some(parent));
        self.put_back(key, after);
    }

    /// Closes connections to servers that have waited too long.
    fn expire_idle(&mut self) {
        if self.core.tick < self.swept + SWEEP {
            return;
        }
        self.swept = self.core.tick;
        self.warm();
        let limit = self.core.tick.saturating_sub(self.reuse);
        let mut expired = Vec::new();
        self.core.pool.expire(limit, &mut expired);
        expired.into_iter().for_each(|idle| self.core.discard(idle));
        // Those that another loop's clients have no room beside.
        self.core.make_way_for_all();
    }

    fn timeout(&mut self) -> Option<Duration> {
        if !self.core.again.is_empty() || !self.core.births.is_empty() {
            return Some(Duration::ZERO);
        }
        let waiting = self.listeners.iter().any(|(_, listening)| listening.ready);
        let accept = match self.accepting.paused {
            Some(until) => Some(until.saturating_duration_since(self.core.now)),
            None => waiting.then_some(Duration::ZERO),
        };
        let wheel = self.core.wheel.until_next(self.core.now);
        let sweeps = !self.core.pool.is_empty() || (self.warms && !self.core.draining);
        let sweep = sweeps.then_some(TICK * SWEEP as u32);
        let queue = self.core.queue.until_due(self.core.now);
        accept.into_iter().chain(wheel).chain(sweep).chain(queue).min()
    }

    fn handle(&mut self, event: &Event) {
        let key = match token::whose(event.token()) {
            Whose::Stream(key) => key,
            Whose::Listener(key) => {
                if let Some(listening) = self.listeners.get_mut(key) {
                    listening.ready = true;
                }
                return;
            }
            Whose::Waker => {
                self.take_orders();
                return self.core.make_way_for_all();
            }
        };
        let Some(stream) = self.core.streams.get_mut(key) else { return };
        stream.note(event);
        match stream.owner {
            Owner::Session(session, side) => self.run_session(session, Some(side)),
            // Whoever speaks without being asked, or closes, is of no use any more; some servers speak first.
            Owner::Idle(server) if stream.readable && (!stream.fresh || stream.has_ended()) => {
                if let Some(idle) = self.core.pool.remove(server, key) {
                    self.core.discard(idle);
                }
            }
            Owner::Warming(listener, server) if stream.writable || stream.readable => {
                self.warmed(key, listener, server)
            }
            Owner::Idle(_) | Owner::Warming(..) | Owner::Gone => {}
        }
    }

    /// Lets a session do what it can.
    fn run_session(&mut self, key: usize, side: Option<Side>) {
        let Some(session) = self.sessions.get_mut(key).and_then(|place| place.session.take()) else { return };
        let after = session.ready(&mut self.core, key, side);
        self.put_back(key, after);
    }

    /// A session's place on the wheel has come up.
    fn look(&mut self, tick: Tick, entry: Entry) {
        let Some(place) = self.sessions.get_mut(entry.key) else { return };
        if place.serial != entry.serial || place.armed != tick {
            return;
        }
        place.armed = Tick::MAX;
        let Some(session) = place.session.take() else { return };
        let after = session.look(&mut self.core, entry.key);
        self.put_back(entry.key, after);
    }

    /// A session has done what it could: it gets its place back, unless it is over.
    fn put_back(&mut self, key: usize, after: Option<Session>) {
        let Some(session) = after else {
            self.sessions.remove(key);
            return;
        };
        let deadline = session.deadline(&self.core);
        let place = &mut self.sessions[key];
        if deadline < place.armed {
            place.armed = self.core.wheel.put(Entry { key, serial: place.serial }, deadline);
        }
        place.session = Some(session);
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Plan(plan, sockets) => self.adopt(&plan, sockets),
                Order::Record(recorder) => self.core.recorder = recorder,
                Order::Drain => self.drain(),
                Order::Stop => self.stopped = true,
            }
        }
    }

    /// Goes on with another snapshot: listeners that are in both keep their sockets.
    fn adopt(&mut self, plan: &Plan, sockets: Vec<(usize, Socket)>) {
        if let Some(settings) = plan.listeners.first().map(|listener| &listener.settings) {
            self.core.supplies.splice = settings.tcp.splice;
            self.reuse = ticks(settings.timeouts.reuse);
            self.core.most_pending = settings.limits.pending;
            self.warms = settings.limits.idlers > 0;
        }
        let serials: Vec<u64> = plan.listeners.iter().map(|listener| listener.serial).collect();
        let mut gone = Vec::new();
        self.core.pool.keep(&serials, &mut gone);
        gone.into_iter().for_each(|idle| self.core.discard(idle));
        for key in listening::renew(&mut self.listeners, plan) {
            self.close_listener(key);
        }
        listening::add(&mut self.listeners, plan, sockets, &self.core.registry, &self.core.shared);
    }

    fn drain(&mut self) {
        self.core.draining = true;
        let places: Vec<usize> = self.listeners.iter().map(|(key, _)| key).collect();
        for key in places {
            self.close_listener(key);
        }
        // Those that wait for the next request need not.
        let places: Vec<usize> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in places {
            self.run_session(key, None);
        }
    }
}

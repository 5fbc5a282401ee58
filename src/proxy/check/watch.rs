//! The thread's loop: asks those that are due, and tells what has changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::{Events, Poll, Token, Waker};
use parking_lot::Mutex;
use slab::Slab;

use super::ask::{Ask, Unasked, Verdict};
use super::echo::Echoes;
use super::{Board, Checked, Inbox, Standing};
use crate::config::proxy::Address;
use crate::health::{Change, Health, State, Streak, scatter};
use crate::probe::Check;

/// When something is lacking here, it is asked again after so long.
const RESPITE: Duration = Duration::from_millis(500);

const WAKER: Token = Token(0);

/// Everything that the thread has.
pub struct Watch {
    inbox: Arc<Mutex<Inbox>>,
    board: Arc<Board>,
    changes: Sender<(u32, Change)>,
    poll: Poll,
    echoes: Echoes,
    servers: Slab<Watched>,
    places: HashMap<u32, usize>,
    /// The places of echo requests' servers, by the requests' numbers.
    echoing: HashMap<u64, usize>,
    /// When each server is to be looked after next.
    schedule: BTreeSet<(Instant, usize)>,
    /// Where numbers come from that nobody guesses.
    key: u64,
    count: u64,
    /// Has it been told that something is lacking here?
    lacking: bool,
}

struct Watched {
    server: Checked,
    /// `None`: it is not checked.
    health: Option<Health>,
    ask: Option<Ask>,
    /// It is not asked before.
    not_before: Option<Instant>,
    /// Its entry in the schedule.
    due: Option<Instant>,
}

impl Watch {
    pub fn new(inbox: Arc<Mutex<Inbox>>, board: Arc<Board>, changes: Sender<(u32, Change)>) -> io::Result<Watch> {
        Ok(Watch {
            inbox,
            board,
            changes,
            poll: Poll::new()?,
            echoes: Echoes::default(),
            servers: Slab::new(),
            places: HashMap::new(),
            echoing: HashMap::new(),
            schedule: BTreeSet::new(),
            key: RandomState::new().hash_one(0u8),
            count: 0,
            lacking: false,
        })
    }

    /// What makes [`Watch::run`] look into its inbox.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Checks until it is told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let now = Instant::now();
            while let Some(&(due, place)) = self.schedule.first()
                && due <= now
            {
                self.attend(place, now);
            }
            let timeout = self.schedule.first().map(|(due, _)| due.saturating_duration_since(now));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!("servers are not checked any more: waiting for their answers fails: {error}");
                    return;
                }
                _ => {}
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    WAKER => {
                        let inbox = std::mem::take(&mut *self.inbox.lock());
                        if inbox.stop {
                            return;
                        }
                        if let Some(servers) = inbox.servers {
                            self.set(servers, now);
                        }
                        inbox.hurried.into_iter().for_each(|id| self.hurry(id, now));
                    }
                    Token(number) if number % 2 == 1 => {
                        for number in self.echoes.receive(number / 2) {
                            if let Some(&place) = self.echoing.get(&number) {
                                self.ended(place, Ok(()), now);
                            }
                        }
                    }
                    Token(number) => {
                        let place = number / 2 - 1;
                        let verdict = self.servers.get_mut(place).and_then(|it| it.ask.as_mut()).and_then(Ask::ready);
                        if let Some(verdict) = verdict {
                            self.ended(place, verdict, now);
                        }
                    }
                }
            }
        }
    }

    /// From now on these are checked.
    pub fn set(&mut self, servers: Vec<Checked>, now: Instant) {
        let wanted: HashSet<u32> = servers.iter().map(|server| server.id).collect();
        let gone: Vec<u32> = self.places.keys().copied().filter(|id| !wanted.contains(id)).collect();
        for id in gone {
            self.remove(id);
        }
        for server in servers {
            if let (Check::Icmp, Address::Ip(address)) = (&server.check, &server.at) {
                self.echoes.open(address.ip(), server.source, self.poll.registry(), |n| Token(n * 2 + 1));
            }
            match self.places.get(&server.id) {
                Some(&place) => self.change(place, server, now),
                None => self.add(server, now),
            }
        }
    }

    fn add(&mut self, server: Checked, now: Instant) {
        let id = server.id;
        let health = server.check.probes().then(|| Health::new(server.policy, scatter(self.key ^ u64::from(id)), now));
        let place = self.servers.insert(Watched { server, health, ask: None, not_before: None, due: None });
        self.places.insert(id, place);
        self.show(place, now);
        self.reschedule(place);
    }

    fn change(&mut self, place: usize, server: Checked, now: Instant) {
        let watched = &mut self.servers[place];
        if watched.server == server {
            return;
        }
        let id = server.id;
        let was_down = watched.health.as_ref().is_some_and(|health| !health.is_usable());
        let other_question = (&watched.server.at, watched.server.source, &watched.server.check)
            != (&server.at, server.source, &server.check);
        let fresh = || Health::new(server.policy, scatter(self.key ^ u64::from(id)), now);
        match (&mut watched.health, server.check.probes()) {
            (health, false) => *health = None,
            (health @ None, true) => *health = Some(fresh()),
            (Some(health), true) => {
                health.set_policy(server.policy, now);
                if other_question {
                    health.abandon(now);
                }
            }
        }
        watched.server = server;
        let is_checked = watched.health.is_some();
        if other_question {
            self.give_up(place);
        }
        if was_down && !is_checked {
            self.tell(id, Change::Up);
        }
        self.show(place, now);
        self.reschedule(place);
    }

    fn remove(&mut self, id: u32) {
        if let Some(place) = self.places.remove(&id) {
            self.give_up(place);
            if let Some(due) = self.servers[place].due {
                self.schedule.remove(&(due, place));
            }
            self.servers.remove(place);
            self.board.lock().remove(&id);
        }
    }

    fn hurry(&mut self, id: u32, now: Instant) {
        if let Some(&place) = self.places.get(&id)
            && let Some(health) = &mut self.servers[place].health
        {
            health.hurry(now);
            self.reschedule(place);
        }
    }

    /// Does what is due for a server.
    fn attend(&mut self, place: usize, now: Instant) {
        let watched = &mut self.servers[place];
        if let Some(ask) = &mut watched.ask {
            match ask.due(&mut self.echoes, now) {
                Some(verdict) => self.ended(place, verdict, now),
                None => self.reschedule(place),
            }
            return;
        }
        watched.not_before = watched.not_before.filter(|&moment| now < moment);
        if watched.not_before.is_none()
            && let Some(health) = &mut watched.health
            && health.poll(now)
        {
            self.count += 1;
            let number = scatter(self.key.wrapping_add(self.count));
            let (registry, token) = (self.poll.registry(), Token((place + 1) * 2));
            match Ask::start(&watched.server, health.timeout(), number, registry, token, now) {
                Ok(ask) => {
                    if let Some(number) = ask.echo() {
                        self.echoing.insert(number, place);
                    }
                    watched.ask = Some(ask);
                    self.lacking = false;
                }
                Err(Unasked::Failed(reason)) => return self.ended(place, Err(reason), now),
                Err(Unasked::Ours(error)) => {
                    health.abandon(now);
                    watched.not_before = Some(now + RESPITE);
                    if !std::mem::replace(&mut self.lacking, true) {
                        tracing::warn!(
                            "servers cannot be checked at the moment, what was known of them stays: {error}"
                        );
                    }
                }
            }
        }
        self.reschedule(place);
    }

    /// A question has been answered, or has not.
    fn ended(&mut self, place: usize, verdict: Verdict, now: Instant) {
        self.give_up(place);
        let watched = &mut self.servers[place];
        let change = watched.health.as_mut().and_then(|health| health.outcome(verdict, now));
        let id = watched.server.id;
        self.show(place, now);
        if let Some(change) = change {
            self.tell(id, change);
        }
        self.reschedule(place);
    }

    /// Drops the question that is being asked.
    fn give_up(&mut self, place: usize) {
        if let Some(number) = self.servers[place].ask.take().and_then(|ask| ask.echo()) {
            self.echoing.remove(&number);
        }
    }

    fn tell(&self, id: u32, change: Change) {
        // Nobody listens any more when the proxy ends.
        let _ = self.changes.send((id, change));
    }

    /// Writes on the board how a server stands.
    fn show(&self, place: usize, now: Instant) {
        let watched = &self.servers[place];
        let standing = match &watched.health {
            Some(health) => Standing {
                state: health.state(),
                since: health.since(),
                streak: health.streak(),
                reason: health.reason().cloned(),
            },
            None => Standing { state: State::Up, since: now, streak: Streak::None, reason: None },
        };
        self.board.lock().insert(watched.server.id, standing);
    }

    /// Enters when a server is to be looked after next.
    fn reschedule(&mut self, place: usize) {
        let watched = &mut self.servers[place];
        if let Some(due) = watched.due.take() {
            self.schedule.remove(&(due, place));
        }
        watched.due = match (&watched.ask, &watched.health) {
            (Some(ask), _) => Some(ask.deadline()),
            (None, Some(health)) => health.deadline().map(|due| watched.not_before.map_or(due, |at| due.max(at))),
            (None, None) => None,
        };
        if let Some(due) = watched.due {
            self.schedule.insert((due, place));
        }
    }
}

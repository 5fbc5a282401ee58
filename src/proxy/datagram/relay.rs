//! Datagrams both ways: from a listener's socket to servers, and from servers back.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use slab::Slab;

use super::client::{Client, Core, Key};
use super::listen::is_wildcard;
use super::recent::Recent;
use super::tally::Reason;
use crate::os::{DATAGRAM_ROOM, Datagrams, MOST_DATAGRAMS};
use crate::proxy::access::{self, End, Recorder};
use crate::proxy::listening::Listening;
use crate::proxy::select::Why;
use crate::proxy::shared::Admitted;

/// Datagrams that are read from a server's socket at a time, so that many of them share a call on the way to the clients.
const FROM_SERVER: usize = 8;
/// How often one socket is read before others get their turn.
const ROUNDS: usize = 4;
/// A client that has been answered and silent for so long may be forgotten before its time, for another.
const SPARE: Duration = Duration::from_secs(1);
/// How long clients are waited for that have been silent, once nothing is taken from them any more.
const DRAIN: Duration = Duration::from_secs(2);

/// The clients of a loop, and what is on its way to them.
pub(super) struct Relay {
    pub(super) core: Core,
    pub(super) clients: Recent<Key, Client>,
    /// Those whose sockets have more to read.
    pub(super) again: Vec<usize>,
    pub(super) draining: bool,
    /// Where lines of the access log go.
    pub(super) recorder: Option<Recorder>,
    answers: Datagrams,
    /// By which socket each of them leaves.
    leaving: Vec<usize>,
}

impl Relay {
    pub(super) fn new(core: Core, recorder: Option<Recorder>) -> Relay {
        Relay {
            core,
            clients: Recent::new(),
            again: Vec::new(),
            draining: false,
            recorder,
            answers: Datagrams::new(MOST_DATAGRAMS, DATAGRAM_ROOM),
            leaving: Vec::with_capacity(MOST_DATAGRAMS),
        }
    }

    /// Sends the first `count` of `batch`, which came by `listening`, to their clients' servers.
    pub(super) fn deliver(&mut self, key: usize, listening: &Listening, batch: &Datagrams, count: usize) {
        // Only where it may have come to any address is it told to which.
        let told = is_wildcard(&listening.listener);
        let sender = |place: usize| match batch.peer(place) {
            // A datagram from port 0 cannot be answered (RFC 768), one that was cut means something else.
            Some(address) if address.port() != 0 && !batch.is_cut(place) => {
                Some(Key { listening: key, address, local: if told { batch.local(place) } else { None } })
            }
            _ => None,
        };
        let mut first = 0;
        while first < count {
            let client = sender(first);
            // One after the other from the same client go in one call.
            let end = (first + 1..count).find(|&place| sender(place) != client).unwrap_or(count);
            match client {
                Some(client) => self.pass_on(client, listening, batch, first..end),
                None => self.drop(Reason::Malformed, end - first),
            }
            first = end;
        }
    }

    fn pass_on(&mut self, key: Key, listening: &Listening, batch: &Datagrams, places: Range<usize>) {
        let place = match self.clients.find(&key) {
            Some(place) => {
                self.clients.touch(place, self.core.now);
                if let Err(reason) = self.leave_if_down(place, listening) {
                    return self.drop(reason, places.len());
                }
                place
            }
            None => match self.begin(key, listening) {
                Ok(place) => place,
                Err(reason) => return self.drop(reason, places.len()),
            },
        };
        if let Err((reason, count)) = self.send(place, listening, batch, places) {
            self.drop(reason, count);
        }
    }

    /// A new client; where there is no room, in the place of another one.
    fn begin(&mut self, key: Key, listening: &Listening) -> Result<usize, Reason> {
        match self.try_to_begin(key, listening) {
            Err(Reason::Limit | Reason::Short) if self.forget_one() => self.try_to_begin(key, listening),
            begun => begun,
        }
    }

    fn try_to_begin(&mut self, key: Key, listening: &Listening) -> Result<usize, Reason> {
        let most = listening.listener.settings.limits.udp_clients;
        let admitted = Admitted::new(&self.core.shared.datagrams.clients, most).ok_or(Reason::Limit)?;
        let place = self.clients.next_place();
        let client = Client::begin(&self.core, &listening.listener, key, place, admitted)?;
        self.core.shared.datagrams.begun.fetch_add(1, Relaxed);
        Ok(self.clients.insert(key, client, self.core.now))
    }

    /// Makes room by forgetting the client that has been silent for longest, if it has got what it wanted.
    fn forget_one(&mut self) -> bool {
        let Some((place, since)) = self.clients.oldest() else { return false };
        let is_spare = self.clients.get(place).is_some_and(Client::is_answered);
        if !is_spare || self.core.now.saturating_duration_since(since) < SPARE {
            return false;
        }
        self.core.shared.datagrams.evicted.fetch_add(1, Relaxed);
        self.end(place, End::Limit);
        true
    }

    /// A server that its checks say is down is left, if there is another.
    fn leave_if_down(&mut self, place: usize, listening: &Listening) -> Result<(), Reason> {
        let Some(client) = self.clients.get_mut(place) else { return Ok(()) };
        if client.link.target.server.is_healthy() {
            return Ok(());
        }
        client.forget_tried();
        match client.change_server(&self.core, &listening.listener, place) {
            // It has lost its socket, and begins anew.
            Err(reason) if listening.listener.config.transparent => {
                self.end(place, end_of(reason));
                Err(reason)
            }
            _ => Ok(()),
        }
    }

    /// Sends to the server of the client at `place`; if that one does not want it, to another one. The error says how many
    /// could not be sent, and why.
    fn send(
        &mut self,
        place: usize,
        listening: &Listening,
        batch: &Datagrams,
        mut places: Range<usize>,
    ) -> Result<(), (Reason, usize)> {
        let mut told = false;
        let mut lost = 0;
        while !places.is_empty() {
            let Some(client) = self.clients.get_mut(place) else { return Err((Reason::NoServer, places.len())) };
            match batch.send(&client.link.socket, places.clone(), false) {
                Ok(sent) => {
                    let gone = places.start..places.start + sent.max(1);
                    let bytes = gone.clone().map(|place| batch.bytes(place).len() as u64).sum();
                    client.sent(&self.core, sent as u64, bytes, batch.bytes(gone.end - 1));
                    let tally = &self.core.shared.datagrams;
                    tally.to_servers.fetch_add(sent as u64, Relaxed);
                    tally.bytes_to_servers.fetch_add(bytes, Relaxed);
                    places.start = gone.end;
                    told = false;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err((Reason::Unsent, lost + places.len())),
                Err(e) if is_refusal(&e) => {
                    client.server_failed(&self.core, &listening.listener, &e);
                    if let Err(reason) = client.change_server(&self.core, &listening.listener, place) {
                        self.end(place, end_of(reason));
                        return Err((reason, lost + places.len()));
                    }
                }
                // Of an earlier one, perhaps: once more.
                Err(_) if !told => told = true,
                Err(_) => {
                    told = false;
                    lost += 1;
                    places.start += 1;
                }
            }
        }
        if lost > 0 { Err((Reason::Unsent, lost)) } else { Ok(()) }
    }

    /// Reads what the server of the client at `place` has sent.
    pub(super) fn read_server(&mut self, place: usize, listeners: &Slab<Listening>) {
        for _ in 0..ROUNDS {
            let first = self.leaving.len();
            let room = (self.answers.places() - first).min(FROM_SERVER);
            if room == 0 {
                self.flush(listeners);
                continue;
            }
            let Some(client) = self.clients.get_mut(place) else { return };
            match self.answers.receive(&client.link.socket, first, room) {
                Ok(count) => {
                    let bytes = (first..first + count).map(|place| self.answers.bytes(place).len() as u64).sum();
                    client.answered(count as u64, bytes);
                    for answer in first..first + count {
                        self.answers.address(answer, client.key.address, client.key.local);
                        self.leaving.push(client.key.listening);
                    }
                    self.clients.touch(place, self.core.now);
                    if count < room {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if is_refusal(&e) => return self.refused(place, listeners, &e),
                // Of a datagram that has been lost.
                Err(_) => {}
            }
        }
        self.again.push(place);
    }

    /// The server has refused what was sent to it last.
    fn refused(&mut self, place: usize, listeners: &Slab<Listening>, error: &io::Error) {
        let Some(client) = self.clients.get_mut(place) else { return };
        let Some(listening) = listeners.get(client.key.listening) else { return self.end(place, End::Stopped) };
        client.server_failed(&self.core, &listening.listener, error);
        let Some(refused) = client.refused(self.core.now).map(<[u8]>::to_vec) else {
            // Nothing is lost: whatever comes next from the client finds another server.
            return self.end(place, End::ServerReset);
        };
        match client.change_server(&self.core, &listening.listener, place) {
            Ok(()) => match client.link.socket.send(&refused) {
                Ok(_) => {
                    client.sent(&self.core, 1, refused.len() as u64, &refused);
                }
                Err(_) => self.drop(Reason::Unsent, 1),
            },
            Err(reason) => {
                self.drop(reason, 1);
                self.end(place, end_of(reason));
            }
        }
    }

    /// Sends all answers that have been read.
    pub(super) fn flush(&mut self, listeners: &Slab<Listening>) {
        let mut first = 0;
        while let Some(&key) = self.leaving.get(first) {
            let end =
                self.leaving[first..].iter().position(|&other| other != key).map_or(self.leaving.len(), |n| first + n);
            match listeners.get(key) {
                Some(listening) => self.to_clients(listening, first..end),
                None => self.drop(Reason::Undelivered, end - first),
            }
            first = end;
        }
        self.leaving.clear();
    }

    fn to_clients(&self, listening: &Listening, mut places: Range<usize>) {
        let tally = &self.core.shared.datagrams;
        let mut told = false;
        while !places.is_empty() {
            match self.answers.send(&listening.socket, places.clone(), true) {
                Ok(sent) => {
                    let gone = places.start..places.start + sent.max(1);
                    let bytes = gone.clone().map(|place| self.answers.bytes(place).len() as u64).sum();
                    tally.to_clients.fetch_add(sent as u64, Relaxed);
                    tally.bytes_to_clients.fetch_add(bytes, Relaxed);
                    places.start = gone.end;
                    told = false;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.drop(Reason::Undelivered, places.len()),
                Err(_) if !told => told = true,
                Err(_) => {
                    told = false;
                    self.drop(Reason::Undelivered, 1);
                    places.start += 1;
                }
            }
        }
    }

    /// Forgets clients that have been silent for too long.
    pub(super) fn expire(&mut self, idle: Duration) {
        while let Some(end) = self.next_end(idle)
            && end <= self.core.now
        {
            let Some((place, _)) = self.clients.oldest() else { return };
            self.end(place, End::Idle);
        }
    }

    /// When the next client may be forgotten, after so long; zero: never.
    pub(super) fn next_end(&self, idle: Duration) -> Option<Instant> {
        let idle = match (self.draining, idle.is_zero()) {
            (true, true) => DRAIN,
            (true, false) => idle.min(DRAIN),
            (false, true) => return None,
            (false, false) => idle,
        };
        self.clients.oldest().map(|(_, since)| since + idle)
    }

    /// Ends all clients for which `over` holds.
    pub(super) fn end_those(&mut self, over: impl Fn(&Client) -> bool) {
        for place in self.clients.places() {
            if self.clients.get(place).is_some_and(&over) {
                self.end(place, End::Stopped);
            }
        }
    }

    /// The servers' numbers have changed.
    pub(super) fn forget_tried(&mut self) {
        for place in self.clients.places() {
            if let Some(client) = self.clients.get_mut(place) {
                client.forget_tried();
            }
        }
    }

    fn end(&mut self, place: usize, why: End) {
        // Its socket leaves the poll with its descriptor.
        let Some(client) = self.clients.remove(place) else { return };
        let Some(recorder) = &mut self.recorder else { return };
        let target = &client.link.target;
        recorder.record(&access::Entry {
            client: Some(client.key.address),
            listener: &client.listener.name,
            server: Some(access::Server { name: &target.server.name, address: target.address.as_socket() }),
            start: SystemTime::now() - client.began.elapsed(),
            connect: Some(Duration::ZERO),
            total: client.began.elapsed(),
            received: client.from.1,
            sent: client.to.1,
            end: why,
            about: access::About::Stream(&[]),
        });
    }

    fn drop(&self, reason: Reason, count: usize) {
        self.core.shared.datagrams.drop(reason, count);
    }
}

/// How a client ends for whom there is no other server.
fn end_of(reason: Reason) -> End {
    match reason {
        Reason::Short => End::System,
        _ => End::Refused(Why::Failed),
    }
}

/// Has the server, or the way to it, refused?
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN)
    )
}

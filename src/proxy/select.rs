//! Which server a client is sent to. Pure: no socket, no clock; shared by all event loops.
//!
//! # The rules
//!
//! Pen's, pen(1) and penctl(1), where those say something; what they leave open is decided here.
//!
//! 1. A client that the listener's access list keeps out goes to the *abuse* server (`-B`), or is refused.
//! 2. The *first choice*. A client that is in the table of clients, and whose time there is not over, goes where it was,
//!    if that server still exists (not with `-r`). Any other goes where the [`Method`] says.
//! 3. The first choice *serves* it if it is usable, its own access list lets the client in, it was not tried for this
//!    connection, and it has room: for a client that was there before up to the hard limit; for a new one up to the soft
//!    limit, and never beyond the hard one. What is between them is kept for those that return. 0 is no limit.
//!    A server of weight 0 serves those alone that were there before.
//! 4. If it does not serve it: with *stubborn* (`-s`) the client is refused. Else it is a new client for all servers,
//!    and one is searched by the same method among those that serve it.
//! 5. Nobody serves it: the *emergency* server (`-e`), or it is refused. With stubborn the emergency server is for clients
//!    for whom there is no server at all (down, kept out by its list, or of weight 0); where there is one that merely is
//!    full or does not answer, stubborn refuses.
//!
//! | method | first choice | and if that does not serve |
//! |---|---|---|
//! | round robin | the next after the one that was chosen last | the next that does |
//! | hash | the client's hash modulo the number of servers, those that are down included | the next in the list that does, so that it is the same every time |
//! | weight | least connections divided by the weight | the least of those that do |
//! | prio | the smallest priority number | the smallest of those that do |
//! | consistent | who holds the client's slot in the table that Direct Server Return has | who holds the slot of the hash's hash, and so on |
//! | least connections | least connections | the least of those that do |
//! | power of two | the one with less for its weight, of two that are drawn | the same among those that do |
//!
//! The methods that search rather than compute (all but hash and consistent) look only at servers that are usable, let
//! the client in and have a weight: those alone can be a first choice. Ties go to the next after the one that was chosen
//! last. A client without an address (Unix socket) is never known, and hashes have nothing to go by: round robin.
//!
//! # What Pen 0.34.1 does otherwise
//!
//! As seen by running it:
//!
//! - A hard limit of 0 beside a soft one holds known clients to the soft limit, too; here 0 is no limit.
//! - A client that the access list keeps out, without an abuse server, gets the emergency server; here it is refused.
//! - A weight of 0 takes no new clients with `-W` alone; here with every method, as for Direct Server Return.
//! - Of equal priority numbers the first in the list is always taken; here they take turns.
//! - With a hash, clients of a server that refuses connections are closed; here the next server has them.

mod clients;
mod method;
mod tried;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::config::proxy::{Method, Selection};
use crate::lb::maglev::{self, Member};
use crate::lb::{ClientHash, Seed};

pub use clients::{Clients, Recent};
use method::Ring;
pub use tried::Tried;

/// Who wants to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; `None`: it came over a Unix socket. An IPv4 address within IPv6 counts as the IPv4 address.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// A server, as it stands for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// May connections be made to it? Not if it is down, blacklisted, in maintenance, or draining: as for Direct Server
    /// Return, what is drained gets no new connection from anybody, or it would never be empty. To keep it for the clients
    /// that it has, give it the weight 0.
    pub usable: bool,
    /// It serves only clients that were there before, as with weight 0.
    pub known_only: bool,
    /// Connections that it has.
    pub connections: u32,
    /// So many before new clients go elsewhere; 0: no limit.
    pub soft: u32,
    /// So many before nobody is sent there; 0: no limit.
    pub hard: u32,
    /// Its share; 0: no new clients.
    pub weight: u32,
    /// The smallest is used first, with [`Method::Prio`].
    pub prio: u32,
    /// Does its access list let this client in?
    pub permits: bool,
}

impl View {
    /// May it be the first choice for a new client?
    fn is_candidate(&self) -> bool {
        self.usable && self.permits && self.weight > 0 && !self.known_only
    }

    fn has_room_for_new(&self) -> bool {
        below(self.connections, self.soft) && below(self.connections, self.hard)
    }

    fn serves_new(&self) -> bool {
        self.is_candidate() && self.has_room_for_new()
    }

    fn serves_known(&self) -> bool {
        self.usable && self.permits && below(self.connections, self.hard)
    }
}

fn below(connections: u32, limit: u32) -> bool {
    limit == 0 || connections < limit
}

/// The servers among which is chosen, by their place in a list.
pub trait Servers {
    /// How many there are.
    fn len(&self) -> usize;

    /// Is there none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How server number `index` stands for `client`.
    fn view(&self, index: usize, client: &Client) -> View;

    /// What the server is remembered by; it stays when the list changes.
    fn id(&self, index: usize) -> u32;

    /// The place of the server `id` in the list.
    fn find(&self, id: u32) -> Option<usize> {
        (0..self.len()).find(|&index| self.id(index) == id)
    }

    /// What the server is in the hash of [`Method::Consistent`]: its configured name, as for Direct Server Return.
    fn identity(&self, index: usize) -> &str;

    /// The percentage of its slots that it takes ([`Member::share`]); for [`Method::Consistent`].
    fn share(&self, index: usize) -> u8 {
        if self.view(index, &Client { address: None, port: 0 }).usable { 100 } else { 0 }
    }

    /// Is there an emergency server, and may connections be made to it?
    fn emergency(&self) -> bool {
        false
    }

    /// Is there an abuse server, and may connections be made to it?
    fn abuse(&self) -> bool {
        false
    }
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// It is sent to this server.
    Server(usize),
    /// It is sent to the emergency server.
    Emergency,
    /// It is sent to the abuse server.
    Abuse,
    /// Its connection is closed.
    Refuse(Why),
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The listener's access list keeps it out.
    Denied,
    /// Its first choice does not serve it, and selection is stubborn.
    Stubborn,
    /// Every server that might have served it was tried.
    Failed,
    /// Every server that might serve it has as many connections as it may have.
    Full,
    /// The servers' access lists keep it out.
    Forbidden,
    /// No server is usable and takes new clients.
    Down,
}

impl Why {
    /// A short name for machines: it stays when texts change.
    pub fn name(self) -> &'static str {
        match self {
            Why::Denied => "denied",
            Why::Stubborn => "stubborn",
            Why::Failed => "failed",
            Why::Full => "full",
            Why::Forbidden => "forbidden",
            Why::Down => "down",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Denied => "the access list keeps the client out",
            Why::Stubborn => "the client's server cannot serve it, and selection is stubborn",
            Why::Failed => "no server that was tried could be connected to",
            Why::Full => "all servers have as many connections as they may have",
            Why::Forbidden => "the servers' access lists keep the client out",
            Why::Down => "no server is in service",
        })
    }
}

/// Finds a server for each client. One for all event loops of a listener; methods take `&self` and wait for nobody
/// longer than a look-up takes.
#[derive(Debug)]
pub struct Selector {
    selection: Selection,
    hash: ClientHash,
    table_size: u32,
    clients: Arc<Clients>,
    /// Who was chosen last; `usize::MAX`: nobody yet.
    last: AtomicUsize,
    /// How often was drawn.
    draws: AtomicU64,
    ring: RwLock<Ring>,
}

impl Selector {
    /// A selector that knows nobody. `seed` and `table_size` are those of Direct Server Return
    /// ([`Balance`](crate::config::Balance)), so that both agree; a size that is none becomes the usual one. With
    /// [`Method::Consistent`] it has to be told of the servers by [`Selector::rebuild`].
    pub fn new(selection: Selection, seed: Seed, table_size: u32) -> Selector {
        Selector {
            selection,
            hash: ClientHash::new(seed, selection.hash_port),
            table_size: maglev::check_size(table_size).unwrap_or(maglev::DEFAULT_SIZE),
            clients: Arc::new(Clients::new(selection.clients)),
            last: AtomicUsize::new(usize::MAX),
            draws: AtomicU64::new(0),
            ring: RwLock::default(),
        }
    }

    /// Goes on where `previous`, the selector before a reload, is: with its clients, as many as there is room for. Loops
    /// that still use it go on writing into the same table, unless that has another size now.
    pub fn adopt(&mut self, previous: &Selector) {
        if previous.clients.capacity() == self.clients.capacity() {
            self.clients = Arc::clone(&previous.clients);
        } else {
            self.clients.take_over(&previous.clients);
        }
        self.last = AtomicUsize::new(previous.last.load(Ordering::Relaxed));
        self.draws = AtomicU64::new(previous.draws.load(Ordering::Relaxed));
    }

    /// How it was asked to choose.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// To be called when servers come or go, or their shares or weights change: makes the slot table for
    /// [`Method::Consistent`] (milliseconds), while choices go on by the one before. Otherwise it does nothing, nor if
    /// nothing has changed.
    pub fn rebuild(&self, servers: &(impl Servers + ?Sized)) {
        if self.selection.method != Method::Consistent {
            return;
        }
        let nobody = Client { address: None, port: 0 };
        let member = |index| {
            let view = servers.view(index, &nobody);
            let weight = if view.known_only { 0 } else { view.weight };
            Member { share: servers.share(index), ..Member::up(servers.identity(index), weight) }
        };
        let members: Vec<Member> = (0..servers.len()).map(member).collect();
        if self.ring.read().is_of(&members) {
            return;
        }
        let ring = Ring::build(members, self.hash.seed(), self.table_size);
        *self.ring.write() = ring;
    }

    /// Where `client` goes. `denied`: the listener's access list keeps it out. `tried`: who has failed for this
    /// connection; it is asked again after each. Limits are compared with what the views say: who needs them exact
    /// takes a place before a connection is made, and asks again if there was none any more.
    pub fn choose(
        &self,
        servers: &(impl Servers + ?Sized),
        client: &Client,
        denied: bool,
        tried: &Tried,
        now: Instant,
    ) -> Choice {
        self.choose_for(servers, client, denied, tried, now).0
    }

    /// The same, and whether it is a server that the client was at before, up to whose hard limit it may go.
    pub(super) fn choose_for(
        &self,
        servers: &(impl Servers + ?Sized),
        client: &Client,
        denied: bool,
        tried: &Tried,
        now: Instant,
    ) -> (Choice, bool) {
        if denied {
            let abuse = servers.abuse() && !tried.abuse();
            return (if abuse { Choice::Abuse } else { Choice::Refuse(Why::Denied) }, false);
        }
        if tried.emergency() {
            return (Choice::Refuse(Why::Failed), false);
        }
        let client = &Client { address: client.address.map(|address| address.to_canonical()), port: client.port };
        let known = self.known(servers, client, now);
        if let Some(index) = known
            && servers.view(index, client).serves_known()
            && !tried.contains(index)
            && (tried.is_empty() || !self.selection.stubborn)
        {
            return (Choice::Server(index), true);
        }
        let found = if !self.selection.stubborn {
            self.search(servers, client, |index, view| !tried.contains(index) && view.serves_new())
        } else if known.is_none() && tried.is_empty() {
            let first = self.first(servers, client);
            first.filter(|&index| servers.view(index, client).serves_new())
        } else {
            None
        };
        (found.map_or_else(|| self.nobody(servers, client, tried), Choice::Server), false)
    }

    /// `client` has been connected to server `id`: from now on that is where it was.
    pub fn served(&self, client: &Client, id: u32, now: Instant) {
        if let Some(address) = client.address {
            self.clients.note(address.to_canonical(), id, now);
        }
    }

    /// Clients that have connected within the last `within`, the latest first, at most `limit` of them.
    pub fn clients(&self, within: Duration, limit: usize, now: Instant) -> Vec<Recent> {
        self.clients.recent(within, limit, now)
    }

    /// How many clients the table holds.
    pub fn known_clients(&self) -> usize {
        self.clients.len()
    }

    /// Where `client` was.
    fn known(&self, servers: &(impl Servers + ?Sized), client: &Client, now: Instant) -> Option<usize> {
        if !self.selection.track {
            return None;
        }
        let id = self.clients.find(client.address?, self.selection.tracking, now)?;
        servers.find(id)
    }

    /// Nobody serves the client: what then?
    fn nobody(&self, servers: &(impl Servers + ?Sized), client: &Client, tried: &Tried) -> Choice {
        let views = || (0..servers.len()).map(|index| (index, servers.view(index, client)));
        let has_candidate = views().any(|(_, view)| view.is_candidate());
        if self.selection.stubborn && has_candidate {
            return Choice::Refuse(Why::Stubborn);
        }
        if servers.emergency() {
            return Choice::Emergency;
        }
        let untried = |(index, view): (usize, View)| !tried.contains(index) && view.is_candidate();
        let was_tried = |(index, view): (usize, View)| tried.contains(index) && view.permits;
        Choice::Refuse(if views().any(was_tried) && !views().any(untried) {
            Why::Failed
        } else if has_candidate {
            Why::Full
        } else if views().any(|(_, view)| View { permits: true, ..view }.is_candidate()) {
            Why::Forbidden
        } else {
            Why::Down
        })
    }
}

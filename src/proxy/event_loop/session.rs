//! The kinds of sessions, and what an event loop wants of each. There are four, so they are told apart here and not by
//! `dyn`: the loop calls them for every event.

use crate::proxy::core::Core;
use crate::proxy::greeting::Greeting;
use crate::proxy::h2_session::H2;
use crate::proxy::http_session::Http;
use crate::proxy::queue::Admission;
use crate::proxy::relay::{Fate, Relay};
use crate::proxy::stream::Side;
use crate::proxy::wheel::Tick;

/// A session of a kind. What it is asked may make it one of another kind: a greeting becomes one of the others, and a
/// request that asks for another protocol a relay.
pub(in crate::proxy) enum Session {
    Greeting(Box<Greeting>),
    Relay(Box<Relay>),
    Http(Box<Http>),
    H2(Box<H2>),
}

impl Session {
    /// Does what it can; `None`: it is over.
    pub(in crate::proxy) fn ready(self, core: &mut Core, key: usize, side: Option<Side>) -> Option<Session> {
        match self {
            Session::Http(http) => http.ready(core, side),
            Session::H2(h2) => h2.ready(core),
            Session::Greeting(greeting) => greeting.ready(core, key),
            Session::Relay(mut relay) => match relay.ready(core, side) {
                Fate::Lives => Some(Session::Relay(relay)),
                Fate::Over => None,
            },
        }
    }

    /// It may find a place at a server now, if it waits for one; `None` for a session that is over.
    pub(super) fn admit(self, core: &mut Core) -> (Option<Session>, Admission) {
        match self {
            Session::Http(http) => http.admit(core),
            other => (Some(other), Admission::Nothing),
        }
    }

    /// Its time on the wheel has come: does what is due, if anything is; `None`: it is over.
    pub(in crate::proxy) fn look(self, core: &mut Core, key: usize) -> Option<Session> {
        match self {
            Session::Http(http) => http.look(core),
            Session::H2(h2) => h2.look(core),
            Session::Greeting(greeting) => greeting.look(core, key),
            Session::Relay(mut relay) => match relay.look(core) {
                Fate::Lives => Some(Session::Relay(relay)),
                Fate::Over => None,
            },
        }
    }

    /// When it has to be looked at, whatever happens until then.
    pub(in crate::proxy) fn deadline(&self, core: &Core) -> Tick {
        match self {
            Session::Greeting(greeting) => greeting.deadline(core),
            Session::Relay(relay) => relay.deadline(core),
            Session::Http(http) => http.deadline(core),
            Session::H2(h2) => h2.deadline(core),
        }
    }

    /// It has to end, now.
    pub(super) fn cut(self, core: &mut Core) {
        match self {
            Session::Greeting(greeting) => greeting.cut(core),
            Session::Relay(mut relay) => relay.cut(core),
            Session::Http(http) => http.cut(core),
            Session::H2(h2) => h2.cut(core),
        }
    }
}

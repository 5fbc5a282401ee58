//! The balancer in a world of its own: a segment with clients, backends and one or two balancers, which are the real
//! engine and the real director. Time, network and fate depend on a seed, so that each run can be had again.
//!
//! | rule | what is checked after every step |
//! |---|---|
//! | a | an established flow whose backend lives, and is neither in maintenance nor removed, never moves; nor does one of UDP that is known |
//! | b | nothing goes to a backend later than its detection time after it died |
//! | c | the flow table's counters are what a count of its entries gives; what is held is bounded; in the end all is empty |
//! | d | every frame is counted once, and the counters of VIPs and backends are what left |
//! | e | what leaves goes to a configured backend or to who asked; a client's frame reaches one backend, once; who stands by does not speak of a VIP |
//! | f | the parts of a datagram reach one backend |
//! | g | a backend that lives is back in service in time; what opens a flow chooses by the current table, among those that are wanted; nothing goes to a backend in maintenance |
//! | h | no conversation breaks, or does not begin, without a reason |
//!
//! The exceptions of rule a: a balancer that has no memory of the flow (started without its flow file, or taken over)
//! may move it if the tables since it was opened, or those that the balancer still goes by, disagree about its client,
//! and neither the predecessor nor, without one, the current table says what the flow's backend is. And a SYN that comes
//! late, behind its connection's FIN or RST, opens another one. They are counted.

mod audit;
mod balancer;
mod client;
mod host;
mod network;
mod operator;
mod oracle;
mod packet;
mod plan;
mod random;
mod traffic;
mod world;

use std::fmt;
use std::time::Duration;

pub use plan::Kind;

/// What is wrong with the world on purpose, so that the rules are seen to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The engine is not told how clients chose before.
    NoPredecessor,
    /// The flow table is as small as can be, and there are more conversations than it has room for.
    SmallTable,
    /// Dead backends still answer ARP, so that the director does not hear of their death.
    Ghosts,
    /// A restart loses the flows that it should keep.
    LostMemory,
    /// Some frames leave twice.
    Twice,
    /// Some frames are not counted.
    Uncounted,
    /// Some later fragments go to another backend than the first.
    Scattered,
    /// Some frames go to a station that is no backend.
    Astray,
    /// One client's frames get lost for good.
    Swallowed,
    /// Backends that are dead for a moment are never asked for again.
    Grudge,
    /// Time does not pass for the flow table when all is over.
    Timeless,
}

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Time since the beginning.
    pub at: Duration,
    /// Its letter.
    pub rule: char,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}, at {:.6} s: {}", self.rule, self.at.as_secs_f64(), self.what)
    }
}

/// What happened in a world, or in many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Things that happened.
    pub events: u64,
    /// Clients' frames that reached a backend.
    pub forwarded: u64,
    /// Conversations,
    pub conversations: u64,
    /// those that ended as they should,
    pub well: u64,
    /// those that broke, for a reason,
    pub broken: u64,
    /// and those that never began, for a reason.
    pub unopened: u64,
    /// Flows of TCP that a balancer without memory of them moved,
    pub strayed: u64,
    /// those that it left where they were, as one table or its predecessor says so,
    pub recognized: u64,
    /// of these, those that only the predecessor knew.
    pub by_predecessor: u64,
    /// Times that a balancer was told of a conversation by the other.
    pub told: u64,
    /// SYNs that opened another connection behind the end of theirs.
    pub late_opens: u64,
    /// Segments of flows whose backend was out of service, which went to another.
    pub orphaned: u64,
    /// Restarts with and without memory, takeovers, changes of the configuration, deaths of backends.
    pub kept_restarts: u64,
    pub lost_restarts: u64,
    pub takeovers: u64,
    pub changes: u64,
    pub deaths: u64,
}

impl Tally {
    /// Adds another world's.
    pub fn add(&mut self, other: &Tally) {
        let Tally {
            events,
            forwarded,
            conversations,
            well,
            broken,
            unopened,
            strayed,
            recognized,
            by_predecessor,
            told,
            late_opens,
            orphaned,
            kept_restarts,
            lost_restarts,
            takeovers,
            changes,
            deaths,
        } = other;
        self.events += events;
        self.forwarded += forwarded;
        self.conversations += conversations;
        self.well += well;
        self.broken += broken;
        self.unopened += unopened;
        self.strayed += strayed;
        self.recognized += recognized;
        self.by_predecessor += by_predecessor;
        self.told += told;
        self.late_opens += late_opens;
        self.orphaned += orphaned;
        self.kept_restarts += kept_restarts;
        self.lost_restarts += lost_restarts;
        self.takeovers += takeovers;
        self.changes += changes;
        self.deaths += deaths;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} clients' frames forwarded; {} deaths of backends, {} changes of the configuration, {} restarts with and {} without memory, {} takeovers; {} conversations: {} well, {} broken and {} not begun for a reason; {} segments of orphans; exceptions: {} flows unknown after a restart or takeover moved ({} did not, {} of these by the predecessor alone; {} times one was told of a flow), {} late SYNs",
            self.events,
            self.forwarded,
            self.deaths,
            self.changes,
            self.kept_restarts,
            self.lost_restarts,
            self.takeovers,
            self.conversations,
            self.well,
            self.broken,
            self.unopened,
            self.orphaned,
            self.strayed,
            self.recognized,
            self.by_predecessor,
            self.told,
            self.late_opens
        )
    }
}

/// Lets the world of `seed` happen. With `log`, what happens is written down there.
///
/// # Errors
/// The first rule that did not hold.
pub fn run(seed: u64, kind: Kind, fault: Fault, log: Option<&mut Vec<String>>) -> Result<Tally, Violation> {
    let mut world = world::World::new(seed, kind, fault, log.is_some());
    let outcome = world.run();
    if let Some(log) = log {
        log.append(&mut world.log);
    }
    outcome.map(|()| world.tally)
}

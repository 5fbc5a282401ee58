//! The director: decides which backends serve, from what the neighbours say, and publishes the tables for the workers.
//!
//! Pure as the engine is: events and the time come in; tables, frames to send and notices for the log come out. There is
//! one director however many workers there are.

mod notice;
mod segment;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use notice::Notice;
pub use segment::Segment;

use crate::config::{BackendConfig, Balance};
use crate::engine::Event;
use crate::lb::maglev::Table;
use crate::lb::{Backend, Tables};
use crate::neighbor::{Change, Neighbor};
use crate::wire::ether::Mac;

/// Another host that claims a VIP is reported, and answered with an announcement, at most this often (RFC 5227
/// section 2.4: DEFEND_INTERVAL).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How long a probe for a VIP may be answered before it is announced.
const PROBE_WAIT: Duration = Duration::from_millis(200);
/// Announcements of a VIP, and the time between them (RFC 5227 section 2.3).
const ANNOUNCEMENTS: u32 = 3;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// A MAC that only announcements come from is announced again this often: switches forget a station that is silent for
/// 300 s (IEEE 802.1Q, table 8-6), and would send its frames to everybody.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// How a backend's MAC is known.
enum Link {
    /// By configuration.
    Fixed(Mac),
    /// Not at all: it is never in service.
    Nowhere,
    /// By asking for its address.
    Asked { address: IpAddr, neighbor: Neighbor },
}

impl Link {
    fn mac(&self) -> Option<Mac> {
        match self {
            Link::Fixed(mac) => Some(*mac),
            Link::Nowhere => None,
            Link::Asked { neighbor, .. } => neighbor.mac(),
        }
    }

    fn is_up(&self) -> bool {
        match self {
            Link::Fixed(_) => true,
            Link::Nowhere => false,
            Link::Asked { neighbor, .. } => !neighbor.is_gone(),
        }
    }
}

/// The director.
pub struct Director {
    balance: Arc<Balance>,
    segment: Segment,
    vips: Vec<IpAddr>,
    links: Vec<Link>,
    slots: Arc<Table>,
    up: Vec<bool>,
    tables: Arc<Tables>,
    unpublished: bool,
    announcements_left: u32,
    next_announcement: Instant,
    last_defence: Vec<Option<Instant>>,
    outbox: VecDeque<Vec<u8>>,
    notices: VecDeque<Notice>,
}

impl Director {
    /// A director for `balance` on `segment`. It has tables at once; frames to send and a deadline from the first
    /// [`Director::advance`] on.
    pub fn new(balance: Arc<Balance>, segment: Segment, now: Instant) -> Director {
        let link = |backend: &BackendConfig| match (backend.mac, backend.address) {
            (Some(mac), _) => Link::Fixed(mac),
            (None, Some(address)) => Link::Asked { address, neighbor: Neighbor::new(balance.neighbor, now) },
            // A name that was not looked up.
            (None, None) => Link::Nowhere,
        };
        let links: Vec<Link> = balance.backends.iter().map(link).collect();
        let up: Vec<bool> = links.iter().map(Link::is_up).collect();
        let slots = Arc::new(balance.slots(&up));
        let tables = Arc::new(tables(&balance, &links, &slots));
        let vips = balance.vip_addresses();
        let outbox = vips.iter().map(|&vip| segment.probe(vip)).collect();
        Director {
            last_defence: vec![None; vips.len()],
            balance,
            segment,
            vips,
            links,
            slots,
            up,
            tables,
            unpublished: true,
            announcements_left: ANNOUNCEMENTS,
            next_announcement: now + PROBE_WAIT,
            outbox,
            notices: VecDeque::new(),
        }
    }

    /// The tables as they stand.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The tables, if they have changed since the last call.
    pub fn poll_tables(&mut self) -> Option<Arc<Tables>> {
        std::mem::take(&mut self.unpublished).then(|| Arc::clone(&self.tables))
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// The next thing to tell the operator.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When [`Director::advance`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let asked = self.links.iter().filter_map(|link| match link {
            Link::Asked { neighbor, .. } => Some(neighbor.deadline()),
            Link::Fixed(_) | Link::Nowhere => None,
        });
        asked.chain((self.announcements_left > 0).then_some(self.next_announcement)).min()
    }

    /// Does what is due at `now`.
    pub fn advance(&mut self, now: Instant) {
        if self.announcements_left > 0 && now >= self.next_announcement {
            self.announcements_left -= 1;
            self.next_announcement = now + ANNOUNCE_INTERVAL;
            if self.announcements_left == 0 && self.segment.station.has_vip_mac() {
                self.announcements_left = 1;
                self.next_announcement = now + REMIND_INTERVAL;
            }
            self.outbox.extend(self.vips.iter().map(|&vip| self.segment.announcement(vip)));
        }
        let mut changed = false;
        for index in 0..self.links.len() {
            let Link::Asked { address, neighbor } = &mut self.links[index] else {
                continue;
            };
            let (question, change) = neighbor.poll(now);
            if let Some(question) = question {
                self.outbox.push_back(self.segment.question(*address, question));
            }
            if let Some(change) = change {
                changed = true;
                self.note(index, change);
            }
        }
        if changed {
            self.rebuild();
        }
    }

    /// Takes in what a worker has learnt.
    pub fn handle_event(&mut self, event: Event, now: Instant) {
        let (address, mac) = match event {
            Event::Answer { address, mac } | Event::Claim { address, mac } => (address, mac),
        };
        if let Some(vip) = self.vips.iter().position(|&vip| vip == address) {
            self.defend(vip, mac, now);
            return;
        }
        let mut changed = false;
        for index in 0..self.links.len() {
            let Link::Asked { address: asked, neighbor } = &mut self.links[index] else {
                continue;
            };
            if *asked != address {
                continue;
            }
            let change = match event {
                Event::Answer { .. } => neighbor.answer(mac, now),
                Event::Claim { .. } => {
                    neighbor.overhear(mac, now);
                    None
                }
            };
            if let Some(change) = change {
                changed |= !matches!(change, Change::Ambiguous { .. });
                self.note(index, change);
            }
        }
        if changed {
            self.rebuild();
        }
    }

    /// The link was away and is back: announces the VIPs again and asks for all backends.
    pub fn link_up(&mut self, now: Instant) {
        self.announcements_left = ANNOUNCEMENTS;
        self.next_announcement = now;
        for link in &mut self.links {
            if let Link::Asked { neighbor, .. } = link {
                neighbor.recheck(now);
            }
        }
    }

    /// The interface has other addresses to ask from than before.
    pub fn readdress(&mut self, ipv4: Vec<(Ipv4Addr, u8)>, link_local: Option<Ipv6Addr>) {
        self.segment.ipv4 = ipv4;
        self.segment.link_local = link_local;
    }

    /// Somebody else says that it has VIP number `vip`.
    fn defend(&mut self, vip: usize, mac: Mac, now: Instant) {
        if self.last_defence[vip].is_some_and(|last| now < last + DEFEND_INTERVAL) {
            return;
        }
        self.last_defence[vip] = Some(now);
        let address = self.vips[vip];
        let backend = self.links.iter().position(|link| link.mac() == Some(mac));
        let backend = backend.map(|index| self.balance.backends[index].name.clone());
        self.notices.push_back(Notice::VipClaimed { address, mac, backend });
        self.outbox.push_back(self.segment.announcement(address));
    }

    fn note(&mut self, index: usize, change: Change) {
        let backend = &self.balance.backends[index];
        let (name, address) = (backend.name.clone(), backend.address);
        self.notices.push_back(match change {
            Change::Found(mac) => Notice::BackendUp { name, mac },
            Change::Lost => Notice::BackendDown { name, address },
            Change::Moved { from, to } => Notice::BackendMoved { name, from, to },
            Change::Ambiguous { first, other } => Notice::BackendAmbiguous { name, first, other },
        });
    }

    fn rebuild(&mut self) {
        let up: Vec<bool> = self.links.iter().map(Link::is_up).collect();
        if up != self.up {
            self.slots = Arc::new(self.balance.slots(&up));
            let anybody =
                |up: &[bool]| up.iter().zip(&self.balance.backends).any(|(up, backend)| *up && backend.weight > 0);
            if anybody(&self.up) && !anybody(&up) {
                self.notices.push_back(Notice::NoBackend);
            }
            self.up = up;
        }
        self.tables = Arc::new(tables(&self.balance, &self.links, &self.slots));
        self.unpublished = true;
    }
}

fn tables(balance: &Balance, links: &[Link], slots: &Arc<Table>) -> Tables {
    let backends = balance
        .backends
        .iter()
        .zip(links)
        .map(|(backend, link)| Backend { mac: link.mac(), in_service: link.is_up() && backend.weight > 0 })
        .collect();
    balance.tables(backends, slots)
}

#[cfg(test)]
mod tests;

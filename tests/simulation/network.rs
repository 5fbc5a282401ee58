//! The segment: a switch that loses, duplicates and reorders frames, and the order of all that happens.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use pen_dsr::wire::ether::Mac;

use super::packet;
use super::random::Random;

/// The longest that a frame is on its way.
pub const SLOWEST: Duration = Duration::from_millis(60);

/// Who has a port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A host or router with clients behind it.
    Station(usize),
    /// A backend.
    Host(usize),
    Balancer(usize),
}

/// What a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// SYN.
    Open,
    /// Neither SYN, FIN nor RST.
    Segment,
    Finish,
    Reset,
    /// UDP.
    Datagram,
    /// An ICMP error about a packet of the conversation.
    Complaint,
}

/// A frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Whose.
    pub conversation: usize,
    pub part: Part,
    /// The datagram that it is a part of, and is it the first?
    pub fragment: Option<(u32, bool)>,
    /// Each copy that the network makes has its own.
    pub stamp: u64,
}

/// What a frame is, for those who look on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// ARP, ND, probes and their answers, and what else is said by nobody's client.
    Control,
    /// To a VIP.
    Client(Sent),
    /// From a backend to a client.
    Reply,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    Frame {
        to: Place,
        frame: Vec<u8>,
        about: About,
    },
    /// What one balancer tells the other of flows.
    Told {
        to: usize,
        datagram: Vec<u8>,
    },
    /// A client's timer; of use if it is still the `round`th.
    Timer {
        conversation: usize,
        round: u32,
    },
    /// A station asks for the VIPs again.
    Ask {
        station: usize,
    },
    /// A new conversation begins.
    Arrival,
    /// The operator, or fate, does something.
    Turn,
    /// What began ends.
    End(super::operator::Passing),
    /// Everything is counted.
    Audit,
}

struct Due {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// How bad the network is, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub loss: u32,
    pub duplication: u32,
    pub reordering: u32,
}

/// The switch and the calendar.
pub struct Network {
    queue: BinaryHeap<Reverse<Due>>,
    events: u64,
    random: Random,
    pub weather: Weather,
    stamps: u64,
    /// MACs by the place that they are at. One of both balancers is at both.
    pub macs: HashMap<Mac, Vec<Place>>,
    pub places: Vec<Place>,
    /// Control frames between two places that are delivered for sure, as one was lost.
    grace: HashMap<(Place, Place, bool), u32>,
}

impl Network {
    pub fn new(random: Random, weather: Weather) -> Network {
        Network {
            queue: BinaryHeap::new(),
            events: 0,
            random,
            weather,
            stamps: 0,
            macs: HashMap::new(),
            places: Vec::new(),
            grace: HashMap::new(),
        }
    }

    pub fn at(&mut self, at: Instant, event: Event) {
        self.queue.push(Reverse(Due { at, number: self.events, event }));
        self.events += 1;
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|due| due.0.at)
    }

    /// What happens next.
    pub fn pop(&mut self) -> Option<Event> {
        self.queue.pop().map(|due| due.0.event)
    }

    /// Sends `frame` from `from` to whoever has its destination.
    pub fn send(&mut self, from: Place, frame: &[u8], about: About, now: Instant) {
        let destination = packet::mac(frame);
        if destination.is_group() {
            for index in 0..self.places.len() {
                let to = self.places[index];
                if to != from {
                    self.carry(from, to, frame, about, now);
                }
            }
            return;
        }
        let receivers = self.macs.get(&destination).cloned().unwrap_or_default();
        // Flooded to both balancers, it is still one frame.
        let lost = self.loses(from, receivers.first().copied().unwrap_or(from), frame, about);
        let copies = 1 + usize::from(self.random.permille(self.weather.duplication));
        for _ in 0..if lost { 0 } else { copies } {
            let delay = self.delay();
            let about = self.stamped(about);
            for &to in receivers.iter().filter(|&&to| to != from) {
                self.at(now + delay, Event::Frame { to, frame: frame.to_vec(), about });
            }
        }
    }

    /// Sends what a balancer tells another, by another network that is no better.
    pub fn tell(&mut self, to: usize, datagram: Vec<u8>, now: Instant) {
        if !self.random.permille(self.weather.loss) {
            let delay = self.delay();
            self.at(now + delay, Event::Told { to, datagram });
        }
    }

    fn carry(&mut self, from: Place, to: Place, frame: &[u8], about: About, now: Instant) {
        if !self.loses(from, to, frame, about) {
            let delay = self.delay();
            self.at(now + delay, Event::Frame { to, frame: frame.to_vec(), about });
        }
    }

    fn stamped(&mut self, about: About) -> About {
        match about {
            About::Client(sent) => {
                self.stamps += 1;
                About::Client(Sent { stamp: self.stamps, ..sent })
            }
            other => other,
        }
    }

    fn delay(&mut self) -> Duration {
        let held_up = self.random.permille(self.weather.reordering);
        self.random.millis(0, 1) + if held_up { self.random.millis(1, 50) } else { Duration::ZERO }
    }

    /// Is the frame lost? A network that is bad, not mute: of what balancers and backends say to each other, no two
    /// questions in a row.
    fn loses(&mut self, from: Place, to: Place, frame: &[u8], about: About) -> bool {
        let lost = self.random.permille(self.weather.loss);
        if about != About::Control {
            return lost;
        }
        let (a, b) = if matches!(from, Place::Balancer(_)) { (from, to) } else { (to, from) };
        let is_packet = packet::destination(frame).is_some()
            && !matches!(
                packet::read(frame),
                Some(packet::Heard::Solicitation { .. } | packet::Heard::Advertisement { .. })
            );
        let grace = self.grace.entry((a, b, is_packet)).or_default();
        if *grace > 0 {
            *grace -= 1;
            return false;
        }
        if lost {
            *grace = if is_packet { 8 } else { 3 };
        }
        lost
    }
}

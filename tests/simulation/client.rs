//! Clients: conversations by TCP and UDP with a VIP, and the stations through which they reach it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pen_dsr::wire::ether::Mac;
use pen_dsr::wire::ip::protocol;

use super::network::Part;
use super::packet::{self, Heard, flags};
use super::random::Random;

/// Times that a packet is sent until the client gives up.
const TRIES: u32 = 14;
/// The last request of a client that listens behind its FIN.
pub const LISTENS: &[u8] = b"listens.";
const SHORTEST_WAIT: Duration = Duration::from_millis(300);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// A host or a router on the segment, with clients behind it.
pub struct Station {
    pub mac: Mac,
    /// Its own addresses, to ask from.
    pub v4: std::net::Ipv4Addr,
    pub v6: std::net::Ipv6Addr,
    /// Where it believes the VIPs to be.
    pub neighbors: HashMap<IpAddr, Mac>,
}

/// How a conversation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Well,
    /// It never began.
    Unopened,
    /// A RST in the middle of it.
    Reset,
    /// No answer to anything any more.
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    /// Something was said, and the answer is missing.
    Waiting,
    /// Nothing is to be said before the timer.
    Thinking,
    Closing,
    /// It has said all that it had to say, and listens on: a half-closed connection.
    Listening,
    Over(End),
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Requests until it ends.
    pub requests: u32,
    /// Between an answer and the next request, milliseconds.
    pub think: (u64, u64),
    /// It ends by a RST.
    pub aborts: bool,
    /// It goes on listening behind its FIN.
    pub listens: bool,
    /// UDP: the datagrams come in parts.
    pub fragments: bool,
}

/// What a client does next.
#[derive(Default)]
pub struct Act {
    /// Packets to the VIP.
    pub packets: Vec<(Vec<u8>, Part)>,
    /// When the timer is to go off.
    pub timer: Option<Duration>,
}

/// A conversation of a client with a VIP.
pub struct Conversation {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub protocol: u8,
    pub station: usize,
    pub manner: Manner,
    pub opened: Instant,
    state: State,
    tries: u32,
    wait: Duration,
    /// Counts up with each timer, so that old ones mean nothing.
    pub round: u32,
    sequence: u32,
    expected: u32,
    /// The backend that the connection was made with.
    pub owner: Option<usize>,
    pub ended: Option<Instant>,
}

impl Conversation {
    pub fn new(
        client: SocketAddr,
        vip: SocketAddr,
        number: u8,
        station: usize,
        manner: Manner,
        isn: u32,
        now: Instant,
    ) -> Conversation {
        Conversation {
            client,
            vip,
            protocol: number,
            station,
            manner,
            opened: now,
            state: State::Opening,
            tries: 0,
            wait: SHORTEST_WAIT,
            round: 0,
            sequence: isn,
            expected: 0,
            owner: None,
            ended: None,
        }
    }

    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Over(end) => Some(end),
            _ => None,
        }
    }

    /// A connection that both sides know of?
    pub fn is_established(&self) -> bool {
        self.owner.is_some()
    }

    fn is_tcp(&self) -> bool {
        self.protocol == protocol::TCP
    }

    fn tcp(&self, set: u8, payload: &[u8]) -> Vec<u8> {
        packet::tcp(self.client, self.vip, self.sequence, self.expected, set, payload)
    }

    fn finish(&mut self, end: End, now: Instant) {
        self.state = State::Over(end);
        self.ended = Some(now);
    }

    /// The timer went off.
    pub fn wake(&mut self, random: &mut Random, now: Instant) -> Act {
        match self.state {
            State::Over(_) => return Act::default(),
            State::Thinking if self.manner.requests == 0 => return self.close(now),
            State::Thinking => {
                self.state = State::Waiting;
                self.manner.requests -= 1;
                (self.tries, self.wait) = (0, SHORTEST_WAIT);
            }
            State::Opening if !self.is_tcp() => {
                self.state = State::Waiting;
                self.manner.requests = self.manner.requests.saturating_sub(1);
            }
            State::Opening | State::Waiting | State::Closing | State::Listening => {}
        }
        if self.tries >= TRIES {
            let end = if self.is_established() { End::Unanswered } else { End::Unopened };
            self.finish(end, now);
            return Act::default();
        }
        self.tries += 1;
        let packets = vec![self.say()];
        let timer = Some(self.wait + random.millis(0, 50));
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Act { packets, timer }
    }

    fn say(&self) -> (Vec<u8>, Part) {
        match self.state {
            State::Opening => (self.tcp(flags::SYN, &[]), Part::Open),
            State::Closing => (self.tcp(flags::FIN | flags::ACK, &[]), Part::Finish),
            // An old request again makes the backend say something.
            State::Listening => {
                let sequence = self.sequence.wrapping_sub(9);
                (packet::tcp(self.client, self.vip, sequence, self.expected, flags::ACK, LISTENS), Part::Segment)
            }
            _ if self.listens_on() => (self.tcp(flags::ACK, LISTENS), Part::Segment),
            _ if self.is_tcp() => (self.tcp(flags::ACK, b"request."), Part::Segment),
            _ => {
                let length = if self.manner.fragments { 200 } else { 8 };
                let mut payload = vec![b'.'; length];
                payload[..4].copy_from_slice(&self.sequence.to_be_bytes());
                (packet::udp(self.client, self.vip, &payload), Part::Datagram)
            }
        }
    }

    /// Is this the last request of one who listens on?
    fn listens_on(&self) -> bool {
        self.is_tcp() && self.manner.listens && self.manner.requests == 0 && self.state == State::Waiting
    }

    fn close(&mut self, now: Instant) -> Act {
        if !self.is_tcp() {
            self.finish(End::Well, now);
            return Act::default();
        }
        if self.manner.aborts {
            let packets = vec![(self.tcp(flags::RST, &[]), Part::Reset)];
            self.finish(End::Well, now);
            return Act { packets, timer: None };
        }
        self.state = State::Closing;
        (self.tries, self.wait) = (1, SHORTEST_WAIT);
        Act { packets: vec![self.say()], timer: Some(SHORTEST_WAIT) }
    }

    /// A packet from the VIP; `from` is the backend whose frame it came in.
    pub fn hear(&mut self, heard: &packet::Packet<'_>, from: Option<usize>, random: &mut Random, now: Instant) -> Act {
        if self.end().is_some() {
            return Act::default();
        }
        if !self.is_tcp() {
            let answers = heard.upper.len() >= 12 && heard.upper[8..12] == self.sequence.to_be_bytes();
            if self.state != State::Waiting || !answers {
                return Act::default();
            }
            self.owner = from;
            self.sequence = self.sequence.wrapping_add(1);
            return self.think(random, Vec::new());
        }
        let Some((segment, _)) = packet::segment(heard.upper) else {
            return Act::default();
        };
        if segment.flags & flags::RST != 0 {
            // RFC 9293 section 3.10.7.3, RFC 5961 section 3: one that is not exactly in order means nothing.
            let opening = self.state == State::Opening;
            let counts = if opening {
                segment.acknowledgment == self.sequence.wrapping_add(1)
            } else {
                segment.sequence == self.expected
            };
            if counts {
                self.finish(if opening { End::Unopened } else { End::Reset }, now);
            }
            return Act::default();
        }
        let acknowledges = |behind: u32| segment.flags & flags::ACK != 0 && segment.acknowledgment == behind;
        match self.state {
            State::Opening if segment.flags & flags::SYN != 0 && acknowledges(self.sequence.wrapping_add(1)) => {
                self.owner = from;
                self.sequence = self.sequence.wrapping_add(1);
                self.expected = segment.sequence.wrapping_add(1);
                let handshake = vec![(self.tcp(flags::ACK, &[]), Part::Segment)];
                self.think(random, handshake)
            }
            // Its SYN was taken for lost, or our acknowledgement was.
            _ if segment.flags & flags::SYN != 0 && segment.sequence.wrapping_add(1) == self.expected => {
                Act { packets: vec![(self.tcp(flags::ACK, &[]), Part::Segment)], timer: None }
            }
            State::Waiting if acknowledges(self.sequence.wrapping_add(8)) => {
                self.sequence = self.sequence.wrapping_add(8);
                self.think(random, Vec::new())
            }
            State::Closing if segment.flags & flags::FIN != 0 && acknowledges(self.sequence.wrapping_add(1)) => {
                self.sequence = self.sequence.wrapping_add(1);
                self.expected = self.expected.wrapping_add(1);
                let last = vec![(self.tcp(flags::ACK, &[]), Part::Segment)];
                self.finish(End::Well, now);
                Act { packets: last, timer: None }
            }
            State::Closing if acknowledges(self.sequence.wrapping_add(1)) => {
                self.sequence = self.sequence.wrapping_add(1);
                self.state = State::Listening;
                self.pause(random)
            }
            State::Listening if segment.flags & flags::FIN != 0 && acknowledges(self.sequence) => {
                self.expected = self.expected.wrapping_add(1);
                let last = vec![(self.tcp(flags::ACK, &[]), Part::Segment)];
                self.finish(End::Well, now);
                Act { packets: last, timer: None }
            }
            State::Listening if acknowledges(self.sequence) => self.pause(random),
            _ => Act::default(),
        }
    }

    /// Nothing for a while, then the next try.
    fn pause(&mut self, random: &mut Random) -> Act {
        (self.tries, self.wait) = (0, SHORTEST_WAIT);
        let (low, high) = self.manner.think;
        let pause = random.millis(low, high).min(LONGEST_WAIT);
        Act { packets: Vec::new(), timer: Some(pause) }
    }

    fn think(&mut self, random: &mut Random, packets: Vec<(Vec<u8>, Part)>) -> Act {
        self.state = State::Thinking;
        let (low, high) = self.manner.think;
        Act { packets, timer: Some(random.millis(low, high)) }
    }
}

impl Station {
    pub fn new(index: usize) -> Station {
        Station {
            mac: Mac([2, 0, 0, 0, 1, index as u8]),
            v4: std::net::Ipv4Addr::new(10, 0, 0, 200 + index as u8),
            v6: std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x200 + index as u16),
            neighbors: HashMap::new(),
        }
    }

    /// The questions for `vips`.
    pub fn ask(&self, vips: &[IpAddr]) -> Vec<Vec<u8>> {
        let question = |vip: &IpAddr| match vip {
            IpAddr::V4(vip) => packet::arp_request(self.mac, self.v4, *vip),
            IpAddr::V6(vip) => packet::solicitation(self.mac, self.v6, *vip),
        };
        vips.iter().map(question).collect()
    }

    /// Learns where a VIP is, from answers and announcements.
    pub fn learn(&mut self, heard: &Heard<'_>, vips: &[IpAddr]) {
        let (address, mac) = match heard {
            Heard::Arp(message) => (IpAddr::V4(message.sender), message.sender_mac),
            Heard::Advertisement { target, mac } => (IpAddr::V6(*target), *mac),
            _ => return,
        };
        if vips.contains(&address) {
            self.neighbors.insert(address, mac);
        }
    }
}

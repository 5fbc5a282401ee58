//! Backends: hosts that have the VIPs on their loopback, and answer clients and probes directly.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pen_dsr::wire::arp;
use pen_dsr::wire::ether::Mac;
use pen_dsr::wire::ip::protocol;

use super::client::LISTENS;
use super::packet::{self, Heard, Packet, flags};

/// How long a connection that is over is remembered, so that late segments are answered as they should be.
const TIME_WAIT: Duration = Duration::from_secs(30);

/// What the service of a backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It serves.
    Well,
    /// Nothing listens: a RST for each SYN.
    Refuses,
    /// The VIP is not on the loopback: no answer to anything for it.
    Absent,
    /// It takes connections and says nothing.
    Stuck,
}

/// A connection at a backend.
struct Connection {
    theirs: u32,
    ours: u32,
    /// What is expected next.
    next: u32,
    over: Option<Instant>,
    /// Answers that it has left for a client that has said all that it had to say.
    left: u32,
    /// The client has said so.
    half_closed: bool,
}

type Key = (SocketAddr, SocketAddr);
/// A part of a datagram: its offset, whether more follow, its bytes.
type Part = (u16, bool, Vec<u8>);

/// A backend.
pub struct Host {
    pub index: usize,
    pub name: String,
    pub address: IpAddr,
    pub mac: Mac,
    /// Is its link up?
    pub link: bool,
    pub service: Service,
    /// Since when the link, the service and the MAC are what they are.
    pub link_since: Instant,
    pub service_since: Instant,
    pub mac_since: Instant,
    /// It answers ARP even when it is dead, as a switch might in its name.
    pub ghost: bool,
    connections: HashMap<Key, Connection>,
    parts: HashMap<(IpAddr, u32), Vec<Part>>,
}

impl Host {
    pub fn new(index: usize, address: IpAddr, now: Instant) -> Host {
        Host {
            index,
            name: format!("be{}", index + 1),
            address,
            mac: Mac([2, 0, 0, 0, 2, index as u8]),
            link: true,
            service: Service::Well,
            link_since: now,
            service_since: now,
            mac_since: now,
            ghost: false,
            connections: HashMap::new(),
            parts: HashMap::new(),
        }
    }

    /// It serves whoever comes.
    pub fn is_well(&self) -> bool {
        self.link && self.service == Service::Well
    }

    /// When the last change for better or worse was.
    pub fn last_trouble(&self) -> Instant {
        self.link_since.max(self.service_since).max(self.mac_since)
    }

    /// All connections are lost, without a word.
    pub fn crash(&mut self) {
        self.connections.clear();
        self.parts.clear();
    }

    /// Another network card, and the announcement of it.
    pub fn change_mac(&mut self, now: Instant) -> Vec<u8> {
        self.mac.0[3] = self.mac.0[3].wrapping_add(1);
        self.mac_since = now;
        match self.address {
            IpAddr::V4(address) => packet::arp_request(self.mac, address, address),
            IpAddr::V6(address) => {
                packet::advertisement(self.mac, address, Mac::default(), std::net::Ipv6Addr::UNSPECIFIED)
            }
        }
    }

    /// What it says to `frame`: whole frames, or packets for addresses that it has to find.
    pub fn hear(&mut self, frame: &[u8], now: Instant) -> (Option<Vec<u8>>, Vec<Vec<u8>>) {
        match packet::read(frame) {
            Some(Heard::Arp(message)) => {
                let asked = message.operation == arp::Operation::Request && IpAddr::V4(message.target) == self.address;
                let (IpAddr::V4(own), true) = (self.address, asked && (self.link || self.ghost)) else {
                    return (None, Vec::new());
                };
                (Some(packet::arp_reply(self.mac, own, message.sender_mac, message.sender)), Vec::new())
            }
            Some(Heard::Solicitation { asker, source, target }) => {
                let asked = IpAddr::V6(target) == self.address && (self.link || self.ghost);
                (asked.then(|| packet::advertisement(self.mac, target, asker, source)), Vec::new())
            }
            Some(Heard::Packet(packet)) if self.link && self.service != Service::Absent => {
                (None, self.packet(&packet, now))
            }
            _ => (None, Vec::new()),
        }
    }

    fn packet(&mut self, packet: &Packet<'_>, now: Instant) -> Vec<Vec<u8>> {
        if packet.part.is_some() {
            return self.part(packet).into_iter().collect();
        }
        match packet.protocol {
            protocol::TCP => self.segment(packet, now),
            protocol::UDP => self.datagram(packet.source, packet.destination, packet.upper).into_iter().collect(),
            protocol::ICMP if packet.upper[0] == 8 => {
                vec![packet::icmp(packet.destination, packet.source, 0, 0, &packet.upper[4..])]
            }
            protocol::ICMPV6 if packet.upper[0] == 128 => {
                vec![packet::icmp(packet.destination, packet.source, 129, 0, &packet.upper[4..])]
            }
            _ => Vec::new(),
        }
    }

    /// A part of a datagram: with the last one that is missing, the datagram.
    fn part(&mut self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let (id, offset) = packet.part?;
        let parts = self.parts.entry((packet.source, id)).or_default();
        if !parts.iter().any(|(at, ..)| *at == offset) {
            parts.push((offset, packet.more, packet.upper.to_vec()));
            parts.sort();
        }
        let mut whole = Vec::new();
        for (offset, more, bytes) in parts.iter() {
            if usize::from(*offset) != whole.len() {
                return None;
            }
            whole.extend(bytes);
            if !more {
                self.parts.remove(&(packet.source, id));
                return self.datagram(packet.source, packet.destination, &whole);
            }
        }
        None
    }

    fn datagram(&self, source: IpAddr, destination: IpAddr, upper: &[u8]) -> Option<Vec<u8>> {
        let port = |at: usize| u16::from_be_bytes([upper[at], upper[at + 1]]);
        let (from, to) = (SocketAddr::new(source, port(0)), SocketAddr::new(destination, port(2)));
        let echo = &upper[8..upper.len().min(16)];
        (self.service == Service::Well).then(|| packet::udp(to, from, echo))
    }

    fn segment(&mut self, packet: &Packet<'_>, now: Instant) -> Vec<Vec<u8>> {
        let Some((segment, payload)) = packet::segment(packet.upper) else {
            return Vec::new();
        };
        let from = SocketAddr::new(packet.source, segment.ports.source);
        let to = SocketAddr::new(packet.destination, segment.ports.destination);
        let say = |sequence, acknowledgment, set, payload: &[u8]| {
            vec![packet::tcp(to, from, sequence, acknowledgment, set, payload)]
        };
        let behind = segment.sequence.wrapping_add(segment.sequence_length());
        let known = self.connections.get_mut(&(from, to));
        let known = known.filter(|connection| connection.over.is_none_or(|over| now < over + TIME_WAIT));
        if segment.flags & flags::RST != 0 {
            self.connections.remove(&(from, to));
            return Vec::new();
        }
        if segment.is_open() {
            if let Some(known) = known.filter(|known| known.theirs == segment.sequence) {
                // The same SYN once more. Behind the handshake it is nothing but acknowledged.
                return match known.next == behind {
                    true => say(known.ours, known.next, flags::SYN | flags::ACK, &[]),
                    false => say(known.ours.wrapping_add(1), known.next, flags::ACK, &[]),
                };
            }
            if self.service == Service::Refuses {
                return say(0, behind, flags::RST | flags::ACK, &[]);
            }
            let ours = segment.sequence.wrapping_mul(0x9e37_79b1) ^ self.index as u32;
            let connection =
                Connection { theirs: segment.sequence, ours, next: behind, over: None, left: 0, half_closed: false };
            self.connections.insert((from, to), connection);
            return say(ours, behind, flags::SYN | flags::ACK, &[]);
        }
        let Some(known) = known else {
            return say(segment.acknowledgment, 0, flags::RST, &[]);
        };
        if self.service == Service::Stuck || segment.sequence_length() == 0 {
            return Vec::new();
        }
        if segment.sequence == known.next {
            known.next = behind;
        }
        let first = known.ours.wrapping_add(1);
        if payload == LISTENS && !known.half_closed {
            known.left = 4;
        }
        let finishes = segment.flags & flags::FIN != 0 && known.next == behind;
        known.half_closed |= finishes;
        if known.half_closed && known.left > 0 {
            known.left -= u32::from(!finishes);
            return say(first, known.next, flags::ACK, &[]);
        }
        if known.half_closed {
            known.over = Some(now);
            return say(first, known.next, flags::FIN | flags::ACK, &[]);
        }
        if payload.starts_with(b"GET ") {
            const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK";
            return say(first, known.next, flags::ACK | flags::FIN, ANSWER);
        }
        say(first, known.next, flags::ACK, &[])
    }
}

//! Probes: how a backend is asked whether it serves a VIP, and what its answer means.
//!
//! A probe goes where clients' packets go: to the VIP, by the backend's MAC. So it finds what a check of the backend's
//! own address cannot: a VIP that is missing on the loopback, a server that does not listen on it, a filter.
//!
//! ```text
//! director --start--> Probe --poll_transmit--> IP packet, behind an Ethernet header to the backend's MAC --> wire
//!             outcome <--|  <--handle_packet-- IP packet from the VIP to the probe's source, or an ICMP error
//! ```
//!
//! A [`Probe`] is an IP endpoint of its own, without a socket or a clock. It sends again what may have been lost, so
//! that one lost frame fails no probe. [`key_of`] says to which probe a packet belongs.
//!
//! The packets that come back must not reach the host's own stack: it knows nothing of the connection and would reset
//! it.

mod check;
pub(crate) mod dns;
pub(crate) mod http;
mod packet;
mod stream;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use check::{Check, HTTP_STATUS};

use crate::health::{Obstacle, Reason, scatter};
use crate::wire::ip::protocol;
use crate::wire::l4::Ports;
use http::{Answer, Finding};
use packet::{Incoming, Message, Quote};
use stream::{Phase, Stream};

/// A datagram or echo request is sent so many times within the timeout.
pub(crate) const TRIES: u32 = 3;

/// Whose a packet is: the VIP, the address that its probe comes from, and the probe's port there.
pub type Key = (IpAddr, IpAddr, u16);

/// Between what addresses and ports a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address that is asked.
    pub vip: IpAddr,
    /// The VIP's port; 0: it serves every port.
    pub vip_port: u16,
    /// The address that the probe comes from, of the same family.
    pub source: IpAddr,
    /// The port that it comes from, not 0; as an identifier also that of an echo request. No two probes that run at a
    /// time between the same addresses have the same, whatever their kind.
    pub local_port: u16,
}

/// A probe that is running.
#[derive(Debug)]
pub struct Probe {
    target: Target,
    /// The VIP and the port that is asked; 0 for an echo.
    at: SocketAddr,
    timeout: Duration,
    deadline: Instant,
    exchange: Exchange,
    /// Packets that are to leave.
    queue: VecDeque<Vec<u8>>,
    /// What an ICMP error about the first packet has to quote.
    first: Option<(u8, [u8; 8])>,
    /// Who has redirected it.
    redirected_by: Option<IpAddr>,
    verdict: Option<Result<(), Reason>>,
}

#[derive(Debug)]
enum Exchange {
    /// One packet, until it is answered.
    Repeat { packet: Vec<u8>, left: u32, next: Instant, pause: Duration, question: Question },
    /// A connection; with a request and what comes back, or only to see whether it opens.
    Stream(Box<Stream>, Option<Dialogue>),
    /// None: it was decided at the start.
    Void,
}

#[derive(Debug)]
enum Question {
    Echo { payload: Vec<u8> },
    Udp { expect: Vec<u8> },
    Dns { id: u16, garbled: bool },
}

#[derive(Debug)]
struct Dialogue {
    /// Not sent yet.
    request: Option<Vec<u8>>,
    answer: Answer,
}

/// To which probe the IP packet `packet` belongs, if it may belong to one: TCP, UDP and echo replies by their
/// addresses and ports, ICMP errors and redirects by the packet that they quote.
pub fn key_of(packet: &[u8]) -> Option<Key> {
    packet::parse(packet).map(|incoming| incoming.key())
}

impl Probe {
    /// Starts a probe: [`Probe::poll_transmit`] has its first packet. What cannot be asked is decided at once
    /// ([`Reason::NotAsked`]). `seed` makes sequence numbers and identifiers that nobody guesses; another for each probe.
    pub fn start(check: &Check, target: Target, timeout: Duration, seed: u64, now: Instant) -> Probe {
        let at = SocketAddr::new(target.vip, check.port(target.vip_port).unwrap_or(0));
        let mut probe = Probe {
            target,
            at,
            timeout,
            deadline: now + timeout,
            exchange: Exchange::Void,
            queue: VecDeque::new(),
            first: None,
            redirected_by: None,
            verdict: None,
        };
        match probe.exchange(check, seed, now) {
            Ok(exchange) => probe.exchange = exchange,
            Err(why) => probe.verdict = Some(Err(Reason::NotAsked { why })),
        }
        probe
    }

    /// What there is to say and to listen for, or why there is nothing.
    fn exchange(&self, check: &Check, seed: u64, now: Instant) -> Result<Exchange, String> {
        let Target { vip, vip_port, source, local_port } = self.target;
        if let Some(problem) = check.problem(vip_port) {
            return Err(problem);
        }
        if source.is_ipv4() != vip.is_ipv4() || !is_host(source) {
            let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(format!("{source} is no {family} address to ask {vip} from; give one by --check-source"));
        }
        let number = scatter(seed);
        let ports = Ports { source: local_port, destination: self.at.port() };
        let repeat = |packet, question| Exchange::Repeat {
            packet,
            left: TRIES,
            next: now,
            pause: self.timeout / TRIES,
            question,
        };
        let connect = |request: usize| {
            Stream::connect(&self.target, self.at.port(), request, self.timeout, number, now)
                .map(Box::new)
                .ok_or_else(|| format!("there is no connection from {source} port {local_port} to {}", self.at))
        };
        Ok(match check {
            Check::Link => return Err("a link check has no probe".to_owned()),
            Check::Icmp => {
                let payload = [b"pen-dsr ".as_slice(), &number.to_be_bytes()].concat();
                repeat(packet::echo_request(source, vip, local_port, 1, &payload), Question::Echo { payload })
            }
            Check::Tcp { .. } => Exchange::Stream(connect(1)?, None),
            Check::Http { path, host, status, body, .. } => {
                let request = http::request(path, host.as_deref(), vip, self.at.port());
                let answer = Answer::new(status.clone(), body.as_deref());
                Exchange::Stream(connect(request.len())?, Some(Dialogue { request: Some(request), answer }))
            }
            Check::Udp { payload, expect, .. } => {
                repeat(packet::datagram(source, vip, ports, payload), Question::Udp { expect: expect.clone() })
            }
            Check::Dns { name, .. } => {
                let id = local_port ^ number as u16;
                let query = dns::query(id, name).ok_or_else(|| format!("{name:?} is not a domain name"))?;
                repeat(packet::datagram(source, vip, ports, &query), Question::Dns { id, garbled: false })
            }
        })
    }

    /// What [`key_of`] says of the packets that are this probe's.
    pub fn key(&self) -> Key {
        (self.target.vip, self.target.source, self.target.local_port)
    }

    /// Takes an IP packet, without its Ethernet header. What is not this probe's, damaged or too late changes nothing.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        let Some(incoming) = packet::parse(packet) else {
            return;
        };
        if self.verdict.is_some()
            || incoming.key() != self.key()
            || incoming.destination != self.target.source
            || !incoming.is_intact()
        {
            return;
        }
        match incoming.message {
            Message::Tcp { ports, flags } if ports.source == self.at.port() => self.segment(&incoming, flags, now),
            Message::Udp { ports, payload } if ports.source == self.at.port() => self.datagram(payload, now),
            Message::EchoReply { payload: echoed, .. } => {
                if let Exchange::Repeat { question: Question::Echo { payload }, .. } = &self.exchange
                    && payload == echoed
                {
                    self.decide(Ok(()), now);
                }
            }
            Message::Error { obstacle, quote } if self.has_sent(&quote) => self.error(obstacle, incoming.source, now),
            Message::Redirect { quote } if self.has_sent(&quote) => self.redirected_by = Some(incoming.source),
            Message::Tcp { .. } | Message::Udp { .. } | Message::Error { .. } | Message::Redirect { .. } => {}
        }
    }

    fn segment(&mut self, incoming: &Incoming<'_>, flags: u8, now: Instant) {
        if let Exchange::Stream(stream, _) = &mut self.exchange {
            stream.receive(incoming.packet, flags, now);
            self.converse(now);
        }
    }

    /// What is to be done where the connection stands now.
    fn converse(&mut self, now: Instant) {
        let Exchange::Stream(stream, dialogue) = &mut self.exchange else {
            return;
        };
        let at = self.at;
        let finding = match (stream.phase(), dialogue) {
            (Phase::Connecting, _) => None,
            (Phase::Open | Phase::Ended, None) => Some(Ok(())),
            (Phase::Closed, None | Some(Dialogue { request: Some(_), .. })) => Some(Err(Reason::Refused { at })),
            (Phase::Closed, Some(_)) => Some(Err(Reason::HttpClosed { at, reset: true })),
            (phase @ (Phase::Open | Phase::Ended), Some(Dialogue { request, answer })) => {
                if let Some(request) = request.take() {
                    stream.send(&request);
                }
                let mut finding = None;
                stream.read(|bytes| {
                    finding = answer.push(bytes);
                    finding.is_none()
                });
                if phase == Phase::Ended {
                    finding = finding.or_else(|| Some(answer.end()));
                }
                finding.map(|finding| judge(finding, answer, at))
            }
        };
        match finding {
            Some(verdict) => self.decide(verdict, now),
            None => self.flush(now),
        }
    }

    fn datagram(&mut self, payload: &[u8], now: Instant) {
        let Exchange::Repeat { question, .. } = &mut self.exchange else {
            return;
        };
        let at = self.at;
        let verdict = match question {
            Question::Echo { .. } => return,
            Question::Udp { expect } => {
                let found = expect.is_empty() || payload.windows(expect.len()).any(|window| window == expect);
                if found { Ok(()) } else { Err(Reason::UdpMismatch { at }) }
            }
            Question::Dns { id, garbled } => match dns::response(*id, payload) {
                // That a name does not exist is an answer, too.
                Some(dns::NO_ERROR | dns::NO_SUCH_NAME) => Ok(()),
                Some(rcode) => Err(Reason::DnsError { at, rcode }),
                // The right one may follow.
                None => {
                    *garbled = true;
                    return;
                }
            },
        };
        self.decide(verdict, now);
    }

    fn error(&mut self, obstacle: Obstacle, from: IpAddr, now: Instant) {
        // An open connection is not given up for an error that anybody can forge (RFC 5927 section 5.2).
        let is_open = matches!(&self.exchange, Exchange::Stream(stream, _) if stream.phase() != Phase::Connecting);
        if !is_open {
            self.decide(Err(Reason::Unreachable { at: self.at, from, obstacle }), now);
        }
    }

    /// Is that the beginning of a packet of this probe? Checksums are not compared: address translation in the backend
    /// may have changed them.
    fn has_sent(&self, quote: &Quote) -> bool {
        let Some((protocol, first)) = self.first else {
            return false;
        };
        let (theirs, ours) = (&quote.head, &first);
        quote.protocol == protocol
            && match protocol {
                // Ports and sequence number: before the connection is open, all segments have the same.
                protocol::TCP => theirs == ours,
                protocol::UDP => theirs[..4] == ours[..4],
                _ => theirs[..2] == ours[..2] && theirs[4..] == ours[4..],
            }
    }

    /// Has it ended, and said all that it had to say? Then time changes nothing about it.
    pub fn is_over(&self) -> bool {
        self.verdict.is_some() && self.queue.is_empty()
    }

    /// When [`Probe::poll`] has something to do next; `now` if there is something already.
    pub fn deadline(&self, now: Instant) -> Instant {
        if self.verdict.is_some() || !self.queue.is_empty() {
            return now;
        }
        let next = match &self.exchange {
            Exchange::Repeat { left, next, .. } => (*left > 0).then_some(*next),
            Exchange::Stream(stream, _) => stream.next(),
            Exchange::Void => None,
        };
        next.map_or(self.deadline, |next| next.min(self.deadline))
    }

    /// Does what is due: sends, sends again, gives up.
    pub fn poll(&mut self, now: Instant) {
        if self.verdict.is_some() {
            return;
        }
        if now >= self.deadline {
            self.decide(Err(self.silence()), now);
            return;
        }
        self.flush(now);
    }

    /// Why there is no verdict at the end of the timeout.
    fn silence(&self) -> Reason {
        let (at, within) = (self.at, self.timeout);
        match &self.exchange {
            Exchange::Stream(stream, Some(Dialogue { answer, .. })) if stream.phase() != Phase::Connecting => {
                if answer.has_begun() {
                    return Reason::HttpSlow { at, within };
                }
                return Reason::HttpHang { at, within };
            }
            Exchange::Repeat { question: Question::Dns { garbled: true, .. }, .. } => {
                return Reason::DnsMalformed { at };
            }
            Exchange::Repeat { .. } | Exchange::Stream(..) | Exchange::Void => {}
        }
        match self.redirected_by {
            Some(by) => Reason::Forwarded { vip: at.ip(), by },
            None => Reason::NoAnswer { at, within },
        }
    }

    fn decide(&mut self, verdict: Result<(), Reason>, now: Instant) {
        self.verdict = Some(verdict);
        match &mut self.exchange {
            // So that nothing is left half-open there.
            Exchange::Stream(stream, _) => stream.abort(),
            Exchange::Repeat { left, .. } => *left = 0,
            Exchange::Void => {}
        }
        self.flush(now);
    }

    /// Queues what is to leave by `now`.
    fn flush(&mut self, now: Instant) {
        match &mut self.exchange {
            Exchange::Repeat { packet, left, next, pause, .. } => {
                if *left > 0 && now >= *next {
                    self.queue.push_back(packet.clone());
                    *left -= 1;
                    *next = now + *pause;
                }
            }
            Exchange::Stream(stream, _) => stream.flush(&mut self.queue, now),
            Exchange::Void => {}
        }
        if self.first.is_none() {
            self.first = self.queue.front().and_then(|packet| packet::head(packet));
        }
    }

    /// The next packet that is to leave: IP, with finished checksums. To be called until there is none, also once more
    /// behind the outcome.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.poll(now);
        self.queue.pop_front()
    }

    /// How it ended, once it has. By the end of the timeout it always has.
    pub fn outcome(&mut self, now: Instant) -> Option<Result<(), Reason>> {
        self.poll(now);
        self.verdict.clone()
    }
}

/// What an HTTP answer means.
fn judge(finding: Finding, answer: &Answer, at: SocketAddr) -> Result<(), Reason> {
    Err(match finding {
        Finding::Good => return Ok(()),
        Finding::Cut => Reason::HttpClosed { at, reset: false },
        Finding::Malformed(what) => Reason::HttpMalformed { at, what },
        Finding::Status(status) => Reason::HttpStatus { at, status, wanted: answer.status() },
        Finding::Body => Reason::HttpBody { at, wanted: answer.wanted().to_owned() },
    })
}

/// Can `address` be one host's?
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

#[cfg(test)]
mod tests;

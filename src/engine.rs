//! The engine: frame in, verdict out.
//!
//! It opens no socket, reads no clock, takes no lock, and on the way of a client's frame allocates nothing. What it
//! decides by comes in as [`Tables`]; what it learns leaves as [`Event`]s; the few frames that it originates itself
//! leave by [`Engine::poll_transmit`].

mod answer;
mod back;
mod datagram;
mod probe;
mod recent;
mod steer;
mod tarpit;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recent::Recent;
pub use recent::RecentClient;
use steer::Steered;
use tarpit::Tarpit;
pub use tarpit::networks as tarpit_networks;

use crate::counters::Counters;
use crate::hold::{Hold, Waiting};
use crate::lb::flow::{Flow, FlowTable, Memory, Record, Route, Settled};
use crate::lb::fragment::{self, FragmentTable};
use crate::lb::limit::Bucket;
use crate::lb::{Seed, Tables};
use crate::verdict::{Arm, DropReason, Verdict};
use crate::wire::ether::{self, Mac};
use crate::wire::ip::protocol;
use crate::wire::{arp, checksum, icmp, ip, l4, nd, refuse};

/// Events and own frames that may wait to be fetched; what comes beyond is not kept.
const QUEUE: usize = 256;
/// RSTs and ICMP errors a second at most, for clients that nobody serves.
const REFUSALS: u32 = 1000;

/// Who we are on the segment, or on the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The interface's MAC, where the clients are.
    pub mac: Mac,
    /// The interface's MAC where the backends are: the source of every frame that is passed on. With one arm the same.
    pub back: Mac,
    /// The MAC that the VIPs are announced with; the interface's own unless configured (`--vip-mac`).
    pub vip_mac: Mac,
}

impl Station {
    /// A station that announces its own MAC.
    pub fn new(mac: Mac) -> Station {
        Station { mac, back: mac, vip_mac: mac }
    }

    /// Are clients and backends on two interfaces?
    pub fn has_two_arms(&self) -> bool {
        self.back != self.mac
    }

    /// Are the VIPs announced with another MAC than the interface's?
    pub fn has_vip_mac(&self) -> bool {
        self.vip_mac != self.mac
    }

    #[inline]
    pub(crate) fn owns(&self, mac: Mac) -> bool {
        mac == self.mac || mac == self.vip_mac || mac == self.back
    }
}

/// What the engine has learnt from the wire about an address that its [`Tables`] watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An ARP reply or solicited advertisement, addressed to us: `address` is at `mac`.
    Answer {
        /// The neighbour's address.
        address: IpAddr,
        /// Its MAC.
        mac: Mac,
    },
    /// Somebody says so unasked: gratuitous ARP, the sender of an ARP request, an unsolicited advertisement.
    Claim {
        /// The address that is claimed.
        address: IpAddr,
        /// Who claims it.
        mac: Mac,
    },
    /// An IP packet that answers a probe: from a VIP to a probe's source, or an ICMP error about a probe.
    Probed(Vec<u8>),
}

/// The packet engine of one worker.
pub struct Engine {
    station: Station,
    /// The arm of the frame that is being decided about.
    arm: Arm,
    tables: Arc<Tables>,
    flows: FlowTable,
    recent: Recent,
    refusals: Bucket,
    tarpit: Tarpit,
    fragments: FragmentTable,
    hold: Hold,
    events: VecDeque<Event>,
    outbox: VecDeque<Vec<u8>>,
    counters: Arc<Counters>,
    now: Instant,
}

impl Engine {
    /// An engine for `station` that decides by `tables`, remembers flows in `memory` and counts in `counters`.
    pub fn new(
        station: Station,
        tables: Arc<Tables>,
        seed: Seed,
        memory: Memory,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Engine {
        let timeouts = &tables.settings().timeouts;
        let flows = FlowTable::new(memory, timeouts, Arc::clone(&counters.flows), now, |owner| tables.knows(owner));
        let mut engine = Engine {
            station,
            arm: Arm::Front,
            flows,
            recent: Recent::new(),
            refusals: Bucket::new(REFUSALS, REFUSALS),
            tarpit: Tarpit::new(seed),
            tables: Arc::clone(&tables),
            fragments: FragmentTable::new(seed, fragment::DEFAULT_ENTRIES),
            hold: Hold::new(now),
            events: VecDeque::with_capacity(QUEUE),
            outbox: VecDeque::with_capacity(QUEUE),
            counters,
            now,
        };
        engine.install(tables);
        engine
    }

    /// Ends, and leaves what is remembered of flows.
    pub fn into_memory(self) -> Memory {
        self.flows.into_memory()
    }

    /// What this engine counts in.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What this engine decides by.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Sets the time; once per batch. Frames that have waited too long are given up.
    pub fn advance(&mut self, now: Instant) {
        self.now = now;
        let expired = self.hold.expire(now);
        if expired > 0 {
            self.counters.expired.add(expired as u64);
        }
        self.flows.advance(now);
    }

    /// The clients that have opened a flow within the last `within`, the latest first.
    pub fn recent(&self, within: Duration) -> Vec<RecentClient> {
        self.recent.list(self.now, within)
    }

    /// Another balancer tells of flows. It knows better as long as it has the VIPs.
    pub fn learn(&mut self, records: &[Record]) {
        let trusted = self.tables.settings().silent;
        records.iter().for_each(|record| self.flows.learn(record, trusted));
    }

    /// The flow table.
    pub fn flows(&mut self) -> &mut FlowTable {
        &mut self.flows
    }

    /// Decides by `tables` from now on, and releases the frames that waited for what they bring.
    pub fn install(&mut self, tables: Arc<Tables>) {
        if tables.settings().timeouts != self.tables.settings().timeouts {
            self.flows.set_timeouts(&tables.settings().timeouts);
        }
        self.flows.share(tables.settings().shares);
        self.flows.forget_shortcuts();
        self.tables = tables;
        let tables = Arc::clone(&self.tables);
        self.release(|waiting| match waiting {
            Waiting::Backend(index) => {
                tables.backend(*index).is_none_or(|backend| backend.mac.is_some() || !backend.in_service)
            }
            Waiting::First(_) => false,
        });
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next frame to send that is not an answer in place: released frames, advertisements.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// When [`Engine::advance`] has something to do, whether or not a frame comes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.hold.deadline().into_iter().chain(self.flows.deadline()).min()
    }

    /// Decides about one frame. Only [`Verdict::Transmit`] may have changed it: in its two MACs, or into the answer to
    /// what it asked.
    #[inline]
    pub fn handle_frame(&mut self, frame: &mut [u8]) -> Verdict {
        if let Some(taken) = self.flows.take_shortcut(frame) {
            self.counters.passed(taken.vip, taken.backend, frame.len());
            return Verdict::Transmit;
        }
        self.handle_at_length(frame)
    }

    /// The same, for any frame.
    #[inline(never)]
    fn handle_at_length(&mut self, frame: &mut [u8]) -> Verdict {
        let verdict = self.decide(frame);
        self.count(frame.len(), verdict);
        verdict
    }

    /// Decides about a frame that came by `arm`: on the back, where the backends are, nobody is served.
    #[inline]
    pub fn handle_frame_from(&mut self, arm: Arm, frame: &mut [u8]) -> Verdict {
        match arm {
            Arm::Front => self.handle_frame(frame),
            Arm::Back => self.handle_back_frame(frame),
        }
    }

    #[inline]
    fn count(&self, bytes: usize, verdict: Verdict) {
        let counters = &*self.counters;
        counters.received.count(bytes);
        match verdict {
            Verdict::Transmit => counters.transmitted.count(bytes),
            Verdict::Host => counters.host.count(bytes),
            Verdict::Drop(reason) => counters.dropped(reason).add(1),
        }
    }

    #[inline]
    fn decide(&mut self, frame: &mut [u8]) -> Verdict {
        // A frame too short to say whom it is for is nobody's.
        let Ok(eth) = ether::parse(frame) else {
            return Verdict::Host;
        };
        let to_us = self.is_for_us(eth.destination);
        match eth.ethertype {
            ether::IPV4 | ether::IPV6 if to_us => self.packet(frame, &eth),
            ether::ARP if to_us || eth.destination.is_group() => self.arp(frame, &eth),
            ether::IPV6 if eth.destination.is_group() => self.neighbor_discovery(frame, &eth),
            _ => Verdict::Host,
        }
    }

    /// The MAC that VIPs are announced with is another balancer's while that has them.
    #[inline]
    fn is_for_us(&self, mac: Mac) -> bool {
        mac == self.station.mac || (mac == self.station.vip_mac && !self.tables.settings().silent)
    }

    /// An IP packet in a frame to us.
    #[inline]
    fn packet(&mut self, frame: &mut [u8], eth: &ether::Header) -> Verdict {
        let packet = &frame[eth.payload..];
        let Some(destination) = ip::destination(eth.ethertype, packet) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let Some(vip) = self.tables.vip(destination) else {
            return self.not_for_a_vip(frame, eth, destination);
        };
        if self.station.owns(eth.source) {
            return Verdict::Drop(DropReason::Looped);
        }
        let Ok(header) = ip::parse(eth.ethertype, packet) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        // A backend that has lost the VIP and forwards packets sends our probes back. Another backend's answer to them
        // would speak for it.
        if self.tables.settings().probe_sources.contains(&header.source) {
            return Verdict::Drop(DropReason::Looped);
        }
        if let Some(fragment) = header.fragment {
            return self.fragment(frame, eth, vip, &header, fragment);
        }
        match header.protocol {
            protocol::TCP | protocol::UDP => {
                let segment = &packet[header.payload..header.end];
                let Ok(ports) = l4::ports(header.protocol, segment) else {
                    return Verdict::Drop(DropReason::Malformed);
                };
                let flags = l4::tcp_flags(segment);
                let Engine { tables, flows, .. } = self;
                let Some(service) = tables.service(vip, header.protocol, ports.destination) else {
                    return Verdict::Host;
                };
                let flow = flow_of(&header, ports);
                let signal = steer::signal(header.protocol, flags);
                match steer::steer(tables, flows, service, &flow, signal) {
                    Steered::Backend { index, opened, settled } => {
                        if opened {
                            self.recent.note(flow.client, index, self.now);
                        }
                        if let Some(settled) = settled.filter(|_| eth.payload == ether::HEADER_LEN) {
                            self.shorten(frame, vip, index, &settled);
                        }
                        self.forward(frame, vip, index)
                    }
                    Steered::Denied => Verdict::Drop(DropReason::Denied),
                    Steered::NoBackend => {
                        let refuses = service.refuses;
                        self.nobody(frame, eth, &header, refuses)
                    }
                }
            }
            protocol::ICMP if header.source.is_ipv4() => self.icmp(frame, eth, vip, &header),
            protocol::ICMPV6 if header.source.is_ipv6() => self.icmp(frame, eth, vip, &header),
            _ => Verdict::Host,
        }
    }

    /// Lets further frames like `frame` take a shortcut.
    #[inline(never)]
    fn shorten(&mut self, frame: &[u8], vip: usize, index: usize, settled: &Settled) {
        let Some(Mac(backend)) = self.tables.backend(index).and_then(|backend| backend.mac) else {
            return;
        };
        let mut addresses = [0; 12];
        ether::readdress(&mut addresses, Mac(backend), self.station.back);
        let vip = self.tables.vips()[vip].number as u32;
        self.flows.keep_shortcut(frame, settled, Route { addresses, vip });
    }

    /// From VIP number `vip` to the backend that was chosen, if any is in service.
    #[inline]
    fn forward_if_any(&mut self, frame: &mut [u8], vip: usize, backend: Option<usize>) -> Verdict {
        match backend {
            Some(index) => self.forward(frame, vip, index),
            None => Verdict::Drop(DropReason::NoBackend),
        }
    }

    /// Nobody is in service: the client is told, if it is to be, and not too often.
    #[cold]
    fn nobody(&mut self, frame: &[u8], eth: &ether::Header, header: &ip::Header, refuses: bool) -> Verdict {
        if !refuses || !self.refusals.take(self.now) {
            return Verdict::Drop(DropReason::NoBackend);
        }
        match refuse::refusal(frame, eth, header) {
            Some(answer) => {
                self.post(answer);
                Verdict::Drop(DropReason::Refused)
            }
            None => Verdict::Drop(DropReason::NoBackend),
        }
    }

    /// From VIP number `vip` to backend number `index`: the two MACs are rewritten.
    #[inline]
    fn forward(&mut self, frame: &mut [u8], vip: usize, index: usize) -> Verdict {
        match self.tables.backend(index).and_then(|backend| backend.mac) {
            Some(mac) => {
                ether::readdress(frame, mac, self.station.back);
                self.counters.forwarded(self.tables.vips()[vip].number, index, frame.len());
                Verdict::Transmit
            }
            None => self.keep(frame, Waiting::Backend(index)),
        }
    }

    #[cold]
    fn keep(&mut self, frame: &mut [u8], waiting: Waiting) -> Verdict {
        Verdict::Drop(if self.hold.keep(waiting, frame, self.now) { DropReason::Held } else { DropReason::Unresolved })
    }

    /// Decides anew about held frames whose wait is over.
    fn release(&mut self, is_over: impl Fn(&Waiting) -> bool) {
        // Bounded: a frame that has to go on waiting is kept again, and must not be taken out twice.
        for _ in 0..crate::hold::PLACES {
            let Some(mut frame) = self.hold.take(&is_over) else {
                return;
            };
            // It leaves without the offload's metadata that it came with.
            checksum::finish(&mut frame);
            match self.decide(&mut frame) {
                Verdict::Transmit => {
                    self.counters.released.count(frame.len());
                    self.post(frame);
                }
                Verdict::Drop(DropReason::Held) => {}
                // The host does not take a frame late.
                Verdict::Host | Verdict::Drop(_) => self.counters.expired.add(1),
            }
        }
    }

    fn post(&mut self, frame: Vec<u8>) {
        if self.outbox.len() < QUEUE {
            self.outbox.push_back(frame);
        }
    }

    fn report(&mut self, event: Event) {
        if self.events.len() < QUEUE {
            self.events.push_back(event);
        }
    }
}

/// The flow of a packet from a client.
#[inline]
fn flow_of(header: &ip::Header, ports: l4::Ports) -> Flow {
    Flow {
        client: header.source,
        client_port: ports.source,
        vip: header.destination,
        vip_port: ports.destination,
        protocol: header.protocol,
    }
}

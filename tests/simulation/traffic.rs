//! Who talks to whom: conversations begin, frames reach clients and backends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pen_dsr::wire::ip::protocol;

use super::Fault;
use super::client::{Act, Conversation, End, Manner};
use super::network::{About, Event, Part, Place, Sent};
use super::packet::{self, Heard};
use super::plan::{VIP4, VIP6};
use super::world::{ACTIVE, Facts, Outcome, World};

/// Hosts and routers that clients come through.
pub const STATIONS: usize = 4;
/// Clients, by their addresses.
const CLIENTS: usize = 250;
/// The conversation of a client that nobody plays: a flood's.
pub const NOBODY: usize = usize::MAX;
/// Between two questions of a station for the VIPs.
const ASK_AGAIN: (u64, u64) = (3000, 5000);

/// Client number `n`, and the station that it is behind.
fn client(n: usize) -> (IpAddr, usize) {
    let address = match n % 4 {
        3 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, n as u16, 0, 0, 0, 1)),
        _ => IpAddr::V4(Ipv4Addr::new(192, 0, (n / 200) as u8, (n % 200) as u8)),
    };
    (address, n % STATIONS)
}

impl World {
    fn vips(&self) -> Vec<IpAddr> {
        vec![VIP4, VIP6]
    }

    /// A station asks where the VIPs are.
    pub fn ask(&mut self, station: usize) {
        for question in self.stations[station].ask(&self.vips()) {
            self.network.send(Place::Station(station), &question, About::Control, self.now);
        }
        let pause = self.crowd.millis(ASK_AGAIN.0, ASK_AGAIN.1);
        self.network.at(self.now + pause, Event::Ask { station });
    }

    /// A conversation begins, and the next one is arranged for.
    pub fn arrive(&mut self) {
        let random = &mut self.crowd;
        let number = if random.permille(700) { protocol::TCP } else { protocol::UDP };
        let (address, station) = client(random.below(CLIENTS));
        let vip = if address.is_ipv4() { VIP4 } else { VIP6 };
        let long = random.permille(350) || self.fault == Fault::SmallTable;
        let manner = Manner {
            requests: if long { random.within(15, 60) } else { random.within(0, 8) } as u32,
            think: random.pick(&[(1, 200), (100, 1500), (500, 3000), (4000, 12_000)]),
            aborts: random.permille(200),
            listens: random.permille(200),
            fragments: random.permille(400),
        };
        let manner = if long { Manner { think: (600, 3000), ..manner } } else { manner };
        let port = self.ports.entry(address).or_insert(1024);
        *port += 1;
        let source = SocketAddr::new(address, *port);
        let destination = SocketAddr::new(vip, if number == protocol::TCP { 80 } else { 53 });
        let isn = self.crowd.next() as u32;
        let id = self.conversations.len();
        self.conversations.push(Conversation::new(source, destination, number, station, manner, isn, self.now));
        self.facts.push(Facts::default());
        self.by_address.insert((source, destination, number), id);
        self.tally.conversations += 1;
        self.network.at(self.now, Event::Timer { conversation: id, round: 0 });
        let left = ACTIVE.saturating_sub(self.elapsed());
        let more = self.plan.conversations.saturating_sub(self.conversations.len());
        if more > 0 && !left.is_zero() {
            let pause = (left / more as u32 * 2).as_millis() as u64;
            // Most at the beginning, so that there is much that can break.
            let pause = if self.conversations.len() < self.plan.conversations / 2 { pause / 8 } else { pause };
            let pause = self.crowd.millis(0, pause.max(1));
            self.network.at(self.now + pause, Event::Arrival);
        }
    }

    /// A client's timer goes off.
    pub fn timer(&mut self, id: usize, round: u32) -> Outcome {
        if self.conversations[id].round != round {
            return Ok(());
        }
        if self.elapsed() > ACTIVE + Duration::from_secs(5) {
            self.conversations[id].manner.requests = 0;
        }
        let act = self.conversations[id].wake(&mut self.crowd, self.now);
        self.act(id, act)
    }

    fn act(&mut self, id: usize, act: Act) -> Outcome {
        for (packet, part) in act.packets {
            self.say_to_vip(id, &packet, part);
        }
        if let Some(pause) = act.timer {
            let conversation = &mut self.conversations[id];
            conversation.round += 1;
            let round = conversation.round;
            self.network.at(self.now + pause, Event::Timer { conversation: id, round });
        }
        match self.conversations[id].end() {
            Some(end) if self.conversations[id].ended == Some(self.now) => self.judge_end(id, end),
            _ => Ok(()),
        }
    }

    /// A client's packet sets out, in parts if it is to.
    fn say_to_vip(&mut self, id: usize, packet: &[u8], part: Part) {
        let conversation = &self.conversations[id];
        let fragments = conversation.manner.fragments && part == Part::Datagram;
        let (station, vip) = (conversation.station, conversation.vip.ip());
        if !fragments {
            self.send_from(station, vip, packet, Sent { conversation: id, part, fragment: None, stamp: 0 });
            return;
        }
        self.datagrams += 1;
        let datagram = self.datagrams;
        let length = 8 * self.crowd.within(4, 16);
        let parts = packet::parts(packet, datagram, length);
        for (n, packet) in parts.iter().enumerate() {
            let fragment = Some((datagram, n == 0));
            self.send_from(station, vip, packet, Sent { conversation: id, part, fragment, stamp: 0 });
        }
    }

    fn send_from(&mut self, station: usize, vip: IpAddr, packet: &[u8], sent: Sent) {
        let from = &self.stations[station];
        if let Some(&mac) = from.neighbors.get(&vip) {
            let frame = packet::frame(mac, from.mac, packet);
            self.network.send(Place::Station(station), &frame, About::Client(sent), self.now);
        }
    }

    /// SYNs from addresses that nobody has.
    pub fn flood(&mut self, count: usize) {
        for _ in 0..count {
            let address = IpAddr::V4(Ipv4Addr::from(0xc633_6400 | self.random.next() as u32 & 0x00ff_ffff));
            let source = SocketAddr::new(address, self.random.within(1024, 65535) as u16);
            let sequence = self.random.next() as u32;
            let packet = packet::tcp(source, SocketAddr::new(VIP4, 80), sequence, 0, packet::flags::SYN, &[]);
            let sent = Sent { conversation: NOBODY, part: Part::Open, fragment: None, stamp: 0 };
            self.send_from(0, VIP4, &packet, sent);
        }
    }

    /// A frame reaches a station.
    pub fn hear_station(&mut self, index: usize, frame: &[u8]) -> Outcome {
        let vips = self.vips();
        let Some(heard) = packet::read(frame) else {
            return Ok(());
        };
        self.stations[index].learn(&heard, &vips);
        let Heard::Packet(packet) = heard else {
            return Ok(());
        };
        let Some((source, destination)) = ends(&packet) else {
            return Ok(());
        };
        let Some(&id) = self.by_address.get(&(destination, source, packet.protocol)) else {
            return Ok(());
        };
        let sender = packet::mac(&frame[6..12]);
        let from = self.hosts.iter().find(|host| host.mac.0[4..] == sender.0[4..]).map(|host| host.index);
        // It was a balancer that said so: nobody is in service.
        self.facts[id].excused |= from.is_none();
        let act = self.conversations[id].hear(&packet, from, &mut self.crowd, self.now);
        self.act(id, act)?;
        let conversation = &self.conversations[id];
        let complains =
            conversation.is_established() && conversation.end().is_none() && packet.protocol == protocol::TCP;
        if complains && self.crowd.permille(10) {
            let packet = packet::too_big(conversation.client, conversation.vip);
            self.say_to_vip(id, &packet, Part::Complaint);
        }
        Ok(())
    }

    /// A frame reaches a backend.
    pub fn hear_host(&mut self, index: usize, frame: &[u8], about: About) {
        let host = &mut self.hosts[index];
        let to = packet::mac(frame);
        if (!host.link && !host.ghost) || (!to.is_group() && to != host.mac) {
            return;
        }
        let asker = packet::mac(&frame[6..12]);
        let (answer, packets) = host.hear(frame, self.now);
        let own = host.mac;
        if let Some(answer) = answer {
            self.network.send(Place::Host(index), &answer, About::Control, self.now);
        }
        for packet in packets {
            // To a client past the balancer; to whoever sent a probe, back to it.
            let (mac, about) = match about {
                About::Client(sent) if sent.conversation == NOBODY => continue,
                About::Client(sent) => {
                    let station = self.conversations[sent.conversation].station;
                    (self.stations[station].mac, About::Reply)
                }
                _ => (asker, About::Control),
            };
            let frame = packet::frame(mac, own, &packet);
            self.network.send(Place::Host(index), &frame, about, self.now);
        }
    }

    /// A conversation is over: was that to be expected?
    fn judge_end(&mut self, id: usize, end: End) -> Outcome {
        let conversation = &self.conversations[id];
        let facts = self.facts[id];
        let trouble = |since| self.trouble + Duration::from_secs(1) >= since;
        match end {
            End::Well => self.tally.well += 1,
            End::Unopened if trouble(conversation.opened) => self.tally.unopened += 1,
            End::Unopened => {
                let what = format!("conversation {id}, {} to {}, did not begin", conversation.client, conversation.vip);
                return self.violation('h', what);
            }
            End::Reset | End::Unanswered => {
                let since = conversation.opened;
                let of_owner = conversation.owner.map(|owner| &self.hosts[owner]);
                let host_failed = of_owner.is_some_and(|host| !host.is_well() || host.last_trouble() >= since);
                let udp = conversation.protocol == protocol::UDP && trouble(since);
                if !(facts.excused || facts.split || facts.late || host_failed || udp) {
                    let owner = of_owner.map_or("nobody", |host| host.name.as_str());
                    let what = format!(
                        "conversation {id}, {} to {} at {owner}, opened at {:.6} s, broke ({end:?}) while all was well",
                        conversation.client,
                        conversation.vip,
                        (conversation.opened - self.start).as_secs_f64()
                    );
                    return self.violation('h', what);
                }
                self.tally.broken += 1;
            }
        }
        self.say(|world| {
            let conversation = &world.conversations[id];
            format!("conversation {id} of {} ends: {end:?}, {facts:?}", conversation.client)
        });
        Ok(())
    }
}

/// From where to where a packet with ports goes.
fn ends(packet: &packet::Packet<'_>) -> Option<(SocketAddr, SocketAddr)> {
    if packet.part.is_some() || !matches!(packet.protocol, protocol::TCP | protocol::UDP) || packet.upper.len() < 8 {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([packet.upper[at], packet.upper[at + 1]]);
    Some((SocketAddr::new(packet.source, port(0)), SocketAddr::new(packet.destination, port(2))))
}

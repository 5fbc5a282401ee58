//! The world: everything in it, and how time passes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_dsr::config::Balance;
use pen_dsr::director::Segment;
use pen_dsr::engine::{Event as Learnt, Station as Identity};
use pen_dsr::lb::flow::{Flow, Stage, Tag};
use pen_dsr::sync;
use pen_dsr::verdict::{DropReason, Verdict};
use pen_dsr::wire::ether::Mac;

use super::balancer::{Balancer, Kept, Known};
use super::client::{Conversation, Station};
use super::host::Host;
use super::network::{About, Event, Network, Part, Place, Sent};
use super::packet::{self, STAMP};
use super::plan::{self, Kind, Plan, VIP4, VIP6};
use super::random::Random;
use super::traffic::STATIONS;
use super::{Fault, Tally, Violation};

pub type Outcome = Result<(), Violation>;

/// How long new conversations begin and things happen,
pub const ACTIVE: Duration = Duration::from_secs(60);
/// and how long it takes until all is well and everybody has gone.
pub const RECOVERY: Duration = Duration::from_secs(50);

/// What is known of a conversation, beside what its client knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Something happened that may break it.
    pub excused: bool,
    /// Which backend its last SYN went to.
    pub opened_at: Option<usize>,
    /// SYNs of it have gone to two backends before it was established.
    pub split: bool,
    /// A SYN came behind its end.
    pub late: bool,
}

/// The world.
pub struct World {
    pub fault: Fault,
    pub kind: Kind,
    pub plan: Plan,
    pub start: Instant,
    pub now: Instant,
    /// Of fate and of the operator.
    pub random: Random,
    /// Of clients.
    pub crowd: Random,
    pub network: Network,
    pub hosts: Vec<Host>,
    pub stations: Vec<Station>,
    pub balance: Balance,
    pub balancers: [Option<Balancer>; 2],
    /// What the flow files of balancers that do not run hold.
    pub files: [Option<Kept>; 2],
    pub conversations: Vec<Conversation>,
    pub facts: Vec<Facts>,
    /// Conversations by client and VIP.
    pub by_address: HashMap<(SocketAddr, SocketAddr, u8), usize>,
    /// Next free port by client.
    pub ports: HashMap<IpAddr, u16>,
    pub datagrams: u32,
    /// What conversations are called between balancers.
    pub tags: Vec<Tag>,
    /// Which copies of clients' frames have reached a backend.
    pub left: Vec<bool>,
    /// When a backend was not well last, or something else was amiss.
    pub trouble: Instant,
    pub log: Vec<String>,
    pub logs: bool,
    pub tally: Tally,
    /// For faults that happen now and then.
    pub mischief: u32,
}

impl World {
    pub fn new(seed: u64, kind: Kind, fault: Fault, logs: bool) -> World {
        let start = Instant::now();
        let mut random = Random::new(seed, 1);
        let mut hosts = plan::hosts(&mut random, start);
        let mut plan = Plan::new(&mut random, &hosts);
        match fault {
            Fault::SmallTable => (plan.entries, plan.conversations) = (1024, 3000),
            Fault::Ghosts => hosts.iter_mut().for_each(|host| host.ghost = true),
            _ => {}
        }
        let mut network = Network::new(Random::new(seed, 2), plan.weather);
        let stations: Vec<Station> = (0..STATIONS).map(Station::new).collect();
        for (index, station) in stations.iter().enumerate() {
            network.macs.insert(station.mac, vec![Place::Station(index)]);
            network.places.push(Place::Station(index));
        }
        for host in &hosts {
            network.macs.insert(host.mac, vec![Place::Host(host.index)]);
            network.places.push(Place::Host(host.index));
        }
        let mut world = World {
            fault,
            kind,
            balance: plan.balance.clone(),
            plan,
            start,
            now: start,
            random,
            crowd: Random::new(seed, 3),
            network,
            hosts,
            stations,
            balancers: [None, None],
            files: [None, None],
            conversations: Vec::new(),
            facts: Vec::new(),
            by_address: HashMap::new(),
            ports: HashMap::new(),
            datagrams: 0,
            tags: Vec::new(),
            left: Vec::new(),
            trouble: start,
            log: Vec::new(),
            logs,
            tally: Tally::default(),
            mischief: 0,
        };
        for index in 0..if kind == Kind::Pair { 2 } else { 1 } {
            let place = Place::Balancer(index);
            world.network.places.push(place);
            let station = world.identity(index);
            world.network.macs.insert(station.mac, vec![place]);
            world.network.macs.entry(station.vip_mac).or_default().retain(|known| *known != place);
            world.network.macs.entry(station.vip_mac).or_default().push(place);
            world.start_balancer(index, index > 0, None);
        }
        world.say(|world| format!("{:?}, {:?}", world.plan.weather, world.balance));
        world
    }

    /// What happens, until all is over.
    pub fn run(&mut self) -> Outcome {
        for station in 0..STATIONS {
            self.network.at(self.start, Event::Ask { station });
        }
        self.network.at(self.start + Duration::from_millis(100), Event::Arrival);
        self.network.at(self.start + Duration::from_secs(3), Event::Turn);
        self.network.at(self.start, Event::Audit);
        let end = self.start + ACTIVE + RECOVERY;
        loop {
            let balancers = self.balancers.iter().flatten();
            let due = balancers.filter_map(|b| b.deadline.map(|at| (at, b.index))).min();
            let next = self.network.next();
            match (due, next) {
                (Some((at, index)), _) if next.is_none_or(|next| at <= next) && at < end => {
                    self.pass(at);
                    self.wake_balancer(index)?;
                }
                (_, Some(at)) if at < end => {
                    self.pass(at);
                    if let Some(event) = self.network.pop() {
                        self.tally.events += 1;
                        self.happen(event)?;
                    }
                }
                _ => break,
            }
        }
        self.pass(end);
        self.conclude()
    }

    fn pass(&mut self, at: Instant) {
        self.now = self.now.max(at);
    }

    fn happen(&mut self, event: Event) -> Outcome {
        match event {
            Event::Frame { to: Place::Balancer(index), frame, about } => self.show(index, frame, about),
            Event::Frame { to: Place::Host(index), frame, about } => {
                self.hear_host(index, &frame, about);
                Ok(())
            }
            Event::Frame { to: Place::Station(index), frame, .. } => self.hear_station(index, &frame),
            Event::Told { to, datagram } => self.hear_of(to, &datagram),
            Event::Timer { conversation, round } => self.timer(conversation, round),
            Event::Ask { station } => {
                self.ask(station);
                Ok(())
            }
            Event::Arrival => {
                self.arrive();
                Ok(())
            }
            Event::Turn => self.turn(),
            Event::End(passing) => self.end(passing),
            Event::Audit => self.audit(),
        }
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn violation(&self, rule: char, what: impl Into<String>) -> Outcome {
        Err(Violation { at: self.elapsed(), rule, what: what.into() })
    }

    /// Writes something down, if anybody wants to read it.
    pub fn say(&mut self, what: impl FnOnce(&World) -> String) {
        if self.logs {
            let line = format!("{:10.6} {}", self.elapsed().as_secs_f64(), what(self));
            self.log.push(line);
        }
    }

    /// The balancer that has the VIPs, if one runs.
    pub fn active(&self) -> Option<usize> {
        self.balancers.iter().flatten().find(|b| !b.director.is_silent()).map(|b| b.index)
    }

    fn identity(&self, index: usize) -> Identity {
        let mac = Mac([2, 0, 0, 0, 0, 2 + index as u8]);
        let vip_mac = if self.plan.vip_mac { Mac([2, 0, 0, 0, 0, 0x64]) } else { mac };
        Identity { vip_mac, ..Identity::new(mac) }
    }

    /// Starts a balancer, with what a flow file has kept, if there is one.
    pub fn start_balancer(&mut self, index: usize, silent: bool, kept: Option<Kept>) {
        let own = 2 + index as u8;
        let segment = Segment {
            ipv4: vec![(std::net::Ipv4Addr::new(10, 0, 0, own), 24)],
            ipv6: vec![std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(own))],
            ..Segment::new(self.identity(index))
        };
        let shares = self.shares();
        let own = self.random.next();
        let key = if shares { sync::flow_key(self.plan.balance.seed) } else { (own, !own) };
        let nothing = Kept::nothing(self.plan.entries, key);
        let kept = match kept {
            // The same numbers and the same belief in it, but the flows are gone.
            Some(kept) if self.fault == Fault::LostMemory => Kept { memory: nothing.memory, ..kept },
            Some(kept) => kept,
            None => nothing,
        };
        let balance = Arc::new(self.balance.clone());
        self.balancers[index] = Some(Balancer::start(index, segment, &balance, (silent, shares), kept, self.now));
    }

    /// Is there a second balancer that is told of flows?
    fn shares(&self) -> bool {
        self.plan.shares && self.kind == Kind::Pair
    }

    /// A balancer has something to do.
    fn wake_balancer(&mut self, index: usize) -> Outcome {
        let now = self.now;
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        balancer.engine.advance(now);
        balancer.director.advance(now);
        self.settle(index, None)?;
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        let again = balancer.deadline.is_some_and(|deadline| deadline <= now);
        balancer.stalls = if again { balancer.stalls + 1 } else { 0 };
        if balancer.stalls > 100 {
            let (engine, director) = (balancer.engine.poll_timeout(), balancer.director.poll_timeout());
            let what = format!("balancer {index} is never done: engine {engine:?}, director {director:?}, now {now:?}");
            return self.violation('c', what);
        }
        Ok(())
    }

    /// A frame reaches a balancer.
    fn show(&mut self, index: usize, mut frame: Vec<u8>, about: About) -> Outcome {
        let now = self.now;
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        if let About::Client(sent) = about {
            frame.extend(sent.stamp.to_be_bytes());
        }
        let asker = packet::mac(&frame[6..12]);
        let before = balancer.counters.received.frames.get();
        balancer.engine.advance(now);
        let verdict = balancer.engine.handle_frame(&mut frame);
        if balancer.counters.received.frames.get() != before + 1 {
            return self.violation('d', "a frame was not counted once as received");
        }
        match (verdict, about) {
            (Verdict::Transmit, _) => self.leave(index, frame, asker, Some(about))?,
            (_, About::Client(sent)) => self.judge_refusal(index, sent, verdict)?,
            (Verdict::Drop(DropReason::Malformed), _) => return self.violation('e', "a frame was found malformed"),
            _ => {}
        }
        self.settle(index, Some((asker, about)))?;
        self.audit_frame(index)
    }

    /// Carries between engine, director and network what they have for each other.
    pub fn settle(&mut self, index: usize, shown: Option<(Mac, About)>) -> Outcome {
        let (now, fault) = (self.now, self.fault);
        loop {
            let Some(balancer) = self.balancers[index].as_mut() else {
                return Ok(());
            };
            let mut done = !balancer.install(fault, now);
            if let Some(name) = balancer.chooses_unseen(now) {
                return self.violation('g', format!("{name} has clients, and has not been heard of yet"));
            }
            while let Some(notice) = balancer.director.poll_notice() {
                balancer.note(&notice, now);
                if self.logs {
                    let line = format!("{:10.6} balancer {index}: {notice}", (now - self.start).as_secs_f64());
                    self.log.push(line);
                }
            }
            let mut own = Vec::new();
            while let Some(frame) = balancer.engine.poll_transmit() {
                own.push(frame);
            }
            let mut asked = Vec::new();
            while let Some(frame) = balancer.director.poll_transmit() {
                asked.push(frame);
            }
            while let Some(event) = balancer.engine.poll_event() {
                done = false;
                let forgiven = |host: &Host| host.link_since == self.start;
                if let (Fault::Grudge, Learnt::Answer { address, .. }) = (fault, &event)
                    && !self.hosts.iter().any(|host| host.address == *address && forgiven(host))
                {
                    continue;
                }
                balancer.director.handle_event(event, now);
            }
            done &= own.is_empty() && asked.is_empty();
            let asker = shown.map_or(Mac::default(), |(asker, _)| asker);
            for frame in own {
                self.leave(index, frame, asker, None)?;
            }
            for frame in asked {
                self.judge_own(index, &frame)?;
                self.network.send(Place::Balancer(index), &frame, About::Control, now);
            }
            if done {
                break;
            }
        }
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        balancer.schedule();
        // The code of what is told stays that of the start, whatever is reloaded.
        for datagram in balancer.tell(self.plan.balance.seed) {
            self.network.tell(1 - index, datagram, now);
        }
        Ok(())
    }

    /// A balancer is told of flows by the other, and has to remember them.
    fn hear_of(&mut self, index: usize, datagram: &[u8]) -> Outcome {
        let now = self.now;
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        balancer.engine.advance(now);
        let trusts = balancer.director.is_silent();
        let records = balancer.hear_of(self.plan.balance.seed, datagram);
        for conversation in &self.conversations[self.tags.len()..] {
            let Conversation { client, vip, protocol, .. } = *conversation;
            let (vip, vip_port) = (vip.ip(), vip.port());
            let flow = Flow { client: client.ip(), client_port: client.port(), vip, vip_port, protocol };
            self.tags.push(balancer.engine.flows().tag(&flow));
        }
        for (record, name) in records {
            let conversation = self.tags.iter().position(|tag| *tag == record.tag);
            let host = self.hosts.iter().position(|host| host.name == name);
            let Some((id, host)) = conversation.zip(host) else {
                continue;
            };
            if trusts || self.fresh(index, id).is_none() {
                let known = Known {
                    host,
                    last: now - record.idle,
                    packets: 2,
                    adopted: false,
                    finished: record.stage == Stage::Closing,
                    reset: record.stage == Stage::Reset,
                };
                self.tally.told += 1;
                if let Some(balancer) = self.balancers[index].as_mut() {
                    balancer.known.insert(id, known);
                }
            }
        }
        self.settle(index, None)
    }

    /// A frame leaves a balancer's engine: a client's on its way, or an answer to `asker`. `about` is what was shown, if
    /// it leaves at once.
    fn leave(&mut self, index: usize, mut frame: Vec<u8>, asker: Mac, about: Option<About>) -> Outcome {
        let now = self.now;
        let is_for_vip = packet::destination(&frame).is_some_and(|to| to == VIP4 || to == VIP6);
        if !is_for_vip {
            self.judge_silence(index, &frame)?;
            let to = packet::mac(&frame);
            let everybody = to.is_group() && matches!(packet::read(&frame), Some(packet::Heard::Advertisement { .. }));
            // One whose frame was held may hear later that nobody serves.
            let waits = |sent: &Sent| self.asker(sent) == to;
            let balancer = self.balancers[index].as_ref();
            let waited = || balancer.is_some_and(|balancer| balancer.held_frames.values().any(waits));
            if to != asker && !everybody && !waited() {
                return self.violation('e', format!("an answer goes to {to}, who has not asked"));
            }
            let balancer = self.balancers[index].as_ref().expect("a balancer that runs");
            let somebody = balancer.director.tables().backends().iter().any(|backend| backend.in_service);
            if somebody && matches!(packet::read(&frame), Some(packet::Heard::Packet(_))) {
                return self.violation('g', "a client is refused, but there are backends");
            }
            self.network.send(Place::Balancer(index), &frame, About::Reply, now);
            return Ok(());
        }
        let stamp = frame.split_off(frame.len() - STAMP);
        let stamp = u64::from_be_bytes(std::array::from_fn(|i| stamp[i]));
        let sent = match about {
            Some(About::Client(sent)) => sent,
            _ => self.released(index, stamp)?,
        };
        if sent.stamp != stamp {
            return self.violation('e', "a frame left in another's place");
        }
        self.corrupt(&mut frame, sent);
        self.judge_forward(index, sent, &frame)?;
        self.count(index, sent, &frame)?;
        // One client's frames are lost, all of them, once it has begun.
        let lost =
            self.fault == Fault::Swallowed && sent.conversation == 5 && self.now_and_then(1) && self.mischief > 3;
        if !lost {
            self.network.send(Place::Balancer(index), &frame, About::Client(sent), now);
        }
        if self.fault == Fault::Twice && self.now_and_then(200) {
            self.judge_forward(index, sent, &frame)?;
        }
        Ok(())
    }

    /// The station through which a client's frame came.
    fn asker(&self, sent: &Sent) -> Mac {
        let station = self.conversations.get(sent.conversation).map_or(0, |conversation| conversation.station);
        self.stations[station].mac
    }

    /// What was held, by its stamp.
    fn released(&mut self, index: usize, stamp: u64) -> Result<Sent, Violation> {
        let held = self.balancers[index].as_mut().and_then(|balancer| balancer.held_frames.remove(&stamp));
        match held {
            Some(sent) => Ok(sent),
            None => self.violation('e', "a frame left that had not been held").map(|()| Sent {
                conversation: 0,
                part: Part::Segment,
                fragment: None,
                stamp,
            }),
        }
    }

    fn corrupt(&mut self, frame: &mut [u8], sent: Sent) {
        let later = sent.fragment.is_some_and(|(_, first)| !first);
        if self.fault == Fault::Scattered && later && self.now_and_then(20) {
            let count = self.balance.backends.len();
            let other = self.hosts.iter().find(|host| {
                host.mac != packet::mac(frame) && self.balance.backends.iter().take(count).any(|b| b.name == host.name)
            });
            if let Some(mac) = other.map(|host| host.mac) {
                frame[..6].copy_from_slice(&mac.0);
            }
        }
        if self.fault == Fault::Astray && self.now_and_then(500) {
            frame[..6].copy_from_slice(&self.stations[0].mac.0);
        }
    }

    /// `true` each `n`th time.
    pub fn now_and_then(&mut self, n: u32) -> bool {
        self.mischief += 1;
        self.mischief.is_multiple_of(n)
    }
}

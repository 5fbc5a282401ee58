//! What the benchmarks show to the engine: the same kind of frame, from one client or from many.

use std::time::{Duration, Instant};

use pen_dsr::engine::{Engine, Station};
use pen_dsr::lb::flow::DEFAULT_ENTRIES;
use pen_dsr::verdict::Verdict;

use crate::golden::config::{self, ALL, OWN, VIP_MAC};
use crate::golden::frames::{Packet, ROUTER, Tags, padded, udp_datagram};

/// Frames per round: about what a ring holds.
const FRAMES: usize = 1024;
/// Flows that are more than there are shortcuts for.
const MANY: usize = 65536;

/// Frames that lie ready in memory, and what is to become of each.
pub struct Workload {
    /// What they are.
    pub name: &'static str,
    /// Does the client's port take part in the choice?
    pub with_port: bool,
    /// Shown once before all rounds.
    before: Vec<Vec<u8>>,
    /// Frames of a round.
    pub count: usize,
    /// Makes each of them.
    frame: Box<dyn Fn(usize) -> Vec<u8>>,
    /// What becomes of each of them.
    pub verdict: Verdict,
}

impl Workload {
    /// A round made by `frame`, of frames that are all forwarded.
    pub fn new(name: &'static str, frame: impl Fn(usize) -> Vec<u8> + 'static) -> Workload {
        Workload::of(FRAMES, name, frame)
    }

    /// The same, of so many frames.
    pub fn of(count: usize, name: &'static str, frame: impl Fn(usize) -> Vec<u8> + 'static) -> Workload {
        let frame = Box::new(frame);
        Workload { name, with_port: false, before: Vec::new(), count, frame, verdict: Verdict::Transmit }
    }

    /// The frames of a round, as they come from the wire.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        (0..self.count).map(&self.frame).collect()
    }

    /// An engine that knows the flows of these `frames`, established for longer than it takes until no other flow pushes
    /// them out; its time.
    pub fn engine(&self, frames: &[Vec<u8>]) -> (Engine, Instant) {
        self.engine_at(config::station(), frames)
    }

    /// The same, as `station`.
    pub fn engine_at(&self, station: Station, frames: &[Vec<u8>]) -> (Engine, Instant) {
        let mut now = Instant::now();
        let mut engine = config::engine_at(station, self.with_port, DEFAULT_ENTRIES, now);
        for frame in &self.before {
            engine.handle_frame(&mut frame.clone());
        }
        // A packet opens a flow, the next one moves it to the main table, one after two seconds proves it. Then it is given
        // a shortcut, sooner or later.
        for round in 0..32 {
            for frame in frames {
                engine.handle_frame(&mut frame.clone());
            }
            if round < 4 {
                now += Duration::from_secs(1);
                engine.advance(now);
            }
        }
        (engine, now)
    }
}

/// Puts the `frames` into `ring` as they came from the wire.
pub fn refill(ring: &mut [Vec<u8>], frames: &[Vec<u8>]) {
    for (place, frame) in ring.iter_mut().zip(frames) {
        place.copy_from_slice(frame);
    }
}

fn v4(client: usize) -> Packet {
    let client = format!("198.51.{}.{}", 100 + client / 250, 1 + client % 250);
    Packet::new(VIP_MAC, &client, ALL[0]).sent_by(ROUTER)
}

fn v6(client: usize) -> Packet {
    Packet::new(VIP_MAC, &format!("2001:db8::{:x}", client + 1), ALL[1]).sent_by(ROUTER)
}

fn port(flow: usize) -> u16 {
    1024 + flow as u16
}

/// All of them.
pub fn all() -> Vec<Workload> {
    let tcp4 = |client: usize, flow: usize| padded(v4(client).tcp(port(flow), 80, b""));
    let tcp6 = |client: usize| v6(client).tcp(40000, 80, b"");
    let vlan = |client: usize| padded(v4(client).tags(Tags::Customer(7)).tcp(40000, 80, b""));
    let qinq = |client: usize| v6(client).tags(Tags::QinQ(5, 7)).tcp(40000, 80, b"");
    let udp4 = |client: usize| padded(v4(client).udp(40000, 53, b""));
    let udp6 = |client: usize| v6(client).udp(40000, 53, b"");
    let part = |id: usize, first: bool| {
        let datagram = udp_datagram("198.51.100.1", ALL[0], (40000, 53), &[0x55; 64]);
        let (at, to) = if first { (0, 32) } else { (32, 64) };
        padded(v4(0).fragment(id as u16, at, first).protocol(17, &datagram[usize::from(at)..to]))
    };
    vec![
        Workload::new("TCP v4, 64 bytes, one flow", move |_| tcp4(0, 0)),
        Workload::new("TCP v4, 64 bytes, 1024 clients", move |n| tcp4(n, 0)),
        Workload {
            with_port: true,
            ..Workload::new("TCP v4, 64 bytes, 1024 ports of a client, -r", move |n| tcp4(0, n))
        },
        Workload::of(MANY, "TCP v4, 64 bytes, 65536 flows", move |n| tcp4(n / 64, n % 64)),
        Workload::new("TCP v6, 78 bytes, one flow", move |_| tcp6(0)),
        Workload::new("TCP v6, 78 bytes, 1024 clients", tcp6),
        Workload::new("TCP v4, 802.1Q, one flow", move |_| vlan(0)),
        Workload::new("TCP v4, 802.1Q, 1024 clients", vlan),
        Workload::new("TCP v6, QinQ, 1024 clients", qinq),
        Workload::new("UDP v4, 64 bytes, 1024 clients", udp4),
        Workload::new("UDP v6, 66 bytes, 1024 clients", udp6),
        Workload::new("UDP v4, first fragment, one datagram", move |_| part(1, true)),
        Workload::new("UDP v4, first fragments, 1024 datagrams", move |n| part(n, true)),
        Workload {
            before: vec![part(1, true)],
            ..Workload::new("UDP v4, later fragments, one datagram", move |_| part(1, false))
        },
        // As many as are surely remembered all: sets of the fragment table overflow at some hundreds.
        Workload {
            with_port: true,
            before: (0..128).map(move |n| part(n, true)).collect(),
            ..Workload::new("UDP v4, later fragments, 128 datagrams, -r", move |n| part(n % 128, false))
        },
        Workload::new("ping v4, answered", move |n| padded(v4(n).echo_request(1, n as u16, b""))),
        Workload {
            verdict: Verdict::Host,
            ..Workload::new("TCP v4 to the host's own address", move |_| {
                Packet::new(OWN, "198.51.100.1", "10.0.0.2").tcp(1, 22, b"")
            })
        },
    ]
}

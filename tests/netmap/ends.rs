//! The far end of what pen-dsr's ports are connected to: the client, the backends, by a netmap port of our own.

use std::time::{Duration, Instant};

use pen_dsr::port::netmap::NetmapPort;
use pen_dsr::port::netmap::device::{self, Device, Opening};
use pen_dsr::port::{Port, PortName, Waker};
use pen_dsr::verdict::{DropReason, Verdict};

use crate::frames::{self, MacBytes, Tags};
use crate::harness::PATIENCE;

/// Frames that are looked at at a time.
const BUDGET: usize = 256;

/// A netmap port, or one ring pair of it.
pub struct End {
    port: NetmapPort<Device>,
    _waker: Waker,
}

impl End {
    /// Opens the port called `name`, without the host's rings.
    pub fn open(name: &str) -> End {
        End::open_all(name, 1).remove(0)
    }

    /// Opens it as `workers` ports, each with ring pairs of its own, as far as there are.
    pub fn open_all(name: &str, workers: usize) -> Vec<End> {
        let front = name.parse::<PortName>().expect("a port's name").as_netmap();
        let ports = device::open(&Opening { front: &front, back: None, dedicated: true, workers });
        let ports = ports.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        ports.into_iter().map(|(port, waker)| End { port, _waker: waker }).collect()
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        assert!(self.put(frame), "there is room for one frame");
        self.flush();
    }

    /// Puts a frame beside others that are to be sent; whether there was room for it.
    pub fn put(&mut self, frame: &[u8]) -> bool {
        let before = self.port.tally().send_failed;
        self.port.send(frame).expect("the port is there");
        self.port.tally().send_failed == before
    }

    /// Sends what was put.
    pub fn flush(&mut self) {
        let read = self.port.drive(0, &mut |_, _: &mut [u8]| Verdict::Drop(DropReason::Probe));
        assert_eq!(read.expect("the port is there"), 0);
    }

    /// Shows `take` the frames that have come; how many these were.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        let received = self.port.drive(BUDGET, &mut |_, frame: &mut [u8]| {
            take(frame);
            Verdict::Drop(DropReason::Probe)
        });
        assert_eq!(self.port.tally().bad_slots, 0, "slots that make no sense");
        received.expect("the port is there")
    }

    /// Waits for a frame, no longer than this.
    pub fn wait(&mut self, patience: Duration) {
        self.port.wait(Some(Instant::now() + patience)).expect("the port is there");
    }

    /// Waits for a frame that `wanted` makes something of.
    pub fn expect<T>(&mut self, what: &str, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let mut found = None;
            self.receive(|frame| {
                if found.is_none() {
                    found = wanted(frame);
                }
            });
            if let Some(found) = found {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            self.wait(Duration::from_millis(20));
        }
    }

    /// Asks who has the address `vip`, again and again until that is answered; the MAC.
    pub fn resolve(&mut self, vip: &str) -> MacBytes {
        let question = frames::padded(arp_question(vip));
        let start = Instant::now();
        loop {
            self.send(&question);
            self.wait(Duration::from_millis(200));
            let mut answer = None;
            self.receive(|frame| {
                if let Some((2, sender_mac, sender, _)) = arp(frame)
                    && sender == octets(vip)
                {
                    answer = Some(sender_mac);
                }
            });
            if let Some(mac) = answer {
                return mac;
            }
            assert!(start.elapsed() < PATIENCE, "nobody answers for {vip}");
        }
    }

    /// Is a backend, with `mac` and `address`, until it has been asked who has that, and has answered.
    pub fn answer_for(&mut self, address: &str, mac: MacBytes) {
        let (asker, sender) = self.expect("pen-dsr to ask for its backend", |frame| match arp(frame) {
            Some((1, asker, sender, target)) if target == octets(address) => Some((asker, sender)),
            _ => None,
        });
        let sender = std::net::Ipv4Addr::from(sender).to_string();
        self.send(&frames::padded(frames::arp(asker, 2, (mac, address), (asker, &sender), Tags::None)));
    }
}

fn arp_question(target: &str) -> Vec<u8> {
    frames::arp(frames::BROADCAST, 1, (frames::CLIENT, "192.0.2.1"), ([0; 6], target), Tags::None)
}

fn octets(address: &str) -> [u8; 4] {
    address.parse::<std::net::Ipv4Addr>().expect("an IPv4 address").octets()
}

/// An ARP message: operation, the sender's MAC and address, whom it asks for.
fn arp(frame: &[u8]) -> Option<(u16, MacBytes, [u8; 4], [u8; 4])> {
    let message = frame.get(14..42).filter(|_| frame[12..14] == [8, 6])?;
    let operation = u16::from_be_bytes([message[6], message[7]]);
    Some((operation, *message[8..].first_chunk()?, *message[14..].first_chunk()?, *message[24..].first_chunk()?))
}

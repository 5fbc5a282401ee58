//! What holds for any frame whatever: the body of the property tests and of the fuzz target.
//!
//! A crate that uses this has the golden table as `crate::golden`.

#![allow(dead_code, unreachable_pub)] // Each crate uses a part.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use etherparse::{LaxNetSlice, LaxSlicedPacket};
use pen_dsr::engine::Engine;
use pen_dsr::verdict::{DropReason, Verdict};

use crate::golden::config::{self, BE1, BE2, BE3, OWN, VIP_MAC};

/// An engine that is watched: after each frame, everything that must hold is asserted.
pub struct Watched {
    engine: Engine,
    now: Instant,
    /// Frames of which the engine has taken a copy, as they came.
    held: Vec<Vec<u8>>,
}

impl Watched {
    /// An engine with the golden configuration; `with_port` takes the client's port into the hash.
    pub fn new(with_port: bool) -> Watched {
        let now = Instant::now();
        Watched { engine: config::engine(with_port, now), now, held: Vec::new() }
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.engine.advance(self.now);
        assert!(self.engine.poll_timeout().is_none_or(|until| until > self.now));
    }

    /// Shows `frame` to the engine. Returns its word, and all frames that left: the frame itself, if it did, first.
    pub fn show(&mut self, frame: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
        let answered = self.answered();
        let mut buffer = frame.to_vec();
        let verdict = self.engine.handle_frame(&mut buffer);
        let is_answer = self.answered() != answered;
        assert_eq!(buffer.len(), frame.len(), "a frame stays as long as it was");
        let mut left = Vec::new();
        match verdict {
            Verdict::Transmit if is_answer => assert_answer(frame, &buffer),
            Verdict::Transmit => assert_forward(frame, &buffer),
            Verdict::Host | Verdict::Drop(_) => {
                assert_eq!(buffer, frame, "what is not sent is not touched");
            }
        }
        match verdict {
            Verdict::Transmit => left.push(buffer),
            Verdict::Drop(DropReason::Held) => self.held.push(frame.to_vec()),
            _ => {}
        }
        if frame.len() >= 12 && frame[0] & 1 == 0 && !is_ours(&frame[..6]) {
            assert_eq!(verdict, Verdict::Host, "a frame to somebody else is the host's");
        }
        while let Some(own) = self.engine.poll_transmit() {
            self.assert_originated(&own);
            left.push(own.to_vec());
        }
        while self.engine.poll_event().is_some() {}
        self.assert_counters_add_up();
        (verdict, left)
    }

    fn answered(&self) -> u64 {
        let counters = self.engine.counters();
        counters.neighbor_answers.get() + counters.echo_answers.get()
    }

    /// An advertisement of a VIP, or a frame that was held, in its two MACs and a finished checksum another.
    fn assert_originated(&self, own: &[u8]) {
        if own[6..12] == VIP_MAC {
            let length = own.len() - own.iter().skip(12).position(|b| *b == 0x86).unwrap_or(0);
            assert!(length >= 14 + 40, "an advertisement is a whole packet");
            return;
        }
        assert_eq!(own[6..12], OWN);
        assert!(is_backend(&own[..6]));
        let differing =
            |held: &Vec<u8>| held.iter().zip(own).skip(12).filter(|(before, after)| before != after).count();
        assert!(
            self.held.iter().any(|held| held.len() == own.len() && differing(held) <= 2),
            "a released frame had been held"
        );
    }

    fn assert_counters_add_up(&self) {
        let counters = self.engine.counters();
        let (received, transmitted) = (&counters.received, &counters.transmitted);
        assert_eq!(
            received.frames.get(),
            transmitted.frames.get() + counters.host.frames.get() + counters.dropped_total(),
            "every frame is counted once"
        );
        let forwarded: u64 = counters.backends.iter().map(|backend| backend.frames.get()).sum();
        let for_vips: u64 = counters.vips.iter().map(|vip| vip.frames.get()).sum();
        assert_eq!(forwarded, for_vips);
        assert!(forwarded <= transmitted.frames.get() + counters.released.frames.get());
    }
}

fn is_ours(mac: &[u8]) -> bool {
    mac == OWN || mac == VIP_MAC
}

fn is_backend(mac: &[u8]) -> bool {
    [BE1, BE2, BE3].iter().any(|backend| mac == backend)
}

fn assert_forward(before: &[u8], after: &[u8]) {
    assert_eq!(after[12..], before[12..], "behind the two MACs nothing changes");
    assert!(is_backend(&after[..6]), "it goes to a backend");
    assert_eq!(after[6..12], OWN, "it comes from us");
    assert!(is_ours(&before[..6]), "it came to us");
    assert!(!is_ours(&before[6..12]), "it did not come from us");
    let destination = destination(before);
    assert!(destination.is_some_and(config::is_vip), "etherparse finds it to be for {destination:?}, no VIP");
}

fn assert_answer(before: &[u8], after: &[u8]) {
    assert!(is_ours(&after[6..12]), "an answer comes from us");
    assert_eq!(after[0] & 1, 0, "an answer goes to one station");
    assert!(!is_ours(&after[..6]), "an answer does not go to us");
    let tags = after.len().min(22);
    let is_arp = before[12..tags].windows(2).any(|word| word == [8, 6]);
    assert!(is_arp || destination(before).is_some_and(config::is_vip), "who asks for something else is not answered");
}

/// Whom etherparse takes an IP packet to be for.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    match LaxSlicedPacket::from_ethernet(frame).ok()?.net? {
        LaxNetSlice::Ipv4(ip) => Some(ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => Some(ip.header().destination_addr().into()),
        LaxNetSlice::Arp(_) => None,
    }
}

/// Runs what a fuzzer made up: a byte whose lowest bit says whether the client's port counts, then frames, each behind
/// its length (two bytes, big-endian; the last one may be cut). The second lowest bit lets time pass between them.
pub fn run(input: &[u8]) {
    let Some((&mode, mut rest)) = input.split_first() else {
        return;
    };
    let mut engine = Watched::new(mode & 1 != 0);
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (frame, behind) = behind.split_at(length);
        engine.show(frame);
        if mode & 2 != 0 {
            engine.wait(Duration::from_millis(700));
        }
        rest = behind;
    }
}

/// The input by which [`run`] shows `frames`.
pub fn input(mode: u8, frames: &[&[u8]]) -> Vec<u8> {
    let mut input = vec![mode];
    for frame in frames {
        let length = u16::try_from(frame.len()).expect("a frame below 64 KiB");
        input.extend(length.to_be_bytes());
        input.extend(*frame);
    }
    input
}

//! Numbered frames from many clients, and the account of where each has arrived.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::ends::End;
use crate::frames::{MacBytes, Packet};
use crate::harness::{PATIENCE, PEN_DSR, run};

/// The virtual addresses.
pub const VIP4: &str = "10.77.0.100";
pub const VIP6: &str = "fd77::100";
/// The backends, as pen-dsr is told of them.
pub const BACKENDS: [(&str, MacBytes); 3] = [
    ("10.77.0.11", [2, 0, 0, 0, 0x77, 0x11]),
    ("10.77.0.12", [2, 0, 0, 0, 0x77, 0x12]),
    ("10.77.0.13", [2, 0, 0, 0, 0x77, 0x13]),
];
/// Few, so that nobody waits for tables to be made.
const SLOTS: u32 = 2003;
const CLIENTS: usize = 1024;
/// Frames on their way at a time: half of what a ring has room for.
const WINDOW: usize = 512;

/// The words of the command line that say what is balanced, with the backends' MACs.
pub fn words() -> String {
    let backends = BACKENDS.map(|(name, mac)| format!("{name}@{}", show(mac)));
    format!("--table-size {SLOTS} {VIP4} --vip {VIP6} {}", backends.join(" "))
}

/// A MAC as text.
pub fn show(mac: MacBytes) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The MACs in the line that says by what the ports are driven: `NAME (MAC and MAC): by netmap, ...`.
pub fn macs(log: &str) -> Vec<MacBytes> {
    let line = log.lines().find(|line| line.contains(": by netmap, ")).unwrap_or_else(|| panic!("no MAC in {log}"));
    let (_, inside) = line.split(": by netmap").next().and_then(|head| head.rsplit_once('(')).expect("brackets");
    let parse = |text: &str| {
        let bytes: Vec<u8> = text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        MacBytes::try_from(bytes).unwrap_or_else(|_| panic!("no MAC: {text}"))
    };
    inside.trim_end_matches(')').split(" and ").map(parse).collect()
}

/// The frames of 1024 clients, one after the other: UDP and TCP in turn, a quarter of them IPv6, of all lengths.
pub struct Load {
    clients: Vec<Client>,
}

struct Client {
    address: String,
    /// Of UDP and of TCP, with the number 0.
    frames: [Vec<u8>; 2],
    backend: MacBytes,
}

/// What has become of a load.
#[derive(Debug, Default)]
pub struct Account {
    /// Frames that each backend got.
    pub by_backend: HashMap<MacBytes, usize>,
    /// Frames that are none of the load's.
    pub others: usize,
    /// Frames by the end that they arrived at.
    pub by_end: Vec<usize>,
}

impl Load {
    /// Frames for the balancer at `to` that is called with [`words`].
    pub fn new(to: MacBytes) -> Load {
        let address = |n: usize| match n % 4 {
            3 => format!("fd77::{:x}", 0x1000 + n),
            _ => format!("10.78.{}.{}", n / 200, 1 + n % 200),
        };
        let addresses: Vec<String> = (0..CLIENTS).map(address).collect();
        let chosen = explain(&addresses);
        let client = |(n, (address, backend)): (usize, (String, MacBytes))| {
            let vip = if n % 4 == 3 { VIP6 } else { VIP4 };
            let packet = || Packet::new(to, &address, vip);
            // The number is at the end, and what it adds to the checksum is taken off again by its complement.
            let mut payload = vec![0x5a; 20 + 2 * (n * 37 % 690)];
            payload.extend([0; 4]);
            payload.extend([0xff; 4]);
            let port = 20_000 + n as u16;
            let frames = [packet().udp(port, 53, &payload), packet().tcp(port, 80, &payload)];
            Client { frames, address, backend }
        };
        Load { clients: addresses.into_iter().zip(chosen).enumerate().map(client).collect() }
    }

    /// Number `n`, as it is sent.
    pub fn frame(&self, n: u32) -> Vec<u8> {
        let client = &self.clients[n as usize % CLIENTS];
        let mut frame = client.frames[n as usize / CLIENTS % 2].clone();
        let at = frame.len() - 8;
        frame[at..at + 4].copy_from_slice(&n.to_be_bytes());
        frame[at + 4..].copy_from_slice(&(!n).to_be_bytes());
        frame
    }

    /// Sends `count` frames by the ends `from`, in turn, and reads what comes at the ends `to`, with never more than a
    /// window under way: so all have to arrive. Each has to come once, unchanged but for its MACs, which are those of
    /// its client's backend and of `sender`.
    pub fn carry(&self, ends: &mut [End], (from, to): (&[usize], &[usize]), sender: MacBytes, count: u32) -> Account {
        let mut account = Account { by_end: vec![0; ends.len()], ..Account::default() };
        let mut seen = vec![false; count as usize];
        let (mut sent, mut arrived) = (0, 0);
        let mut progress = Instant::now();
        while arrived < count {
            while sent < count && sent - arrived < WINDOW as u32 {
                if !ends[from[sent as usize % from.len()]].put(&self.frame(sent)) {
                    break;
                }
                sent += 1;
            }
            from.iter().for_each(|&place| ends[place].flush());
            let before = arrived;
            for &place in to {
                ends[place].receive(|frame| {
                    let Some(n) = number(frame).filter(|&n| n < count) else {
                        account.others += 1;
                        return;
                    };
                    self.examine(n, frame, sender);
                    assert!(!std::mem::replace(&mut seen[n as usize], true), "frame {n} has come twice");
                    *account.by_backend.entry(*frame.first_chunk().expect("a MAC")).or_default() += 1;
                    account.by_end[place] += 1;
                    arrived += 1;
                });
            }
            if arrived > before {
                progress = Instant::now();
            } else {
                ends[to[0]].wait(Duration::from_millis(if to.len() > 1 { 1 } else { 20 }));
            }
            if progress.elapsed() > PATIENCE {
                let missing: Vec<usize> = (0..sent as usize).filter(|&n| !seen[n]).take(20).collect();
                panic!("{arrived} of {sent} frames have arrived; missing are {missing:?}...");
            }
        }
        account
    }

    fn examine(&self, n: u32, frame: &[u8], sender: MacBytes) {
        let client = &self.clients[n as usize % CLIENTS];
        let expected = self.frame(n);
        assert!(frame[12..] == expected[12..], "frame {n} was changed:\n{frame:02x?}\n{expected:02x?}");
        assert_eq!(
            (show(*frame.first_chunk().expect("a MAC")), show(*frame[6..].first_chunk().expect("a MAC"))),
            (show(client.backend), show(sender)),
            "frame {n}, of client {}: to its backend, from the balancer",
            client.address
        );
    }
}

/// The number that a frame of a load has.
pub fn number(frame: &[u8]) -> Option<u32> {
    let (rest, end) = frame.split_last_chunk::<8>()?;
    let [a, b] = [u32::from_be_bytes(*end.first_chunk()?), u32::from_be_bytes(*end.last_chunk()?)];
    (a == !b && rest.len() >= 34).then_some(a)
}

/// The backends of these clients, by `pen-dsr explain`.
fn explain(clients: &[String]) -> Vec<MacBytes> {
    let answer = run(Command::new(PEN_DSR).args(words().split_whitespace()).arg("explain").args(clients));
    let backends: HashMap<&str, MacBytes> = BACKENDS.into_iter().collect();
    let backend = |line: &str| {
        let name = line.split_whitespace().nth(2).expect("CLIENT -> BACKEND");
        // A backend is called as it was written.
        backends[name.split('@').next().unwrap_or(name)]
    };
    let chosen: Vec<MacBytes> = answer.lines().map(backend).collect();
    assert_eq!(chosen.len(), clients.len(), "{answer}");
    chosen
}

//! From what was registered with the kernel to the parts of each worker's port.

use std::io;
use std::sync::Arc;

use netmap_sys::RingKind;

use super::host::{Inlet, Outlet, relay};
use super::outgoing::Transmit;
use super::ring::{Region, Ring, counts};
use crate::port::{Arm, Waker};
use crate::wire::ether::Mac;

/// What one worker's port is made of.
pub struct Parts<K> {
    /// The registrations, which the rings name by their place here.
    pub kernels: Vec<K>,
    /// What is read.
    pub receive: Vec<Receive>,
    /// What is sent to, which the others name by their place here.
    pub transmit: Vec<Transmit>,
    /// The host's own frames.
    pub from_host: Vec<FromHost>,
    /// The MAC of the second arm, if there is one.
    pub back: Option<Mac>,
    /// Frames for the host from workers that have no host rings, and the tx ring for them.
    pub inlets: Vec<(Inlet, usize)>,
}

/// An rx ring of a NIC.
pub struct Receive {
    /// The ring.
    pub ring: Ring,
    /// The arm that it is on.
    pub arm: Arm,
    /// The tx rings towards the front and the back; the same one where there is one arm only.
    pub out: [usize; 2],
    /// Where frames for the host go.
    pub host: Outlet,
    /// May frames come with unfinished checksums?
    pub finish: bool,
}

/// An rx ring with frames of the host's own stack.
pub struct FromHost {
    /// The ring.
    pub ring: Ring,
    /// The tx ring of its NIC.
    pub out: usize,
}

/// What one descriptor of `/dev/netmap` is bound to.
pub struct Registration<K> {
    /// To ask the kernel for something.
    pub kernel: K,
    /// The memory that it shares.
    pub region: Arc<dyn Region>,
    /// Where in that its `netmap_if` is, bytes.
    pub offset: u64,
    /// Which rings were registered.
    pub rings: Rings,
}

/// The rings of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rings {
    /// All of the NIC.
    Nic,
    /// All of the NIC, and the host's.
    NicAndHost,
    /// One pair of the NIC's.
    Pair(u16),
    /// The host's.
    Host,
}

/// One port that the workers share.
pub struct Side<K> {
    /// Its registrations.
    pub registrations: Vec<Registration<K>>,
    /// May frames come with unfinished checksums?
    pub finish: bool,
}

/// Deals the rings of the port `front`, and of the second arm with its MAC, to as many workers as there are `wakers`.
///
/// # Errors
/// What the kernel has laid out contradicts itself.
pub fn deal<K>(front: Side<K>, back: Option<(Side<K>, Mac)>, wakers: &[Waker]) -> io::Result<Vec<Parts<K>>> {
    let (back, back_mac) = back.map_or((None, None), |(side, mac)| (Some(side), Some(mac)));
    let mut hands: Vec<Hand<K>> = wakers.iter().map(|_| Hand::new(back_mac)).collect();
    for (arm, side) in [(Arm::Front, Some(front)), (Arm::Back, back)] {
        if let Some(side) = side {
            deal_side(side, arm, &mut hands, wakers)?;
        }
    }
    Ok(hands.into_iter().map(Hand::finish).collect())
}

fn deal_side<K>(side: Side<K>, arm: Arm, hands: &mut [Hand<K>], wakers: &[Waker]) -> io::Result<()> {
    let workers = hands.len();
    let mut lane = 0;
    // The host's first, so that it is known how the others reach it.
    let (host, lanes): (Vec<_>, Vec<_>) = side.registrations.into_iter().partition(|r| r.rings == Rings::Host);
    let mut host_out = None;
    for registration in host {
        host_out = hands[0].take_host(registration, arm)?;
    }
    let relay = host_out.filter(|_| workers > 1).map(|out| {
        let (relay, inlet) = relay(wakers[0].clone());
        hands[0].parts.inlets.push((inlet, out));
        relay
    });
    for registration in lanes {
        let worker = lane % workers;
        lane += 1;
        let outlet = match (worker, host_out, &relay) {
            (0, Some(out), _) => Outlet::Ring(out),
            (_, _, Some(relay)) => Outlet::Relay(relay.clone()),
            _ => Outlet::Closed,
        };
        hands[worker].take_nic(registration, arm, side.finish, outlet)?;
    }
    Ok(())
}

/// What a worker has been dealt so far.
struct Hand<K> {
    parts: Parts<K>,
    /// Tx rings of the NIC, by arm.
    nic: [Vec<usize>; 2],
    /// The arms of `parts.from_host`.
    host_arms: Vec<Arm>,
}

impl<K> Hand<K> {
    fn new(back: Option<Mac>) -> Hand<K> {
        let parts = Parts {
            kernels: Vec::new(),
            receive: Vec::new(),
            transmit: Vec::new(),
            from_host: Vec::new(),
            back,
            inlets: Vec::new(),
        };
        Hand { parts, nic: Default::default(), host_arms: Vec::new() }
    }

    fn take_nic(&mut self, from: Registration<K>, arm: Arm, finish: bool, mut host: Outlet) -> io::Result<()> {
        let Registration { kernel, region, offset, rings } = from;
        let counts = counts(&region, offset)?;
        let number = self.parts.kernels.len();
        self.parts.kernels.push(kernel);
        // A pair beyond the fewer of the two shares their first, as the kernel has it.
        let within = |ring: u16, count: u32| if u32::from(ring) < count { u32::from(ring) } else { 0 };
        let (tx, rx) = match rings {
            Rings::Pair(ring) => (vec![within(ring, counts.nic_tx)], vec![within(ring, counts.nic_rx)]),
            _ => ((0..counts.nic_tx).collect(), (0..counts.nic_rx).collect()),
        };
        if rings == Rings::NicAndHost
            && let Some(out) = self.add_host(&region, offset, number, arm)?
        {
            host = Outlet::Ring(out);
        }
        for ring in tx {
            let out = self.add_transmit(Ring::find(&region, offset, RingKind::NicTx, ring)?, number);
            self.nic[arm as usize].push(out);
        }
        for ring in rx {
            let ring = Ring::find(&region, offset, RingKind::NicRx, ring)?;
            self.parts.receive.push(Receive { ring, arm, out: [0; 2], host: host.clone(), finish });
        }
        Ok(())
    }

    /// Returns the tx ring towards the host.
    fn take_host(&mut self, from: Registration<K>, arm: Arm) -> io::Result<Option<usize>> {
        let number = self.parts.kernels.len();
        self.parts.kernels.push(from.kernel);
        self.add_host(&from.region, from.offset, number, arm)
    }

    fn add_host(
        &mut self,
        region: &Arc<dyn Region>,
        offset: u64,
        kernel: usize,
        arm: Arm,
    ) -> io::Result<Option<usize>> {
        let counts = counts(region, offset)?;
        for ring in 0..counts.host_rx {
            let ring = Ring::find(region, offset, RingKind::HostRx, ring)?;
            self.parts.from_host.push(FromHost { ring, out: 0 });
            self.host_arms.push(arm);
        }
        if counts.host_tx == 0 {
            return Ok(None);
        }
        let ring = Ring::find(region, offset, RingKind::HostTx, 0)?;
        Ok(Some(self.add_transmit(ring, kernel)))
    }

    fn add_transmit(&mut self, ring: Ring, kernel: usize) -> usize {
        self.parts.transmit.push(Transmit::new(ring, kernel));
        self.parts.transmit.len() - 1
    }

    /// Every rx ring gets its tx rings: its own pair's on its own arm, one of the others on the other.
    fn finish(mut self) -> Parts<K> {
        let mut seen = [0; 2];
        for rx in &mut self.parts.receive {
            let place = &mut seen[rx.arm as usize];
            let pick = |arm: usize, or: usize| {
                let rings = &self.nic[if self.nic[arm].is_empty() { or } else { arm }];
                rings.get(*place % rings.len().max(1)).copied().unwrap_or(usize::MAX)
            };
            rx.out = [pick(0, 1), pick(1, 0)];
            *place += 1;
        }
        for (host, arm) in self.parts.from_host.iter_mut().zip(self.host_arms) {
            host.out = self.nic[arm as usize].first().copied().unwrap_or(usize::MAX);
        }
        self.parts
    }
}

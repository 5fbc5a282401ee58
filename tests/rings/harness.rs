//! A balancer on NICs in memory.

use std::time::Instant;

use pen_dsr::engine::{Engine, Station};
use pen_dsr::port::netmap::NetmapPort;
use pen_dsr::port::netmap::model::{ModelKernel, Nic, Shape};
use pen_dsr::port::netmap::parts::{Side, deal};
use pen_dsr::port::{Port, Waker, waker};
use pen_dsr::wire::ether::Mac;

use crate::golden::config;
use crate::golden::frames::Packet;

/// A client's address.
pub const CLIENT: &str = "192.0.2.7";
/// Our MAC where the backends are, with two arms.
pub const BACK: [u8; 6] = [2, 0, 0, 0, 0, 3];

/// NICs, ports on them, and an engine for each.
pub struct Bench {
    pub front: Nic,
    pub back: Option<Nic>,
    pub ports: Vec<NetmapPort<ModelKernel>>,
    pub engines: Vec<Engine>,
    pub wakers: Vec<Waker>,
}

impl Bench {
    pub fn one_arm(shape: Shape) -> Bench {
        Bench::one_port(&Nic::new(shape))
    }

    pub fn one_port(nic: &Nic) -> Bench {
        Bench::new(nic, nic.side(false), None, 1)
    }

    pub fn finishing() -> Bench {
        let nic = Nic::new(Shape { pairs: 1, host: true, slots: 16 });
        Bench::new(&nic, nic.side(true), None, 1)
    }

    pub fn two_arms(front: &Nic, back: &Nic) -> Bench {
        Bench::new(front, front.side(false), Some(back), 1)
    }

    pub fn workers(nic: &Nic, workers: usize) -> Bench {
        Bench::new(nic, nic.pairs(false), None, workers)
    }

    fn new(front: &Nic, side: Side<ModelKernel>, back: Option<&Nic>, workers: usize) -> Bench {
        let (wakers, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| waker().expect("a socket pair")).unzip();
        let second = back.map(|nic| (nic.side(false), Mac(BACK)));
        let parts = deal(side, second, &wakers).expect("the model is sound");
        let ports = parts.into_iter().zip(receivers).map(|(parts, wake)| NetmapPort::new(parts, wake).expect("a port"));
        let station = match back {
            Some(_) => Station { back: Mac(BACK), ..config::station() },
            None => config::station(),
        };
        let engines = (0..workers).map(|_| config::engine_at(station, false, 1024, Instant::now())).collect();
        Bench { front: front.clone(), back: back.cloned(), ports: ports.collect(), engines, wakers }
    }

    pub fn back(&self) -> &Nic {
        self.back.as_ref().expect("two arms")
    }

    /// Drives every worker once, as it does it itself; returns how many frames there were.
    pub fn drive(&mut self) -> usize {
        let mut frames = 0;
        for (port, engine) in self.ports.iter_mut().zip(&mut self.engines) {
            let driven = port.drive(64, &mut |arm, frame: &mut [u8]| engine.handle_frame_from(arm, frame));
            frames += driven.expect("the model does not fail");
            while let Some(own) = engine.poll_transmit() {
                port.send(&own).expect("the model does not fail");
            }
            port.wait(Some(Instant::now())).expect("the model does not fail");
        }
        frames
    }

    /// `frame` as a backend is to get it: whichever, it is always the same for the same client.
    pub fn as_forwarded(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        self.engines[0].handle_frame(&mut frame);
        frame
    }

    /// No rule was broken, and no buffer is lost.
    pub fn check(&self) {
        for nic in std::iter::once(&self.front).chain(&self.back) {
            assert_eq!(nic.violations(), Vec::<String>::new());
            assert_eq!(nic.reinits(), 0);
            nic.memory().audit().expect("every buffer in one slot");
        }
    }
}

/// A client's first packet to a VIP.
pub fn syn_to(vip: &str) -> Vec<u8> {
    Packet::new(config::OWN, CLIENT, vip).syn(1000, 80)
}

/// Is the frame to one of the backends?
pub fn forwarded(frame: &[u8]) -> bool {
    [config::BE1, config::BE2, config::BE3].iter().any(|mac| frame.starts_with(mac))
}

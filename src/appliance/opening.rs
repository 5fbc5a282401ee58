//! Opening the interfaces: by which driver, and with what around it.

use std::io;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::surroundings::{Surroundings, wanted};
use super::{Appliance, Ground};
use crate::config::{Config, Driven, Driver};
use crate::failure::{Failure, Sysexit};
use crate::lb::flow::Elsewhere;
use crate::os::{self, FilterControl, Interface, MacFilter, Purpose, Setup, Wanted};
use crate::port::netmap::NetmapPort;
use crate::port::netmap::device::{self, Device, Opening};
use crate::port::packet::PacketPort;
use crate::port::ring::{self, RingPort};
use crate::port::{PortName, Waker, waker};
use crate::wire::ether::Mac;

/// How long an interface that had a link may take to get it back: drivers start it anew for netmap.
const LINK_PATIENCE: Duration = Duration::from_secs(8);

/// How the interfaces are driven, once that is settled.
#[derive(Default)]
pub(super) struct Drives {
    pub(super) driven: Option<Driven>,
    /// The interfaces as netmap needs them, until this goes.
    pub(super) setups: Vec<Setup>,
}

/// What has to be opened while still privileged.
pub(super) struct Prepared {
    pub(super) lines: Vec<Line>,
    pub(super) surroundings: Surroundings,
}

/// What one worker works on.
pub(super) struct Line {
    pub(super) port: AnyPort,
    pub(super) waker: Waker,
    /// Where its flows are kept, too.
    pub(super) elsewhere: Option<Box<dyn Elsewhere>>,
}

/// A port of either kind.
pub(super) enum AnyPort {
    Netmap(Box<NetmapPort<Device>>),
    Packet(PacketPort),
    Ring(Box<RingPort>),
    /// Of a test: one that panics at its first frame, or one that never has any.
    #[cfg(test)]
    Test {
        panics: bool,
    },
}

impl Appliance {
    /// Opens the interfaces.
    pub(super) fn open(&mut self) -> Result<Prepared, Failure> {
        warn_of_own_vips(&self.config, &self.ground);
        match self.drives.driven {
            // What could be had at the start may not be any more.
            Some(Driven::Xdp) if self.config.process.driver == Driver::Auto => self.choose(),
            Some(driven) => self.open_by(driven),
            None => self.choose(),
        }
    }

    /// The first time: by what is said, else by the best that can be had.
    fn choose(&mut self) -> Result<Prepared, Failure> {
        let process = &self.config.process;
        let mut candidates = process.candidates(process.port()?);
        if process.out.is_some() {
            // Two arms are netmap's.
            candidates = &[Driven::Netmap];
        }
        let name = self.ground.name();
        let mut better = Vec::new();
        loop {
            let Some((&driven, others)) = candidates.split_first() else {
                return Err(Failure::usage(format!("{name}: nothing drives it on this system")));
            };
            match self.open_by(driven) {
                Ok(prepared) => {
                    self.drives.driven = Some(driven);
                    self.say_driven(driven, &better);
                    return Ok(prepared);
                }
                Err(failure) if others.is_empty() => {
                    self.drives.setups.clear();
                    return Err(failure);
                }
                Err(failure) => {
                    self.drives.setups.clear();
                    better.push((driven, failure));
                }
            }
            candidates = others;
        }
    }

    /// Says by what the interface is driven, and for each that would be better why it is not.
    fn say_driven(&self, driven: Driven, better: &[(Driven, Failure)]) {
        let name = self.ground.name();
        for (other, failure) in better {
            if *other == Driven::Netmap {
                warn!("NOT BY NETMAP: {failure}");
                warn!(
                    "{name}: by packet sockets (bpf) instead, which is many times slower; --driver netmap insists, --driver packet says that this is meant"
                );
            } else {
                warn!("{name}: not by {other}, which would be faster: {failure}");
            }
        }
        debug!("{name}: driven by {driven}");
    }

    fn open_by(&mut self, driven: Driven) -> Result<Prepared, Failure> {
        match driven {
            Driven::Netmap => self.open_netmap(),
            Driven::Xdp => self.open_xdp(),
            Driven::Ring | Driven::Packet if os::has_program(self.ground.front.index) => Err(self.forgotten_program()),
            Driven::Ring => self.open_ring(self.ring_workers()),
            Driven::Packet => self.open_packet(),
        }
    }

    /// A program of an earlier process decides about frames by tables that nobody changes any more.
    fn forgotten_program(&self) -> Failure {
        let name = &self.ground.front.name;
        Failure::new(
            Sysexit::Config,
            format!(
                "{name}: a program of pen-dsr is at work there, which another process has left, or still has: take it over with its --xdp-pin and --flow-file, or remove the folder that it is pinned in (bpftool net shows it)"
            ),
        )
    }

    pub(super) fn open_packet(&mut self) -> Result<Prepared, Failure> {
        let interface = &self.ground.front;
        let name = &interface.name;
        let wanted = wanted(self.director.tables());
        let (waker, receiver) = waker().map_err(|e| Failure::new(Sysexit::OsErr, format!("no socket pair: {e}")))?;
        let port = PacketPort::open(interface, &wanted, receiver).map_err(|e| open_failure(name, &e))?;
        let filters = port.filters().map_err(|e| open_failure(name, &e))?;
        let surroundings = self.around_sockets(wanted, filters)?;
        Ok(Prepared { lines: vec![Line { port: AnyPort::Packet(port), waker, elsewhere: None }], surroundings })
    }

    /// By mapped rings that share the interface, one for each of `workers`.
    pub(super) fn open_ring(&self, workers: usize) -> Result<Prepared, Failure> {
        let interface = &self.ground.front;
        let name = &interface.name;
        let wanted = wanted(self.director.tables());
        let wakes = (0..workers).map(|_| waker()).collect::<io::Result<Vec<_>>>();
        let wakes = wakes.map_err(|e| Failure::new(Sysexit::OsErr, format!("no socket pair: {e}")))?;
        let (wakers, receivers): (Vec<_>, Vec<_>) = wakes.into_iter().unzip();
        let (ports, filters) = ring::open(interface, &wanted, receivers).map_err(|e| open_failure(name, &e))?;
        for (number, port) in ports.iter().enumerate() {
            if let Some(why) = port.slow() {
                info!(
                    "{name}: worker {number} sends small frames by packet sockets, too, not by AF_XDP, which is faster: {why}"
                );
            }
        }
        let ports = ports.into_iter().zip(wakers);
        let lines: Vec<Line> =
            ports.map(|(port, waker)| Line { port: AnyPort::Ring(Box::new(port)), waker, elsewhere: None }).collect();
        let surroundings = self.around_sockets(wanted, filters)?;
        let plural = if lines.len() == 1 { "" } else { "s" };
        info!("{name} ({}): by mapped rings, {} worker{plural}", self.ground.macs(), lines.len());
        Ok(Prepared { lines, surroundings })
    }

    /// As many as there are processors listed, else queues that the interface receives by, but not more than processors.
    fn ring_workers(&self) -> usize {
        match self.config.process.cpus.0.len() {
            0 => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                os::receive_queues(&self.ground.front.name).clamp(1, processors)
            }
            cpus => cpus,
        }
    }

    /// What goes with packet sockets.
    fn around_sockets(&self, wanted: Wanted, filters: FilterControl) -> Result<Surroundings, Failure> {
        let interface = &self.ground.front;
        let vips = self.config.balance.vips.clone();
        let joined = self.join(&wanted, self.extra_mac());
        let memberships = joined.map_err(|e| open_failure(&interface.name, &e))?;
        let ingress = self.keep_from_host(interface, &wanted);
        Ok(Surroundings { wanted, vips, filters: Some(filters), memberships, ingress, kernel: None })
    }

    fn open_netmap(&mut self) -> Result<Prepared, Failure> {
        let running = self.ground.is_running();
        let front = self.config.process.port()?.as_netmap();
        // Before an interface is touched in vain.
        device::check(&front)?;
        self.set_up()?;
        let process = &self.config.process;
        let back = process.out.as_ref().map(PortName::as_netmap);
        let back_mac = self.ground.backends().mac;
        let opening = Opening {
            front: &front,
            back: back.as_ref().map(|name| (name, back_mac)),
            dedicated: process.dedicated,
            workers: match process.cpus.0.len() {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                cpus => cpus,
            },
        };
        let ports = device::open(&opening)?;
        let wanted = wanted(self.director.tables());
        // What the host's stack gets is what it is given: no filter is needed, no frame has to be kept from it.
        let memberships = self.join(&wanted, None).unwrap_or_else(|e| {
            warn!(
                "{}: IPv6 groups cannot be joined: {e}: a NIC that filters keeps questions for the VIPs away",
                self.ground.name()
            );
            Vec::new()
        });
        let vips = self.config.balance.vips.clone();
        let surroundings = Surroundings { wanted, vips, filters: None, memberships, ingress: None, kernel: None };
        let lines: Vec<Line> = ports
            .into_iter()
            .map(|(port, waker)| Line { port: AnyPort::Netmap(Box::new(port)), waker, elsewhere: None })
            .collect();
        if let Some(unused) = self.config.process.cpus.0.get(lines.len()..).filter(|unused| !unused.is_empty()) {
            let unused: Vec<String> = unused.iter().map(ToString::to_string).collect();
            warn!("{}: too few ring pairs for all of --cpus: {} stay unused", self.ground.name(), unused.join(", "));
        }
        if running {
            self.await_link();
        }
        info!(
            "{} ({}): by netmap, {} worker{}{}",
            self.ground.name(),
            self.ground.macs(),
            lines.len(),
            if lines.len() == 1 { "" } else { "s" },
            if self.config.process.dedicated { ", the host's stack left without it" } else { "" }
        );
        Ok(Prepared { lines, surroundings })
    }

    /// Makes the interfaces fit for netmap, or says what would.
    fn set_up(&mut self) -> Result<(), Failure> {
        let process = &self.config.process;
        if process.no_ifconfig {
            return self.check_as_it_is();
        }
        let names: Vec<String> = process.each_port().filter_map(PortName::interface).map(str::to_owned).collect();
        if !self.drives.setups.is_empty() {
            for (setup, name) in self.drives.setups.iter_mut().zip(&names) {
                setup.renew().map_err(|e| set_up_failure(name, &e))?;
            }
            return Ok(());
        }
        let filter = if self.extra_mac().is_some() { MacFilter::Promiscuous } else { MacFilter::Own };
        for name in &names {
            let own = if *name == self.ground.front.name { filter } else { MacFilter::Own };
            let setup = Setup::apply(name, own).map_err(|e| set_up_failure(name, &e))?;
            let (off, on) = (setup.switched_off(), setup.left_on());
            if !off.is_empty() {
                info!("{name}: for netmap switched off until the end: {}", off.join(", "));
            }
            if !on.is_empty() {
                warn!(
                    "{name}: its driver does not let go of {}, which netmap cannot carry; unfinished checksums are finished here",
                    on.join(", ")
                );
            }
            if setup.brought_up() {
                info!("{name}: brought up");
            }
            self.drives.setups.push(setup);
        }
        Ok(())
    }

    /// Are the interfaces fit for netmap as somebody else has set them up?
    fn check_as_it_is(&self) -> Result<(), Failure> {
        let unfit = |message: String| Err(Failure::new(Sysexit::Config, message));
        for interface in self.ground.all().filter(|interface| interface.index != 0) {
            let name = &interface.name;
            let is_front = interface.mac == self.ground.front.mac;
            let promiscuous = self.extra_mac().is_none() || !is_front || interface.is_promiscuous();
            if !interface.is_up() || !promiscuous {
                return unfit(format!(
                    "{name}: it has to be {}: {}, or leave --no-ifconfig out",
                    if promiscuous { "up" } else { "up, and promiscuous for the VIPs' own MAC" },
                    os::up_remedy(name, !promiscuous),
                ));
            }
            if let Some(on) = os::active_offloads(name, Purpose::Netmap).map_err(|e| set_up_failure(name, &e))? {
                return unfit(format!(
                    "{name}: netmap cannot carry {}: switch that off with {:?}, or leave --no-ifconfig out",
                    on.names.join(", "),
                    on.remedy
                ));
            }
        }
        Ok(())
    }

    /// The MAC that the VIPs are announced with, if that is another than the interface's.
    pub(super) fn extra_mac(&self) -> Option<Mac> {
        self.config.process.vip_mac.filter(|&mac| mac != self.ground.front.mac)
    }

    /// Are the interfaces driven by netmap?
    pub(super) fn is_by_netmap(&self) -> bool {
        self.drives.driven == Some(Driven::Netmap)
    }

    /// What somebody has changed on the interfaces, though they were set up for netmap: offloads that are on again.
    pub(super) fn disturbance(&self) -> Option<String> {
        self.drives.setups.iter().find_map(|setup| {
            let what = setup.disturbed().ok().filter(|what| !what.is_empty())?;
            // Who has taken it down on purpose is not contradicted.
            if what.contains(&"down") { None } else { Some(what.join(", ")) }
        })
    }

    /// Waits a while for the links that were there before, and looks at the interfaces anew.
    fn await_link(&mut self) {
        let until = Instant::now() + LINK_PATIENCE;
        loop {
            match Ground::find(&self.config.process) {
                Ok(ground) if ground.is_same(&self.ground) => self.ground = ground,
                _ => return,
            }
            if self.ground.is_running() || Instant::now() >= until {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Warns of VIPs that this host itself has on the interfaces.
pub(super) fn warn_of_own_vips(config: &Config, ground: &Ground) {
    for vip in config.balance.vip_addresses() {
        if let Some(Interface { name, .. }) = ground.owner(vip) {
            warn!(
                "{name} itself has the virtual address {vip}: clients of this host's own services there will not reach them"
            );
        }
    }
}

/// An interface could not be set up for netmap: why, and what to do.
fn set_up_failure(name: &str, e: &io::Error) -> Failure {
    let code = match e.kind() {
        io::ErrorKind::PermissionDenied => Sysexit::NoPerm,
        // Another one has set it up; what to do is said.
        io::ErrorKind::ResourceBusy => return Failure::new(Sysexit::Unavailable, format!("{name}: {e}")),
        _ => Sysexit::OsErr,
    };
    Failure::new(
        code,
        format!(
            "{name}: cannot be set up for netmap: {e}: run this as root, or set it up before and say --no-ifconfig"
        ),
    )
}

/// The port could not be opened: why, and what to do.
fn open_failure(interface: &str, e: &io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::new(Sysexit::NoPerm, format!("{interface}: {e}: {}", os::PERMISSION_REMEDY))
        }
        _ => Failure::new(Sysexit::Unavailable, format!("{interface}: cannot be opened for raw frames: {e}")),
    }
}

//! Opening an interface by the driver xdp: the program in the kernel, and packet sockets for what it passes on.

use std::io;
use std::path::PathBuf;

use siphasher::sip::SipHasher13;
use tracing::{info, warn};

use super::Appliance;
use super::opening::Prepared;
use crate::config::Driven;
use crate::failure::{Failure, Sysexit};
use crate::os::{self, Program, Purpose, Setup};
use crate::xdp::kernel::Kernel;
use crate::xdp::{Attached, Pin, modes};

impl Appliance {
    pub(super) fn open_xdp(&mut self) -> Result<Prepared, Failure> {
        let interface = self.ground.front.clone();
        let process = &self.config.process;
        let failed = |e: io::Error| xdp_failure(&interface.name, &e);
        let (k0, k1) = self.stock.flow_key();
        let key = SipHasher13::new_with_keys(k0, k1).hash(b"pen-dsr");
        let keeps = self.stock.knows_numbers();
        let pin = process.xdp_pin.as_deref().map(|folder| Pin { folder, key, keeps });
        let mut program = Program::load(&interface, self.stock.shape(), pin).map_err(failed)?;
        // What the program passes on comes behind it, by the same taps as ever. Before it is attached: if they cannot be had,
        // nothing stays behind.
        let mut prepared = self.open_ring(1).or_else(|_| self.open_packet())?;
        let mode = self.config.process.xdp_mode;
        let is_real = os::has_hardware(&interface.name);
        let mut modes = modes(mode, is_real);
        if is_real && modes.contains(&Attached::Native) {
            match (self.fit_for_native(&interface.name), modes) {
                (Ok(()), _) => {}
                (Err(e), [_, others @ ..]) if !others.is_empty() => {
                    warn!("{}: {e}; behind the driver instead", interface.name);
                    modes = others;
                }
                (Err(e), _) => return Err(failed(e)),
            }
        }
        let (attached, better) = program.attach(interface.index, modes).map_err(failed)?;
        if let Some(why) = better {
            warn!("{}: {why}; behind the driver instead", interface.name);
        }
        if attached == Attached::Generic {
            self.drives.setups.clear();
        }
        if attached == Attached::Native && !is_real {
            warn!(
                "{}: a virtual interface: its native XDP loses VLAN tags and unfinished checksums, and sends only to a peer that has a program of its own",
                interface.name
            );
        }
        // Where there is another balancer, that has the VIPs when this process has ended.
        let answers = self.config.process.peer.is_none() && !self.config.process.standby;
        let goes_on = if program.is_inherited() { ", going on from what was left" } else { "" };
        let kernel = Kernel::new(program, self.stock.flow_key(), answers);
        let elsewhere = kernel.flows().map_err(failed)?;
        if let Some(line) = prepared.lines.first_mut() {
            line.elsewhere = Some(elsewhere);
        }
        prepared.surroundings.kernel = Some(kernel);
        info!("{} ({}): by xdp, {}{goes_on}", interface.name, interface.mac, attached.name());
        Ok(prepared)
    }

    /// Sees to it that the NIC takes no VLAN tags out of frames before the program in its driver has seen them, nor puts
    /// frames together.
    fn fit_for_native(&mut self, name: &str) -> io::Result<()> {
        // What stays behind must not rest on what is put back at the end.
        if self.config.process.no_ifconfig || self.config.process.xdp_pin.is_some() {
            let Some(on) = os::active_offloads(name, Purpose::Xdp)? else { return Ok(()) };
            let message = format!("in its driver it would miss VLAN tags or whole frames: {}", on.remedy);
            return Err(io::Error::other(message));
        }
        match self.drives.setups.first_mut() {
            Some(setup) => setup.renew(),
            None => {
                let setup = Setup::apply_for_xdp(name)?;
                let off = setup.switched_off();
                if !off.is_empty() {
                    info!("{name}: for xdp switched off until the end: {}", off.join(", "));
                }
                self.drives.setups.push(setup);
                Ok(())
            }
        }
    }

    /// What of the program in the kernel stays when the process ends.
    pub fn pinned(&self) -> Vec<PathBuf> {
        let prepared = self.prepared.as_ref().and_then(|prepared| prepared.surroundings.kernel.as_ref());
        prepared.or(self.kernel()).map(Kernel::pinned).unwrap_or_default()
    }

    /// Is the interface driven by a program in the kernel?
    pub fn is_by_xdp(&self) -> bool {
        self.drives.driven == Some(Driven::Xdp)
    }
}

/// The program could not be put into the kernel: why, and what to do.
fn xdp_failure(interface: &str, e: &io::Error) -> Failure {
    let code = match e.kind() {
        io::ErrorKind::PermissionDenied => Sysexit::NoPerm,
        io::ErrorKind::InvalidInput => Sysexit::Usage,
        _ => Sysexit::Unavailable,
    };
    Failure::new(code, format!("{interface}: {e}"))
}

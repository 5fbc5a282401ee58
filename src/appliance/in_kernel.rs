//! Opening an interface by the driver xdp: the program in the kernel, and packet sockets for what it passes on.

use std::io;

use tracing::{info, warn};

use super::Appliance;
use super::opening::Prepared;
use crate::config::XdpMode;
use crate::failure::{Failure, Sysexit};
use crate::os::{self, Program};
use crate::xdp::kernel::Kernel;
use crate::xdp::{Attached, modes};

impl Appliance {
    pub(super) fn open_xdp(&mut self) -> Result<Prepared, Failure> {
        let interface = self.ground.front.clone();
        let process = &self.config.process;
        let failed = |e: io::Error| xdp_failure(&interface.name, &e);
        let pin = process.xdp_pin.as_deref();
        let mut program = Program::load(&interface.name, self.stock.shape(), pin).map_err(failed)?;
        let is_real = os::has_hardware(&interface.name);
        let (attached, better) = program.attach(interface.index, modes(process.xdp_mode, is_real)).map_err(failed)?;
        if let Some(why) = better {
            warn!("{}: {why}; behind the driver instead", interface.name);
        }
        if attached == Attached::Native && process.xdp_mode == XdpMode::Native && !is_real {
            warn!(
                "{}: a virtual interface: its native XDP loses VLAN tags and unfinished checksums, and sends only to a peer that has a program or GRO",
                interface.name
            );
        }
        let goes_on = if program.is_inherited() { ", going on from what was left" } else { "" };
        let kernel = Kernel::new(program, self.stock.flow_key());
        let elsewhere = kernel.flows().map_err(failed)?;
        // What the program passes on comes behind it, by the same taps as ever.
        let mut prepared = self.open_ring(1).or_else(|_| self.open_packet())?;
        if let Some(line) = prepared.lines.first_mut() {
            line.elsewhere = Some(elsewhere);
        }
        prepared.surroundings.kernel = Some(kernel);
        info!("{} ({}): by xdp, {}{goes_on}", interface.name, interface.mac, attached.name());
        Ok(prepared)
    }

    /// Is the interface driven by a program in the kernel?
    pub fn is_by_xdp(&self) -> bool {
        self.prepared.as_ref().is_some_and(|prepared| prepared.surroundings.kernel.is_some()) || self.kernel().is_some()
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

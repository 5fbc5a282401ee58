//! What lets frames through to the port, and keeps them from the host's own stack.

use std::io;

use tracing::{error, warn};

use super::Appliance;
use crate::config::VipConfig;
use crate::engine;
use crate::lb::Tables;
use crate::os::{FilterControl, IngressDrop, Interface, Memberships, Wanted};
use crate::wire::ether::Mac;
use crate::xdp::kernel::Kernel;

/// What lets frames through to the port, and keeps them from the host.
pub(super) struct Surroundings {
    pub(super) wanted: Wanted,
    /// What the host is kept from.
    pub(super) vips: Vec<VipConfig>,
    /// Of a port that has them.
    pub(super) filters: Option<FilterControl>,
    pub(super) memberships: Vec<Memberships>,
    pub(super) ingress: Option<IngressDrop>,
    /// The program in the kernel, where that drives the interface.
    pub(super) kernel: Option<Kernel>,
}

impl Appliance {
    /// Joins the groups of what is wanted, where it is asked for: of VIPs where the clients are, of the checks' sources
    /// where the backends are. A port that is on no interface takes all.
    pub(super) fn join(&self, wanted: &Wanted, extra: Option<Mac>) -> io::Result<Vec<Memberships>> {
        let (front, back) = (self.ground.front.index, self.ground.backends().index);
        let mut parts = vec![(front, wanted.clone(), extra)];
        if back != front {
            let sources = std::mem::take(&mut parts[0].1.probe_sources);
            parts.push((back, Wanted { probe_sources: sources, ..Wanted::default() }, None));
        }
        let on_interfaces = parts.into_iter().filter(|(index, ..)| *index != 0);
        on_interfaces.map(|(index, wanted, extra)| Memberships::join(index, &wanted, extra)).collect()
    }

    pub(super) fn keep_from_host(&self, interface: &Interface, wanted: &Wanted) -> Option<IngressDrop> {
        if self.config.process.no_ingress_drop {
            return None;
        }
        let name = &interface.name;
        let installed = IngressDrop::install(name, &self.config.balance.vips, wanted);
        installed
            .inspect_err(|e| {
                warn!(
                    "{name}: the host's IP stack sees the VIPs' frames, too, which costs throughput: no ingress filter ({e})"
                );
            })
            .ok()
    }

    /// Lets through to the port what `tables` ask for, and keeps it from the host.
    pub(super) fn surround(&mut self, tables: &Tables) {
        let wanted = wanted(tables);
        let Some(serving) = &self.serving else { return };
        let vips = &self.config.balance.vips;
        if serving.surroundings.wanted == wanted && serving.surroundings.vips == *vips {
            return;
        }
        let vips = vips.clone();
        let interface = &self.ground.front;
        let name = &interface.name;
        let by_sockets = serving.surroundings.filters.is_some();
        // What is new is let in before it is announced; what is old goes last.
        if let Some(Err(e)) = serving.surroundings.filters.as_ref().map(|filters| filters.replace(&wanted)) {
            error!("{name}: the filter of the sockets cannot be replaced: {e}");
        }
        let extra = self.extra_mac().filter(|_| by_sockets);
        let memberships = self.join(&wanted, extra).inspect_err(|e| error!("{name}: {e}")).ok();
        let ingress = if by_sockets { self.keep_from_host(interface, &wanted) } else { None };
        if let Some(serving) = &mut self.serving {
            if let Some(memberships) = memberships {
                serving.surroundings.memberships = memberships;
            }
            serving.surroundings.ingress = ingress;
            serving.surroundings.wanted = wanted;
            serving.surroundings.vips = vips;
        }
    }
}

/// What the port is to let through for `tables`.
pub(super) fn wanted(tables: &Tables) -> Wanted {
    let settings = tables.settings();
    Wanted {
        vips: tables.vips().iter().map(|vip| vip.address).collect(),
        probe_sources: settings.probe_sources.clone(),
        tarpit: settings.tarpit.as_deref().map(engine::tarpit_networks).unwrap_or_default(),
    }
}

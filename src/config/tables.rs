//! What is decided by, made from what was asked for.

use std::net::IpAddr;
use std::sync::Arc;

use super::{BackendConfig, Balance, WhenEmpty};
use crate::lb::maglev::{Member, Table};
use crate::lb::{Backend, ClientHash, Generation, Service, Settings, Tables, Vip};

impl Balance {
    /// Slots that each table has.
    pub fn slots_wanted(&self) -> u32 {
        self.table_size.0
    }

    /// The VIPs' addresses, each once.
    pub fn vip_addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for vip in &self.vips {
            if !addresses.contains(&vip.address) {
                addresses.push(vip.address);
            }
        }
        addresses
    }

    /// How clients choose among `members`, whose places in the list are the backends' numbers.
    pub fn generation(&self, members: &[Member]) -> Generation {
        let slots = Arc::new(Table::build(members, self.seed, self.table_size.0));
        Generation { hash: ClientHash::new(self.seed, self.hash_port), slots }
    }

    /// What is decided by when every backend is up, at the MAC that it is configured with. Backends are numbered in the
    /// order of the list.
    pub fn all_up(&self) -> Tables {
        let share = |backend: &BackendConfig| if backend.maintenance { 0 } else { 100 };
        let member = |b: &BackendConfig| Member { share: share(b), ..Member::up(&b.name, b.weight) };
        let members: Vec<Member> = self.backends.iter().map(member).collect();
        let backend = |b: &BackendConfig| Backend {
            mac: b.mac,
            in_service: b.weight > 0 && !b.maintenance,
            keeps_flows: !b.maintenance,
            epoch: 0,
        };
        let backends = self.backends.iter().map(backend).collect();
        let addresses = self.vip_addresses();
        let number = |address| addresses.iter().position(|&a| a == address).unwrap_or_default();
        self.tables(backends, &self.generation(&members), None, number, Settings::default())
    }

    /// What workers decide by: `backends` by their numbers, how new flows choose, how older ones did, and the number that
    /// each VIP has.
    pub fn tables(
        &self,
        backends: Vec<Backend>,
        current: &Generation,
        previous: Option<&Generation>,
        number: impl Fn(IpAddr) -> usize,
        settings: Settings,
    ) -> Tables {
        let mut vips: Vec<Vip> = Vec::new();
        let acls: std::collections::BTreeMap<u8, Arc<crate::lb::acl::Acl>> =
            self.acls.iter().map(|(&number, acl)| (number, Arc::new(acl.clone()))).collect();
        for configured in &self.vips {
            let list = configured.client_acl.or(self.client_acl);
            let service = Service {
                port: configured.port,
                protocols: configured.protocols,
                current: current.clone(),
                previous: previous.cloned(),
                // A list that is missing permits nobody, rather than everybody.
                acl: list.map(|number| acls.get(&number).cloned().unwrap_or_default()),
                refuses: configured.when_empty == WhenEmpty::Reject,
            };
            match vips.iter_mut().find(|vip| vip.address == configured.address) {
                Some(vip) => vip.services.push(service),
                None => vips.push(Vip {
                    address: configured.address,
                    number: number(configured.address),
                    services: vec![service],
                }),
            }
        }
        let mut settings = Settings { timeouts: self.timeouts, ..settings };
        let everybody = self.backends.iter().chain(&self.emergency);
        settings.watched.extend(everybody.filter_map(|backend| backend.address));
        Tables::new(vips, backends, settings)
    }
}

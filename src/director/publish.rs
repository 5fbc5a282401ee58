//! Who serves, worked out anew after every change, and published as tables.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::server::{self, Server};
use super::{Director, Duty, Notice};
use crate::lb::maglev::Member;
use crate::lb::{Backend, ClientHash, Settings, TarpitList};

/// The weight in a table that holds the emergency backend alone.
const ALONE: u32 = 1;

impl Director {
    /// Works out who serves, and publishes it.
    pub(super) fn rebuild(&mut self, now: Instant) {
        let balance = Arc::clone(&self.balance);
        self.servers.iter_mut().for_each(Server::join);
        // One that has just been added has not been heard of yet: it is neither well nor unwell.
        let wanted = self.servers.iter().filter(|server| server.is_wanted() && !server.joining);
        let (all, well) = wanted.fold((0, 0), |(all, well), s| (all + 1, well + usize::from(s.is_well())));
        let panicking = all > 0 && well < all && well * 100 < all * usize::from(balance.panic_threshold);
        if panicking != self.panicking {
            self.panicking = panicking;
            self.notices.push_back(if panicking {
                Notice::Panic { well, all, threshold: balance.panic_threshold }
            } else {
                Notice::PanicOver { well, all }
            });
        }
        for server in &mut self.servers {
            // In a panic checks do not count; but where there is no link, there is nobody to send anything to.
            let serves = if panicking { server.link.is_up() && !server.joining } else { server.is_well() };
            server.serves(serves, now, balance.slow_start);
        }
        let in_service = |server: &Server| server.is_wanted() && server.is_serving();
        let regular = self.servers.iter().any(in_service);
        let substitute = self.servers.iter().find(|s| s.emergency && s.is_serving() && s.duty == Duty::Active);
        let substitute = substitute.map(|server| (server.number, server.config.name.clone()));
        self.tell_of_service(regular, substitute.as_ref().map(|(_, name)| name.clone()));
        let substitute = substitute.map(|(number, _)| number).filter(|_| !regular);

        let mut members = vec![Member::down("", 0); self.backend_seats.all().len()];
        let mut backends = vec![Backend::nobody(); members.len()];
        for (seat, backend) in self.backend_seats.all().iter().zip(&mut backends) {
            backend.epoch = seat.epoch;
        }
        self.next_growth = None;
        for server in &mut self.servers {
            let share = server.share(balance.slow_start, now);
            if share == 100 {
                server.returned = None;
            } else {
                self.next_growth = Some(now + server::step(balance.slow_start));
            }
            let takes = in_service(server) || substitute == Some(server.number);
            let weight = match server.emergency {
                true if substitute == Some(server.number) => ALONE,
                true => 0,
                false if server.leaving.is_some() => 0,
                false => server.config.weight,
            };
            members[server.number] =
                Member { share: if takes { share } else { 0 }, ..Member::up(&server.config.name, weight) };
            backends[server.number] = Backend {
                mac: server.link.mac(),
                in_service: takes,
                keeps_flows: server.duty.keeps_flows() && server.is_serving(),
                epoch: backends[server.number].epoch,
            };
        }
        let hash = ClientHash::new(balance.seed, balance.hash_port);
        let current = self.generations.current();
        let same_way = (current.hash, current.slots.size() as u32) == (hash, balance.slots_wanted());
        if members != self.members || !same_way {
            self.generations.replace(balance.generation(&members), now);
            self.members = members;
        }
        self.generations.expire(balance.predecessor, now);
        let number = |vip| self.vip_seats.number(&vip).unwrap_or_default();
        let settings = self.settings();
        let (current, previous) = (self.generations.current(), self.generations.previous());
        if settings.probe_sources != self.tables.settings().probe_sources {
            self.next_source_announcement = now;
            // Answers to probes from another address would not be heard.
            for server in self.servers.iter_mut().filter(|server| !server.round.is_empty()) {
                server.round.clear();
                if let Some(health) = &mut server.health {
                    health.abandon(now);
                }
            }
        }
        self.tables = Arc::new(balance.tables(backends, current, previous, number, settings));
        self.unpublished = true;
    }

    /// Tells the operator when the last regular backend goes, and when the first returns.
    fn tell_of_service(&mut self, regular: bool, substitute: Option<String>) {
        if self.anybody == Some(regular) || (regular && self.anybody.is_none()) {
            self.anybody = Some(regular);
            return;
        }
        self.anybody = Some(regular);
        self.notices.push_back(match substitute {
            _ if regular => Notice::SomeBackend,
            Some(name) => Notice::Emergency { name },
            None => Notice::NoBackend,
        });
    }

    fn settings(&self) -> Settings {
        let sources = self.probe_sources();
        let answered: Vec<IpAddr> = sources.iter().filter(|source| !self.segment.has(**source)).copied().collect();
        let leaving =
            self.servers.iter().filter(|server| server.leaving.is_some()).filter_map(|server| server.config.address);
        Settings {
            tarpit: self.tarpit_list(&sources),
            probe_sources: sources,
            // The configuration's backends are added to these.
            watched: answered.iter().copied().chain(leaving).collect(),
            answered,
            silent: self.silent,
            shares: self.has_peer && !self.silent,
            ..Settings::default()
        }
    }

    fn tarpit_list(&self, sources: &[IpAddr]) -> Option<Arc<TarpitList>> {
        let config = self.balance.tarpit?;
        let acl = Arc::new(self.balance.acls.get(&config.acl)?.clone());
        let own = self.segment.addresses().chain(self.segment.broadcasts());
        let backends = self.servers.iter().filter_map(|server| server.config.address);
        let gateways = self.segment.gateways.iter().copied();
        let excluded =
            own.chain(backends).chain(gateways).chain(self.vips.iter().copied()).chain(sources.iter().copied());
        Some(Arc::new(TarpitList { acl, excluded: excluded.collect(), rate: config.rate }))
    }
}

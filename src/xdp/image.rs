//! Tables as the program in the kernel reads them: an array of chunks, and numbers for access lists.

use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::Arc;

use super::layout::{self, Chunk, Head};
use crate::engine::Station;
use crate::lb::acl::Acl;
use crate::lb::flow::PROOF;
use crate::lb::{self, Tables, maglev};
use crate::wire::ip::protocol;

/// What stands before the services.
const FIRST_SERVICE: u32 = 1;

/// Tables, ready to be put into the kernel.
pub struct Image {
    /// In the order of their numbers.
    pub chunks: Vec<Chunk>,
}

/// The access lists that are in the kernel, by number. A list that changes is another one; none is ever given the number of
/// one before it.
#[derive(Default)]
pub struct Lists {
    known: Vec<(Arc<Acl>, u32)>,
    next: u32,
}

impl Lists {
    /// No list, and numbers from `next` on.
    pub fn new(next: u32) -> Lists {
        Lists { known: Vec::new(), next }
    }

    /// The number of `acl`, and whether it is new.
    pub fn number(&mut self, acl: &Arc<Acl>) -> (u32, bool) {
        if let Some((_, number)) = self.known.iter().find(|(known, _)| Arc::ptr_eq(known, acl) || known == acl) {
            return (*number, false);
        }
        let number = self.next;
        // One for each family.
        self.next = self.next.wrapping_add(2);
        self.known.push((Arc::clone(acl), number));
        (number, true)
    }

    /// The list with that number is not in the kernel after all.
    pub fn forget(&mut self, number: u32) {
        self.known.retain(|(_, known)| *known != number);
    }

    /// Lists that `tables` do not use: they are forgotten, and returned with their numbers.
    pub fn retire(&mut self, tables: &Tables) -> Vec<(Arc<Acl>, u32)> {
        let used = |acl: &Arc<Acl>| {
            tables.vips().iter().flat_map(|vip| &vip.services).filter_map(|s| s.acl.as_ref()).any(|used| used == acl)
        };
        let (kept, retired) = self.known.drain(..).partition(|(acl, _)| used(acl));
        self.known = kept;
        retired
    }
}

/// The keys of the networks that list number `number` permits.
pub fn permits(acl: &Acl, number: u32) -> Vec<layout::PermitKey> {
    let key = |network: lb::acl::Network| {
        let (address, family) = layout::address(network.address);
        layout::PermitKey { prefix: 32 + u32::from(network.prefix), list: number | u32::from(family == 6), address }
    };
    acl.permitted_networks().into_iter().map(key).collect()
}

impl Image {
    /// Gives it a number that no image before it has had, and that is not 0.
    pub fn stamp(&mut self, version: u64) {
        let at = offset_of!(Head, version);
        if let Some(place) = self.chunks.first_mut().and_then(|head| head[at..].first_chunk_mut()) {
            *place = version.to_ne_bytes();
        }
    }

    /// The image of `tables` for `station`, whose flows are named by `flow_key`; `list` gives access lists their numbers.
    /// `answers`: left alone, the program answers who asks for the VIPs' MAC; unless these are another balancer's.
    pub fn new(
        tables: &Tables,
        station: &Station,
        flow_key: (u64, u64),
        answers: bool,
        mut list: impl FnMut(&Arc<Acl>) -> u32,
    ) -> Image {
        let mut slots = Slots::default();
        let mut services = Vec::new();
        for vip in tables.vips() {
            let (address, family) = layout::address(vip.address);
            let protocol = layout::PROTOCOL_VIP;
            services.push(layout::Service { address, family, protocol, ..layout::Service::default() });
            for service in &vip.services {
                let mut flags = 0;
                let mut acl = 0;
                if let Some(used) = &service.acl {
                    flags |= layout::SERVICE_ACL;
                    acl = list(used) | u32::from(family == 6);
                }
                flags |= if service.refuses { layout::SERVICE_REFUSES } else { 0 };
                let previous = service.previous.as_ref().map(|generation| slots.generation(generation));
                flags |= if previous.is_some() { layout::SERVICE_PREVIOUS } else { 0 };
                for number in [protocol::TCP, protocol::UDP].into_iter().filter(|&n| service.protocols.takes(n)) {
                    services.push(layout::Service {
                        address,
                        port: service.port.to_be_bytes(),
                        protocol: number,
                        family,
                        vip: vip.number as u32,
                        flags,
                        acl,
                        unused: [0; 2],
                        current: slots.generation(&service.current),
                        previous: previous.unwrap_or_default(),
                    });
                }
            }
        }
        let ports = services.iter().any(|service| service.port != [0, 0]);
        let mut places = places(&services);
        let backends = backends(tables);
        let first_backend = FIRST_SERVICE + places.len() as u32;
        let first_slot = first_backend + backends.len() as u32;
        // Where slots begin is known only now.
        for service in &mut places {
            service.current.slots += first_slot;
            service.previous.slots += first_slot;
        }
        let settings = tables.settings();
        let timeouts = &settings.timeouts;
        let flag = |set, flag| if set { flag } else { 0 };
        let mut head = Head {
            mac: layout::mac(station.mac),
            vip_mac: layout::mac(station.vip_mac),
            back: layout::mac(station.back),
            flags: flag(ports, layout::HEAD_PORTS)
                | flag(settings.silent, layout::HEAD_SILENT)
                | flag(answers && !settings.silent, layout::HEAD_ANSWERS),
            services: FIRST_SERVICE,
            services_mask: places.len() as u32 - 1,
            backends: first_backend,
            backend_count: tables.backends().len() as u32,
            unused: [0; 3],
            flow_key: [flow_key.0, flow_key.1],
            opening: layout::ticks(timeouts.opening),
            established: layout::ticks(timeouts.established),
            closing: layout::ticks(timeouts.closing),
            udp: layout::ticks(timeouts.udp),
            proof: layout::ticks(PROOF),
            v4_source: [0; 4],
            v6_source: [0; 16],
            version: 0,
        };
        for source in &settings.probe_sources {
            let (mine, flag) = match source {
                IpAddr::V4(_) => (head.v4_source.as_mut_slice(), layout::HEAD_V4_SOURCE),
                IpAddr::V6(_) => (head.v6_source.as_mut_slice(), layout::HEAD_V6_SOURCE),
            };
            let (address, _) = layout::address(*source);
            mine.copy_from_slice(&address[..mine.len()]);
            head.flags |= if head.flags & flag != 0 { layout::HEAD_SOURCES } else { flag };
        }
        let mut chunks = vec![layout::chunk(&head)];
        chunks.extend(places.iter().map(layout::chunk));
        chunks.extend(backends);
        chunks.extend(slots.chunks);
        Image { chunks }
    }
}

/// Slot tables, each once.
#[derive(Default)]
struct Slots {
    tables: Vec<(Arc<maglev::Table>, u32)>,
    chunks: Vec<Chunk>,
}

impl Slots {
    /// `generation`, with its slots at a chunk counted from the first one with slots.
    fn generation(&mut self, generation: &lb::Generation) -> layout::Generation {
        let table = &generation.slots;
        let known = self.tables.iter().find(|(known, _)| Arc::ptr_eq(known, table)).map(|(_, first)| *first);
        let first = known.unwrap_or_else(|| self.add(table));
        let (k0, k1) = generation.hash.seed().keys();
        layout::Generation {
            key: [k0, k1],
            slots: first,
            slot_count: table.size() as u32,
            with_port: u32::from(generation.hash.with_port()),
            unused: 0,
        }
    }

    fn add(&mut self, table: &Arc<maglev::Table>) -> u32 {
        let first = self.chunks.len() as u32;
        let number = |slot| table.member(slot).map_or(layout::NOBODY, |member| member as u16);
        let numbers: Vec<u16> = (0..table.size()).map(number).collect();
        for part in numbers.chunks(layout::SLOTS_PER_CHUNK) {
            let mut chunk = [layout::NOBODY; layout::SLOTS_PER_CHUNK];
            chunk[..part.len()].copy_from_slice(part);
            self.chunks.push(layout::chunk(&chunk));
        }
        self.tables.push((Arc::clone(table), first));
        first
    }
}

/// A hash table of services: a power of two of places. The first of several for the same port counts.
fn places(services: &[layout::Service]) -> Vec<layout::Service> {
    let mut size = (2 * services.len()).next_power_of_two();
    loop {
        if let Some(places) = try_places(services, size) {
            return places;
        }
        size *= 2;
    }
}

fn try_places(services: &[layout::Service], size: usize) -> Option<Vec<layout::Service>> {
    let mut places = vec![layout::Service::default(); size];
    let key = |s: &layout::Service| (s.address, s.port, s.protocol, s.family);
    for service in services {
        let first = place_of(service) as usize;
        let probes = (0..layout::MOST_PROBES as usize).map(|n| first.wrapping_add(n) & (size - 1));
        let mut probes = probes.filter(|&at| places[at].protocol == 0 || key(&places[at]) == key(service));
        let at = probes.next()?;
        if places[at].protocol == 0 {
            places[at] = *service;
        }
    }
    Some(places)
}

/// As `place_of` in the program.
fn place_of(service: &layout::Service) -> u32 {
    let (words, _) = service.address.as_chunks::<8>();
    let (high, low) = (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]));
    let rest = u64::from(u16::from_le_bytes(service.port)) << 16
        | u64::from(service.protocol) << 8
        | u64::from(service.family);
    let x = high
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(low.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(rest.wrapping_mul(0x1656_67b1_9e37_79f9));
    ((x ^ x >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

fn backends(tables: &Tables) -> Vec<Chunk> {
    let backend = |backend: &lb::Backend| layout::Backend {
        mac: backend.mac.map(layout::mac).unwrap_or_default(),
        epoch: backend.epoch,
        flags: if backend.mac.is_some() { layout::BACKEND_MAC } else { 0 }
            | if backend.keeps_flows { layout::BACKEND_KEEPS } else { 0 },
    };
    let all: Vec<layout::Backend> = tables.backends().iter().map(backend).collect();
    let part = |part: &[layout::Backend]| {
        let mut chunk = [layout::Backend::default(); layout::BACKENDS_PER_CHUNK];
        chunk[..part.len()].copy_from_slice(part);
        layout::chunk(&chunk)
    };
    all.chunks(layout::BACKENDS_PER_CHUNK).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::acl::{Action, Rule};

    fn service(last: u8, port: u16, protocol: u8) -> layout::Service {
        let (address, family) = layout::address(IpAddr::from([10, 0, 0, last]));
        layout::Service { address, family, port: port.to_be_bytes(), protocol, vip: 1, ..layout::Service::default() }
    }

    #[test]
    fn every_service_is_within_reach_of_its_place_and_the_first_of_equals_counts() {
        let mut services: Vec<layout::Service> =
            (0..250).flat_map(|n| [service(n, 80, 6), service(n, 0, 17)]).collect();
        services.push(layout::Service { vip: 2, ..service(7, 80, 6) });
        let places = places(&services);
        assert!(places.len().is_power_of_two());
        for wanted in &services[..500] {
            let first = place_of(wanted) as usize;
            let mut probes = (0..layout::MOST_PROBES as usize).map(|n| &places[(first + n) & (places.len() - 1)]);
            let found =
                probes.find(|s| (s.address, s.port, s.protocol) == (wanted.address, wanted.port, wanted.protocol));
            assert_eq!(found.map(|s| s.vip), Some(1));
        }
    }

    #[test]
    fn a_list_has_its_number_as_long_as_it_is_used_and_no_other_gets_it() {
        let list = |text: &str| {
            let rule = Rule { action: Action::Permit, network: text.parse().expect("a network") };
            Arc::new(Acl::new(vec![rule]))
        };
        let mut lists = Lists::new(10);
        let (a, b) = (list("10.0.0.0/8"), list("fd00::/8"));
        assert_eq!((lists.number(&a), lists.number(&b)), ((10, true), (12, true)));
        assert_eq!(lists.number(&list("10.0.0.0/8")), (10, false), "an equal one");
        let unused = Tables::new(Vec::new(), Vec::new(), lb::Settings::default());
        assert_eq!(lists.retire(&unused).len(), 2);
        assert_eq!(lists.number(&a), (14, true));
        assert_eq!(permits(&b, 12)[0].list, 13, "each family by itself");
        assert_eq!(permits(&a, 10)[0].prefix, 40);
    }
}

//! The flows that the program knows, by their names.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use zerocopy::{FromBytes, IntoBytes};

use super::{broken, monotonic, raw, wrong};
use crate::lb::flow::{Elsewhere, Record, Tag};
use crate::xdp::layout::Flow;

/// Bytes of a flow.
const FLOW: usize = size_of::<Flow>();
/// BPF_NOEXIST (linux/bpf.h): not if there is one.
const NOEXIST: u64 = 1;
/// Flows that are read at once.
const BATCH: usize = 4096;

/// A map of flows, and the descriptor of it that the library keeps for itself.
struct Flows {
    map: HashMap<MapData, u64, [u8; FLOW]>,
    fd: OwnedFd,
}

impl Flows {
    fn new(fd: OwnedFd) -> io::Result<Flows> {
        let map = MapData::from_fd(fd.try_clone()?).and_then(Map::from_map_data).map_err(wrong)?;
        Ok(Flows { map: map.try_into().map_err(wrong)?, fd })
    }

    fn read(&self, tag: Tag, now: Duration) -> Option<Record> {
        let flow = self.map.get(&tag.number(), 0).ok()?;
        Flow::read_from_bytes(&flow).ok()?.record(tag.number(), now)
    }
}

/// A handle on them.
pub struct KernelFlows {
    /// Those that have had a second packet.
    main: Flows,
    nursery: Flows,
}

/// Where a walk through the flows has come to.
#[derive(Default)]
pub struct Walk {
    nursery: bool,
    position: Option<u32>,
}

impl KernelFlows {
    pub(super) fn new(main: &Map, nursery: &Map) -> io::Result<KernelFlows> {
        let flows = |map: &Map| match map {
            Map::LruHashMap(data) => Flows::new(data.fd().as_fd().try_clone_to_owned()?),
            _ => Err(broken("flows are in another kind of map")),
        };
        Ok(KernelFlows { main: flows(main)?, nursery: flows(nursery)? })
    }

    pub(super) fn try_clone(&self) -> io::Result<KernelFlows> {
        Ok(KernelFlows {
            main: Flows::new(self.main.fd.try_clone()?)?,
            nursery: Flows::new(self.nursery.fd.try_clone()?)?,
        })
    }

    /// The next flows on the `walk`, and whether that is at its end. Flows that come or go meanwhile may or may not be met.
    ///
    /// # Errors
    /// The system's.
    pub fn walk(&self, walk: &mut Walk) -> io::Result<(Vec<Record>, bool)> {
        let map = if walk.nursery { &self.nursery } else { &self.main };
        let (pairs, next) = raw::lookup_batch::<FLOW>(map.fd.as_fd(), walk.position, BATCH)?;
        walk.position = next;
        let is_over = next.is_none() && walk.nursery;
        walk.nursery |= next.is_none();
        let now = monotonic();
        let record = |(tag, flow): &(u64, [u8; FLOW])| Flow::read_from_bytes(flow).ok()?.record(*tag, now);
        Ok((pairs.iter().filter_map(record).collect(), is_over))
    }

    /// Forgets a flow that was met on a walk and has expired; one that has begun under its name meanwhile is in the other map.
    pub fn drop_expired(&mut self, record: &Record) {
        let is_main = record.stage.is_main();
        let _ = if is_main { &mut self.main } else { &mut self.nursery }.map.remove(&record.tag.number());
    }

    fn write(&mut self, record: &Record, flags: u64) {
        let Ok(flow) = <[u8; FLOW]>::try_from(Flow::of(record, monotonic()).as_bytes()) else {
            return;
        };
        let tag = record.tag.number();
        let is_main = record.stage.is_main();
        let (map, other) =
            if is_main { (&mut self.main, &mut self.nursery) } else { (&mut self.nursery, &mut self.main) };
        // Where there is no room the program goes on by its own light.
        if map.map.insert(tag, flow, flags).is_ok() {
            let _ = other.map.remove(&tag);
        }
    }
}

impl Elsewhere for KernelFlows {
    fn find(&mut self, tag: Tag) -> Option<Record> {
        let now = monotonic();
        self.main.read(tag, now).or_else(|| self.nursery.read(tag, now))
    }

    fn put(&mut self, record: &Record) {
        self.write(record, 0);
    }

    fn offer(&mut self, record: &Record) {
        if self.find(record.tag).is_none() {
            self.write(record, NOEXIST);
        }
    }

    fn forget(&mut self, tag: Tag) {
        let _ = self.main.map.remove(&tag.number());
        let _ = self.nursery.map.remove(&tag.number());
    }
}

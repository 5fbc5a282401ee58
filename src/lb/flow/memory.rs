//! The memory of a flow table: sets of eight entries, in pages of the process or in a file that outlives it.

use std::io;
use std::time::Duration;

use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Tag;

/// Entries of a set: what two cache lines hold.
pub(super) const WAYS: usize = 8;
/// Bytes of a set.
const SET_BYTES: usize = size_of::<Set>();
/// The smallest and the largest number of entries of the main table.
const LEAST: usize = 1 << 10;
const MOST: usize = 1 << 26;

/// Eight entries; those with tag 0 are free.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(128))]
pub(super) struct Set {
    pub(super) tags: [u64; WAYS],
    pub(super) entries: [Entry; WAYS],
}

/// What is known of a flow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Entry {
    /// The tick of its last packet, or of its arrival while it is young.
    pub(super) seen: u32,
    pub(super) backend: u16,
    pub(super) epoch: u8,
    pub(super) stage: u8,
}

impl Entry {
    /// Backend, epoch and stage, from the lowest bits on.
    #[inline]
    pub(super) fn holder(&self) -> u32 {
        u32::from(self.backend) | u32::from(self.epoch) << 16 | u32::from(self.stage) << 24
    }
}

/// How many sets there are: the main table's first, then the nursery's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sets of the main table.
    pub(super) main: usize,
    /// Sets of the nursery.
    pub(super) nursery: usize,
}

impl Shape {
    /// Room for `entries` flows, at least 1024 and at most 67,108,864, rounded up to a power of two; and for a quarter as
    /// many that have just begun.
    pub fn of(entries: usize) -> Shape {
        let entries = entries.clamp(LEAST, MOST).next_power_of_two();
        Shape { main: entries / WAYS, nursery: entries / WAYS / 4 }
    }

    /// Flows that the main table has room for.
    pub fn main_entries(&self) -> usize {
        self.main * WAYS
    }

    /// Flows that the nursery has room for.
    pub fn nursery_entries(&self) -> usize {
        self.nursery * WAYS
    }

    /// Bytes of both.
    pub fn bytes(&self) -> usize {
        self.sets() * SET_BYTES
    }

    pub(super) fn sets(&self) -> usize {
        self.main + self.nursery
    }

    /// The sets of a flow, in the main table and in the nursery: from different bits of its tag.
    #[inline]
    pub(super) fn places(&self, tag: Tag) -> (usize, usize) {
        let scale = |bits: u64, sets: usize| (((bits & 0xffff_ffff) * sets as u64) >> 32) as usize;
        (scale(tag.0 >> 32, self.main), self.main + scale(tag.0, self.nursery))
    }
}

/// The memory of one flow table.
pub struct Memory {
    map: MmapMut,
    shape: Shape,
    key: (u64, u64),
    age: Duration,
    inherited: bool,
}

impl Memory {
    /// Fresh pages of this process, taken from the system when they are first written to. `key` should be random.
    ///
    /// # Errors
    /// The system has no such room.
    pub fn fresh(shape: Shape, key: (u64, u64)) -> io::Result<Memory> {
        let map = MmapMut::map_anon(shape.bytes())?;
        Ok(Memory { map, shape, key, age: Duration::ZERO, inherited: false })
    }

    /// The pages `map` of a file, which another process may have filled, `age` being how long ago its clock began.
    ///
    /// # Errors
    /// The map is not as long as `shape` asks.
    pub fn inherited(map: MmapMut, shape: Shape, key: (u64, u64), age: Duration) -> io::Result<Memory> {
        if map.len() != shape.bytes() {
            let message = format!("{} bytes mapped, {} needed", map.len(), shape.bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Memory { map, shape, key, age, inherited: true })
    }

    /// The same memory for the next table, its clock having begun `age` ago.
    pub(super) fn pass_on(self, age: Duration) -> Memory {
        Memory { age, inherited: true, ..self }
    }

    /// How many sets there are.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What names the flows in it: a file keeps the key that it was begun with.
    pub fn key(&self) -> (u64, u64) {
        self.key
    }

    pub(super) fn age(&self) -> Duration {
        self.age
    }

    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }

    #[inline]
    pub(super) fn sets(&mut self) -> &mut [Set] {
        // The length and the alignment of pages are those of sets; were they not, the table would be empty.
        <[Set]>::mut_from_bytes(&mut self.map).unwrap_or_default()
    }
}

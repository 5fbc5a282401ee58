//! Files as memory.

use std::fs::File;
use std::io;

use memmap2::{MmapMut, MmapOptions};

/// `length` bytes of `file` from `offset` on, a multiple of the page size, as memory that the file keeps.
///
/// Nobody else may write to the file meanwhile: the caller holds its lock. Whoever does so nevertheless changes plain
/// numbers, of which every value is looked at with suspicion; but whoever shortens it ends the process.
///
/// # Errors
/// The system's.
pub fn map_file(file: &File, offset: u64, length: usize) -> io::Result<MmapMut> {
    // SAFETY: the map is of a file that this process has locked and sized; what is read from it are integers only.
    unsafe { MmapOptions::new().offset(offset).len(length).map_mut(file) }
}

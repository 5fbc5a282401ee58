//! What stays when the process ends: a folder of a BPF file system with the program's maps and its attachment.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use nix::sys::statfs::statfs;
use tracing::warn;

use super::MAPS;
use crate::lb::flow::Shape;
use crate::xdp::Attached;
use crate::xdp::layout::VERSION;

/// BPF_FS_MAGIC (linux/magic.h).
const BPF_FS: u64 = 0xcafe_4a11;

/// The folder for one interface.
pub(super) struct Pins {
    folder: PathBuf,
    inherited: bool,
}

impl Pins {
    /// The folder for `interface` in `parent`; what is of no use there, as it was left by another version or has room for
    /// another number of flows, is removed.
    pub(super) fn open(parent: &Path, interface: &str, shape: Shape) -> io::Result<Pins> {
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", parent.display()));
        check_file_system(parent)?;
        fs::create_dir_all(parent).map_err(failed)?;
        // No name there may have a dot in it; no interface's name has a colon.
        let interface = &interface.replace('.', ":");
        let own = format!("{interface}:{VERSION}");
        for entry in fs::read_dir(parent).map_err(failed)?.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix(interface.as_str()).and_then(|rest| rest.strip_prefix(':'));
            if version.is_some_and(|version| version.parse::<u32>().is_ok()) && name != own {
                warn!("{}: left by another version of pen-dsr, and removed", entry.path().display());
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        let folder = parent.join(own);
        let found = MAPS.iter().filter(|map| folder.join(map).exists()).count();
        let fits = found == MAPS.len() && entries(&folder.join("flows")) == Some(shape.main_entries() as u32);
        if folder.exists() && !fits {
            if found > 0 {
                warn!("{}: what was left there has another size, and is removed", folder.display());
            }
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Pins { folder, inherited: fits })
    }

    /// Has a process before this one left its tables?
    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// The folder and the files in it.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        std::iter::once(self.folder.clone()).chain(files).collect()
    }

    /// Where the map `name` is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the attachment is.
    pub(super) fn link(&self, mode: Attached) -> PathBuf {
        self.folder.join(format!("link-{}", mode.name()))
    }
}

/// Elements of the map that is pinned at `path`.
fn entries(path: &Path) -> Option<u32> {
    MapData::from_pin(path).and_then(|map| map.info()).map(|info| info.max_entries()).ok()
}

/// Nothing can be pinned elsewhere.
fn check_file_system(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder);
    let magic = statfs(there)?.filesystem_type().0 as u64;
    if magic == BPF_FS {
        return Ok(());
    }
    let message = format!(
        "{}: not on a BPF file system: mount -t bpf bpf /sys/fs/bpf, and name a folder below that",
        folder.display()
    );
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

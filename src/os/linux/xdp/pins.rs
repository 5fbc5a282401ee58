//! What stays when the process ends: a folder of a BPF file system with the program's maps and its attachment.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::statfs;
use tracing::warn;
use zerocopy::FromBytes;

use super::{MAPS, raw};
use crate::lb::flow::Shape;
use crate::xdp::Attached;
use crate::xdp::layout::{Identity, VERSION};

/// BPF_FS_MAGIC (linux/magic.h).
const BPF_FS: u64 = 0xcafe_4a11;

/// The folder for one interface.
pub(super) struct Pins {
    folder: PathBuf,
    inherited: bool,
    /// Nobody else has it meanwhile.
    _lock: Flock<File>,
}

impl Pins {
    /// The folder for `interface` in `parent`. What is there is taken over if it is of `identity`, and has room for flows as
    /// `shape` says; else it is removed.
    ///
    /// # Errors
    /// It is on no BPF file system; another process has it; what is there is at work at another interface.
    pub(super) fn open(
        parent: &Path,
        interface: &str,
        shape: Shape,
        identity: Option<Identity>,
        at: Identity,
    ) -> io::Result<Pins> {
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", parent.display()));
        check_file_system(parent)?;
        fs::create_dir_all(parent).map_err(failed)?;
        // No name there may have a dot in it; no interface's name has a colon.
        let interface = interface.replace('.', ":");
        let own = format!("{interface}:{VERSION}");
        for entry in fs::read_dir(parent).map_err(failed)?.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix(&interface).and_then(|rest| rest.strip_prefix(':'));
            if version.is_some_and(|version| version.parse::<u32>().is_ok()) && name != own {
                warn!("{}: left by another version of pen-dsr, and removed", entry.path().display());
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        let folder = parent.join(own);
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut lock = lock(&folder)?;
        let found = MAPS.iter().filter(|map| folder.join(map).exists()).count();
        let theirs = read_identity(&folder.join("identity"));
        let place = |identity: &Identity| (identity.namespace, identity.interface);
        let modes = [Attached::Native, Attached::Generic].map(|mode| link_path(&folder, mode));
        let is_at_work = modes.iter().any(|path| raw::linked_interface(path).is_some());
        if is_at_work && theirs.as_ref().map(place) != Some(place(&at)) {
            let message = format!(
                "what is pinned in {} is at work at another interface: name another folder with --xdp-pin, or end it with \"rm -r {}\"",
                folder.display(),
                folder.display()
            );
            return Err(io::Error::new(ErrorKind::ResourceBusy, message));
        }
        let inherited = found == MAPS.len()
            && entries(&folder.join("flows")) == Some(shape.main_entries() as u32)
            && identity.is_some()
            && identity == theirs;
        if !inherited && fs::read_dir(&folder).map_err(failed)?.next().is_some() {
            warn!("{}: what was left there is of another size or another flow file, and is removed", folder.display());
            fs::remove_dir_all(&folder).map_err(failed)?;
            fs::create_dir_all(&folder).map_err(failed)?;
            lock = self::lock(&folder)?;
        }
        Ok(Pins { folder, inherited, _lock: lock })
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
        link_path(&self.folder, mode)
    }
}

fn link_path(folder: &Path, mode: Attached) -> PathBuf {
    folder.join(format!("link-{}", mode.name()))
}

fn lock(folder: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(folder)?, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let message = format!("another process has {}: stop that one first, or name another folder", folder.display());
        io::Error::new(ErrorKind::ResourceBusy, message)
    })
}

fn read_identity(path: &Path) -> Option<Identity> {
    let map = MapData::from_pin(path).and_then(Map::from_map_data).ok()?;
    let map: Array<MapData, [u8; size_of::<Identity>()]> = map.try_into().ok()?;
    Identity::read_from_bytes(&map.get(&0, 0).ok()?).ok()
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

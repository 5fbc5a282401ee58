//! The program of the driver xdp in the kernel: loaded, attached, told and asked; see bpf(2).

mod flows;
mod pins;
mod present;
mod raw;

use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode as Flags};
use aya::{Ebpf, EbpfLoader};
use tracing::debug;
use zerocopy::{FromBytes, IntoBytes};

use crate::lb::acl::Acl;
use crate::lb::flow::Shape;
use crate::os::Interface;
use crate::xdp::image::{Image, permits};
use crate::xdp::layout::{Chunk, Identity, Opener, OpenerKey, PermitKey, Totals, Traffic};
use crate::xdp::{Action, Attached, Pin};
pub use flows::{KernelFlows, Walk};
use pins::Pins;
pub use present::has_program;

/// What scripts/bpf has made of src/bpf.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/dsr.bpf.o");
/// The name of the program in it.
const PROGRAM: &str = "dsr";
/// The maps, which stay when the process ends if they are pinned.
const MAPS: [&str; 9] = ["tables", "permits", "flows", "nursery", "openers", "identity", "alive", "totals", "counters"];
/// BPF_F_INNER_MAP (linux/bpf.h): an inner array may have any number of elements.
const INNER_MAP: u32 = 1 << 12;

/// The program, and what it shares with this process. What is not pinned goes with it.
pub struct Program {
    ebpf: Ebpf,
    tables: ArrayOfMaps<MapData, Array<MapData, Chunk>>,
    /// Another handle on them, as the library keeps its own for itself.
    tables_fd: OwnedFd,
    permits: LpmTrie<MapData, [u8; size_of::<PermitKey>() - 4], u32>,
    openers: HashMap<MapData, [u8; size_of::<OpenerKey>()], [u8; size_of::<Opener>()]>,
    alive: Array<MapData, u64>,
    totals: PerCpuArray<MapData, [u8; size_of::<Totals>()]>,
    counters: PerCpuArray<MapData, [u8; size_of::<Traffic>()]>,
    flows: KernelFlows,
    /// Images that have been installed.
    versions: u64,
    pins: Option<Pins>,
    link: Option<FdLink>,
}

impl Program {
    /// Loads the program for `interface`, with room for flows as `shape` says. With `pin`, its maps are in a folder of their
    /// own in that one; those that a process before this one has left there are taken over.
    ///
    /// # Errors
    /// The system's, and what to do: not permitted, a kernel that is too old, a folder that is on no BPF file system.
    pub fn load(interface: &Interface, shape: Shape, pin: Option<Pin<'_>>) -> io::Result<Program> {
        if cfg!(target_endian = "big") {
            return Err(io::Error::new(ErrorKind::Unsupported, "the program is for little-endian processors"));
        }
        let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |metadata| metadata.ino());
        let key = pin.as_ref().map_or(0, |pin| pin.key);
        let identity = Identity { key, namespace, interface: interface.index, unused: 0 };
        let open =
            |pin: Pin<'_>| Pins::open(pin.folder, &interface.name, shape, pin.keeps.then_some(identity), identity);
        let pins = pin.map(open).transpose()?;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("flows", shape.main_entries() as u32);
        loader.map_max_entries("nursery", shape.nursery_entries() as u32);
        if let Some(pins) = &pins {
            for map in MAPS {
                loader.map_pin_path(map, pins.path(map));
            }
        }
        let mut ebpf = loader.load(OBJECT).map_err(|e| refused("the program's tables cannot be made", &e))?;
        program(&mut ebpf)?.load().map_err(|e| {
            if let ProgramError::LoadError { verifier_log, .. } = &e {
                debug!("the kernel on the program: {verifier_log}");
            }
            refused("the kernel does not take the program", &e)
        })?;
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| broken(&format!("there is no map {name}")));
        let mut own: Array<MapData, [u8; size_of::<Identity>()]> = map("identity")?.try_into().map_err(wrong)?;
        if let Ok(bytes) = identity.as_bytes().try_into() {
            let bytes: [u8; size_of::<Identity>()] = bytes;
            own.set(0, bytes, 0).map_err(wrong)?;
        }
        let flows = KernelFlows::new(&map("flows")?, &map("nursery")?)?;
        let tables = map("tables")?;
        let tables_fd = match &tables {
            Map::ArrayOfMaps(data) => data.fd().as_fd().try_clone_to_owned()?,
            _ => return Err(broken("tables are in another kind of map")),
        };
        Ok(Program {
            tables: tables.try_into().map_err(wrong)?,
            tables_fd,
            permits: map("permits")?.try_into().map_err(wrong)?,
            openers: map("openers")?.try_into().map_err(wrong)?,
            alive: map("alive")?.try_into().map_err(wrong)?,
            totals: map("totals")?.try_into().map_err(wrong)?,
            counters: map("counters")?.try_into().map_err(wrong)?,
            flows,
            // Not one that tables of an earlier process may have.
            versions: monotonic().as_nanos() as u64,
            link: None,
            pins,
            ebpf,
        })
    }

    /// What is pinned: the folder and the files in it.
    pub fn pinned(&self) -> Vec<PathBuf> {
        self.pins.as_ref().map(Pins::all).unwrap_or_default()
    }

    /// Has a process before this one left tables, by which the program goes on?
    pub fn is_inherited(&self) -> bool {
        self.pins.as_ref().is_some_and(Pins::is_inherited)
    }

    /// Attaches the program to interface number `index`, or puts it in the place of the one that a process before this one
    /// has left there, without a frame between the two. `modes`: the best first. Returns where it is now, and why not
    /// where it would be better.
    ///
    /// # Errors
    /// The system's, and what to do: another program is there, the driver has no XDP.
    pub fn attach(&mut self, index: u32, modes: &[Attached]) -> io::Result<(Attached, Option<io::Error>)> {
        if let Some(attached) = self.take_over(modes) {
            return Ok((attached, None));
        }
        let mut better = None;
        for &mode in modes {
            let flags = match mode {
                Attached::Native => Flags::Driver,
                Attached::Generic => Flags::Skb,
            };
            let program = program(&mut self.ebpf)?;
            let link = program.attach_to_if_index(index, flags).and_then(|id| program.take_link(id));
            match link.map_err(|e| not_attached(mode, &e)).and_then(fd_link) {
                Ok(link) => {
                    self.link = Some(match &self.pins {
                        Some(pins) => link.pin(pins.link(mode)).map_err(|e| refused("it cannot be pinned", &e))?.into(),
                        None => link,
                    });
                    return Ok((mode, better));
                }
                Err(e) => better = Some(better.unwrap_or(e)),
            }
        }
        Err(better.unwrap_or_else(|| broken("no mode")))
    }

    /// Puts the program in the place of an older one that is pinned. `None`: there is none, or not where it should be.
    fn take_over(&mut self, modes: &[Attached]) -> Option<Attached> {
        let pins = self.pins.as_ref()?;
        for mode in [Attached::Native, Attached::Generic] {
            let path = pins.link(mode);
            let Ok(pinned) = PinnedLink::from_pin(&path) else {
                continue;
            };
            let replace = |link: XdpLink| {
                let program = program(&mut self.ebpf).ok()?;
                let id =
                    program.attach_to_link(link).inspect_err(|e| debug!("what is pinned is of no use: {e}")).ok()?;
                fd_link(program.take_link(id).ok()?).ok()
            };
            let link = XdpLink::try_from(FdLink::from(pinned)).ok().filter(|_| modes.contains(&mode)).and_then(replace);
            if link.is_some() {
                self.link = link;
                return Some(mode);
            }
            // Its interface is gone, or it is to be attached otherwise.
            let _ = std::fs::remove_file(&path);
        }
        None
    }

    /// From now on frames are decided by `image`. Returns when no frame is any more that is still decided by the one before.
    ///
    /// # Errors
    /// No memory.
    pub fn install(&mut self, mut image: Image) -> io::Result<()> {
        let wrong = |e| refused("the tables cannot be put into the kernel", &e);
        self.versions += 1;
        image.stamp(self.versions);
        let mut chunks = Array::<MapData, Chunk>::create(image.chunks.len() as u32, INNER_MAP).map_err(wrong)?;
        for (number, chunk) in (0..).zip(&image.chunks) {
            chunks.set(number, chunk, 0).map_err(wrong)?;
        }
        self.tables.set(0, &chunks, 0).map_err(wrong)
    }

    /// Takes the tables out of the kernel: every frame is passed on.
    pub fn clear(&mut self) {
        if let Err(e) = raw::delete(self.tables_fd.as_fd(), 0) {
            debug!("no tables to be taken out: {e}");
        }
    }

    /// Says that this process is there; to be said at least once a second. Left without it, the program answers who asks for
    /// a VIP's MAC.
    pub fn beat(&mut self) {
        let _ = self.alive.set(0, monotonic().as_nanos() as u64, 0);
    }

    /// Adds the networks of access list number `number`.
    ///
    /// # Errors
    /// No memory, more than 4,194,304 networks.
    pub fn permit(&mut self, acl: &Acl, number: u32) -> io::Result<()> {
        for key in permits(acl, number) {
            self.permits.insert(&trie_key(&key), 0, 0).map_err(|e| refused("an access list does not fit", &e))?;
        }
        Ok(())
    }

    /// Removes what [`Program::permit`] has added.
    pub fn forbid(&mut self, acl: &Acl, number: u32) {
        for key in permits(acl, number) {
            let _ = self.permits.remove(&trie_key(&key));
        }
    }

    /// Removes the access lists that a process before this one has left, but for those from `first` on. The lowest number
    /// that none of them has.
    pub fn forbid_below(&mut self, first: Option<u32>) -> u32 {
        let keys: Vec<_> = self.permits.keys().filter_map(Result::ok).collect();
        let number = |key: &Key<[u8; 20]>| u32::from_ne_bytes(*key.data().first_chunk().unwrap_or(&[0; 4]));
        for key in keys.iter().filter(|key| first.is_some_and(|first| number(key) < first)) {
            let _ = self.permits.remove(key);
        }
        keys.iter().map(number).max().map_or(0, |most| (most | 1) + 1)
    }

    /// The flows that it knows.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn flows(&self) -> io::Result<KernelFlows> {
        self.flows.try_clone()
    }

    /// What it has counted, over all processors.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        if let Ok(each) = self.totals.get(&0, 0) {
            each.iter().filter_map(|bytes| Totals::read_from_bytes(bytes).ok()).for_each(|totals| sum.add(&totals));
        }
        sum
    }

    /// What it has counted for number `number`: of a backend, or behind those of a VIP.
    pub fn traffic(&self, number: u32) -> Traffic {
        let mut sum = Traffic::default();
        if let Ok(each) = self.counters.get(&number, 0) {
            each.iter().filter_map(|bytes| Traffic::read_from_bytes(bytes).ok()).for_each(|traffic| sum.add(&traffic));
        }
        sum
    }

    /// The clients that have opened a flow, with the number of their backend, and how long ago that was.
    pub fn openers(&self) -> Vec<(OpenerKey, usize, Duration)> {
        let now = monotonic();
        let both = self.openers.iter().filter_map(Result::ok).filter_map(|(key, opener)| {
            let opener = Opener::read_from_bytes(&opener).ok()?;
            let ago = now.saturating_sub(Duration::from_nanos(opener.seen));
            Some((OpenerKey::read_from_bytes(&key).ok()?, opener.backend as usize, ago))
        });
        both.collect()
    }

    /// What the program does with `frame`, and how the frame is then (BPF_PROG_TEST_RUN). It is counted as any other.
    ///
    /// # Errors
    /// A frame of less than 14 bytes, or more than a page takes.
    pub fn test_run(&mut self, frame: &[u8]) -> io::Result<(Action, Vec<u8>)> {
        let program = program(&mut self.ebpf)?;
        let fd = program.fd().map_err(|e| refused("the program", &e))?;
        raw::test_run(fd.as_fd(), frame)
    }
}

/// CLOCK_MONOTONIC, which is the program's clock.
fn monotonic() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(Duration::ZERO, Duration::from)
}

fn trie_key(key: &PermitKey) -> Key<[u8; size_of::<PermitKey>() - 4]> {
    let mut data = [0; size_of::<PermitKey>() - 4];
    data.copy_from_slice(&key.as_bytes()[4..]);
    Key::new(key.prefix, data)
}

fn program(ebpf: &mut Ebpf) -> io::Result<&mut Xdp> {
    let program = ebpf.program_mut(PROGRAM).ok_or_else(|| broken("there is no program"))?;
    program.try_into().map_err(|e: ProgramError| refused("it is no program for XDP", &e))
}

fn fd_link(link: XdpLink) -> io::Result<FdLink> {
    // Older kernels attach without a link, which nothing would take away with the process.
    FdLink::try_from(link).map_err(|_| io::Error::new(ErrorKind::Unsupported, format!("a link: {OLD}")))
}

const OLD: &str = "this takes Linux 5.11 or newer";

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the program in this pen-dsr is broken: {what}"))
}

fn wrong(e: MapError) -> io::Error {
    refused("a map is not what the program takes", &e)
}

/// What the system said, which is at the end of a chain of errors.
fn errno(e: &(dyn Error + 'static)) -> Option<i32> {
    let mut at = Some(e);
    while let Some(e) = at {
        if let Some(errno) = e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(errno);
        }
        at = e.source();
    }
    None
}

/// `what` is what the system refused with `e`: that, and what to do.
fn refused(what: &str, e: &(dyn Error + 'static)) -> io::Error {
    let Some(errno) = errno(e) else {
        return io::Error::other(format!("{what}: {e}"));
    };
    let said = io::Error::from_raw_os_error(errno);
    let remedy = match errno {
        libc::EPERM | libc::EACCES => "it takes CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: run this as root",
        libc::ENOMEM => "there is too little memory: try fewer --flow-entries",
        libc::ENOSYS | libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP => OLD,
        _ => return io::Error::new(said.kind(), format!("{what}: {said}")),
    };
    io::Error::new(said.kind(), format!("{what}: {said}: {remedy}"))
}

fn not_attached(mode: Attached, e: &(dyn Error + 'static)) -> io::Error {
    let what = format!("the program cannot be attached ({})", mode.name());
    let remedy = match (errno(e), mode) {
        (Some(libc::EBUSY | libc::EEXIST), _) => {
            "another program is attached there (bpftool net): remove the folder that it is pinned in, or bpftool link detach id N"
        }
        (Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE), Attached::Native) => {
            "the interface's driver does not take it (a look into dmesg may tell why): --xdp-mode generic"
        }
        _ => return refused(&what, e),
    };
    let said = errno(e).map_or_else(|| io::Error::other(e.to_string()), io::Error::from_raw_os_error);
    io::Error::new(said.kind(), format!("{what}: {said}: {remedy}"))
}

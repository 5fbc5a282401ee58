//! `/dev/netmap`: registering a port with the kernel, see netmap(4).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use netmap_sys::{
    NETMAP_DEVICE_NAME, NETMAP_REQ_PORT_INFO_GET, NETMAP_REQ_REGISTER, NIOCCTRL, NIOCRXSYNC, NIOCTXSYNC, NR_EXCLUSIVE,
    NR_REG_ALL_NIC, NR_REG_NIC_SW, NR_REG_ONE_NIC, NR_REG_SW, nmreq_header, nmreq_port_info_get, nmreq_register,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::NetmapPort;
use super::kernel::{Kernel, Polled};
use super::parts::{Parts, Registration, Rings, Side, deal};
use super::ring::Region;
use crate::failure::{Failure, Sysexit};
use crate::os;
use crate::port::{Kind, NetmapName, WakeReceiver, Waker, waker};
use crate::wire::ether::Mac;
use tracing::warn;

/// Registrations that one worker can poll; a NIC with more ring pairs is served by one worker.
const MOST_POLLED: usize = 64;
const MISSING: &str = "netmap is not in this kernel: on FreeBSD add \"device netmap\" to it (GENERIC has it) or kldload \
                       netmap, on Linux build its module and modprobe netmap";
const FOREIGN_API: &str = "the kernel's netmap does not know interface version 14, which kernels of version 14 to 15 do: run \
                           FreeBSD 12.1 or newer, or a current netmap module";
const NOT_PERMITTED: &str = "it has to be readable and writable: run this as root, or give its user a devfs rule (FreeBSD) \
                             or a udev rule (Linux) for it";

/// One registration with the kernel.
pub struct Device {
    file: File,
    /// Of a NIC whose rings are registered one by one, the registration of all of them, which is closed last.
    _master: Option<Arc<Device>>,
}

/// A region that the kernel has mapped for us.
struct Mapping {
    map: MmapRaw,
    id: u16,
}

// SAFETY: a mapping lives as long as the value, readable and writable, and begins at a page.
unsafe impl Region for Mapping {
    fn base(&self) -> NonNull<u8> {
        NonNull::new(self.map.as_mut_ptr()).unwrap_or(NonNull::dangling())
    }

    fn size(&self) -> usize {
        self.map.len()
    }

    fn id(&self) -> u32 {
        u32::from(self.id)
    }
}

/// What is to be opened.
pub struct Opening<'a> {
    /// Where the clients are.
    pub front: &'a NetmapName,
    /// The second arm, with its MAC.
    pub back: Option<(&'a NetmapName, Mac)>,
    /// Leave the host rings alone?
    pub dedicated: bool,
    /// The most workers that there may be.
    pub workers: usize,
}

/// Opens it: a port and its waker for each worker.
///
/// # Errors
/// What could not be opened, why, and what to do: see [`Sysexit`] for the kinds.
pub fn open(opening: &Opening<'_>) -> Result<Vec<(NetmapPort<Device>, Waker)>, Failure> {
    let front_pairs = pairs(opening.front)?;
    let back_pairs = opening.back.map(|(name, _)| pairs(name)).transpose()?;
    let fewest = back_pairs.map_or(front_pairs, |back| back.min(front_pairs));
    let mut workers = usize::from(fewest).min(opening.workers).max(1);
    // A worker polls the pairs that it is dealt, and perhaps the host rings, of both arms.
    let all_pairs = usize::from(front_pairs) + usize::from(back_pairs.unwrap_or(0));
    if all_pairs.div_ceil(workers) + 2 > MOST_POLLED {
        workers = 1;
    }
    let mut mappings = Vec::new();
    let mut side = |name: &NetmapName, pairs: Option<u16>| {
        register(name, opening.dedicated, pairs.filter(|_| workers > 1), &mut mappings)
    };
    let front = side(opening.front, Some(front_pairs))?;
    let back = opening.back.map(|(name, mac)| side(name, back_pairs).map(|side| (side, mac))).transpose()?;
    let wakers = (0..workers).map(|_| waker()).collect::<io::Result<Vec<_>>>();
    let wakers = wakers.map_err(|e| Failure::new(Sysexit::OsErr, format!("no socket pair: {e}")))?;
    let (wakers, receivers): (Vec<_>, Vec<_>) = wakers.into_iter().unzip();
    let broken = |e: io::Error| Failure::new(Sysexit::OsErr, format!("{}: {e}", opening.front));
    let hands: Vec<Parts<Device>> = deal(front, back, &wakers).map_err(broken)?;
    let ports = hands.into_iter().zip(receivers).map(|(parts, wake)| NetmapPort::new(parts, wake));
    let ports = ports.collect::<io::Result<Vec<_>>>().map_err(broken)?;
    Ok(ports.into_iter().zip(wakers).collect())
}

/// Is netmap there, with an interface that this program speaks, for whoever this process is? Touches no port.
///
/// # Errors
/// As [`open`].
pub fn check(name: &NetmapName) -> Result<(), Failure> {
    let device = Device::open(name)?;
    device.info("").map(drop).map_err(|e| device.refused(name, Rings::Nic, &e))
}

/// How many workers can share the port: one for each ring pair of a NIC, if there are as many of one direction as of the
/// other. With more of the one, two workers would share a ring.
fn pairs(name: &NetmapName) -> Result<u16, Failure> {
    if name.kind != Kind::Nic || name.ring.is_some() {
        return Ok(1);
    }
    let device = Device::open(name)?;
    let there_are = device.info(&name.port).map_err(|e| device.refused(name, Rings::Nic, &e))?;
    Ok(if there_are.nr_tx_rings == there_are.nr_rx_rings { there_are.nr_tx_rings } else { 1 })
}

/// Registers one port: with one registration, or where several workers are to share it, one for each of so many `pairs`.
fn register(
    name: &NetmapName,
    dedicated: bool,
    pairs: Option<u16>,
    mappings: &mut Vec<Arc<Mapping>>,
) -> Result<Side<Device>, Failure> {
    let with_host = name.kind == Kind::Nic && !dedicated;
    let all = if with_host { Rings::NicAndHost } else { Rings::Nic };
    // Drivers start the NIC anew when the first of its rings is registered, and some cannot be open in part (iflib before
    // FreeBSD 12.2). So all are taken at once, and after that dealt to the workers.
    let master = match pairs {
        Some(_) => Some(Arc::new(Device::open(name)?.register(name, all, 0, mappings)?.kernel)),
        None => None,
    };
    let flags = if master.is_some() { 0 } else { NR_EXCLUSIVE };
    let mut registrations = Vec::new();
    let mut take = |rings| {
        let device = Device { _master: master.clone(), ..Device::open(name)? };
        device.register(name, rings, flags, mappings).map(|taken| registrations.push(taken))
    };
    let lanes: Vec<Rings> = match (name.ring, pairs) {
        (Some(ring), _) => vec![Rings::Pair(ring)],
        (None, Some(pairs)) => (0..pairs).map(Rings::Pair).collect(),
        (None, None) => vec![all],
    };
    for &rings in &lanes {
        match take(rings) {
            Err(failure) if rings == Rings::NicAndHost && !has_host_rings(name)? => {
                warn!("{name} has no host rings, this host has no part in it: {failure}");
                take(Rings::Nic)?;
            }
            taken => taken?,
        }
    }
    if with_host && lanes != [Rings::NicAndHost] {
        take(Rings::Host)?;
    }
    // What another program puts into a pipe is whole; a virtual NIC's peer may have left checksums to the hardware.
    Ok(Side { registrations, finish: name.kind != Kind::Pipe })
}

/// Has the port host rings? A port of a VALE switch that stays looks like an interface, and has none.
fn has_host_rings(name: &NetmapName) -> Result<bool, Failure> {
    let device = Device::open(name)?;
    let mut request = nmreq_register { nr_mode: NR_REG_SW, ..nmreq_register::default() };
    let refused = device.control(NETMAP_REQ_REGISTER, &name.port, &mut request).err();
    Ok(refused.is_none_or(|e| e.raw_os_error() != Some(Errno::EINVAL as i32)))
}

impl Device {
    fn open(name: &NetmapName) -> Result<Device, Failure> {
        let path = Path::new(NETMAP_DEVICE_NAME.to_str().unwrap_or("/dev/netmap"));
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.map(|file| Device { file, _master: None }).map_err(|e| {
            let (code, remedy) = match e.kind() {
                ErrorKind::NotFound => (Sysexit::Unavailable, MISSING),
                ErrorKind::PermissionDenied => (Sysexit::NoPerm, NOT_PERMITTED),
                _ => (Sysexit::OsErr, "is the module sound?"),
            };
            Failure::new(code, format!("{name}: {} cannot be opened: {e}: {remedy}", path.display()))
        })
    }

    /// Puts one request, with its body.
    fn control<T>(&self, request: u16, port: &str, body: &mut T) -> io::Result<()> {
        let mut header = match port {
            "" => nmreq_header::anonymous(request),
            port => nmreq_header::new(request, port).map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?,
        };
        header.nr_body = std::ptr::from_mut(body) as u64;
        // SAFETY: the header lives through the call, and so does the body that it names, which is the one for the request.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), NIOCCTRL, &raw mut header) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// What there is of the port `port`; without a name, nothing but the answer of a kernel that understands.
    fn info(&self, port: &str) -> io::Result<nmreq_port_info_get> {
        let mut info = nmreq_port_info_get::default();
        self.control(NETMAP_REQ_PORT_INFO_GET, port, &mut info)?;
        Ok(info)
    }

    fn register(
        self,
        name: &NetmapName,
        rings: Rings,
        flags: u64,
        mappings: &mut Vec<Arc<Mapping>>,
    ) -> Result<Registration<Device>, Failure> {
        let mut request = nmreq_register { nr_flags: flags, ..nmreq_register::default() };
        (request.nr_mode, request.nr_ringid) = match rings {
            Rings::Nic => (NR_REG_ALL_NIC, 0),
            Rings::NicAndHost => (NR_REG_NIC_SW, 0),
            Rings::Pair(ring) => (NR_REG_ONE_NIC, ring),
            Rings::Host => (NR_REG_SW, 0),
        };
        self.control(NETMAP_REQ_REGISTER, &name.port, &mut request).map_err(|e| self.refused(name, rings, &e))?;
        let failed =
            |what: &str, e: &dyn std::fmt::Display| Failure::new(Sysexit::OsErr, format!("{name}: {what}: {e}"));
        let known = mappings.iter().find(|m| m.id == request.nr_mem_id && m.map.len() as u64 == request.nr_memsize);
        let mapping = match known {
            Some(mapping) => Arc::clone(mapping),
            None => {
                let len = usize::try_from(request.nr_memsize).map_err(|e| failed("its memory", &e))?;
                let map = MmapOptions::new().len(len).map_raw(&self.file);
                let map = map.map_err(|e| failed("its memory cannot be mapped", &e))?;
                let mapping = Arc::new(Mapping { map, id: request.nr_mem_id });
                mappings.push(Arc::clone(&mapping));
                mapping
            }
        };
        os::limit_netmap(self.file.as_fd()).map_err(|e| failed("its descriptor cannot be limited", &e))?;
        Ok(Registration { kernel: self, region: mapping, offset: request.nr_offset, rings })
    }

    /// Why the kernel has refused the port, and what to do.
    fn refused(&self, name: &NetmapName, rings: Rings, e: &io::Error) -> Failure {
        let interface = name.interface().unwrap_or(&name.port);
        let (code, why) = match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBUSY) if rings == Rings::Host => (
                Sysexit::Unavailable,
                "its ring pair is free, but another program has its host rings; --dedicated leaves those to that one"
                    .to_owned(),
            ),
            Some(Errno::EBUSY) => (Sysexit::Unavailable, "device busy; another program has it open".to_owned()),
            Some(Errno::ENXIO | Errno::ENODEV | Errno::ENOENT) => {
                (Sysexit::Unavailable, format!("there is no such port; is {interface:?} there, and its name right?"))
            }
            Some(Errno::ENOMEM) => (
                Sysexit::OsErr,
                "no memory left for its rings; raise the sysctls dev.netmap.buf_num, ring_num, if_num, or close other \
                 netmap programs"
                    .to_owned(),
            ),
            Some(Errno::EIO) => (
                Sysexit::Unavailable,
                "its peer wants virtio-net headers before frames; set up the port without them".to_owned(),
            ),
            Some(Errno::EOPNOTSUPP) => (Sysexit::Unavailable, "this kind of port is not in the kernel".to_owned()),
            Some(Errno::EPERM | Errno::EACCES) => (Sysexit::NoPerm, NOT_PERMITTED.to_owned()),
            // Not of the port, but of the version: the same without a port's name tells.
            Some(Errno::EINVAL | Errno::ENOTTY) => {
                let known = self.info("").is_ok();
                let ring =
                    name.ring.map_or("; is the name right?".to_owned(), |ring| format!("; has it a ring pair {ring}?"));
                (Sysexit::Unavailable, if known { format!("invalid{ring}") } else { FOREIGN_API.to_owned() })
            }
            _ => (Sysexit::OsErr, "see the kernel's messages (dmesg)".to_owned()),
        };
        Failure::new(code, format!("{name}: netmap refused ({e}): {why}"))
    }
}

impl Kernel for Device {
    #[inline]
    fn sync_tx(&mut self) -> io::Result<()> {
        // SAFETY: the request takes no argument.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), NIOCTXSYNC) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    #[inline]
    fn sync_rx(&mut self) -> io::Result<()> {
        // SAFETY: the request takes no argument.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), NIOCRXSYNC) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn drain(&mut self, until: Instant) {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut fds, timeout(Some(until)));
    }

    fn poll(devices: &mut [Device], wake: &WakeReceiver, until: Option<Instant>) -> io::Result<Polled> {
        // No allocation: this is on the way of a frame.
        let mut fds: [PollFd<'_>; MOST_POLLED + 1] = std::array::from_fn(|place| {
            let device = place.checked_sub(1).and_then(|place| devices.get(place));
            PollFd::new(device.map_or(wake.as_fd(), |device| device.file.as_fd()), PollFlags::POLLIN)
        });
        let fds = &mut fds[..=devices.len().min(MOST_POLLED)];
        match poll(fds, timeout(until)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Polled::default()),
            Err(e) => return Err(e.into()),
        }
        let said = |fd: &PollFd<'_>, what: PollFlags| fd.revents().is_some_and(|revents| revents.intersects(what));
        let failed = PollFlags::POLLERR | PollFlags::POLLNVAL | PollFlags::POLLHUP;
        Ok(Polled {
            woken: said(&fds[0], PollFlags::POLLIN),
            ready: fds[1..].iter().any(|fd| said(fd, PollFlags::POLLIN)),
            failed: fds[1..].iter().any(|fd| said(fd, failed)),
        })
    }
}

/// How long it is until `until`, for `poll(2)`: in whole milliseconds, not shorter.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left.saturating_add(Duration::from_micros(999)).as_millis()).unwrap_or(PollTimeout::MAX)
}

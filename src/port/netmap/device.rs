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
    let mut mappings = Vec::new();
    let mut side = |name: &NetmapName| register(name, opening, &mut mappings);
    let front = side(opening.front)?;
    let back = opening.back.map(|(name, mac)| side(name).map(|side| (side, mac))).transpose()?;
    let lanes = back.as_ref().map_or(front.lanes(), |(back, _)| back.lanes().min(front.lanes()));
    let wakers = (0..lanes.clamp(1, opening.workers.max(1))).map(|_| waker()).collect::<io::Result<Vec<_>>>();
    let wakers = wakers.map_err(|e| Failure::new(Sysexit::OsErr, format!("no socket pair: {e}")))?;
    let (wakers, receivers): (Vec<_>, Vec<_>) = wakers.into_iter().unzip();
    let broken = |e: io::Error| Failure::new(Sysexit::OsErr, format!("{}: {e}", opening.front));
    let hands: Vec<Parts<Device>> = deal(front, back, &wakers).map_err(broken)?;
    let ports = hands.into_iter().zip(receivers).map(|(parts, wake)| NetmapPort::new(parts, wake));
    let ports = ports.collect::<io::Result<Vec<_>>>().map_err(broken)?;
    Ok(ports.into_iter().zip(wakers).collect())
}

/// Registers one port: with one registration, or one for each ring pair where several workers are to share it.
fn register(
    name: &NetmapName,
    opening: &Opening<'_>,
    mappings: &mut Vec<Arc<Mapping>>,
) -> Result<Side<Device>, Failure> {
    let host = name.kind == Kind::Nic && !opening.dedicated;
    let mut wanted = vec![if host { Rings::NicAndHost } else { Rings::Nic }];
    if let Some(ring) = name.ring {
        wanted = vec![Rings::Pair(ring)];
        wanted.extend(host.then_some(Rings::Host));
    } else if name.kind == Kind::Nic && opening.workers > 1 {
        let there_are = port_info(name)?;
        let pairs = there_are.nr_tx_rings;
        // With more of one direction than of the other, workers would share a ring.
        if pairs > 1 && pairs == there_are.nr_rx_rings && usize::from(pairs) < MOST_POLLED {
            wanted = (0..pairs).map(Rings::Pair).collect();
            wanted.extend(host.then_some(Rings::Host));
        }
    }
    let mut registrations = Vec::new();
    for rings in wanted {
        let device = Device::open(name)?;
        registrations.push(device.register(name, rings, mappings)?);
    }
    // What another program puts into a pipe is whole; a virtual NIC's peer may have left checksums to the hardware.
    Ok(Side { registrations, finish: name.kind != Kind::Pipe })
}

/// How many rings the port has, before it is registered.
fn port_info(name: &NetmapName) -> Result<nmreq_port_info_get, Failure> {
    let device = Device::open(name)?;
    let mut info = nmreq_port_info_get::default();
    device.control(NETMAP_REQ_PORT_INFO_GET, &name.port, &mut info).map_err(|e| device.refused(name, &e))?;
    Ok(info)
}

impl Device {
    fn open(name: &NetmapName) -> Result<Device, Failure> {
        let path = Path::new(NETMAP_DEVICE_NAME.to_str().unwrap_or("/dev/netmap"));
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.map(|file| Device { file }).map_err(|e| {
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

    fn register(
        self,
        name: &NetmapName,
        rings: Rings,
        mappings: &mut Vec<Arc<Mapping>>,
    ) -> Result<Registration<Device>, Failure> {
        let mut request = nmreq_register { nr_flags: NR_EXCLUSIVE, ..nmreq_register::default() };
        (request.nr_mode, request.nr_ringid) = match rings {
            Rings::Nic => (NR_REG_ALL_NIC, 0),
            Rings::NicAndHost => (NR_REG_NIC_SW, 0),
            Rings::Pair(ring) => (NR_REG_ONE_NIC, ring),
            Rings::Host => (NR_REG_SW, 0),
        };
        self.control(NETMAP_REQ_REGISTER, &name.port, &mut request).map_err(|e| self.refused(name, &e))?;
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
    fn refused(&self, name: &NetmapName, e: &io::Error) -> Failure {
        let interface = name.interface().unwrap_or(&name.port);
        let (code, why) = match e.raw_os_error().map(Errno::from_raw) {
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
                let known = self.control(NETMAP_REQ_PORT_INFO_GET, "", &mut nmreq_port_info_get::default()).is_ok();
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

//! FreeBSD: bpf(4) through pnet, until netmap takes over.

mod gateways;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::{User, setgid, setgroups, setuid};
use socket2::{Domain, Socket, Type};

pub use gateways::gateways;

use crate::config::VipConfig;
use crate::failure::{Failure, Sysexit};
use crate::os::{Ready, Wanted};
use crate::wire::ether::Mac;

/// What to do when packet sockets are refused.
pub const PERMISSION_REMEDY: &str =
    "bpf(4) devices have to be readable and writable: run it as root, or give its user a devfs rule for bpf*";

/// Bytes before each frame: none.
pub const FRAME_PREFIX: usize = 0;

/// How long one read may wait. pnet keeps its bpf descriptor to itself, so that reading is the only way to wait.
pub const READ_TIMEOUT: Duration = Duration::from_millis(5);

/// The sockets of a port: pnet opens its own.
pub struct PacketSockets {
    /// For pnet: none, it opens a bpf device itself.
    pub plain: Option<OwnedFd>,
    /// Nothing stands aside: bpf delivers VLAN tags in the frame.
    pub aside: AsideReceiver,
}

/// Nothing to open: pnet opens a bpf device.
///
/// # Errors
/// None.
pub fn open_packet_sockets(_index: u32, _wanted: &Wanted) -> io::Result<PacketSockets> {
    Ok(PacketSockets { plain: None, aside: AsideReceiver })
}

/// Makes the prefix of a frame that the engine originates: there is none.
pub fn prepare_send(_prefix: &mut [u8]) {}

/// Receives nothing: all frames come by the same way.
pub struct AsideReceiver;

impl AsideReceiver {
    /// No frame waits.
    ///
    /// # Errors
    /// None.
    pub fn receive(&mut self, _buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(None)
    }
}

impl PacketSockets {
    /// What to poll for frames: nothing.
    pub fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    /// There is no filter to change.
    ///
    /// # Errors
    /// None.
    pub fn filters(&self) -> io::Result<FilterControl> {
        Ok(FilterControl)
    }

    /// bpf counts its losses where pnet does not show them.
    pub fn take_drops(&self) -> u64 {
        0
    }
}

/// Would change what the sockets take: pnet's bpf device takes every frame.
pub struct FilterControl;

impl FilterControl {
    /// Nothing has to be done.
    ///
    /// # Errors
    /// None.
    pub fn replace(&self, _wanted: &Wanted) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for nothing: reading itself waits a little.
pub struct Waiter;

impl Waiter {
    /// A waiter that `_wake` need not interrupt.
    ///
    /// # Errors
    /// None.
    pub fn new(_sockets: &PacketSockets, _wake: impl AsFd) -> io::Result<Waiter> {
        Ok(Waiter)
    }

    /// Returns at once, as if woken.
    ///
    /// # Errors
    /// None.
    pub fn wait(&self, _until: Option<Instant>) -> io::Result<Ready> {
        Ok(Ready { woken: true, ..Ready::default() })
    }
}

/// Keeping the host's stack from the VIPs' frames: bpf cannot.
pub struct IngressDrop;

impl IngressDrop {
    /// Always refused.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`].
    pub fn install(_interface: &str, _vips: &[VipConfig], _wanted: &Wanted) -> io::Result<IngressDrop> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "bpf(4) leaves every frame to the host, too"))
    }
}

/// Groups joined; left again when this is dropped.
pub struct Memberships {
    _mld: Vec<Socket>,
}

impl Memberships {
    /// Joins, on interface number `index`, the solicited-node groups of the IPv6 addresses that are VIPs or send probes.
    /// Those of an IPv6 tarpit would be too many: of that, only what the interface lets through anyway is answered.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::Unsupported`] for an `extra` MAC.
    pub fn join(index: u32, wanted: &Wanted, extra: Option<Mac>) -> io::Result<Memberships> {
        if extra.is_some() {
            let why = "another MAC for the VIPs would need the interface in promiscuous mode";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let mut mld = Vec::new();
        for group in wanted.groups() {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
            socket.join_multicast_v6(&group, index)?;
            mld.push(socket);
        }
        Ok(Memberships { _mld: mld })
    }
}

/// Becomes `user` for good; the bpf descriptor stays open. An interface that goes away and returns cannot be opened
/// again then, unless the user may open bpf devices.
///
/// # Errors
/// Not permitted.
pub fn drop_privileges(user: &User) -> Result<(), Failure> {
    let refused = |what: &str, e: nix::Error| {
        Failure::new(
            Sysexit::NoPerm,
            format!("cannot become user {:?} ({what}: {e}); start as root, or leave -u out", user.name),
        )
    };
    setgroups(&[user.gid]).map_err(|e| refused("setgroups", e))?;
    setgid(user.gid).map_err(|e| refused("setgid", e))?;
    setuid(user.uid).map_err(|e| refused("setuid", e))
}

//! What an interface does for the host's stack and netmap(4) cannot carry: its capabilities, see ifconfig(8).
//!
//! netmap hands over plain frames: nothing in a slot says that a checksum is still to be made, that a frame is to be cut
//! into segments or was put together from some, or which VLAN tag was taken out.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::{c_int, c_ulong};
use nix::errno::Errno;

use super::link::{IOC_IN, IOC_OUT, request, request_code};
use crate::os::ActiveOffloads;
use crate::os::ifname::IfName;
use crate::os::setup::{Bits, Purpose, request_socket};

const SIOCSIFCAP: c_ulong = request_code(IOC_IN, 30);
const SIOCGIFCAP: c_ulong = request_code(IOC_IN | IOC_OUT, 31);

/// Between two looks whether netmap has let go.
const RELEASE_INTERVAL: Duration = Duration::from_millis(20);
/// Looks until it is not waited for any longer: another program has the interface open, too.
const RELEASE_LOOKS: u32 = 100;

/// Capabilities that have to be off, and ifconfig(8)'s words for them, as FreeBSD 12.1 knows them, too.
const UNWANTED: [(c_int, &str); 9] = [
    (libc::IFCAP_RXCSUM, "rxcsum"),
    (libc::IFCAP_TXCSUM, "txcsum"),
    (libc::IFCAP_RXCSUM_IPV6, "rxcsum6"),
    (libc::IFCAP_TXCSUM_IPV6, "txcsum6"),
    (libc::IFCAP_TSO4, "tso4"),
    (libc::IFCAP_TSO6, "tso6"),
    (libc::IFCAP_LRO, "lro"),
    (libc::IFCAP_VLAN_HWTAGGING, "vlanhwtag"),
    (libc::IFCAP_VLAN_HWTSO, "vlanhwtso"),
];

/// The offloads of an interface: here, the same for all.
#[derive(Debug)]
pub(in crate::os) struct Offloads;

impl Offloads {
    /// Those of the interface `name`.
    ///
    /// # Errors
    /// None here.
    pub(in crate::os) fn of(_socket: BorrowedFd<'_>, _name: IfName, _purpose: Purpose) -> io::Result<Offloads> {
        Ok(Offloads)
    }

    /// Those that are on and should not be.
    pub(in crate::os) fn active(&self, socket: BorrowedFd<'_>, name: IfName) -> Result<Bits, Errno> {
        capabilities(socket, name).map(|now| bits(now & unwanted()))
    }

    /// Switches off what is on and should not be; which were, with those that the driver then switched off, too.
    pub(in crate::os) fn switch_off(&self, socket: BorrowedFd<'_>, name: IfName) -> Result<Bits, Errno> {
        let before = capabilities(socket, name)?;
        match set_capabilities(socket, name, before & !unwanted()) {
            // A driver that can do without none of them.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOTTY) => {}
            outcome => outcome?,
        }
        let after = capabilities(socket, name)?;
        Ok(bits(before & !after & !libc::IFCAP_NETMAP))
    }

    /// Switches on what was switched off.
    pub(in crate::os) fn switch_on(&self, socket: BorrowedFd<'_>, name: IfName, which: Bits) -> Result<(), Errno> {
        let now = capabilities(socket, name)?;
        set_capabilities(socket, name, now | which as u32 as c_int)
    }

    /// Waits until netmap has let go of the interface, but no longer than 2 s: only system calls.
    ///
    /// A process that is killed loses its descriptors first and its mappings last (the kernel's exit1: fdescfree, then
    /// vmspace_exit), and the mapping keeps netmap's registration. Its keeper hears of the end by a descriptor, when the
    /// interface is still in netmap mode. A change then would start the driver's rings anew under netmap, and a second
    /// time when that lets go. Only drivers with netmap of their own show that mode; with others nothing is waited for.
    pub(in crate::os) fn await_release(&self, socket: BorrowedFd<'_>, name: IfName) {
        for _ in 0..RELEASE_LOOKS {
            match capabilities(socket, name) {
                Ok(now) if now & libc::IFCAP_NETMAP != 0 => std::thread::sleep(RELEASE_INTERVAL),
                _ => return,
            }
        }
    }

    /// The words for `which`, as far as they are of those that should not be on.
    pub(in crate::os) fn words(&self, which: Bits) -> Vec<&str> {
        UNWANTED.iter().filter(|(capability, _)| bits(*capability) & which != 0).map(|(_, word)| *word).collect()
    }
}

/// The offloads of `interface` that are on, that netmap cannot carry, and that can be switched off; `None`: it may be
/// used as it is.
///
/// # Errors
/// There is no such interface.
pub fn active_offloads(interface: &str, _purpose: Purpose) -> io::Result<Option<ActiveOffloads>> {
    let active = Offloads.active(request_socket()?.as_fd(), IfName::new(interface)?)?;
    Ok(described(interface, &Offloads.words(active)))
}

fn described(interface: &str, words: &[&str]) -> Option<ActiveOffloads> {
    let switches = words.iter().map(|word| format!(" -{word}"));
    (!words.is_empty()).then(|| ActiveOffloads {
        names: words.iter().map(|word| (*word).to_owned()).collect(),
        remedy: format!("ifconfig {interface}{}", switches.collect::<String>()),
    })
}

fn unwanted() -> c_int {
    UNWANTED.iter().fold(0, |all, (capability, _)| all | capability)
}

fn bits(capabilities: c_int) -> Bits {
    Bits::from(capabilities as u32)
}

/// The capabilities of an interface that are in use.
fn capabilities(socket: BorrowedFd<'_>, name: IfName) -> Result<c_int, Errno> {
    let mut request = request(name);
    // SAFETY: SIOCGIFCAP takes an ifreq, which outlives the call, and fills in ifru_cap.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFCAP, &raw mut request) })?;
    // SAFETY: the call has succeeded, so that ifru_cap is what is there: what there is, and what is in use of it.
    let [_, in_use] = unsafe { request.ifr_ifru.ifru_cap };
    Ok(in_use)
}

/// Has an interface use `wanted`, and nothing else.
fn set_capabilities(socket: BorrowedFd<'_>, name: IfName, wanted: c_int) -> Result<(), Errno> {
    let mut request = request(name);
    request.ifr_ifru.ifru_cap = [wanted, 0];
    // SAFETY: SIOCSIFCAP takes an ifreq with ifru_cap, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFCAP, &raw mut request) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_codes_are_those_of_the_system_header() {
        assert_eq!((SIOCSIFCAP, SIOCGIFCAP), (0x8020_691e, 0xc020_691f));
    }

    #[test]
    fn words_are_those_of_ifconfig() {
        let on = bits(libc::IFCAP_TXCSUM | libc::IFCAP_LRO | libc::IFCAP_VLAN_MTU);
        let said = described("vtnet1", &Offloads.words(on)).unwrap();
        assert_eq!(said.names, ["txcsum", "lro"]);
        assert_eq!(said.remedy, "ifconfig vtnet1 -txcsum -lro");
        assert_eq!(described("vtnet1", &Offloads.words(bits(libc::IFCAP_VLAN_MTU))), None);
    }

    #[test]
    fn the_loopback_has_capabilities_to_ask_for() {
        let socket = request_socket().unwrap();
        assert!(capabilities(socket.as_fd(), IfName::new("lo0").unwrap()).is_ok());
        assert_eq!(active_offloads("no-such0", Purpose::Netmap).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    }
}

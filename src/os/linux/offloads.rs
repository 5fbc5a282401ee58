//! What an interface does for the host's stack and netmap cannot carry: its features, see ethtool(8).
//!
//! netmap hands over plain frames: nothing in a slot says that a checksum is still to be made, that a frame is to be cut
//! into segments or was put together from some, or which VLAN tag was taken out.
//!
//! The kernel numbers features anew with every version, but their names stay (`linux/ethtool.h`, ETH_SS_FEATURES). It
//! keeps what was asked for and works out from that what is on; what was asked for is what is changed and put back here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::link::request;
use crate::os::ActiveOffloads;
use crate::os::ifname::IfName;
use crate::os::setup::{Bits, Purpose, request_socket};

// From linux/ethtool.h.
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;

/// Words of 32 features each that there is room for; Linux 6.x has two.
const WORDS: usize = 4;
/// Features that there is room for.
const MOST: usize = 32 * WORDS;

/// Features that have to be off for netmap, and ethtool(8)'s words for them, of which some stand for several.
const UNWANTED: [(&str, &str); 19] = [
    ("rx-checksum", "rx"),
    ("tx-checksum-ipv4", "tx"),
    ("tx-checksum-ip-generic", "tx"),
    ("tx-checksum-ipv6", "tx"),
    ("tx-checksum-fcoe-crc", "tx"),
    ("tx-checksum-sctp", "tx"),
    ("tx-tcp-segmentation", "tso"),
    ("tx-tcp-ecn-segmentation", "tso"),
    ("tx-tcp-mangleid-segmentation", "tso"),
    ("tx-tcp6-segmentation", "tso"),
    ("tx-udp-segmentation", "tx-udp-segmentation"),
    ("tx-generic-segmentation", "gso"),
    ("rx-gro", "gro"),
    ("rx-gro-hw", "rx-gro-hw"),
    ("rx-lro", "lro"),
    ("rx-vlan-hw-parse", "rxvlan"),
    ("tx-vlan-hw-insert", "txvlan"),
    ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
    ("tx-vlan-stag-hw-insert", "tx-vlan-stag-hw-insert"),
];

/// Of these, what a program in the NIC's driver cannot do with: it sees frames without the tags that are taken out, and
/// frames that are put together do not fit its buffers.
const UNWANTED_BY_XDP: [&str; 4] = ["rx-gro-hw", "rx-lro", "rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// The offloads of an interface that should not be on, as this kernel numbers them.
#[derive(Debug)]
pub(in crate::os) struct Offloads {
    /// Features that this kernel has.
    count: usize,
    unwanted: Bits,
    words: Vec<(Bits, &'static str)>,
}

impl Offloads {
    /// Those of the interface `name`, as far as they are in the way of `purpose`.
    ///
    /// # Errors
    /// There is no such interface; a kernel that has more features than any today.
    pub(in crate::os) fn of(socket: BorrowedFd<'_>, name: IfName, purpose: Purpose) -> io::Result<Offloads> {
        let mut info = SsetInfo { cmd: ETHTOOL_GSSET_INFO, reserved: 0, mask: 1 << ETH_SS_FEATURES, count: 0 };
        ethtool(socket, name, &mut info)?;
        let count = info.count as usize;
        if count > MOST {
            let why = format!("this kernel has {count} offload features, more than the {MOST} that are known of");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let mut strings =
            Strings { cmd: ETHTOOL_GSTRINGS, set: ETH_SS_FEATURES, count: 0, names: [[0; ETH_GSTRING_LEN]; MOST] };
        ethtool(socket, name, &mut strings)?;
        let mut offloads = Offloads { count, unwanted: 0, words: Vec::new() };
        let is_unwanted = |feature: &&str| purpose == Purpose::Netmap || UNWANTED_BY_XDP.contains(feature);
        for (feature, word) in UNWANTED.into_iter().filter(|(feature, _)| is_unwanted(feature)) {
            let known = strings.names.iter().take(count);
            if let Some(number) = known.map(until_nul).position(|bytes| bytes == feature.as_bytes()) {
                offloads.unwanted |= 1 << number;
                offloads.words.push((1 << number, word));
            }
        }
        Ok(offloads)
    }

    /// Those that are on and should not be.
    pub(in crate::os) fn active(&self, socket: BorrowedFd<'_>, name: IfName) -> Result<Bits, Errno> {
        self.features(socket, name).map(|features| features.active & self.unwanted)
    }

    /// Switches off what is on and should not be; which were.
    pub(in crate::os) fn switch_off(&self, socket: BorrowedFd<'_>, name: IfName) -> Result<Bits, Errno> {
        let before = self.features(socket, name)?;
        let which = before.active & before.changeable() & self.unwanted;
        if which != 0 {
            self.set(socket, name, which, 0)?;
        }
        Ok(which)
    }

    /// Switches on what was switched off.
    pub(in crate::os) fn switch_on(&self, socket: BorrowedFd<'_>, name: IfName, which: Bits) -> Result<(), Errno> {
        self.set(socket, name, which, which)
    }

    /// Waits until netmap has let go of the interface: here there is nothing to wait for. A process that is killed loses
    /// its mapping of netmap before its descriptors (the kernel's do_exit: exit_mm, then exit_files), so that netmap lets
    /// go when those are closed, which is also when its keeper hears of it. No feature tells of netmap either.
    pub(in crate::os) fn await_release(&self, _socket: BorrowedFd<'_>, _name: IfName) {}

    /// The words for `which`, each once.
    pub(in crate::os) fn words(&self, which: Bits) -> Vec<&str> {
        let mut words: Vec<&str> = Vec::new();
        for (_, word) in self.words.iter().filter(|(bit, _)| bit & which != 0) {
            if !words.contains(word) {
                words.push(word);
            }
        }
        words
    }

    fn features(&self, socket: BorrowedFd<'_>, name: IfName) -> Result<Features, Errno> {
        let mut get = GetFeatures { cmd: ETHTOOL_GFEATURES, size: self.size(), words: [[0; 4]; WORDS] };
        ethtool(socket, name, &mut get)?;
        let [available, requested, active, _never_changed] = from_words(&get.words);
        Ok(Features { available, requested, active })
    }

    /// Asks for those of `valid` that are in `requested`, and no others of them.
    fn set(&self, socket: BorrowedFd<'_>, name: IfName, valid: Bits, requested: Bits) -> Result<(), Errno> {
        let words = to_words([valid, requested]);
        ethtool(socket, name, &mut SetFeatures { cmd: ETHTOOL_SFEATURES, size: self.size(), words })
    }

    /// The kernel wants exactly as many words as it has features for.
    fn size(&self) -> u32 {
        self.count.div_ceil(32) as u32
    }
}

/// The offloads of `interface` that are on, that are in the way of `purpose`, and that can be switched off; `None`: it may
/// be used as it is.
///
/// # Errors
/// There is no such interface.
pub fn active_offloads(interface: &str, purpose: Purpose) -> io::Result<Option<ActiveOffloads>> {
    let (socket, name) = (request_socket()?, IfName::new(interface)?);
    let offloads = Offloads::of(socket.as_fd(), name, purpose)?;
    let features = offloads.features(socket.as_fd(), name)?;
    let words = offloads.words(features.active & features.changeable() & offloads.unwanted);
    let switches = words.iter().map(|word| format!(" {word} off"));
    Ok((!words.is_empty()).then(|| ActiveOffloads {
        names: words.iter().map(|word| (*word).to_owned()).collect(),
        remedy: format!("ethtool -K {interface}{}", switches.collect::<String>()),
    }))
}

/// Is there a device behind `interface`, on a bus, or is it made of software alone, such as a veth or a bridge?
pub fn has_hardware(interface: &str) -> bool {
    let ask = || -> io::Result<DriverInfo> {
        let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, names: [[0; ETH_GSTRING_LEN]; 5], rest: [0; 32] };
        ethtool(request_socket()?.as_fd(), IfName::new(interface)?, &mut info)?;
        Ok(info)
    };
    // What drivers without a bus say.
    let none: [&[u8]; 4] = [b"", b"N/A", b"tun", b"tap"];
    ask().is_ok_and(|info| !none.contains(&until_nul(&info.names[BUS])))
}

/// The features of an interface.
struct Features {
    /// Those that can be switched.
    available: Bits,
    /// Those that were asked for.
    requested: Bits,
    /// Those that are on.
    active: Bits,
}

impl Features {
    /// Those that are on because somebody asked for them.
    fn changeable(&self) -> Bits {
        self.available & self.requested
    }
}

/// `struct ethtool_drvinfo`: driver, version, firmware, bus, extension ROM, and what is not looked at here.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    names: [[u8; ETH_GSTRING_LEN]; 5],
    rest: [u8; 32],
}

/// Where the bus is said.
const BUS: usize = 3;

/// `struct ethtool_sset_info`.
#[repr(C)]
struct SsetInfo {
    cmd: u32,
    reserved: u32,
    mask: u64,
    count: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    cmd: u32,
    set: u32,
    count: u32,
    names: [[u8; ETH_GSTRING_LEN]; MOST],
}

/// `struct ethtool_gfeatures`, each word with its `struct ethtool_get_features_block`.
#[repr(C)]
struct GetFeatures {
    cmd: u32,
    size: u32,
    words: [[u32; 4]; WORDS],
}

/// `struct ethtool_sfeatures`, each word with its `struct ethtool_set_features_block`.
#[repr(C)]
struct SetFeatures {
    cmd: u32,
    size: u32,
    words: [[u32; 2]; WORDS],
}

/// Requests by SIOCETHTOOL whose size is fixed, or that say themselves how large they are.
///
/// # Safety
/// The kernel writes no more than the type has room for: for [`Strings`] and [`GetFeatures`], as long as it has no more
/// than [`MOST`] features.
pub(super) unsafe trait Request {}

// SAFETY: of fixed size.
unsafe impl Request for DriverInfo {}
// SAFETY: of fixed size, as only one bit is set in its mask.
unsafe impl Request for SsetInfo {}
// SAFETY: `Offloads::of` asks for the number of features before.
unsafe impl Request for Strings {}
// SAFETY: the kernel fills in no more words than `size`, which `Offloads::of` has looked at.
unsafe impl Request for GetFeatures {}
// SAFETY: the kernel only reads it.
unsafe impl Request for SetFeatures {}

pub(super) fn ethtool(socket: BorrowedFd<'_>, name: IfName, what: &mut impl Request) -> Result<(), Errno> {
    let mut request = request(name);
    request.ifr_ifru.ifru_data = std::ptr::from_mut(what).cast();
    // SAFETY: SIOCETHTOOL takes an ifreq whose ifru_data points to a request, for whose size its type vouches; both
    // outlive the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) }).map(drop)
}

fn until_nul(bytes: &[u8; ETH_GSTRING_LEN]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// One set of features a column, from words of 32 features a row.
fn from_words<const N: usize>(words: &[[u32; N]; WORDS]) -> [Bits; N] {
    let mut sets = [0; N];
    for (row, word) in words.iter().enumerate() {
        for (set, part) in sets.iter_mut().zip(word) {
            *set |= Bits::from(*part) << (32 * row);
        }
    }
    sets
}

/// And back.
fn to_words<const N: usize>(sets: [Bits; N]) -> [[u32; N]; WORDS] {
    let mut words = [[0; N]; WORDS];
    for (row, word) in words.iter_mut().enumerate() {
        for (part, set) in word.iter_mut().zip(sets) {
            *part = (set >> (32 * row)) as u32;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_all_words_are_kept_apart() {
        let sets = [1 << 5 | 1 << 40 | 1 << 127, 1 << 31 | 1 << 32];
        let words = to_words(sets);
        assert_eq!(words, [[1 << 5, 1 << 31], [1 << 8, 1], [0, 0], [1 << 31, 0]]);
        assert_eq!(from_words(&words), sets);
    }

    #[test]
    fn the_kernel_names_its_features() {
        let (socket, name) = (request_socket().unwrap(), IfName::new("lo").unwrap());
        let offloads = match Offloads::of(socket.as_fd(), name, Purpose::Netmap) {
            Ok(offloads) => offloads,
            Err(e) => return println!("SKIPPED os::offloads: the loopback cannot be asked: {e}"),
        };
        assert!((33..=MOST).contains(&offloads.count), "{}", offloads.count);
        for word in ["rx", "tx", "tso", "gso", "gro", "lro", "rxvlan", "txvlan"] {
            assert!(offloads.words.iter().any(|(_, known)| *known == word), "{word}: {offloads:?}");
        }
        assert_eq!(offloads.words(offloads.unwanted).iter().filter(|word| **word == "tx").count(), 1);
    }

    #[test]
    fn the_loopback_has_no_hardware() {
        assert!(!has_hardware("lo") && !has_hardware("no-such0"));
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert_eq!(active_offloads("no-such0", Purpose::Netmap).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}

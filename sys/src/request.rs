//! What the `ioctl` [`NIOCCTRL`](crate::NIOCCTRL) takes: a header, which names
//! the port and the request, and a body for that request. See netmap(4).

#![allow(non_camel_case_types, reason = "the names of netmap(4), to be read beside it")]

use std::fmt;

use crate::NETMAP_API;

/// Request: bind the file descriptor to a port; body [`nmreq_register`].
pub const NETMAP_REQ_REGISTER: u16 = 1;
/// Request: how many rings and slots a port has; body [`nmreq_port_info_get`].
pub const NETMAP_REQ_PORT_INFO_GET: u16 = 2;
/// Request: attach a port to a VALE switch.
pub const NETMAP_REQ_VALE_ATTACH: u16 = 3;
/// Request: detach a port from a VALE switch.
pub const NETMAP_REQ_VALE_DETACH: u16 = 4;
/// Request: list the ports of a VALE switch.
pub const NETMAP_REQ_VALE_LIST: u16 = 5;
/// Request: set the length of the virtio-net header; body [`nmreq_port_hdr`].
pub const NETMAP_REQ_PORT_HDR_SET: u16 = 6;
/// Request: get the length of the virtio-net header; body [`nmreq_port_hdr`].
pub const NETMAP_REQ_PORT_HDR_GET: u16 = 7;
/// Request: make a VALE port that stays.
pub const NETMAP_REQ_VALE_NEWIF: u16 = 8;
/// Request: remove a VALE port that stays.
pub const NETMAP_REQ_VALE_DELIF: u16 = 9;

/// Bytes of a port name in a request, with the zero that ends it.
pub const NETMAP_REQ_IFNAMSIZ: usize = 64;

/// Mode: all rings of the NIC (`netmap:IF`).
pub const NR_REG_ALL_NIC: u32 = 1;
/// Mode: the rings of the host's stack (`netmap:IF^`).
pub const NR_REG_SW: u32 = 2;
/// Mode: both (`netmap:IF*`).
pub const NR_REG_NIC_SW: u32 = 3;
/// Mode: one ring pair of the NIC, by `nr_ringid` (`netmap:IF-k`).
pub const NR_REG_ONE_NIC: u32 = 4;
/// Mode: no port; memory only.
pub const NR_REG_NULL: u32 = 7;
/// Mode: one ring pair of the host's stack, by `nr_ringid` (`netmap:IF^k`).
pub const NR_REG_ONE_SW: u32 = 8;

/// Flag: a monitor of the tx rings.
pub const NR_MONITOR_TX: u64 = 0x100;
/// Flag: a monitor of the rx rings.
pub const NR_MONITOR_RX: u64 = 0x200;
/// Flag: a monitor that takes the buffers, instead of copies.
pub const NR_ZCOPY_MON: u64 = 0x400;
/// Flag: nobody else may open these rings.
pub const NR_EXCLUSIVE: u64 = 0x800;
/// Flag: bind the rx rings only.
pub const NR_RX_RINGS_ONLY: u64 = 0x2000;
/// Flag: bind the tx rings only.
pub const NR_TX_RINGS_ONLY: u64 = 0x4000;
/// Flag: the program copes with a virtio-net header before each frame.
pub const NR_ACCEPT_VNET_HDR: u64 = 0x8000;
/// Flag: `poll` syncs the rx rings even where it was not asked for `POLLIN`.
pub const NR_DO_RX_POLL: u64 = 0x10000;
/// Flag: `poll` syncs the tx rings only where it was asked for `POLLOUT`.
pub const NR_NO_TX_POLL: u64 = 0x20000;

/// The head of every request.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct nmreq_header {
    /// [`NETMAP_API`].
    pub nr_version: u16,
    /// `NETMAP_REQ_*`.
    pub nr_reqtype: u16,
    /// Zero.
    pub nr_reserved: u32,
    /// Name of the port, ended by a zero: the interface alone; which of its
    /// rings is for [`nmreq_register::nr_mode`] to say.
    pub nr_name: [u8; NETMAP_REQ_IFNAMSIZ],
    /// Address of the first option, or 0.
    pub nr_options: u64,
    /// Address of the body.
    pub nr_body: u64,
}

impl nmreq_header {
    /// A request of the type `NETMAP_REQ_*` for no port in particular, as yet
    /// without options and body.
    #[must_use]
    pub const fn anonymous(reqtype: u16) -> Self {
        let nr_name = [0; NETMAP_REQ_IFNAMSIZ];
        Self { nr_version: NETMAP_API, nr_reqtype: reqtype, nr_reserved: 0, nr_name, nr_options: 0, nr_body: 0 }
    }

    /// A request of the type `NETMAP_REQ_*` for the port `name`, as yet without
    /// options and body.
    ///
    /// # Errors
    /// [`BadPortName`] where `name` is empty, longer than 63 bytes, or holds a
    /// zero byte: the kernel would take it for another port.
    pub fn new(reqtype: u16, name: &str) -> Result<Self, BadPortName> {
        let name = name.as_bytes();
        let mut header = Self::anonymous(reqtype);
        if name.is_empty() || name.len() >= header.nr_name.len() || name.contains(&0) {
            return Err(BadPortName);
        }
        header.nr_name[..name.len()].copy_from_slice(name);
        Ok(header)
    }
}

/// A name that no netmap port can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPortName;

impl fmt::Display for BadPortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a netmap port name has 1 to {} bytes, none of them zero", NETMAP_REQ_IFNAMSIZ - 1)
    }
}

impl std::error::Error for BadPortName {}

/// Body of [`NETMAP_REQ_REGISTER`]: what is asked for, and in return what was
/// granted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nmreq_register {
    /// Out: bytes from the start of the mapping to the [`crate::netmap_if`].
    pub nr_offset: u64,
    /// Out: bytes to map.
    pub nr_memsize: u64,
    /// Slots in a tx ring; a wish where the port can choose.
    pub nr_tx_slots: u32,
    /// Slots in an rx ring; a wish where the port can choose.
    pub nr_rx_slots: u32,
    /// Tx rings of the NIC; a wish where the port can choose.
    pub nr_tx_rings: u16,
    /// Rx rings of the NIC; a wish where the port can choose.
    pub nr_rx_rings: u16,
    /// Tx rings towards the host's stack; a wish where the port can choose.
    pub nr_host_tx_rings: u16,
    /// Rx rings from the host's stack; a wish where the port can choose.
    pub nr_host_rx_rings: u16,
    /// Memory region; 0 leaves the choice to the kernel. Buffers can be swapped
    /// between ports of one region.
    pub nr_mem_id: u16,
    /// Which ring, in a mode for one ring.
    pub nr_ringid: u16,
    /// `NR_REG_*`.
    pub nr_mode: u32,
    /// Buffers wanted beside those of the rings; out: how many there are.
    pub nr_extra_bufs: u32,
    /// `NR_EXCLUSIVE` and its like.
    pub nr_flags: u64,
}

/// Body of [`NETMAP_REQ_PORT_INFO_GET`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nmreq_port_info_get {
    /// Bytes of the port's memory region.
    pub nr_memsize: u64,
    /// Slots in a tx ring.
    pub nr_tx_slots: u32,
    /// Slots in an rx ring.
    pub nr_rx_slots: u32,
    /// Tx rings of the NIC.
    pub nr_tx_rings: u16,
    /// Rx rings of the NIC.
    pub nr_rx_rings: u16,
    /// Tx rings towards the host's stack.
    pub nr_host_tx_rings: u16,
    /// Rx rings from the host's stack.
    pub nr_host_rx_rings: u16,
    /// Memory region, asked for (0: the port's own) and found.
    pub nr_mem_id: u16,
    /// Zero.
    pub pad: [u16; 3],
}

/// Body of [`NETMAP_REQ_PORT_HDR_SET`] and [`NETMAP_REQ_PORT_HDR_GET`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct nmreq_port_hdr {
    /// Bytes of the virtio-net header before each frame: 0, 10 or 12.
    pub nr_hdr_len: u32,
    /// Zero.
    pub pad1: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_carries_version_type_and_name() {
        let header = nmreq_header::new(NETMAP_REQ_REGISTER, "vtnet1").unwrap();
        assert_eq!((header.nr_version, header.nr_reqtype), (14, 1));
        assert_eq!(&header.nr_name[..7], b"vtnet1\0");
        assert_eq!((header.nr_options, header.nr_body), (0, 0));
    }

    #[test]
    fn a_name_always_leaves_room_for_its_zero() {
        let longest = "v".repeat(63);
        let header = nmreq_header::new(NETMAP_REQ_REGISTER, &longest).unwrap();
        assert_eq!(header.nr_name[62..], [b'v', 0]);
        let too_long = "v".repeat(64);
        assert_eq!(nmreq_header::new(NETMAP_REQ_REGISTER, &too_long), Err(BadPortName));
    }

    #[test]
    fn names_that_the_kernel_would_cut_are_refused() {
        for name in ["", "vtnet1\0", "vt\0net"] {
            assert_eq!(nmreq_header::new(NETMAP_REQ_REGISTER, name), Err(BadPortName), "{name:?}");
        }
    }
}

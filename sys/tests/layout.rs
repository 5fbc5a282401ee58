//! Holds the declarations against the figures in `layout.c`, which in turn
//! compiles against FreeBSD's own header only where its figures are right
//! (`scripts/freebsd-check`).

use std::collections::BTreeSet;
use std::mem::offset_of;

use netmap_sys::*;

/// A line of `layout.c`: its kind, the names in it, the figures in it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Figure(&'static str, Vec<&'static str>, Vec<u64>);

fn in_the_c_file() -> BTreeSet<Figure> {
    include_str!("layout.c").lines().filter_map(figure).map(for_this_system).collect()
}

/// FreeBSD marks the number of an ioctl without an argument by a bit, Linux
/// does not.
fn for_this_system(mut figure: Figure) -> Figure {
    const IOC_VOID: u64 = 0x2000_0000;
    let without_argument = ["NIOCTXSYNC", "NIOCRXSYNC"].contains(&figure.1[0]);
    if cfg!(target_os = "linux") && without_argument {
        figure.2[0] ^= IOC_VOID;
    }
    figure
}

fn figure(line: &'static str) -> Option<Figure> {
    let (kind, arguments) = line.strip_suffix(");")?.split_once('(')?;
    let (names, figures): (Vec<_>, Vec<_>) =
        arguments.split(", ").partition(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    let figures = figures
        .into_iter()
        .map(|word| match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse(),
        })
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{line}: {e}"));
    ["VALUE", "SIZE", "FIELD"].contains(&kind).then_some(Figure(kind, names, figures))
}

/// Bytes of the field that `_field` leads to.
fn width<T, F>(_field: fn(&T) -> &F) -> u64 {
    size_of::<F>() as u64
}

macro_rules! values {
    ($to:ident: $($name:ident)*) => {
        $($to.insert(Figure("VALUE", vec![stringify!($name)], vec![$name as u64]));)*
    };
}

macro_rules! structure {
    ($to:ident: $name:ident $($field:ident)*) => {
        $to.insert(Figure("SIZE", vec![stringify!($name)], vec![size_of::<$name>() as u64]));
        $($to.insert(Figure(
            "FIELD",
            vec![stringify!($name), stringify!($field)],
            vec![offset_of!($name, $field) as u64, width(|s: &$name| &s.$field)],
        ));)*
    };
}

fn in_rust() -> BTreeSet<Figure> {
    let mut all = BTreeSet::new();
    values!(all: NETMAP_API NETMAP_REQ_IFNAMSIZ NETMAP_MAX_FRAGS NIOCCTRL);
    values!(all: NETMAP_REQ_REGISTER NETMAP_REQ_PORT_INFO_GET NETMAP_REQ_VALE_ATTACH
        NETMAP_REQ_VALE_DETACH NETMAP_REQ_VALE_LIST NETMAP_REQ_PORT_HDR_SET
        NETMAP_REQ_PORT_HDR_GET NETMAP_REQ_VALE_NEWIF NETMAP_REQ_VALE_DELIF);
    values!(all: NR_REG_ALL_NIC NR_REG_SW NR_REG_NIC_SW NR_REG_ONE_NIC NR_REG_NULL NR_REG_ONE_SW);
    values!(all: NR_MONITOR_TX NR_MONITOR_RX NR_ZCOPY_MON NR_EXCLUSIVE NR_RX_RINGS_ONLY
        NR_TX_RINGS_ONLY NR_ACCEPT_VNET_HDR NR_DO_RX_POLL NR_NO_TX_POLL);
    values!(all: NS_BUF_CHANGED NS_REPORT NS_FORWARD NS_NO_LEARN NS_INDIRECT NS_MOREFRAG NS_TXMON);
    values!(all: NR_TIMESTAMP NR_FORWARD NI_PRIV_MEM);

    values!(all: NIOCTXSYNC NIOCRXSYNC);

    structure!(all: nmreq_header nr_version nr_reqtype nr_reserved nr_name nr_options nr_body);
    structure!(all: nmreq_register nr_offset nr_memsize nr_tx_slots nr_rx_slots nr_tx_rings
        nr_rx_rings nr_host_tx_rings nr_host_rx_rings nr_mem_id nr_ringid nr_mode nr_extra_bufs
        nr_flags);
    structure!(all: nmreq_port_info_get nr_memsize nr_tx_slots nr_rx_slots nr_tx_rings nr_rx_rings
        nr_host_tx_rings nr_host_rx_rings nr_mem_id pad);
    structure!(all: nmreq_port_hdr nr_hdr_len pad1);
    structure!(all: netmap_if ni_name ni_version ni_flags ni_tx_rings ni_rx_rings ni_bufs_head
        ni_host_tx_rings ni_host_rx_rings ni_spare1 ring_ofs);
    structure!(all: netmap_ring buf_ofs num_slots nr_buf_size ringid dir head cur tail flags ts
        offset_mask buf_align sem slot);
    structure!(all: netmap_slot buf_idx len flags ptr);
    all
}

#[test]
fn declarations_have_the_figures_of_the_c_header() {
    let (c, rust) = (in_the_c_file(), in_rust());
    let only_c: Vec<_> = c.difference(&rust).collect();
    let only_rust: Vec<_> = rust.difference(&c).collect();
    assert!(only_c.is_empty() && only_rust.is_empty(), "only in layout.c: {only_c:#?}\nonly in Rust: {only_rust:#?}");
    assert!(c.len() > 100, "{} figures read from layout.c", c.len());
}

#[test]
fn pointers_to_rings_need_no_more_than_eight_bytes_alignment() {
    assert_eq!(align_of::<netmap_ring>(), 8);
    assert_eq!(align_of::<netmap_if>(), 8);
    assert_eq!(align_of::<netmap_slot>(), 8);
}

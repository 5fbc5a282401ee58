/*
 * The figures of the netmap interface, held against FreeBSD's own header: this
 * file compiles only where they agree. tests/layout.rs reads the same lines and
 * holds the Rust declarations against them.
 *
 * One figure a line; plain numbers only.
 */
#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <net/if.h>
#include <net/netmap.h>
#include <stddef.h>
#include <stdint.h>

#define VALUE(name, n) _Static_assert((name) == (n), #name)
#define SIZE(type, n) _Static_assert(sizeof(struct type) == (n), "size of " #type)
#define FIELD(type, field, offset, bytes)                                   \
	_Static_assert(offsetof(struct type, field) == (offset) &&          \
	    sizeof(((struct type *)0)->field) == (bytes), #type "." #field)

VALUE(NETMAP_API, 14);
VALUE(NETMAP_REQ_IFNAMSIZ, 64);
VALUE(NETMAP_MAX_FRAGS, 64);

/* ioctl numbers; on Linux the last two lack the bit 0x20000000 */
VALUE(NIOCCTRL, 0xc0586997);
VALUE(NIOCTXSYNC, 0x20006994);
VALUE(NIOCRXSYNC, 0x20006995);

VALUE(NETMAP_REQ_REGISTER, 1);
VALUE(NETMAP_REQ_PORT_INFO_GET, 2);
VALUE(NETMAP_REQ_VALE_ATTACH, 3);
VALUE(NETMAP_REQ_VALE_DETACH, 4);
VALUE(NETMAP_REQ_VALE_LIST, 5);
VALUE(NETMAP_REQ_PORT_HDR_SET, 6);
VALUE(NETMAP_REQ_PORT_HDR_GET, 7);
VALUE(NETMAP_REQ_VALE_NEWIF, 8);
VALUE(NETMAP_REQ_VALE_DELIF, 9);

VALUE(NR_REG_ALL_NIC, 1);
VALUE(NR_REG_SW, 2);
VALUE(NR_REG_NIC_SW, 3);
VALUE(NR_REG_ONE_NIC, 4);
VALUE(NR_REG_NULL, 7);
VALUE(NR_REG_ONE_SW, 8);

VALUE(NR_MONITOR_TX, 0x100);
VALUE(NR_MONITOR_RX, 0x200);
VALUE(NR_ZCOPY_MON, 0x400);
VALUE(NR_EXCLUSIVE, 0x800);
VALUE(NR_RX_RINGS_ONLY, 0x2000);
VALUE(NR_TX_RINGS_ONLY, 0x4000);
VALUE(NR_ACCEPT_VNET_HDR, 0x8000);
VALUE(NR_DO_RX_POLL, 0x10000);
VALUE(NR_NO_TX_POLL, 0x20000);

VALUE(NS_BUF_CHANGED, 0x1);
VALUE(NS_REPORT, 0x2);
VALUE(NS_FORWARD, 0x4);
VALUE(NS_NO_LEARN, 0x8);
VALUE(NS_INDIRECT, 0x10);
VALUE(NS_MOREFRAG, 0x20);
VALUE(NS_TXMON, 0x40);

VALUE(NR_TIMESTAMP, 0x2);
VALUE(NR_FORWARD, 0x4);
VALUE(NI_PRIV_MEM, 0x1);

SIZE(nmreq_header, 88);
FIELD(nmreq_header, nr_version, 0, 2);
FIELD(nmreq_header, nr_reqtype, 2, 2);
FIELD(nmreq_header, nr_reserved, 4, 4);
FIELD(nmreq_header, nr_name, 8, 64);
FIELD(nmreq_header, nr_options, 72, 8);
FIELD(nmreq_header, nr_body, 80, 8);

SIZE(nmreq_register, 56);
FIELD(nmreq_register, nr_offset, 0, 8);
FIELD(nmreq_register, nr_memsize, 8, 8);
FIELD(nmreq_register, nr_tx_slots, 16, 4);
FIELD(nmreq_register, nr_rx_slots, 20, 4);
FIELD(nmreq_register, nr_tx_rings, 24, 2);
FIELD(nmreq_register, nr_rx_rings, 26, 2);
FIELD(nmreq_register, nr_host_tx_rings, 28, 2);
FIELD(nmreq_register, nr_host_rx_rings, 30, 2);
FIELD(nmreq_register, nr_mem_id, 32, 2);
FIELD(nmreq_register, nr_ringid, 34, 2);
FIELD(nmreq_register, nr_mode, 36, 4);
FIELD(nmreq_register, nr_extra_bufs, 40, 4);
FIELD(nmreq_register, nr_flags, 48, 8);

SIZE(nmreq_port_info_get, 32);
FIELD(nmreq_port_info_get, nr_memsize, 0, 8);
FIELD(nmreq_port_info_get, nr_tx_slots, 8, 4);
FIELD(nmreq_port_info_get, nr_rx_slots, 12, 4);
FIELD(nmreq_port_info_get, nr_tx_rings, 16, 2);
FIELD(nmreq_port_info_get, nr_rx_rings, 18, 2);
FIELD(nmreq_port_info_get, nr_host_tx_rings, 20, 2);
FIELD(nmreq_port_info_get, nr_host_rx_rings, 22, 2);
FIELD(nmreq_port_info_get, nr_mem_id, 24, 2);
FIELD(nmreq_port_info_get, pad, 26, 6);

SIZE(nmreq_port_hdr, 8);
FIELD(nmreq_port_hdr, nr_hdr_len, 0, 4);
FIELD(nmreq_port_hdr, pad1, 4, 4);

SIZE(netmap_if, 56);
FIELD(netmap_if, ni_name, 0, 16);
FIELD(netmap_if, ni_version, 16, 4);
FIELD(netmap_if, ni_flags, 20, 4);
FIELD(netmap_if, ni_tx_rings, 24, 4);
FIELD(netmap_if, ni_rx_rings, 28, 4);
FIELD(netmap_if, ni_bufs_head, 32, 4);
FIELD(netmap_if, ni_host_tx_rings, 36, 4);
FIELD(netmap_if, ni_host_rx_rings, 40, 4);
FIELD(netmap_if, ni_spare1, 44, 12);
FIELD(netmap_if, ring_ofs, 56, 0);

SIZE(netmap_ring, 256);
FIELD(netmap_ring, buf_ofs, 0, 8);
FIELD(netmap_ring, num_slots, 8, 4);
FIELD(netmap_ring, nr_buf_size, 12, 4);
FIELD(netmap_ring, ringid, 16, 2);
FIELD(netmap_ring, dir, 18, 2);
FIELD(netmap_ring, head, 20, 4);
FIELD(netmap_ring, cur, 24, 4);
FIELD(netmap_ring, tail, 28, 4);
FIELD(netmap_ring, flags, 32, 4);
FIELD(netmap_ring, ts, 40, 16);
FIELD(netmap_ring, offset_mask, 56, 8);
FIELD(netmap_ring, buf_align, 64, 8);
FIELD(netmap_ring, sem, 128, 128);
FIELD(netmap_ring, slot, 256, 0);

SIZE(netmap_slot, 16);
FIELD(netmap_slot, buf_idx, 0, 4);
FIELD(netmap_slot, len, 4, 2);
FIELD(netmap_slot, flags, 6, 2);
FIELD(netmap_slot, ptr, 8, 8);

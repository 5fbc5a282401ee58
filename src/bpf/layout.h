/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the program in the kernel and pen-dsr both read and write; src/xdp/layout.rs is the other half. Numbers are in the
 * machine's order (little-endian), addresses and ports as on the wire.
 *
 * All that frames are decided by is in one array of chunks, which is replaced as a whole: a frame sees the tables of
 * before or those of after a change, and never some of each.
 */
#ifndef PEN_DSR_LAYOUT_H
#define PEN_DSR_LAYOUT_H

#include <linux/types.h>

/* The chunks, in this order: the head, services, backends, slots of generations. */
#define CHUNK_HEAD 0

struct chunk {
	__u64 words[16];
};

/* The first chunk. */
struct head {
	__u16 mac[3];     /* frames to this MAC are the balancer's, */
	__u16 vip_mac[3]; /* and to this one */
	__u16 back[3];    /* the source of frames that are passed on */
	__u16 flags;      /* HEAD_* */
	__u32 services;   /* the first chunk of services; one chunk each */
	__u32 services_mask;
	__u32 backends; /* the first chunk of backends */
	__u32 backend_count;
	__u32 unused[3];
	__u64 flow_key[2];  /* names flows */
	__u32 opening;      /* how long flows are remembered, ticks */
	__u32 established;
	__u32 closing;
	__u32 udp;
	__u32 proof;        /* how long a flow has to last until it is no longer young, ticks */
	__u32 v4_source;    /* where probes come from, which no client is */
	__u32 v6_source[4];
	__u64 version; /* another one for all tables that this program has ever had; never 0 */
};

#define HEAD_PORTS 1  /* there are services with a port */
#define HEAD_SILENT 2 /* another balancer has vip_mac: frames to it are not ours */
#define HEAD_ANSWERS 32 /* left alone, the program answers who asks for the VIPs' MAC */
#define HEAD_V4_SOURCE 4
#define HEAD_V6_SOURCE 8
#define HEAD_SOURCES 16 /* there are more sources than that: all is left to the engine */

/* One way to choose a backend: a hash of the client, and a slot table for it. */
struct generation {
	__u64 key[2];
	__u32 slots; /* the first chunk of slots */
	__u32 slot_count;
	__u32 with_port;
	__u32 unused;
};

/* A port (0: every other port) of a VIP, for one protocol. A hash table of chunks, with linear probing. */
struct service {
	__u32 address[4]; /* IPv4: in the first word, and 0 behind */
	__u16 port;
	__u8 protocol; /* 0: nobody is here */
	__u8 family;   /* 4 or 6 */
	__u32 vip;     /* whose counters */
	__u32 flags;   /* SERVICE_* */
	__u32 acl;     /* the access list's number for this family */
	__u32 unused[2];
	struct generation current;
	struct generation previous;
};

/* Of a service that stands for its VIP's address alone; no packet has it (IANA: reserved). */
#define PROTOCOL_VIP 255

#define SERVICE_ACL 1      /* only whom the list permits */
#define SERVICE_PREVIOUS 2 /* there is a previous generation */
#define SERVICE_REFUSES 4  /* clients are told when nobody is in service */

/* No service is further from its place than this. */
#define MOST_PROBES 8

struct backend {
	__u16 mac[3];
	__u8 epoch;
	__u8 flags; /* BACKEND_* */
};

#define BACKEND_MAC 1   /* its MAC is known */
#define BACKEND_KEEPS 2 /* the flows that it has stay with it */

#define BACKENDS_PER_CHUNK 16

#define SLOTS_PER_CHUNK 64
#define NOBODY 0xffff

/* A network that an access list permits. */
struct permit_key {
	__u32 prefix; /* bits of what follows: 32 more than those of the address */
	__u32 list;   /* the access list's number, and for each family another one */
	__u32 address[4];
};

/* A flow, by its name: SipHash-1-3 of what makes it one. */
struct flow {
	__u32 seen; /* the tick of its last packet, or of its arrival while it is young */
	__u16 backend;
	__u8 epoch;
	__u8 stage; /* STAGE_* */
};

/* A tick is 2 to this nanoseconds of CLOCK_MONOTONIC: 67 ms. */
#define TICK_SHIFT 26

#define STAGE_OPENING 1
#define STAGE_ADOPTED 2
#define STAGE_SINGLE 3
#define STAGE_YOUNG 4
#define STAGE_ESTABLISHED 5
#define STAGE_CLOSING 6
#define STAGE_RESET 7
#define STAGE_YOUNG_UDP 8
#define STAGE_UDP 9

/* Whose tables and flows these are, for who finds them pinned. */
struct identity {
	__u64 key;       /* stands for what names the flows */
	__u64 namespace; /* the network namespace's inode */
	__u32 interface; /* its number there */
	__u32 unused;
};

/* A client that has opened a flow. */
struct opener_key {
	__u32 address[4]; /* IPv4: in the first word, and 0 behind */
	__u32 family;
	__u32 unused;
};

struct opener {
	__u64 seen; /* ns of CLOCK_MONOTONIC */
	__u64 backend;
};

struct traffic {
	__u64 frames;
	__u64 bytes;
};

/* What one processor has counted. Every frame is in one of the first five. */
struct totals {
	struct traffic transmitted;
	struct traffic answered; /* asked for a VIP's MAC */
	struct traffic denied;
	struct traffic no_backend;
	struct traffic passed; /* left to user space and to the host */
	__u64 opened;
};

/* If the process has said nothing for so long, ns, its work is done here as far as possible. */
#define SILENCE 2000000000ULL

/* Counters of backends by number, and behind them those of VIPs. */
#define MOST_BACKENDS 4096
#define MOST_VIPS 4096

/* src/xdp/layout.rs says the same of its own. */
_Static_assert(sizeof(struct head) == 112, "head");
_Static_assert(__builtin_offsetof(struct head, flow_key) == 48, "head");
_Static_assert(sizeof(struct generation) == 32, "generation");
_Static_assert(sizeof(struct service) == 104, "service");
_Static_assert(__builtin_offsetof(struct service, current) == 40, "service");
_Static_assert(sizeof(struct backend) == 8 && sizeof(struct flow) == 8, "backend and flow");
_Static_assert(sizeof(struct permit_key) == 24 && sizeof(struct opener_key) == 24, "keys");
_Static_assert(sizeof(struct totals) == 88, "totals");

#endif

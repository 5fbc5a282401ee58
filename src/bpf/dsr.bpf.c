// SPDX-License-Identifier: BSD-2-Clause
/*
 * Direct Server Return in the kernel: the common frame's way.
 *
 * A frame to a service is given its backend's MAC and sent back out of the interface that it came by (XDP_TX). It is
 * decided as src/engine decides, by tables that pen-dsr fills; whatever takes more than that is passed on, untouched, and
 * reaches the engine by way of a packet socket: ARP and ND, ICMP, fragments, extension headers, backends whose MAC is not
 * known, malformed packets, our own frames, clients for whom nobody is in service and who are to be told so.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"
#include "sip.h"

/* bpf_ktime_get_coarse_ns came with Linux 5.11; some headers are older. */
static __u64 (*coarse_ns)(void) = (void *)160;

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct chunk));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct inner);
} tables SEC(".maps");

/* Networks that access lists permit. A list that changes is another one. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 22);
	__type(key, struct permit_key);
	__type(value, __u32);
} permits SEC(".maps");

/* Flows that have had a second packet. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 20);
	__type(key, __u64);
	__type(value, struct flow);
} flows SEC(".maps");

/* Those that have not: a flood of them pushes out no others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 18);
	__type(key, __u64);
	__type(value, struct flow);
} nursery SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct opener_key);
	__type(value, struct opener);
} openers SEC(".maps");

/* What is read of a packet. */
struct packet {
	__u32 client[4]; /* as struct service has addresses */
	__u32 vip[4];
	__u16 client_port; /* as on the wire */
	__u16 vip_port;
	__u8 protocol;
	__u8 family;
	__u8 signal;
	__u8 unused;
};

/* Packets like this one, for as long as the tables and the tick are these, go to this backend. */
struct shortcut {
	struct packet packet;
	__u64 version;
	__u32 tick;
	__u32 backend;
	__u32 vip;
	__u16 mac[3];
	__u16 unused;
};

#define SHORTCUTS_SHIFT 11
#define SHORTCUTS (1 << SHORTCUTS_SHIFT)

/* For the process alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct identity);
} identity SEC(".maps");

/* When the process last said that it is there: ns of CLOCK_MONOTONIC. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} alive SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MOST_BACKENDS + MOST_VIPS);
	__type(key, __u32);
	__type(value, struct traffic);
} counters SEC(".maps");

/*
 * Short ways, each processor's own: what becomes of packets like one that was decided about within the same tick, if
 * nothing but their number would change. Any other packet of the flow takes the short way away again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHORTCUTS);
	__type(key, __u32);
	__type(value, struct shortcut);
} shortcuts SEC(".maps");

/* What a packet says about its flow. */
enum signal { SIGNAL_OPEN, SIGNAL_SEGMENT, SIGNAL_FINISH, SIGNAL_RESET, SIGNAL_DATAGRAM };

/* What becomes of a frame. */
enum verdict { PASS, TRANSMIT, ANSWERED, DENIED, NO_BACKEND };

static __always_inline void *chunk(void *map, __u32 index)
{
	return bpf_map_lookup_elem(map, &index);
}

static __always_inline int is_mac(const __u16 *a, const __u16 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]));
}

static __always_inline int is_address(const __u32 *a, const __u32 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

/*
 * Reads a TCP segment or UDP datagram of `length` bytes at `at`, and no more of it than the frame's linear part holds.
 * 0 if it makes sense.
 */
static __always_inline int read_transport(struct packet *packet, void *at, void *end, __u32 length)
{
	if (packet->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at;
		__u8 flags;

		if ((void *)(tcp + 1) > end || length < sizeof(*tcp))
			return -1;
		if (tcp->doff < 5 || tcp->doff * 4U > length)
			return -1;
		flags = ((__u8 *)tcp)[13];
		if (flags & 0x04)
			packet->signal = SIGNAL_RESET;
		else if (flags & 0x01)
			packet->signal = SIGNAL_FINISH;
		else if ((flags & 0x12) == 0x02)
			packet->signal = SIGNAL_OPEN;
		else
			packet->signal = SIGNAL_SEGMENT;
		packet->client_port = tcp->source;
		packet->vip_port = tcp->dest;
		return 0;
	}
	if (packet->protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;
		__u16 said;

		if ((void *)(udp + 1) > end || length < sizeof(*udp))
			return -1;
		said = bpf_ntohs(udp->len);
		/* 0 is what segmentation offload may leave there. */
		if (said != 0 && said < sizeof(*udp))
			return -1;
		packet->signal = SIGNAL_DATAGRAM;
		packet->client_port = udp->source;
		packet->vip_port = udp->dest;
		return 0;
	}
	return -1;
}

/* Reads the IP packet at `at`, which has `length` bytes. 0 if it is a whole one of a protocol that services have. */
static __always_inline int read_packet(struct packet *packet, __be16 type, void *at, void *end, __u64 length)
{
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;
		__u32 header, total;

		if ((void *)(ip + 1) > end || ip->version != 4)
			return -1;
		header = ip->ihl * 4;
		total = bpf_ntohs(ip->tot_len);
		if (header < sizeof(*ip) || total < header || total > length)
			return -1;
		if (ip->frag_off & bpf_htons(0x3fff))
			return -1;
		packet->family = 4;
		packet->protocol = ip->protocol;
		packet->client[0] = ip->saddr;
		packet->vip[0] = ip->daddr;
		return read_transport(packet, at + header, end, total - header);
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;
		__u32 payload;

		if ((void *)(ip + 1) > end || ip->version != 6)
			return -1;
		payload = bpf_ntohs(ip->payload_len);
		if (payload + sizeof(*ip) > length)
			return -1;
		packet->family = 6;
		packet->protocol = ip->nexthdr;
		__builtin_memcpy(packet->client, &ip->saddr, 16);
		__builtin_memcpy(packet->vip, &ip->daddr, 16);
		return read_transport(packet, ip + 1, end, payload);
	}
	return -1;
}

/* Where the service of an address, port and protocol stands, if nobody is in its way. */
static __always_inline __u32 place_of(const struct packet *packet, __u16 port)
{
	__u64 high = (__u64)packet->vip[1] << 32 | packet->vip[0];
	__u64 low = (__u64)packet->vip[3] << 32 | packet->vip[2];
	__u64 x = (__u64)port << 16 | (__u64)packet->protocol << 8 | packet->family;

	x = high * 0x9e3779b97f4a7c15ULL + low * 0xc2b2ae3d27d4eb4fULL + x * 0x165667b19e3779f9ULL;
	x = (x ^ x >> 32) * 0x9e3779b97f4a7c15ULL;
	return x >> 32;
}

static __always_inline struct service *find_service(void *map, const struct head *head, const struct packet *packet,
						    __u16 port)
{
	__u32 place = place_of(packet, port);
	int i;

	for (i = 0; i < MOST_PROBES; i++) {
		struct service *service = chunk(map, head->services + ((place + i) & head->services_mask));

		if (!service || service->protocol == 0)
			return 0;
		if (service->port == port && service->protocol == packet->protocol &&
		    service->family == packet->family && is_address(service->address, packet->vip))
			return service;
	}
	return 0;
}

static __always_inline struct backend *find_backend(void *map, const struct head *head, __u32 number)
{
	struct backend *backends;

	if (number >= head->backend_count)
		return 0;
	backends = chunk(map, head->backends + number / BACKENDS_PER_CHUNK);
	return backends ? &backends[number % BACKENDS_PER_CHUNK] : 0;
}

/* Is the client where probes come from, or does it pretend to be? */
static __always_inline int is_source(const struct head *head, const struct packet *packet)
{
	if (packet->family == 4)
		return head->flags & HEAD_V4_SOURCE && head->v4_source == packet->client[0];
	return head->flags & HEAD_V6_SOURCE && is_address(head->v6_source, packet->client);
}

/* Does the service's list permit the client? */
static __always_inline int is_permitted(const struct service *service, const struct packet *packet)
{
	struct permit_key key = { .prefix = 8 * (sizeof(key) - sizeof(key.prefix)), .list = service->acl };

	__builtin_memcpy(key.address, packet->client, 16);
	return bpf_map_lookup_elem(&permits, &key) != 0;
}

/* The name of the packet's flow; the engine gives it the same one. */
static __always_inline __u64 tag_of(const struct head *head, const struct packet *packet)
{
	__u64 ports = (__u64)bpf_ntohs(packet->client_port) << 32 | (__u64)bpf_ntohs(packet->vip_port) << 16 |
		      packet->protocol;
	struct sip sip;
	__u64 tag;

	sip_begin(&sip, head->flow_key);
	if (packet->family == 4) {
		sip_word(&sip, (__u64)bpf_ntohl(packet->client[0]) << 32 | bpf_ntohl(packet->vip[0]));
		sip_word(&sip, ports);
		tag = sip_end(&sip, 0, 16);
	} else {
		sip_word(&sip, (__u64)bpf_ntohl(packet->client[0]) << 32 | bpf_ntohl(packet->client[1]));
		sip_word(&sip, (__u64)bpf_ntohl(packet->client[2]) << 32 | bpf_ntohl(packet->client[3]));
		sip_word(&sip, (__u64)bpf_ntohl(packet->vip[0]) << 32 | bpf_ntohl(packet->vip[1]));
		sip_word(&sip, (__u64)bpf_ntohl(packet->vip[2]) << 32 | bpf_ntohl(packet->vip[3]));
		sip_word(&sip, ports);
		tag = sip_end(&sip, 0, 40);
	}
	return tag ? tag : 1;
}

/* The number of the backend that a generation chooses for the packet's client, or NOBODY. */
static __always_inline __u32 choose(void *map, const struct generation *generation, const struct packet *packet)
{
	__u16 *slots;
	struct sip sip;
	__u64 hash;
	__u32 slot;

	sip_begin(&sip, generation->key);
	if (packet->family == 4) {
		__u64 rest = packet->client[0];

		hash = generation->with_port ? sip_end(&sip, (__u64)packet->client_port << 32 | rest, 6) :
					       sip_end(&sip, rest, 4);
	} else {
		sip_word(&sip, (__u64)packet->client[1] << 32 | packet->client[0]);
		sip_word(&sip, (__u64)packet->client[3] << 32 | packet->client[2]);
		hash = generation->with_port ? sip_end(&sip, packet->client_port, 18) : sip_end(&sip, 0, 16);
	}
	slot = (hash >> 32) * generation->slot_count >> 32;
	slots = chunk(map, generation->slots + slot / SLOTS_PER_CHUNK);
	return slots ? slots[slot % SLOTS_PER_CHUNK] : NOBODY;
}

static __always_inline int is_over(__u8 stage)
{
	return stage == STAGE_CLOSING || stage == STAGE_RESET;
}

static __always_inline int is_young(__u8 stage)
{
	return stage == STAGE_YOUNG || stage == STAGE_YOUNG_UDP;
}

static __always_inline int is_expired(const struct head *head, const struct flow *flow, __u32 now)
{
	__u32 limit;

	switch (flow->stage) {
	case STAGE_OPENING:
		limit = head->opening;
		break;
	case STAGE_ADOPTED:
	case STAGE_YOUNG:
	case STAGE_ESTABLISHED:
		limit = head->established;
		break;
	case STAGE_CLOSING:
	case STAGE_RESET:
		limit = head->closing;
		break;
	case STAGE_SINGLE:
	case STAGE_YOUNG_UDP:
	case STAGE_UDP:
		limit = head->udp;
		break;
	default:
		return 1;
	}
	return (__s32)(now - flow->seen) >= (__s32)limit;
}

/* Where a flow is after a packet (src/lb/flow/stage.rs). */
static __always_inline __u8 stage_after(__u8 stage, __u8 signal, int proven)
{
	if (stage == STAGE_SINGLE || stage == STAGE_YOUNG_UDP || stage == STAGE_UDP)
		return proven ? STAGE_UDP : STAGE_YOUNG_UDP;
	if (signal == SIGNAL_OPEN)
		return stage == STAGE_ADOPTED ? STAGE_OPENING : stage;
	if (signal == SIGNAL_FINISH)
		return STAGE_CLOSING;
	if (signal == SIGNAL_RESET)
		return STAGE_RESET;
	if (stage == STAGE_CLOSING)
		return STAGE_CLOSING;
	if (stage == STAGE_OPENING || stage == STAGE_ADOPTED)
		return STAGE_YOUNG;
	if (stage == STAGE_YOUNG && !proven)
		return STAGE_YOUNG;
	return STAGE_ESTABLISHED;
}

/* A packet of a flow that is known and stays where it is. 1 if more like it would change nothing within this tick. */
static __always_inline int refresh(const struct head *head, struct flow *flow, __u64 tag, __u8 signal, int is_new,
				   __u32 now)
{
	int proven = !is_new && (!is_young(flow->stage) || now - flow->seen >= head->proof);
	__u8 stage = stage_after(flow->stage, signal, proven);

	if (is_new && stage >= STAGE_YOUNG) {
		struct flow moved = *flow;

		moved.stage = stage;
		moved.seen = now;
		if (!bpf_map_update_elem(&flows, &tag, &moved, BPF_ANY))
			bpf_map_delete_elem(&nursery, &tag);
		else
			flow->seen = now;
		return 0;
	}
	/* Until it is proven, the time that counts is that of its arrival. */
	if (!(is_young(flow->stage) && is_young(stage)) && flow->seen != now)
		flow->seen = now;
	if (flow->stage == stage)
		return !is_new;
	flow->stage = stage;
	return 0;
}

/* A client has opened a flow: for the operator, who asks who does. */
static __always_inline void note_opener(const struct packet *packet, __u32 backend)
{
	struct opener_key key = { .family = packet->family };
	struct opener opener = { .seen = coarse_ns(), .backend = backend };

	__builtin_memcpy(key.address, packet->client, 16);
	bpf_map_update_elem(&openers, &key, &opener, BPF_ANY);
}

/*
 * Which backend a packet goes to (src/engine/steer.rs): TRANSMIT, with the backend's number and what is known of it in
 * `number` and `backend`, and whether more packets like this one would change nothing.
 */
static __always_inline enum verdict steer(void *map, const struct head *head, const struct service *service,
					  const struct packet *packet, __u32 now, struct totals *total,
					  __u32 *number, struct backend **backend, int *is_settled)
{
	int opens = packet->signal == SIGNAL_OPEN || packet->signal == SIGNAL_DATAGRAM;
	__u64 tag = tag_of(head, packet);
	struct flow *flow = bpf_map_lookup_elem(&flows, &tag);
	struct backend *holder = 0;
	int is_new = 0, knows = 0;
	struct flow first;
	__u32 chosen;

	if (!flow || is_expired(head, flow, now)) {
		flow = bpf_map_lookup_elem(&nursery, &tag);
		is_new = 1;
		if (flow && is_expired(head, flow, now))
			flow = 0;
	}
	if (flow) {
		int opens_another =
			packet->signal == SIGNAL_OPEN && (is_over(flow->stage) || flow->stage == STAGE_ADOPTED);

		holder = find_backend(map, head, flow->backend);
		knows = holder && holder->epoch == flow->epoch;
		if (!opens_another && knows && holder->flags & BACKEND_KEEPS) {
			if (!(holder->flags & BACKEND_MAC))
				return PASS;
			*number = flow->backend;
			*backend = holder;
			*is_settled = refresh(head, flow, tag, packet->signal, is_new, now);
			return TRANSMIT;
		}
	}
	if (service->flags & SERVICE_ACL && !is_permitted(service, packet))
		return DENIED;
	chosen = NOBODY;
	if (!opens && service->flags & SERVICE_PREVIOUS) {
		chosen = choose(map, &service->previous, packet);
		holder = find_backend(map, head, chosen);
		if (!holder || !(holder->flags & BACKEND_KEEPS))
			chosen = NOBODY;
	}
	if (chosen == NOBODY)
		chosen = choose(map, &service->current, packet);
	if (chosen == NOBODY)
		return service->flags & SERVICE_REFUSES ? PASS : NO_BACKEND;
	holder = find_backend(map, head, chosen);
	if (!holder || !(holder->flags & BACKEND_MAC))
		return PASS;
	*number = chosen;
	*backend = holder;
	if (opens)
		note_opener(packet, chosen);
	/* Its backend is down, but may return before the client says anything else. */
	if (flow && !opens && knows && flow->stage != STAGE_OPENING && flow->stage != STAGE_ADOPTED)
		return TRANSMIT;
	if (flow && !is_new)
		bpf_map_delete_elem(&flows, &tag);
	/* A flow that ends is not worth a place. */
	if (packet->signal == SIGNAL_FINISH || packet->signal == SIGNAL_RESET) {
		if (flow && is_new)
			bpf_map_delete_elem(&nursery, &tag);
		return TRANSMIT;
	}
	first.seen = now;
	first.backend = chosen;
	first.epoch = holder->epoch;
	first.stage = packet->signal == SIGNAL_OPEN ? STAGE_OPENING :
		      packet->signal == SIGNAL_DATAGRAM ? STAGE_SINGLE : STAGE_ADOPTED;
	bpf_map_update_elem(&nursery, &tag, &first, BPF_ANY);
	total->opened++;
	return TRANSMIT;
}

static __always_inline void count(struct traffic *traffic, __u64 bytes)
{
	traffic->frames++;
	traffic->bytes += bytes;
}

#include "neighbor.h"

/* Has the process said nothing for a while? Then it has ended, and left the program at work. */
static __always_inline int is_alone(void)
{
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&alive, &zero);

	return last && (__s64)(coarse_ns() - *last) > (__s64)SILENCE;
}

/* Gives a frame of `length` bytes its new addresses, and counts it. */
static __always_inline void forward(struct ethhdr *eth, const __u16 *destination, const __u16 *source, __u64 length,
				    __u32 backend, __u32 vip)
{
	struct traffic *traffic;
	__u32 number = backend;

	__builtin_memcpy(eth->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(eth->h_source, source, ETH_ALEN);
	traffic = bpf_map_lookup_elem(&counters, &number);
	if (traffic)
		count(traffic, length);
	number = MOST_BACKENDS + vip;
	traffic = bpf_map_lookup_elem(&counters, &number);
	if (traffic)
		count(traffic, length);
}

static __always_inline int is_like(const struct packet *a, const struct packet *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]));
}

/* Where the packet's short way is, if it has one: whatever it says of its flow, in the same place. */
static __always_inline __u32 shortcut_of(const struct packet *packet)
{
	const __u64 *words = (const __u64 *)packet;
	__u64 ports = (__u64)packet->client_port << 16 | packet->vip_port;
	__u64 x = words[0] + words[1] * 0x9e3779b97f4a7c15ULL;

	/* Who knows that can make two flows take each other's place, and no more. */
	x += words[2] * 0xc2b2ae3d27d4eb4fULL + words[3] * 0x165667b19e3779f9ULL + ports * 0xd6e8feb86659fd93ULL;
	return x * 0x9e3779b97f4a7c15ULL >> (64 - SHORTCUTS_SHIFT);
}

/* Decides about a frame of `length` bytes, and readdresses it if it is to be sent back. */
static __always_inline enum verdict decide(void *data, void *end, __u64 length, struct totals *total)
{
	__u32 number = 0, now, place;
	struct ethhdr *eth = data;
	struct packet packet = {};
	struct backend *backend = 0;
	struct shortcut *shortcut;
	struct service *service;
	enum verdict verdict;
	int is_settled = 0, to_us, i;
	struct head *head;
	void *map, *at;
	__be16 type;

	map = chunk(&tables, 0);
	if (!map)
		return PASS;
	head = chunk(map, CHUNK_HEAD);
	if (!head || head->flags & HEAD_SOURCES || (void *)(eth + 1) > end)
		return PASS;
	to_us = is_mac((__u16 *)eth->h_dest, head->mac) ||
		(!(head->flags & HEAD_SILENT) && is_mac((__u16 *)eth->h_dest, head->vip_mac));
	if (!to_us && !(eth->h_dest[0] & 1))
		return PASS;
	/* Our own, back from the wire. */
	if (is_mac((__u16 *)eth->h_source, head->mac) || is_mac((__u16 *)eth->h_source, head->vip_mac) ||
	    is_mac((__u16 *)eth->h_source, head->back))
		return PASS;
	type = eth->h_proto;
	at = eth + 1;
	for (i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if (at + 4 > end)
			return PASS;
		type = *(__be16 *)(at + 2);
		at += 4;
	}
	if (!to_us || type == bpf_htons(ETH_P_ARP)) {
		if (!(head->flags & HEAD_ANSWERS) || !is_alone())
			return PASS;
		if (type == bpf_htons(ETH_P_ARP))
			return answer_arp(map, head, eth, at, end);
		if (type == bpf_htons(ETH_P_IPV6))
			return answer_solicitation(map, head, eth, at, end);
		return PASS;
	}
	if (read_packet(&packet, type, at, end, length - (at - data))) {
		/* Who knows the MAC, and asks whether we are still there, asks us alone. */
		if (type == bpf_htons(ETH_P_IPV6) && head->flags & HEAD_ANSWERS && is_alone())
			return answer_solicitation(map, head, eth, at, end);
		return PASS;
	}
	if (is_source(head, &packet))
		return PASS;
	now = coarse_ns() >> TICK_SHIFT;
	place = shortcut_of(&packet);
	shortcut = bpf_map_lookup_elem(&shortcuts, &place);
	if (!shortcut)
		return PASS;
	if (shortcut->version == head->version && shortcut->tick == now && is_like(&shortcut->packet, &packet)) {
		forward(eth, shortcut->mac, head->back, length, shortcut->backend, shortcut->vip);
		return TRANSMIT;
	}
	service = head->flags & HEAD_PORTS ? find_service(map, head, &packet, packet.vip_port) : 0;
	if (!service)
		service = find_service(map, head, &packet, 0);
	if (!service)
		return PASS;
	if (packet.signal != SIGNAL_SEGMENT && packet.signal != SIGNAL_DATAGRAM)
		shortcut->version = 0;
	verdict = steer(map, head, service, &packet, now, total, &number, &backend, &is_settled);
	if (verdict != TRANSMIT || !backend)
		return verdict;
	/* Not each time: where there are more flows than short ways, little time is lost in giving them away. */
	if (is_settled && !(total->transmitted.frames & 3)) {
		shortcut->packet = packet;
		shortcut->version = head->version;
		shortcut->tick = now;
		shortcut->backend = number;
		shortcut->vip = service->vip;
		__builtin_memcpy(shortcut->mac, backend->mac, ETH_ALEN);
	}
	forward(eth, backend->mac, head->back, length, number, service->vip);
	return TRANSMIT;
}

static __always_inline int handle(struct xdp_md *ctx, __u64 length)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0;
	struct totals *total = bpf_map_lookup_elem(&totals, &zero);

	if (!total)
		return XDP_PASS;
	switch (decide(data, end, length, total)) {
	case TRANSMIT:
		count(&total->transmitted, length);
		return XDP_TX;
	case ANSWERED:
		count(&total->answered, length);
		return XDP_TX;
	case DENIED:
		count(&total->denied, length);
		return XDP_DROP;
	case NO_BACKEND:
		count(&total->no_backend, length);
		return XDP_DROP;
	default:
		count(&total->passed, length);
		return XDP_PASS;
	}
}

/* For frames in one piece. */
SEC("xdp")
int dsr(struct xdp_md *ctx)
{
	return handle(ctx, ctx->data_end - ctx->data);
}

char _license[] SEC("license") = "BSD";

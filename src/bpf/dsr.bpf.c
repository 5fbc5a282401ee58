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
#include "packet.h"
#include "maps.h"
#include "sip.h"
#include "tables.h"
#include "steer.h"
#include "neighbor.h"

static __always_inline void count(struct traffic *traffic, __u64 bytes)
{
	traffic->frames++;
	traffic->bytes += bytes;
}

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
	__u64 *upheaval, before;
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
	upheaval = bpf_map_lookup_elem(&upheavals, &place);
	if (!shortcut || !upheaval)
		return PASS;
	before = *(volatile __u64 *)upheaval;
	if (shortcut->version == head->version && shortcut->tick == now && shortcut->upheavals == before &&
	    is_like(&shortcut->packet, &packet)) {
		forward(eth, shortcut->mac, head->back, length, shortcut->backend, shortcut->vip);
		return TRANSMIT;
	}
	service = head->flags & HEAD_PORTS ? find_service(map, head, &packet, packet.vip_port) : 0;
	if (!service)
		service = find_service(map, head, &packet, 0);
	if (!service)
		return PASS;
	if (packet.signal != SIGNAL_SEGMENT && packet.signal != SIGNAL_DATAGRAM)
		__sync_fetch_and_add(upheaval, 1);
	verdict = steer(map, head, service, &packet, now, total, &number, &backend, &is_settled);
	if (verdict != TRANSMIT || !backend)
		return verdict;
	/* Not each time: where there are more flows than short ways, little time is lost in giving them away. */
	if (is_settled && !(total->transmitted.frames & 3)) {
		shortcut->packet = packet;
		shortcut->version = head->version;
		shortcut->upheavals = before;
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

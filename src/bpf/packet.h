/* SPDX-License-Identifier: BSD-2-Clause */
/* What is read of a packet, as src/wire reads it. */
#ifndef PEN_DSR_PACKET_H
#define PEN_DSR_PACKET_H

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

/* What a packet says about its flow. */
enum signal { SIGNAL_OPEN, SIGNAL_SEGMENT, SIGNAL_FINISH, SIGNAL_RESET, SIGNAL_DATAGRAM };

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

#endif

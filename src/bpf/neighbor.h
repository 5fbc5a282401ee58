/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Answers to who asks for a VIP's MAC, for as long as the process that else gives them says nothing: as it would
 * (src/wire/arp.rs, src/wire/nd.rs). Anything out of the ordinary is passed on.
 */
#ifndef PEN_DSR_NEIGHBOR_H
#define PEN_DSR_NEIGHBOR_H

/* ARP for IPv4 over Ethernet (RFC 826). */
struct arp_message {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u16 sender_mac[3];
	__u32 sender;
	__u16 target_mac[3];
	__u32 target;
} __attribute__((packed));

/* A solicitation or advertisement with the one option that it should have (RFC 4861 section 4.3). */
struct nd_message {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 flags;
	__u32 target[4];
	__u8 option;
	__u8 option_length; /* in units of 8 bytes */
	__u16 mac[3];
} __attribute__((packed));

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_SOURCE_MAC 1
#define ND_TARGET_MAC 2
#define ND_SOLICITED_OVERRIDE 0x60000000
#define ND_HOPS 255

/* Is it one station's MAC, and not ours? */
static __always_inline int is_strangers(const struct head *head, const __u16 *mac)
{
	return !(mac[0] & bpf_htons(0x0100)) && (mac[0] | mac[1] | mac[2]) && !is_mac(mac, head->mac) &&
	       !is_mac(mac, head->vip_mac) && !is_mac(mac, head->back);
}

static __always_inline int is_vip(void *map, const struct head *head, struct packet *packet)
{
	packet->protocol = PROTOCOL_VIP;
	return find_service(map, head, packet, 0) != 0;
}

static __always_inline enum verdict answer_arp(void *map, const struct head *head, struct ethhdr *eth, void *at,
					       void *end)
{
	struct arp_message *arp = at;
	struct packet asked = { .family = 4 };
	__u16 asker[3];

	if ((void *)(arp + 1) > end)
		return PASS;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4 || arp->operation != bpf_htons(1) || arp->sender == arp->target)
		return PASS;
	__builtin_memcpy(asker, arp->sender_mac, ETH_ALEN);
	asked.vip[0] = arp->target;
	if (!is_strangers(head, asker) || !is_vip(map, head, &asked))
		return PASS;
	arp->operation = bpf_htons(2);
	arp->target = arp->sender;
	arp->sender = asked.vip[0];
	__builtin_memcpy(arp->target_mac, asker, ETH_ALEN);
	__builtin_memcpy(arp->sender_mac, head->vip_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, asker, ETH_ALEN);
	__builtin_memcpy(eth->h_source, head->vip_mac, ETH_ALEN);
	return ANSWERED;
}

/* The checksum of `message` in the packet of `ip`: 0 if it holds its own, and that is right. */
static __always_inline __u16 nd_checksum(struct ipv6hdr *ip, struct nd_message *message)
{
	__be32 rest[2] = { bpf_htonl(sizeof(*message)), bpf_htonl(IPPROTO_ICMPV6) };
	__u64 sum = bpf_csum_diff(0, 0, (__be32 *)&ip->saddr, 32, 0);

	sum = bpf_csum_diff(0, 0, rest, sizeof(rest), sum);
	sum = bpf_csum_diff(0, 0, (__be32 *)message, sizeof(*message), sum);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline enum verdict answer_solicitation(void *map, const struct head *head, struct ethhdr *eth,
							void *at, void *end)
{
	struct ipv6hdr *ip = at;
	struct nd_message *message = (void *)(ip + 1);
	struct packet asked = { .family = 6 };
	__u32 source[4];
	__u16 asker[3];

	/* Such frames are long enough to need no padding. */
	if ((void *)(message + 1) > end || (void *)(message + 1) + 1 <= end)
		return PASS;
	if (ip->version != 6 || ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != ND_HOPS ||
	    ip->payload_len != bpf_htons(sizeof(*message)))
		return PASS;
	if (message->type != ND_SOLICITATION || message->code || message->option != ND_SOURCE_MAC ||
	    message->option_length != 1 || nd_checksum(ip, message))
		return PASS;
	__builtin_memcpy(source, &ip->saddr, 16);
	__builtin_memcpy(asker, message->mac, ETH_ALEN);
	__builtin_memcpy(asked.vip, message->target, 16);
	if ((source[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
		return PASS;
	if (!(source[0] | source[1] | source[2] | source[3]))
		return PASS;
	if (!is_strangers(head, asker) || !is_vip(map, head, &asked))
		return PASS;
	*(__be32 *)ip = bpf_htonl(0x60000000);
	__builtin_memcpy(&ip->saddr, asked.vip, 16);
	__builtin_memcpy(&ip->daddr, source, 16);
	message->type = ND_ADVERTISEMENT;
	message->flags = bpf_htonl(ND_SOLICITED_OVERRIDE);
	message->option = ND_TARGET_MAC;
	__builtin_memcpy(message->mac, head->vip_mac, ETH_ALEN);
	message->checksum = 0;
	message->checksum = nd_checksum(ip, message);
	__builtin_memcpy(eth->h_dest, asker, ETH_ALEN);
	__builtin_memcpy(eth->h_source, head->vip_mac, ETH_ALEN);
	return ANSWERED;
}

#endif

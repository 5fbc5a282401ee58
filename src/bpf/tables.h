/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking things up in the tables: src/lb/tables.rs, maglev.rs, acl.rs. */
#ifndef PEN_DSR_TABLES_H
#define PEN_DSR_TABLES_H

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

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Flows, and which backend a packet goes to: src/engine/steer.rs, src/lb/flow/stage.rs. */
#ifndef PEN_DSR_STEER_H
#define PEN_DSR_STEER_H

/* bpf_ktime_get_coarse_ns came with Linux 5.11; some headers are older. */
static __u64 (*coarse_ns)(void) = (void *)160;

/* What becomes of a frame. */
enum verdict { PASS, TRANSMIT, ANSWERED, DENIED, NO_BACKEND };

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
	int proven = !is_new && (!is_young(flow->stage) || (__s32)(now - flow->seen) >= (__s32)head->proof);
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

#endif

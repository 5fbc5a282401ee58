/* SPDX-License-Identifier: BSD-2-Clause */
/* What the program shares with the process, and what it keeps for itself. */
#ifndef PEN_DSR_MAPS_H
#define PEN_DSR_MAPS_H

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

/* Packets like this one, for as long as the tables and the tick are these, go to this backend. */
struct shortcut {
	struct packet packet;
	__u64 version;
	__u64 upheavals;
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
 * Counted up by each packet that opens or ends a flow, in the place where packets like it would have a short way: short ways
 * from before do not count any more, on whatever processor.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHORTCUTS);
	__type(key, __u32);
	__type(value, __u64);
} upheavals SEC(".maps");

/*
 * Short ways, each processor's own: what becomes of packets like one that was decided about within the same tick, if
 * nothing but their number would change.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHORTCUTS);
	__type(key, __u32);
	__type(value, struct shortcut);
} shortcuts SEC(".maps");

#endif

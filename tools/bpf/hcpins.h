/* hcpins.h - what both halves of hcpins know. */
#ifndef HC_TOOLS_BPF_HCPINS_H
#define HC_TOOLS_BPF_HCPINS_H

#include "hct_shared.h"

enum {
	HCPINS_HELD = 16384, /* views that are held at a time, of those that are heard of */
	HCPINS_STACKS = 4096,
	HCPINS_FRAMES = 24,
	HCPINS_RING_BYTES = 1 << 20,
};

struct hcpins_key {
	__u64 view;
	__u32 pid, pad;
};

struct hcpins_view {
	__u64 since_ns; /* CLOCK_MONOTONIC */
	__u64 caller, bytes, key_bytes;
	__s64 stack; /* of the map of stacks; below 0: none */
	__u32 pid, store;
	char comm[HCT_COMM_BYTES];
	char key[HCT_KEY_BYTES];
};

/* It was released. */
struct hcpins_event {
	struct hcpins_view view;
	__u64 held_ns;
};

#endif

/* hcsnoop.h - what both halves of hcsnoop know. */
#ifndef HC_TOOLS_BPF_HCSNOOP_H
#define HC_TOOLS_BPF_HCSNOOP_H

#include "hct_shared.h"

enum { HCSNOOP_RING_BYTES = 4 << 20, HCSNOOP_SETS = 4096 /* that are under way at a time */ };

/* X(name, who): what happens, in the order of its number. */
#define HCSNOOP_OPS(X) \
	X(get, client) \
	X(view, client) \
	X(mget, client) \
	X(set, client) \
	X(publish, engine) \
	X(evict, engine) \
	X(expire, engine)
#define HCSNOOP_ENUM_(name, who) HCSNOOP_##name,
enum hcsnoop_op { HCSNOOP_OPS(HCSNOOP_ENUM_) HCSNOOP_N };
#undef HCSNOOP_ENUM_

struct hcsnoop_event {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u64 key_bytes, bytes, ns;
	__u32 pid, store, op;
	__s32 result;
	char comm[HCT_COMM_BYTES];
	char key[HCT_KEY_BYTES];
};

#endif

/* hct_shared.h - what both halves of every tool know. */
#ifndef HC_TOOLS_BPF_HCT_SHARED_H
#define HC_TOOLS_BPF_HCT_SHARED_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

struct hct_total {
	__u64 events; /* probes that fired, for whomever */
	__u64 lost;   /* of them, those for which there was no room */
};

enum {
	HCT_COMM_BYTES = 16,
	HCT_KEY_BYTES = 64, /* of a key, shown; the rest is cut */
	HCT_SLOTS = 40,     /* of a histogram: powers of two */
};

/* A histogram: slot n counts values of 2^n .. 2^(n+1)-1, slot 0 also 0. */
struct hct_hist {
	__u64 slot[HCT_SLOTS];
	__u64 n, sum;
};

#endif

/* hcevict.h - what both halves of hcevict know. */
#ifndef HC_TOOLS_BPF_HCEVICT_H
#define HC_TOOLS_BPF_HCEVICT_H

#include "hct_shared.h"

enum {
	HCEVICT_STORES = 64,
	HCEVICT_WHYS = 16,    /* of enum eng_lost, and room for more */
	HCEVICT_EXPIRED = 1,  /* this one is no eviction */
	HCEVICT_KEYS = 65536, /* evicted keys that are remembered, the latest */
};

/* At store * HCEVICT_WHYS + why. */
struct hcevict_row {
	__u64 n, bytes;
	__u64 asked; /* reads that missed such a key behind its eviction: an estimate, of reads that are heard of */
	__u64 written; /* writes of such a key behind its eviction */
	struct hct_hist age_ms, idle_ms;
	struct hct_hist back_ms; /* from the eviction to the write */
};

#endif

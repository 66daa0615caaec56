/* hctop.h - what both halves of hctop know. */
#ifndef HC_TOOLS_BPF_HCTOP_H
#define HC_TOOLS_BPF_HCTOP_H

#include "hct_shared.h"

enum { HCTOP_ROWS = 8192 }; /* pairs of process and store */

struct hctop_key {
	__u32 pid, store;
};

/* Estimates: each told read counts `every` times.  Since the process was first seen. */
struct hctop_row {
	__u64 reads, hits, bytes;
	__u64 told, ns; /* calls that were told of, and their time: not multiplied */
	char comm[HCT_COMM_BYTES];
};

#endif

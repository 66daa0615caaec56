/* fsck.h - the checker: reads a daemon's memory and says which invariant is broken.
 *
 * Works on a living daemon (nothing is written, a finding that does not repeat
 * is somebody's progress and is not reported), on one whose engine is dead or
 * stopped, and on mappings of any origin: every byte is taken as hostile.
 */
#ifndef HC_SHM_FSCK_H
#define HC_SHM_FSCK_H

#include <stdbool.h>
#include <stdio.h>
#include "layout/l_control.h"

struct shm_fsck_finding {
	uint32_t invariant; /* number as in the layout headers: I1 .. */
	uint32_t pool_idx;
	uint64_t off; /* bytes in the pool, or in the control segment */
	char text[160];
};
typedef void shm_fsck_report(void *arg, const struct shm_fsck_finding *f);

struct shm_fsck_stats {
	uint64_t entries, live_bytes, damaged, tables, chains, longest_chain;
	uint64_t overhead_bytes; /* headers, rounding, slab tails, index, page tables */
	uint64_t open_bytes;     /* pages and places that nothing names: free, or in limbo */
	bool quiet;              /* nothing changed during the check: accounts were compared too */
};

/* The control segment.  Returns how many findings. */
uint32_t shm_fsck_control(
	const struct shm_control *c, uint64_t bytes, shm_fsck_report *report, void *arg);
/* A pool mapped contiguously at base (bytes: all regions).  Returns how many findings. */
uint32_t shm_fsck_pool(const struct shm_control *c, uint32_t pool_idx, const void *base,
	uint64_t bytes, shm_fsck_report *report, void *arg, struct shm_fsck_stats *ret);

#endif

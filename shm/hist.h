/* hist.h - log-linear histograms: counts of values by size, to an eighth of the value.
 *
 * Each power of two is cut into eight equal parts, and what is below eight has a bucket of its own:
 *
 *   bucket   0 1 .. 7 | 8 .. 15 | 16 .. 23 |  ...  | 248 .. 254 | 255
 *   values   0 1 .. 7 | 8 .. 15 | 16 .. 31 |  ...                | 15 * 2^30 and all above
 *
 * So a value is found with a few instructions, nothing has to be configured, histograms are merged by
 * adding their buckets, and a quantile is right to 12.5 % (G. Tene, HdrHistogram, 2012; H. Hartmann and
 * T. Schlossnagle, Circllhist: a log-linear histogram data structure, 2020).
 *
 * One writer, the engine.  Readers see each word whole, and the words of one value one after the other: the
 * buckets are what counts.
 */
#ifndef HC_SHM_HIST_H
#define HC_SHM_HIST_H

#include "atomic.h"
#include "layout/l_counters.h"
#include "step.h"

enum { SHM_HIST_SUB_BITS = 3, SHM_HIST_SUBS = 1 << SHM_HIST_SUB_BITS };

static inline uint32_t shm_hist_bucket(uint64_t v)
{
	if (v < SHM_HIST_SUBS)
		return (uint32_t)v;
	uint32_t e = 63 - (uint32_t)__builtin_clzll(v);
	uint32_t sub = (uint32_t)(v >> (e - SHM_HIST_SUB_BITS)) & (SHM_HIST_SUBS - 1);
	uint32_t i = (e - (SHM_HIST_SUB_BITS - 1)) * SHM_HIST_SUBS + sub;
	if (MUTANT(328)) /* 328: a power of two is one bucket */
		i -= sub;
	return i < SHM_HIST_BUCKETS ? i : SHM_HIST_BUCKETS - 1;
}

/* The smallest value of bucket i; of i = SHM_HIST_BUCKETS, what all that is counted by its size is below. */
static inline uint64_t shm_hist_low(uint32_t i)
{
	uint32_t sub = i % SHM_HIST_SUBS;

	return i < SHM_HIST_SUBS ? i : (uint64_t)(SHM_HIST_SUBS + sub) << (i / SHM_HIST_SUBS - 1);
}

static inline void shm_hist_add(struct shm_hist *h, uint64_t v)
{
	shm_count(&h->bucket[shm_hist_bucket(v)], 1);
	shm_count(&h->sum, v);
	if (v > shm_load_rlx(&h->max))
		shm_store_rlx(&h->max, v);
}

#endif

/* latency.h - a histogram of the control segment, copied and asked. */
#ifndef HC_TOOLS_LATENCY_H
#define HC_TOOLS_LATENCY_H

#include "layout/l_counters.h"

struct hypercache_latency {
	uint64_t n; /* values: the sum of the buckets */
	uint64_t
		sum; /* of the values; of those that come in meanwhile, some may be in it and not in n */
	uint64_t max; /* the largest one, ever */
	uint64_t bucket[SHM_HIST_BUCKETS];
};

void hypercache_latency_read(const struct shm_hist *h, struct hypercache_latency *ret);

/* A value of the histogram that is described so, in ns. */
uint64_t hypercache_latency_ns(const struct shm_counter_desc *d, uint64_t v);

/* Adds what b counted to a. */
void hypercache_latency_merge(struct hypercache_latency *a, const struct hypercache_latency *b);

/* A value that ppm millionths of all values are at most; up to 12.5 % too high, never too low, never above
 * the largest one.  ppm: 0..1000000.  0 if there are none. */
uint64_t hypercache_latency_quantile(const struct hypercache_latency *l, uint32_t ppm);

#endif

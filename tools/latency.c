/* latency.c - see latency.h; the buckets are those of shm/hist.h. */
#include "latency.h"
#include <string.h>
#include "hist.h"

void hypercache_latency_read(const struct shm_hist *h, struct hypercache_latency *ret)
{
	ret->n = 0;
	ret->sum = shm_load_rlx(&h->sum);
	ret->max = shm_load_rlx(&h->max);
	for (uint32_t i = 0; i < SHM_HIST_BUCKETS; i++) {
		ret->bucket[i] = shm_load_rlx(&h->bucket[i]);
		ret->n += ret->bucket[i];
	}
}

uint64_t hypercache_latency_ns(const struct shm_counter_desc *d, uint64_t v)
{
	return strncmp(d->unit, "ms", sizeof d->unit) == 0 ? v * 1000000 : v;
}

void hypercache_latency_merge(struct hypercache_latency *a, const struct hypercache_latency *b)
{
	a->n += b->n;
	a->sum += b->sum;
	a->max = a->max > b->max ? a->max : b->max;
	for (uint32_t i = 0; i < SHM_HIST_BUCKETS; i++)
		a->bucket[i] += b->bucket[i];
}

uint64_t hypercache_latency_quantile(const struct hypercache_latency *l, uint32_t ppm)
{
	/* n * ppm / 1000000, rounded up, without overflow */
	uint64_t rank = l->n / 1000000 * ppm + (l->n % 1000000 * ppm + 999999) / 1000000, seen = 0;
	uint32_t i = 0;

	if (l->n == 0)
		return 0;
	rank = rank ? rank : 1;
	while (i < SHM_HIST_BUCKETS - 1 && (seen += l->bucket[i]) < rank)
		i++;
	uint64_t most = shm_hist_low(i + 1) - 1;
	return i < SHM_HIST_BUCKETS - 1 && most < l->max ? most : l->max;
}

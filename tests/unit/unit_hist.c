/* unit_hist.c - log-linear histograms: every value has its bucket, and quantiles are as exact as is said. */
#include <string.h>
#include "../kit/t.h"
#include "../../tools/latency.h"
#include "hist.h"

TEST(buckets_follow_each_other_without_gap_or_overlap)
{
	CHECK_EQ(shm_hist_low(0), 0);
	for (uint32_t i = 0; i < SHM_HIST_BUCKETS - 1; i++) {
		uint64_t low = shm_hist_low(i), next = shm_hist_low(i + 1);
		CHECK(next > low);
		CHECK_EQ(shm_hist_bucket(low), i);
		CHECK_EQ(shm_hist_bucket(next - 1), i);
		CHECK(next - low <= low / 8 + 1);
	}
	CHECK_EQ(shm_hist_bucket(shm_hist_low(SHM_HIST_BUCKETS - 1)), SHM_HIST_BUCKETS - 1);
	CHECK_EQ(shm_hist_bucket(UINT64_MAX), SHM_HIST_BUCKETS - 1);
	CHECK(shm_hist_low(SHM_HIST_BUCKETS - 1) >
		16000000000); /* ns: seconds, enough for a request */
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The smallest value that at least ppm millionths of n sorted ones are at most. */
static uint64_t exact(const uint64_t *v, uint64_t n, uint32_t ppm)
{
	uint64_t rank = (n * ppm + 999999) / 1000000;

	return v[rank ? rank - 1 : 0];
}

TEST(quantiles_are_at_most_an_eighth_too_high)
{
	enum { N = 20000, ROUNDS = 20 };
	static const uint32_t ppm[] = {0, 1, 500000, 900000, 990000, 999000, 999999, 1000000};
	static uint64_t v[N];
	static struct shm_hist h[2];
	struct hypercache_latency l, other;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t sum = 0, n = 1 + t_random_below(N);
		memset(h, 0, sizeof h);
		for (uint64_t i = 0; i < n; i++) {
			v[i] = t_random() >> (31 + t_random_below(33)); /* below 2^33 */
			sum += v[i];
			shm_hist_add(&h[i % 2], v[i]); /* merged below */
		}
		qsort(v, n, sizeof *v, compare);
		hypercache_latency_read(&h[0], &l);
		hypercache_latency_read(&h[1], &other);
		hypercache_latency_merge(&l, &other);
		CHECK_EQ(l.n, n);
		CHECK_EQ(l.sum, sum);
		CHECK_EQ(l.max, v[n - 1]);
		for (size_t q = 0; q < sizeof ppm / sizeof *ppm; q++) {
			uint64_t want = exact(v, n, ppm[q]);
			uint64_t got = hypercache_latency_quantile(&l, ppm[q]);
			CHECK(got >= want);
			CHECK(got <= want + want / 8);
		}
	}
}

TEST(nothing_and_values_beyond_all_buckets)
{
	static struct shm_hist h;
	struct hypercache_latency l;

	hypercache_latency_read(&h, &l);
	CHECK_EQ(hypercache_latency_quantile(&l, 500000), 0);
	shm_hist_add(&h, 0);
	hypercache_latency_read(&h, &l);
	CHECK_EQ(l.n, 1);
	CHECK_EQ(hypercache_latency_quantile(&l, 1000000), 0);
	shm_hist_add(&h, UINT64_C(1) << 60);
	hypercache_latency_read(&h, &l);
	CHECK_EQ(hypercache_latency_quantile(&l, 1000000), UINT64_C(1) << 60);
	CHECK_EQ(hypercache_latency_quantile(&l, 500000), 0);
}

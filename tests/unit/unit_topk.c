/* unit_topk - Space-Saving: what it promises of counts, beside counts that are exact; fading; the noise of samples.
 *
 * Planted bugs (shm/step.h) that this file must catch: 821.
 */
#include <math.h>
#include <string.h>
#include "../../daemon/topk.h"
#include "../kit/t.h"

enum { KEYS = 20000, ADDS = 300000 };

static struct topk t;
static double exact[KEYS];

static uint64_t hash_of(uint32_t key) { return (key + 1) * 0x9e3779b97f4a7c15ull; }

static const struct topk_key *key_of(uint32_t key)
{
	for (uint32_t i = 0; i < t.n; i++)
		if (t.key[i].hash == hash_of(key))
			return &t.key[i];
	return NULL;
}

/* Key i with a probability of about 1 / (i + 1), or all alike. */
static void add_many(bool zipf, bool weights)
{
	memset(&t, 0, sizeof t);
	memset(exact, 0, sizeof exact);
	for (int i = 0; i < ADDS; i++) {
		double at = (double)t_random_below(1 << 30) / (1 << 30);
		uint32_t key = zipf ? (uint32_t)(pow(KEYS, at)) - 1
		                    : (uint32_t)t_random_below(KEYS);
		uint32_t hits = weights ? 1 + (uint32_t)t_random_below(8) : 1;
		exact[key] += hits;
		topk_add(&t, hash_of(key), hits, 1);
	}
}

/* The lowest first: no key is below another one that is lower. */
static void check_heap(void)
{
	for (uint32_t i = 0; i < t.n; i++) {
		CHECK_EQ(t.key[t.heap[i]].pos, i);
		if (i)
			CHECK(t.key[t.heap[(i - 1) / 2]].count <= t.key[t.heap[i]].count);
	}
}

static void check_bounds(void)
{
	double total = 0, sum = 0;

	check_heap();
	for (uint32_t i = 0; i < KEYS; i++) {
		const struct topk_key *k = key_of(i);
		total += exact[i];
		if (k) {
			CHECK(k->count >= exact[i] && k->count - k->over <= exact[i]);
			sum += k->count;
		} else {
			CHECK(exact[i] <= topk_rest(&t));
		}
	}
	CHECK(fabs(t.total - total) < 1 && fabs(sum - total) < 1);
	CHECK(topk_rest(&t) <= total / TOPK_KEYS);
}

TEST(counts_are_within_their_bounds)
{
	for (int i = 0; i < 4; i++) {
		add_many(i & 1, i & 2);
		check_bounds();
	}
}

TEST(those_that_come_most_often_are_first)
{
	uint16_t first[10];

	add_many(true, true);
	CHECK_EQ(topk_first(&t, 10, first), 10);
	for (uint32_t i = 0; i < 10; i++) {
		const struct topk_key *k = &t.key[first[i]];
		if (i)
			CHECK(k->count - k->over <=
				t.key[first[i - 1]].count - t.key[first[i - 1]].over);
	}
	for (uint32_t i = 0; i < 4; i++)
		CHECK_EQ(t.key[first[i]].hash, hash_of(i));
}

/* What has become hot overtakes what was, and nothing leaves its order meanwhile. */
TEST(what_was_fades)
{
	uint16_t first[1];

	add_many(true, false);
	double rest = topk_rest(&t), total = t.total;
	topk_fade(&t, 0.25);
	check_heap();
	CHECK(fabs(t.total - total / 4) < 1 && fabs(topk_rest(&t) - rest / 4) < 1);
	for (int i = 0; i < ADDS / 2; i++)
		topk_add(&t, hash_of(KEYS - 1), 1, 1);
	CHECK_EQ(topk_first(&t, 1, first), 1);
	CHECK_EQ(t.key[first[0]].hash, hash_of(KEYS - 1));
	check_heap();
}

TEST(what_was_written_down_goes_on)
{
	memset(&t, 0, sizeof t);
	t.total = 1000;
	for (uint32_t i = 0; i < 2 * TOPK_KEYS; i++)
		topk_seed(&t, hash_of(i / 2), 500.0 - i, 1);
	CHECK_EQ(t.n, TOPK_KEYS);
	check_heap();
	CHECK(key_of(0)->count == 500 && key_of(1)->count == 498);
	topk_add(&t, hash_of(1), 5, 1);
	CHECK(key_of(1)->count == 503 && t.total == 1005);
}

/* Of 1000 keys alike one in ten was told of, each for ten: their shares are as far off as is said. */
TEST(samples_say_how_far_off_they_may_be)
{
	enum { N = 200, DRAWS = 20000, SCALE = 10 };
	double square = 0;

	memset(&t, 0, sizeof t);
	for (int i = 0; i < DRAWS * SCALE; i++)
		if (t_random_below(SCALE) == 0)
			topk_add(&t, hash_of((uint32_t)(i % N)), 1, SCALE);
	CHECK(fabs(t.total / (DRAWS * SCALE) - 1) < 0.05);
	for (uint32_t i = 0; i < N; i++) {
		double off = key_of(i)->count / t.total - 1.0 / N;
		square += off * off / N;
	}
	double said = 2 * sqrt((1.0 / N) * (1 - 1.0 / N)) * topk_noise(&t);
	printf("     off by %.6f, %.6f is said\n", sqrt(square), said);
	CHECK(sqrt(square) > 0.8 * said && sqrt(square) < 1.25 * said);
	memset(&t, 0, sizeof t);
	topk_add(&t, hash_of(1), 100, 1);
	CHECK(topk_noise(&t) == 0); /* all were told of */
}

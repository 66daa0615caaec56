/* unit_curve - is the curve of misses over memory what simulations of each size say?
 *
 * Of made traces, of the recorded ones (of the data folder) within 1 point, and of an engine's store.
 *
 * Planted bugs (shm/step.h): 317.
 */
#include "../kit/t.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../../daemon/pol_curve.h"
#include "../../tools/replay.h"

enum { UNIT = 16, KEYS = 16384, MADE_SIZE = 400, MADE_OBJECTS = 4000, MADE = 60000 };
#define NEAR 0.01
#define NEAR_TINYLFU 0.02 /* two runs with other hashes differ by half of it */

static uint32_t fp_of(uint64_t object)
{
	uint64_t z = (object + 1) * 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	return (uint32_t)((z ^ z >> 27) >> 16);
}

static void curve_of(struct pol_curve *c, const struct replay *r, const char *policy, uint64_t size,
	uint32_t keys)
{
	CHECK_EQ(pol_curve_init(c, pol_find(policy), NULL, keys), 0);
	pol_shadow_resize(&c->shadow, size, 0);
	for (uint64_t i = 0; i < r->n; i++)
		pol_curve_use(c, POL_SHADOW_HIT, fp_of(r->request[i].object), UNIT, 1, 0, i);
	CHECK_EQ(pol_shadow_verify(&c->shadow), 0);
}

/* How far the curve is from simulations of each of its sizes, at most. */
static double apart(const struct replay *r, const char *policy, uint64_t size, uint32_t keys)
{
	struct sim_result res;
	struct pol_curve c;
	double worst = 0;

	curve_of(&c, r, policy, size, keys);
	for (int i = 0; i < POL_CURVE_SIZES; i++) {
		uint64_t n = (uint64_t)((double)size * pol_curve_share[i] + 0.5);
		CHECK_EQ(replay_simulate(r, pol_find(policy), n, false, &res), 0);
		double d = fabs(
			pol_curve_misses(&c, i) - (double)res.misses / (double)res.requests);
		worst = d > worst ? d : worst;
	}
	printf("     %-10s %7llu objects: %.4f apart, said to be %.4f; rate %u/65536\n", policy,
		(unsigned long long)size, worst, pol_curve_error(&c), c.shadow.rate);
	CHECK((pol_curve_error(&c) > 0) == (c.shadow.rate < POL_SHADOW_RATE_ONE));
	pol_curve_fini(&c);
	return worst;
}

static void made(struct replay *r, uint64_t objects)
{
	r->n = MADE;
	r->request = calloc(MADE, sizeof *r->request);
	CHECK(r->request);
	for (uint64_t i = 0; i < MADE; i++)
		r->request[i].object = t_random_below(t_random_below(objects) + 1);
}

TEST(a_made_trace_misses_as_the_curve_says)
{
	struct replay r = {0};

	made(&r, MADE_OBJECTS);
	CHECK(apart(&r, "lru", MADE_SIZE, KEYS) < 0.001); /* all keys are seen */
	CHECK(apart(&r, "s3-fifo", MADE_SIZE, KEYS) < 0.002);
	CHECK(apart(&r, "lru", MADE_SIZE, 1024) < 0.06); /* a part of them */
	replay_free(&r);
}

/* One key has half of all uses.  In the sample or not, the curve says the same. */
TEST(what_is_used_again_at_once_is_hit_with_any_memory)
{
	double least = 1, most = 0;

	for (uint64_t hot = 0; hot < 16; hot++) {
		struct pol_curve c;
		CHECK_EQ(pol_curve_init(&c, pol_find("lru"), NULL, 1024), 0);
		pol_shadow_resize(&c.shadow, 2000, 0);
		for (uint64_t i = 0; i < MADE; i++) {
			pol_curve_use(&c, POL_SHADOW_HIT, fp_of(1000000 + hot), UNIT, 1, 0, i);
			pol_curve_use(
				&c, POL_SHADOW_HIT, fp_of(t_random_below(8000)), UNIT, 1, 0, i);
		}
		double misses = pol_curve_misses(&c, POL_CURVE_ONE);
		least = misses < least ? misses : least;
		most = misses > most ? misses : most;
		pol_curve_fini(&c);
	}
	printf("     misses from %.4f to %.4f\n", least, most);
	CHECK(least > 0.35 && most < 0.42); /* 0.375 */
}

TEST(sums_and_fading_change_no_ratio)
{
	struct pol_curve one, sum;

	CHECK_EQ(pol_curve_init(&one, pol_find("lru"), NULL, KEYS), 0);
	CHECK_EQ(pol_curve_init(&sum, pol_find("lru"), NULL, KEYS), 0);
	CHECK(pol_curve_misses(&one, 0) < 0);
	pol_shadow_resize(&one.shadow, 100, 0);
	pol_shadow_resize(&sum.shadow, 100, 0);
	for (uint64_t i = 0; i < MADE; i++) {
		uint32_t fp = fp_of(t_random_below(500));
		for (int k = 0; k < 3; k++)
			pol_curve_use(&one, POL_SHADOW_HIT, fp, UNIT, 1, 0, i);
		pol_curve_use(&sum, POL_SHADOW_HIT, fp, UNIT, 3, 0, i);
	}
	for (int i = 0; i < POL_CURVE_SIZES; i++)
		CHECK(fabs(pol_curve_misses(&one, i) - pol_curve_misses(&sum, i)) < 1e-9);
	double before = pol_curve_misses(&one, 2);
	pol_curve_fade(&one);
	CHECK(fabs(pol_curve_misses(&one, 2) - before) < 1e-3);
	CHECK_EQ(one.hits, MADE * 3 / 2);
	pol_curve_fini(&one);
	pol_curve_fini(&sum);
}

/* ------------------------------------------------------------ recorded traces */

static const struct {
	const char *trace;
	uint64_t size;
	bool fast; /* also in a build with STEPs, that is in each slower one */
} rows[] = {{"cache2k-web07.u32", 2048, true}, {"cache2k-web12.u32", 1375, false},
	{"lirs-multi3.u32", 745, false}, {"cloudphysics-w92.oracleGeneral", 4897, true},
	{"lirs-2_pools.u32", 993, false}, {"lirs-sprite.u32", 707, false},
	{"lirs-loop.u32", 101, false}, {"arc-OLTP.u32", 186, false}, {"arc-OLTP.u32", 1868, false},
	{"arc-OLTP.u32", 18688, false}, {"addr-twolf.u32", 735, false}};

TEST_LIMIT(recorded_traces_miss_as_the_curve_says, 120)
{
	const char *dir = getenv("HC_DATA");
	int n = 0, wrong = 0;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char path[4096], why[TRACE_WHY_BYTES];
		struct replay r;
#ifdef HC_STEPS
		if (!rows[i].fast)
			continue;
#endif
		(void)snprintf(
			path, sizeof path, "%s/traces/%s.zst", dir ? dir : "", rows[i].trace);
		int e = replay_read(&r, path, why);
		if (e < 0 && n == 0)
			SKIP(e == -ENOTSUP ? "built without libzstd"
					   : "no recorded data (-Ddata=FOLDER)");
		CHECK_EQ(e, 0);
		printf("     %s\n", rows[i].trace);
		wrong += apart(&r, "lru", rows[i].size, KEYS) > NEAR;
		wrong += apart(&r, "s3-fifo", rows[i].size, KEYS) > NEAR;
		wrong += apart(&r, "w-tinylfu", rows[i].size, 4 * KEYS) > NEAR_TINYLFU;
		replay_free(&r);
		n++;
	}
	CHECK_EQ(wrong, 0);
}

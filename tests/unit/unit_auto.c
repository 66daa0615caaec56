/* unit_auto - do miniatures miss as often as what they stand for, and does the policy auto choose well?
 *
 * Made traces ask each part; the recorded ones (of the data folder) ask what it is for: at most 1 point more
 * misses than the best fixed policy at every size of 100 objects and more, and fewer than s3-fifo in the mean.
 *
 * Planted bugs (shm/step.h): 310 to 315, each caught by the test that tests/mutants.txt names.
 */
#include "../kit/t.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../../daemon/pol_auto.h"
#include "../../daemon/pol_shadow.h"
#include "../../shm/step.h"
#include "../../tools/replay.h"

enum { UNIT = 16, SIZE = 500, OBJECTS = 5000, KEYS = 1024, LARGE = 600000 };
#define AUTO_NEAR 0.01

static uint64_t hash_of(uint64_t key) { return (key + 1) * 0x9e3779b97f4a7c15ull; }
static uint32_t fp_of(uint64_t key) { return (uint32_t)(hash_of(key) >> 16); }
static uint64_t skewed(uint64_t n) { return t_random_below(t_random_below(n) + 1); }

/* ------------------------------------------------------------ miniatures */

static double missed_part(const struct pol_shadow *s, int mini)
{
	const struct pol_shadow_mini *m = &s->mini[mini];
	uint64_t uses = s->uses[POL_SHADOW_HIT] + s->uses[POL_SHADOW_INSERT];

	return (double)(m->missed[POL_SHADOW_HIT] + m->missed[POL_SHADOW_INSERT]) / (double)uses;
}

static void one_use(struct pol_shadow *s, uint64_t key, uint64_t bytes, uint64_t now_ms)
{
	if (pol_shadow_samples(s, fp_of(key)))
		pol_shadow_use(s, POL_SHADOW_HIT, fp_of(key), bytes, 0, now_ms);
}

/* Runs each evicting policy beside a miniature of it, over so many objects; how far they are apart at most. */
static double apart(uint32_t max_keys, uint64_t size, uint64_t objects, uint64_t n)
{
	struct sim *sim[POL_SHADOW_MINIS_MAX];
	struct sim_result res;
	struct pol_shadow s;
	double worst = 0;
	uint32_t n_sims = 0;

	pol_shadow_init(&s, max_keys);
	for (const struct pol_ops *const *o = pol_all(); *o; o++) {
		if ((*o)->keeps || *o == &pol_auto)
			continue;
		CHECK_EQ(pol_shadow_add(&s, *o, NULL, 1), 0);
		CHECK_EQ(sim_new(*o, size, false, &sim[n_sims++]), 0);
	}
	pol_shadow_resize(&s, size, 0);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t key = skewed(objects);
		one_use(&s, key, UNIT, 0);
		for (uint32_t k = 0; k < n_sims; k++)
			CHECK(sim_request(sim[k], key, 0, 0) >= 0);
	}
	CHECK_EQ(pol_shadow_verify(&s), 0);
	CHECK(s.n_keys <= max_keys);
	for (uint32_t k = 0; k < n_sims; k++) {
		sim_result(sim[k], &res);
		double full = (double)res.misses / (double)res.requests;
		double mini = missed_part(&s, (int)k);
		printf("     %-10s misses %.4f, its miniature %.4f, rate %u/65536, %u keys\n",
			s.mini[k].ops->name, full, mini, s.rate, s.n_keys);
		worst = mini - full > worst   ? mini - full
		        : full - mini > worst ? full - mini
		                              : worst;
		sim_free(sim[k]);
	}
	pol_shadow_fini(&s);
	return worst;
}

TEST(a_miniature_of_all_keys_misses_as_often_as_the_cache)
{
	CHECK(apart(1 << 16, SIZE, OBJECTS, 60000) <
		0.005); /* but for equal fingerprints: the same */
}

TEST(a_miniature_of_some_keys_misses_about_as_often)
{
	CHECK(apart(4096, 20 * SIZE, 20 * OBJECTS, 200000) < 0.03);
}

TEST(the_number_of_sampled_keys_is_bounded)
{
	struct pol_shadow s;

	pol_shadow_init(&s, 256);
	CHECK_EQ(pol_shadow_add(&s, pol_find("lru"), NULL, 1), 0);
	for (uint64_t i = 0; i < 20000; i++) {
		one_use(&s, i, UNIT, i);
		CHECK(s.n_keys <= 256);
	}
	CHECK(s.rate < POL_SHADOW_RATE_ONE / 32 && s.n_keys > 64);
	uint64_t uses = s.uses[POL_SHADOW_HIT]; /* each counts for those that are not seen */
	CHECK(uses > 14000 && uses < 27000);
	CHECK_EQ(pol_shadow_verify(&s), 0);
	pol_shadow_clear(&s);
	CHECK_EQ(s.n_keys, 0);
	CHECK_EQ(pol_shadow_verify(&s), 0);
	pol_shadow_fini(&s);
}

TEST(miniatures_keep_their_books)
{
	struct pol_shadow s;

	pol_shadow_init(&s, KEYS);
	for (int i = 1; i <= 8; i *= 2)
		CHECK_EQ(pol_shadow_add(&s, pol_find(i < 4 ? "s3-fifo" : "lru"), NULL, i / 4.0), 0);
	for (uint64_t i = 0; i < 30000; i++) {
		uint64_t key = skewed(OBJECTS), bytes = UNIT * (1 + t_random_below(20));
		uint32_t fp = fp_of(key);
		if (i % 5000 == 100)
			pol_shadow_resize(&s, 200 + t_random_below(4000), i);
		if (!pol_shadow_samples(&s, fp))
			continue;
		if (t_random_below(20) == 0)
			pol_shadow_forget(&s, fp);
		else
			pol_shadow_use(&s, (enum pol_shadow_use)t_random_below(POL_SHADOW_USES), fp,
				bytes, t_random_below(4) ? 0 : i + 100, i);
		if (i % 500 == 0)
			CHECK_EQ(pol_shadow_verify(&s), 0);
	}
	CHECK_EQ(pol_shadow_verify(&s), 0);
	pol_shadow_fini(&s);
}

/* What is over is absent, in each of them. */
TEST(what_is_over_is_missed)
{
	struct pol_shadow s;

	pol_shadow_init(&s, KEYS);
	CHECK_EQ(pol_shadow_add(&s, pol_find("lru"), NULL, 4), 0);
	pol_shadow_use(&s, POL_SHADOW_INSERT, 7, UNIT, 100, 0);
	pol_shadow_use(&s, POL_SHADOW_HIT, 7, UNIT, 100, 99);
	CHECK_EQ(s.mini[0].missed[POL_SHADOW_HIT], 0);
	pol_shadow_use(&s, POL_SHADOW_HIT, 7, UNIT, 200, 100);
	CHECK_EQ(s.mini[0].missed[POL_SHADOW_HIT], 1);
	pol_shadow_fini(&s);
}

/* ------------------------------------------------------------ the policy */

struct world {
	struct pol *p;
	uint32_t node[OBJECTS]; /* of each key */
	uint64_t n, misses;
	uint64_t now_ms;
};

static void world_init(struct world *w)
{
	*w = (struct world){0};
	CHECK_EQ(pol_auto.new(&pol_auto, 1 << 20, NULL, &w->p), 0);
}

static void drop(struct world *w, uint64_t key, int evicted)
{
	w->p->ops->remove(w->p, w->node[key], evicted);
	w->node[key] = POL_NONE;
	w->n--;
}

static bool ask(struct world *w, uint64_t key)
{
	uint64_t off;

	w->now_ms++;
	if (w->node[key] != POL_NONE) {
		CHECK_EQ(w->p->ops->where(w->p, w->node[key]), (key + 1) * UNIT);
		w->p->ops->touch(w->p, w->node[key], w->now_ms);
		return true;
	}
	w->misses++;
	while (w->n >= SIZE) {
		CHECK_EQ(w->p->ops->victim(w->p, w->now_ms, &off), 0);
		drop(w, off / UNIT - 1, 1);
	}
	CHECK_EQ(w->p->ops->insert(
			 w->p, hash_of(key), (key + 1) * UNIT, UNIT, w->now_ms, &w->node[key]),
		0);
	w->n++;
	return false;
}

static struct pol_auto_say say_of(const struct world *w)
{
	struct pol_auto_say s;

	pol_auto_say(w->p, &s);
	return s;
}

static const char *choice_of(const struct world *w)
{
	struct pol_auto_say s = say_of(w);

	return s.name[s.choice];
}

/* What is popular moves on all the time: last use tells, and how often it was used misleads. */
static uint64_t drifting(uint64_t i) { return (i / 4 + skewed(SIZE * 3 / 2)) % OBJECTS; }

/* Drifts until auto leaves w-tinylfu.  Returns how many uses that took. */
static uint64_t until_changed(struct world *w)
{
	uint64_t i = 0;

	for (; say_of(w).switches == 0; i++) {
		CHECK(i < 200000);
		(void)ask(w, drifting(i));
	}
	return i;
}

TEST(it_changes_when_another_one_misses_less)
{
	struct world w;

	world_init(&w);
	CHECK_STR(choice_of(&w), "w-tinylfu");
	uint64_t i = until_changed(&w);
	printf("     after %llu uses: %s\n", (unsigned long long)i, choice_of(&w));
	CHECK(strcmp(choice_of(&w), "w-tinylfu") != 0);
	CHECK(say_of(&w).moving);
	for (uint64_t end = i + SIZE; i < end; i++) {
		(void)ask(&w, drifting(i));
		CHECK_EQ(w.p->ops->verify(w.p), 0);
	}
	CHECK(!say_of(&w).moving); /* all entries went over */
	struct pol_stats st;
	w.p->ops->stats(w.p, &st);
	CHECK_EQ(st.entries, w.n);
	CHECK_EQ(st.bytes, w.n * UNIT);
	for (uint64_t key = 0; key < OBJECTS; key++)
		if (w.node[key] != POL_NONE)
			drop(&w, key, 0);
	CHECK_EQ(w.p->ops->verify(w.p), 0);
	w.p->ops->stats(w.p, &st);
	CHECK(st.entries == 0 && st.bytes == 0);
	uint64_t off = 7;
	CHECK_EQ(w.p->ops->victim(w.p, 0, &off), 1);
	w.p->ops->free(w.p);
}

/* Overwrites, moves and deletes find their entry wherever it is, also while entries go over. */
TEST(entries_are_found_while_they_go_over)
{
	struct world w;
	uint64_t n = 0;

	world_init(&w);
	uint64_t i = until_changed(&w);
	for (; say_of(&w).moving; i++, n++) {
		uint64_t key = t_random_below(OBJECTS);
		(void)ask(&w, drifting(i));
		if (w.node[key] == POL_NONE)
			continue;
		if (i % 3 == 0)
			drop(&w, key, 0);
		else if (i % 3 == 1)
			w.p->ops->replace(w.p, w.node[key], (key + 1) * UNIT, UNIT, i);
		else
			w.p->ops->moved(w.p, w.node[key], (key + 1) * UNIT);
		CHECK_EQ(w.p->ops->verify(w.p), 0);
		CHECK(n < SIZE);
	}
	CHECK(n > 10);
	w.p->ops->free(w.p);
}

TEST(what_is_deleted_leaves_the_miniatures)
{
	struct world w;

	world_init(&w);
	for (uint64_t key = 0; key < 10; key++)
		(void)ask(&w, key);
	CHECK_EQ(say_of(&w).n_keys, 10);
	for (uint64_t key = 0; key < 10; key++)
		drop(&w, key, 0);
	CHECK_EQ(say_of(&w).n_keys, 0);
	w.p->ops->free(w.p);
}

/* Where all are equal it stays as it is. */
TEST(it_does_not_change_for_chance)
{
	struct world w;

	world_init(&w);
	for (int i = 0; i < 100000; i++)
		(void)ask(&w, t_random_below(OBJECTS));
	CHECK(say_of(&w).switches <= 1);
	w.p->ops->free(w.p);
}

/* ------------------------------------------------------------ recorded traces */

static const char *const traces[] = {"cache2k-web07", "cache2k-web12", "lirs-2_pools",
	"lirs-multi1", "lirs-multi2", "lirs-multi3", "lirs-cpp", "lirs-ps", "lirs-sprite",
	"lirs-loop", "arc-OLTP", "arc-P3", "addr-twolf", "cloudphysics-w92"};

static double misses_of(const struct replay *r, const struct pol_ops *ops, uint64_t size)
{
	struct sim_result res;

	CHECK_EQ(replay_simulate(r, ops, size, false, &res), 0);
	return (double)res.misses / (double)res.requests;
}

struct sums {
	double s3fifo; /* auto's misses, less those of s3-fifo */
	int rows, wrong;
};

static void compare(const struct replay *r, const char *trace, uint64_t size, struct sums *sum)
{
	double mine = misses_of(r, &pol_auto, size), best = 1, s3fifo = 0;
	const char *name = "";

	for (const struct pol_ops *const *o = pol_all(); *o; o++) {
		if ((*o)->keeps || *o == &pol_auto)
			continue;
		double one = misses_of(r, *o, size);
		if (one < best)
			best = one, name = (*o)->name;
		if (strcmp((*o)->name, "s3-fifo") == 0)
			s3fifo = one;
	}
	printf("     %-18s %7llu  auto %.4f  best %.4f (%s)  %+.4f%s\n", trace,
		(unsigned long long)size, mine, best, name, mine - best,
		mine > best + AUTO_NEAR ? "  WRONG" : "");
	sum->rows++;
	sum->wrong += mine > best + AUTO_NEAR;
	sum->s3fifo += mine - s3fifo;
}

/* With STEPs, and so in each slower build, without the longest traces. */
TEST_LIMIT(recorded_traces_miss_as_often_as_with_the_best_policy, 240)
{
	struct sums sum = {0};

	for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
		char path[4096], why[TRACE_WHY_BYTES];
		struct replay r;
		const char *dir = getenv("HC_DATA");
		(void)snprintf(path, sizeof path, "%s/traces/%s.%s.zst", dir ? dir : "", traces[i],
			strcmp(traces[i], "cloudphysics-w92") ? "u32" : "oracleGeneral");
		int e = replay_read(&r, path, why);
		if (e < 0 && sum.rows == 0)
			SKIP(e == -ENOTSUP ? "built without libzstd"
					   : "no recorded data (-Ddata=FOLDER)");
		CHECK_EQ(e, 0);
#ifdef HC_STEPS
		if (r.n > LARGE) {
			replay_free(&r);
			continue;
		}
#endif
		for (uint64_t part = 1000; part >= 10; part /= 10)
			if (r.n_objects / part >= 100)
				compare(&r, traces[i], r.n_objects / part, &sum);
		replay_free(&r);
	}
	printf("     %d rows, in the mean %+.4f against s3-fifo\n", sum.rows,
		sum.s3fifo / sum.rows);
	CHECK(sum.rows >= 14);
	CHECK_EQ(sum.wrong, 0);
	CHECK(sum.s3fifo < 0);
}

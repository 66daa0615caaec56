/* unit_pol_model - does each policy propose the victims that a plain model of it proposes?
 *
 * The models are slow and short: an array of entries, searched through at every question.  Random
 * hits, overwrites, moves, deletes and inserts of entries of one and of many sizes; the victims have to be
 * the same, one by one.  s3-fifo has its own file, unit_pol.
 *
 * Planted bugs (shm/step.h) that this file must catch: 232 to 236 and 238, by the test of their policy.
 */
#include "../kit/t.h"
#include <stdlib.h>
#include <string.h>
#include "../../daemon/pol.h"
#include "../../daemon/pol_sketch.h"

enum { UNIT = 16, KEYS = 3000, ENTRIES_MAX = 4096, USES_MAX = 255 };

struct entry {
	uint64_t key, off, bytes;
	uint32_t node, list;
	uint64_t order; /* in its list: larger is newer */
	uint64_t uses, weight;
	bool visited;
};

struct model {
	const struct pol_ops *ops;
	struct pol *p;
	const struct rules *rules;
	struct entry e[ENTRIES_MAX];
	int n;
	uint64_t used, limit, next_off, order;
	uint64_t hand; /* sieve: the order of the entry it stands at; 0: the oldest */
	uint64_t age;  /* lfu */
	struct pol_sketch sketch;
	bool pressed; /* w-tinylfu */
};

struct rules {
	const char *name;
	void (*inserted)(struct model *m, struct entry *e);
	void (*used)(struct model *m, struct entry *e);
	void (*replaced)(struct model *m, struct entry *e);
	int (*victim)(struct model *m);
};

static uint64_t hash_of(uint64_t key) { return (key * 0x9e3779b1ull) << 16; }
static uint32_t fp_of(uint64_t key) { return (uint32_t)(hash_of(key) >> 16); }

static void nothing(struct model *m, struct entry *e) { (void)m, (void)e; }
static void renew(struct model *m, struct entry *e) { e->order = ++m->order; }

/* The oldest of a list, or of all if list is 0; -1: there is none. */
static int oldest_of(const struct model *m, uint32_t list)
{
	int best = -1;

	for (int i = 0; i < m->n; i++)
		if ((list == 0 || m->e[i].list == list) &&
			(best < 0 || m->e[i].order < m->e[best].order))
			best = i;
	return best;
}

/* ------------------------------------------------------------ fifo, lru, sieve */

static int first_victim(struct model *m) { return oldest_of(m, 0); }

static void sieve_used(struct model *m, struct entry *e)
{
	(void)m;
	e->visited = true;
}

/* The oldest that is not older than the hand, else the oldest. */
static int at_hand(const struct model *m)
{
	int best = -1;

	for (int i = 0; i < m->n; i++)
		if (m->e[i].order >= m->hand && (best < 0 || m->e[i].order < m->e[best].order))
			best = i;
	return best >= 0 ? best : oldest_of(m, 0);
}

static int sieve_victim(struct model *m)
{
	int i = at_hand(m);

	while (m->e[i].visited) {
		m->e[i].visited = false;
		m->hand = m->e[i].order + 1;
		i = at_hand(m);
	}
	m->hand = m->e[i].order;
	return i;
}

/* ------------------------------------------------------------ lfu */

static void lfu_used(struct model *m, struct entry *e)
{
	e->uses += e->uses < USES_MAX;
	e->weight = m->age + e->uses;
	renew(m, e);
}

static int lfu_victim(struct model *m)
{
	int best = 0;

	for (int i = 1; i < m->n; i++)
		if (m->e[i].weight < m->e[best].weight ||
			(m->e[i].weight == m->e[best].weight && m->e[i].order < m->e[best].order))
			best = i;
	m->age = m->e[best].weight;
	return best;
}

/* ------------------------------------------------------------ w-tinylfu */

enum { WINDOW = 1, PROBATION = 2, PROTECTED = 3 };

static uint64_t bytes_of(const struct model *m, uint32_t list, int *ret_n)
{
	uint64_t sum = 0;
	int n = 0;

	for (int i = 0; i < m->n; i++)
		if (m->e[i].list == list)
			sum += m->e[i].bytes, n++;
	if (ret_n)
		*ret_n = n;
	return sum;
}

static uint64_t all_bytes(const struct model *m)
{
	uint64_t sum = 0;

	for (int i = 0; i < m->n; i++)
		sum += m->e[i].bytes;
	return sum;
}

static bool window_is_over(const struct model *m)
{
	int n;

	return bytes_of(m, WINDOW, &n) * 100 > all_bytes(m) && n > 1;
}

static void relist(struct model *m, int i, uint32_t list)
{
	m->e[i].list = list;
	renew(m, &m->e[i]);
}

static void tinylfu_inserted(struct model *m, struct entry *e)
{
	e->list = WINDOW;
	pol_sketch_reserve(&m->sketch, (uint64_t)m->n);
	pol_sketch_add(&m->sketch, fp_of(e->key));
	while (!m->pressed && window_is_over(m))
		relist(m, oldest_of(m, WINDOW), PROBATION);
	m->pressed = false;
}

static void tinylfu_used(struct model *m, struct entry *e)
{
	int n;

	pol_sketch_add(&m->sketch, fp_of(e->key));
	if (e->list != WINDOW)
		e->list = PROTECTED;
	renew(m, e);
	while (bytes_of(m, PROTECTED, &n) * 100 > (all_bytes(m) - bytes_of(m, WINDOW, NULL)) * 80 &&
		n > 1)
		relist(m, oldest_of(m, PROTECTED), PROBATION);
}

static int tinylfu_victim(struct model *m)
{
	int candidate = oldest_of(m, WINDOW), victim = oldest_of(m, PROBATION);

	m->pressed = true;
	if (victim < 0)
		victim = oldest_of(m, PROTECTED);
	if (victim < 0)
		return candidate;
	if (!window_is_over(m))
		return victim;
	bool loses = pol_sketch_count(&m->sketch, fp_of(m->e[candidate].key)) <=
	             pol_sketch_count(&m->sketch, fp_of(m->e[victim].key));
	pol_sketch_add(&m->sketch, fp_of(m->e[candidate].key));
	if (loses)
		return candidate;
	relist(m, candidate, PROBATION);
	return victim;
}

/* ------------------------------------------------------------ both side by side */

static int index_of(const struct model *m, uint64_t key)
{
	int i = m->n - 1;

	while (i >= 0 && m->e[i].key != key)
		i--;
	return i;
}

static void both_remove(struct model *m, int i, int evicted)
{
	uint64_t order = m->e[i].order;
	bool newest = true;

	m->ops->remove(m->p, m->e[i].node, evicted);
	m->used -= m->e[i].bytes;
	m->e[i] = m->e[--m->n];
	for (int k = 0; k < m->n; k++)
		newest = newest && m->e[k].order < order;
	if (newest && m->hand == order)
		m->hand = 0; /* beyond the newest, it begins anew */
}

static void both_insert(struct model *m, uint64_t key, uint64_t bytes)
{
	struct entry new = {.key = key, .off = m->next_off, .bytes = bytes, .list = 1, .uses = 1};
	uint64_t off = UINT64_MAX;

	while (m->used + bytes > m->limit) {
		int i = m->rules->victim(m);
		CHECK_EQ(m->ops->victim(m->p, 0, &off), 0);
		CHECK_EQ(off, m->e[i].off);
		both_remove(m, i, 1);
	}
	CHECK(m->n < ENTRIES_MAX);
	CHECK_EQ(m->ops->insert(m->p, hash_of(key), new.off, bytes, 0, &new.node), 0);
	new.order = ++m->order;
	new.weight = m->age + 1;
	m->e[m->n++] = new;
	m->used += bytes;
	m->rules->inserted(m, &m->e[m->n - 1]);
}

static void both_access(struct model *m, uint64_t key, uint64_t bytes)
{
	int i = index_of(m, key);
	uint64_t what = t_random_below(100);

	m->next_off += UNIT;
	if (i < 0) {
		both_insert(m, key, bytes);
	} else if (what < 80) {
		m->ops->touch(m->p, m->e[i].node, 0);
		m->rules->used(m, &m->e[i]);
	} else if (what < 90) {
		m->used += bytes - m->e[i].bytes;
		m->e[i].bytes = bytes;
		m->e[i].off = m->next_off;
		m->ops->replace(m->p, m->e[i].node, m->e[i].off, bytes, 0);
		m->rules->replaced(m, &m->e[i]);
	} else if (what < 95) {
		m->e[i].off = m->next_off;
		m->ops->moved(m->p, m->e[i].node, m->e[i].off);
	} else {
		both_remove(m, i, 0);
	}
}

static void compare_at(const struct rules *rules, uint64_t limit, uint64_t bytes_max, int steps)
{
	struct model *m = calloc(1, sizeof *m);
	struct pol_stats st;

	CHECK(m);
	m->rules = rules;
	m->limit = limit;
	m->ops = pol_find(rules->name);
	CHECK(m->ops != NULL);
	CHECK_EQ(m->ops->new (m->ops, limit, NULL, &m->p), 0);
	CHECK_EQ(pol_sketch_init(&m->sketch), 0);
	for (int i = 0; i < steps; i++) {
		both_access(m, t_random_below(t_random_below(t_random_below(KEYS) + 1) + 1),
			UNIT * (1 + t_random_below(bytes_max / UNIT)));
		if (i % 1000)
			continue;
		m->ops->stats(m->p, &st);
		CHECK_EQ(m->ops->verify(m->p), 0);
		CHECK_EQ(st.entries, m->n);
		CHECK_EQ(st.bytes, m->used);
		CHECK_EQ(st.inserts - st.removes, st.entries);
	}
	CHECK(st.victims > 1000 && st.touches > 1000);
	m->ops->free(m->p);
	m->ops->free(NULL);
	pol_sketch_fini(&m->sketch);
	free(m);
}

static void compare(const struct rules *rules)
{
	compare_at(rules, 100 * UNIT, UNIT, 40000); /* all of one size */
	compare_at(rules, 500 * UNIT, UNIT, 40000);
	compare_at(rules, 100000, 2000, 40000); /* 16 to 2000 bytes */
}

TEST(fifo) { compare(&(struct rules){"fifo", nothing, nothing, nothing, first_victim}); }

TEST(lru) { compare(&(struct rules){"lru", nothing, renew, renew, first_victim}); }

TEST(sieve) { compare(&(struct rules){"sieve", nothing, sieve_used, nothing, sieve_victim}); }

TEST(lfu) { compare(&(struct rules){"lfu", nothing, lfu_used, nothing, lfu_victim}); }

TEST(w_tinylfu)
{
	compare(&(struct rules){
		"w-tinylfu", tinylfu_inserted, tinylfu_used, nothing, tinylfu_victim});
}

/* ------------------------------------------------------------ the sketch */

TEST(a_sketch_counts_and_fades)
{
	enum { N = 1000, COLD = 20000 };
	struct pol_sketch s;
	uint32_t wrong = 0;

	CHECK_EQ(pol_sketch_init(&s), 0);
	for (uint64_t i = 0; i < N; i++) /* grows while counts are in it */
		for (uint64_t k = 0; k <= i % 8; k++) {
			pol_sketch_reserve(&s, i + 1);
			pol_sketch_add(&s, fp_of(i));
		}
	pol_sketch_reserve(&s, 1 << 20); /* from now on nothing fades for long */
	for (uint64_t i = N - 100; i < N; i++)
		wrong += pol_sketch_count(&s, fp_of(i)) < i % 8 / 2 + 1;
	CHECK_EQ(wrong, 0); /* one halving at most lies behind the last hundred */
	wrong = 0;
	for (uint64_t i = 1 << 20; i < (1 << 20) + N; i++)
		wrong += pol_sketch_count(&s, fp_of(i)) > 1;
	printf("     %u of %d unknown keys are taken for known ones\n", wrong, N);
	CHECK(wrong < N / 8); /* keys that were never seen */
	for (int i = 0; i < 100; i++)
		pol_sketch_add(&s, fp_of(7));
	CHECK_EQ(pol_sketch_count(&s, fp_of(7)), POL_SKETCH_MAX);
	pol_sketch_reserve(&s, N);
	for (uint64_t i = 0; i < COLD; i++)
		pol_sketch_add(&s, fp_of(1u << 24 | i));
	CHECK(pol_sketch_count(&s, fp_of(7)) <= POL_SKETCH_MAX / 2);
	pol_sketch_fini(&s);
}

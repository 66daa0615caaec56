/* unit_pol - does a policy propose what its description says, and keep its books?
 *
 * Planted bugs (shm/step.h) that this file must catch, each by the test named:
 *
 *   27  pol_s3fifo.c  one hit is enough to move from small to main
 *                     victims_are_those_of_a_plain_model
 *   28  pol_s3fifo.c  the ghost is not asked
 *                     a_key_that_comes_back_goes_to_main
 *   29  pol_s3fifo.c  an overwrite forgets the hits
 *                     an_overwrite_keeps_hits_and_turn
 */
#include "../kit/t.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/pol.h"
#include "../../daemon/pol_ghost.h"
#include "../../shm/step.h"

enum { UNIT = 16 };

static struct pol *s3fifo(uint64_t bytes)
{
	const struct pol_ops *ops = pol_find("s3-fifo");
	struct pol *p = NULL;

	CHECK(ops != NULL);
	CHECK_EQ(ops->new (ops, bytes, NULL, &p), 0);
	CHECK(p != NULL && p->ops == ops);
	return p;
}

/* Different numbers have different fingerprints. */
static uint64_t hash_of(uint64_t key) { return (key * 0x9e3779b1ull) << 16; }

static uint32_t insert(struct pol *p, uint64_t key, uint64_t off, uint64_t bytes)
{
	uint32_t node = POL_NONE;

	CHECK_EQ(p->ops->insert(p, hash_of(key), off, bytes, 0, &node), 0);
	CHECK(node != POL_NONE);
	return node;
}

static uint64_t victim(struct pol *p)
{
	uint64_t off = UINT64_MAX;

	CHECK_EQ(p->ops->victim(p, 0, &off), 0);
	return off;
}

static struct pol_stats stats_of(const struct pol *p)
{
	struct pol_stats st;

	p->ops->stats(p, &st);
	return st;
}

/* ------------------------------------------------------------ what must be refused */

TEST(unknown_names_are_not_found)
{
	CHECK(pol_find("") == NULL && pol_find("s3-fif") == NULL && pol_find("S3-FIFO") == NULL);
	int n = 0;
	for (const struct pol_ops *const *o = pol_all(); *o; o++, n++) {
		CHECK(pol_find((*o)->name) == *o);
		CHECK(strlen((*o)->meaning) > 10);
	}
	CHECK(n >= 1);
}

/* Names fit the configuration, each default lies in its range, and the defaults do not contradict each other. */
TEST(what_policies_say_of_themselves_is_whole)
{
	for (const struct pol_ops *const *o = pol_all(); *o; o++) {
		const struct pol_values v = pol_defaults(*o);
		struct pol *p = NULL;
		CHECK((*o)->n_params <= POL_PARAMS_MAX && strlen((*o)->name) < POL_NAME_BYTES);
		CHECK(!(*o)->check || (*o)->check(&v) == NULL);
		for (uint32_t i = 0; i < (*o)->n_params; i++) {
			const struct pol_param *a = &(*o)->params[i];
			CHECK(a->min <= a->def && a->def <= a->max && v.v[i] == a->def);
			CHECK(strlen(a->name) < POL_NAME_BYTES && strlen(a->meaning) > 10);
			CHECK((a->type == POL_T_NUMBER) == (*a->unit != 0));
			for (uint32_t k = 0; k < i; k++)
				CHECK(strcmp((*o)->params[k].name, a->name) != 0);
		}
		CHECK_EQ((*o)->new (*o, 1 << 20, &v, &p), 0);
		(*o)->free(p);
	}
}

TEST(an_empty_policy_has_no_victim)
{
	struct pol *p = s3fifo(1 << 20);
	uint64_t off = 7;

	CHECK_EQ(p->ops->victim(p, 0, &off), 1);
	CHECK_EQ(off, 7);
	p->ops->remove(p, insert(p, 1, 16, 100), 0);
	CHECK_EQ(p->ops->victim(p, 0, &off), 1);
	CHECK_EQ(stats_of(p).bytes, 0);
	CHECK_EQ(p->ops->verify(p), 0);
	p->ops->free(p);
	pol_find("s3-fifo")->free(NULL);
}

static struct pol *dying;
static uint32_t dying_node;
static void touch_none(void) { dying->ops->touch(dying, POL_NONE, 0); }
static void touch_unmade(void) { dying->ops->touch(dying, 1000000, 0); }
static void move_wild(void) { dying->ops->moved(dying, dying_node, 17); }
static void remove_twice(void)
{
	dying->ops->remove(dying, dying_node, 0);
	dying->ops->remove(dying, dying_node, 1);
}

/* Runs f in a child whose complaints nobody needs: it must end by a failed CHECK. */
static bool dies(void (*f)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		int fd = open("/dev/null", O_WRONLY);
		(void)dup2(fd, 2);
		(void)alarm(60);
		f();
		_exit(0);
	}
	int st = t_wait_child(pid, t_limit_ms(60000));
	return WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT;
}

TEST(the_engine_s_own_mistakes_are_fatal)
{
	dying = s3fifo(1 << 20);
	dying_node = insert(dying, 1, 16, 100);
	CHECK(dies(touch_none));
	CHECK(dies(touch_unmade));
	CHECK(dies(move_wild));
	CHECK(dies(remove_twice));
	dying->ops->free(dying);
}

/* ------------------------------------------------------------ a plain model */

enum { KEYS = 3000, LIST_MAX = 4096, MOVES = 64 };

struct entry {
	uint64_t key, off, bytes;
	uint32_t node, freq;
};
struct list { /* oldest first */
	struct entry e[LIST_MAX];
	int n;
};
struct model {
	struct list small, main, ghost;
};

static void append(struct list *l, struct entry e)
{
	CHECK(l->n < LIST_MAX);
	l->e[l->n++] = e;
}
static struct entry cut(struct list *l, int i)
{
	struct entry e = l->e[i];

	l->n--;
	memmove(&l->e[i], &l->e[i + 1], (size_t)(l->n - i) * sizeof e);
	return e;
}
static int index_of(const struct list *l, uint64_t key)
{
	int i = l->n - 1;

	while (i >= 0 && l->e[i].key != key)
		i--;
	return i;
}
static uint64_t bytes_of(const struct list *l)
{
	uint64_t sum = 0;

	for (int i = 0; i < l->n; i++)
		sum += l->e[i].bytes;
	return sum;
}
static struct entry *entry_of(struct model *m, uint64_t key)
{
	int i = index_of(&m->small, key), j = index_of(&m->main, key);

	CHECK(i < 0 || j < 0);
	return i >= 0 ? &m->small.e[i] : j >= 0 ? &m->main.e[j] : NULL;
}
static void model_insert(struct model *m, struct entry e)
{
	int g = index_of(&m->ghost, e.key);

	if (g >= 0)
		(void)cut(&m->ghost, g);
	append(g >= 0 ? &m->main : &m->small, e);
}
static void model_remove(struct model *m, uint64_t key, bool evicted)
{
	int i = index_of(&m->small, key), limit = (m->small.n + m->main.n) * 9 / 10;

	if (i < 0) {
		(void)cut(&m->main, index_of(&m->main, key));
		return;
	}
	struct entry e = cut(&m->small, i);
	if (!evicted)
		return;
	while (m->ghost.n > 0 && m->ghost.n >= limit)
		(void)cut(&m->ghost, 0);
	if (limit > 0)
		append(&m->ghost, e);
}
static uint64_t model_victim(struct model *m)
{
	for (int moves = 0;; moves++) {
		uint64_t small = bytes_of(&m->small), main = bytes_of(&m->main);
		bool from_main = m->small.n == 0 || main * 10 > (small + main) * 9;
		struct list *l = from_main ? &m->main : &m->small;
		struct entry e = l->e[0];
		if (moves == MOVES || e.freq < (from_main ? 1 : 2))
			return e.off;
		(void)cut(l, 0);
		e.freq = from_main ? e.freq - 1 : 0;
		append(&m->main, e);
	}
}

struct run {
	struct pol *p;
	struct model *m;
	uint64_t used, limit, bytes_max, next_off;
};

static void both_evict(struct run *r)
{
	uint64_t off = model_victim(r->m), key = 0;

	CHECK_EQ(victim(r->p), off);
	for (int i = 0; i < r->m->small.n + r->m->main.n; i++) {
		const struct entry *e = i < r->m->small.n ? &r->m->small.e[i]
		                                          : &r->m->main.e[i - r->m->small.n];
		if (e->off == off)
			key = e->key;
	}
	const struct entry *e = entry_of(r->m, key);
	r->used -= e->bytes;
	r->p->ops->remove(r->p, e->node, 1);
	model_remove(r->m, key, true);
}

static void both_access(struct run *r, uint64_t key)
{
	struct entry *e = entry_of(r->m, key);
	uint64_t bytes = UNIT * (1 + t_random_below(r->bytes_max / UNIT));
	uint64_t what = t_random_below(100);

	r->next_off += UNIT;
	if (e && what < 80) { /* a hit, or more at once */
		for (uint64_t n = 1 + t_random_below(2); n > 0; n--) {
			r->p->ops->touch(r->p, e->node, 0);
			e->freq += e->freq < 3;
		}
	} else if (e && what < 90) {
		r->used += bytes - e->bytes;
		e->bytes = bytes;
		e->off = r->next_off;
		r->p->ops->replace(r->p, e->node, e->off, bytes, 0);
	} else if (e && what < 95) {
		e->off = r->next_off;
		r->p->ops->moved(r->p, e->node, e->off);
	} else if (e) {
		r->used -= e->bytes;
		r->p->ops->remove(r->p, e->node, 0);
		model_remove(r->m, key, false);
	} else {
		while (r->used + bytes > r->limit)
			both_evict(r);
		struct entry new = {.key = key, .off = r->next_off, .bytes = bytes};
		new.node = insert(r->p, key, new.off, bytes);
		model_insert(r->m, new);
		r->used += bytes;
	}
}

static void compare(uint64_t limit, uint64_t bytes_max, int steps)
{
	struct run r = {.limit = limit, .bytes_max = bytes_max};

	r.p = s3fifo(limit);
	r.m = calloc(1, sizeof *r.m);
	CHECK(r.m);
	for (int i = 0; i < steps; i++) {
		both_access(&r, t_random_below(t_random_below(t_random_below(KEYS) + 1) + 1));
		if (i % 1000)
			continue;
		struct pol_stats st = stats_of(r.p);
		CHECK_EQ(r.p->ops->verify(r.p), 0);
		CHECK_EQ(st.entries, r.m->small.n + r.m->main.n);
		CHECK_EQ(st.bytes, r.used);
		CHECK_EQ(st.inserts - st.removes, st.entries);
	}
	CHECK(stats_of(r.p).ghost_hits > 100 && stats_of(r.p).victims > 1000);
	r.p->ops->free(r.p);
	free(r.m);
}

TEST(victims_are_those_of_a_plain_model)
{
	compare(100 * UNIT, UNIT, 60000); /* all of one size */
	compare(500 * UNIT, UNIT, 60000);
	compare(100000, 2000, 60000); /* sizes of 16 to 2000 bytes */
}

/* ------------------------------------------------------------ one rule each */

TEST(a_key_that_comes_back_goes_to_main)
{
	struct pol *p = s3fifo(1 << 20);
	uint32_t node[201];

	for (uint64_t k = 1; k <= 100; k++)
		node[k] = insert(p, k, k * UNIT, UNIT);
	for (uint64_t k = 1; k <= 20; k++) { /* nobody was hit: first in, first out */
		CHECK_EQ(victim(p), k * UNIT);
		p->ops->remove(p, node[k], 1);
	}
	node[1] = insert(p, 1, UNIT, UNIT);
	CHECK_EQ(stats_of(p).ghost_hits, 1);
	for (uint64_t k = 101; k <= 200; k++) /* a scan: new keys push only new keys out */
		node[k] = insert(p, k, k * UNIT, UNIT);
	for (uint64_t k = 21; k <= 200; k++) {
		CHECK_EQ(victim(p), k * UNIT);
		p->ops->remove(p, node[k], 1);
	}
	CHECK_EQ(victim(p), UNIT);
	p->ops->free(p);
}

TEST(what_was_removed_for_another_reason_is_no_ghost)
{
	struct pol *p = s3fifo(1 << 20);

	for (uint64_t k = 1; k <= 100; k++)
		(void)insert(p, k, k * UNIT, UNIT);
	p->ops->remove(p, insert(p, 200, 200 * UNIT, UNIT), 0);
	(void)insert(p, 200, 200 * UNIT, UNIT);
	CHECK_EQ(stats_of(p).ghost_hits, 0);
	p->ops->free(p);
}

TEST(an_overwrite_keeps_hits_and_turn)
{
	struct pol *p = s3fifo(1 << 20);
	uint32_t hot = insert(p, 1, UNIT, UNIT), cold = insert(p, 2, 2 * UNIT, UNIT);

	for (uint64_t k = 3; k <= 50; k++)
		(void)insert(p, k, k * UNIT, UNIT);
	p->ops->touch(p, hot, 0);
	p->ops->touch(p, hot, 0);
	p->ops->replace(p, hot, 1000 * UNIT, 5 * UNIT, 0);
	p->ops->replace(p, cold, 1001 * UNIT, 3 * UNIT, 0);
	CHECK_EQ(stats_of(p).bytes, (48 + 8) * UNIT);
	CHECK_EQ(stats_of(p).entries, 50);
	CHECK_EQ(
		victim(p), 1001 * UNIT); /* the hot one has gone on to main, the cold one is next */
	CHECK_EQ(p->ops->verify(p), 0);
	p->ops->free(p);
}

TEST(the_walk_for_a_victim_is_bounded)
{
	struct pol *p = s3fifo(1 << 20);
	enum { N = 1000 };
	uint32_t node[N];

	for (uint64_t k = 0; k < N; k++) {
		node[k] = insert(p, k, (k + 1) * UNIT, UNIT);
		for (int i = 0; i < 3; i++)
			p->ops->touch(p, node[k], 0);
	}
	/* each call lets 64 of the hot ones stay, and then takes the next */
	CHECK_EQ(victim(p), (MOVES + 1) * UNIT);
	CHECK_EQ(victim(p), (2 * MOVES + 1) * UNIT);
	CHECK_EQ(p->ops->verify(p), 0);
	p->ops->free(p);
}

/* ------------------------------------------------------------ the ghost and memory */

TEST(the_ghost_remembers_the_last_ones_while_it_grows)
{
	enum { MOST = 9000 };
	struct pol_ghost g;
	static uint32_t fifo[MOST + 1]; /* oldest first */
	uint64_t n = 0, limit = 10;
	uint32_t fp = 0, found = 0;

	CHECK_EQ(pol_ghost_init(&g, 0), 0);
	CHECK(!pol_ghost_take(&g, 1));
	pol_ghost_add(&g, 1, 0);
	CHECK(!pol_ghost_take(&g, 1));
	for (int i = 0; i < 60000; i++) {
		limit += limit < MOST && i % 5 == 0;
		if (t_random_below(4) == 0 && n) {
			uint64_t k = t_random_below(n);
			CHECK(pol_ghost_take(&g, fifo[k]));
			CHECK(!pol_ghost_take(&g, fifo[k]));
			memmove(&fifo[k], &fifo[k + 1], (--n - k) * sizeof *fifo);
			found++;
		}
		fp += 0x9e3779b1u;
		CHECK(!pol_ghost_take(&g, fp));
		while (n >= limit)
			memmove(fifo, fifo + 1, --n * sizeof *fifo);
		pol_ghost_add(&g, fp, limit);
		fifo[n++] = fp;
		if (i % 2000 == 0)
			CHECK(pol_ghost_verify(&g));
	}
	CHECK(found > 10000 && limit == MOST);
	CHECK(pol_ghost_bytes(&g) <= 45 * limit);
	for (uint64_t k = 0; k < n; k++)
		CHECK(pol_ghost_take(&g, fifo[k]));
	CHECK(pol_ghost_verify(&g));
	pol_ghost_fini(&g);
}

TEST(memory_is_bounded_and_used_again)
{
	enum { N = 300000, WINDOW = 1 << 16 };
	struct pol *p = s3fifo(64 << 20);
	static uint32_t node[WINDOW];

	for (uint64_t k = 0; k < N; k++) {
		if (k >= WINDOW) {
			CHECK_EQ(victim(p) / UNIT, k - WINDOW + 1);
			p->ops->remove(p, node[k % WINDOW], 1);
		}
		node[k % WINDOW] = insert(p, k, (k + 1) * UNIT, UNIT);
	}
	struct pol_stats st = stats_of(p);
	CHECK_EQ(st.entries, WINDOW);
	printf("     %.1f bytes an entry\n", (double)st.private_bytes / WINDOW);
	CHECK(st.private_bytes < 60 * WINDOW);
	CHECK_EQ(p->ops->verify(p), 0);
	p->ops->free(p);
}

/* ------------------------------------------------------------ a real trace */

enum { OBJECT_BITS = 18, RECORD_BYTES = 24 };

struct cache {
	struct pol *p;
	uint64_t object[1 << OBJECT_BITS]; /* 0: unused */
	uint32_t node[1 << OBJECT_BITS];
	uint64_t n, limit, requests, misses;
};

static void request(struct cache *c, uint64_t object)
{
	uint64_t h = (object + 1) * 0x9e3779b97f4a7c15ull, i = h >> (64 - OBJECT_BITS);

	while (c->object[i] && c->object[i] != object + 1)
		i = (i + 1) & ((1 << OBJECT_BITS) - 1);
	c->object[i] = object + 1;
	c->requests++;
	if (c->node[i]) {
		c->p->ops->touch(c->p, c->node[i], 0);
		return;
	}
	c->misses++;
	if (c->n == c->limit) {
		uint64_t old = victim(c->p) / UNIT;
		c->p->ops->remove(c->p, c->node[old], 1);
		c->node[old] = POL_NONE;
		c->n--;
	}
	CHECK_EQ(c->p->ops->insert(c->p, h, i * UNIT, UNIT, 0, &c->node[i]), 0);
	c->n++;
}

/* Every object counts 1.  Returns the miss ratio. */
static double replay(const char *path, uint64_t limit)
{
	struct cache *c = calloc(1, sizeof *c);
	uint8_t record[RECORD_BYTES]; /* time 4, object 8, size 4, next 8 */
	char command[4096];

	CHECK(c && strchr(path, '\'') == NULL);
	c->limit = limit;
	c->p = s3fifo(limit * UNIT);
	(void)snprintf(command, sizeof command, "exec zstd -dc '%s'", path);
	FILE *f = popen(command, "re");
	CHECK(f != NULL);
	while (fread(record, sizeof record, 1, f) == 1) {
		uint64_t object;
		memcpy(&object, record + 4, sizeof object);
		request(c, object);
	}
	int st = pclose(f);
	if (WIFEXITED(st) && WEXITSTATUS(st) == 127)
		SKIP("zstd is not installed");
	CHECK_EQ(st, 0);
	CHECK_EQ(c->requests, 113872);
	CHECK_EQ(c->p->ops->verify(c->p), 0);
	double ratio = (double)c->misses / (double)c->requests;
	printf("     %llu objects: miss ratio %.4f\n", (unsigned long long)limit, ratio);
	c->p->ops->free(c->p);
	free(c);
	return ratio;
}

static bool near(double a, double b) { return a - b < 0.003 && b - a < 0.003; }

TEST(miss_ratios_of_a_real_trace_are_those_of_the_reference)
{
	const char *dir = getenv("HC_DATA"), *name = "cloudphysics-w92.oracleGeneral.zst";
	char below[4096];

	(void)snprintf(below, sizeof below, "%s/traces/%s", dir ? dir : "", name);
	const char *path = access(below, R_OK) == 0 ? below : t_data(name);
	CHECK(near(replay(path, 489), 0.8304));
	CHECK(near(replay(path, 4897), 0.7525));
}

#ifdef HC_STEPS
TEST(planted_bugs_are_caught)
{
	static const struct {
		int mutant;
		void (*test)(void);
	} c[] = {{27, victims_are_those_of_a_plain_model}, {28, a_key_that_comes_back_goes_to_main},
		{29, an_overwrite_keeps_hits_and_turn}};

	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		shm_mutant = c[i].mutant;
		bool caught = dies(c[i].test);
		shm_mutant = 0;
		if (!caught)
			t_fail(__FILE__, __LINE__, "planted bug %d was not caught", c[i].mutant);
	}
}
#endif

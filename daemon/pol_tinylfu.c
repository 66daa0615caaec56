/* pol_tinylfu.c - W-TinyLFU (Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache admission
 * policy", ACM Transactions on Storage, 2017).
 *
 *   new key --> | window, 1 % | -- its oldest: the candidate --+--> | probation | --hit--> | protected, 80 % |
 *               (by last use)                                  |       ^   |                     |
 *                                                              |       |   v oldest: the victim  |
 *                                              who was asked for      +---------- oldest -------+
 *                                              more often lately stays, the other goes
 *
 * All three lists are ordered by last use.  How often a key was asked for is told by a sketch
 * (pol_sketch.h), which counts inserts and hits.  Shares (parameters) are of the bytes that are there now.  While
 * nobody asks for victims, the window's oldest move on without a contest.
 *
 * Memory: 24 bytes an entry (pol_node.h) and a sketch of 8 to 16.  A node's `extra` is the key's
 * fingerprint.  Invariants: those of pol_node.h.
 */
#define _GNU_SOURCE
#include "pol_tinylfu.h"
#include <stdbool.h>
#include <stdlib.h>
#include "base/err.h"
#include "pol_node.h"
#include "pol_sketch.h"
#include "step.h"

enum {
	WINDOW = 1, /* lists of pol_node.h */
	PROBATION = 2,
	PROTECTED = 3,
	LISTS = 4,
	PPM = 1000000,
};

enum param { WINDOW_PPM, PROTECTED_PPM, N_PARAMS };

static const struct pol_param params[N_PARAMS] = {
	[WINDOW_PPM] = {"window", POL_T_FRACTION, PPM / 1000, PPM / 2, PPM / 100, "",
		"Part of the store that new entries have without a contest."},
	[PROTECTED_PPM] = {"protected", POL_T_FRACTION, PPM / 10, PPM / 100 * 99, PPM / 10 * 8, "",
		"Part of the rest for what was hit there."},
};

struct tinylfu {
	struct pol pol;
	struct pol_nodes nodes;
	struct pol_list list[LISTS];
	struct pol_sketch sketch;
	struct pol_values param;
	bool pressed; /* a victim was asked for since the last insert */
	struct pol_stats st;
};

static struct tinylfu *self(struct pol *p) { return (struct tinylfu *)(void *)p; }
static const struct tinylfu *self_const(const struct pol *p)
{
	return (const struct tinylfu *)(const void *)p;
}
static uint64_t entries_of(const struct tinylfu *t)
{
	return t->list[WINDOW].n + t->list[PROBATION].n + t->list[PROTECTED].n;
}
static uint64_t units_of(const struct tinylfu *t)
{
	return t->list[WINDOW].units + t->list[PROBATION].units + t->list[PROTECTED].units;
}

static void relist(struct tinylfu *t, uint32_t i, uint32_t to)
{
	pol_list_pull(&t->nodes, &t->list[pol_node_list(pol_node(&t->nodes, i))], i);
	pol_list_push(&t->nodes, &t->list[to], to, i);
}

/* More than its share, and than one entry? */
static bool window_is_over(const struct tinylfu *t)
{
	return t->list[WINDOW].n > 1 &&
	       t->list[WINDOW].units * PPM > units_of(t) * t->param.v[WINDOW_PPM];
}

static void protected_trim(struct tinylfu *t)
{
	const struct pol_list *q = &t->list[PROTECTED];

	while (q->n > 1 &&
		q->units * PPM > (units_of(t) - t->list[WINDOW].units) * t->param.v[PROTECTED_PPM])
		relist(t, q->oldest, PROBATION);
}

static void tinylfu_free(struct pol *p)
{
	if (!p)
		return;
	pol_sketch_fini(&self(p)->sketch);
	pol_nodes_fini(&self(p)->nodes);
	free(self(p));
}

static int tinylfu_new(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
	struct pol **ret)
{
	struct tinylfu *t = calloc(1, sizeof *t);

	(void)bytes;
	if (!t)
		return err_new(-ENOMEM);
	t->pol.ops = ops;
	t->param = values ? *values : pol_defaults(ops);
	int r = pol_sketch_init(&t->sketch);
	if (r < 0) {
		tinylfu_free(&t->pol);
		return err_fwd(r);
	}
	*ret = &t->pol;
	return 0;
}

static int tinylfu_insert(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes,
	uint64_t now_ms, uint32_t *ret_node)
{
	struct tinylfu *t = self(p);
	uint32_t fp = (uint32_t)(hash >> 16);
	int r = pol_node_new(&t->nodes, off, bytes, fp, ret_node);

	(void)now_ms;
	if (r < 0)
		return err_fwd(r);
	pol_list_push(&t->nodes, &t->list[WINDOW], WINDOW, *ret_node);
	pol_sketch_reserve(&t->sketch, entries_of(t));
	pol_sketch_add(&t->sketch, fp);
	if (!t->pressed)
		while (window_is_over(t))
			relist(t, t->list[WINDOW].oldest, PROBATION);
	t->pressed = false;
	t->st.inserts++;
	return 0;
}

static void tinylfu_moved(struct pol *p, uint32_t node, uint64_t off)
{
	pol_node_set_off(pol_node_used(&self(p)->nodes, node), off);
}

static void tinylfu_replace(
	struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct tinylfu *t = self(p);
	uint32_t list = pol_node_list(pol_node_used(&t->nodes, node));

	(void)now_ms;
	tinylfu_moved(p, node, off);
	pol_node_resize(&t->nodes, &t->list[list], node, bytes);
}

static void tinylfu_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	struct tinylfu *t = self(p);
	const struct pol_node *n = pol_node_used(&t->nodes, node);

	(void)now_ms;
	pol_sketch_add(&t->sketch, n->extra);
	relist(t, node, pol_node_list(n) == WINDOW ? WINDOW : PROTECTED);
	protected_trim(t);
	t->st.touches++;
}

static uint64_t tinylfu_where(const struct pol *p, uint32_t node)
{
	return pol_node_off(pol_node_used(&self_const(p)->nodes, node));
}

static void tinylfu_ahead(const struct pol *p, uint32_t node)
{
	__builtin_prefetch(pol_node(&self_const(p)->nodes, node));
}

static void tinylfu_remove(struct pol *p, uint32_t node, int evicted)
{
	struct tinylfu *t = self(p);
	uint32_t list = pol_node_list(pol_node_used(&t->nodes, node));

	(void)evicted;
	pol_list_pull(&t->nodes, &t->list[list], node);
	pol_node_free(&t->nodes, node);
	t->st.removes++;
}

/* The main part's next to go: of probation, else of what is protected; 0: it is empty. */
static uint32_t main_oldest(const struct tinylfu *t)
{
	return t->list[PROBATION].n ? t->list[PROBATION].oldest : t->list[PROTECTED].oldest;
}

static uint32_t count_of(const struct tinylfu *t, uint32_t i)
{
	return pol_sketch_count(&t->sketch, pol_node(&t->nodes, i)->extra);
}

/* The contest of the window's oldest and the main part's, which counts as one more access for the
 * former: a key that comes back soon has a better chance.  Who wins goes on at once, so that the loser
 * alone is proposed from now on. */
static uint32_t contest(struct tinylfu *t)
{
	uint32_t candidate = t->list[WINDOW].oldest, victim = main_oldest(t);

	if (!victim)
		return candidate;
	bool loses = count_of(t, candidate) <= count_of(t, victim);
	pol_sketch_add(&t->sketch, pol_node(&t->nodes, candidate)->extra);
	if (loses && !MUTANT(236)) /* 236: all are let in */
		return candidate;
	relist(t, candidate, PROBATION);
	return victim;
}

static int tinylfu_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct tinylfu *t = self(p);
	uint32_t i;

	(void)now_ms;
	if (entries_of(t) == 0)
		return 1;
	t->pressed = true;
	if (window_is_over(t) || !main_oldest(t))
		i = contest(t);
	else
		i = main_oldest(t);
	*ret_off = pol_node_off(pol_node(&t->nodes, i));
	t->st.victims++;
	return 0;
}

/* The contest, before the entry is there. */
static int tinylfu_admits(struct pol *p, uint64_t hash, uint64_t now_ms)
{
	struct tinylfu *t = self(p);
	uint32_t victim = main_oldest(t), fp = (uint32_t)(hash >> 16);

	(void)now_ms;
	return !victim || pol_sketch_count(&t->sketch, fp) + 1 > count_of(t, victim);
}

static void tinylfu_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct tinylfu *t = self_const(p);

	*ret = t->st;
	ret->entries = entries_of(t);
	ret->bytes = units_of(t) * SHM_UNIT;
	ret->private_bytes = sizeof *t + pol_nodes_bytes(&t->nodes) + pol_sketch_bytes(&t->sketch);
}

static int tinylfu_verify(const struct pol *p)
{
	const struct tinylfu *t = self_const(p);

	for (uint32_t list = WINDOW; list <= PROTECTED; list++) {
		int r = pol_list_verify(&t->nodes, &t->list[list], list);
		if (r)
			return r;
	}
	return pol_nodes_verify(&t->nodes, entries_of(t));
}

const struct pol_ops pol_tinylfu = {
	.name = "w-tinylfu",
	.meaning = "a new entry stays if it is asked for more often than what it would push out "
		   "(W-TinyLFU)",
	.params = params,
	.n_params = N_PARAMS,
	.new = tinylfu_new,
	.free = tinylfu_free,
	.insert = tinylfu_insert,
	.replace = tinylfu_replace,
	.touch = tinylfu_touch,
	.remove = tinylfu_remove,
	.moved = tinylfu_moved,
	.where = tinylfu_where,
	.ahead = tinylfu_ahead,
	.victim = tinylfu_victim,
	.admits = tinylfu_admits,
	.stats = tinylfu_stats,
	.verify = tinylfu_verify,
};

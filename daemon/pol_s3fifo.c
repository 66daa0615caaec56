/* pol_s3fifo.c - S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson: "FIFO queues are all
 * you need for cache eviction", SOSP 2023).
 *
 *            insert                       hit >= 2 times
 *   new key ------->  | small, 10 % |  -------------------->  | main, 90 % | --+
 *                         | else                                ^   |   ^      | freq > 0:
 *                         v evict                   insert, was |   |   +------+ once more,
 *                     | ghost: fingerprints of evicted keys | --+   v evict      freq - 1
 *
 * Each entry counts its hits up to 3 and moves only when room is needed, which is
 * why late, sampled or doubled hits do little harm.  The counter becomes 0 on the
 * way from small to main.  Shares are of the bytes that are there now: when main
 * holds more than 90 % of them, it is main's turn to give.  The ghost remembers
 * as many evictions from small as main has entries when it is full (90 % of all),
 * not counting those that have come back.  These numbers are parameters.
 *
 * The walk that looks for a victim ends after MOVES_MAX moves with what is oldest
 * then, whatever its hits.
 *
 * Memory: 24 bytes an entry (pol_node.h), and the ghost (pol_ghost.h: 14 to 27 bytes for each
 * entry, half of that again after growing).  A node's mark is its hits, `extra` its fingerprint.
 *
 * Invariants, as verify numbers them: 1 to 3 as in pol_node.h, 4: the ghost's chains
 * (pol_ghost_verify).
 */
#define _GNU_SOURCE
#include "pol_s3fifo.h"
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "pol_ghost.h"
#include "pol_node.h"
#include "step.h"

enum {
	FREQ_MAX = POL_MARK_MAX,
	PPM = 1000000,
	MOVES_MAX = 64,
	GHOST_FIRST_MAX = 1 << 16,
	ENTRY_BYTES_GUESS = 1024, /* for the ghost's first size */
};

enum param { SMALL_PPM, PROMOTE, GHOST_PPM, N_PARAMS };

static const struct pol_param params[N_PARAMS] = {
	[SMALL_PPM] = {"small", POL_T_FRACTION, PPM / 1000, PPM / 2, PPM / 10, "",
		"Part of the store that new entries pass through."},
	[PROMOTE] = {"promote", POL_T_NUMBER, 1, FREQ_MAX, 2, "hits",
		"How often an entry has to be hit there to stay."},
	[GHOST_PPM] = {"ghost", POL_T_FRACTION, 0, PPM, PPM / 10 * 9, "",
		"How many evictions are remembered, as a part of the number of entries."},
};

enum queue { SMALL = 1, MAIN = 2, QUEUES = 3 }; /* lists of pol_node.h */

struct s3fifo {
	struct pol pol;
	struct pol_nodes nodes;
	struct pol_list queue[QUEUES]; /* [0]: not used */
	struct pol_ghost ghost;
	struct pol_values param;
	struct pol_stats st;
};

static struct s3fifo *self(struct pol *p) { return (struct s3fifo *)(void *)p; }
static const struct s3fifo *self_const(const struct pol *p)
{
	return (const struct s3fifo *)(const void *)p;
}

static void s3fifo_free(struct pol *p)
{
	struct s3fifo *s = self(p);

	if (!s)
		return;
	pol_ghost_fini(&s->ghost);
	pol_nodes_fini(&s->nodes);
	free(s);
}

static int s3fifo_new(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
	struct pol **ret)
{
	struct s3fifo *s = calloc(1, sizeof *s);
	uint64_t guess = bytes / ENTRY_BYTES_GUESS;

	if (!s)
		return err_new(-ENOMEM);
	s->pol.ops = ops;
	s->param = values ? *values : pol_defaults(ops);
	int r = pol_ghost_init(&s->ghost, guess < GHOST_FIRST_MAX ? guess : GHOST_FIRST_MAX);
	if (r < 0) {
		s3fifo_free(&s->pol);
		return err_fwd(r);
	}
	*ret = &s->pol;
	return 0;
}

static int s3fifo_insert(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes,
	uint64_t now_ms, uint32_t *ret_node)
{
	struct s3fifo *s = self(p);
	uint32_t fp = (uint32_t)(hash >> 16), i = 0;
	int r = pol_node_new(&s->nodes, off, bytes, fp, &i);

	(void)now_ms;
	if (r < 0)
		return err_fwd(r);
	enum queue to = !MUTANT(28) && pol_ghost_take(&s->ghost, fp)
	                        ? MAIN
	                        : SMALL; /* 28: the ghost is not asked */
	pol_list_push(&s->nodes, &s->queue[to], to, i);
	s->st.ghost_hits += to == MAIN;
	s->st.inserts++;
	*ret_node = i;
	return 0;
}

static void s3fifo_moved(struct pol *p, uint32_t node, uint64_t off)
{
	pol_node_set_off(pol_node_used(&self(p)->nodes, node), off);
}

static void s3fifo_replace(
	struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct s3fifo *s = self(p);
	struct pol_node *n = pol_node_used(&s->nodes, node);

	(void)now_ms;
	pol_node_resize(&s->nodes, &s->queue[pol_node_list(n)], node, bytes);
	pol_node_set_off(n, off);
	if (MUTANT(29)) /* 29: an overwrite forgets the hits */
		pol_node_set_mark(n, 0);
}

static void s3fifo_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	struct s3fifo *s = self(p);
	struct pol_node *n = pol_node_used(&s->nodes, node);

	(void)now_ms;
	if (pol_node_mark(n) < FREQ_MAX)
		pol_node_set_mark(n, pol_node_mark(n) + 1);
	s->st.touches++;
}

static uint64_t s3fifo_where(const struct pol *p, uint32_t node)
{
	return pol_node_off(pol_node_used(&self_const(p)->nodes, node));
}

static void s3fifo_ahead(const struct pol *p, uint32_t node)
{
	__builtin_prefetch(pol_node(&self_const(p)->nodes, node));
}

static void s3fifo_remove(struct pol *p, uint32_t node, int evicted)
{
	struct s3fifo *s = self(p);
	struct pol_node *n = pol_node_used(&s->nodes, node);

	if (evicted && pol_node_list(n) == SMALL)
		pol_ghost_add(&s->ghost, n->extra,
			(s->queue[SMALL].n + s->queue[MAIN].n) * s->param.v[GHOST_PPM] / PPM);
	pol_list_pull(&s->nodes, &s->queue[pol_node_list(n)], node);
	pol_node_free(&s->nodes, node);
	s->st.removes++;
}

/* The queue whose turn it is to give. */
static enum queue giver(const struct s3fifo *s)
{
	const struct pol_list *small = &s->queue[SMALL], *main = &s->queue[MAIN];

	uint64_t main_ppm = PPM - s->param.v[SMALL_PPM];

	if (!small->n || main->units * PPM > (small->units + main->units) * main_ppm)
		return MAIN;
	return SMALL;
}

/* An entry that is to stay: on to main, or to main's end with one hit fewer. */
static void keep(struct s3fifo *s, uint32_t i)
{
	struct pol_node *n = pol_node(&s->nodes, i);
	uint32_t from = pol_node_list(n);

	pol_list_pull(&s->nodes, &s->queue[from], i);
	pol_node_set_mark(n, from == SMALL ? 0 : pol_node_mark(n) - 1);
	pol_list_push(&s->nodes, &s->queue[MAIN], MAIN, i);
}

/* The entry to go next; POL_NONE: there is none. */
static uint32_t propose(struct s3fifo *s)
{
	uint32_t promote = MUTANT(27) ? 1 : (uint32_t)s->param.v[PROMOTE];

	if (s->queue[SMALL].n + s->queue[MAIN].n == 0)
		return POL_NONE;
	for (int moves = 0;; moves++) {
		uint32_t i = s->queue[giver(s)].oldest;
		const struct pol_node *n = pol_node(&s->nodes, i);
		if (moves == MOVES_MAX ||
			pol_node_mark(n) < (pol_node_list(n) == SMALL ? promote : 1))
			return i;
		keep(s, i);
	}
}

static int s3fifo_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct s3fifo *s = self(p);
	uint32_t i = propose(s);

	(void)now_ms;
	if (i == POL_NONE)
		return 1;
	*ret_off = pol_node_off(pol_node(&s->nodes, i));
	s->st.victims++;
	return 0;
}

/* A new key has been wanted once.  That is more than nobody's hit, and less than one; but a key that
 * the ghost remembers is wanted again. */
static int s3fifo_admits(struct pol *p, uint64_t hash, uint64_t now_ms)
{
	struct s3fifo *s = self(p);
	uint32_t i = propose(s);

	(void)now_ms;
	return i == POL_NONE || pol_node_mark(pol_node(&s->nodes, i)) == 0 ||
	       pol_ghost_has(&s->ghost, (uint32_t)(hash >> 16));
}

static void s3fifo_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct s3fifo *s = self_const(p);

	*ret = s->st;
	ret->entries = s->queue[SMALL].n + s->queue[MAIN].n;
	ret->bytes = (s->queue[SMALL].units + s->queue[MAIN].units) * SHM_UNIT;
	ret->private_bytes = sizeof *s + pol_nodes_bytes(&s->nodes) + pol_ghost_bytes(&s->ghost);
}

static int s3fifo_verify(const struct pol *p)
{
	const struct s3fifo *s = self_const(p);
	int r = pol_list_verify(&s->nodes, &s->queue[SMALL], SMALL);

	if (r == 0)
		r = pol_list_verify(&s->nodes, &s->queue[MAIN], MAIN);
	if (r == 0)
		r = pol_nodes_verify(&s->nodes, s->queue[SMALL].n + s->queue[MAIN].n);
	return r ? r : pol_ghost_verify(&s->ghost) ? 0 : 4;
}

const struct pol_ops pol_s3fifo = {
	.name = "s3-fifo",
	.meaning = "keeps what is used again soon; quick to drop what is used once (S3-FIFO)",
	.params = params,
	.n_params = N_PARAMS,
	.new = s3fifo_new,
	.free = s3fifo_free,
	.insert = s3fifo_insert,
	.replace = s3fifo_replace,
	.touch = s3fifo_touch,
	.remove = s3fifo_remove,
	.moved = s3fifo_moved,
	.where = s3fifo_where,
	.ahead = s3fifo_ahead,
	.victim = s3fifo_victim,
	.admits = s3fifo_admits,
	.stats = s3fifo_stats,
	.verify = s3fifo_verify,
};

/* pol_auto.c - auto: one of the other policies, chosen by what each of them would have missed.
 *
 *   a use --+--> the policy that was chosen: which entry goes           side[now]
 *           +--> a miniature of each candidate (pol_shadow.h)           what it would have missed
 *                     | another one misses clearly less: it is chosen, and
 *                     v entries go over to it, worst first, some in each call
 *                side[!now] --> side[now]
 *
 * Each has had as much of the memory as the store, for the same keys, since the store began.  Misses fade: what
 * was seen WINDOW times as many uses ago as there are entries counts a third.  "Clearly" is a gain of both
 * `gain` of the uses and ENTRIES_PERCENT of the entries, for a change costs misses too: the new one
 * would hold other entries.  So it settles, where they are about equal.  It begins with w-tinylfu: who begins
 * with another one misses more before there is evidence, on the recorded traces (README.md).
 *
 * The old one's victims go over first, so they stand where the new one looks first; an entry's last hits
 * go with it, up to HITS_MAX.  A victim is the new one's as soon as it has an entry.  No call goes over all
 * entries; when the old one has none left, it is freed.
 *
 * Both know an entry by the number of its node here, so its place and its number may change by themselves.
 *
 * Memory: 24 bytes an entry more than the policy chosen, and the miniatures (pol_shadow.h): of `keys` keys,
 * 56 bytes each, and about 45 for each that a candidate holds.  Instructions: README.md.
 *
 * Invariants, as verify numbers them: 1 to 3 as in pol_shadow.h; 4: a node is of a side that is there, each
 * side has as many entries as nodes name it, units are their sum; 5: a side's own.
 */
#define _GNU_SOURCE
#include "pol_auto.h"
#include <stdlib.h>
#include "base/check.h"
#include "base/err.h"
#include "pol_lfu.h"
#include "pol_node.h"
#include "pol_queue.h"
#include "pol_s3fifo.h"
#include "pol_shadow.h"
#include "pol_tinylfu.h"
#include "step.h"

enum {
	MOVES = 8,         /* entries that go over in each call */
	HITS_MAX = 3,      /* what an entry takes along */
	LOOK_PERCENT = 10, /* of as many uses as there are entries: how often it looks */
	LOOK_MIN = 32,     /* uses */
	WINDOW = 16,       /* times the entries: uses after which a miss counts a third */
	WINDOW_MIN = 500,
	SMALL = 4096,        /* entries: until a store has so many, */
	SMALL_KEYS = 1024,   /* its evidence is of at most so many keys */
	ENTRIES_PERCENT = 6, /* of the entries: the gain that a change needs at least */
	GAIN_MIN = 8,        /* misses */
	PARAM_GAIN = 0,
	PARAM_KEYS = 1,
};

static const struct pol_param params[] = {
	[PARAM_GAIN] = {.name = "gain",
		.type = POL_T_FRACTION,
		.min = 1000,
		.max = 500000,
		.def = 10000,
		.unit = "",
		.meaning = "Another policy is chosen if it would have missed fewer of the uses by "
			   "this part of them."},
	[PARAM_KEYS] = {.name = "keys",
		.type = POL_T_NUMBER,
		.min = 1024,
		.max = 1 << 20,
		.def = 8192,
		.unit = "keys",
		.meaning = "How many keys at most the evidence is taken from: of larger stores a "
			   "sample; of stores that never had 4096 entries, 1024. Each costs up to "
			   "240 bytes."},
};

static const struct pol_ops *const candidates[POL_AUTO_CANDIDATES] = {
	&pol_tinylfu, &pol_s3fifo, &pol_lru, &pol_lfu};

/* A node of pol_node.h.  prev: the side's node; next: hits; list: the side, plus 1; extra: fingerprint. */
struct autop {
	struct pol pol;
	struct pol_nodes nodes;
	struct pol *side[2]; /* [!now]: what the policy before has left; NULL: nothing */
	uint64_t n[2], units;
	uint32_t now, choice;
	bool full; /* a victim was asked for once */
	double gain;
	uint32_t keys; /* that evidence is taken from */
	struct pol_shadow shadow;
	uint64_t looked;                          /* shadow.seen at the last look */
	uint64_t missed[POL_AUTO_CANDIDATES];     /* then */
	double cost[POL_AUTO_CANDIDATES], weight; /* misses and uses, fading */
	uint64_t switches, ghost_hits;            /* of sides that are gone */
	struct pol_stats st;
};

static struct autop *self(struct pol *p) { return (struct autop *)(void *)p; }
static const struct autop *self_const(const struct pol *p)
{
	return (const struct autop *)(const void *)p;
}
static uint32_t side_of(const struct pol_node *n) { return pol_node_list(n) - 1; }
static uint64_t bytes_of(const struct pol_node *n) { return (uint64_t)n->units * SHM_UNIT; }

static void side_set(struct pol_node *n, uint32_t side)
{
	n->word = (n->word & ~POL_WORD_LIST) | (side + 1);
}

static void auto_free(struct pol *p)
{
	struct autop *a = self(p);

	if (!p)
		return;
	for (int i = 0; i < 2; i++)
		if (a->side[i])
			a->side[i]->ops->free(a->side[i]);
	pol_shadow_fini(&a->shadow);
	pol_nodes_fini(&a->nodes);
	free(a);
}

static int auto_new(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
	struct pol **ret)
{
	const struct pol_values v = values ? *values : pol_defaults(ops);
	struct autop *a = calloc(1, sizeof *a);

	if (!a)
		return err_new(-ENOMEM);
	a->pol.ops = ops;
	a->gain = (double)v.v[PARAM_GAIN] / 1e6;
	a->keys = (uint32_t)v.v[PARAM_KEYS];
	pol_shadow_init(&a->shadow, a->keys < SMALL_KEYS ? a->keys : SMALL_KEYS);
	int r = candidates[0]->new (candidates[0], bytes, NULL, &a->side[0]);
	for (uint32_t i = 0; i < POL_AUTO_CANDIDATES && r == 0; i++)
		r = pol_shadow_add(&a->shadow, candidates[i], NULL, 1);
	if (r < 0) {
		auto_free(&a->pol);
		return err_fwd(r);
	}
	*ret = &a->pol;
	return 0;
}

/* ------------------------------------------------------------ going over */

/* The old policy's next victim goes over.  False: no memory. */
static bool move_one(struct autop *a, uint64_t now_ms)
{
	struct pol *old = a->side[!a->now], *to = a->side[a->now];
	uint64_t off;
	uint32_t node;

	CHECK(old->ops->victim(old, now_ms, &off) == 0);
	struct pol_node *n = pol_node_used(&a->nodes, (uint32_t)(off / SHM_UNIT));
	uint64_t hash = (uint64_t)n->extra << 16; /* all that policies look at */
	if (to->ops->insert(to, hash, off, bytes_of(n), now_ms, &node) < 0)
		return false;
	old->ops->remove(old, n->prev, 0);
	n->prev = node;
	side_set(n, a->now);
	for (; n->next; n->next--)
		to->ops->touch(to, node, now_ms);
	a->n[!a->now]--;
	a->n[a->now]++;
	return true;
}

static void go_over(struct autop *a, uint64_t now_ms)
{
	struct pol *old = a->side[!a->now];
	struct pol_stats st;

	if (!old)
		return;
	for (int i = 0; i < MOVES && a->n[!a->now] && !MUTANT(311); i++) /* 311: nobody goes over */
		if (!move_one(a, now_ms))
			return;
	if (a->n[!a->now])
		return;
	old->ops->stats(old, &st);
	a->ghost_hits += st.ghost_hits;
	old->ops->free(old);
	a->side[!a->now] = NULL;
}

/* ------------------------------------------------------------ the choice */

/* What each missed since the last look.  The one that has missed least, lately. */
static uint32_t weigh(struct autop *a)
{
	double seen = (double)(a->shadow.seen - a->looked);
	double window = (double)a->shadow.mini[a->choice].n * WINDOW + WINDOW_MIN;
	double fade = seen < window ? 1 - seen / window : 0;
	uint32_t best = a->choice;

	a->looked = a->shadow.seen;
	a->weight = a->weight * fade + seen;
	for (uint32_t i = 0; i < POL_AUTO_CANDIDATES; i++) {
		const struct pol_shadow_mini *m = &a->shadow.mini[i];
		uint64_t missed = m->missed[POL_SHADOW_HIT] + m->missed[POL_SHADOW_INSERT];
		double now = (double)(missed - a->missed[i]) * a->shadow.rate / POL_SHADOW_RATE_ONE;
		a->missed[i] = missed;
		a->cost[i] = a->cost[i] * fade + now;
		if (a->cost[i] < a->cost[best])
			best = i;
	}
	return best;
}

static void look(struct autop *a)
{
	uint64_t n = a->shadow.mini[a->choice].n, period = n * LOOK_PERCENT / 100;

	if (a->shadow.seen - a->looked < (period > LOOK_MIN ? period : LOOK_MIN))
		return;
	if (a->n[0] + a->n[1] >= SMALL) /* a small one's choice is as good with half of its keys */
		a->shadow.max_keys = a->keys;
	uint32_t best = weigh(a);
	double least = a->gain * a->weight + (double)n * ENTRIES_PERCENT / 100 + GAIN_MIN;
	if (best == a->choice || !a->full || a->side[!a->now] ||
		MUTANT(312) || /* 312: it never changes */
		(a->cost[a->choice] - a->cost[best] < least &&
			!MUTANT(313))) /* 313: for any gain */
		return;
	if (candidates[best]->new (candidates[best], 0, NULL, &a->side[!a->now]) < 0) {
		a->side[!a->now] = NULL;
		return;
	}
	a->now = !a->now;
	a->choice = best;
	a->switches++;
}

/* The memory that the miniatures have a share of: what the store has had, once it was full. */
static void share_out(struct autop *a, bool victim, uint64_t now_ms)
{
	a->full |= victim;
	if (a->full && (victim ? a->units != a->shadow.units : a->units > a->shadow.units))
		pol_shadow_resize(&a->shadow, a->units, now_ms);
}

static void tell(
	struct autop *a, enum pol_shadow_use use, const struct pol_node *n, uint64_t now_ms)
{
	if (!pol_shadow_samples(&a->shadow, n->extra))
		return;
	pol_shadow_use(&a->shadow, use, n->extra, bytes_of(n), 0, now_ms);
	look(a);
}

/* ------------------------------------------------------------ what the engine calls */

static int auto_insert(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes, uint64_t now_ms,
	uint32_t *ret_node)
{
	struct autop *a = self(p);
	struct pol *to = a->side[a->now];
	uint32_t i, inner;
	int r = pol_node_new(&a->nodes, off, bytes, (uint32_t)(hash >> 16), &i);

	if (r < 0)
		return err_fwd(r);
	r = to->ops->insert(to, hash, (uint64_t)i * SHM_UNIT, bytes, now_ms, &inner);
	if (r < 0) {
		pol_node_free(&a->nodes, i);
		return err_fwd(r);
	}
	struct pol_node *n = pol_node(&a->nodes, i);
	n->prev = inner;
	side_set(n, a->now);
	a->n[a->now]++;
	a->units += n->units;
	a->st.inserts++;
	share_out(a, false, now_ms);
	tell(a, POL_SHADOW_INSERT, n, now_ms);
	go_over(a, now_ms);
	*ret_node = i;
	return 0;
}

static void auto_replace(
	struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct autop *a = self(p);
	struct pol_node *n = pol_node_used(&a->nodes, node);
	struct pol *in = a->side[side_of(n)];
	uint64_t units = bytes / SHM_UNIT + (bytes % SHM_UNIT != 0);

	pol_node_set_off(n, off);
	a->units -= n->units;
	n->units = units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
	a->units += n->units;
	in->ops->replace(in, n->prev, (uint64_t)node * SHM_UNIT, bytes, now_ms);
	tell(a, POL_SHADOW_WRITE, n, now_ms);
}

static void auto_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	struct autop *a = self(p);
	struct pol_node *n = pol_node_used(&a->nodes, node);
	struct pol *in = a->side[side_of(n)];

	in->ops->touch(in, n->prev, now_ms);
	n->next += n->next < HITS_MAX;
	a->st.touches++;
	tell(a, POL_SHADOW_HIT, n, now_ms);
	go_over(a, now_ms);
}

static void auto_remove(struct pol *p, uint32_t node, int evicted)
{
	struct autop *a = self(p);
	struct pol_node *n = pol_node_used(&a->nodes, node);
	struct pol *in = a->side[side_of(n)];

	in->ops->remove(in, n->prev, evicted);
	a->n[side_of(n)]--;
	a->units -= n->units;
	/* 310: what was deleted goes on as if it were there */
	if (!evicted && pol_shadow_samples(&a->shadow, n->extra) && !MUTANT(310))
		pol_shadow_forget(&a->shadow, n->extra);
	pol_node_free(&a->nodes, node);
	a->st.removes++;
}

static void auto_moved(struct pol *p, uint32_t node, uint64_t off)
{
	pol_node_set_off(pol_node_used(&self(p)->nodes, node), off);
}

static uint64_t auto_where(const struct pol *p, uint32_t node)
{
	return pol_node_off(pol_node_used(&self_const(p)->nodes, node));
}

static void auto_ahead(const struct pol *p, uint32_t node)
{
	__builtin_prefetch(pol_node(&self_const(p)->nodes, node));
}

static int auto_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct autop *a = self(p);
	struct pol *from = a->side[a->n[a->now] ? a->now : !a->now];
	uint64_t off;

	if (a->n[0] + a->n[1] == 0)
		return 1;
	CHECK(from->ops->victim(from, now_ms, &off) == 0);
	share_out(a, true, now_ms);
	*ret_off = pol_node_off(pol_node_used(&a->nodes, (uint32_t)(off / SHM_UNIT)));
	a->st.victims++;
	return 0;
}

static int auto_admits(struct pol *p, uint64_t hash, uint64_t now_ms)
{
	struct pol *to = self(p)->side[self(p)->now];

	return !to->ops->admits || to->ops->admits(to, hash, now_ms);
}

static void auto_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct autop *a = self_const(p);
	struct pol_stats st;

	*ret = a->st;
	ret->entries = a->n[0] + a->n[1];
	ret->bytes = a->units * SHM_UNIT;
	ret->ghost_hits = a->ghost_hits;
	ret->private_bytes = sizeof *a + pol_nodes_bytes(&a->nodes) + pol_shadow_bytes(&a->shadow);
	for (int i = 0; i < 2; i++) {
		if (!a->side[i])
			continue;
		a->side[i]->ops->stats(a->side[i], &st);
		ret->private_bytes += st.private_bytes;
		ret->ghost_hits += st.ghost_hits;
	}
}

void pol_auto_say(const struct pol *p, struct pol_auto_say *ret)
{
	const struct autop *a = self_const(p);

	*ret = (struct pol_auto_say){.choice = a->choice,
		.rate = a->shadow.rate,
		.n_keys = a->shadow.n_keys,
		.switches = a->switches,
		.shadow_bytes = pol_shadow_bytes(&a->shadow),
		.moving = a->side[!a->now] != NULL};
	for (uint32_t i = 0; i < POL_AUTO_CANDIDATES; i++) {
		ret->name[i] = candidates[i]->name;
		ret->misses[i] = a->weight > 0 ? a->cost[i] / a->weight : -1;
	}
}

static int auto_verify(const struct pol *p)
{
	const struct autop *a = self_const(p);
	uint64_t n[2] = {0}, units = 0;
	int r = pol_shadow_verify(&a->shadow);

	for (uint32_t i = 1; i < a->nodes.n_made; i++) {
		const struct pol_node *x = pol_node(&a->nodes, i);
		if (pol_node_list(x) == 0)
			continue;
		if (pol_node_list(x) > 2 || !a->side[side_of(x)] ||
			a->side[side_of(x)]->ops->where(a->side[side_of(x)], x->prev) !=
				(uint64_t)i * SHM_UNIT)
			return 4;
		n[side_of(x)]++;
		units += x->units;
	}
	if (n[0] != a->n[0] || n[1] != a->n[1] || units != a->units)
		return 4;
	for (int i = 0; i < 2 && r == 0; i++)
		if (a->side[i] && a->side[i]->ops->verify(a->side[i]))
			return 5;
	return r;
}

const struct pol_ops pol_auto = {
	.name = "auto",
	.meaning = "one of w-tinylfu, s3-fifo, lru and lfu: the one that would have missed least "
		   "lately",
	.params = params,
	.n_params = sizeof params / sizeof *params,
	.new = auto_new,
	.free = auto_free,
	.insert = auto_insert,
	.replace = auto_replace,
	.touch = auto_touch,
	.remove = auto_remove,
	.moved = auto_moved,
	.where = auto_where,
	.ahead = auto_ahead,
	.victim = auto_victim,
	.admits = auto_admits,
	.stats = auto_stats,
	.verify = auto_verify,
};

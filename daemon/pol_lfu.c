/* pol_lfu.c - least frequently used, with ageing (LFU-DA: Arlitt, Cherkasova, Dilley, Friedrich, Jin,
 * "Evaluating content management techniques for web proxy caches", 2000).
 *
 * An entry's key is its uses plus the cache's age when it was last used; the entry with the smallest
 * key goes, of several the one whose last use is longest ago, and the cache's age becomes its key.  So
 * what was popular long ago is not kept for ever.  An insert and a hit are a use, an overwrite is none.
 *
 * Keys lie in [age, age + USES_MAX]: so the lists of equal keys stand in a ring of LEVELS, a map of
 * bits tells which are not empty, and every call is O(1).
 *
 * Memory: 24 bytes an entry and 16 KiB.  A node's `extra` is its uses in the low byte, its level above.
 * Invariants: 1 to 3 as in pol_node.h; 4: a bit is set for each list that is not empty, and no other,
 * and no key is below the age.
 */
#define _GNU_SOURCE
#include "pol_lfu.h"
#include <stdbool.h>
#include <stdlib.h>
#include "base/err.h"
#include "pol_node.h"
#include "step.h"

enum {
	LIST = 1,       /* what a node's word says: all are in some list */
	USES_MAX = 255, /* counted */
	LEVELS = 512,   /* a power of two above USES_MAX */
};

struct lfu {
	struct pol pol;
	struct pol_nodes nodes;
	struct pol_list level[LEVELS]; /* [key % LEVELS] */
	uint64_t used[LEVELS / 64];    /* bits: that list is not empty */
	uint64_t n, units;
	uint32_t age; /* modulo LEVELS */
	struct pol_stats st;
};

static struct lfu *self(struct pol *p) { return (struct lfu *)(void *)p; }
static const struct lfu *self_const(const struct pol *p)
{
	return (const struct lfu *)(const void *)p;
}
static uint32_t uses_of(const struct pol_node *n) { return n->extra & USES_MAX; }
static uint32_t level_of(const struct pol_node *n) { return n->extra >> 8; }

static void pull(struct lfu *l, uint32_t i)
{
	uint32_t at = level_of(pol_node(&l->nodes, i));

	pol_list_pull(&l->nodes, &l->level[at], i);
	if (l->level[at].n == 0)
		l->used[at / 64] &= ~(1ull << at % 64);
}

/* Into the list of its key, with so many uses. */
static void push(struct lfu *l, uint32_t i, uint32_t uses)
{
	uint32_t at = (l->age + uses) % LEVELS;

	if (MUTANT(234)) /* 234: nothing ages */
		at = uses;
	pol_node(&l->nodes, i)->extra = at << 8 | uses;
	pol_list_push(&l->nodes, &l->level[at], LIST, i);
	l->used[at / 64] |= 1ull << at % 64;
}

/* The first list at or after `from` that is not empty, round the ring.  There is one. */
static uint32_t first_used(const struct lfu *l, uint32_t from)
{
	uint64_t word = l->used[from / 64] >> from % 64;

	if (word)
		return from + (uint32_t)__builtin_ctzll(word);
	for (uint32_t k = 1; k <= LEVELS / 64; k++) {
		uint32_t w = (from / 64 + k) % (LEVELS / 64);
		if (l->used[w])
			return w * 64 + (uint32_t)__builtin_ctzll(l->used[w]);
	}
	CHECK(false);
	return 0;
}

static int lfu_new(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
	struct pol **ret)
{
	struct lfu *l = calloc(1, sizeof *l);

	(void)bytes, (void)values;
	if (!l)
		return err_new(-ENOMEM);
	l->pol.ops = ops;
	*ret = &l->pol;
	return 0;
}

static void lfu_free(struct pol *p)
{
	if (!p)
		return;
	pol_nodes_fini(&self(p)->nodes);
	free(self(p));
}

static int lfu_insert(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes, uint64_t now_ms,
	uint32_t *ret_node)
{
	struct lfu *l = self(p);
	int r = pol_node_new(&l->nodes, off, bytes, 0, ret_node);

	(void)hash, (void)now_ms;
	if (r < 0)
		return err_fwd(r);
	push(l, *ret_node, 1);
	l->n++;
	l->units += pol_node(&l->nodes, *ret_node)->units;
	l->st.inserts++;
	return 0;
}

static void lfu_moved(struct pol *p, uint32_t node, uint64_t off)
{
	pol_node_set_off(pol_node_used(&self(p)->nodes, node), off);
}

static void lfu_replace(struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct lfu *l = self(p);
	struct pol_node *n = pol_node_used(&l->nodes, node);

	(void)now_ms;
	lfu_moved(p, node, off);
	l->units -= n->units;
	pol_node_resize(&l->nodes, &l->level[level_of(n)], node, bytes);
	l->units += n->units;
}

static void lfu_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	struct lfu *l = self(p);
	uint32_t uses = uses_of(pol_node_used(&l->nodes, node));

	(void)now_ms;
	pull(l, node);
	push(l, node, uses < USES_MAX ? uses + 1 : USES_MAX);
	l->st.touches++;
}

static void lfu_remove(struct pol *p, uint32_t node, int evicted)
{
	struct lfu *l = self(p);
	const struct pol_node *n = pol_node_used(&l->nodes, node);

	(void)evicted;
	l->n--;
	l->units -= n->units;
	pull(l, node);
	pol_node_free(&l->nodes, node);
	l->st.removes++;
}

static uint64_t lfu_where(const struct pol *p, uint32_t node)
{
	return pol_node_off(pol_node_used(&self_const(p)->nodes, node));
}

static void lfu_ahead(const struct pol *p, uint32_t node)
{
	__builtin_prefetch(pol_node(&self_const(p)->nodes, node));
}

static int lfu_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct lfu *l = self(p);

	(void)now_ms;
	if (l->n == 0)
		return 1;
	l->age = first_used(l, l->age);
	*ret_off = pol_node_off(pol_node(&l->nodes, l->level[l->age].oldest));
	l->st.victims++;
	return 0;
}

static void lfu_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct lfu *l = self_const(p);

	*ret = l->st;
	ret->entries = l->n;
	ret->bytes = l->units * SHM_UNIT;
	ret->private_bytes = sizeof *l + pol_nodes_bytes(&l->nodes);
}

static int lfu_verify(const struct pol *p)
{
	const struct lfu *l = self_const(p);
	uint64_t n = 0, units = 0;

	for (uint32_t at = 0; at < LEVELS; at++) {
		int r = pol_list_verify(&l->nodes, &l->level[at], LIST);
		if (r)
			return r;
		if ((l->level[at].n > 0) != (l->used[at / 64] >> at % 64 & 1))
			return 4;
		if ((at + LEVELS - l->age) % LEVELS > USES_MAX && l->level[at].n)
			return 4;
		n += l->level[at].n;
		units += l->level[at].units;
	}
	if (n != l->n || units != l->units)
		return 2;
	return pol_nodes_verify(&l->nodes, n);
}

const struct pol_ops pol_lfu = {
	.name = "lfu",
	.meaning = "the entry goes that was used least often, counted from its last uses on (LFU "
		   "with ageing)",
	.new = lfu_new,
	.free = lfu_free,
	.insert = lfu_insert,
	.replace = lfu_replace,
	.touch = lfu_touch,
	.remove = lfu_remove,
	.moved = lfu_moved,
	.where = lfu_where,
	.ahead = lfu_ahead,
	.victim = lfu_victim,
	.stats = lfu_stats,
	.verify = lfu_verify,
};

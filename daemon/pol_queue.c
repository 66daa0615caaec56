/* pol_queue.c - the policies that keep one list: fifo, lru, sieve, ttl.
 *
 *   fifo    the oldest goes.  Hits do nothing.
 *   lru     a hit or an overwrite makes an entry the newest; the oldest goes.  Exact over the order in
 *           which the engine learns of uses: at once of mutations, late and sampled of hits.
 *   sieve   entries stay where they were inserted.  A hand goes from the oldest to the newest and
 *           round again: an entry that was hit since the hand's last visit stays, one that was not
 *           goes (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is simpler than LRU", NSDI 2024).  An
 *           entry is in danger as soon as the hand reaches it, be it a moment old: hits that the
 *           engine learns of late come too late more often than with s3-fifo.
 *
 *   ttl     nothing goes before its time is over (eng_expiry.c takes it away then).
 *
 * The hand's walk is paid for by the hits whose marks it takes away.  It ends after WALK_MAX steps
 * with the entry it stands at then, so that no call takes more than half a millisecond.
 *
 * Memory: 24 bytes an entry.  Invariants: those of pol_node.h; 4: the hand stands at an entry.
 */
#define _GNU_SOURCE
#include "pol_queue.h"
#include <stdlib.h>
#include "base/err.h"
#include "pol_node.h"
#include "step.h"

enum {
	LIST = 1,
	WALK_MAX = 1 << 16,
};

struct queue {
	struct pol pol;
	struct pol_nodes nodes;
	struct pol_list list;
	uint32_t hand; /* sieve: the node to look at next; 0: the oldest */
	struct pol_stats st;
};

static struct queue *self(struct pol *p) { return (struct queue *)(void *)p; }
static const struct queue *self_const(const struct pol *p)
{
	return (const struct queue *)(const void *)p;
}

static int queue_new(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
	struct pol **ret)
{
	struct queue *q = calloc(1, sizeof *q);

	(void)bytes, (void)values;
	if (!q)
		return err_new(-ENOMEM);
	q->pol.ops = ops;
	*ret = &q->pol;
	return 0;
}

static void queue_free(struct pol *p)
{
	if (!p)
		return;
	pol_nodes_fini(&self(p)->nodes);
	free(self(p));
}

static int queue_insert(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes, uint64_t now_ms,
	uint32_t *ret_node)
{
	struct queue *q = self(p);
	int r = pol_node_new(&q->nodes, off, bytes, 0, ret_node);

	(void)hash, (void)now_ms;
	if (r < 0)
		return err_fwd(r);
	pol_list_push(&q->nodes, &q->list, LIST, *ret_node);
	q->st.inserts++;
	return 0;
}

static void queue_moved(struct pol *p, uint32_t node, uint64_t off)
{
	pol_node_set_off(pol_node_used(&self(p)->nodes, node), off);
}

static void queue_replace(
	struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct queue *q = self(p);

	(void)now_ms;
	queue_moved(p, node, off);
	pol_node_resize(&q->nodes, &q->list, node, bytes);
}

static void queue_remove(struct pol *p, uint32_t node, int evicted)
{
	struct queue *q = self(p);
	const struct pol_node *n = pol_node_used(&q->nodes, node);

	(void)evicted;
	if (q->hand == node && !MUTANT(238)) /* 238: the hand stays at what is gone */
		q->hand = n->prev;
	pol_list_pull(&q->nodes, &q->list, node);
	pol_node_free(&q->nodes, node);
	q->st.removes++;
}

static uint64_t queue_where(const struct pol *p, uint32_t node)
{
	return pol_node_off(pol_node_used(&self_const(p)->nodes, node));
}

static void queue_ahead(const struct pol *p, uint32_t node)
{
	__builtin_prefetch(pol_node(&self_const(p)->nodes, node));
}

static int queue_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct queue *q = self(p);

	(void)now_ms;
	if (q->list.n == 0)
		return 1;
	*ret_off = pol_node_off(pol_node(&q->nodes, q->list.oldest));
	q->st.victims++;
	return 0;
}

static void queue_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct queue *q = self_const(p);

	*ret = q->st;
	ret->entries = q->list.n;
	ret->bytes = q->list.units * SHM_UNIT;
	ret->private_bytes = sizeof *q + pol_nodes_bytes(&q->nodes);
}

static int queue_verify(const struct pol *p)
{
	const struct queue *q = self_const(p);
	int r = pol_list_verify(&q->nodes, &q->list, LIST);

	if (r == 0)
		r = pol_nodes_verify(&q->nodes, q->list.n);
	if (r == 0 && q->hand &&
		(q->hand >= q->nodes.n_made || pol_node_list(pol_node(&q->nodes, q->hand)) != LIST))
		return 4;
	return r;
}

/* ------------------------------------------------------------ fifo */

static void fifo_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	(void)now_ms;
	(void)pol_node_used(&self(p)->nodes, node);
	self(p)->st.touches++;
}

/* ------------------------------------------------------------ ttl */

static int ttl_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	if (MUTANT(240)) /* 240: what is promised to be kept may go */
		return queue_victim(p, now_ms, ret_off);
	return 1;
}

/* ------------------------------------------------------------ lru */

static void lru_use(struct queue *q, uint32_t node)
{
	if (q->list.newest == node || MUTANT(232)) /* 232: a use does not count */
		return;
	pol_list_pull(&q->nodes, &q->list, node);
	pol_list_push(&q->nodes, &q->list, LIST, node);
}

static void lru_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	(void)now_ms;
	(void)pol_node_used(&self(p)->nodes, node);
	lru_use(self(p), node);
	self(p)->st.touches++;
}

static void lru_replace(struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	queue_replace(p, node, off, bytes, now_ms);
	lru_use(self(p), node);
}

/* ------------------------------------------------------------ sieve */

static void sieve_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	(void)now_ms;
	pol_node_set_mark(pol_node_used(&self(p)->nodes, node), 1);
	self(p)->st.touches++;
}

static int sieve_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct queue *q = self(p);

	(void)now_ms;
	if (q->list.n == 0)
		return 1;
	if (!q->hand || MUTANT(233)) /* 233: the hand begins anew each time */
		q->hand = q->list.oldest;
	for (int i = 0; i < WALK_MAX && pol_node_mark(pol_node(&q->nodes, q->hand)); i++) {
		struct pol_node *n = pol_node(&q->nodes, q->hand);
		pol_node_set_mark(n, 0);
		q->hand = n->prev ? n->prev : q->list.oldest;
	}
	*ret_off = pol_node_off(pol_node(&q->nodes, q->hand));
	q->st.victims++;
	return 0;
}

#define QUEUE_OPS \
	.new = queue_new, .free = queue_free, .insert = queue_insert, .remove = queue_remove, \
	.moved = queue_moved, .where = queue_where, .ahead = queue_ahead, .stats = queue_stats, \
	.verify = queue_verify

const struct pol_ops pol_fifo = {
	.name = "fifo",
	.meaning = "the oldest entry goes, used or not (first in, first out)",
	QUEUE_OPS,
	.replace = queue_replace,
	.touch = fifo_touch,
	.victim = queue_victim,
};

const struct pol_ops pol_lru = {
	.name = "lru",
	.meaning = "the entry goes whose last use is longest ago (least recently used)",
	QUEUE_OPS,
	.replace = lru_replace,
	.touch = lru_touch,
	.victim = queue_victim,
};

const struct pol_ops pol_sieve = {
	.name = "sieve",
	.meaning = "what was not hit since the hand's last visit goes (SIEVE); dislikes hits that "
		   "are told late",
	QUEUE_OPS,
	.replace = queue_replace,
	.touch = sieve_touch,
	.victim = sieve_victim,
};

const struct pol_ops pol_ttl = {
	.name = "ttl",
	.meaning = "nothing goes before its time to live is over; a store that is full refuses",
	.keeps = true,
	QUEUE_OPS,
	.replace = queue_replace,
	.touch = fifo_touch,
	.victim = ttl_victim,
	.first = queue_victim,
};

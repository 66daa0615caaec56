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
 * not counting those that have come back.
 *
 * The walk that looks for a victim ends after MOVES_MAX moves with what is oldest
 * then, whatever its hits.
 *
 * Memory: 24 bytes an entry, and the ghost (pol_ghost.h: 14 to 27 bytes for each
 * entry, half of that again after growing).  Nodes live in chunks that never move.
 *
 * Invariants, as verify numbers them:
 *   1  a queue's links lead back, from its newest entry to its oldest
 *   2  a node is in the queue that it names; counts and bytes are the queues' sums
 *   3  every node is in a queue or on the free list, once
 *   4  the ghost's chains (pol_ghost_verify)
 */
#define _GNU_SOURCE
#include "pol_s3fifo.h"
#include <stdlib.h>
#include "base/check.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "layout/l_base.h"
#include "pol_ghost.h"
#include "step.h"

enum {
	CHUNK_SHIFT = 12, /* nodes of a chunk: 1 << this */
	CHUNK_NODES = 1 << CHUNK_SHIFT,
	DIR_FIRST = 16, /* chunks in the directory at first */
	FREQ_MAX = 3,
	FREQ_PROMOTE = 2, /* hits that take an entry from small to main */
	MAIN_PERCENT = 90,
	MOVES_MAX = 64,
	GHOST_FIRST_MAX = 1 << 16,
	ENTRY_BYTES_GUESS = 1024, /* for the ghost's first size */
};

enum queue { FREE = 0, SMALL = 1, MAIN = 2, QUEUES = 3 };

/* The offset's low four bits are 0 (a multiple of SHM_UNIT): the place of freq and queue. */
#define WORD_QUEUE 0x3ull
#define WORD_FREQ_SHIFT 2
#define WORD_FREQ (0x3ull << WORD_FREQ_SHIFT)
#define WORD_LOW (WORD_QUEUE | WORD_FREQ)

struct node {
	uint32_t prev, next; /* towards the newest, towards the oldest; 0: none */
	uint64_t word;       /* offset | freq | queue */
	uint32_t units;      /* size of the place in SHM_UNIT; more than fit count as UINT32_MAX */
	uint32_t fp;
};

struct fifo {
	uint32_t newest, oldest;
	uint64_t n, units;
};

struct s3fifo {
	struct pol pol;
	struct node **chunk;
	uint32_t n_dir;  /* places in the directory */
	uint32_t n_made; /* nodes ever used, with node 0 */
	uint32_t free_node;
	struct fifo queue[QUEUES]; /* FREE: not used */
	struct pol_ghost ghost;
	struct pol_stats st;
};

static struct s3fifo *self(struct pol *p) { return (struct s3fifo *)(void *)p; }
static const struct s3fifo *self_const(const struct pol *p)
{
	return (const struct s3fifo *)(const void *)p;
}
static struct node *node_at(const struct s3fifo *s, uint32_t i)
{
	return &s->chunk[i >> CHUNK_SHIFT][i & (CHUNK_NODES - 1)];
}
static enum queue queue_of(const struct node *n) { return (enum queue)(n->word & WORD_QUEUE); }
static uint32_t freq_of(const struct node *n)
{
	return (uint32_t)((n->word & WORD_FREQ) >> WORD_FREQ_SHIFT);
}
static uint32_t units_of(uint64_t bytes)
{
	uint64_t units = bytes / SHM_UNIT + (bytes % SHM_UNIT != 0);

	return units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

/* A node that the engine hands in is one that it got. */
static struct node *node_used(const struct s3fifo *s, uint32_t i)
{
	CHECK(i > 0 && i < s->n_made);
	CHECK(queue_of(node_at(s, i)) != FREE);
	return node_at(s, i);
}

/* ------------------------------------------------------------ nodes and queues */

static int dir_grow(struct s3fifo *s)
{
	uint32_t n = s->n_dir ? s->n_dir * 2 : DIR_FIRST;
	struct node **chunk = realloc(s->chunk, n * sizeof *chunk);

	if (!chunk)
		return err_new(-ENOMEM);
	s->chunk = chunk;
	s->n_dir = n;
	return 0;
}

static int node_new(struct s3fifo *s, uint32_t *ret)
{
	uint32_t i = s->free_node;

	if (i) {
		s->free_node = node_at(s, i)->next;
		*ret = i;
		return 0;
	}
	if (s->n_made == UINT32_MAX)
		return err_new(-ENOMEM);
	if (s->n_made % CHUNK_NODES == 0) {
		uint32_t k = s->n_made >> CHUNK_SHIFT;
		int r = k == s->n_dir ? dir_grow(s) : 0;
		if (r < 0)
			return err_fwd(r);
		s->chunk[k] = malloc(CHUNK_NODES * sizeof **s->chunk);
		if (!s->chunk[k])
			return err_new(-ENOMEM);
		if (k == 0) /* node 0 is POL_NONE */
			*node_at(s, s->n_made++) = (struct node){0};
	}
	*ret = s->n_made++;
	return 0;
}

static void push(struct s3fifo *s, uint32_t i, enum queue to)
{
	struct fifo *q = &s->queue[to];
	struct node *n = node_at(s, i);

	n->word = (n->word & ~WORD_QUEUE) | to;
	n->prev = 0;
	n->next = q->newest;
	if (q->newest)
		node_at(s, q->newest)->prev = i;
	else
		q->oldest = i;
	q->newest = i;
	q->n++;
	q->units += n->units;
}

static void pull(struct s3fifo *s, uint32_t i)
{
	struct node *n = node_at(s, i);
	struct fifo *q = &s->queue[queue_of(n)];

	if (n->prev)
		node_at(s, n->prev)->next = n->next;
	else
		q->newest = n->next;
	if (n->next)
		node_at(s, n->next)->prev = n->prev;
	else
		q->oldest = n->prev;
	q->n--;
	q->units -= n->units;
}

/* ------------------------------------------------------------ the interface */

static void s3fifo_free(struct pol *p)
{
	struct s3fifo *s = self(p);

	if (!s)
		return;
	pol_ghost_fini(&s->ghost);
	for (uint32_t k = 0; k << CHUNK_SHIFT < s->n_made; k++)
		free(s->chunk[k]);
	free(s->chunk);
	free(s);
}

static int s3fifo_new(const struct pol_ops *ops, uint64_t bytes, struct pol **ret)
{
	struct s3fifo *s = calloc(1, sizeof *s);
	uint64_t guess = bytes / ENTRY_BYTES_GUESS;

	if (!s)
		return err_new(-ENOMEM);
	s->pol.ops = ops;
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
	uint32_t i = 0;

	(void)now_ms;
	CHECK((off & WORD_LOW) == 0);
	int r = node_new(s, &i);
	if (r < 0)
		return err_fwd(r);
	*node_at(s, i) = (struct node){
		.word = off, .units = units_of(bytes), .fp = (uint32_t)(hash >> 16)};
	bool ghost = !MUTANT(28) && pol_ghost_take(&s->ghost, node_at(s, i)->fp);
	push(s, i, ghost ? MAIN : SMALL);
	s->st.ghost_hits += ghost;
	s->st.inserts++;
	*ret_node = i;
	return 0;
}

static void s3fifo_moved(struct pol *p, uint32_t node, uint64_t off)
{
	struct node *n = node_used(self(p), node);

	CHECK((off & WORD_LOW) == 0);
	n->word = off | (n->word & WORD_LOW);
}

static void s3fifo_replace(
	struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct s3fifo *s = self(p);
	struct node *n = node_used(s, node);
	struct fifo *q = &s->queue[queue_of(n)];

	(void)now_ms;
	q->units -= n->units;
	n->units = units_of(bytes);
	q->units += n->units;
	s3fifo_moved(p, node, off);
	if (MUTANT(29))
		n->word &= ~WORD_FREQ;
}

static void s3fifo_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	struct s3fifo *s = self(p);
	struct node *n = node_used(s, node);

	(void)now_ms;
	if (freq_of(n) < FREQ_MAX)
		n->word += 1ull << WORD_FREQ_SHIFT;
	s->st.touches++;
}

static void s3fifo_ahead(const struct pol *p, uint32_t node)
{
	__builtin_prefetch(node_at(self_const(p), node));
}

static void s3fifo_remove(struct pol *p, uint32_t node, int evicted)
{
	struct s3fifo *s = self(p);
	struct node *n = node_used(s, node);

	if (evicted && queue_of(n) == SMALL)
		pol_ghost_add(&s->ghost, n->fp,
			(s->queue[SMALL].n + s->queue[MAIN].n) * MAIN_PERCENT / 100);
	pull(s, node);
	*n = (struct node){.next = s->free_node};
	s->free_node = node;
	s->st.removes++;
}

/* The queue whose turn it is to give. */
static enum queue giver(const struct s3fifo *s)
{
	const struct fifo *small = &s->queue[SMALL], *main = &s->queue[MAIN];

	if (!small->n || main->units * 100 > (small->units + main->units) * MAIN_PERCENT)
		return MAIN;
	return SMALL;
}

/* An entry that is to stay: on to main, or to main's end with one hit fewer. */
static void keep(struct s3fifo *s, uint32_t i)
{
	struct node *n = node_at(s, i);
	uint64_t freq = queue_of(n) == SMALL ? 0 : freq_of(n) - 1;

	pull(s, i);
	n->word = (n->word & ~WORD_FREQ) | freq << WORD_FREQ_SHIFT;
	push(s, i, MAIN);
}

/* The entry to go next; POL_NONE: there is none. */
static uint32_t propose(struct s3fifo *s)
{
	uint32_t promote = MUTANT(27) ? 1 : FREQ_PROMOTE;

	if (s->queue[SMALL].n + s->queue[MAIN].n == 0)
		return POL_NONE;
	for (int moves = 0;; moves++) {
		uint32_t i = s->queue[giver(s)].oldest;
		const struct node *n = node_at(s, i);
		if (moves == MOVES_MAX || freq_of(n) < (queue_of(n) == SMALL ? promote : 1))
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
	*ret_off = node_at(s, i)->word & ~WORD_LOW;
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
	return i == POL_NONE || freq_of(node_at(s, i)) == 0 ||
	       pol_ghost_has(&s->ghost, (uint32_t)(hash >> 16));
}

static void s3fifo_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct s3fifo *s = self_const(p);
	uint64_t n_chunks = (s->n_made + CHUNK_NODES - 1ull) / CHUNK_NODES;

	*ret = s->st;
	ret->entries = s->queue[SMALL].n + s->queue[MAIN].n;
	ret->bytes = (s->queue[SMALL].units + s->queue[MAIN].units) * SHM_UNIT;
	ret->private_bytes = sizeof *s + s->n_dir * sizeof *s->chunk +
	                     n_chunks * CHUNK_NODES * sizeof(struct node) +
	                     pol_ghost_bytes(&s->ghost);
}

static int verify_queue(const struct s3fifo *s, enum queue which)
{
	const struct fifo *q = &s->queue[which];
	uint64_t n = 0, units = 0;
	uint32_t before = 0;

	for (uint32_t i = q->newest; i; i = node_at(s, i)->next) {
		if (i >= s->n_made || n++ > q->n || node_at(s, i)->prev != before)
			return 1;
		if (queue_of(node_at(s, i)) != which)
			return 2;
		units += node_at(s, i)->units;
		before = i;
	}
	if (before != q->oldest)
		return 1;
	return n == q->n && units == q->units ? 0 : 2;
}

static int s3fifo_verify(const struct pol *p)
{
	const struct s3fifo *s = self_const(p);
	uint64_t n_free = 0, n_used = s->queue[SMALL].n + s->queue[MAIN].n;
	int r = verify_queue(s, SMALL);

	if (r == 0)
		r = verify_queue(s, MAIN);
	if (r)
		return r;
	for (uint32_t i = s->free_node; i; i = node_at(s, i)->next)
		if (i >= s->n_made || n_free++ > s->n_made || queue_of(node_at(s, i)) != FREE)
			return 3;
	if (n_free + n_used + (s->n_made > 0) != s->n_made)
		return 3;
	return pol_ghost_verify(&s->ghost) ? 0 : 4;
}

const struct pol_ops pol_s3fifo = {
	.name = "s3-fifo",
	.meaning = "keeps what is used again soon; quick to drop what is used once (S3-FIFO)",
	.new = s3fifo_new,
	.free = s3fifo_free,
	.insert = s3fifo_insert,
	.replace = s3fifo_replace,
	.touch = s3fifo_touch,
	.remove = s3fifo_remove,
	.moved = s3fifo_moved,
	.ahead = s3fifo_ahead,
	.victim = s3fifo_victim,
	.admits = s3fifo_admits,
	.stats = s3fifo_stats,
	.verify = s3fifo_verify,
};

/* pol_node.h - what policies are made of: nodes that never move, and lists of them.
 *
 *   nodes   chunks of 4096; a number names one.  Number 0 is none (POL_NONE).
 *   list    doubly linked, newest to oldest, with count and size
 *
 * A node's word is the entry's offset, whose low four bits are free (a multiple of SHM_UNIT): two name
 * the list (0: the node is free), two are the policy's own mark.  24 bytes a node.
 *
 * Invariants, as pol_nodes_verify and pol_list_verify number them:
 *   1  a list's links lead back, from its newest entry to its oldest
 *   2  a node is in the list that it names; count and size are the list's sums
 *   3  every node is in a list or on the free list, once
 */
#ifndef HC_DAEMON_POL_NODE_H
#define HC_DAEMON_POL_NODE_H

#include <stdint.h>
#include "base/check.h"
#include "layout/l_base.h"

enum {
	POL_CHUNK_SHIFT = 12,
	POL_CHUNK_NODES = 1 << POL_CHUNK_SHIFT,
	POL_MARK_MAX = 3,
	POL_LISTS = 3, /* 1..3 */
};

#define POL_WORD_LIST 0x3ull
#define POL_WORD_MARK_SHIFT 2
#define POL_WORD_MARK (0x3ull << POL_WORD_MARK_SHIFT)
#define POL_WORD_LOW (POL_WORD_LIST | POL_WORD_MARK)

struct pol_node {
	uint32_t prev, next; /* towards the newest, towards the oldest; 0: none */
	uint64_t word;       /* offset | mark | list */
	uint32_t units;      /* size of the place in SHM_UNIT; more than fit count as UINT32_MAX */
	uint32_t extra;      /* the policy's own */
};

struct pol_list {
	uint32_t newest, oldest;
	uint64_t n, units;
};

struct pol_nodes {
	struct pol_node **chunk;
	uint32_t n_dir;  /* places in the directory of chunks */
	uint32_t n_made; /* nodes ever used, with node 0 */
	uint32_t free_node;
};

static inline struct pol_node *pol_node(const struct pol_nodes *t, uint32_t i)
{
	return &t->chunk[i >> POL_CHUNK_SHIFT][i & (POL_CHUNK_NODES - 1)];
}
static inline uint32_t pol_node_list(const struct pol_node *n) { return n->word & POL_WORD_LIST; }
static inline uint64_t pol_node_off(const struct pol_node *n) { return n->word & ~POL_WORD_LOW; }
static inline uint32_t pol_node_mark(const struct pol_node *n)
{
	return (uint32_t)((n->word & POL_WORD_MARK) >> POL_WORD_MARK_SHIFT);
}
static inline void pol_node_set_mark(struct pol_node *n, uint64_t mark)
{
	n->word = (n->word & ~POL_WORD_MARK) | mark << POL_WORD_MARK_SHIFT;
}
static inline void pol_node_set_off(struct pol_node *n, uint64_t off)
{
	CHECK((off & POL_WORD_LOW) == 0);
	n->word = off | (n->word & POL_WORD_LOW);
}
/* A node that the engine hands in is one that it got. */
static inline struct pol_node *pol_node_used(const struct pol_nodes *t, uint32_t i)
{
	CHECK(i > 0 && i < t->n_made);
	CHECK(pol_node_list(pol_node(t, i)) != 0);
	return pol_node(t, i);
}

/* A node for an entry, in no list yet: 0 and its number, or -ENOMEM. */
int pol_node_new(struct pol_nodes *t, uint64_t off, uint64_t bytes, uint32_t extra, uint32_t *ret);
/* Of a node that was pulled. */
void pol_node_free(struct pol_nodes *t, uint32_t i);
/* In its list, at its place, another size. */
void pol_node_resize(struct pol_nodes *t, struct pol_list *l, uint32_t i, uint64_t bytes);

/* As the list's newest; `number` is the list's, 1..POL_LISTS. */
void pol_list_push(struct pol_nodes *t, struct pol_list *l, uint32_t number, uint32_t i);
void pol_list_pull(struct pol_nodes *t, struct pol_list *l, uint32_t i);

void pol_nodes_fini(struct pol_nodes *t);
uint64_t pol_nodes_bytes(const struct pol_nodes *t); /* private memory */

/* 0, or the number of a broken invariant.  n_listed: the sum of the lists' counts. */
int pol_list_verify(const struct pol_nodes *t, const struct pol_list *l, uint32_t number);
int pol_nodes_verify(const struct pol_nodes *t, uint64_t n_listed);

#endif

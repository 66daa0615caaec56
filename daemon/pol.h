/* pol.h - what an eviction policy is: a small module behind one interface.
 *
 * A policy orders the entries of one store.  It knows an entry by a node: a
 * small number that it hands out at insert and that the engine keeps beside the
 * entry (shm_alloc_note).  All state is private memory of the engine.
 *
 * The engine calls insert for each new or overwritten entry, touch for drained
 * hits (late, sampled, doubled, never trusted: the engine has looked the node up
 * itself), remove when an entry goes for whatever reason, moved when it got
 * another place, and victim when room is needed.  victim proposes, it does not
 * remove; the engine removes what it could unlink.
 *
 * Every call is O(1), amortised, without a system call but for growth of the
 * node array.  One thread.
 */
#ifndef HC_DAEMON_POL_H
#define HC_DAEMON_POL_H

#include <stdint.h>
#include <stdio.h>

struct pol; /* one store's policy state; begins with const struct pol_ops *ops */

#define POL_NONE 0u /* no node */

struct pol_stats {
	uint64_t entries, bytes; /* under the policy's care */
	uint64_t inserts, touches, removes, victims;
	uint64_t ghost_hits;     /* inserts of keys that were evicted a short time ago */
};

struct pol_ops {
	const char *name;    /* as in the configuration */
	const char *meaning; /* one line of help */
	/* A new state for a store that may hold up to about `bytes`.  0 or -ENOMEM. */
	int (*new)(const struct pol_ops *ops, uint64_t bytes, struct pol **ret);
	void (*free)(struct pol *p);
	/* hash: the entry's; off: where it is; bytes: its place.  *ret_node is never POL_NONE.
	 * now_ms: the engine's clock.  0 or -ENOMEM. */
	int (*insert)(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes, uint64_t now_ms,
		uint32_t *ret_node);
	void (*touch)(struct pol *p, uint32_t node, uint64_t now_ms);
	void (*remove)(struct pol *p, uint32_t node, int evicted); /* evicted: may be remembered as a ghost */
	void (*moved)(struct pol *p, uint32_t node, uint64_t off);
	/* The entry to evict next: 0 and its offset, or 1: there is none. */
	int (*victim)(struct pol *p, uint64_t now_ms, uint64_t *ret_off);
	void (*stats)(const struct pol *p, struct pol_stats *ret);
	/* 0, or the number of the first broken invariant of the policy's own file. */
	int (*verify)(const struct pol *p);
};

struct pol {
	const struct pol_ops *ops;
};

/* The policies that are built in, by name; NULL: there is none of that name. */
const struct pol_ops *pol_find(const char *name);
/* All of them, NULL at the end. */
const struct pol_ops *const *pol_all(void);

#endif

/* pol.h - what an eviction policy is: a small module behind one interface.
 *
 * A policy orders the entries of one store.  It knows an entry by a node: a
 * small number that it hands out at insert and that the engine keeps beside the
 * entry (shm_alloc_note).  All state is private memory of the engine.
 *
 * The engine calls
 *   insert   for each new entry
 *   replace  for an overwrite: the entry stays what it was to the policy, with
 *            its node, at another place and of another size
 *   touch    for drained hits (late, sampled, doubled, never trusted: the engine
 *            has looked the node up itself)
 *   moved    when an entry got another place of the same size
 *   remove   when an entry goes, for whatever reason
 *   victim   when room is needed.  It proposes and does not remove: the same entry
 *            is proposed again until it is removed, replaced or touched.
 *   restore  behind insert, for an entry that was there before the policy was: when it
 *            began and when it was last used
 *
 * An overwrite is not a use (but to lru and session): who writes a key that nobody reads does not keep it,
 * and who writes a key that is read does not lose it.  On an overwrite the node
 * goes from the old place's note to the new one's; the old place's note becomes
 * POL_NONE, because hints may still name it while it is in limbo.
 *
 * A policy is found by its name and made with the values of its parameters, which it lists itself: the
 * configuration, its help and `hypercache policies` read that list.
 *
 * Every call is O(1), amortised, without a system call but for growth of the
 * nodes and of the ghost.  The engine's own mistakes (a node that is not in use)
 * are CHECKed.  One thread.
 */
#ifndef HC_DAEMON_POL_H
#define HC_DAEMON_POL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pol; /* one store's policy state; begins with const struct pol_ops *ops */

#define POL_NONE 0u /* no node */

struct pol_stats {
	uint64_t entries, bytes;   /* under the policy's care */
	uint64_t inserts, touches; /* calls; an overwrite is no insert */
	uint64_t removes, victims;
	uint64_t ghost_hits;    /* inserts of keys that were evicted a short time ago */
	uint64_t private_bytes; /* memory of the policy itself */
};

/* How a parameter is written in the configuration, and what its number means to the policy. */
enum pol_type {
	POL_T_NUMBER,   /* itself */
	POL_T_FRACTION, /* millionths */
	POL_T_BYTES,
	POL_T_DURATION, /* ns */
};

enum {
	POL_PARAMS_MAX = 8,
	POL_NAME_BYTES = 24, /* of a policy or a parameter, with the NUL: [a-z][a-z0-9_-]* */
};

struct pol_param {
	const char *name;
	enum pol_type type;
	uint64_t min, max, def;
	const char *unit;    /* of a NUMBER: "hits"; else "" */
	const char *meaning; /* whole sentences */
};

/* One value for each parameter, in their order. */
struct pol_values {
	uint64_t v[POL_PARAMS_MAX];
};

struct pol_ops {
	const char *name;    /* as in the configuration */
	const char *meaning; /* one line of help */
	bool keeps;          /* it evicts nothing: what does not fit is refused */
	const struct pol_param *params;
	uint32_t n_params; /* up to POL_PARAMS_MAX */
	/* May be NULL.  NULL, or how values that are each in range contradict each other: "what is
	 * wrong; what would be right", static. */
	const char *(*check)(const struct pol_values *values);
	/* May be NULL, or return 0: hints may be lost.  Else each entry that is in use has to be told of several
	 * times in so many ns, whoever reads it and however many others (libclient/hc_slide.c). */
	uint64_t (*told_ns)(const struct pol_values *values);
	/* A new state for a store that may hold up to about `bytes` (a hint for the first
	 * sizes of private tables; they grow).  values: as check let them pass; NULL: the
	 * defaults.  0 or -ENOMEM. */
	int (*new)(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
		struct pol **ret);
	void (*free)(struct pol *p);
	/* hash: the entry's; off: where it is, a multiple of 16 below 2^48; bytes: its place,
	 * counted in whole units of 16.  *ret_node is never POL_NONE.  now_ms: the engine's
	 * clock.  0, or -ENOMEM: nothing changed. */
	int (*insert)(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes, uint64_t now_ms,
		uint32_t *ret_node);
	/* May be NULL.  Both at or before now, by the engine's clock. */
	void (*restore)(struct pol *p, uint32_t node, uint64_t born_ms, uint64_t used_ms);
	void (*replace)(
		struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms);
	void (*touch)(struct pol *p, uint32_t node, uint64_t now_ms);
	/* evicted: for want of room, so it may be remembered as a ghost.  The node is void then. */
	void (*remove)(struct pol *p, uint32_t node, int evicted);
	void (*moved)(struct pol *p, uint32_t node, uint64_t off);
	uint64_t (*where)(const struct pol *p, uint32_t node); /* the entry's offset */
	/* May be NULL: the node will be needed soon (shm/ahead.h). */
	void (*ahead)(const struct pol *p, uint32_t node);
	/* May be NULL.  Is it not to be evicted now, for whatever reason? */
	bool (*spared)(const struct pol *p, uint32_t node, uint64_t now_ms);
	/* The entry to evict next: 0 and its offset, or 1: there is none, or (not while `pressed`) none that may go. */
	int (*victim)(struct pol *p, uint64_t now_ms, uint64_t *ret_off);
	/* NULL: as victim.  The entry that would go next if any had to, for giving the policy up. */
	int (*first)(struct pol *p, uint64_t now_ms, uint64_t *ret_off);
	/* May be NULL: every key is.  Is a new key, of this hash, worth more than the entry that victim
	 * would propose? */
	int (*admits)(struct pol *p, uint64_t hash, uint64_t now_ms);
	void (*stats)(const struct pol *p, struct pol_stats *ret);
	/* 0, or the number of the first broken invariant of the policy's own file. */
	int (*verify)(const struct pol *p);
};

struct pol {
	const struct pol_ops *ops;
	/* Set by the engine before it asks for victims: the pool is above pressure_full, or the store at a
	 * limit of its own.  What a policy otherwise spares may go. */
	bool pressed;
	bool odd; /* set by a loaded policy that has proposed what is no entry: another one went */
};

/* The policies that are built in and those that were loaded (pol_module.h), by name; NULL: there is none of that name. */
const struct pol_ops *pol_find(const char *name);
/* All that are built in, NULL at the end; the first one is what a store has whose configuration names none. */
const struct pol_ops *const *pol_all(void);
/* The defaults of its parameters. */
struct pol_values pol_defaults(const struct pol_ops *ops);

#endif

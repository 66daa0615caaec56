/* pol_shadow.h - miniature caches: what policies would do, seen with a part of the keys.
 *
 * Keys are sampled by their hash, so that either all uses of a key are seen or none (SHARDS: Waldspurger,
 * Park, Garthwaite, Ahmad, "Efficient MRC construction with SHARDS", FAST 2015), and a cache of the
 * sampled keys that has the same part of the memory misses about as often as the whole (Waldspurger,
 * Saemundsson, Ahmad, Park, "Cache modeling and optimization using miniature simulations", ATC 2017).  The
 * policies are the store's own code.  The number of keys is bounded: when there are too many, the rate is
 * halved and what is not sampled any more goes (SHARDS with a fixed size).
 *
 *   key     fp, size, end | its node in each miniature          one record for all of them
 *   mini    a policy, a share of the memory, what it missed
 *
 * Counts are of all uses, told from those seen: a use counts for 1 / rate.
 *
 * Memory: 40 bytes for each key and 4 more for each miniature, and for each key that one holds what its
 * policy takes (24 to 60); SHADOW keys at most.  Instructions: a use of a key that is not sampled, 3; one of
 * a sampled key, a search of a table, and each miniature's policy.  One thread.
 *
 * Invariants, as verify numbers them: 1: each record is found by its fp, is in some miniature, and is
 * sampled; 2: a miniature holds no more than its share, and as many bytes and keys as its records say;
 * 3: a policy's own.
 */
#ifndef HC_DAEMON_POL_SHADOW_H
#define HC_DAEMON_POL_SHADOW_H

#include "pol.h"

enum {
	POL_SHADOW_MINIS_MAX = 16,
	POL_SHADOW_RATE_ONE = 1 << 16,
};

enum pol_shadow_use {
	POL_SHADOW_HIT,    /* a read that found it */
	POL_SHADOW_INSERT, /* it was not there, and is now: a read missed */
	POL_SHADOW_WRITE,  /* an overwrite: no read */
	POL_SHADOW_FILL,   /* it is there, since some time: no use at all */
	POL_SHADOW_USES
};

struct pol_shadow_mini {
	const struct pol_ops *ops;
	double share; /* of the memory: 1 is what the store has */
	struct pol *pol;
	uint64_t limit, units, n;         /* of SHM_UNIT, sampled */
	uint64_t missed[POL_SHADOW_USES]; /* of each kind of use, in uses of all keys */
};

struct pol_shadow {
	uint32_t rate; /* in 1 / POL_SHADOW_RATE_ONE: a power of two */
	uint32_t n_minis, n_keys, max_keys;
	struct pol_shadow_mini mini[POL_SHADOW_MINIS_MAX];
	uint64_t units; /* memory that share 1 stands for, in SHM_UNIT; 0: without end */
	uint64_t uses[POL_SHADOW_USES]; /* of sampled keys, in uses of all keys */
	uint64_t seen;                  /* uses of sampled keys */
	uint32_t *head;                 /* of the chains of records, plus 1 */
	uint8_t *key;                   /* records */
	uint32_t stride, n_heads, n_made, free_key;
};

/* An empty set.  max_keys: at most so many are sampled. */
void pol_shadow_init(struct pol_shadow *s, uint32_t max_keys);
/* One more miniature, before the first use.  values: as of pol_ops.new.  0, or -ENOMEM. */
int pol_shadow_add(struct pol_shadow *s, const struct pol_ops *ops, const struct pol_values *values,
	double share);
void pol_shadow_fini(struct pol_shadow *s);

static inline bool pol_shadow_samples(const struct pol_shadow *s, uint32_t fp)
{
	return fp * 0x9e3779b1u >> 16 < s->rate;
}

/* A use of a sampled key.  bytes: of its place.  end_ms: when its time is over, 0: never. */
void pol_shadow_use(struct pol_shadow *s, enum pol_shadow_use use, uint32_t fp, uint64_t bytes,
	uint64_t end_ms, uint64_t now_ms);
/* A sampled key was deleted, or its time is over. */
void pol_shadow_forget(struct pol_shadow *s, uint32_t fp);
void pol_shadow_clear(struct pol_shadow *s); /* all keys; the counts stay */
/* The memory that share 1 stands for: what does not fit any more goes. */
void pol_shadow_resize(struct pol_shadow *s, uint64_t units, uint64_t now_ms);

/* Does that miniature hold the key?  Of a sampled one. */
bool pol_shadow_holds(const struct pol_shadow *s, uint32_t mini, uint32_t fp);
uint64_t pol_shadow_bytes(const struct pol_shadow *s); /* private memory */
int pol_shadow_verify(const struct pol_shadow *s);

#endif

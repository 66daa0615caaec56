/* hot_keys.h - the most read keys of a store, from shared memory alone.
 *
 * The engine writes their hashes and shares into the pool each second (daemon/eng_hot.c).  The keys are looked up by
 * hash in the pool itself, with what the admin socket gave: nobody is asked, and nothing is pinned.  What is read may
 * change meanwhile, or be damaged: so everything is copied out by pread(), which meets no hole (rule P30), lengths are
 * bounded, and a key counts only if its own hash is the one that was looked for.
 */
#ifndef HC_TOOLS_HOT_KEYS_H
#define HC_TOOLS_HOT_KEYS_H

#include <stdbool.h>
#include "hypercache_admin.h"
#include "layout/l_pool.h"

struct hypercache_hot_key {
	uint64_t hash;
	double share; /* of the store's hits, 0..1: at least, but for what the sampling does */
	double error; /* it is at most so much off: three standard deviations of the sampling, and what
	               * the table of the engine cannot tell */
	void *key;    /* heap; NULL: no entry has that hash now */
	uint64_t key_bytes, value_bytes;
};

struct hypercache_hot {
	uint64_t
		hits; /* that it is of, lately: a hit counts half as much after half a minute; 0: there is nothing */
	double rest; /* share that a key which is not listed has at most */
	uint32_t n;
	struct hypercache_hot_key key[SHM_HOT_STORE_KEYS];
};

/* At most n keys of the store at directory entry store_idx.  Maps its pool if it is not mapped.  0, or as
 * hypercache_admin_pool_map(), with a sentence in why.  *ret is set on 0, for hypercache_hot_free(). */
int hypercache_hot(struct hypercache_admin *a, uint32_t store_idx, uint32_t n,
	struct hypercache_hot *ret, char why[HYPERCACHE_ADMIN_WHY_BYTES]);
void hypercache_hot_free(struct hypercache_hot *h);

#endif

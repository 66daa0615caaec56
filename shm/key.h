/* key.h - a key as look-ups use it: its bytes, its store, its hash. */
#ifndef HC_SHM_KEY_H
#define HC_SHM_KEY_H

#include <string.h>
#include "layout/l_item.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct shm_key {
	const void *bytes;
	uint32_t n_bytes;  /* 1..SHM_KEY_BYTES_MAX, checked by the caller */
	uint32_t epoch;    /* the store's, loaded in this call (rule P10) */
	uint64_t store_id; /* the same */
	uint64_t hash;
};

/* XXH3 (Collet), seeded per daemon and per store: equal keys of two stores of a
 * pool fall into different buckets. */
static inline uint64_t shm_key_hash(const void *bytes, size_t n, uint64_t seed, uint64_t store_id)
{
	return XXH3_64bits_withSeed(bytes, n, seed + store_id * 0x9e3779b97f4a7c15ull);
}

#endif

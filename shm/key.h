/* key.h - a key as look-ups use it: its bytes, its store, its hash. */
#ifndef HC_SHM_KEY_H
#define HC_SHM_KEY_H

#include <stdbool.h>
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

/* Of a daemon's seed, that of one store: equal keys of two stores of a pool fall into different
 * buckets. */
static inline uint64_t shm_key_seed(uint64_t seed, uint64_t store_id)
{
	return seed + store_id * 0x9e3779b97f4a7c15ull;
}

/* Keys of the usual lengths: their hash is a few instructions, and their comparison no call. */
static inline bool shm_key_is_short(size_t n) { return n - 9 <= 16 - 9; }

/* XXH3 (Collet) of a short key, with the seed of the store. */
static inline __attribute__((always_inline)) uint64_t shm_key_hash_short(
	const void *bytes, size_t n, uint64_t store_seed)
{
	return XXH3_len_9to16_64b(bytes, n, XXH3_kSecret, store_seed);
}

/* XXH3 of any key, by a call. */
uint64_t shm_key_hash_long(const void *bytes, size_t n, uint64_t store_seed);

/* XXH3 of any key. */
static inline uint64_t shm_key_hash_seeded(const void *bytes, size_t n, uint64_t store_seed)
{
	return shm_key_is_short(n) ? shm_key_hash_short(bytes, n, store_seed)
	                           : shm_key_hash_long(bytes, n, store_seed);
}

static inline uint64_t shm_key_hash(const void *bytes, size_t n, uint64_t seed, uint64_t store_id)
{
	return shm_key_hash_seeded(bytes, n, shm_key_seed(seed, store_id));
}

/* Are these n bytes equal?  n as shm_key_is_short(). */
static inline __attribute__((always_inline)) bool shm_key_equal_short(
	const void *a, const void *b, size_t n)
{
	uint64_t x, y, u, v;

	memcpy(&x, a, 8);
	memcpy(&y, b, 8);
	memcpy(&u, (const uint8_t *)a + n - 8, 8);
	memcpy(&v, (const uint8_t *)b + n - 8, 8);
	return ((x ^ y) | (u ^ v)) == 0;
}

/* Are these n bytes equal? */
static inline __attribute__((always_inline)) bool shm_key_equal(
	const void *a, const void *b, size_t n)
{
	return shm_key_is_short(n) ? shm_key_equal_short(a, b, n) : memcmp(a, b, n) == 0;
}

#endif

/* read_i.h - what read.c and read_scan.c share: bounds, and the pin. */
#ifndef HC_SHM_READ_I_H
#define HC_SHM_READ_I_H

#include "read.h"
#include "step.h"

enum { TRIES = 64, TABLES_MAX = 4, AGAIN = 10, NEXT = 11, LONG = 12, EXPIRED = 13 };

static inline const struct shm_pool *pool_of(const struct shm_map *m)
{
	return (const struct shm_pool *)(const void *)m->base;
}

/* The buckets that a table word names, or NULL: they would not fit the mapping. */
static inline const struct shm_bucket *buckets_of(const struct shm_map *m, uint64_t word)
{
	uint64_t off = shm_word_off(word), log2 = shm_word_top(word);

	/* Between 1 and the last place for a header; and as many buckets behind it as it says. */
	if (off - 1 >= m->bytes - sizeof(struct shm_table) || log2 > SHM_LOG2_BUCKETS_MAX ||
		(m->bytes - off - sizeof(struct shm_table)) / sizeof(struct shm_bucket) >> log2 ==
			0)
		return NULL;
	return (const struct shm_bucket *)(const void *)(m->base + off + sizeof(struct shm_table));
}

static inline const struct shm_bucket *overflow_of(const struct shm_map *m, uint64_t off)
{
	if ((off > m->bytes - sizeof(struct shm_bucket) &&
		    !MUTANT(145)) || /* 145: links are believed */
		off % sizeof(struct shm_bucket))
		return NULL;
	return (const struct shm_bucket *)(const void *)(m->base + off);
}

/* Stores a pin and lets no later load run before it: by the engine's membarrier, or here. */
static inline void pin_set(shm_u64 *cell, uint64_t pin, bool full_fence)
{
	if (MUTANT(1)) /* 1: the reader forgets to pin */
		return;
	/* rel:pin.word: what the cell pinned before is no longer read. */
	shm_store_rel(cell, pin);
	if (__builtin_expect(full_fence, 0))
		atomic_thread_fence(memory_order_seq_cst);
	else
		atomic_signal_fence(memory_order_seq_cst);
}

#endif

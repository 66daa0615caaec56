/* ahead.c - see ahead.h. */
#include "ahead.h"
#include "atomic.h"
#include "layout/l_table.h"

enum { AHEAD_LINES = 12 }; /* of a place; the processor's own prefetching sees the rest coming */

/* The first bucket of the chain, in the table that has not moved it. */
static const struct shm_bucket *bucket_of(const struct shm_wtable *t, uint64_t hash)
{
	return (const struct shm_bucket *)(t->t + 1) + shm_hash_bucket(hash, t->log2_buckets);
}

static const struct shm_wtable *table_of(const struct shm_wpool *w, uint64_t hash)
{
	bool moved = w->next.t && shm_hash_bucket(hash, w->cur.log2_buckets) < w->grow_pos;

	return moved ? &w->next : &w->cur;
}

void shm_ahead_bucket(const struct shm_wpool *w, uint64_t hash)
{
	__builtin_prefetch(bucket_of(table_of(w, hash), hash));
}

uint64_t shm_ahead_item(const struct shm_wpool *w, uint64_t hash)
{
	const struct shm_bucket *b = bucket_of(table_of(w, hash), hash);

	for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
		uint64_t word = shm_load_rlx(&b->slot[i]), off = shm_word_off(word);
		if (shm_word_top(word) != shm_hash_tag(hash) || (word & SHM_SLOT_MOVED) || !off)
			continue;
		const uint8_t *item = w->base + off;
		__builtin_prefetch(item);
		__builtin_prefetch(item + SHM_LINE);
		return off;
	}
	return 0;
}

void shm_ahead_place(const struct shm_wpool *w, uint64_t item_bytes, uint32_t skip)
{
	uint64_t off = shm_alloc_peek(w->alloc, item_bytes, skip);

	for (uint32_t i = 0; off && i < AHEAD_LINES && i * SHM_LINE < item_bytes; i++)
		__builtin_prefetch(w->base + off + i * SHM_LINE, 1);
}

const uint32_t *shm_ahead_note(const struct shm_wpool *w, uint64_t off)
{
	const uint32_t *note = shm_alloc_note(w->alloc, off);

	__builtin_prefetch(note);
	return note;
}

/* read_find.h - the look-up of read.h itself, to become part of its caller.
 *
 * A processor overlaps the cache misses of neighbouring look-ups only as far as the
 * instructions of both fit its window (some 500, half of that with a busy sibling): so
 * hc_get and hc_view are one piece of code each, with what they know of the key and the
 * pool in registers.  Everybody else calls shm_read_find(), which does the same.
 *
 * Everything that comes from shared memory is read once and bounded before it is used.
 */
#ifndef HC_SHM_READ_FIND_H
#define HC_SHM_READ_FIND_H

#include <errno.h>
#include "read_i.h"
#include "tags.h"

#define READ_INLINE static inline __attribute__((always_inline))

enum {
	LOOK_HOT = 40,            /* what a look-up reads of an item begins here (l_item.h) */
	LOOK_ITEM = 2 * SHM_LINE, /* ... and a short key and a value's begin end there */
};

/* One call's constants and what it has seen. */
struct look {
	const struct shm_reader *r;
	const struct shm_map *m;
	const struct shm_key *key;
	struct shm_found *ret;
	shm_u64 *cell;       /* of the item's pin */
	uint64_t table_word; /* look-ups began here */
	uint64_t gen;        /* pin generation */
	uint64_t pin_base;   /* a pin word without its offset */
	bool full_fence;
};

/* word: the table word, loaded in this call (acquire). */
READ_INLINE struct look look_of(const struct shm_reader *r, const struct shm_map *m,
	const struct shm_key *key, shm_u64 *cell, uint64_t word, struct shm_found *ret)
{
	return (struct look){.r = r,
		.m = m,
		.key = key,
		.ret = ret,
		.cell = cell,
		.table_word = word,
		.full_fence = r->full_fence};
}

/* The pinned item that this slot word names: is it the key's?  0, NEXT, EXPIRED, -EBADMSG. */
READ_INLINE int look_compare(struct look *l, uint64_t word)
{
	const struct shm_key *key = l->key;
	uint64_t off = shm_word_off(word);
	const struct shm_item *it = (const struct shm_item *)(const void *)(l->m->base + off);
	uint64_t value_off = shm_item_value_off(key->n_bytes);

	if (off + sizeof *it > l->m->bytes && !MUTANT(147)) /* 147: slots are believed */
		return -EBADMSG;
	if (it->hash != key->hash)
		return NEXT;
	uint64_t lens = *(
		const uint64_t volatile *)&it->lens; /* bare: one read of hostile lengths */
	if (shm_lens_key(lens) != key->n_bytes)
		value_off = shm_item_value_off(shm_lens_key(lens)); /* another key's, or damage */
	if (off + value_off + shm_lens_extent(lens) > l->m->bytes &&
		!MUTANT(144)) /* 144: lengths are believed */
		return -EBADMSG;
	if (shm_lens_key(lens) != key->n_bytes || it->store_id != key->store_id)
		return NEXT;
	if (!shm_key_equal(it + 1, key->bytes, key->n_bytes) || it->epoch != key->epoch)
		return NEXT;
	uint64_t expiry = shm_load_rlx(&it->expiry_ns);
	if (expiry && shm_read_is_over(l->r, expiry) && !MUTANT(2)) /* 2: expiry is not looked at */
		return EXPIRED;
	*l->ret = (struct shm_found){.item = it,
		.value = (const uint8_t *)it + value_off,
		.value_bytes = shm_lens_extent(lens),
		.pin = l->pin_base | off,
		.gen = l->gen};
	return 0;
}

/* What look_compare() says is too long: is it the key's entry that says that there is none?
 * READ_ABSENT, NEXT, EXPIRED, -EBADMSG. */
READ_INLINE int look_absent(struct look *l, uint64_t word)
{
	const struct shm_key *key = l->key;
	uint64_t off = shm_word_off(word);
	const struct shm_item *it = (const struct shm_item *)(const void *)(l->m->base + off);

	if (off + sizeof *it > l->m->bytes)
		return -EBADMSG;
	uint64_t lens = *(
		const uint64_t volatile *)&it->lens; /* bare: one read of hostile lengths */
	if (!(lens & SHM_LENS_ABSENT) ||
		shm_item_bytes(shm_lens_key(lens), shm_lens_value(lens)) > l->m->bytes - off)
		return -EBADMSG;
	if (shm_lens_key(lens) != key->n_bytes || it->store_id != key->store_id ||
		it->epoch != key->epoch || !shm_key_equal(it + 1, key->bytes, key->n_bytes))
		return NEXT;
	uint64_t expiry = shm_load_rlx(&it->expiry_ns);
	if (expiry && shm_read_is_over(l->r, expiry))
		return EXPIRED;
	*l->ret = (struct shm_found){.item = it, .pin = l->pin_base | off, .gen = l->gen};
	return READ_ABSENT;
}

/* The slot held `word`, whose tag fits: pin, look again.  0, AGAIN. */
READ_INLINE int look_pin(struct look *l, const shm_u64 *slot, uint64_t word)
{
	STEP("reader:slot-loaded");
	pin_set(l->cell, l->pin_base | shm_word_off(word), l->full_fence);
	STEP("reader:pinned");
	/* acq:index.slot: not the item's former incarnation (rule P2). */
	if (shm_load_acq(slot) != word && !MUTANT(3)) /* 3: no second look at the slot */
		return AGAIN;
	/* acq:pool.table: the slot was a slot, not reused memory of a retired table (rule P7). */
	if (shm_load_acq(&pool_of(l->m)->table) != l->table_word &&
		!MUTANT(4)) /* 4: nor at the table */
		return AGAIN;
	STEP("reader:rechecked");
	return 0;
}

/* Pins the table that look_of() has read of.  0, AGAIN. */
READ_INLINE int look_begin(struct look *l)
{
	/* acq:gen.pin: before the table is looked at again: a pool that starts empty has no table first, and then
	 * another generation. */
	l->gen = shm_load_acq(l->r->pin_gen);
	l->pin_base = shm_word_make(l->gen, 0, l->m->pool_idx);
	pin_set(&l->r->block->pin[SHM_PIN_TABLE], l->pin_base | shm_word_off(l->table_word),
		l->full_fence);
	STEP("reader:table-pinned");
	/* acq:pool.table */
	return shm_load_acq(&pool_of(l->m)->table) == l->table_word ? 0 : AGAIN;
}

/* The key's item if a slot of b names it: 0, NEXT, AGAIN, EXPIRED, READ_ABSENT, -EBADMSG.
 * *seen gets the flags of all slots that were looked at. */
READ_INLINE int look_bucket(struct look *l, const struct shm_bucket *b, uint64_t *seen)
{
	uint64_t tag = shm_hash_tag(l->key->hash);

	for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
		uint64_t w = shm_load_acq(&b->slot[i]); /* acq:index.slot acq:index.moved */
		*seen |= w;
		if (shm_word_top(w) != tag || (w & SHM_SLOT_MOVED) || shm_word_off(w) == 0)
			continue;
		int e = look_pin(l, &b->slot[i], w);
		if (e == 0)
			e = look_compare(l, w);
		if (e == -EBADMSG)
			e = look_absent(l, w);
		if (e != NEXT)
			return e;
	}
	return NEXT;
}

/* The first bucket of the key's chain in the table of this word; NULL: damage. */
READ_INLINE const struct shm_bucket *look_chain(const struct look *l, uint64_t word)
{
	const struct shm_bucket *b = buckets_of(l->m, word);

	return b ? b + shm_hash_bucket(l->key->hash, (uint32_t)shm_word_top(word)) : NULL;
}

READ_INLINE int look_end(const struct look *l, int e)
{
	shm_read_unpin(l->r->block, SHM_PIN_TABLE);
	STEP("reader:found");
	return e;
}

/* ------------------------------------------------------------ the simplest look-up
 *
 * What nearly all look-ups are: a hit in the first bucket.  In three steps, so that the caller has
 * something to do while the bucket comes, and while the item comes.  A step that returns false has
 * found out nothing: pins may be set; shm_read_find_any() is to be asked, from the beginning. */

/* Where the key's bucket is in the table of this word: bytes from the pool's start, of any size. */
READ_INLINE uint64_t look_bucket_off(uint64_t word, uint64_t hash)
{
	uint64_t at = shm_hash_bucket(hash, (uint32_t)shm_word_top(word) & 63);

	return shm_word_off(word) + sizeof(struct shm_table) + at * sizeof(struct shm_bucket);
}

/* The table word; asks for the bucket. */
READ_INLINE uint64_t look_ahead(const struct shm_map *m, uint64_t hash)
{
	uint64_t word = shm_load_acq(&pool_of(m)->table); /* acq:pool.table */

	/* A number, not a pointer: nobody has bounded it yet, and a prefetch of anything does no harm. */
	__builtin_prefetch(
		(const void *)((uintptr_t)m->base + (uintptr_t)look_bucket_off(word, hash)));
	return word;
}

/* Pins the table, and what the bucket names by the key's tag; asks for its lines: `ahead` bytes. */
READ_INLINE bool look_first(struct look *l, uint32_t ahead, uint64_t *ret_word)
{
	uint64_t off = look_bucket_off(l->table_word, l->key->hash);

	if (off > l->m->bytes - sizeof(struct shm_bucket) || look_begin(l) != 0)
		return false;
	const struct shm_bucket *b = (const struct shm_bucket *)(const void *)(l->m->base + off);
	uint32_t tags = shm_bucket_tags(b, shm_hash_tag(l->key->hash));
	if (tags == 0)
		return false;
	const shm_u64 *slot = shm_bucket_first(b, tags);
	uint64_t w = shm_load_acq(slot); /* acq:index.slot */
	const uint8_t *item = l->m->base + shm_word_off(w);
	for (uint32_t at = 0; at < ahead; at += SHM_LINE)
		__builtin_prefetch(item + LOOK_HOT + at);
	*ret_word = w;
	return !(w & SHM_SLOT_MOVED) && look_pin(l, slot, w) == 0;
}

#endif

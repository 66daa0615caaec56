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

#define READ_INLINE static inline __attribute__((always_inline))

/* One call's constants and what it has seen. */
struct look {
	const struct shm_reader *r;
	const struct shm_map *m;
	const struct shm_key *key;
	struct shm_found *ret;
	uint64_t table_word; /* look-ups began here */
	uint64_t gen;        /* pin generation */
	uint64_t pin_base;   /* a pin word without its offset */
	uint32_t cell;
};

/* The pinned item at off: is it the key's?  0, NEXT, EXPIRED, -EBADMSG. */
READ_INLINE int look_compare(struct look *l, uint64_t off, uint64_t pin)
{
	const struct shm_key *key = l->key;
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
	if (off + value_off + shm_lens_value(lens) > l->m->bytes &&
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
		.value_bytes = shm_lens_value(lens),
		.pin = pin,
		.gen = l->gen};
	return 0;
}

/* The slot held `word`, whose tag fits: pin, look again, compare. */
READ_INLINE int look_try_slot(struct look *l, const shm_u64 *slot, uint64_t word)
{
	uint64_t off = shm_word_off(word);
	uint64_t pin = l->pin_base | off;

	STEP("reader:slot-loaded");
	pin_set(l->r, l->cell, pin);
	STEP("reader:pinned");
	/* acq:index.slot: not the item's former incarnation (rule P2). */
	if (shm_load_acq(slot) != word && !MUTANT(3)) /* 3: no second look at the slot */
		return AGAIN;
	/* acq:pool.table: the slot was a slot, not reused memory of a retired table (rule P7). */
	if (shm_load_acq(&pool_of(l->m)->table) != l->table_word &&
		!MUTANT(4)) /* 4: nor at the table */
		return AGAIN;
	STEP("reader:rechecked");
	return look_compare(l, off, pin);
}

/* Pins the table.  0, AGAIN. */
READ_INLINE int look_begin(struct look *l)
{
	const struct shm_pool *p = pool_of(l->m);

	l->gen = shm_load_rlx(l->r->pin_gen);
	l->pin_base = shm_word_make(l->gen, 0, l->m->pool_idx);
	l->table_word = shm_load_acq(&p->table); /* acq:pool.table */
	pin_set(l->r, SHM_PIN_TABLE, l->pin_base | shm_word_off(l->table_word));
	STEP("reader:table-pinned");
	return shm_load_acq(&p->table) == l->table_word ? 0 : AGAIN; /* acq:pool.table */
}

/* The key's item if a slot of b names it: 0, NEXT, AGAIN, EXPIRED, -EBADMSG.
 * *seen gets the flags of all slots that were looked at. */
READ_INLINE int look_bucket(struct look *l, const struct shm_bucket *b, uint64_t *seen)
{
	uint64_t tag = shm_hash_tag(l->key->hash);

	for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
		uint64_t w = shm_load_acq(&b->slot[i]); /* acq:index.slot acq:index.moved */
		*seen |= w;
		if (shm_word_top(w) != tag || (w & SHM_SLOT_MOVED) || shm_word_off(w) == 0)
			continue;
		int e = look_try_slot(l, &b->slot[i], w);
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

/* What nearly all look-ups are: a hit in the first bucket.  0, as shm_read_find(); else nothing
 * was found out, pins may be set, and shm_read_find_any() is to be asked. */
READ_INLINE int shm_read_find_first(const struct shm_reader *r, const struct shm_map *m,
	const struct shm_key *key, uint32_t cell, struct shm_found *ret)
{
	struct look l = {.r = r, .m = m, .key = key, .ret = ret, .cell = cell};
	const struct shm_bucket *b;
	uint64_t seen = 0;

	if (look_begin(&l) != 0)
		return AGAIN;
	b = look_chain(&l, l.table_word);
	if (!b || look_bucket(&l, b, &seen) != 0)
		return AGAIN;
	return look_end(&l, 0);
}

#endif

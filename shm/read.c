/* read.c - see read.h.  Everything that comes from shared memory is read once
 * and bounded before it is used. */
#include "read_find.h"
#include <errno.h>
#include <time.h>

uint64_t shm_key_hash_long(const void *bytes, size_t n, uint64_t store_seed)
{
	return XXH3_64bits_withSeed(bytes, n, store_seed);
}

#define NS_PER_S 1000000000ull

static uint64_t now_ns(const struct shm_reader *r, clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec + (uint64_t)r->time_off_ns;
}

uint64_t shm_read_now_ns(const struct shm_reader *r) { return now_ns(r, CLOCK_MONOTONIC); }

bool shm_read_is_over(const struct shm_reader *r, uint64_t expiry_ns)
{
	uint64_t behind_ns = now_ns(r, CLOCK_MONOTONIC_COARSE); /* never ahead of the exact clock */

	if (expiry_ns <= behind_ns)
		return true;
	if (expiry_ns - behind_ns > NS_PER_S || MUTANT(231)) /* 231: the coarse one decides */
		return false;
	return expiry_ns <= shm_read_now_ns(r);
}

/* Walks one chain of the table that `word` names.  0, READ_MISS, EXPIRED, AGAIN, LONG, -EBADMSG.
 * *ret_moved: the key may be in the next table. */
static int walk_chain(struct look *l, uint64_t word, bool *ret_moved)
{
	const struct shm_bucket *b = look_chain(l, word);
	uint64_t seen = 0;

	for (int n = 0; n < SHM_CHAIN_MAX; n++) {
		if (!b)
			return -EBADMSG;
		int e = look_bucket(l, b, &seen);
		if (e != NEXT)
			return e;
		/* acq:index.slot acq:index.moved: an overflow bucket is zeroed before it is linked. */
		uint64_t link = shm_load_acq(&b->link);
		seen |= link;
		*ret_moved = seen & SHM_SLOT_MOVED;
		if (shm_word_off(link) == 0)
			return READ_MISS;
		b = overflow_of(l->m, shm_word_off(link));
	}
	return LONG;
}

/* The chain of the key in the first table, and where it moved to.  As walk_chain. */
static int walk_tables(struct look *l)
{
	uint64_t word = l->table_word;

	for (int n = 0; n < TABLES_MAX; n++) {
		bool moved = false;
		int e = walk_chain(l, word, &moved);
		if (e != READ_MISS || !moved || MUTANT(5)) /* 5: MOVED is taken for a miss */
			return e;
		const struct shm_table *t = (const struct shm_table *)(const void *)(l->m->base +
										     shm_word_off(
											     word));
		/* acq:pool.table: the next table is whole before a MOVED leads there. */
		word = shm_load_acq(&t->next);
		if (word == 0)
			return AGAIN; /* the table was retired and reused meanwhile */
	}
	return AGAIN;
}

static int try_once(struct look *l)
{
	int e;

	l->table_word = shm_load_acq(&pool_of(l->m)->table); /* acq:pool.table */
	e = look_begin(l);
	if (e == 0)
		e = walk_tables(l);
	/* What a retired table said, or an item that was reused because our pins were
	 * revoked meanwhile, does not count. */
	if ((e == READ_MISS || e == READ_ABSENT || e == EXPIRED || e == LONG || e < 0) &&
		(shm_load_acq(&pool_of(l->m)->table) != l->table_word || /* acq:pool.table */
			!shm_read_ok(l->r->pin_gen, l->gen)))
		return AGAIN;
	return e;
}

int shm_read_find_any(const struct shm_reader *r, const struct shm_map *m,
	const struct shm_key *key, uint32_t cell, struct shm_found *ret)
{
	struct look l = look_of(r, m, key, &r->block->pin[cell], 0, ret);
	int e = AGAIN;

	for (int n = 0; n < TRIES && (e == AGAIN || e == LONG); n++) {
		e = try_once(&l);
		if (e == AGAIN || e == LONG)
			shm_count(&r->block->counter[SHM_BC_retries], 1);
	}
	if (e == LONG)
		e = -EBADMSG; /* at every try: it has no end */
	if (e == EXPIRED) {
		shm_count(&r->block->counter[SHM_BC_expired_seen], 1);
		e = READ_MISS;
	}
	if (e != 0)
		shm_read_unpin(r->block, cell);
	if (e < 0)
		shm_count(&r->block->counter[SHM_BC_damage_seen], 1);
	return look_end(&l, e == AGAIN ? READ_BUSY : e);
}

int shm_read_find(const struct shm_reader *r, const struct shm_map *m, const struct shm_key *key,
	uint32_t cell, struct shm_found *ret)
{
	uint64_t table = look_ahead(m, key->hash), word;
	struct look l = look_of(r, m, key, &r->block->pin[cell], table, ret);

	if (look_first(&l, LOOK_ITEM, &word) && look_compare(&l, word) == 0)
		return look_end(&l, 0);
	return shm_read_find_any(r, m, key, cell, ret);
}

void shm_read_prefetch_bucket(const struct shm_map *m, uint64_t hash)
{
	uint64_t word = shm_load_acq(&pool_of(m)->table); /* acq:pool.table */
	const struct shm_bucket *b = buckets_of(m, word);

	if (b)
		__builtin_prefetch(b + shm_hash_bucket(hash, (uint32_t)shm_word_top(word)));
}

uint64_t shm_read_table_pin(const struct shm_reader *r, const struct shm_map *m)
{
	const struct shm_pool *p = pool_of(m);
	uint64_t gen = shm_load_rlx(r->pin_gen),
		 word = shm_load_acq(&p->table); /* acq:pool.table */

	pin_set(&r->block->pin[SHM_PIN_TABLE], shm_word_make(gen, shm_word_off(word), m->pool_idx),
		r->full_fence);
	return shm_load_acq(&p->table) == word ? word : 0; /* acq:pool.table */
}

void shm_read_prefetch_item(const struct shm_map *m, uint64_t table, uint64_t hash)
{
	const struct shm_bucket *b = buckets_of(m, table);

	if (!b)
		return;
	b += shm_hash_bucket(hash, (uint32_t)shm_word_top(table));
	for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
		uint64_t w = shm_load_rlx(&b->slot[i]);
		if (shm_word_top(w) != shm_hash_tag(hash) || shm_word_off(w) >= m->bytes)
			continue;
		const uint8_t *p = m->base + shm_word_off(w);
		for (uint32_t line = 0; line < 6; line++) /* a header, a short key, 256 bytes */
			__builtin_prefetch(p + 40 + line * SHM_LINE);
		return;
	}
}

/* read.c - see read.h.  Everything that comes from shared memory is read once
 * and bounded before it is used. */
#include "read_i.h"
#include <errno.h>
#include <time.h>

#define NS_PER_S 1000000000ull

uint64_t shm_read_now_ns(const struct shm_reader *r)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	uint64_t mine = (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec + r->coarse_res_ns;
	return mine + (uint64_t)r->time_off_ns;
}

/* One call's constants and what it has seen. */
struct look {
	const struct shm_reader *r;
	const struct shm_map *m;
	const struct shm_key *key;
	struct shm_found *ret;
	uint64_t table_word; /* look-ups began here */
	uint64_t gen;        /* pin generation */
	uint32_t cell;
	bool moved; /* a MOVED was met in this chain */
};

/* The pinned item at off: is it the key's?  0, NEXT, READ_MISS (expired), -EBADMSG. */
static int compare(struct look *l, uint64_t off, uint64_t pin)
{
	const struct shm_map *m = l->m;
	const struct shm_item *it = (const struct shm_item *)(const void *)(m->base + off);

	if (m->bytes < sizeof *it || off > m->bytes - sizeof *it)
		return -EBADMSG;
	if (it->hash != l->key->hash)
		return NEXT;
	uint64_t lens = *(
		const uint64_t volatile *)&it->lens; /* bare: one read of hostile lengths */
	uint64_t key_bytes = shm_lens_key(lens), value_bytes = shm_lens_value(lens);
	if (shm_item_bytes(key_bytes, value_bytes) > m->bytes - off)
		return -EBADMSG;
	const uint8_t *key = (const uint8_t *)(it + 1);
	if (key_bytes != l->key->n_bytes || it->store_id != l->key->store_id ||
		memcmp(key, l->key->bytes, l->key->n_bytes) != 0)
		return NEXT;
	if (it->epoch != l->key->epoch)
		return NEXT;
	uint64_t expiry = shm_load_rlx(&it->expiry_ns);
	if (expiry && !MUTANT(2) &&
		shm_read_now_ns(l->r) >= expiry) { /* 2: expiry is not looked at */
		shm_count(&l->r->block->counter[SHM_BC_expired_seen], 1);
		return READ_MISS;
	}
	l->ret->item = it;
	l->ret->value = (const uint8_t *)it + shm_item_value_off(key_bytes);
	l->ret->value_bytes = value_bytes;
	l->ret->pin = pin;
	l->ret->gen = l->gen;
	return 0;
}

/* The slot held `word`, whose tag fits: pin, look again, compare. */
static int try_slot(struct look *l, const shm_u64 *slot, uint64_t word)
{
	uint64_t off = shm_word_off(word);
	uint64_t pin = shm_word_make(l->gen, off, l->m->pool_idx);

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
	return compare(l, off, pin);
}

/* Walks one chain of the table that `word` names.  0, READ_MISS, AGAIN, LONG, -EBADMSG. */
static int walk_chain(struct look *l, uint64_t word)
{
	const struct shm_bucket *b = buckets_of(l->m, word);
	uint64_t tag = shm_hash_tag(l->key->hash);

	if (!b)
		return -EBADMSG;
	b += shm_hash_bucket(l->key->hash, (uint32_t)shm_word_top(word));
	for (int n = 0; n < SHM_CHAIN_MAX; n++) {
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			/* acq:index.slot acq:index.moved */
			uint64_t w = shm_load_acq(&b->slot[i]);
			if (shm_word_top(w) != tag && !(w & SHM_SLOT_MOVED))
				continue;
			if (w & SHM_SLOT_MOVED) {
				l->moved = true;
				continue;
			}
			if (shm_word_off(w) == 0)
				continue;
			int e = try_slot(l, &b->slot[i], w);
			if (e != NEXT)
				return e;
		}
		/* acq:index.slot acq:index.moved: an overflow bucket is zeroed before it is linked. */
		uint64_t link = shm_load_acq(&b->link);
		if (link & SHM_SLOT_MOVED)
			l->moved = true;
		if (shm_word_off(link) == 0)
			return READ_MISS;
		b = overflow_of(l->m, shm_word_off(link));
		if (!b)
			return -EBADMSG;
	}
	return LONG;
}

/* The chain of the key in the first table, and where it moved to.  As walk_chain. */
static int walk_tables(struct look *l)
{
	uint64_t word = l->table_word;

	for (int n = 0; n < TABLES_MAX; n++) {
		l->moved = false;
		int e = walk_chain(l, word);
		if (e != READ_MISS || !l->moved || MUTANT(5)) /* 5: MOVED is taken for a miss */
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
	const struct shm_pool *p = pool_of(l->m);

	l->gen = shm_load_rlx(l->r->pin_gen);
	l->table_word = shm_load_acq(&p->table); /* acq:pool.table */
	pin_set(l->r, SHM_PIN_TABLE,
		shm_word_make(l->gen, shm_word_off(l->table_word), l->m->pool_idx));
	STEP("reader:table-pinned");
	if (shm_load_acq(&p->table) != l->table_word) /* acq:pool.table */
		return AGAIN;
	int e = walk_tables(l);
	/* What a retired table said, or an item that was reused because our pins were
	 * revoked meanwhile, does not count. */
	if ((e == READ_MISS || e == LONG || e < 0) &&
		(shm_load_acq(&p->table) != l->table_word || /* acq:pool.table */
			!shm_read_ok(l->r->pin_gen, l->gen)))
		return AGAIN;
	return e;
}

int shm_read_find(const struct shm_reader *r, const struct shm_map *m, const struct shm_key *key,
	uint32_t cell, struct shm_found *ret)
{
	struct look l = {.r = r, .m = m, .key = key, .ret = ret, .cell = cell};
	int e = AGAIN;

	for (int n = 0; n < TRIES && (e == AGAIN || e == LONG); n++) {
		e = try_once(&l);
		if (e == AGAIN || e == LONG)
			shm_count(&r->block->counter[SHM_BC_retries], 1);
	}
	if (e == LONG)
		e = -EBADMSG; /* at every try: it has no end */
	if (e != 0)
		shm_read_unpin(r->block, cell);
	shm_read_unpin(r->block, SHM_PIN_TABLE);
	if (e < 0)
		shm_count(&r->block->counter[SHM_BC_damage_seen], 1);
	STEP("reader:found");
	return e == AGAIN ? READ_BUSY : e;
}

bool shm_read_ok(const shm_u64 *pin_gen, uint64_t gen)
{
	/* acq:gen.pin: the reads of the item come before this load (rule P12). */
	atomic_thread_fence(memory_order_acquire);
	return shm_load_rlx(pin_gen) == gen;
}

void shm_read_prefetch_bucket(const struct shm_map *m, uint64_t hash)
{
	uint64_t word = shm_load_acq(&pool_of(m)->table); /* acq:pool.table */
	const struct shm_bucket *b = buckets_of(m, word);

	if (b)
		__builtin_prefetch(b + shm_hash_bucket(hash, (uint32_t)shm_word_top(word)));
}

void shm_read_prefetch_item(const struct shm_map *m, uint64_t hash)
{
	uint64_t word = shm_load_acq(&pool_of(m)->table); /* acq:pool.table */
	const struct shm_bucket *b = buckets_of(m, word);

	if (!b)
		return;
	b += shm_hash_bucket(hash, (uint32_t)shm_word_top(word));
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

/* read_scan.c - see read_scan.h.  The steps are those of read.c, for a whole chain:
 * pin the table, walk the chain, pin each item, look again, and follow MOVED into the
 * next table, where the chain has become two. */
#include "read_scan.h"
#include <errno.h>
#include "read_i.h"

struct walk {
	const struct shm_reader *r;
	const struct shm_map *m;
	const struct shm_scan *scan;
	shm_scan_fn *fn;
	void *arg;
	uint64_t table_word, gen;
	bool moved;
};

/* The pinned item: does it belong to the scan?  0 and *f, *ret_key..; NEXT; -EBADMSG. */
static int look_at(const struct walk *w, uint64_t off, struct shm_found *f, uint64_t *ret_key_bytes)
{
	const struct shm_item *it = (const struct shm_item *)(const void *)(w->m->base + off);

	if (w->m->bytes < sizeof *it || off > w->m->bytes - sizeof *it)
		return -EBADMSG;
	/* bare: one read of hostile lengths */
	uint64_t lens = *(const uint64_t volatile *)&it->lens; /* bare: see above */
	uint64_t key_bytes = shm_lens_key(lens), value_bytes = shm_lens_value(lens);
	if (shm_item_bytes(key_bytes, value_bytes) > w->m->bytes - off &&
		!MUTANT(146)) /* 146: lengths are believed */
		return -EBADMSG;
	if (it->store_id != w->scan->store_id || it->epoch != w->scan->epoch ||
		key_bytes < w->scan->prefix_bytes ||
		(w->scan->prefix_bytes &&
			memcmp(it + 1, w->scan->prefix, w->scan->prefix_bytes) != 0))
		return NEXT;
	if ((lens & SHM_LENS_ABSENT) && !w->scan->absent)
		return NEXT;
	uint64_t expiry = shm_load_rlx(&it->expiry_ns);
	if (expiry && shm_read_is_over(w->r, expiry))
		return NEXT;
	f->item = it;
	f->value = (const uint8_t *)it + shm_item_value_off(key_bytes);
	f->value_bytes = value_bytes;
	f->gen = w->gen;
	*ret_key_bytes = key_bytes;
	return 0;
}

/* One slot that names an item.  0: done with it, reported or not; AGAIN; SCAN_REVOKED;
 * -EBADMSG; what fn said. */
static int report_slot(struct walk *w, const shm_u64 *slot, uint64_t word)
{
	struct shm_found f;
	uint64_t key_bytes;

	f.pin = shm_word_make(w->gen, shm_word_off(word), w->m->pool_idx);
	STEP("reader:scan-loaded");
	pin_set(&w->r->block->pin[w->scan->cell], f.pin, w->r->full_fence);
	STEP("reader:scan-pinned");
	if (shm_load_acq(slot) != word && !MUTANT(17)) /* acq:index.slot 17: no second look */
		return AGAIN;
	if (shm_load_acq(&pool_of(w->m)->table) != w->table_word) /* acq:pool.table */
		return AGAIN;
	int e = look_at(w, shm_word_off(word), &f, &key_bytes);
	if (e == 0)
		e = w->fn(w->arg, f.item + 1, key_bytes, &f);
	if (!shm_read_ok(w->r->pin_gen, w->gen))
		return SCAN_REVOKED;
	return e == NEXT ? 0 : e;
}

/* A slot whose word changes is looked at again: the new word may be the key that was there. */
static int walk_slot(struct walk *w, const shm_u64 *slot)
{
	for (int n = 0; n < TRIES; n++) {
		/* acq:index.slot acq:index.moved */
		uint64_t word = shm_load_acq(slot);
		if (word & SHM_SLOT_MOVED)
			w->moved = true;
		if ((word & SHM_SLOT_MOVED) || shm_word_off(word) == 0)
			return 0;
		int e = report_slot(w, slot, word);
		if (e != AGAIN)
			return e;
		if (shm_load_acq(&pool_of(w->m)->table) != w->table_word) /* acq:pool.table */
			return AGAIN;
	}
	return AGAIN;
}

static int walk_chain(struct walk *w, uint64_t table_word, uint64_t chain)
{
	const struct shm_bucket *b = buckets_of(w->m, table_word);

	if (!b)
		return -EBADMSG;
	b += chain;
	for (int n = 0; n < SHM_CHAIN_MAX; n++) {
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			int e = walk_slot(w, &b->slot[i]);
			if (e != 0)
				return e;
		}
		/* acq:index.slot acq:index.moved */
		uint64_t link = shm_load_acq(&b->link);
		if (link & SHM_SLOT_MOVED)
			w->moved = true;
		if (shm_word_off(link) == 0)
			return 0;
		b = overflow_of(w->m, shm_word_off(link));
		if (!b)
			return -EBADMSG;
	}
	return LONG;
}

/* The chain of the first table, and the two that it has become, as far as it has. */
static int walk_both(struct walk *w, uint64_t chain)
{
	int e = walk_chain(w, w->table_word, chain);

	if (e != 0 || !w->moved || MUTANT(16)) /* 16: what has moved is not looked for */
		return e;
	const struct shm_table *t =
		(const struct shm_table *)(const void *)(w->m->base + shm_word_off(w->table_word));
	uint64_t next = shm_load_acq(&t->next); /* acq:pool.table */
	if (shm_word_top(next) != shm_word_top(w->table_word) + 1)
		return AGAIN; /* the table was retired and reused meanwhile */
	e = walk_chain(w, next, 2 * chain);
	return e != 0 ? e : walk_chain(w, next, 2 * chain + 1);
}

static int scan_once(struct walk *w, uint64_t *cursor)
{
	const struct shm_pool *p = pool_of(w->m);

	w->gen = shm_load_rlx(w->r->pin_gen);
	w->table_word = shm_load_acq(&p->table); /* acq:pool.table */
	w->moved = false;
	pin_set(&w->r->block->pin[SHM_PIN_TABLE],
		shm_word_make(w->gen, shm_word_off(w->table_word), w->m->pool_idx),
		w->r->full_fence);
	if (shm_load_acq(&p->table) != w->table_word) /* acq:pool.table */
		return AGAIN;
	uint32_t log2 = (uint32_t)shm_word_top(w->table_word);
	if (log2 == 0 || log2 > SHM_LOG2_BUCKETS_MAX)
		return -EBADMSG;
	uint64_t chain = shm_hash_bucket(*cursor, log2);
	int e = walk_both(w, chain);
	/* What a retired table showed does not count: this chain is walked again. */
	if (e <= 0 && shm_load_acq(&p->table) != w->table_word) /* acq:pool.table */
		return AGAIN;
	if (e != 0)
		return e;
	*cursor = (chain + 1) << (64 - log2);
	return chain + 1 == 1ull << log2 ? SCAN_END : 0;
}

int shm_read_scan(const struct shm_reader *r, const struct shm_map *m, const struct shm_scan *scan,
	uint64_t *cursor, shm_scan_fn *fn, void *arg)
{
	struct walk w = {.r = r, .m = m, .scan = scan, .fn = fn, .arg = arg};
	int e = AGAIN;

	for (int n = 0; n < TRIES && (e == AGAIN || e == LONG); n++)
		e = scan_once(&w, cursor);
	if (e == LONG)
		e = -EBADMSG; /* at every try: the chain has no end */
	shm_read_unpin(r->block, scan->cell);
	shm_read_unpin(r->block, SHM_PIN_TABLE);
	STEP("reader:scanned");
	return e == AGAIN ? SCAN_BUSY : e;
}

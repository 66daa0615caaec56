/* index_write.c - chains, slots and growth; see index_write.h and layout/l_table.h. */
#include "index_write.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "atomic.h"
#include "base/check.h"
#include "step.h"

enum {
	ENTRIES_PER_BUCKET =
		5, /* growth is due above it: 13 % of the chains then have an overflow */
	STAYS_PER_BUCKET = 4,
	TIGHT_PER_BUCKET = 2, /* or above it, when all overflow buckets are in use */
	EARLY_PER_BUCKET =
		3,        /* growth is due above it already when free pages are about to run out: */
	EARLY_TABLES = 4, /* so many of the next table */
	EARLY_MASK = 63,  /* looked at with every 64th entry */
	GROW_RETRY_MASK = 1023, /* with no room for a larger table: look again every 1024 changes */
};

/* ------------------------------------------------------------ geometry */

uint64_t shm_index_overflow(uint32_t log2_buckets) { return (1ull << log2_buckets) / 4; }

uint64_t shm_index_bytes(uint32_t log2_buckets, uint64_t n_overflow)
{
	return sizeof(struct shm_table) +
	       ((1ull << log2_buckets) + n_overflow) * sizeof(struct shm_bucket);
}

static struct shm_bucket *bucket_at(const struct shm_wtable *t, uint64_t idx)
{
	return (struct shm_bucket *)(t->t + 1) + idx;
}

static uint64_t n_buckets(const struct shm_wtable *t) { return 1ull << t->log2_buckets; }

static uint64_t off_of(const struct shm_wpool *w, const void *p)
{
	return (uint64_t)((const uint8_t *)p - w->base);
}

/* The next bucket of a chain, or NULL at its end.  Our own link: CHECKed. */
static struct shm_bucket *next_of(
	const struct shm_wpool *w, const struct shm_wtable *t, struct shm_bucket *b)
{
	uint64_t off = shm_word_off(shm_load_rlx(&b->link));

	if (off == 0)
		return NULL;
	struct shm_bucket *n = (struct shm_bucket *)(void *)(w->base + off);
	CHECK(n >= bucket_at(t, n_buckets(t)) && n < bucket_at(t, n_buckets(t) + t->n_overflow));
	return n;
}

int shm_index_create(struct shm_wpool *w, uint32_t log2_buckets, struct shm_wtable *ret)
{
	uint64_t n_overflow = shm_index_overflow(log2_buckets), off;
	uint64_t bytes = shm_index_bytes(log2_buckets, n_overflow);
	int e = shm_alloc_take_table(w->alloc, bytes, &off);

	if (e)
		return e;
	uint8_t *linked = calloc(n_overflow, 1);
	if (!linked) {
		shm_alloc_give(w->alloc, off);
		return ALLOC_FULL;
	}
	struct shm_table *t = (struct shm_table *)(void *)(w->base + off);
	memset(t, 0, bytes);
	t->magic = SHM_TABLE_MAGIC;
	t->log2_buckets = log2_buckets;
	t->n_overflow = n_overflow;
	*ret = (struct shm_wtable){.t = t,
		.off = off,
		.log2_buckets = log2_buckets,
		.word = shm_word_make(log2_buckets, off, 0),
		.n_overflow = n_overflow,
		.linked = linked};
	w->index_bytes += shm_alloc_place_bytes(w->alloc, off);
	return 0;
}

int shm_index_attach(struct shm_wpool *w, uint64_t word, struct shm_wtable *ret)
{
	uint64_t off = shm_word_off(word), log2 = shm_word_top(word);

	if (off == 0 || off > w->bytes - sizeof(struct shm_table) || log2 > SHM_LOG2_BUCKETS_MAX ||
		!shm_alloc_is_used(w->alloc, off))
		return -EBADMSG;
	struct shm_table *t = (struct shm_table *)(void *)(w->base + off);
	if (t->magic != SHM_TABLE_MAGIC || t->log2_buckets != log2 ||
		t->n_overflow != shm_index_overflow((uint32_t)log2))
		return -EBADMSG;
	uint64_t bytes = shm_index_bytes((uint32_t)log2, t->n_overflow);
	if (bytes > w->bytes - off || shm_alloc_claim(w->alloc, off, bytes) != 0)
		return -EBADMSG;
	*ret = (struct shm_wtable){.t = t,
		.off = off,
		.log2_buckets = (uint32_t)log2,
		.word = shm_word_make(log2, off, 0),
		.n_overflow = t->n_overflow};
	w->index_bytes += shm_alloc_place_bytes(w->alloc, off);
	return 0;
}

/* ------------------------------------------------------------ chains */

/* Appends an empty overflow bucket behind `last`, keeping `spare` unused ones.  NULL: none left. */
static struct shm_bucket *append(
	struct shm_wpool *w, struct shm_wtable *t, struct shm_bucket *last, uint64_t spare)
{
	if (t->overflow_used + spare >= t->n_overflow)
		return NULL;
	while (t->linked[t->overflow_hint])
		CHECK(++t->overflow_hint < t->n_overflow);
	struct shm_bucket *b = bucket_at(t, n_buckets(t) + t->overflow_hint);
	t->linked[t->overflow_hint] = 1;
	t->overflow_used++;
	/* It is empty already, but for damage. */
	for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
		shm_store_rlx(&b->slot[i], 0);
	shm_store_rlx(&b->link, 0);
	/* rel:index.slot: an empty bucket is whole, and harmless to link. */
	shm_store_rel(&last->link, off_of(w, b));
	STEP("index:linked");
	return b;
}

static bool is_empty(const struct shm_bucket *b)
{
	for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
		if (shm_load_rlx(&b->slot[i]))
			return false;
	return true;
}

/* Takes an empty last overflow bucket off its chain, for any other.  True: done, there may be one more.
 *
 * A reader may stand on it, and go on in another chain: rule P5 says why it misses nothing. */
static bool trim_last(struct shm_wpool *w, struct shm_wtable *t, struct shm_bucket *first)
{
	struct shm_bucket *last = first, *before = NULL, *b;

	while ((b = next_of(w, t, last)) != NULL) {
		before = last;
		last = b;
	}
	if (!before || (!is_empty(last) && !MUTANT(18))) /* 18: entries go with their bucket */
		return false;
	uint64_t idx = (uint64_t)(last - bucket_at(t, n_buckets(t)));
	shm_store_rel(&before->link, 0); /* rel:index.slot */
	STEP("index:unlinked");
	t->linked[idx] = 0;
	t->overflow_used--;
	t->overflow_hint = idx < t->overflow_hint ? idx : t->overflow_hint;
	return true;
}

/* Walks a chain: a slot for which `fits` says yes, else a free one. */
struct want {
	const struct shm_key *key; /* NULL: by place */
	uint64_t hash, off;
};

static bool fits(const struct shm_wpool *w, const struct want *want, uint64_t word)
{
	if (!want->key)
		return shm_word_off(word) == want->off;
	const struct shm_item *it = shm_pool_item(w, shm_word_off(word));
	const struct shm_key *k = want->key;
	return it->hash == k->hash && shm_lens_key(it->lens) == k->n_bytes &&
	       it->store_id == k->store_id && memcmp(it + 1, k->bytes, k->n_bytes) == 0;
}

static void ref_set(const struct shm_wpool *w, shm_u64 *slot, struct shm_ref *ret)
{
	*ret = (struct shm_ref){
		.slot = slot, .slot_off = off_of(w, slot), .word = shm_load_rlx(slot)};
}

/* 0: *ret; INDEX_MISS: *ret is a free slot; INDEX_FULL: *ret is a live one. */
static int seek_chain(struct shm_wpool *w, struct shm_wtable *t, const struct want *want,
	bool may_append, uint64_t spare, struct shm_ref *ret)
{
	struct shm_bucket *b = bucket_at(t, shm_hash_bucket(want->hash, t->log2_buckets)),
			  *last = b;
	uint64_t tag = shm_hash_tag(want->hash);
	shm_u64 *free_slot = NULL, *live_slot = NULL;
	int length = 0;

	for (; b; last = b, b = next_of(w, t, b)) {
		CHECK(++length <= SHM_CHAIN_MAX);
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			uint64_t word = shm_load_rlx(&b->slot[i]);
			CHECK(!(word & SHM_SLOT_MOVED));
			if (word == 0) {
				free_slot = free_slot ? free_slot : &b->slot[i];
			} else if (shm_word_top(word) == tag && fits(w, want, word)) {
				ref_set(w, &b->slot[i], ret);
				return 0;
			} else {
				live_slot = &b->slot[i];
			}
		}
	}
	if (!free_slot && may_append && length < SHM_CHAIN_MAX) {
		b = append(w, t, last, spare);
		free_slot = b ? &b->slot[0] : NULL;
	}
	if (free_slot) {
		ref_set(w, free_slot, ret);
		return INDEX_MISS;
	}
	if (!live_slot)
		return INDEX_MISS; /* by place, without append: an empty chain */
	ref_set(w, live_slot, ret);
	return INDEX_FULL;
}

/* ------------------------------------------------------------ growth */

static bool has_moved(const struct shm_wtable *t, uint64_t chain)
{
	return shm_load_rlx(&bucket_at(t, chain)->link) & SHM_SLOT_MOVED;
}

/* Names the item that `word` names in the next table, if it is not named there yet.  false: no
 * slot is left for it. */
static bool copy_slot(struct shm_wpool *w, uint64_t word)
{
	const struct shm_item *it = shm_pool_item(w, shm_word_off(word));
	struct want want = {.hash = it->hash, .off = shm_word_off(word)};
	struct shm_ref ref;
	int e = seek_chain(w, &w->next, &want, true, 0, &ref);

	if (e == INDEX_MISS)
		shm_store_rel(ref.slot, word); /* rel:index.slot */
	return e != INDEX_FULL;
}

/* Moves one chain as a whole.  May be begun again after a death anywhere in it.  Returns how many
 * slots found no room.  That is none (the next table has twice the overflow buckets, and
 * shm_index_seek leaves as many as the old one has) but in a table that was damaged. */
static uint32_t move_chain(struct shm_wpool *w, uint64_t chain)
{
	uint32_t lost = 0;

	for (struct shm_bucket *b = bucket_at(&w->cur, chain); b; b = next_of(w, &w->cur, b)) {
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			uint64_t word = shm_load_rlx(&b->slot[i]);
			if (word && !(word & SHM_SLOT_MOVED) &&
				!MUTANT(9) && /* 9: moved, not copied */
				!copy_slot(w, word)) {
				shm_feed_skip(&w->feed, 1);
				lost++;
			}
			STEP("grow:copied");
		}
	}
	for (struct shm_bucket *b = bucket_at(&w->cur, chain), *n; b; b = n) {
		n = next_of(w, &w->cur, b);
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			/* rel:index.moved: the copies are there (rule P6). */
			shm_store_rel(&b->slot[i], SHM_SLOT_MOVED);
			STEP("grow:moved");
		}
		/* rel:index.moved: the link's offset stays, for whoever is on the way. */
		shm_store_rel(&b->link, shm_load_rlx(&b->link) | SHM_SLOT_MOVED);
		STEP("grow:chain-moved");
	}
	return lost;
}

static uint64_t next_bytes(const struct shm_wpool *w)
{
	uint32_t log2 = w->cur.log2_buckets + 1;

	return shm_index_bytes(log2, shm_index_overflow(log2));
}

/* In a pool that fills up, a larger table is taken while there still is a run for it: later it would
 * have to be made by eviction.  But only if the pool, full of entries such as it has, will want it: of
 * entries of a KiB the larger table would be 2 % of all there is. */
static bool growth_is_wise(const struct shm_wpool *w)
{
	struct shm_alloc_stats s;

	if (w->n_entries <= EARLY_PER_BUCKET * n_buckets(&w->cur) || w->n_entries & EARLY_MASK)
		return false;
	shm_alloc_stats(w->alloc, &s);
	if (s.free_page_bytes >= EARLY_TABLES * next_bytes(w))
		return false;
	uint64_t full = w->n_entries * (s.total_bytes / SHM_PAGE) /
	                ((s.total_bytes - s.free_page_bytes) / SHM_PAGE);
	/* 262: a larger table is taken whether it will be needed or not */
	return full > ENTRIES_PER_BUCKET * n_buckets(&w->cur) || MUTANT(262);
}

/* Once there was no room for it, a growth stays due until clearly fewer entries are left: the
 * room is made by eviction. */
static bool growth_is_due(const struct shm_wpool *w)
{
	uint64_t per_bucket = w->grow_failed ? STAYS_PER_BUCKET : ENTRIES_PER_BUCKET;
	uint64_t n = w->n_expected > w->n_entries ? w->n_expected : w->n_entries;

	return w->cur.log2_buckets < SHM_LOG2_BUCKETS_MAX &&
	       (n > per_bucket * n_buckets(&w->cur) || growth_is_wise(w) ||
		       (w->tight && w->n_entries > TIGHT_PER_BUCKET * n_buckets(&w->cur)));
}

uint64_t shm_pool_grow_wants(const struct shm_wpool *w)
{
	return !w->next.t && w->grow_failed && growth_is_due(w) ? next_bytes(w) : 0;
}

static void begin_growth(struct shm_wpool *w, bool now)
{
	if (!growth_is_due(w)) {
		w->grow_failed = 0;
		return;
	}
	if (!now && w->grow_failed && (w->grow_failed++ & GROW_RETRY_MASK))
		return;
	if (shm_index_create(w, w->cur.log2_buckets + 1, &w->next) != 0) {
		w->grow_failed = 1;
		return;
	}
	w->grow_failed = 0;
	w->tight = false;
	w->grow_pos = 0;
	STEP("grow:created");
	/* rel:pool.table: an empty table is whole before anybody is sent there. */
	shm_store_rel(&w->cur.t->next, w->next.word);
	shm_count(&w->entry->counter[SHM_PC_index_grows], 1);
	STEP("grow:begun");
}

static void end_growth(struct shm_wpool *w)
{
	struct shm_wtable old = w->cur;
	uint64_t bytes = shm_alloc_place_bytes(w->alloc, old.off);

	if (shm_limbo_reserve(w, 1) != 0)
		return; /* no memory for a list entry: the next step tries again */
	shm_store_rel(&w->hdr->table, w->next.word); /* rel:pool.table */
	STEP("grow:table-published");
	w->cur = w->next;
	w->next = (struct shm_wtable){0};
	free(old.linked);
	w->index_bytes -= MUTANT(152) ? 0 : bytes; /* 152: a retired table counts on */
	shm_limbo_add_table(w, old.off, bytes);
	STEP("grow:table-retired");
}

bool shm_index_grow(struct shm_wpool *w, uint32_t chains, bool now)
{
	if (!w->next.t)
		begin_growth(w, now);
	if (!w->next.t)
		return false;
	while (chains-- > 0 && w->grow_pos < n_buckets(&w->cur)) {
		if (!has_moved(&w->cur, w->grow_pos))
			CHECK(move_chain(w, w->grow_pos) == 0);
		w->grow_pos++;
		shm_store_rlx(&w->cur.t->grow_pos, w->grow_pos);
	}
	if (w->grow_pos == n_buckets(&w->cur))
		end_growth(w);
	return w->next.t != NULL;
}

/* ------------------------------------------------------------ look-up for a change */

/* The table in which a chain is changed now. */
static struct shm_wtable *table_for(struct shm_wpool *w, uint64_t hash)
{
	if (!w->next.t)
		return &w->cur;
	uint64_t chain = shm_hash_bucket(hash, w->cur.log2_buckets);
	if (!has_moved(&w->cur, chain))
		CHECK(move_chain(w, chain) == 0);
	return &w->next;
}

static int seek_key(struct shm_wpool *w, const struct shm_key *key, struct shm_ref *ret)
{
	struct shm_wtable *t = table_for(w, key->hash);
	struct want want = {.key = key, .hash = key->hash};

	return seek_chain(w, t, &want, true, w->next.t ? w->cur.overflow_used : 0, ret);
}

void shm_index_ask(const struct shm_wpool *w, uint64_t hash)
{
	__builtin_prefetch(bucket_at(&w->cur, shm_hash_bucket(hash, w->cur.log2_buckets)), 1);
	if (w->next.t)
		__builtin_prefetch(
			bucket_at(&w->next, shm_hash_bucket(hash, w->next.log2_buckets)), 1);
}

int shm_index_seek(struct shm_wpool *w, const struct shm_key *key, struct shm_ref *ret)
{
	int e = seek_key(w, key, ret);

	if (e != INDEX_FULL || w->next.t)
		return e;
	w->tight = true; /* by chance, in a small table: a larger one before an entry has to go */
	(void)shm_index_grow(w, 0, false);
	return w->next.t ? seek_key(w, key, ret) : e;
}

int shm_index_seek_off(struct shm_wpool *w, uint64_t hash, uint64_t off, struct shm_ref *ret)
{
	struct want want = {.hash = hash, .off = off};

	return seek_chain(w, table_for(w, hash), &want, false, 0, ret) ? INDEX_MISS : 0;
}

void shm_index_clear(struct shm_wpool *w, const struct shm_ref *ref, uint64_t hash)
{
	struct shm_wtable *t = w->next.t ? &w->next : &w->cur; /* seek has moved the chain */

	shm_store_rel(ref->slot, 0); /* rel:index.slot */
	STEP("delete:published");
	if (ref->slot < bucket_at(t, n_buckets(t))->slot)
		return;
	while (trim_last(w, t, bucket_at(t, shm_hash_bucket(hash, t->log2_buckets))))
		;
}

/* ------------------------------------------------------------ adoption */

/* Bits of a bucket's words that are no part of a slot without MOVED, or of a link. */
static uint64_t marks_of(const struct shm_bucket *b)
{
	uint64_t marks = shm_load_rlx(&b->link) & ~SHM_WORD_OFF_MASK;

	for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
		marks |= shm_load_rlx(&b->slot[i]) & SHM_SLOT_MOVED;
	return marks;
}

/* Walks every chain by its links, bounded; finds out which overflow buckets are in use.
 * A predecessor's links are not trusted: each bucket may be met once (rule I10). */
static int walk_links(struct shm_wpool *w, struct shm_wtable *t, uint64_t *ret_marks)
{
	uint64_t first = off_of(w, bucket_at(t, n_buckets(t)));

	for (uint64_t c = 0; c < n_buckets(t); c++) {
		*ret_marks |= marks_of(bucket_at(t, c));
		uint64_t off = shm_word_off(shm_load_rlx(&bucket_at(t, c)->link));
		for (int n = 1; off != 0; n++) {
			uint64_t idx = (off - first) / sizeof(struct shm_bucket);
			if (off < first || (off - first) % sizeof(struct shm_bucket) ||
				idx >= t->n_overflow || n >= SHM_CHAIN_MAX || t->linked[idx])
				return -EBADMSG;
			t->linked[idx] = 1;
			t->overflow_used++;
			*ret_marks |= marks_of(bucket_at(t, n_buckets(t) + idx));
			off = shm_word_off(shm_load_rlx(&bucket_at(t, n_buckets(t) + idx)->link));
		}
	}
	return 0;
}

/* The same; damaged links are mended, and counted in *dropped. */
static int check_links(
	struct shm_wpool *w, struct shm_wtable *t, uint64_t *ret_marks, uint64_t *dropped)
{
	t->linked = calloc(t->n_overflow, 1);
	if (!t->linked)
		return -ENOMEM;
	int r = walk_links(w, t, ret_marks);
	if (r == 0)
		return 0;
	*ret_marks = ~0ull; /* what was found by the way was not looked at */
	return shm_index_mend(w, t, dropped);
}

/* Words that no engine has written (layout/l_word.h, rule I12): MOVED where nothing moves, MOVED with
 * something beside it, a link with other bits.  Returns how many slots may have lost an entry. */
static uint32_t clean_words(struct shm_wpool *w, struct shm_wtable *t, bool moves)
{
	uint64_t moved = moves ? SHM_SLOT_MOVED : 0;
	uint32_t lost = 0;

	for (uint64_t c = 0; c < n_buckets(t); c++)
		for (struct shm_bucket *b = bucket_at(t, c); b; b = next_of(w, t, b)) {
			uint64_t link = shm_load_rlx(&b->link);
			if (link & ~(SHM_WORD_OFF_MASK | moved))
				shm_store_rlx(&b->link, link & (SHM_WORD_OFF_MASK | moved));
			for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
				uint64_t word = shm_load_rlx(&b->slot[i]);
				if (!(word & SHM_SLOT_MOVED) || word == moved)
					continue;
				shm_feed_skip(&w->feed, 1);
				shm_store_rlx(&b->slot[i], moved);
				lost++;
			}
		}
	return lost;
}

/* Has all of the chain been moved? */
static bool chain_is_done(struct shm_wpool *w, uint64_t chain)
{
	for (struct shm_bucket *b = bucket_at(&w->cur, chain); b; b = next_of(w, &w->cur, b)) {
		if (!(shm_load_rlx(&b->link) & SHM_SLOT_MOVED))
			return false;
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
			if (shm_load_rlx(&b->slot[i]) != SHM_SLOT_MOVED)
				return false;
	}
	return true;
}

/* Was a move of this chain begun?  MOVED somewhere, or copies in the next table. */
static bool chain_is_begun(struct shm_wpool *w, uint64_t chain)
{
	for (struct shm_bucket *b = bucket_at(&w->cur, chain); b; b = next_of(w, &w->cur, b)) {
		if (shm_load_rlx(&b->link) & SHM_SLOT_MOVED)
			return true;
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
			if (shm_load_rlx(&b->slot[i]) & SHM_SLOT_MOVED)
				return true;
	}
	for (uint64_t half = 0; half < 2; half++)
		for (struct shm_bucket *b = bucket_at(&w->next, 2 * chain + half); b;
			b = next_of(w, &w->next, b))
			for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
				if (shm_load_rlx(&b->slot[i]))
					return true;
	return false;
}

int shm_index_check(struct shm_wpool *w, uint64_t *dropped)
{
	uint64_t marks = 0, next_marks = 0;
	int r = check_links(w, &w->cur, &marks, dropped);

	if (r == 0 && w->next.t)
		r = check_links(w, &w->next, &next_marks, dropped);
	if (r < 0)
		return r;
	if (marks)
		*dropped += clean_words(w, &w->cur, w->next.t != NULL);
	if (next_marks)
		*dropped += clean_words(w, &w->next, false);
	STEP("adopt:cleaned");
	return 0;
}

int shm_index_finish(struct shm_wpool *w, uint64_t *dropped)
{
	uint64_t needed = 0;

	if (!w->next.t)
		return 0;
	for (uint64_t c = 0; c < n_buckets(&w->cur); c++) {
		if (chain_is_done(w, c) || MUTANT(10)) /* 10: not finished */
			continue;
		if (chain_is_begun(w, c)) {
			*dropped += move_chain(w, c);
			STEP("adopt:chain-finished");
			continue;
		}
		struct shm_bucket *b = bucket_at(&w->cur, c);
		while ((b = next_of(w, &w->cur, b)))
			needed++;
	}
	/* What is still to be moved has room, or links were damaged. */
	return w->next.overflow_used + needed <= w->next.n_overflow ? 0 : -EBADMSG;
}

static void walk_chain(
	struct shm_wpool *w, struct shm_wtable *t, uint64_t chain, shm_index_each *f, void *arg)
{
	for (struct shm_bucket *b = bucket_at(t, chain); b; b = next_of(w, t, b))
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			uint64_t word = shm_load_rlx(&b->slot[i]);
			if (word && !(word & SHM_SLOT_MOVED))
				f(arg, &b->slot[i], word, chain, t->log2_buckets);
		}
}

static void walk_table(struct shm_wpool *w, struct shm_wtable *t, shm_index_each *f, void *arg)
{
	for (uint64_t c = 0; c < n_buckets(t); c++)
		walk_chain(w, t, c, f, arg);
}

void shm_index_walk(struct shm_wpool *w, shm_index_each *f, void *arg)
{
	walk_table(w, &w->cur, f, arg);
	if (w->next.t)
		walk_table(w, &w->next, f, arg);
}

uint64_t shm_index_walk_from(
	struct shm_wpool *w, uint64_t cursor, uint32_t chains, shm_index_each *f, void *arg)
{
	uint64_t c = shm_hash_bucket(cursor, w->cur.log2_buckets);

	for (; chains > 0 && c < n_buckets(&w->cur); chains--, c++) {
		walk_chain(w, &w->cur, c, f, arg);
		if (w->next.t && has_moved(&w->cur, c)) {
			walk_chain(w, &w->next, 2 * c, f, arg);
			walk_chain(w, &w->next, 2 * c + 1, f, arg);
		}
	}
	return c < n_buckets(&w->cur) ? c << (64 - w->cur.log2_buckets) : 0;
}

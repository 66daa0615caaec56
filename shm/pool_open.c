/* pool_open.c - taking hold of a pool: formatting a new one, adopting one whose
 * engine died.
 *
 * Adoption, in this order, each step safe to be killed in and begun again:
 *
 *   1  header, class table, tables and links are checked (rules I5, I6, I9, I10); class table and links are mended
 *      where that can be done for certain (index_mend.c)
 *   2  every item that a slot names is bounded and compared with its slot; a slot
 *      that names nonsense is cleared (rules I7, I11, I13's lengths, I14)
 *   3  half-moved chains are finished (rule P6)
 *   4  every named place is claimed from the allocator, and told to the engine
 *   5  what no slot names and a pin holds goes to limbo, the rest is free (rule P15)
 *   6  of a scrubbed pool all that is free is overwritten
 *
 * The change feed's run is claimed before step 5, and made anew if it is not there or of no use.
 *
 * The pins of step 5 are scanned after the last slot was cleared in 2 and 4, like
 * those of any other retirement: a reader may have pinned what was just dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "pool_i.h"
#include "step.h"

struct adopt {
	struct shm_wpool *w;
	shm_pool_scan *scan;
	shm_pool_each *each;
	void *arg;
	uint64_t dropped;
	uint64_t looked; /* slots, in all */
};

enum { ADOPT_BEAT = 65536 }; /* slots after which the caller hears that it goes on */
#define SCRUB_BEAT_BYTES (64ull << 20)

static void beat(struct adopt *a)
{
	if (++a->looked % ADOPT_BEAT == 0 && a->each)
		a->each(a->arg, 0, NULL);
}

/* ------------------------------------------------------------ checking items */

static bool item_fits(const struct shm_wpool *w, uint64_t word, uint64_t chain, uint32_t log2)
{
	uint64_t off = shm_word_off(word);

	if (shm_word_low(word) != 0 || off < sizeof(struct shm_pool) ||
		off > w->bytes - sizeof(struct shm_item) || !shm_alloc_is_used(w->alloc, off) ||
		!shm_alloc_is_used(w->alloc, off + sizeof(struct shm_item) - 1))
		return false; /* rule P30: there may be no memory */
	const struct shm_item *it = shm_pool_item(w, off);
	return shm_item_bytes(shm_lens_key(it->lens), shm_lens_value(it->lens)) <= w->bytes - off &&
	       shm_hash_tag(it->hash) == shm_word_top(word) &&
	       shm_hash_bucket(it->hash, log2) == chain && it->store_id != 0;
}

static void drop(struct adopt *a, shm_u64 *slot)
{
	if (!MUTANT(805)) /* 805: what adoption drops is not missed */
		shm_feed_skip(&a->w->feed, 1);
	shm_store_rel(slot, 0); /* rel:index.slot */
	STEP("adopt:dropped");
	a->dropped++;
}

static void check_one(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct adopt *a = arg;

	beat(a);
	if (!item_fits(a->w, word, chain, log2))
		drop(a, slot);
}

static void claim_one(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct adopt *a = arg;
	struct shm_wpool *w = a->w;
	uint64_t off = shm_word_off(word);
	const struct shm_item *it = shm_pool_item(w, off);
	uint64_t kv = shm_lens_key(it->lens) + shm_lens_value(it->lens);

	(void)chain;
	(void)log2;
	beat(a);
	if (!pool_is_current(w->ctl, it)) {
		/* rel:index.slot: void since its store was cleared or dropped */
		shm_store_rel(slot, 0);
		return;
	}
	if (shm_alloc_claim_item(w->alloc, off,
		    shm_item_bytes(shm_lens_key(it->lens), shm_lens_value(it->lens))) != 0) {
		drop(a, slot);
		return;
	}
	w->n_entries++;
	w->live_bytes += kv;
	w->waste_bytes += shm_alloc_place_bytes(w->alloc, off) - kv;
	if (a->each)
		a->each(a->arg, off, it);
}

/* What will be touched is asked for beforehand (ahead.h says whose idea that is). */
static void ask_far(void *arg, uint64_t word)
{
	const struct adopt *a = arg;
	uint64_t off = shm_word_off(word);

	shm_alloc_ahead_far(a->w->alloc, off);
	if (off >= a->w->bytes)
		return;
	const uint8_t *it = a->w->base + off; /* no hole is read: it is only asked for (P30) */
	__builtin_prefetch(it + offsetof(struct shm_item, version));
	__builtin_prefetch(it + sizeof(struct shm_item) - 1);
}

static void ask_near(void *arg, uint64_t word)
{
	const struct adopt *a = arg;

	shm_alloc_ahead_near(a->w->alloc, shm_word_off(word));
}

static void take_one(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct adopt *a = arg;

	if (item_fits(a->w, word, chain, log2))
		claim_one(arg, slot, word, chain, log2);
	else
		drop(a, slot);
}

/* Steps 2 to 4.  While chains move, one key may stand in two slots, so all are checked before any moves;
 * else each is claimed when it has been checked. */
static int take_all(struct shm_wpool *w, struct adopt *a)
{
	if (!w->next.t) {
		shm_index_walk_order(w, ask_far, ask_near, take_one, a);
		return 0;
	}
	shm_index_walk(w, check_one, a);
	int r = shm_index_finish(w, &a->dropped);
	if (r == 0)
		shm_index_walk_order(w, ask_far, ask_near, claim_one, a);
	return r;
}

/* ------------------------------------------------------------ feed */

static uint64_t feed_first(const struct shm_wpool *w)
{
	return shm_feed_first(shm_load_rlx(&w->ctl->engine_gen));
}

/* A feed as the directory wants it, if there is none: POOL_FULL: no room for it now. */
static int feed_make(struct shm_wpool *w)
{
	uint64_t bytes = (w->entry->feed_bytes + SHM_PAGE - 1) / SHM_PAGE * SHM_PAGE, off;

	if (bytes < SHM_FEED_BYTES_MIN || w->feed.f)
		return 0;
	if (shm_alloc_take_table(w->alloc, bytes, &off) != 0)
		return POOL_FULL;
	STEP("feed:taken");
	shm_feed_format((struct shm_feed *)(void *)(w->base + off), bytes, feed_first(w));
	w->hdr->feed_bytes = bytes;
	STEP("feed:formatted");
	shm_store_rel(&w->hdr->feed_off, off); /* rel:feed.off */
	w->feed_bytes = bytes;
	return shm_feed_attach(&w->feed, w->base, w->bytes, w->hdr, feed_first(w));
}

/* Takes hold of the predecessor's feed before anything is dropped: so that numbers can be left out for it first. */
static void feed_hold(struct shm_wpool *w)
{
	uint64_t off = shm_load_rlx(&w->hdr->feed_off), bytes = w->hdr->feed_bytes;

	if (bytes < SHM_FEED_BYTES_MIN || bytes > w->bytes || off > w->bytes - bytes ||
		!shm_alloc_is_used(w->alloc, off) ||
		!shm_alloc_is_used(w->alloc, off + bytes - 1) ||
		shm_feed_attach(&w->feed, w->base, w->bytes, w->hdr, feed_first(w)) != 0)
		w->feed = (struct shm_wfeed){.f = NULL}; /* rule P30: there may be no memory */
}

/* The feed that the predecessor kept.  What is damaged is no feed; readers that follow it find out. */
static void feed_adopt(struct shm_wpool *w)
{
	uint64_t off = shm_load_rlx(&w->hdr->feed_off), bytes = w->hdr->feed_bytes;

	if (off == 0)
		return;
	if (bytes < SHM_FEED_BYTES_MIN || shm_alloc_claim(w->alloc, off, bytes) != 0) {
		w->feed = (struct shm_wfeed){.f = NULL};
		shm_store_rel(&w->hdr->feed_off, 0); /* rel:feed.off */
		return;
	}
	w->feed_bytes = shm_alloc_place_bytes(w->alloc, off);
	if (w->feed.f)
		return;
	shm_feed_format((struct shm_feed *)(void *)(w->base + off), bytes, feed_first(w));
	(void)shm_feed_attach(&w->feed, w->base, w->bytes, w->hdr, feed_first(w));
	w->feed.was_damaged = true;
}

/* ------------------------------------------------------------ adopt */

static uint32_t table_rank(const struct shm_wpool *w, const struct shm_limbo_entry *e)
{
	const struct shm_table *t = (const struct shm_table *)(const void *)(w->base + e->off);

	return e->table ? 1 + t->log2_buckets : 0;
}

/* Puts the entry that was added last behind those that were retired before it: each table is larger
 * than the one before. */
static void sort_in(struct shm_wpool *w)
{
	struct shm_limbo_entry *e = w->limbo.entry;

	for (uint32_t i = w->limbo.n; i > 1; i--) {
		struct shm_limbo_entry before = e[i - 2];
		if (table_rank(w, &before) <= table_rank(w, &e[i - 1]))
			return;
		e[i - 2] = e[i - 1];
		e[i - 1] = before;
	}
}

/* What a pin names, and no slot.  Who pins a retired table may follow it to the next one, so those
 * behind it stay too (rule P7); their memory is as they left it.  0 or -ENOMEM. */
static int hold_pinned(struct shm_wpool *w, uint64_t off)
{
	for (;;) {
		bool item = shm_alloc_claim_item(w->alloc, off, SHM_UNIT) == 0;
		if (!item && shm_alloc_claim(w->alloc, off, sizeof(struct shm_table)) != 0)
			return 0; /* named by a slot, claimed already, or nonsense */
		if (shm_limbo_reserve(w, 1) != 0)
			return -ENOMEM;
		if (item)
			shm_limbo_add(w, off, shm_alloc_place_bytes(w->alloc, off));
		else
			shm_limbo_add_table(w, off, shm_alloc_place_bytes(w->alloc, off));
		sort_in(w);
		if (item || MUTANT(150)) /* 150: the tables behind a pinned one are free */
			return 0;
		const struct shm_table *t = (const struct shm_table *)(const void *)(w->base + off);
		off = shm_word_off(shm_load_rlx(&t->next));
	}
}

/* Rule P15.  Hostile pins name nothing. */
static int claim_pinned(struct shm_wpool *w, const struct shm_pinset *pins)
{
	if (!pins->complete)
		return -ENOMEM; /* it was complete a moment ago: memory ran out */
	for (uint32_t i = 0; i < pins->n; i++) {
		uint64_t off = shm_word_off(pins->pin[i].where);
		if (shm_word_low(pins->pin[i].where) != w->pool_idx)
			continue;
		if (MUTANT(14)) /* 14: pinned memory of the last engine is free */
			continue;
		int r = hold_pinned(w, off);
		if (r < 0)
			return r;
	}
	return 0;
}

static int attach_tables(struct shm_wpool *w, uint64_t *dropped)
{
	int r = shm_index_attach(w, shm_load_rlx(&w->hdr->table), &w->cur);

	if (r < 0)
		return r;
	uint64_t next = shm_load_rlx(&w->cur.t->next);
	if (next) {
		r = shm_index_attach(w, next, &w->next);
		if (r < 0 || w->next.log2_buckets != w->cur.log2_buckets + 1)
			return -EBADMSG;
	}
	return shm_index_check(w, dropped);
}

/* Overwrites free memory, but for what holds zeroes already: reading costs half. */
static void scrub_free(void *arg, uint64_t off, uint64_t bytes)
{
	struct adopt *a = arg;
	struct shm_wpool *w = a->w;

	for (uint64_t n; bytes; off += n, bytes -= n) {
		const uint8_t *at = w->base + off;
		n = bytes < SCRUB_BEAT_BYTES ? bytes : SCRUB_BEAT_BYTES;
		if (at[0] || memcmp(at, at + 1, n - 1) != 0)
			shm_limbo_scrub(w, off, n);
		if (n == SCRUB_BEAT_BYTES && a->each)
			a->each(a->arg, 0, NULL);
	}
}

/* The allocator; if the class table is damaged, with the one that follows from the size that the pool was made with. */
static int adopt_alloc(struct shm_wpool *w)
{
	bool counted = w->hdr->n_classes > 0 && w->hdr->n_classes <= SHM_CLASSES_MAX;
	int r = counted ? shm_alloc_new(w->base, w->entry->region,
				  shm_load32_rlx(&w->entry->n_regions), false, &w->alloc)
	                : -EINVAL;

	if (r != -EINVAL || MUTANT(809)) /* 809: a class table costs the pool */
		return r == -EINVAL ? -EBADMSG : r;
	w->hdr->n_classes = shm_alloc_classes(w->hdr->cls, w->entry->region[0].bytes);
	r = shm_alloc_new(
		w->base, w->entry->region, shm_load32_rlx(&w->entry->n_regions), false, &w->alloc);
	/* Its regions were right when it was formatted. */
	return r == -EINVAL ? -EBADMSG : r;
}

static int adopt(struct shm_wpool *w, struct adopt *a)
{
	if (w->hdr->pool_id != shm_load_rlx(&w->entry->id))
		return -EBADMSG;
	const struct shm_pinset *early = a->scan(a->arg);
	if (!early->complete)
		return -EBUSY;
	int r = adopt_alloc(w);
	if (r == 0) {
		feed_hold(w);
		r = attach_tables(w, &a->dropped);
	}
	if (r < 0)
		return r;
	STEP("adopt:attached");
	r = take_all(w, a);
	if (r < 0)
		return r;
	STEP("adopt:claimed");
	feed_adopt(w);
	/* 15: pins are scanned before the last slot was cleared */
	r = claim_pinned(w, MUTANT(15) ? early : a->scan(a->arg));
	if (r < 0)
		return r;
	/* Pages that had to be given up (their descriptors contradicted each other) are free now. */
	(void)shm_alloc_adopt_end(w->alloc);
	(void)feed_make(w);          /* there may be no room: the pool serves without */
	if (w->scrub && !MUTANT(87)) /* 87: what the last engine unlinked stays readable */
		shm_alloc_walk_free(w->alloc, scrub_free, a);
	shm_count(&w->ctl->counter[SHM_DC_adopt_dropped], a->dropped);
	w->unverified = w->n_entries > 0;
	STEP("adopt:done");
	return 0;
}

/* ------------------------------------------------------------ format */

static int format(struct shm_wpool *w, struct adopt *a)
{
	struct shm_pool *p = w->hdr;
	bool again = p->formatted != 0; /* it held entries, and had to start empty */

	/* `formatted` is never 0 in between: who dies here leaves a pool that held entries (scrub). */
	memset(&p->pool_id, 0,
		offsetof(struct shm_pool, formatted) - offsetof(struct shm_pool, pool_id));
	memset((uint8_t *)p + offsetof(struct shm_pool, n_classes), 0,
		sizeof *p - offsetof(struct shm_pool, n_classes));
	p->pool_id = shm_load_rlx(&w->entry->id);
	p->formatted = w->entry->region[0].bytes;
	p->n_classes = shm_alloc_classes(p->cls, w->bytes);
	int r = shm_alloc_new(
		w->base, w->entry->region, shm_load32_rlx(&w->entry->n_regions), true, &w->alloc);
	if (r < 0)
		return r;
	if (w->scrub && again)
		shm_alloc_walk_free(w->alloc, scrub_free, a);
	if (shm_index_create(w, INDEX_LOG2_MIN, &w->cur) != 0)
		return -EINVAL;
	if (feed_make(w) != 0)
		return -EINVAL;
	STEP("format:table");
	shm_store_rel(&p->table, w->cur.word); /* rel:pool.table: the pool is formatted */
	STEP("format:done");
	return 0;
}

int shm_pool_open(struct shm_wpool *w, void *base, struct shm_control *ctl, struct shm_journal *j,
	uint32_t pool_idx, shm_pool_scan *scan, shm_pool_each *each, void *arg)
{
	struct adopt a = {.w = w, .scan = scan, .each = each, .arg = arg};

	*w = (struct shm_wpool){.base = base,
		.pool_idx = pool_idx,
		.ctl = ctl,
		.entry = &ctl->pool[pool_idx],
		.hdr = base,
		.scrub = (ctl->pool[pool_idx].flags & SHM_POOL_SCRUB) != 0};
	uint32_t n = shm_load32_rlx(&w->entry->n_regions);
	if (n == 0 || n > SHM_REGIONS_MAX)
		return -EINVAL;
	const struct shm_region *last = &w->entry->region[n - 1];
	w->bytes = last->base_off + last->bytes;
	/* The last engine may have died inside a change. */
	if (shm_load_rlx(&w->entry->counter[SHM_PC_changes]) & 1)
		shm_pool_change(w);
	/* acq:pool.table */
	int r = shm_load_acq(&w->hdr->table) == 0 ? format(w, &a) : adopt(w, &a);
	w->feed.journal = j;
	w->feed.pool_idx = pool_idx;
	if (r < 0)
		shm_pool_close(w);
	else
		shm_pool_account(w);
	return r;
}

void shm_pool_name(struct shm_wpool *w, uint64_t id) { w->hdr->pool_id = id; }

int shm_pool_add_region(struct shm_wpool *w, uint32_t region_idx)
{
	const struct shm_region *g = &w->entry->region[region_idx];

	shm_pool_change(w);
	int r = shm_alloc_add_region(w->alloc, w->base, g);
	if (r == 0)
		w->bytes += g->bytes;
	shm_pool_change(w);
	return r;
}

void shm_pool_close(struct shm_wpool *w)
{
	if (w->alloc)
		shm_alloc_free(w->alloc);
	free(w->limbo.entry);
	free(w->cur.linked);
	free(w->next.linked);
	w->alloc = NULL;
	w->limbo = (struct shm_limbo){0};
	w->cur = w->next = (struct shm_wtable){0};
}

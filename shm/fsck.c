/* fsck.c - see fsck.h.
 *
 * Everything is bounded by the mapping before it is followed.  On a living daemon
 * a slot may change between two looks: a finding about an item counts only if its
 * slot still holds the same word afterwards, twice; one about pages only if the
 * descriptor still does.
 */
#include "fsck.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "atomic.h"
#include "crc.h"
#include "feed_read.h"
#include "layout/l_item.h"
#include "layout/l_pool.h"
#include "layout/l_table.h"

enum { FINDINGS_MAX = 1000, LOOKS = 3 };

struct fsck {
	const struct shm_control *c;
	const uint8_t *base;
	uint64_t bytes;
	uint32_t pool_idx;
	shm_fsck_report *report;
	void *arg;
	uint32_t n;
	uint8_t *seen;        /* a bit per unit: an item that a slot named */
	uint64_t alone_bytes; /* runs of one item or table that nothing has named yet: limbo */
	uint64_t free_bytes;  /* free runs */
	uint64_t table_word;  /* that the walk began with */
	const struct shm_table *first; /* the table that it names */
	bool moving; /* a growth is under way: an item may be named twice (rule P6) */
	struct shm_fsck_stats *stats;
};

__attribute__((format(printf, 4, 5))) static void found(
	struct fsck *f, uint32_t invariant, uint64_t off, const char *fmt, ...)
{
	struct shm_fsck_finding g = {.invariant = invariant, .pool_idx = f->pool_idx, .off = off};
	va_list ap;

	if (f->n++ >= FINDINGS_MAX)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(g.text, sizeof g.text, fmt, ap);
	va_end(ap);
	f->report(f->arg, &g);
}

/* ------------------------------------------------------------ segments and directory */

static void check_segment(
	struct fsck *f, const struct shm_segment *s, uint32_t kind, uint64_t bytes)
{
	/* acq:segment.magic */
	if (shm_load_acq(&s->magic) != SHM_MAGIC)
		found(f, 1, 0, "the magic number is not there: the segment was never finished");
	else if (s->byte_order != SHM_BYTE_ORDER || s->major != SHM_LAYOUT_MAJOR || s->kind != kind)
		found(f, 1, 0, "kind %u, layout %u.%u: another kind or version", s->kind, s->major,
			s->minor);
	else if (s->total_bytes > bytes)
		found(f, 1, 0, "the header says %llu bytes, mapped are %llu",
			(unsigned long long)s->total_bytes, (unsigned long long)bytes);
	if (s->daemon_id != f->c->seg.daemon_id)
		found(f, 2, 0, "the segment belongs to another daemon");
}

static void check_pool_entry(struct fsck *f, const struct shm_pool_entry *p)
{
	uint32_t n = shm_load32_rlx(&p->n_regions);
	uint64_t at = 0;

	if (n == 0 || n > SHM_REGIONS_MAX) {
		found(f, 3, 0, "pool %.31s has %u regions", p->name, n);
		return;
	}
	for (uint32_t r = 0; r < n; r++) {
		if (p->region[r].base_off != at || p->region[r].bytes % SHM_PAGE)
			found(f, 3, at, "region %u of pool %.31s is out of place", r, p->name);
		at += p->region[r].bytes;
	}
}

uint32_t shm_fsck_control(
	const struct shm_control *c, uint64_t bytes, shm_fsck_report *report, void *arg)
{
	struct fsck f = {.c = c, .report = report, .arg = arg};

	if (bytes < sizeof *c) {
		found(&f, 1, 0, "the control segment is %llu bytes short",
			(unsigned long long)(sizeof *c - bytes));
		return f.n;
	}
	check_segment(&f, &c->seg, SHM_KIND_CONTROL, bytes);
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		f.pool_idx = i;
		if (shm_load_acq(&c->pool[i].id)) /* acq:entry.id */
			check_pool_entry(&f, &c->pool[i]);
	}
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *s = &c->store[i];
		if (shm_load_acq(&s->id) == 0) /* acq:entry.id */
			continue;
		if (s->pool_idx >= SHM_POOLS_MAX || shm_load_rlx(&c->pool[s->pool_idx].id) == 0)
			found(&f, 4, 0, "store %.31s lies in pool %u, which does not exist",
				s->name, s->pool_idx);
	}
	return f.n;
}

/* ------------------------------------------------------------ pages */

static const struct shm_pool *header(const struct fsck *f)
{
	return (const struct shm_pool *)(const void *)f->base;
}

static const struct shm_pool_entry *entry(const struct fsck *f) { return &f->c->pool[f->pool_idx]; }

/* The region that holds a byte, or NULL. */
static const struct shm_region *region_of(const struct fsck *f, uint64_t off)
{
	const struct shm_pool_entry *p = entry(f);
	uint32_t n = shm_load32_rlx(&p->n_regions);

	for (uint32_t r = 0; r < n && r < SHM_REGIONS_MAX; r++)
		if (off >= p->region[r].base_off &&
			off - p->region[r].base_off < p->region[r].bytes &&
			p->region[r].base_off + p->region[r].bytes <= f->bytes)
			return &p->region[r];
	return NULL;
}

/* The descriptor of the page that holds a byte; 0 when there is none. */
static uint64_t page_word(const struct fsck *f, uint64_t off)
{
	const struct shm_region *r = region_of(f, off);

	if (!r)
		return 0;
	const struct shm_page *t = (const struct shm_page *)(const void *)(f->base + r->base_off +
									   SHM_PAGE);
	return shm_load_rlx(&t[(off - r->base_off) / SHM_PAGE].word);
}

/* A run's bytes: what it takes itself, and what is open until something names it. */
static void count_run(struct fsck *f, uint64_t w)
{
	uint64_t bytes = (uint64_t)shm_page_run(w) * SHM_PAGE, own = 0;

	if (shm_page_kind(w) == SHM_PAGE_HOLE)
		return; /* nobody's */
	struct shm_class k = header(f)->cls[shm_page_class(w) % SHM_CLASSES_MAX];

	if (shm_page_kind(w) == SHM_PAGE_META)
		own = bytes;
	else if (shm_page_kind(w) == SHM_PAGE_SLAB)
		own = bytes - (uint64_t)k.n_items * k.item_bytes;
	else if (shm_page_kind(w) == SHM_PAGE_FREE)
		f->free_bytes += bytes;
	else
		f->alone_bytes += bytes;
	f->stats->overhead_bytes += own;
	f->stats->open_bytes += bytes - own;
}

/* Something names so much of a run: a live entry, or an index that is in use. */
static void count_named(struct fsck *f, uint64_t page_word, uint64_t bytes, uint64_t live_bytes)
{
	if (shm_page_kind(page_word) != SHM_PAGE_SLAB)
		f->alone_bytes -= bytes;
	f->stats->open_bytes -= bytes;
	f->stats->overhead_bytes += bytes - live_bytes;
}

/* Walks the runs of a region; rule I5. */
static void check_pages(struct fsck *f, const struct shm_region *r)
{
	uint64_t n = r->bytes / SHM_PAGE, step;

	for (uint64_t i = 0; i < n; i += step) {
		uint64_t off = r->base_off + i * SHM_PAGE, w = 0, run = 0;
		for (int look = 0; look < LOOKS; look++) {
			w = page_word(f, off);
			run = shm_page_run(w);
			if (run != 0 && run <= n - i && shm_page_kind(w) != SHM_PAGE_CONT)
				break;
		}
		step = run;
		if (run == 0 || run > n - i || shm_page_kind(w) > SHM_PAGE_HOLE) {
			found(f, 5, off, "page descriptor %016llx: run of %llu pages",
				(unsigned long long)w, (unsigned long long)run);
			return;
		}
		if (shm_page_kind(w) == SHM_PAGE_CONT)
			step = 1; /* its run changed while we walked: go on page by page */
		else
			count_run(f, w);
	}
}

/* ------------------------------------------------------------ items */

/* Where an item stands. */
struct place {
	uint64_t page_word, bytes;
};

/* Where an item may stand: rule I7.  NULL: right; else what is wrong. */
static const char *check_place(
	const struct fsck *f, uint64_t off, uint64_t item_bytes, struct place *ret)
{
	uint64_t w = page_word(f, off), page = off / SHM_PAGE, place = 0, into;

	if (shm_page_kind(w) == SHM_PAGE_CONT && shm_page_run(w) <= page) {
		page -= shm_page_run(w);
		w = page_word(f, page * SHM_PAGE);
	}
	into = off - page * SHM_PAGE;
	if (shm_page_kind(w) == SHM_PAGE_LARGE && into == 0) {
		place = (uint64_t)shm_page_run(w) * SHM_PAGE;
	} else if (shm_page_kind(w) == SHM_PAGE_SLAB && shm_page_class(w) < SHM_CLASSES_MAX) {
		struct shm_class k = header(f)->cls[shm_page_class(w)];
		if (k.item_bytes && into % k.item_bytes == 0 && into / k.item_bytes < k.n_items)
			place = k.item_bytes;
	}
	*ret = (struct place){.page_word = w, .bytes = place};
	if (place == 0)
		return "the slot leads to something that is not a place for an item (I7)";
	return item_bytes > place ? "the item is longer than its place (I7)" : NULL;
}

static bool store_knows(const struct fsck *f, const struct shm_item *it)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (shm_load_acq(&f->c->store[i].id) == it->store_id) /* acq:entry.id */
			return it->epoch <= (uint32_t)shm_load_rlx(&f->c->store[i].epoch);
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) /* dropped, and not all gone yet */
		if (shm_load_rlx(&f->c->dropped_id[i]) == it->store_id)
			return true;
	return false;
}

/* NULL: all is right; else the text, and the invariant's number in *ret. */
static const char *check_item(const struct fsck *f, uint64_t word, uint64_t chain, uint32_t log2,
	uint32_t *ret, uint64_t *ret_kv, struct place *ret_place)
{
	uint64_t off = shm_word_off(word);

	*ret = 7;
	if (shm_word_low(word) != 0 || off > f->bytes - sizeof(struct shm_item))
		return "the slot's offset lies outside the pool (I7)";
	const char *why = check_place(f, off, sizeof(struct shm_item), ret_place);
	if (why) /* looked at before the item: there may be no memory (rule P30) */
		return why;
	const struct shm_item *it = (const struct shm_item *)(const void *)(f->base + off);
	uint64_t lens = it->lens, key = shm_lens_key(lens), value = shm_lens_value(lens);
	*ret = 13;
	if (shm_item_bytes(key, value) > f->bytes - off)
		return "the item's lengths lead outside the pool (I13)";
	*ret = 7;
	why = check_place(f, off, shm_item_bytes(key, value), ret_place);
	if (why)
		return why;
	*ret = 11;
	if (shm_hash_tag(it->hash) != shm_word_top(word) ||
		shm_hash_bucket(it->hash, log2) != chain)
		return "the item's hash belongs to another slot or chain (I11)";
	*ret = 13;
	if (shm_item_crc(it, key, value) != it->crc)
		return "the checksum of key and value is wrong (I13)";
	*ret = 14;
	*ret_kv = key + value;
	return store_knows(f, it) ? NULL : "the item's store or epoch never existed (I14)";
}

/* A growth has begun since the walk did, or ended. */
static bool is_moving(const struct fsck *f)
{
	return shm_load_acq(&header(f)->table) != f->table_word || /* acq:pool.table */
	       shm_load_acq(&f->first->next) != 0;                 /* acq:pool.table */
}

static void check_slot(struct fsck *f, const shm_u64 *slot, uint64_t chain, uint32_t log2)
{
	const char *why = NULL;
	uint64_t word = 0, kv = 0;
	uint32_t invariant = 0;
	struct place place = {0};

	for (int look = 0; look < LOOKS; look++) {
		word = shm_load_acq(slot); /* acq:index.slot */
		if (word == 0 || (word & SHM_SLOT_MOVED))
			return;
		why = check_item(f, word, chain, log2, &invariant, &kv, &place);
		if (!why)
			break;
	}
	if (why) {
		if (shm_load_acq(slot) != word) /* acq:index.slot: somebody's progress */
			return;
		found(f, invariant, shm_word_off(word), "%s", why);
		f->stats->damaged++;
		return;
	}
	uint64_t unit = shm_word_off(word) / SHM_UNIT;
	if (f->seen[unit / 8] & 1 << unit % 8) {
		if (!f->moving && !is_moving(f) && shm_load_acq(slot) == word) /* acq:index.slot */
			found(f, 8, shm_word_off(word), "another slot names the same item (I8)");
		return;
	}
	f->seen[unit / 8] |= (uint8_t)(1 << unit % 8);
	f->stats->entries++;
	f->stats->live_bytes += kv;
	count_named(f, place.page_word, place.bytes, kv);
}

/* ------------------------------------------------------------ tables */

/* The table that a word names, bounded; NULL and a finding if it is none. */
static const struct shm_table *open_table(struct fsck *f, uint64_t word)
{
	uint64_t off = shm_word_off(word), log2 = shm_word_top(word);

	if (off == 0 || off > f->bytes - sizeof(struct shm_table) || log2 > SHM_LOG2_BUCKETS_MAX) {
		found(f, 6, off, "table word %016llx leads nowhere", (unsigned long long)word);
		return NULL;
	}
	uint64_t w = page_word(f, off), run = (uint64_t)shm_page_run(w) * SHM_PAGE;
	if (shm_page_kind(w) != SHM_PAGE_TABLE || off % SHM_PAGE) {
		found(f, 6, off, "table word %016llx does not lead to a table's run",
			(unsigned long long)word);
		return NULL;
	}
	const struct shm_table *t = (const struct shm_table *)(const void *)(f->base + off);
	uint64_t room = run < f->bytes - off ? run : f->bytes - off;
	if (t->magic != SHM_TABLE_MAGIC || t->log2_buckets != log2 ||
		t->n_overflow > room / sizeof(struct shm_bucket) ||
		sizeof *t + ((1ull << log2) + t->n_overflow) * sizeof(struct shm_bucket) > room) {
		found(f, 9, off, "the table's sizes do not fit its run");
		return NULL;
	}
	return t;
}

static void check_chain(struct fsck *f, const struct shm_table *t, uint64_t chain)
{
	const struct shm_bucket *first = (const struct shm_bucket *)(const void *)(t + 1);
	const struct shm_bucket *over = first + (1ull << t->log2_buckets);
	const struct shm_bucket *b = first + chain;
	uint64_t length = 1;

	for (;; length++) {
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
			check_slot(f, &b->slot[i], chain, t->log2_buckets);
		uint64_t off = shm_word_off(shm_load_acq(&b->link)); /* acq:index.slot */
		if (off == 0)
			break;
		uint64_t from = (uint64_t)((const uint8_t *)over - f->base);
		if (length >= SHM_CHAIN_MAX || off < from || (off - from) % sizeof *b ||
			(off - from) / sizeof *b >= t->n_overflow) {
			found(f, 10, off, "chain %llu leads out of its table or does not end",
				(unsigned long long)chain);
			break;
		}
		b = over + (off - from) / sizeof *b;
	}
	f->stats->chains++;
	if (length > f->stats->longest_chain)
		f->stats->longest_chain = length;
}

static void check_tables(struct fsck *f)
{
	uint64_t word = shm_load_acq(&header(f)->table); /* acq:pool.table */

	if (word == 0)
		return; /* not formatted yet: the first engine is about to */
	const struct shm_table *t = open_table(f, word);
	f->table_word = word;
	f->first = t;
	f->moving = t && shm_load_acq(&t->next); /* acq:pool.table */
	for (int n = 0; t && n < 2; n++) {
		f->stats->tables++;
		uint64_t w = page_word(f, (uint64_t)((const uint8_t *)t - f->base));
		count_named(f, w, (uint64_t)shm_page_run(w) * SHM_PAGE, 0);
		for (uint64_t c = 0; c < 1ull << t->log2_buckets; c++)
			check_chain(f, t, c);
		uint64_t next = shm_load_acq(&t->next); /* acq:pool.table */
		t = next ? open_table(f, next) : NULL;
	}
}

/* ------------------------------------------------------------ feed */

/* From the oldest entry to the last one: rule I18.  A living engine may overtake us; then what is newer counts. */
static void check_feed_entries(struct fsck *f, uint64_t off, struct shm_feed_reader *r)
{
	uint8_t key[SHM_FEED_KEY_MAX];
	struct shm_feed_entry e;
	uint64_t lost, n = 0, last = shm_load_rlx(&r->f->next_sequence);
	int c = shm_feed_seek(r, FEED_FROM_OLDEST, &lost);

	while (c == 0 || c == FEED_LAPPED) {
		if (n++ > r->n_words)
			return; /* a writer that is faster than we are */
		c = shm_feed_next(r, &e, key, &lost);
	}
	if (c < 0)
		found(f, 18, off, "an entry of the change feed does not follow the one before");
	else if (r->sequence < last)
		found(f, 18, off, "the change feed ends with number %llu, its header says %llu",
			(unsigned long long)r->sequence, (unsigned long long)last);
}

static void check_feed(struct fsck *f)
{
	uint64_t off = shm_load_acq(&header(f)->feed_off); /* acq:feed.off */
	struct shm_feed_reader r;

	if (off == 0)
		return;
	uint64_t w = page_word(f, off), run = (uint64_t)shm_page_run(w) * SHM_PAGE;
	if (shm_page_kind(w) != SHM_PAGE_TABLE || off % SHM_PAGE || header(f)->feed_bytes > run ||
		shm_feed_find(f->base, f->bytes, &r) != 0) {
		found(f, 18, off,
			"the change feed is not where the header says, or of another size");
		return;
	}
	count_named(f, w, run, 0);
	check_feed_entries(f, off, &r);
}

/* ------------------------------------------------------------ accounts */

static uint64_t account(const struct fsck *f, enum shm_pool_counter c)
{
	return shm_load_rlx(&entry(f)->counter[c]);
}

/* The pool's own counts against those of the walk.  A place of a slab that no slot names is free or
 * in limbo: only the engine knows which, so these two are compared by their sum and by what is certain. */
static void check_accounts(struct fsck *f)
{
	const struct shm_fsck_stats *s = f->stats;
	uint64_t free_bytes = account(f, SHM_PC_free_bytes), limbo = account(f, SHM_PC_limbo_bytes);
	const struct {
		const char *what;
		uint64_t walked, accounted;
	} terms[] = {
		{"entries", s->entries, account(f, SHM_PC_entries)},
		{"bytes live", s->live_bytes, account(f, SHM_PC_live_bytes)},
		{"bytes of overhead", s->overhead_bytes, account(f, SHM_PC_overhead_bytes)},
		{"bytes free or in limbo", s->open_bytes, free_bytes + limbo},
		{"bytes in all", s->live_bytes + s->overhead_bytes + s->open_bytes,
			account(f, SHM_PC_limit_bytes) - account(f, SHM_PC_unusable_bytes)},
	};

	for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
		if (terms[i].walked != terms[i].accounted)
			found(f, 16, 0, "counted %llu %s, the accounts say %llu",
				(unsigned long long)terms[i].walked, terms[i].what,
				(unsigned long long)terms[i].accounted);
	if (free_bytes < f->free_bytes || limbo < f->alone_bytes)
		found(f, 17, 0,
			"%llu bytes of pages are free and %llu unlinked, the accounts say %llu and "
			"%llu",
			(unsigned long long)f->free_bytes, (unsigned long long)f->alone_bytes,
			(unsigned long long)free_bytes, (unsigned long long)limbo);
}

uint32_t shm_fsck_pool(const struct shm_control *c, uint32_t pool_idx, const void *base,
	uint64_t bytes, shm_fsck_report *report, void *arg, struct shm_fsck_stats *ret)
{
	struct fsck f = {.c = c,
		.base = base,
		.bytes = bytes,
		.pool_idx = pool_idx,
		.report = report,
		.arg = arg,
		.stats = ret};

	*ret = (struct shm_fsck_stats){0};
	if (bytes < sizeof(struct shm_pool)) {
		found(&f, 1, 0, "the pool is shorter than its header");
		return f.n;
	}
	f.seen = calloc(bytes / SHM_UNIT / 8 + 1, 1);
	if (!f.seen) {
		found(&f, 0, 0, "not enough memory for the check itself");
		return f.n;
	}
	const shm_u64 *counter = c->pool[pool_idx].counter;
	uint64_t accounted = shm_load_acq(&counter[SHM_PC_accounted]); /* acq:pool.accounts */
	uint64_t before = shm_load_rlx(&counter[SHM_PC_changes]);
	check_segment(&f, &header(&f)->seg, SHM_KIND_POOL, bytes);
	uint32_t n = shm_load32_rlx(&entry(&f)->n_regions);
	for (uint32_t r = 0; r < n && r < SHM_REGIONS_MAX; r++)
		if (entry(&f)->region[r].base_off + entry(&f)->region[r].bytes <= bytes)
			check_pages(&f, &entry(&f)->region[r]);
	check_tables(&f);
	check_feed(&f);
	/* acq:pool.accounts: all of the walk comes before `changes` is looked at again. */
	atomic_thread_fence(memory_order_acquire);
	ret->quiet = before % 2 == 0 && before == accounted &&
	             before == shm_load_rlx(&counter[SHM_PC_changes]);
	if (ret->quiet && shm_load_rlx(&counter[SHM_PC_limit_bytes]))
		check_accounts(&f);
	free(f.seen);
	return f.n;
}

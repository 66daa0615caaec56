/* hc_read.c - hc_get, hc_view, hc_mget: the reads of hypercache.h on top of shm/read.h.
 *
 * Nothing here makes a system call but a thread's first read (hc_thread.h), and the first one that is
 * led into memory that was added to a pool (hc_map_more).
 */
#include <string.h>
#include "hc_probe.h"
#include "hc_read_i.h"
#include "hc_slide.h"
#include "read_find.h"
#include "step.h"

enum {
	HINT_SHIFT = 64 - SHM_WORD_TOP_SHIFT,
	HINTS_MAX = 3, /* of one item before it is forgotten: as many as a policy tells apart */
	HINT_HITS = 8, /* further hits of it are told by number, so many at a time */
	GET_AHEAD =
		6 *
		SHM_LINE, /* an item's bytes that a copy asks for at once: header, short key, 256 */
	MGET_GROUP = 16,  /* look-ups whose cache misses overlap */
};

/* ------------------------------------------------------------ counting and hints */

READ_INLINE struct shm_store_reads *reads_of(const struct hc_thread *th, const struct hc_store *s)
{
	return (struct shm_store_reads *)(void *)((uint8_t *)th->reader.block + s->reads_off);
}

/* Notes that the item of this pin was hit. */
READ_INLINE void note_hit(struct hc_thread *th, uint64_t pin)
{
	th->hit[th->n_hits % HC_HITS_KEPT] = pin;
	th->n_hits++;
}

/* Is there room in the ring for as many hints as are given together?  The engine does not tell each thread how
 * far it has read; but it looks into all rings at each heartbeat, and counts the hints that it drains between
 * two: as long as both words stay, ours are there still. */
static bool hints_room(struct hc_thread *th, uint64_t head)
{
	if (head - th->hint_from <= SHM_HINTS - HC_HINTS)
		return true;
	const struct shm_control *ctl = th->hc->ctl;
	uint64_t drained = shm_load_rlx(&ctl->counter[SHM_DC_hints]) +
	                   shm_load_rlx(&ctl->heartbeat_ns);
	if (drained == th->hints_drained)
		return false;
	th->hints_drained = drained;
	th->hint_from = head;
	return true;
}

/* False: what must not be lost leaves no room for it. */
READ_INLINE bool hint_leave(struct hc_thread *th, uint64_t *head, uint64_t word)
{
	if (__builtin_expect(th->slide_last != 0, 0) && !hc_slide_room(th, *head))
		return false;
	shm_store_rlx(&th->reader.block->hint[(*head)++ % SHM_HINTS], word);
	return true;
}

/* Cell `at` of the filter is about to be another item's: the hits of this one that nobody has heard of. */
READ_INLINE void hint_rest(struct hc_thread *th, uint64_t *head, uint32_t at)
{
	uint64_t cell = th->filter[at], hits = cell >> SHM_WORD_TOP_SHIFT;

	if (hits > HINTS_MAX && !MUTANT(820)) /* 820: they are forgotten */
		(void)hint_leave(th, head, cell - ((uint64_t)HINTS_MAX << SHM_WORD_TOP_SHIFT));
}

/* A hit of the item that this hint word names: the first HINTS_MAX are told one by one, further ones by number.
 * False: it is not told. */
READ_INLINE bool hint_hit(struct hc_thread *th, uint64_t *head, uint64_t word)
{
	uint32_t unit = (uint32_t)(word >> SHM_WORD_OFF_SHIFT);
	uint32_t at = unit * 0x9e3779b1u >> HC_FILTER_SHIFT;
	uint64_t cell = th->filter[at];

	if ((cell ^ word) << HINT_SHIFT != 0) { /* it is another item's */
		hint_rest(th, head, at);
		cell = word;
	}
	cell += 1ull << SHM_WORD_TOP_SHIFT;
	uint64_t hits = cell >> SHM_WORD_TOP_SHIFT;
	bool told = hits > HINTS_MAX || hint_leave(th, head, word);
	if (!told) {
		cell -= 1ull << SHM_WORD_TOP_SHIFT;
	} else if (hits == HINTS_MAX + HINT_HITS) {
		cell = word | (uint64_t)HINTS_MAX << SHM_WORD_TOP_SHIFT;
		(void)hint_leave(th, head, word | (uint64_t)HINT_HITS << SHM_WORD_TOP_SHIFT);
	}
	th->filter[at] = cell;
	return told;
}

/* Leaves hints for the last hits that were noted.  Returns `result`, so that a read may end with it. */
READ_INLINE int hints_leave(struct hc_thread *th, int result)
{
	struct shm_block *b = th->reader.block;
	uint64_t head = shm_load_rlx(&b->hint_head), end = th->n_hits;
	uint64_t n = end < HC_HITS ? end : HC_HITS, left_out = end - n;

	th->n_hits = 0;
	th->hits_until = HC_HITS;
	if (n == 0 || MUTANT(220)) /* 220: nobody hears of hits */
		return result;
	if (!hints_room(th, head)) {
		th->hits_until = HC_HITS_FULL;
		shm_count(&b->counter[SHM_BC_hints_left_out], end);
		return result;
	}
	th->n_given += n;
	if (th->n_given % HC_HITS < n) {
		uint32_t at = th->n_given / HC_HITS % HC_FILTER;
		hint_rest(th, &head, at);
		th->filter[at] = 0;
	}
	for (uint64_t i = end - n; i < end; i++) /* without the generation */
		left_out += !hint_hit(
			th, &head, th->hit[i % HC_HITS_KEPT] << HINT_SHIFT >> HINT_SHIFT);
	shm_store_rel(&b->hint_head, head); /* rel:hint.head */
	shm_count(&b->counter[SHM_BC_hints_left_out], left_out);
	return result;
}

/* The same, and the reads are counted for tracers, if there are any: those that were noted, and the one that
 * ended with READ_MISS. */
static __attribute__((noinline)) int hints_give(struct hc_thread *th, int result)
{
	uint64_t n = th->n_hits;

	(void)hints_leave(th, result);
	if (hc_probe_reads())
		hc_probe_count(th, n, result == READ_MISS);
	return result;
}

READ_INLINE void count_hit(
	const struct hc_thread *th, const struct hc_store *s, const struct shm_found *f)
{
	struct shm_store_reads *r = reads_of(th, s);

	shm_count(&r->hits, 1);
	shm_count(&r->hit_bytes, f->value_bytes);
}

/* ------------------------------------------------------------ one look-up */

/* The table word.  Asks for the bucket of the hash. */
READ_INLINE uint64_t ask_bucket(const struct hc_store *s, uint64_t hash)
{
	struct shm_map m = hc_map_of(s);

	return look_ahead(&m, hash);
}

/* The simplest look-up: nothing is unusual, and the key's first bucket names its item.  *ret_thread,
 * *ret; the caller counts.  False: nothing is pinned, and nothing was found out.
 * table: of ask_bucket().  view: pins in a view's cell.  ahead: bytes of the item to ask for. */
READ_INLINE bool find_first(const struct hc_store *s, const void *key, size_t key_bytes,
	uint64_t hash, uint64_t table, bool view, uint32_t ahead, struct hc_thread **ret_thread,
	struct shm_found *ret)
{
	struct hc_thread *th = hc_held[0].thread;

	if (*s->fork_word == 0 || hc_held[0].serial != s->plain_serial)
		return false;
	struct shm_map m = hc_map_of(s);
	struct shm_key k = {
		.bytes = key, .n_bytes = (uint32_t)key_bytes, .store_id = s->id, .hash = hash};
	shm_u64 *cell = view ? th->view_cell : &th->reader.block->pin[SHM_PIN_CALL];
	struct look l = look_of(&th->reader, &m, &k, cell, table, ret);
	uint64_t word;

	l.full_fence = false; /* else it has no plain_serial */
	/* acq:pin.word: whoever released the view has read the last of it. */
	if (view && shm_load_acq(cell) != 0 && !MUTANT(221)) /* 221: it is free */
		return false;
	if (shm_load_acq(&s->entry->id) != s->id) /* acq:entry.id */
		return false;
	k.epoch = (uint32_t)shm_load_rlx(&s->entry->epoch);
	if (look_first(&l, ahead, &word)) {
		note_hit(th, l.pin_base | shm_word_off(word));
		if (look_compare(&l, word) == 0) {
			*ret_thread = th;
			look_end(&l, 0);
			return true;
		}
		th->n_hits--; /* it was another one's, with the same tag */
	}
	shm_store_rel(cell, 0); /* rel:pin.word */
	shm_read_unpin(th->reader.block, SHM_PIN_TABLE);
	return false;
}

/* Any look-up.  Finds and pins; counts a miss.  Here hits that were noted become hints in any case. */
static int find_any(struct hc_thread *th, const struct hc_store *s, const struct shm_key *k,
	uint32_t cell, struct shm_found *f)
{
	int e, r;

	do {
		struct shm_map m = hc_map_of(s);
		e = shm_read_find_any(&th->reader, &m, k, cell, f);
	} while (hc_find_more(th, s, e, &r)); /* as often as regions are added */
	(void)hints_give(th, e);
	if (e == READ_MISS || e == READ_ABSENT)
		shm_count(&reads_of(th, s)->misses, 1);
	if (e == READ_ABSENT)
		note_hit(th, f->pin);
	return r;
}

/* Copies and unpins.  False: the pin was not good to the copy's end (rule P12). */
READ_INLINE bool copy(struct hc_thread *th, const struct hc_store *s, const struct shm_found *f,
	void *buf, size_t buf_bytes)
{
	if (f->value_bytes <= buf_bytes && f->value_bytes)
		memcpy(buf, f->value, f->value_bytes);
	STEP("reader:used");
	bool ok = shm_read_ok(th->reader.pin_gen, f->gen);
	shm_read_unpin(th->reader.block, SHM_PIN_CALL);
	STEP("reader:unpinned");
	if (ok)
		count_hit(th, s, f);
	return ok;
}

static __attribute__((noinline)) int get_any(struct hc_store *s, const void *key, size_t key_bytes,
	void *buf, size_t buf_bytes, size_t *ret_bytes)
{
	struct hc_thread *th;
	struct shm_found f;
	struct shm_key k;

	int r = hc_read_begin(s, key, key_bytes, &th, &k);
	if (hc_probe_armed())
		return hc_probe_get(s, key, key_bytes, buf, buf_bytes, ret_bytes);
	for (int n = 0; r == 0 && n < HC_COPY_TRIES; n++) {
		r = find_any(th, s, &k, SHM_PIN_CALL, &f);
		uint64_t slide_ms = r == HC_OK ? hc_slide_due(th, s, f.item) : 0;
		if (r != HC_OK || !copy(th, s, &f, buf, buf_bytes))
			continue;
		if (slide_ms)
			hc_slide(th, s, &k, f.pin << HINT_SHIFT >> HINT_SHIFT, slide_ms);
		else
			note_hit(th, f.pin);
		if (ret_bytes)
			*ret_bytes = f.value_bytes;
		return f.value_bytes <= buf_bytes ? HC_OK : HC_TOO_SMALL;
	}
	return r != 0 ? r : HC_E_BUSY;
}

READ_INLINE int get_first(struct hc_store *s, const void *key, size_t key_bytes, uint64_t hash,
	uint64_t table, void *buf, size_t buf_bytes, size_t *ret_bytes)
{
	uint32_t ahead = buf_bytes < GET_AHEAD - LOOK_ITEM ? LOOK_ITEM : GET_AHEAD;
	struct hc_thread *th;
	struct shm_found f;

	if (__builtin_expect(!find_first(s, key, key_bytes, hash, table, false, ahead, &th, &f) ||
				     !copy(th, s, &f, buf, buf_bytes),
		    0))
		return get_any(s, key, key_bytes, buf, buf_bytes, ret_bytes);
	if (ret_bytes)
		*ret_bytes = f.value_bytes;
	int r = f.value_bytes <= buf_bytes ? HC_OK : HC_TOO_SMALL;
	return __builtin_expect(th->n_hits < th->hits_until, 1) ? r : hints_give(th, r);
}

/* Of a key whose hash is more than a few instructions. */
static __attribute__((noinline)) int get_long(struct hc_store *s, const void *key, size_t key_bytes,
	void *buf, size_t buf_bytes, size_t *ret_bytes)
{
	if (hc_key_is_bad(key, key_bytes))
		return HC_E_INVAL;
	uint64_t hash = shm_key_hash_long(key, key_bytes, s->seed);
	return get_first(s, key, key_bytes, hash, ask_bucket(s, hash), buf, buf_bytes, ret_bytes);
}

int hc_get(struct hc_store *s, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
	size_t *ret_bytes)
{
	if (!s || !key || (!buf && buf_bytes))
		return HC_E_INVAL;
	if (!shm_key_is_short(key_bytes))
		return get_long(s, key, key_bytes, buf, buf_bytes, ret_bytes);
	uint64_t hash = shm_key_hash_short(key, key_bytes, s->seed);
	return get_first(s, key, key_bytes, hash, ask_bucket(s, hash), buf, buf_bytes, ret_bytes);
}

int hc_absent(struct hc_store *s, const void *key, size_t key_bytes)
{
	struct hc_thread *th;
	struct shm_found f;
	struct shm_key k;
	int e, r = hc_read_begin(s, key, key_bytes, &th, &k);

	if (r != 0)
		return r;
	do {
		struct shm_map m = hc_map_of(s);
		e = shm_read_find(&th->reader, &m, &k, SHM_PIN_CALL, &f);
	} while (hc_find_more(th, s, e, &r));
	if (e == 0)
		shm_read_unpin(th->reader.block, SHM_PIN_CALL);
	return e == READ_ABSENT ? HC_ABSENT : r;
}

/* ------------------------------------------------------------ views */

shm_u64 *hc_free_cell(struct hc_thread *th)
{
	if (shm_load_acq(th->view_cell) == 0) /* acq:pin.word, as below */
		return th->view_cell;
	for (uint32_t i = SHM_PIN_VIEW; i < SHM_BLOCK_PINS; i++) {
		shm_u64 *cell = &th->reader.block->pin[i];
		/* acq:pin.word: whoever released it has read the last of it. */
		if (shm_load_acq(cell) == 0)
			return th->view_cell = cell;
	}
	return NULL;
}

/* False: the pin was not good while the header was read (rule P12). */
READ_INLINE bool fill_view(
	struct hc_view *v, struct hc_thread *th, shm_u64 *cell, const struct shm_found *f)
{
	v->value = f->value;
	v->value_bytes = f->value_bytes;
	v->version = f->item->version;
	v->flags = f->item->flags;
	v->reserved = 0;
	v->opaque[V_THREAD] = (uintptr_t)th;
	v->opaque[V_CELL] = (uintptr_t)cell;
	v->opaque[V_PIN] = f->pin;
	v->opaque[V_GEN] = f->gen;
	v->opaque[V_ITEM] = (uintptr_t)f->item;
	if (!shm_read_ok(th->reader.pin_gen, f->gen)) {
		shm_store_rel(cell, 0); /* rel:pin.word */
		return false;
	}
	shm_count(&th->reader.block->counter[SHM_BC_views], 1);
	STEP("reader:view-held");
	return true;
}

/* caller: of hc_view. */
static __attribute__((noinline)) int view_any(struct hc_store *s, const void *key, size_t key_bytes,
	struct hc_view *ret, const void *caller)
{
	struct hc_thread *th;
	struct shm_found f;
	struct shm_key k;

	int r = hc_read_begin(s, key, key_bytes, &th, &k);
	if (hc_probe_armed())
		return hc_probe_view(s, key, key_bytes, ret, caller);
	if (r != 0)
		return r;
	shm_u64 *cell = hc_free_cell(th);
	if (!cell)
		return HC_E_VIEWS;
	for (int n = 0; n < HC_COPY_TRIES; n++) {
		r = find_any(th, s, &k, (uint32_t)(cell - th->reader.block->pin), &f);
		if (r != HC_OK)
			return r;
		if (fill_view(ret, th, cell, &f)) {
			uint64_t slide_ms = hc_slide_due(th, s, f.item);
			count_hit(th, s, &f);
			if (slide_ms)
				hc_slide(th, s, &k, f.pin << HINT_SHIFT >> HINT_SHIFT, slide_ms);
			else
				note_hit(th, f.pin);
			return HC_OK;
		}
	}
	return HC_E_BUSY;
}

/* caller: of hc_view; NULL: of who calls this. */
READ_INLINE int view_first(struct hc_store *s, const void *key, size_t key_bytes, uint64_t hash,
	struct hc_view *ret, const void *caller)
{
	struct hc_thread *th;
	struct shm_found f;

	if (__builtin_expect(!find_first(s, key, key_bytes, hash, ask_bucket(s, hash), true,
				     LOOK_ITEM, &th, &f) ||
				     !fill_view(ret, th, th->view_cell, &f),
		    0))
		return view_any(s, key, key_bytes, ret,
			caller ? caller
			       : __builtin_return_address(0)); /* computed here, in the cold */
	count_hit(th, s, &f);
	return __builtin_expect(th->n_hits < th->hits_until, 1) ? HC_OK : hints_give(th, HC_OK);
}

/* Of a key whose hash is more than a few instructions. */
static __attribute__((noinline)) int view_long(struct hc_store *s, const void *key,
	size_t key_bytes, struct hc_view *ret, const void *caller)
{
	if (hc_key_is_bad(key, key_bytes))
		return HC_E_INVAL;
	return view_first(
		s, key, key_bytes, shm_key_hash_long(key, key_bytes, s->seed), ret, caller);
}

int hc_view(struct hc_store *s, const void *key, size_t key_bytes, struct hc_view *ret)
{
	if (!s || !key || !ret)
		return HC_E_INVAL;
	if (!shm_key_is_short(key_bytes))
		return view_long(s, key, key_bytes, ret, __builtin_return_address(0));
	return view_first(
		s, key, key_bytes, shm_key_hash_short(key, key_bytes, s->seed), ret, NULL);
}

/* Who holds the view, its pin cell in *ret; NULL: not held. */
READ_INLINE struct hc_thread *view_thread(const struct hc_view *v, shm_u64 **ret_cell)
{
	if (!v || !v->opaque[V_THREAD])
		return NULL;
	*ret_cell = (shm_u64 *)(uintptr_t)v->opaque[V_CELL];
	return (struct hc_thread *)(uintptr_t)v->opaque[V_THREAD];
}

int hc_view_ok(const struct hc_view *v)
{
	shm_u64 *cell;
	const struct hc_thread *th = view_thread(v, &cell);

	if (!th)
		return HC_E_INVAL;
	if (*th->fork_word == 0)
		return HC_E_FORKED;
	return shm_read_ok(th->reader.pin_gen, v->opaque[V_GEN]);
}

int hc_view_times(const struct hc_view *v, uint64_t *ret_created_ns, uint64_t *ret_modified_ns)
{
	shm_u64 *cell;
	const struct hc_thread *th = view_thread(v, &cell);

	if (!th || !ret_created_ns || !ret_modified_ns)
		return HC_E_INVAL;
	if (*th->fork_word == 0)
		return HC_E_FORKED;
	const struct shm_item *it = (const struct shm_item *)(uintptr_t)v->opaque[V_ITEM];
	uint64_t created_ns = it->created_ns, modified_ns = it->modified_ns;
	if (!shm_read_ok(th->reader.pin_gen, v->opaque[V_GEN]))
		return HC_E_REVOKED;
	*ret_created_ns = created_ns;
	*ret_modified_ns = modified_ns;
	return HC_OK;
}

int hc_view_release(struct hc_view *v)
{
	shm_u64 *cell;
	const struct hc_thread *th = view_thread(v, &cell);

	if (!th)
		return HC_E_INVAL;
	if (*th->fork_word == 0)
		return HC_E_FORKED; /* the cell's memory does not exist here (rule P20) */
	if (__builtin_expect(shm_load_rlx(cell) != v->opaque[V_PIN], 0))
		return hc_probe_release(v); /* or it is none, or is released */
	bool ok = shm_read_ok(th->reader.pin_gen, v->opaque[V_GEN]);
	/* rel:pin.word: the reads of the item come before its reuse. */
	shm_store_rel(cell, 0);
	STEP("reader:view-released");
	v->opaque[V_THREAD] = 0;
	return __builtin_expect(ok, 1) ? HC_OK : HC_E_REVOKED;
}

/* ------------------------------------------------------------ batches */

/* One group: all hashes and buckets, then all items, then the reads, so that the
 * cache misses of different keys overlap. */
static void mget_group(struct hc_thread *th, struct hc_store *s, struct hc_mget_item *it, size_t n)
{
	struct shm_map m = hc_map_of(s);
	uint64_t hash[MGET_GROUP];

	for (size_t i = 0; i < n; i++) {
		hash[i] = shm_key_hash_seeded(it[i].key, it[i].key_bytes, s->seed);
		shm_read_prefetch_bucket(&m, hash[i]);
	}
	uint64_t table = shm_read_table_pin(&th->reader, &m);
	for (size_t i = 0; i < n && table; i++)
		shm_read_prefetch_item(&m, table, hash[i]);
	for (size_t i = 0; i < n; i++) {
		size_t bytes = 0;
		it[i].result = get_first(s, it[i].key, it[i].key_bytes, hash[i],
			ask_bucket(s, hash[i]), it[i].buf, it[i].buf_bytes, &bytes);
		it[i].value_bytes = bytes;
	}
}

int hc_read_mget(struct hc_store *s, struct hc_mget_item *items, size_t n)
{
	struct hc_thread *th;
	int r = hc_may_read(s);

	if (r == 0)
		r = hc_thread_of(s->hc, s->serial, &th);
	if (r == 0 && shm_load_acq(&s->entry->id) != s->id) /* acq:entry.id */
		r = HC_E_NO_STORE;
	for (size_t at = 0; r == 0 && at < n; at += MGET_GROUP)
		mget_group(th, s, items + at, n - at < MGET_GROUP ? n - at : MGET_GROUP);
	return r;
}

int hc_mget(struct hc_store *s, struct hc_mget_item *items, size_t n)
{
	if (!s || (!items && n) || n > HC_MGET_MAX)
		return HC_E_INVAL;
	for (size_t i = 0; i < n; i++)
		if (hc_key_is_bad(items[i].key, items[i].key_bytes) ||
			(!items[i].buf && items[i].buf_bytes))
			return HC_E_INVAL;
	return hc_probe_reads() ? hc_probe_mget(s, items, n) : hc_read_mget(s, items, n);
}

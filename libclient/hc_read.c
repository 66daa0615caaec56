/* hc_read.c - hc_get, hc_view, hc_mget: the reads of hypercache.h on top of shm/read.h.
 *
 * Nothing here makes a system call but a thread's first read (hc_thread.h).
 */
#include <string.h>
#include "hc_read_i.h"
#include "read_find.h"
#include "step.h"

enum {
	FILTER_WIPE_MASK = 15, /* one hint given lately is forgotten every 16 hits */
	HINT_SHIFT = 64 - SHM_WORD_TOP_SHIFT,
	HINTS_MAX = 3,   /* of one item before it is forgotten: as many as a policy tells apart */
	MGET_GROUP = 16, /* look-ups whose cache misses overlap */
};

/* ------------------------------------------------------------ counting and hints */

static struct shm_store_reads *reads_of(const struct hc_thread *th, const struct hc_store *s)
{
	return &th->reader.block->store[s->idx];
}

/* Leaves a hint that the item was hit, unless some were left a moment ago.  n: hits before this one. */
static inline void hint(struct hc_thread *th, uint64_t pin, uint64_t n)
{
	struct shm_block *b = th->reader.block;
	uint64_t word = pin << HINT_SHIFT >> HINT_SHIFT; /* without the generation */
	uint32_t at = (uint32_t)(word >> SHM_WORD_OFF_SHIFT) * 0x9e3779b1u >> HC_FILTER_SHIFT;
	uint64_t given = th->filter[at] ^ word, times = given >> SHM_WORD_TOP_SHIFT;

	if ((n & FILTER_WIPE_MASK) == 0)
		th->filter[(n / (FILTER_WIPE_MASK + 1)) % HC_FILTER] = 0;
	if (given << HINT_SHIFT != 0)
		times = 0; /* it is another item's */
	if (times == HINTS_MAX)
		return;
	th->filter[at] = word | (times + 1) << SHM_WORD_TOP_SHIFT;
	uint64_t head = shm_load_rlx(&b->hint_head);
	shm_store_rlx(&b->hint[head % SHM_HINTS], word);
	shm_store_rel(&b->hint_head, head + 1); /* rel:hint.head */
}

static inline void count_hit(
	struct hc_thread *th, const struct hc_store *s, const struct shm_found *f)
{
	struct shm_store_reads *r = reads_of(th, s);
	uint64_t n = shm_load_rlx(&r->hits);

	shm_store_rlx(&r->hits, n + 1);
	shm_count(&r->hit_bytes, f->value_bytes);
	hint(th, f->pin, n);
}

/* ------------------------------------------------------------ one look-up */

/* Any look-up but the simplest, from its beginning; counts a miss.  Takes the key as it came, so that
 * the caller's struct shm_key need not be in memory. */
static __attribute__((noinline)) int find_any(struct hc_thread *th, const struct hc_store *s,
	const void *key, size_t key_bytes, uint32_t cell, struct shm_found *f)
{
	struct shm_map m = hc_map_of(s);
	struct shm_key k;

	int r = hc_key_of(s, key, key_bytes, &k);
	if (r != 0) {
		shm_read_unpin(th->reader.block, cell);
		shm_read_unpin(th->reader.block, SHM_PIN_TABLE);
		return r;
	}
	int e = shm_read_find_any(&th->reader, &m, &k, cell, f);
	if (e == READ_MISS)
		shm_count(&reads_of(th, s)->misses, 1);
	return hc_read_result(e);
}

/* Finds and pins. */
READ_INLINE int find(struct hc_thread *th, const struct hc_store *s, const struct shm_key *k,
	uint32_t cell, struct shm_found *f)
{
	struct shm_map m = hc_map_of(s);
	struct shm_found any;

	if (__builtin_expect(shm_read_find_first(&th->reader, &m, k, cell, f) == 0, 1))
		return HC_OK;
	int r = find_any(th, s, k->bytes, k->n_bytes, cell, &any);
	if (r == HC_OK)
		*f = any;
	return r;
}

/* Find, copy, unpin.  The copy counts only if the pin was good to its end (rule P12). */
static int get_copy(struct hc_thread *th, const struct hc_store *s, const struct shm_key *k,
	void *buf, size_t buf_bytes, size_t *ret_bytes)
{
	struct shm_found f;

	for (int n = 0; n < HC_COPY_TRIES; n++) {
		int r = find(th, s, k, SHM_PIN_CALL, &f);
		if (r != HC_OK)
			return r;
		bool fits = f.value_bytes <= buf_bytes;
		if (fits && f.value_bytes)
			memcpy(buf, f.value, f.value_bytes);
		STEP("reader:used");
		bool ok = shm_read_ok(th->reader.pin_gen, f.gen);
		shm_read_unpin(th->reader.block, SHM_PIN_CALL);
		STEP("reader:unpinned");
		if (!ok)
			continue;
		*ret_bytes = f.value_bytes;
		count_hit(th, s, &f);
		return fits ? HC_OK : HC_TOO_SMALL;
	}
	return HC_E_BUSY;
}

int hc_get(struct hc_store *s, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
	size_t *ret_bytes)
{
	struct hc_thread *th;
	struct shm_key k;
	size_t n;

	if (!s || hc_key_is_bad(key, key_bytes) || (!buf && buf_bytes))
		return HC_E_INVAL;
	int r = hc_read_begin(s, key, key_bytes, &th, &k);
	if (r == 0)
		r = get_copy(th, s, &k, buf, buf_bytes, &n);
	if (r >= 0 && r != HC_MISS && ret_bytes)
		*ret_bytes = n;
	return r;
}

/* ------------------------------------------------------------ views */

/* opaque[]: session, pin cell, pin word, whole pin generation */
enum { V_HC = 0, V_CELL = 1, V_PIN = 2, V_GEN = 3 };

uint32_t hc_free_cell_search(struct hc_thread *th)
{
	for (uint32_t i = SHM_PIN_VIEW; i < SHM_BLOCK_PINS; i++) {
		/* acq:pin.word: whoever released it has read the last of it. */
		if (shm_load_acq(&th->reader.block->pin[i]) == 0)
			return i;
	}
	return ~0u;
}

static void fill_view(struct hc_view *v, const struct hc_store *s, struct hc_thread *th,
	uint32_t cell, const struct shm_found *f)
{
	v->value = f->value;
	v->value_bytes = f->value_bytes;
	v->version = f->item->version;
	v->flags = f->item->flags;
	v->reserved = 0;
	v->created_ns = f->item->created_ns;
	v->modified_ns = f->item->modified_ns;
	v->opaque[V_HC] = (uintptr_t)s->hc;
	v->opaque[V_CELL] = (uintptr_t)&th->reader.block->pin[cell];
	v->opaque[V_PIN] = f->pin;
	v->opaque[V_GEN] = f->gen;
}

int hc_view(struct hc_store *s, const void *key, size_t key_bytes, struct hc_view *ret)
{
	struct hc_thread *th;
	struct shm_found f;
	struct shm_key k;

	if (!s || !ret || hc_key_is_bad(key, key_bytes))
		return HC_E_INVAL;
	int r = hc_read_begin(s, key, key_bytes, &th, &k);
	if (r != 0)
		return r;
	uint32_t cell = hc_free_cell(th);
	if (cell == ~0u)
		return HC_E_VIEWS;
	for (int n = 0; n < HC_COPY_TRIES; n++) {
		r = find(th, s, &k, cell, &f);
		if (r != HC_OK)
			return r;
		fill_view(ret, s, th, cell, &f);
		if (shm_read_ok(th->reader.pin_gen, f.gen)) {
			count_hit(th, s, &f);
			shm_count(&th->reader.block->counter[SHM_BC_views], 1);
			STEP("reader:view-held");
			return HC_OK;
		}
		shm_read_unpin(th->reader.block, cell);
	}
	return HC_E_BUSY;
}

/* The session of a held view, its pin cell in *ret; NULL: not held. */
static struct hc *view_session(const struct hc_view *v, shm_u64 **ret_cell)
{
	if (!v || !v->opaque[V_HC])
		return NULL;
	*ret_cell = (shm_u64 *)(uintptr_t)v->opaque[V_CELL];
	return (struct hc *)(uintptr_t)v->opaque[V_HC];
}

int hc_view_ok(const struct hc_view *v)
{
	shm_u64 *cell;
	struct hc *hc = view_session(v, &cell);

	if (!hc)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	return shm_read_ok(&hc->ctl->pin_gen[hc->slot], v->opaque[V_GEN]);
}

int hc_view_release(struct hc_view *v)
{
	shm_u64 *cell;
	struct hc *hc = view_session(v, &cell);

	if (!hc)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED; /* the cell's memory does not exist here (rule P20) */
	if (shm_load_rlx(cell) != v->opaque[V_PIN])
		return HC_E_INVAL;
	bool ok = shm_read_ok(&hc->ctl->pin_gen[hc->slot], v->opaque[V_GEN]);
	/* rel:pin.word: the reads of the item come before its reuse. */
	shm_store_rel(cell, 0);
	STEP("reader:view-released");
	v->opaque[V_HC] = 0;
	return ok ? HC_OK : HC_E_REVOKED;
}

/* ------------------------------------------------------------ batches */

/* One group: all hashes and buckets, then all items, then the reads, so that the
 * cache misses of different keys overlap. */
static int mget_group(struct hc_thread *th, struct hc_store *s, struct hc_mget_item *it, size_t n)
{
	struct shm_map m = hc_map_of(s);
	struct shm_key k[MGET_GROUP];

	for (size_t i = 0; i < n; i++) {
		int r = hc_key_of(s, it[i].key, it[i].key_bytes, &k[i]);
		if (r != 0)
			return r;
		shm_read_prefetch_bucket(&m, k[i].hash);
	}
	for (size_t i = 0; i < n; i++)
		shm_read_prefetch_item(&m, k[i].hash);
	for (size_t i = 0; i < n; i++) {
		size_t bytes = 0;
		it[i].result = get_copy(th, s, &k[i], it[i].buf, it[i].buf_bytes, &bytes);
		it[i].value_bytes = bytes;
	}
	return 0;
}

int hc_mget(struct hc_store *s, struct hc_mget_item *items, size_t n)
{
	struct hc_thread *th;

	if (!s || (!items && n) || n > HC_MGET_MAX)
		return HC_E_INVAL;
	for (size_t i = 0; i < n; i++)
		if (hc_key_is_bad(items[i].key, items[i].key_bytes) ||
			(!items[i].buf && items[i].buf_bytes))
			return HC_E_INVAL;
	int r = hc_may_read(s);
	if (r == 0)
		r = hc_thread_of(s->hc, s->serial, &th);
	for (size_t at = 0; r == 0 && at < n; at += MGET_GROUP)
		r = mget_group(th, s, items + at, n - at < MGET_GROUP ? n - at : MGET_GROUP);
	return r;
}

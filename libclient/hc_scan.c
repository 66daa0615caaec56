/* hc_scan.c - hc_exists, hc_meta, hc_scan: looking at entries without counting it as use. */
#include <stddef.h>
#include <string.h>
#include <time.h>
#include "hc_read_i.h"
#include "read_scan.h"
#include "step.h"

enum {
	SCAN_ENTRIES = 256,        /* of a page, when the caller names no number */
	SCAN_CHAINS_MAX = 1 << 16, /* chains looked through by one call */
	FN_STOPPED = 100,          /* the caller's function wants no more */
};

#define NS_PER_MS 1000000ull
#define ACCESS_SHIFT 20

/* ------------------------------------------------------------ one entry */

static void fill_meta(const struct hc_thread *th, const struct shm_found *f, struct hc_meta *ret)
{
	const struct shm_item *it = f->item;
	uint64_t now_ns = shm_read_now_ns(&th->reader), expiry = shm_load_rlx(&it->expiry_ns);
	uint64_t access = shm_load_rlx(&it->access), seen_ms = access >> ACCESS_SHIFT;
	struct hc_meta m = {.size = ret->size,
		.version = it->version,
		.created_ns = it->created_ns,
		.modified_ns = it->modified_ns,
		.value_bytes = f->value_bytes,
		.stamp = it->stamp,
		.flags = it->flags,
		.hits_seen = (uint32_t)(access & ((1u << ACCESS_SHIFT) - 1)),
		.ttl_ms = it->ttl_ms,
		.expires_in_ms = -1};

	m.idle_ms = now_ns / NS_PER_MS > seen_ms ? now_ns / NS_PER_MS - seen_ms : 0;
	if (expiry)
		m.expires_in_ms = expiry > now_ns ? (int64_t)((expiry - now_ns) / NS_PER_MS) : 0;
	memcpy(ret, &m, m.size < sizeof m ? m.size : sizeof m);
}

/* Finds an entry and tells about it, uncounted.  ret NULL: only whether it is there. */
static int meta(struct hc_store *s, const void *key, size_t key_bytes, struct hc_meta *ret)
{
	struct hc_thread *th;
	struct shm_found f;
	struct shm_key k;
	int r = hc_read_begin(s, key, key_bytes, &th, &k);

	if (r != 0)
		return r;
	for (int n = 0; n < HC_COPY_TRIES; n++) {
		struct shm_map m = hc_map_of(s);
		int e = shm_read_find(&th->reader, &m, &k, SHM_PIN_CALL, &f);
		if (hc_find_more(th, s, e, &r))
			continue;
		if (r != HC_OK)
			return r;
		if (ret)
			fill_meta(th, &f, ret);
		bool ok = shm_read_ok(th->reader.pin_gen, f.gen);
		shm_read_unpin(th->reader.block, SHM_PIN_CALL);
		if (ok)
			return HC_OK;
	}
	return HC_E_BUSY;
}

int hc_exists(struct hc_store *s, const void *key, size_t key_bytes)
{
	if (!s || hc_key_is_bad(key, key_bytes))
		return HC_E_INVAL;
	return meta(s, key, key_bytes, NULL);
}

int hc_meta(struct hc_store *s, const void *key, size_t key_bytes, struct hc_meta *ret)
{
	if (!s || !ret || ret->size < sizeof ret->size || hc_key_is_bad(key, key_bytes))
		return HC_E_INVAL;
	return meta(s, key, key_bytes, ret);
}

/* ------------------------------------------------------------ scan */

struct page {
	hc_scan_fn *fn;
	void *arg;
	size_t n;
	uint64_t wall_off_ns; /* CLOCK_REALTIME less the engine's clock */
};

static uint64_t wall_off_ns(const struct hc_thread *th)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec -
	       shm_read_now_ns(&th->reader);
}

static void fill_marks(const struct page *p, const struct shm_item *it, struct hc_scan_entry *to)
{
	uint64_t expiry = shm_load_rlx(&it->expiry_ns), access = shm_load_rlx(&it->access);

	to->absent = it->lens & SHM_LENS_ABSENT ? 1 : 0;
	to->created_ns = it->created_ns;
	to->modified_ns = it->modified_ns;
	to->used_ns = (access >> ACCESS_SHIFT) * NS_PER_MS + p->wall_off_ns;
	to->hits_seen = (uint32_t)(access & ((1u << ACCESS_SHIFT) - 1));
	to->expires_ns = expiry ? expiry + p->wall_off_ns : 0;
	to->ttl_ms = it->ttl_ms;
	if (it->lens & SHM_LENS_FRESH) {
		to->fresh_until_ns = shm_fresh_until_ms(it->stamp) * NS_PER_MS + p->wall_off_ns;
		to->took_ms = (uint32_t)shm_fresh_took_ms(it->stamp);
	} else {
		to->stamp = it->stamp;
	}
}

static int report(void *arg, const void *key, uint64_t key_bytes, const struct shm_found *f)
{
	struct page *p = arg;
	struct hc_scan_entry e = {.key = key,
		.key_bytes = key_bytes,
		.value = f->value,
		.value_bytes = f->value_bytes,
		.version = f->item->version,
		.flags = f->item->flags};

	fill_marks(p, f->item, &e);
	p->n++;
	return p->fn(p->arg, &e) ? FN_STOPPED : 0;
}

static int scan_result(int e)
{
	switch (e) {
	case 0:
	case FN_STOPPED:
		return HC_OK;
	case SCAN_END:
		return HC_MISS;
	case SCAN_BUSY:
		return HC_E_BUSY;
	case SCAN_REVOKED:
		return HC_E_REVOKED;
	default:
		return HC_E_DAMAGED;
	}
}

int hc_scan(struct hc_store *s, struct hc_scan *scan, hc_scan_fn *fn, void *arg)
{
	static const char any[] = "any"; /* hc_read_begin wants a key; its hash is not used */
	struct hc_thread *th;
	struct shm_key k;

	if (!s || !scan || !fn || scan->size < offsetof(struct hc_scan, absent) ||
		(!scan->prefix && scan->prefix_bytes) || scan->prefix_bytes > HC_KEY_BYTES_MAX)
		return HC_E_INVAL;
	bool absent = scan->size >= sizeof *scan && scan->absent;
	int r = hc_read_begin(s, any, sizeof any, &th, &k);
	if (r != 0)
		return r;
	const shm_u64 *cell = hc_free_cell(th);
	if (!cell)
		return HC_E_VIEWS;
	struct shm_map m = hc_map_of(s);
	struct shm_scan what = {.prefix = scan->prefix,
		.prefix_bytes = scan->prefix_bytes,
		.store_id = k.store_id,
		.epoch = k.epoch,
		.absent = absent,
		.cell = (uint32_t)(cell - th->reader.block->pin)};
	struct page p = {.fn = fn, .arg = arg, .wall_off_ns = wall_off_ns(th)};
	size_t max = scan->max_entries ? scan->max_entries : SCAN_ENTRIES;
	int e = 0;
	for (uint32_t n = 0; e == 0 && p.n < max && n < SCAN_CHAINS_MAX; n++) {
		e = shm_read_scan(&th->reader, &m, &what, &scan->cursor, report, &p);
		if (e >= 0 || !hc_read_more(s, e, &r))
			continue;
		m = hc_map_of(s);
		e = 0; /* that chain once more: what it has reported may come again */
	}
	if (e == SCAN_END)
		scan->cursor = 0;
	return scan_result(e);
}

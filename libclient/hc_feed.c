/* hc_feed.c - the change feed of a pool: subscribing, taking events, waiting.
 *
 * A subscription is a place in the pool's ring (shm/feed_read.h), a filter, and room for one event.  It asks the engine for
 * nothing: the ring is read in the read-only mapping, and waited at there (rule P28); or, for a poll loop, at a connection of
 * its own (hc_bell.h).
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "feed_read.h"
#include "hc_bell.h"
#include "hc_i.h"
#include "layout/l_item.h"
#include "step.h"

enum {
	SKIP_MAX = 4096, /* events that do not pass the filter, before the clock is looked at */
	SKIPS_MAX = 64,  /* as often, by a call that does not wait */
};

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

_Static_assert(HC_FEED_KEY_MAX == SHM_FEED_KEY_MAX, "the header tells what the ring holds");
_Static_assert(
	(int)HC_EVENT_SET == SHM_FEED_SET && (int)HC_EVENT_INCR == SHM_FEED_INCR &&
		(int)HC_EVENT_TOUCH == SHM_FEED_TOUCH && (int)HC_EVENT_DELETE == SHM_FEED_DELETE &&
		(int)HC_EVENT_EXPIRE == SHM_FEED_EXPIRE && (int)HC_EVENT_EVICT == SHM_FEED_EVICT &&
		(int)HC_EVENT_CLEAR == SHM_FEED_CLEAR && (int)HC_EVENT_DROP == SHM_FEED_DROP &&
		HC_EVENT_DROP + 1 == SHM_FEED_WHATS,
	"one numbering");
_Static_assert((int)HC_WHY_LIMIT == SHM_FEED_LIMIT && (int)HC_WHY_GIVEN == SHM_FEED_GIVEN &&
		       HC_WHY_DAMAGED + 1 == SHM_FEED_WHYS,
	"one numbering");

/* A store as it was called when an event of it was seen first. */
struct known_store {
	uint64_t id;
	char name[SHM_NAME_BYTES];
};

struct hc_feed {
	struct hc *hc;
	const struct shm_pool *pool;
	uint32_t pool_idx;
	uint64_t feed_off; /* where it was when we subscribed */
	struct shm_feed_reader reader;
	uint64_t store_id; /* 0: all */
	uint64_t missed;   /* to be told by the next call */
	struct known_store known[SHM_STORES_MAX];
	uint32_t known_next; /* the one that is forgotten next */
	size_t prefix_bytes;
	uint8_t *prefix;     /* on the heap; NULL: all */
	struct hc_bell bell; /* rings for hc_feed_fd() */
	uint8_t key[SHM_FEED_KEY_MAX];
};

/* ------------------------------------------------------------------ subscribing */

/* The pool that is meant.  0; HC_E_NO_STORE, HC_E_DENIED, or why it cannot be had. */
static int pool_meant(struct hc *hc, const struct hc_feed_opts *o, struct hc_pool **ret)
{
	if (o->store) {
		*ret = o->store->pool;
		return 0;
	}
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		const struct shm_pool_entry *e = &hc->ctl->pool[i];
		uint64_t id = shm_load_acq(&e->id); /* acq:entry.id */
		if (id == 0 || (o->pool ? strncmp(e->name, o->pool, sizeof e->name) != 0
					: !hc->pool[i].mapped))
			continue;
		*ret = &hc->pool[i];
		return hc_border(hc_map_late(hc, i));
	}
	return HC_E_NO_STORE;
}

/* Finds the feed, if need be in memory that the pool got since.  0, FEED_IS_NONE, -errno. */
static int feed_find(struct hc *hc, struct hc_pool *p, struct shm_feed_reader *ret)
{
	for (uint32_t i = 0; i <= SHM_REGIONS_MAX; i++) {
		uint64_t bytes = shm_load_acq(&p->bytes); /* acq:pool.mapped */
		int r = shm_feed_find(p->base, bytes, ret);
		if (r != -ERANGE)
			return r;
		r = hc_map_more(hc, p);
		if (r <= 0)
			return r < 0 ? err_fwd(r) : err_new(-EBADMSG);
	}
	return err_new(-EBADMSG);
}

/* Goes to where the events wanted begin.  0, or an error of the library. */
static int begin(struct hc_feed *f, const struct hc_feed_opts *o)
{
	uint64_t from = o->from;

	if (from == 0)
		from = FEED_FROM_END;
	else if (from == HC_FEED_OLDEST)
		from = FEED_FROM_OLDEST;
	else if (o->memory && o->memory != f->hc->ctl->seg.daemon_id)
		return HC_E_STALE;
	int r = shm_feed_seek(&f->reader, from, &f->missed);
	if (r == FEED_AHEAD)
		return HC_E_STALE;
	return r < 0 ? HC_E_DAMAGED : 0;
}

static int open_feed(struct hc_feed *f, const struct hc_feed_opts *o)
{
	struct hc_pool *p = NULL;
	int r = pool_meant(f->hc, o, &p);

	if (r != 0)
		return r;
	r = feed_find(f->hc, p, &f->reader);
	if (r != 0)
		return r == FEED_IS_NONE ? HC_E_NO_FEED : hc_border(r);
	f->pool = (const struct shm_pool *)(const void *)p->base;
	f->pool_idx = p->pool_idx;
	f->feed_off = (uint64_t)((const uint8_t *)f->reader.f - p->base);
	f->store_id = o->store ? o->store->id : 0;
	f->prefix_bytes = o->prefix_bytes;
	if (o->prefix_bytes) {
		f->prefix = malloc(o->prefix_bytes);
		if (!f->prefix)
			return HC_E_NO_MEMORY;
		memcpy(f->prefix, o->prefix, o->prefix_bytes);
	}
	return begin(f, o);
}

int hc_subscribe(struct hc *hc, const struct hc_feed_opts *opts, struct hc_feed **ret)
{
	struct hc_feed_opts o;

	if (!ret)
		return HC_E_INVAL;
	*ret = NULL;
	if (!hc || hc_opts_take(&o, sizeof o, opts) < 0 || o.reserved ||
		o.prefix_bytes > HC_FEED_KEY_MAX || (!o.prefix && o.prefix_bytes) ||
		(o.store && (o.store->hc != hc || o.pool)))
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	struct hc_feed *f = calloc(1, sizeof *f);
	if (!f)
		return HC_E_NO_MEMORY;
	f->hc = hc;
	hc_bell_init(&f->bell);
	int r = open_feed(f, &o);
	if (r != 0) {
		hc_feed_close(f);
		return r;
	}
	*ret = f;
	return HC_OK;
}

void hc_feed_close(struct hc_feed *f)
{
	if (!f)
		return;
	hc_bell_fini(&f->bell);
	free(f->prefix);
	free(f);
}

/* ------------------------------------------------------------------ events */

/* The name of a store, also of one that was dropped since. */
static const char *name_of(struct hc_feed *f, uint64_t id)
{
	struct known_store fresh = {.id = id};

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (f->known[i].id == id)
			return f->known[i].name;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &f->hc->ctl->store[i];
		if (shm_load_acq(&e->id) != id) /* acq:entry.id */
			continue;
		memcpy(fresh.name, e->name, sizeof fresh.name - 1);
		shm_copy_over(); /* acq:entry.reuse */
		if (shm_load_rlx(&e->id) != id)
			break;
		struct known_store *to = &f->known[f->known_next++ % SHM_STORES_MAX];
		*to = fresh;
		return to->name;
	}
	return "";
}

static bool passes(const struct hc_feed *f, const struct shm_feed_entry *e)
{
	if (f->store_id && e->store_id != f->store_id)
		return false;
	if (!f->prefix || shm_feed_what(e->shape) >= SHM_FEED_CLEAR)
		return true;
	return shm_lens_key(e->lens) >= f->prefix_bytes &&
	       memcmp(f->key, f->prefix, f->prefix_bytes) == 0;
}

static void fill(struct hc_feed *f, const struct shm_feed_entry *e, struct hc_event *to)
{
	bool keyed = shm_feed_what(e->shape) < SHM_FEED_CLEAR;
	uint32_t what = shm_feed_what(e->shape);

	if (what == SHM_FEED_SET && (e->lens & SHM_LENS_ABSENT))
		what = HC_EVENT_ABSENT;
	struct hc_event ev = {.size = to->size,
		.sequence = e->sequence,
		.lsn = e->lsn,
		.version = e->version,
		.time_ns = e->time_ns,
		.store_id = e->store_id,
		.store = name_of(f, e->store_id),
		.key = f->key,
		.key_bytes = keyed ? shm_lens_key(e->lens) : 0,
		.kept_bytes = keyed ? shm_feed_kept(shm_lens_key(e->lens)) : 0,
		.key_hash = e->hash,
		.value_bytes = keyed ? shm_lens_value(e->lens) : 0,
		.what = what,
		.why = shm_feed_why(e->shape)};

	memcpy(to, &ev, to->size < sizeof ev ? to->size : sizeof ev);
}

static int say_lapped(struct hc_feed *f, uint64_t missed, struct hc_event *to)
{
	struct hc_event ev = {.size = to->size,
		.sequence = f->reader.sequence,
		.store = "",
		.key = f->key,
		.missed = missed};

	memcpy(to, &ev, to->size < sizeof ev ? to->size : sizeof ev);
	return HC_LAPPED;
}

/* Takes the next event that passes.  HC_OK, HC_LAPPED, HC_E_DAMAGED, HC_E_NO_FEED; HC_MISS: there is none, or *ret_more:
 * SKIP_MAX did not pass. */
static int take(struct hc_feed *f, struct hc_event *to, bool *ret_more)
{
	struct shm_feed_entry e;
	uint64_t missed = f->missed;

	*ret_more = false;
	f->missed = 0;
	if (missed)
		return say_lapped(f, missed, to);
	if (shm_load_rlx(&f->pool->feed_off) != f->feed_off)
		return HC_E_NO_FEED;
	for (uint32_t i = 0; i < SKIP_MAX; i++) {
		int r = shm_feed_next(&f->reader, &e, f->key, &missed);
		if (r == FEED_EMPTY)
			return HC_MISS;
		if (r == FEED_LAPPED && MUTANT(375)) /* 375: what was missed is not told */
			continue;
		if (r == FEED_LAPPED)
			return say_lapped(f, missed, to);
		if (r != 0)
			return HC_E_DAMAGED;
		if (!passes(f, &e) && !MUTANT(376)) /* 376: all events pass */
			continue;
		fill(f, &e, to);
		return HC_OK;
	}
	*ret_more = true;
	return HC_MISS;
}

/* ------------------------------------------------------------------ waiting */

/* Until something was written behind where the reader stands, at most a slice. */
static void wait_at(const struct hc_feed *f, uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	(void)syscall(SYS_futex, shm_feed_futex(&f->reader), FUTEX_WAIT, (uint32_t)f->reader.pos,
		&t, NULL, 0);
}

/* May something still come?  0; HC_E_STALE: the daemon is gone; HC_E_CANCELLED. */
static int may_wait(const struct hc_feed *f)
{
	if (hc_conn_interrupted(&f->hc->conn))
		return HC_E_CANCELLED;
	if (shm_load32_rlx(&f->hc->ctl->sup_word) & SHM_FUTEX_OWNER_DIED)
		return HC_E_STALE;
	return 0;
}

static int next_until(struct hc_feed *f, uint64_t deadline_ns, struct hc_event *to)
{
	for (uint32_t round = 0;; round++) {
		/* Looked at first: what the dead have written before is taken. */
		int over = may_wait(f);
		bool more;
		int r = take(f, to, &more);
		if (r != HC_MISS)
			return r;
		uint64_t now_ns = deadline_ns ? hc_now_ns() : 0;
		if (more && (now_ns < deadline_ns || round < SKIPS_MAX))
			continue;
		if (over == HC_E_STALE)
			return over;
		if (now_ns >= deadline_ns)
			return HC_MISS;
		if (over)
			return over;
		uint64_t left_ns = deadline_ns - now_ns;
		wait_at(f, left_ns < HC_SLICE_NS ? left_ns : HC_SLICE_NS);
	}
}

int hc_feed_next(struct hc_feed *f, uint32_t timeout_ms, struct hc_event *ret)
{
	if (!f || !ret || ret->size < sizeof ret->size)
		return HC_E_INVAL;
	if (hc_forked(f->hc))
		return HC_E_FORKED;
	int keep = errno;
	int r = next_until(f, timeout_ms ? hc_now_ns() + timeout_ms * NS_PER_MS : 0, ret);
	if (r == HC_MISS && f->bell.epoll_fd >= 0 && !MUTANT(802)) /* 802: it rings for ever */
		hc_bell_set(&f->bell, &f->hc->conn, f->pool_idx, f->reader.pos);
	errno = keep;
	return r;
}

int hc_feed_fd(struct hc_feed *f, int *ret_fd)
{
	if (!f || !ret_fd)
		return HC_E_INVAL;
	if (hc_forked(f->hc))
		return HC_E_FORKED;
	int r = hc_bell_open(&f->bell);
	if (r == 0)
		*ret_fd = f->bell.epoll_fd;
	return hc_border(r);
}

int hc_feed_position(const struct hc_feed *f, uint64_t *ret_from, uint64_t *ret_memory)
{
	if (!f || !ret_from || !ret_memory)
		return HC_E_INVAL;
	if (hc_forked(f->hc))
		return HC_E_FORKED;
	*ret_from = f->reader.sequence;
	*ret_memory = f->hc->ctl->seg.daemon_id;
	return HC_OK;
}

/* hc_read.c - hc_get, hc_view, hc_mget: the reads of hypercache.h on top of shm/read.h.
 *
 * Each thread that reads has a block of the session's segment to itself (rule P11):
 * its pins, its counters, its ring of hints.  It claims one at its first read
 * and gives it back when it ends; a block whose views are still held is not
 * claimed again before they are released.
 *
 *   struct hc_threads  one per session: the blocks and who has them
 *   struct hc_thread   one per block: private to the thread that owns it
 *   held (TLS)         which blocks this thread has, for which sessions
 *
 * A session is known to a thread by its serial number, not by its address, so that
 * a thread that outlives a session cannot mistake a new one for it.
 *
 * Nothing here makes a system call but a thread's first read (one mutex, once).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "hc_i.h"
#include "read.h"
#include "step.h"

enum {
	FILTER = 64,           /* items whose hint was given lately */
	FILTER_WIPE_MASK = 15, /* one of them is forgotten every 16 hits */
	HELD_MAX = 16,         /* sessions that one thread reads from */
	COPY_TRIES = 8,        /* copies that a revocation may spoil before HC_E_BUSY */
	MGET_GROUP = 16,       /* look-ups whose cache misses overlap */
};

/* [owner: the thread that claimed it, until it ends or the session is closed] */
struct hc_thread {
	struct shm_reader reader;
	struct hc *hc;
	uint64_t hint_head;      /* hints written */
	uint64_t hits;           /* counts for the filter */
	uint64_t filter[FILTER]; /* hint words given lately, by hash of the place */
	uint32_t view_next;      /* where to look for a free view cell first */
	bool owned;              /* by a thread; under registry_lock */
};

struct hc_threads {
	struct hc *hc;
	uint64_t serial;
	struct hc_threads *next; /* in `sessions` */
	uint32_t n;
	struct hc_thread thread[];
};

/* What this thread holds: looked at in every read, so kept small and first-hit. */
struct held {
	uint64_t serial;
	struct hc_thread *thread;
};
static _Thread_local struct held held[HELD_MAX];

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER; /* sessions, states of blocks */
static struct hc_threads *sessions;
static uint64_t last_serial;
static pthread_key_t end_key;
static bool end_key_made;

/* ------------------------------------------------------------ blocks of threads */

static struct hc_threads *session_by_serial(uint64_t serial)
{
	for (struct hc_threads *t = sessions; t; t = t->next)
		if (t->serial == serial)
			return t;
	return NULL;
}

/* A thread ends: its blocks go back to the sessions that still live. */
static void thread_ended(void *arg)
{
	struct held *h = arg;

	(void)pthread_mutex_lock(&registry_lock);
	for (int i = 0; i < HELD_MAX; i++) {
		struct hc_threads *t = h[i].serial ? session_by_serial(h[i].serial) : NULL;
		if (t && !hc_forked(t->hc))
			h[i].thread->owned = false;
		h[i].serial = 0;
	}
	(void)pthread_mutex_unlock(&registry_lock);
}

/* A fork in the middle of another thread's claim must not leave the child a locked mutex. */
static void before_fork(void) { (void)pthread_mutex_lock(&registry_lock); }
static void after_fork(void) { (void)pthread_mutex_unlock(&registry_lock); }

static bool make_end_key(void)
{
	return pthread_atfork(before_fork, after_fork, after_fork) == 0 &&
	       pthread_key_create(&end_key, thread_ended) == 0;
}

__attribute__((destructor)) static void library_unloaded(void)
{
	if (end_key_made)
		(void)pthread_key_delete(end_key);
}

struct hc_threads *hc_threads_new(struct hc *hc)
{
	struct hc_threads *t = calloc(1, sizeof *t + hc->n_blocks * sizeof t->thread[0]);
	struct shm_block *block = (struct shm_block *)(void *)(hc->seg + 1);
	struct timespec res = {0};

	if (!t)
		return NULL;
	(void)clock_getres(CLOCK_MONOTONIC_COARSE, &res);
	t->hc = hc;
	t->n = hc->n_blocks;
	for (uint32_t i = 0; i < t->n; i++) {
		t->thread[i].hc = hc;
		t->thread[i].reader = (struct shm_reader){.block = &block[i],
			.pin_gen = &hc->ctl->pin_gen[hc->slot],
			.time_off_ns = hc->time_off_ns,
			.coarse_res_ns = (uint64_t)res.tv_nsec,
			.full_fence = hc->full_fence};
	}
	(void)pthread_mutex_lock(&registry_lock);
	if (!end_key_made)
		end_key_made = make_end_key();
	t->serial = ++last_serial;
	t->next = sessions;
	sessions = t;
	bool ok = end_key_made;
	(void)pthread_mutex_unlock(&registry_lock);
	if (!ok) {
		hc_threads_free(t);
		return NULL;
	}
	return t;
}

void hc_threads_free(struct hc_threads *t)
{
	if (!t)
		return;
	(void)pthread_mutex_lock(&registry_lock);
	for (struct hc_threads **p = &sessions; *p; p = &(*p)->next)
		if (*p == t) {
			*p = t->next;
			break;
		}
	(void)pthread_mutex_unlock(&registry_lock);
	free(t);
}

/* May the block be given to a thread?  Not while somebody holds a view in it. */
static bool block_is_free(struct hc_thread *th)
{
	if (th->owned)
		return false;
	for (int i = 0; i < SHM_BLOCK_PINS; i++)
		if (shm_load_acq(&th->reader.block->pin[i]) != 0) /* acq:pin.word */
			return false;
	return true;
}

static struct hc_thread *claim_locked(struct hc_threads *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct hc_thread *th = &t->thread[i];
		if (!block_is_free(th))
			continue;
		th->owned = true;
		th->hint_head = shm_load_rlx(&th->reader.block->hint_head);
		if (shm_load32_rlx(&t->hc->seg->blocks_used) < i + 1)
			/* rel:client.blocks: before the first pin of this block (l_client.h). */
			shm_store32_rel(&t->hc->seg->blocks_used, i + 1);
		return th;
	}
	return NULL;
}

/* A thread's first read of a session.  0, HC_E_THREADS, HC_E_NO_MEMORY. */
static int claim(struct hc_threads *t, struct hc_thread **ret)
{
	int slot = -1;

	(void)pthread_mutex_lock(&registry_lock);
	for (int i = 0; i < HELD_MAX; i++)
		if (held[i].serial == 0 || !session_by_serial(held[i].serial))
			slot = slot < 0 ? i : slot;
	int e = slot < 0 ? HC_E_THREADS : 0;
	if (e == 0 && pthread_setspecific(end_key, held) != 0)
		e = HC_E_NO_MEMORY;
	struct hc_thread *th = e == 0 ? claim_locked(t) : NULL;
	if (th) {
		held[slot] = held[0];
		held[0] = (struct held){.serial = t->serial, .thread = th};
	} else if (e == 0) {
		e = HC_E_THREADS;
	}
	(void)pthread_mutex_unlock(&registry_lock);
	*ret = th;
	return e;
}

/* This thread's block of the session.  0, or as claim. */
static inline int thread_of(struct hc *hc, struct hc_thread **ret)
{
	uint64_t serial = hc->threads->serial;

	if (__builtin_expect(held[0].serial == serial, 1)) {
		*ret = held[0].thread;
		return 0;
	}
	for (int i = 1; i < HELD_MAX; i++) {
		if (held[i].serial != serial)
			continue;
		struct held h = held[i];
		held[i] = held[0];
		held[0] = h;
		*ret = h.thread;
		return 0;
	}
	return claim(hc->threads, ret);
}

/* ------------------------------------------------------------ counting and hints */

static struct shm_store_reads *reads_of(const struct hc_thread *th, const struct hc_store *s)
{
	return &th->reader.block->store[s->idx];
}

/* Leaves a hint that the item was hit, unless one was left a moment ago. */
static inline void hint(struct hc_thread *th, uint64_t pin)
{
	uint64_t word = pin & (SHM_WORD_OFF_MASK | SHM_WORD_LOW_MASK);
	uint64_t n = th->hits++;
	uint32_t at = (uint32_t)((word >> SHM_WORD_OFF_SHIFT) * 0x9e3779b1u >> 16) % FILTER;

	if ((n & FILTER_WIPE_MASK) == 0)
		th->filter[(n / (FILTER_WIPE_MASK + 1)) % FILTER] = 0;
	if (th->filter[at] == word)
		return;
	th->filter[at] = word;
	struct shm_block *b = th->reader.block;
	shm_store_rlx(&b->hint[th->hint_head % SHM_HINTS], word);
	th->hint_head++;
	shm_store_rel(&b->hint_head, th->hint_head); /* rel:hint.head */
}

static inline void count_hit(
	struct hc_thread *th, const struct hc_store *s, const struct shm_found *f)
{
	struct shm_store_reads *r = reads_of(th, s);

	shm_count(&r->hits, 1);
	shm_count(&r->hit_bytes, f->value_bytes);
	hint(th, f->pin);
}

/* ------------------------------------------------------------ one look-up */

/* What every read tests first.  0 or an error. */
static inline int may_read(const struct hc_store *s)
{
	if (hc_forked(s->hc))
		return HC_E_FORKED;
	if (__builtin_expect(shm_load32_rlx(&s->hc->ctl->sup_word) & SHM_FUTEX_OWNER_DIED, 0) &&
		s->hc->stale_policy == HC_STALE_FAIL)
		return HC_E_STALE;
	return 0;
}

static inline bool key_is_bad(const void *key, size_t key_bytes)
{
	return !key || key_bytes == 0 || key_bytes > HC_KEY_BYTES_MAX;
}

/* The key as the store is now.  0, or HC_E_NO_STORE. */
static inline int key_of(const struct hc_store *s, const void *key, size_t n, struct shm_key *ret)
{
	/* acq:entry.id */
	if (__builtin_expect(shm_load_acq(&s->entry->id) != s->id, 0))
		return HC_E_NO_STORE;
	*ret = (struct shm_key){.bytes = key,
		.n_bytes = (uint32_t)n,
		.store_id = s->id,
		.epoch = (uint32_t)shm_load_rlx(&s->entry->epoch),
		.hash = shm_key_hash(key, n, s->hc->ctl->hash_seed, s->id)};
	return 0;
}

static int result_of(int e)
{
	switch (e) {
	case 0:
		return HC_OK;
	case READ_MISS:
		return HC_MISS;
	case READ_BUSY:
		return HC_E_BUSY;
	default:
		return HC_E_DAMAGED;
	}
}

/* Finds and pins; counts a miss. */
static inline int find(struct hc_thread *th, const struct hc_store *s, const struct shm_key *k,
	uint32_t cell, struct shm_found *f)
{
	struct shm_map m = {
		.base = s->pool->base, .bytes = s->pool->bytes, .pool_idx = s->pool->pool_idx};
	int e = shm_read_find(&th->reader, &m, k, cell, f);

	if (e == READ_MISS)
		shm_count(&reads_of(th, s)->misses, 1);
	return result_of(e);
}

/* Find, copy, unpin.  The copy counts only if the pin was good to its end (rule P12). */
static int get_copy(struct hc_thread *th, const struct hc_store *s, const struct shm_key *k,
	void *buf, size_t buf_bytes, size_t *ret_bytes)
{
	struct shm_found f;

	for (int n = 0; n < COPY_TRIES; n++) {
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

	if (!s || key_is_bad(key, key_bytes) || (!buf && buf_bytes))
		return HC_E_INVAL;
	int r = may_read(s);
	if (r == 0)
		r = thread_of(s->hc, &th);
	if (r == 0)
		r = key_of(s, key, key_bytes, &k);
	if (r == 0)
		r = get_copy(th, s, &k, buf, buf_bytes, &n);
	if (r >= 0 && r != HC_MISS && ret_bytes)
		*ret_bytes = n;
	return r;
}

/* ------------------------------------------------------------ views */

/* opaque[]: session, pin cell, pin word, whole pin generation */
enum { V_HC = 0, V_CELL = 1, V_PIN = 2, V_GEN = 3 };

/* A free view cell of this thread; ~0: none.  Only this thread takes cells of its
 * block; any thread may free one. */
static uint32_t free_cell(struct hc_thread *th)
{
	enum { N = SHM_BLOCK_PINS - SHM_PIN_VIEW };

	for (uint32_t i = 0; i < N; i++) {
		uint32_t at = (th->view_next + i) % N;
		/* acq:pin.word: whoever released it has read the last of it. */
		if (shm_load_acq(&th->reader.block->pin[SHM_PIN_VIEW + at]) == 0) {
			th->view_next = at + 1;
			return SHM_PIN_VIEW + at;
		}
	}
	return ~0u;
}

static void fill_view(struct hc_view *v, const struct hc_store *s, struct hc_thread *th,
	uint32_t cell, const struct shm_found *f)
{
	*v = (struct hc_view){.value = f->value,
		.value_bytes = f->value_bytes,
		.version = f->item->version,
		.flags = f->item->flags,
		.created_ns = f->item->created_ns,
		.modified_ns = f->item->modified_ns};
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

	if (!s || !ret || key_is_bad(key, key_bytes))
		return HC_E_INVAL;
	int r = may_read(s);
	if (r == 0)
		r = thread_of(s->hc, &th);
	if (r == 0)
		r = key_of(s, key, key_bytes, &k);
	if (r != 0)
		return r;
	uint32_t cell = free_cell(th);
	if (cell == ~0u)
		return HC_E_VIEWS;
	for (int n = 0; n < COPY_TRIES; n++) {
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
	struct shm_map m = {
		.base = s->pool->base, .bytes = s->pool->bytes, .pool_idx = s->pool->pool_idx};
	struct shm_key k[MGET_GROUP];

	for (size_t i = 0; i < n; i++) {
		int r = key_of(s, it[i].key, it[i].key_bytes, &k[i]);
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
		if (key_is_bad(items[i].key, items[i].key_bytes) ||
			(!items[i].buf && items[i].buf_bytes))
			return HC_E_INVAL;
	int r = may_read(s);
	if (r == 0)
		r = thread_of(s->hc, &th);
	for (size_t at = 0; r == 0 && at < n; at += MGET_GROUP)
		r = mget_group(th, s, items + at, n - at < MGET_GROUP ? n - at : MGET_GROUP);
	return r;
}

/* stress_shm.c - do real threads agree under the thread sanitizer, and real processes without it?
 *
 * One engine sets, deletes, moves, evicts, grows the index and reuses memory; readers copy, hold views,
 * and look keys up in batches.  A value's bytes name its key and version, so a torn or foreign value
 * shows; what is freed is overwritten at once, so that a use after it shows; a reader never sees an older
 * version of a key after a newer one.
 *
 * Under the thread sanitizer (a build with -Db_sanitize=thread):
 *
 *   - It checks that every plain access to an item, and to a new table, is ordered: a slot's release and
 *     acquire before it, a pin's release and acquire after it.  It needs no help for that: a reader reads
 *     an item only between storing its pin and storing something else there, and the engine reuses the
 *     place only after it has loaded that something else.
 *   - It does not check the fence between pin and second look, nor membarrier: it runs one order of all
 *     accesses to a word, and knows of no fence.  Planted bug 6 (the engine forgets the barrier) is found
 *     by one_hot_key_among_processes, and by the models.
 *   - A reader that stalls in the next table of a growing one may load slots there after that table was
 *     retired and reused (rule P7 throws away what it saw): an atomic load beside plain stores, which
 *     would be reported.  Nobody stalls that long here; tests/race/ has that case.
 *   - Revocation is left out: a copy that is thrown away afterwards (rule P12) is a race by intention.
 *
 * The processes use compiler fences and membarrier, as clients do.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"
#include "../../shm/atomic.h"
#include "../../shm/index_write.h"
#include "../../shm/step.h"

#ifdef __SANITIZE_THREAD__
enum { UNDER_TSAN = 1 };
#else
enum { UNDER_TSAN = 0 };
#endif

enum {
	READERS = 3,
	KEYS = 3000,
	ROUNDS = UNDER_TSAN ? 2 : 4, /* each grows the index anew */
	CHANGES = UNDER_TSAN ? 15000 : 40000,
	HOT_CHANGES = 100000000, /* at most; until the reader has found the key so often: */
	HOT_HITS = UNDER_TSAN ? 5000 : 30000,
	HOT_HITS_PLANTED =
		3000000, /* with bug 6 planted: found by luck, mostly within a tenth of it */
	HOT_BYTES = 600,
	READS_MAX = 1 << 28,
	VALUE_MAX = 1 << 14,
	COLD_BYTES = 64 << 20,
	COLD_STORES = 48,
	VIEWS = 6,
	VIEW_READS = 200, /* reads during which a view is held, at most */
	WAIT_MS = 100000,
	POOL_BYTES = 1 << 20,
};

static struct t_pool p;

/* What engine and readers say to each other, also across processes. */
static struct told {
	_Atomic bool stop;
	_Atomic uint64_t hits, views, busy;
} * told;

/* ------------------------------------------------------------ a reader */

struct held {
	struct shm_found f;
	uint32_t key;
	uint64_t until; /* read number; 0: free */
};

struct reading {
	struct shm_reader r;
	struct shm_map m;
	uint64_t seed, n, hits, views, busy;
	uint32_t n_keys;
	uint32_t newest[KEYS]; /* last version seen */
	struct held held[VIEWS];
	uint8_t buf[VALUE_MAX];
};

static uint64_t lot(struct reading *x, uint64_t n) { return t_random_from(&x->seed) % n; }

static void check_newest(struct reading *x, uint32_t key, uint64_t v)
{
	if (v == 0 || v < x->newest[key])
		t_fail(__FILE__, __LINE__, "key %u: version %llu after version %u", key,
			(unsigned long long)v, x->newest[key]);
	x->newest[key] = (uint32_t)v;
	x->hits++;
}

/* true: the item is pinned in cell. */
static bool find(struct reading *x, uint32_t key, uint32_t cell, struct shm_found *f)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;

	t_pool_key(&p, key, bytes, &k);
	int e = shm_read_find(&x->r, &x->m, &k, cell, f);
	CHECK(e == 0 || e == READ_MISS || e == READ_BUSY);
	x->busy += e == READ_BUSY;
	return e == 0;
}

static void read_copy(struct reading *x, uint32_t key)
{
	struct shm_found f;

	if (!find(x, key, SHM_PIN_CALL, &f))
		return;
	CHECK(f.value_bytes <= VALUE_MAX);
	memcpy(x->buf, f.value, f.value_bytes);
	shm_read_unpin(x->r.block, SHM_PIN_CALL);
	check_newest(x, key, t_value_version(key, x->buf, f.value_bytes));
}

static void release(struct reading *x, uint32_t i)
{
	struct held *h = &x->held[i];

	if (!h->until)
		return;
	CHECK(t_value_version(h->key, h->f.value, h->f.value_bytes) == h->f.item->stamp);
	shm_read_unpin(x->r.block, SHM_PIN_VIEW + i);
	h->until = 0;
	x->views++;
}

static void read_view(struct reading *x, uint32_t key)
{
	uint32_t i = (uint32_t)lot(x, VIEWS);
	struct held *h = &x->held[i];

	release(x, i);
	if (!find(x, key, SHM_PIN_VIEW + i, &h->f))
		return;
	h->key = key;
	h->until = x->n + 1 + lot(x, VIEW_READS);
	check_newest(x, key, t_value_version(key, h->f.value, h->f.value_bytes));
}

static uint32_t some_key(struct reading *x)
{
	uint64_t a = lot(x, x->n_keys), b = lot(x, x->n_keys);

	return (uint32_t)(a < b ? a : b);
}

static void read_many(struct reading *x)
{
	uint32_t key[8];

	for (int i = 0; i < 8; i++) {
		uint8_t bytes[T_KEY_BYTES_MAX];
		struct shm_key k;
		key[i] = some_key(x);
		t_pool_key(&p, key[i], bytes, &k);
		shm_read_prefetch_bucket(&x->m, k.hash);
	}
	for (int i = 0; i < 8; i++)
		read_copy(x, key[i]);
}

static struct reading *reading_new(uint32_t self, uint32_t n_keys)
{
	struct reading *x = calloc(1, sizeof *x);

	CHECK(x);
	x->r = t_pool_reader(&p, self, 0);
	x->m = t_pool_map(&p);
	x->seed = t_seed() + self;
	x->n_keys = n_keys;
	return x;
}

static void reading_free(struct reading *x)
{
	for (uint32_t i = 0; i < VIEWS; i++)
		release(x, i);
	atomic_fetch_add(&told->hits, x->hits);
	atomic_fetch_add(&told->views, x->views);
	atomic_fetch_add(&told->busy, x->busy);
	free(x);
}

/* Stores that miss the caches, so that the pins that follow wait long in the processor's queue of
 * stores while the loads behind them run ahead: what the barrier is there for. */
static void delay_stores(struct reading *x)
{
	static uint8_t *cold;

	if (!cold) {
		cold = mmap(NULL, COLD_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		CHECK(cold != MAP_FAILED);
	}
	for (int i = 0; i < COLD_STORES; i++)
		*(uint8_t volatile *)&cold[lot(x, COLD_BYTES)] = 1; /* bare: a store, and no load */
}

static void read_hot(uint32_t self)
{
	struct reading *x = reading_new(self, 1);

	for (; x->n < READS_MAX && !atomic_load(&told->stop); x->n++) {
		delay_stores(x);
		if (x->n % 64 == 0)
			release(x, 0);
		if (x->n % 64 == 32)
			read_view(x, 0);
		else
			read_copy(x, 0);
		if (x->n % 256 == 0)
			atomic_store(&told->hits, x->hits);
	}
	reading_free(x);
}

static void read_mixed(uint32_t self)
{
	struct reading *x = reading_new(self, KEYS);

	for (; x->n < READS_MAX && !atomic_load(&told->stop); x->n++) {
		uint64_t what = lot(x, 16);
		for (uint32_t i = 0; i < VIEWS; i++)
			if (x->held[i].until && x->held[i].until <= x->n)
				release(x, i);
		if (what == 0)
			read_many(x);
		else if (what < 4)
			read_view(x, some_key(x));
		else
			read_copy(x, some_key(x));
	}
	reading_free(x);
}

/* ------------------------------------------------------------ the engine */

static uint32_t newest[KEYS];
static uint64_t engine_seed;

static void freed(void *arg, uint64_t off, uint64_t bytes)
{
	(void)arg;
	memset(p.base + off, 0xdd, bytes);
}

static uint64_t engine_lot(uint64_t n) { return t_random_from(&engine_seed) % n; }

static uint64_t some_bytes(void)
{
	uint64_t what = engine_lot(20);

	return what == 0  ? 9000 + engine_lot(4000)
	       : what < 5 ? 500 + engine_lot(500)
	                  : 16 + engine_lot(80);
}

static void change(void)
{
	uint32_t key = (uint32_t)engine_lot(KEYS);
	uint64_t what = engine_lot(32), off;

	if (what < 24) {
		CHECK_EQ(t_pool_set(&p, key, ++newest[key], some_bytes()), 0);
	} else if (what < 28) {
		CHECK(t_pool_delete(&p, key) >= 0);
	} else if (what < 30) {
		off = t_pool_find(&p, key);
		int e = off ? shm_pool_move(&p.w, off, &off) : 0;
		CHECK(e == 0 || e == POOL_FULL);
	} else if (what < 31) {
		(void)shm_pool_grow_step(&p.w, 16);
	} else {
		(void)t_pool_sweep(&p);
	}
}

static void begin(bool full_fence)
{
	if (!full_fence)
		CHECK_EQ(shm_barrier_register(), 0);
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(told != MAP_FAILED);
	engine_seed = t_random();
}

static void begin_round(bool full_fence)
{
	memset(newest, 0, sizeof newest);
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL_BYTES, .full_fence = full_fence});
	CHECK_EQ(t_pool_start(&p), 0);
	for (uint32_t i = 0; i < READERS; i++) /* as the supervisor does, before the readers run */
		(void)t_pool_reader(&p, i, 0);
	p.on_free = freed;
	atomic_store(&told->stop, false);
}

static void end_round(void)
{
	(void)t_pool_sweep(&p);
	CHECK_EQ(p.w.limbo.n, 0);
	t_pool_check(&p);
	t_pool_fsck(&p);
	CHECK(p.w.cur.log2_buckets > INDEX_LOG2_MIN + 1);
	CHECK(p.n_evicted > 100);
	t_pool_free(&p);
}

static void end(void)
{
	CHECK(atomic_load(&told->hits) > 10000);
	CHECK(atomic_load(&told->views) > 1000);
	CHECK(atomic_load(&told->busy) * 1000 < atomic_load(&told->hits));
	CHECK_EQ(munmap(told, sizeof *told), 0);
}

/* ------------------------------------------------------------ threads */

static void *thread(void *arg)
{
	read_mixed((uint32_t)(uintptr_t)arg);
	return NULL;
}

static void round_of_threads(bool full_fence)
{
	pthread_t t[READERS];

	begin_round(full_fence);
	for (uintptr_t i = 0; i < READERS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, thread, (void *)i), 0);
	for (int i = 0; i < CHANGES; i++)
		change();
	atomic_store(&told->stop, true);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	end_round();
}

TEST_LIMIT(threads_with_membarrier, 200)
{
	if (!shm_barrier_is_allowed())
		SKIP("membarrier is not allowed here");
	begin(false);
	for (int i = 0; i < ROUNDS; i++)
		round_of_threads(false);
	end();
}

TEST_LIMIT(threads_with_full_fences, 200)
{
	begin(true);
	for (int i = 0; i < ROUNDS; i++)
		round_of_threads(true);
	end();
}

/* ------------------------------------------------------------ processes */

static void fork_readers(pid_t *pid, uint32_t n, void (*read)(uint32_t self))
{
	fflush(NULL);
	for (uint32_t i = 0; i < n; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i] == 0) {
			read(i);
			_exit(0);
		}
	}
}

static void wait_readers(const pid_t *pid, uint32_t n)
{
	int bad = 0;

	atomic_store(&told->stop, true);
	for (uint32_t i = 0; i < n; i++)
		bad += t_wait_child(pid[i], WAIT_MS) != 0;
	CHECK_EQ(bad, 0);
}

static void round_of_processes(void)
{
	pid_t pid[READERS];

	begin_round(false);
	fork_readers(pid, READERS, read_mixed);
	for (int i = 0; i < CHANGES; i++)
		change();
	wait_readers(pid, READERS);
	end_round();
}

TEST_LIMIT(processes_with_membarrier, 200)
{
	if (!shm_barrier_is_allowed())
		SKIP("membarrier is not allowed here");
	begin(false);
	for (int i = 0; i < ROUNDS; i++)
		round_of_processes();
	end();
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = {.si_pid = 0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

/* One key that comes and goes, its memory overwritten as fast as can be; one reader, on a core of its
 * own; nothing between the change of the slot and the scan. */
TEST_LIMIT(one_hot_key_among_processes, 200)
{
	static uint8_t value[HOT_BYTES];
	struct shm_req req = {.session = SHM_REQ_ENGINE};
	struct shm_set set = {.value = value, .value_bytes = sizeof value};
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_changed c, gone;
	uint64_t n_kept = 0, enough = HOT_HITS;
	pid_t pid;

	if (!shm_barrier_is_allowed())
		SKIP("membarrier is not allowed here");
#ifdef HC_STEPS
	enough = shm_mutant == 6 ? HOT_HITS_PLANTED : HOT_HITS;
#endif
	begin(false);
	begin_round(false);
	t_pool_key(&p, 0, bytes, &set.key);
	p.n_sessions = 1; /* a short scan, for the reader's pin alone */
	fork_readers(&pid, 1, read_hot);
	for (int i = 0; i < HOT_CHANGES; i++) {
		if (i % 4096 == 0 && (has_ended(pid) || atomic_load(&told->hits) > enough))
			break;
		t_value_make(0, ++newest[0], value, sizeof value);
		set.stamp = newest[0];
		CHECK_EQ(shm_pool_set(&p.w, p.journal, &req, &set, &c), 0);
		for (uint64_t spin = engine_lot(1000); spin > 0; spin--)
			atomic_signal_fence(memory_order_seq_cst);
		CHECK_EQ(shm_pool_unlink(&p.w, c.off, &gone), 0);
		shm_scan_pins(&p.pins, p.ctl, p.session, p.n_sessions, true);
		(void)shm_pool_sweep(&p.w, &p.pins, p.session);
		if (!shm_alloc_is_taken(p.w.alloc, c.off))
			freed(NULL, c.off, HOT_BYTES);
		else
			n_kept++;
	}
	wait_readers(&pid, 1);
	CHECK(atomic_load(&told->hits) > enough);
	CHECK(n_kept > 0 || sysconf(_SC_NPROCESSORS_ONLN) == 1);
	(void)t_pool_sweep(&p);
	CHECK_EQ(p.w.limbo.n, 0);
	t_pool_fsck(&p);
	t_pool_free(&p);
}

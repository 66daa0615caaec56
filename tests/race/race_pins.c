/* race_pins.c - is each order of the marks right, for readers beside an engine at work?
 *
 * The engine and the readers are coroutines of one thread.  They change places at marks only
 * (shm/step.h), in an order that a number decides: one schedule.  Each test runs thousands.
 *
 * A value's bytes name its key and version, all of them.  What a read returns must be one whole version
 * that was current at some moment of the call; a miss, a moment without one; what a view shows must not
 * change until it is released.  Freed memory is overwritten at once in most schedules, so that a use
 * after it shows; in the others it is left, so that what is stale still looks sound.
 *
 * Two ways of choosing: at every mark by lot; or by priorities that change at a few marks (Burckhardt,
 * Kothari, Musuvathi, Nagarakatte, 2010), which finds what needs one long stall at the right place.
 *
 * What this cannot see: one thread has no store buffer, so a missing barrier or a wrong memory order
 * stays hidden (tests/model/ and tests/stress/ look for those); and nothing switches between two marks.
 *
 *	T_SEED=...                  as everywhere: the seed of all schedules
 *	T_SCHEDULE=n                runs this one alone, and prints each mark
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "../kit/t.h"
#include "../kit/t_kit.h"
#include "../kit/t_pool.h"
#include "../../shm/atomic.h"
#include "../../shm/index_write.h"
#include "../../shm/step.h"

enum {
	COROUTINES = 3, /* the engine is the first */
	ENGINE = 0,
	STACK_BYTES = 256 << 10,
	HOT = 6,        /* keys that change; each in another chain */
	VERSIONS = 64,  /* of a key in one schedule */
	NEW_KEY = 2000, /* keys from here on are set once */
	CHANGES_MAX = 3,
	VALUE_MAX = 8192,
	STEPS_MAX = 1 << 20, /* of a schedule: more is a loop */
	POOL_BYTES = 256 << 10,
};

/* ------------------------------------------------------------ schedules */

struct coroutine {
	ucontext_t ctx;
	void *stack;
	void (*run)(int self);
	uint64_t priority;
	bool done;
};

static struct coroutine co[COROUTINES];
static ucontext_t scheduler;
static int now = -1; /* who runs; -1: nobody, marks mean nothing */
static uint64_t schedule_state, n_steps, usual_steps = 400;
static uint64_t change_at[CHANGES_MAX]; /* marks at which a priority falls */
static uint64_t switch_mask; /* by lot: a switch at one of mask + 1 marks; ~0: priorities */
static uint64_t next_low;
static uint64_t schedule_number;
static bool tracing;

static uint64_t lot(uint64_t n) { return t_random_from(&schedule_state) % n; }

static int choose_by_lot(void)
{
	int alive[COROUTINES], n = 0;

	for (int i = 0; i < COROUTINES; i++)
		if (!co[i].done)
			alive[n++] = i;
	return n ? alive[lot((uint64_t)n)] : -1;
}

static int choose_by_priority(void)
{
	int best = -1;

	for (int i = 0; i < COROUTINES; i++)
		if (!co[i].done && (best < 0 || co[i].priority > co[best].priority))
			best = i;
	return best;
}

static int choose(void) { return switch_mask == ~0ull ? choose_by_priority() : choose_by_lot(); }

static void on_step(const char *name)
{
	int self = now;

	if (self < 0)
		return;
	if (tracing)
		fprintf(stderr, "  %d %s\n", self, name);
	if (++n_steps > STEPS_MAX)
		t_fail(__FILE__, __LINE__, "no end");
	if (switch_mask == ~0ull) {
		for (int i = 0; i < CHANGES_MAX; i++)
			if (n_steps == change_at[i])
				co[self].priority = next_low--;
	} else if (t_random_from(&schedule_state) & switch_mask) {
		return;
	}
	int to = choose();
	if (to == self)
		return;
	now = to;
	CHECK_EQ(swapcontext(&co[self].ctx, &co[to].ctx), 0);
}

static void run_coroutine(int self)
{
	co[self].run(self);
	co[self].done = true;
	now = choose();
	CHECK_EQ(setcontext(now < 0 ? &scheduler : &co[now].ctx), 0);
}

static void print_schedule(void)
{
	fprintf(stderr, "  schedule %llu: T_SCHEDULE=%llu with the line below repeats it alone\n",
		(unsigned long long)schedule_number, (unsigned long long)schedule_number);
}

static void begin_schedule(uint64_t n, uint64_t base, void (*engine)(int), void (*reader)(int))
{
	schedule_number = n;
	schedule_state = base + n * 0x9e3779b97f4a7c15ull;
	n_steps = 0;
	next_low = 99;
	switch_mask = lot(2) ? ~0ull : (1ull << lot(6)) - 1;
	for (int i = 0; i < CHANGES_MAX; i++) /* anywhere, or more likely early */
		change_at[i] = 1 + lot(lot(2) ? usual_steps : 1ull << lot(12));
	for (int i = 0; i < COROUTINES; i++) {
		struct coroutine *c = &co[i];
		if (!c->stack) {
			c->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			CHECK(c->stack != MAP_FAILED);
		}
		CHECK_EQ(getcontext(&c->ctx), 0);
		c->ctx.uc_stack.ss_sp = c->stack;
		c->ctx.uc_stack.ss_size = STACK_BYTES;
		c->run = i == ENGINE ? engine : reader;
		c->done = false;
		c->priority = 100 + lot(1000);
		makecontext(&c->ctx, (void (*)(void))run_coroutine, 1, i);
	}
}

static void run_schedule(void)
{
	shm_step_hook = on_step;
	now = choose();
	CHECK_EQ(swapcontext(&scheduler, &co[now].ctx), 0);
	shm_step_hook = NULL;
	usual_steps = (usual_steps * 7 + n_steps) / 8;
}

/* ------------------------------------------------------------ the pool and its history */

static struct t_pool p, prepared;
static bool poison; /* overwrite what is freed */

/* The changes of a hot key, numbered: version n is there if !gone[n]. */
static struct history {
	uint32_t done, begun; /* last change that has ended, has begun */
	bool gone[VERSIONS];
} history[HOT];
static uint32_t hot[HOT]; /* the keys */
static uint64_t n_keys, n_new;

static uint32_t history_of(uint32_t key)
{
	for (uint32_t i = 0; i < HOT; i++)
		if (hot[i] == key)
			return i;
	return HOT;
}

static void freed(void *arg, uint64_t off, uint64_t bytes)
{
	(void)arg;
	if (poison)
		memset(p.base + off, 0xdd, bytes);
}

static void evicted(void *arg, uint32_t key, bool done)
{
	(void)arg, (void)done;
	t_fail(__FILE__, __LINE__, "the pool is too small: key %u would be evicted", key);
}

static uint64_t chain_of(uint32_t key)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;

	t_pool_key(&p, key, bytes, &k);
	return shm_hash_bucket(k.hash, INDEX_LOG2_MIN);
}

static void prepare_pool(void)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL_BYTES, .n_keys = 1 << 20});
	CHECK_EQ(t_pool_start(&p), 0);
	p.on_free = freed;
	p.on_evict = evicted;
	t_kit_fail_hook = print_schedule;
}

/* n keys; hot ones early in the table, late, and between. */
static void prepare(uint32_t n)
{
	prepare_pool();
	for (uint32_t i = 0, key = 0; i < HOT; i++) {
		while (chain_of(key) / 11 != i)
			key++;
		hot[i] = key++;
	}
	CHECK(hot[HOT - 1] < n);
	n_keys = n;
	for (uint32_t key = 0; key < n; key++)
		CHECK_EQ(t_pool_set(&p, key, 1, 40), 0);
}

/* Hot keys crowd behind others in two chains, in overflow buckets. */
static void prepare_crowd(void)
{
	uint32_t n[2] = {0}, n_hot = 0, key = NEW_KEY + 1000;

	prepare_pool();
	n_keys = 0;
	for (; n[0] + n[1] < 2 * SHM_BUCKET_SLOTS + HOT; key++) {
		uint64_t which = chain_of(key) - 40;
		if (which > 1 || n[which] == SHM_BUCKET_SLOTS + HOT / 2)
			continue;
		CHECK_EQ(t_pool_set(&p, key, 1, 40), 0);
		if (n[which]++ >= SHM_BUCKET_SLOTS)
			hot[n_hot++] = key;
	}
	CHECK_EQ(n_hot, HOT);
	CHECK_EQ(p.w.cur.overflow_used, 2);
}

/* What is prepared is what every schedule begins with. */
static void prepared_is(void)
{
	t_pool_stop(&p);
	t_pool_copy(&prepared, &p);
}

static void begin_pool(void)
{
	t_pool_restore(&p, &prepared);
	CHECK_EQ(t_pool_start(&p), 0);
	poison = lot(4) != 0;
	n_new = 0;
	for (uint32_t i = 0; i < HOT; i++)
		history[i] = (struct history){.done = 1, .begun = 1, .gone = {true}};
}

static void run(uint64_t n, void (*engine)(int), void (*reader)(int))
{
	const char *one = getenv("T_SCHEDULE");
	uint64_t base = t_random(), first = one ? strtoull(one, NULL, 0) : 0;

	prepared_is();
	tracing = one != NULL;
	for (uint64_t i = first; i < (one ? first + 1 : n); i++) {
		begin_schedule(i, base, engine, reader);
		begin_pool();
		run_schedule();
		(void)t_pool_sweep(&p);
		CHECK_EQ(p.w.limbo.n, 0); /* every pin was given back */
		if (i % 64 == 0)
			t_pool_check(&p);
		t_pool_stop(&p);
	}
	for (int i = 0; i < COROUTINES; i++)
		CHECK_EQ(munmap(co[i].stack, STACK_BYTES), 0);
	t_pool_free(&prepared);
	t_pool_free(&p);
}

/* ------------------------------------------------------------ the engine's changes */

static uint64_t some_bytes(void)
{
	static const uint64_t sizes[] = {40, 40, 40, 48, 700, 3000};

	return sizes[lot(sizeof sizes / sizeof *sizes)];
}

static void set_hot(uint32_t i, uint64_t bytes)
{
	struct history *h = &history[i];

	if (h->begun + 1 == VERSIONS)
		return;
	h->gone[++h->begun] = false;
	CHECK_EQ(t_pool_set(&p, hot[i], h->begun, bytes), 0);
	h->done = h->begun;
}

static void delete_hot(uint32_t i, bool unlink)
{
	struct history *h = &history[i];
	uint64_t off = t_pool_find(&p, hot[i]);
	struct shm_changed c;

	CHECK_EQ(off == 0, h->gone[h->done]);
	if (off == 0 || h->begun + 1 == VERSIONS)
		return;
	h->gone[++h->begun] = true;
	if (unlink)
		CHECK_EQ(shm_pool_unlink(&p.w, off, &c), 0);
	else
		CHECK_EQ(t_pool_delete(&p, hot[i]), 0);
	h->done = h->begun;
}

static void move_hot(uint32_t i)
{
	uint64_t off = t_pool_find(&p, hot[i]);

	if (off)
		CHECK_EQ(shm_pool_move(&p.w, off, &off), 0);
}

static void set_new(void) { CHECK_EQ(t_pool_set(&p, (uint32_t)(NEW_KEY + n_new++), 1, 40), 0); }

static void change_something(void)
{
	uint32_t i = (uint32_t)lot(HOT);

	switch (lot(12)) {
	case 0 ... 4:
		set_hot(i, some_bytes());
		break;
	case 5:
		delete_hot(i, false);
		break;
	case 6:
		delete_hot(i, true);
		break;
	case 7:
		move_hot(i);
		break;
	case 8 ... 10:
		(void)t_pool_sweep(&p);
		break;
	default:
		set_new();
	}
}

/* ------------------------------------------------------------ reads */

static uint64_t n_hits, n_misses, n_views;

/* One look-up of key: what it may answer. */
struct call {
	uint32_t key, hist, from; /* from: the change that had ended when it began */
};

static struct call call_begin(uint32_t key)
{
	uint32_t h = history_of(key);

	return (struct call){.key = key, .hist = h, .from = h < HOT ? history[h].done : 1};
}

static void check_version(const struct call *c, uint64_t v)
{
	uint32_t to = c->hist < HOT ? history[c->hist].begun : 1;

	if (v < c->from || v > to || (c->hist < HOT && history[c->hist].gone[v]))
		t_fail(__FILE__, __LINE__, "key %u: version %llu was not current between %u and %u",
			c->key, (unsigned long long)v, c->from, to);
	n_hits++;
}

static void check_miss(const struct call *c)
{
	n_misses++;
	if (c->hist < HOT)
		for (uint32_t v = c->from; v <= history[c->hist].begun; v++)
			if (history[c->hist].gone[v])
				return;
	t_fail(__FILE__, __LINE__, "key %u is missed, and was there all the time", c->key);
}

/* Copies in pieces, with marks between. */
static void copy(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
	CHECK(bytes <= VALUE_MAX);
	memcpy(to, from, bytes / 2);
	on_step("test:copying");
	memcpy(to + bytes / 2, from + bytes / 2, bytes - bytes / 2);
	on_step("test:copied");
}

/* As hc_get does.  READ_MISS, or 0 with the item pinned in `cell` and its bytes in buf. */
static int get(const struct shm_reader *r, const struct call *c, uint32_t cell, struct shm_found *f,
	uint8_t *buf)
{
	struct shm_map m = t_pool_map(&p);
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;

	t_pool_key(&p, c->key, bytes, &k);
	for (int tries = 0; tries < VERSIONS; tries++) {
		int e = shm_read_find(r, &m, &k, cell, f);
		if (e == READ_MISS) {
			check_miss(c);
			return e;
		}
		CHECK_EQ(e, 0); /* too few changes for READ_BUSY, and no damage */
		copy(buf, f->value, f->value_bytes);
		if (shm_read_ok(r->pin_gen, f->gen)) {
			check_version(c, t_value_version(c->key, buf, f->value_bytes));
			return 0;
		}
		shm_read_unpin(r->block, cell);
	}
	t_fail(__FILE__, __LINE__, "revoked too often");
}

/* Keys below n_keys are there in each schedule, and no others but the hot ones. */
static uint32_t some_key(void)
{
	return n_keys == 0 || lot(8) ? hot[lot(HOT)] : (uint32_t)lot(n_keys);
}

static void read_copy(const struct shm_reader *r, uint8_t *buf)
{
	struct call c = call_begin(some_key());
	struct shm_found f;

	if (get(r, &c, SHM_PIN_CALL, &f, buf) == 0)
		shm_read_unpin(r->block, SHM_PIN_CALL);
	on_step("test:unpinned");
}

/* A view's bytes stay, unless its pin was revoked. */
static void check_view(const struct shm_reader *r, const struct shm_found *f, const uint8_t *buf)
{
	bool same = memcmp(f->value, buf, f->value_bytes) == 0;

	CHECK(same || !shm_read_ok(r->pin_gen, f->gen));
}

static void read_view(const struct shm_reader *r, uint8_t *buf, uint8_t *other)
{
	uint32_t cell = SHM_PIN_VIEW + (uint32_t)lot(4);
	struct call c = call_begin(some_key());
	struct shm_found f;

	if (get(r, &c, cell, &f, buf) != 0)
		return;
	for (uint64_t i = 0; i <= lot(6); i++) {
		if (lot(2))
			read_copy(r, other);
		on_step("test:holding");
		check_view(r, &f, buf);
	}
	n_views++;
	shm_read_unpin(r->block, cell);
	on_step("test:released");
}

/* As hc_mget does: all hints to the processor first. */
static void read_many(const struct shm_reader *r, uint8_t *buf)
{
	struct shm_map m = t_pool_map(&p);
	struct call c[4];

	for (int i = 0; i < 4; i++) {
		uint8_t bytes[T_KEY_BYTES_MAX];
		struct shm_key k;
		c[i] = call_begin(some_key());
		t_pool_key(&p, c[i].key, bytes, &k);
		shm_read_prefetch_bucket(&m, k.hash);
		on_step("test:prefetched");
		uint64_t table = shm_read_table_pin(r, &m);
		on_step("test:table-pinned");
		if (table)
			shm_read_prefetch_item(&m, table, k.hash);
	}
	for (int i = 0; i < 4; i++) {
		struct shm_found f;
		if (get(r, &c[i], SHM_PIN_CALL, &f, buf) == 0)
			shm_read_unpin(r->block, SHM_PIN_CALL);
	}
}

static void reader_mixed(int self)
{
	struct shm_reader r = t_pool_reader(&p, 1, (uint32_t)self - 1);
	uint8_t *buf = malloc(2 * VALUE_MAX);

	CHECK(buf);
	for (uint64_t i = 0; i <= lot(4); i++) {
		uint64_t what = lot(4);
		if (what == 0)
			read_many(&r, buf);
		else if (what == 1)
			read_copy(&r, buf);
		else
			read_view(&r, buf, buf + VALUE_MAX);
	}
	free(buf);
}

/* ------------------------------------------------------------ overwrites and reuse */

static void engine_changes(int self)
{
	(void)self;
	for (uint64_t i = 0; i <= lot(24); i++)
		change_something();
}

TEST(readers_beside_overwrites_deletes_moves_and_reuse)
{
	prepare(60);
	run(24000, engine_changes, reader_mixed);
	CHECK(n_hits > 10000 && n_misses > 1000 && n_views > 10000);
}

/* ------------------------------------------------------------ growth */

static uint64_t n_grown;

/* Begins a growth whether it is due or not: what makes it due is private to the engine. */
static void grow_now(void)
{
	p.w.n_entries += 1 << 20;
	CHECK(p.w.next.t || shm_pool_grow_step(&p.w, 0));
	p.w.n_entries -= 1 << 20;
}

static void engine_grows(int self)
{
	(void)self;
	uint64_t pace = 1 + lot(32);

	for (uint64_t i = 0; i < 40; i++) {
		if (i == 4)
			grow_now();
		change_something();
		if (i >= 4 && p.w.next.t && !shm_pool_grow_step(&p.w, (uint32_t)(pace + lot(8)))) {
			n_grown++;
			(void)t_pool_sweep(&p);
			set_hot(0, 3000); /* where the old table was, perhaps */
		}
	}
}

TEST(readers_beside_growth)
{
	prepare(200);
	run(8000, engine_grows, reader_mixed);
	CHECK(n_grown > 2000);
	CHECK(n_hits > 10000 && n_misses > 1000 && n_views > 4000);
}

/* ------------------------------------------------------------ overflow buckets */

static uint64_t n_trimmed;

/* Hot keys come and go, chain by chain: overflow buckets are given back and change their chain under
 * whoever stands on them (rule P5). */
static void engine_crowds(int self)
{
	(void)self;
	bool grows = lot(4) == 0;

	for (uint64_t i = 0; i <= lot(30); i++) {
		uint64_t used = p.w.cur.overflow_used;
		if (lot(3))
			delete_hot((uint32_t)lot(HOT), lot(2));
		else
			set_hot((uint32_t)lot(HOT), 40);
		n_trimmed += p.w.cur.overflow_used < used;
		if (lot(6) == 0)
			(void)t_pool_sweep(&p);
		if (grows && lot(20) == 0)
			grow_now();
		if (p.w.next.t)
			(void)shm_pool_grow_step(&p.w, (uint32_t)lot(30));
	}
}

TEST(readers_beside_overflow_buckets_that_change_chains)
{
	prepare_crowd();
	run(16000, engine_crowds, reader_mixed);
	CHECK(n_trimmed > 2000);
	CHECK(n_hits > 10000 && n_misses > 10000 && n_views > 5000);
}

/* ------------------------------------------------------------ forged slots */

/* The next table is not pinned by who reads in it on his way from a growing one: it may become the
 * first table, grow in its turn, be retired, freed, and used for a value.  A hostile writer makes that
 * value of the words that the reader has just loaded from slots.  Only the look at the table word
 * after the pin tells (rule P7). */
enum { T1_PAGES = 3 };
static uint64_t held[256], n_held;

static void hold_all_pages(void)
{
	for (n_held = 0; shm_alloc_take_table(p.w.alloc, SHM_PAGE, &held[n_held]) == 0; n_held++)
		CHECK(n_held + 1 < 256);
}

static void give_all_pages(void)
{
	while (n_held > 0)
		shm_alloc_give(p.w.alloc, held[--n_held]);
}

/* A value of so many pages in all, of one word again and again.  Where it is; 0: nowhere. */
static uint64_t set_forged(uint64_t word)
{
	static uint64_t value[T1_PAGES * SHM_PAGE / 8];
	struct shm_req req = {.session = SHM_REQ_ENGINE};
	struct shm_set set = {.value = value};
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_changed c;

	t_pool_key(&p, NEW_KEY - 1, bytes, &set.key);
	set.value_bytes = sizeof value - shm_item_value_off(set.key.n_bytes);
	for (size_t i = 0; i < sizeof value / 8; i++)
		value[i] = word;
	int e = shm_pool_set(&p.w, p.journal, &req, &set, &c);
	CHECK(e == 0 || e == POOL_FULL);
	return c.off;
}

/* As after an adoption: an engine that takes over does not know in which order tables were retired. */
static void forget_order(void)
{
	for (uint32_t i = 0; i < p.w.limbo.n; i++)
		p.w.limbo.entry[i].table = false;
}

static uint64_t n_forged;

static void engine_forges(int self)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;

	(void)self;
	poison = false; /* the item must look sound for the forged slot to be believed */
	uint64_t t1 = p.w.next.off, off = t_pool_find(&p, hot[0]);
	t_pool_key(&p, hot[0], bytes, &k);
	CHECK(!shm_pool_grow_step(&p.w, 64)); /* the next table is the first now */
	CHECK_EQ(p.w.cur.off, t1);
	grow_now();
	CHECK(!shm_pool_grow_step(&p.w, 128)); /* and is retired */
	set_hot(0, 40);
	hold_all_pages();
	forget_order();
	(void)t_pool_sweep(&p);
	if (!shm_alloc_is_taken(p.w.alloc, off) && p.w.cur.off != t1)
		n_forged += set_forged(shm_word_make(shm_hash_tag(k.hash), off, 0)) == t1;
	give_all_pages();
	for (int i = 0; i < 1500; i++)
		on_step("test:forged");
	for (int i = 0; i < 4; i++)
		set_hot(0, 40); /* where the key's item was */
	for (int i = 0; i < 100; i++)
		on_step("test:reused");
}

static void reader_hot(int self)
{
	struct shm_reader r = t_pool_reader(&p, 1, (uint32_t)self - 1);
	uint8_t *buf = malloc(VALUE_MAX);
	struct call c = call_begin(hot[0]);
	struct shm_found f;

	CHECK(buf);
	if (get(&r, &c, SHM_PIN_VIEW, &f, buf) == 0) {
		for (int i = 0; i < 200; i++) {
			on_step("test:holding");
			check_view(&r, &f, buf);
		}
		shm_read_unpin(r.block, SHM_PIN_VIEW);
	}
	free(buf);
}

TEST(readers_beside_forged_slots)
{
	prepare(200);
	grow_now();
	CHECK(shm_pool_grow_step(&p.w, 62));
	run(20000, engine_forges, reader_hot);
	CHECK(n_forged > 100);
	CHECK(n_hits > 1000);
}

/* ------------------------------------------------------------ revocation */

static void engine_revokes(int self)
{
	(void)self;
	for (uint64_t i = 0; i <= lot(24); i++) {
		change_something();
		if (lot(6) == 0)
			shm_count(&p.ctl->pin_gen[1], 1);
	}
}

TEST(readers_beside_revocation)
{
	prepare(60);
	run(12000, engine_revokes, reader_mixed);
	CHECK(n_hits > 10000 && n_misses > 500 && n_views > 5000);
}

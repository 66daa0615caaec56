/* unit_accounts.c - is each term of a pool's accounts exact, whatever happens to the pool?
 *
 *   limit = live + overhead + free + limbo + unusable
 *
 * The engine counts each term as things happen.  Here it is counted again from what can be seen: by
 * the allocator's own walk, by the checker's walk over the pages and the index, and by a plain model of
 * what is in the pool.  The clock is the test's.
 */
#include <errno.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"
#include "../../shm/atomic.h"
#include "../../shm/fsck.h"
#include "../../shm/step.h"

enum {
	KEYS = 12000,
	CHANGES = 2000000,
	CHECK_EVERY = 512,
	FSCK_EVERY = 20000,
	ENGINE_EVERY = 100000,
	MS = 1000000, /* ns */
	PINS_FROM = 2,
};

static struct t_pool p;
static struct shm_reader reader;
static struct {
	uint64_t bytes, expiry_ns; /* bytes 0: absent */
} model[KEYS];
static uint64_t n_expired, n_moved, n_pinned_sweeps, n_grown;

static void forget(void *arg, uint32_t key, bool done)
{
	(void)arg;
	if (done)
		model[key].bytes = 0;
}

static void begin(void)
{
	t_pool_new(
		&p, &(struct t_pool_opts){.pool_bytes = 2 << 20, .n_regions = 2, .n_keys = KEYS});
	CHECK_EQ(t_pool_start(&p), 0);
	reader = t_pool_reader(&p, 0, 0);
	p.on_evict = forget;
	p.now_ns = 1000ull * MS;
}

static bool is_over(uint32_t key)
{
	return model[key].expiry_ns && model[key].expiry_ns <= p.now_ns;
}

static void set_one(uint32_t key, uint64_t n)
{
	uint64_t top = 1ull << (4 + t_random_below(10));
	uint64_t bytes = T_VALUE_BYTES_MIN + t_random_below(t_random_below(8) ? 300 : top);
	uint64_t expiry = t_random_below(4) ? 0 : p.now_ns + t_random_below(200) * MS;
	struct shm_changed c;
	int e;

	while ((e = t_pool_try(&p, key, n + 1, bytes, expiry, &c)) == POOL_FULL)
		if (t_pool_sweep(&p) == 0 && !t_pool_evict(&p))
			break;
	if (e == POOL_CHAIN_FULL || e == POOL_FULL)
		return;
	CHECK_EQ(e, 0);
	n_expired += c.old_off && is_over(key);
	model[key].bytes = bytes;
	model[key].expiry_ns = expiry;
}

static void delete_one(uint32_t key)
{
	bool live = model[key].bytes && !is_over(key);

	CHECK_EQ(t_pool_delete(&p, key), live ? 0 : POOL_MISS);
	n_expired += model[key].bytes && !live;
	model[key].bytes = 0;
}

static void move_one(uint32_t key)
{
	uint64_t off = t_pool_find(&p, key);
	int e = off ? shm_pool_move(&p.w, off, &off) : POOL_FULL;

	CHECK(e == 0 || e == POOL_FULL);
	n_moved += e == 0;
}

/* Pins the place of a key, as a reader that stops in the middle of a read does. */
static void pin_one(uint32_t key)
{
	uint64_t off = t_pool_find(&p, key);
	uint32_t cell = PINS_FROM + (uint32_t)t_random_below(SHM_BLOCK_PINS - PINS_FROM);

	shm_store_rel(&reader.block->pin[cell],
		off ? shm_word_make(shm_load_rlx(reader.pin_gen), off, T_POOL_IDX) : 0);
}

static void change(uint64_t n)
{
	uint32_t key = (uint32_t)t_random_below(KEYS);
	uint64_t what = t_random_below(1000);

	p.now_ns += t_random_below(2 * MS);
	if (what < 600) {
		set_one(key, n);
	} else if (what < 850) {
		delete_one(key);
	} else if (what < 950) {
		move_one(key);
	} else if (what < 970) {
		pin_one(key);
	} else if (what < 990) {
		n_pinned_sweeps += t_pool_sweep(&p) && p.w.limbo.n;
	} else {
		(void)shm_pool_grow_step(&p.w, (uint32_t)t_random_below(30));
		n_grown += p.w.next.t != NULL;
	}
}

/* What the model says of the terms that it can know. */
static void compare(void)
{
	uint64_t n = 0, live = 0;
	uint8_t bytes[T_KEY_BYTES_MAX];

	for (uint32_t key = 0; key < KEYS; key++) {
		if (!model[key].bytes)
			continue;
		n++;
		live += t_key_make(key, bytes) + model[key].bytes;
	}
	CHECK_EQ(p.w.n_entries, n);
	CHECK_EQ(p.w.live_bytes, live);
	t_pool_fsck(&p);
}

static void next_engine(void)
{
	t_pool_stop(&p);
	CHECK_EQ(t_pool_start(&p), 0);
	t_pool_check(&p);
	compare();
}

TEST_LIMIT(accounts_are_exact_after_millions_of_changes, 120)
{
	begin();
	for (uint64_t n = 0; n < CHANGES; n++) {
		change(n);
		if (n % CHECK_EVERY == 0)
			t_pool_check(&p);
		if (n % FSCK_EVERY == 0)
			compare();
		if (n % ENGINE_EVERY == ENGINE_EVERY - 1)
			next_engine();
	}
	compare();
	CHECK(p.n_evicted > 1000 && n_expired > 1000 && n_moved > 1000);
	CHECK(n_pinned_sweeps > 100 && n_grown > 0);
	t_pool_free(&p);
}

/* ------------------------------------------------------------ the checker's own eyes */

static uint32_t n_found;

static void note(void *arg, const struct shm_fsck_finding *f)
{
	(void)arg;
	CHECK(f->invariant == 16 || f->invariant == 17);
	n_found++;
}

static uint32_t findings(void)
{
	struct shm_fsck_stats s;

	n_found = 0;
	(void)shm_fsck_pool(p.ctl, T_POOL_IDX, p.base, p.bytes, note, NULL, &s);
	CHECK(s.quiet);
	return n_found;
}

TEST(a_term_that_is_wrong_by_one_byte_is_found)
{
	static const enum shm_pool_counter terms[] = {SHM_PC_limit_bytes, SHM_PC_live_bytes,
		SHM_PC_overhead_bytes, SHM_PC_free_bytes, SHM_PC_limbo_bytes, SHM_PC_unusable_bytes,
		SHM_PC_entries};

	begin();
	for (uint64_t n = 0; n < 2000; n++)
		change(n);
	shm_pool_account(&p.w);
	CHECK_EQ(findings(), 0);
	for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
		shm_u64 *c = &p.w.entry->counter[terms[i]];
		shm_count(c, 1);
		CHECK(findings() > 0);
		shm_count(c, -(uint64_t)1);
	}
	/* Free pages can be in no limbo, whatever the sum is. */
	struct shm_alloc_stats s;
	shm_alloc_stats(p.w.alloc, &s);
	uint64_t moved = s.free_place_bytes + 1;
	CHECK(s.free_page_bytes > 0);
	shm_count(&p.w.entry->counter[SHM_PC_free_bytes], -moved);
	shm_count(&p.w.entry->counter[SHM_PC_limbo_bytes], moved);
	CHECK_EQ(findings(), 1);
	t_pool_free(&p);
}

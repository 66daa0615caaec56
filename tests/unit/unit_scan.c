/* unit_scan.c - does a scan report every key that is there from its beginning to its end?
 *
 * The engine's changes come in the middle of the reader's steps, through the hook of
 * the marks: overwrites, other keys coming and going, growth chain by chain, reuse of
 * what was freed.  Seeded: T_SEED repeats. */
#include <string.h>
#include "../../shm/read_scan.h"
#include "../../shm/step.h"
#include "../kit/t.h"
#include "../kit/t_pool.h"

#ifdef HC_STEPS
enum {
	STABLE = 300, /* keys that are always there */
	OTHERS = 400, /* keys that come and go */
	ROUNDS = 300,
	VALUE_BYTES = 40,
	ACT_ONE_IN = 3, /* marks at which the engine acts */
};

static struct t_pool p;
static struct shm_reader reader;
static uint32_t seen[STABLE + OTHERS];
static uint64_t version, n_acted;
static bool bad_value;

static void act_once(void)
{
	n_acted++;
	uint32_t other = STABLE + (uint32_t)t_random_below(OTHERS);
	switch (t_random_below(5)) {
	case 0:
		CHECK_EQ(t_pool_set(&p, (uint32_t)t_random_below(STABLE), ++version, VALUE_BYTES),
			0);
		break;
	case 1:
		CHECK_EQ(t_pool_set(&p, other, ++version, VALUE_BYTES), 0);
		break;
	case 2:
		(void)t_pool_delete(&p, other);
		break;
	case 3:
		(void)shm_pool_grow_step(&p.w, 1 + (uint32_t)t_random_below(8));
		break;
	default:
		(void)t_pool_sweep(&p);
	}
}

/* Several changes at once: freed and used again before the reader goes on. */
static void engine_acts(const char *name)
{
	(void)name;
	if (t_random_below(ACT_ONE_IN) != 0)
		return;
	shm_step_hook = NULL;
	for (uint64_t n = 1 + t_random_below(12); n > 0; n--)
		act_once();
	shm_step_hook = engine_acts;
}

static int reported(void *arg, const void *key, uint64_t key_bytes, const struct shm_found *f)
{
	uint32_t k;

	(void)arg;
	CHECK(key_bytes >= sizeof k);
	memcpy(&k, key, sizeof k);
	CHECK(k < STABLE + OTHERS);
	if (t_value_version(k, f->value, f->value_bytes) == 0)
		bad_value = true;
	seen[k]++;
	return 0;
}

static struct shm_scan all(void)
{
	return (struct shm_scan){.store_id = shm_load_rlx(&p.ctl->store[T_POOL_STORE].id),
		.epoch = (uint32_t)shm_load_rlx(&p.ctl->store[T_POOL_STORE].epoch),
		.cell = SHM_PIN_VIEW};
}

/* Scans once, the engine acting or not.  Returns how many chains it took. */
static uint32_t scan_all(bool act)
{
	struct shm_map m = t_pool_map(&p);
	struct shm_scan what = all();
	uint64_t cursor = 0;
	uint32_t n = 0;
	int e = 0;

	memset(seen, 0, sizeof seen);
	shm_step_hook = act ? engine_acts : NULL;
	for (; e == 0 || e == SCAN_BUSY; n++) {
		CHECK(n < 1u << 20);
		e = shm_read_scan(&reader, &m, &what, &cursor, reported, NULL);
	}
	shm_step_hook = NULL;
	CHECK_EQ(e, SCAN_END);
	return n;
}

/* What is free holds nothing that could pass for an entry. */
static void poison(void *arg, uint64_t off, uint64_t bytes)
{
	(void)arg;
	memset(p.base + off, 0xdd, bytes);
}

static void begin(void)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = 4 << 20});
	p.on_free = poison;
	CHECK_EQ(t_pool_start(&p), 0);
	reader = t_pool_reader(&p, 0, 0);
}

static void end(void)
{
	CHECK_EQ(shm_load_rlx(&reader.block->pin[SHM_PIN_VIEW]), 0);
	CHECK_EQ(shm_load_rlx(&reader.block->pin[SHM_PIN_TABLE]), 0);
	t_pool_check(&p);
	t_pool_stop(&p);
	t_pool_free(&p);
}

TEST(a_scan_of_nothing_ends)
{
	begin();
	CHECK(scan_all(false) >= 64);
	for (uint32_t k = 0; k < STABLE + OTHERS; k++)
		CHECK_EQ(seen[k], 0);
	end();
}

TEST(a_scan_at_rest_reports_each_key_once)
{
	begin();
	for (uint32_t k = 0; k < STABLE; k++)
		CHECK_EQ(t_pool_set(&p, k, 1, VALUE_BYTES), 0);
	(void)scan_all(false);
	for (uint32_t k = 0; k < STABLE + OTHERS; k++)
		CHECK_EQ(seen[k], k < STABLE);
	end();
}

TEST(keys_that_stay_are_reported_whatever_else_happens)
{
	uint64_t grows = 0;

	for (int round = 0; round < ROUNDS; round++) {
		begin();
		for (uint32_t k = 0; k < STABLE; k++)
			CHECK_EQ(t_pool_set(&p, k, ++version, VALUE_BYTES), 0);
		(void)scan_all(true);
		CHECK_EQ(p.n_evicted, 0);
		for (uint32_t k = 0; k < STABLE; k++)
			CHECK(seen[k] >= 1);
		CHECK(!bad_value);
		grows += shm_load_rlx(&p.w.entry->counter[SHM_PC_index_grows]);
		end();
	}
	CHECK(n_acted > 10000);
	CHECK(grows >= ROUNDS / 2); /* the index did grow under the scans */
}

TEST(entries_of_other_epochs_and_expired_ones_are_not_reported)
{
	struct shm_changed c;

	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, VALUE_BYTES), 0);
	CHECK_EQ(t_pool_try(&p, 2, 1, VALUE_BYTES, 1, &c), 0);
	(void)scan_all(false);
	CHECK_EQ(seen[1], 1);
	CHECK_EQ(seen[2], 0);
	shm_store_rlx(&p.ctl->store[T_POOL_STORE].epoch, 7);
	(void)scan_all(false);
	CHECK_EQ(seen[1], 0);
	uint64_t off[4], cursor = 0;
	CHECK_EQ(shm_pool_find_void(&p.w, &cursor, 1 << 20, off, 4), 2);
	CHECK_EQ(cursor, 0);
	CHECK_EQ(shm_pool_find_void(&p.w, &cursor, 1 << 20, off, 1), 1);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(shm_pool_find_void(&p.w, &cursor, 1 << 20, off, 1), 1);
		CHECK_EQ(shm_pool_unlink(&p.w, off[0], &c), 0);
	}
	CHECK_EQ(shm_pool_find_void(&p.w, &cursor, 1 << 20, off, 4), 0);
	end();
}
#endif

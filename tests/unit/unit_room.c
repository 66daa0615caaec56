/* unit_room.c - whose entries go when room is made, and how far: guarantees, limits, thresholds. */
#include "room_world.h"

enum { STORES = 4, POOL_MIB = 16 };

static struct room w;

static void set_store(uint32_t store, uint64_t guaranteed, uint64_t limit, uint64_t entries)
{
	struct shm_store_entry *s = &w.e->ctl->store[store];

	shm_store_rlx(&s->guaranteed_bytes, guaranteed);
	shm_store_rlx(&s->limit_bytes, limit);
	shm_store_rlx(&s->limit_entries, entries);
}

static void set_thresholds(uint32_t end, uint32_t low, uint32_t high, uint32_t full)
{
	shm_u32 *ppm = w.e->ctl->pool[ROOM_POOL].pressure_ppm;

	shm_store32_rlx(&ppm[SHM_PRESSURE_END], end * 10000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_LOW], low * 10000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_HIGH], high * 10000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_FULL], full * 10000);
}

static double in_use(void)
{
	uint64_t idle = shm_alloc_free_bytes(w.p->w.alloc) + w.p->w.limbo.bytes;

	return 100.0 * (double)(w.p->bytes - idle) / (double)w.p->bytes;
}

/* In [lo, hi], every doubling as likely as every other. */
static uint64_t random_size(uint64_t lo, uint64_t hi)
{
	uint64_t n = 1;

	while (lo << n < hi)
		n++;
	uint64_t from = lo << t_random_below(n), to = from * 2 < hi ? from * 2 : hi;
	return from + t_random_below(to - from + 1);
}

/* ------------------------------------------------------------ refusals first */

TEST(what_never_fits_into_its_store_is_too_large)
{
	room_new(&w, POOL_MIB * ROOM_MIB, 2);
	set_store(1, 0, 64 << 10, 0);
	CHECK_EQ(room_set(&w, 1, 1, 64 << 10), HC_E_TOO_LARGE);
	CHECK_EQ(room_counter(&w, 1, SHM_SC_set_refused), 1);
	CHECK_EQ(room_set(&w, 1, 1, 50000), 0);
	CHECK_EQ(room_set(&w, 0, 1, 64 << 10), 0);
	room_check(&w);
	room_free(&w);
}

/* ------------------------------------------------------------ guarantees */

/* Sizes of a phase: what a store writes changes while the test runs. */
static uint64_t size_of(uint32_t store, uint32_t phase)
{
	switch ((store + phase) % STORES) {
	case 0:
		return random_size(8, 400);
	case 1:
		return random_size(100, 20000);
	case 2:
		return random_size(3000, 300000);
	default:
		return 256;
	}
}

static uint64_t moved(void)
{
	return shm_load_rlx(&w.e->ctl->pool[ROOM_POOL].counter[SHM_PC_moved_entries]);
}

/* An entry that moves may leave pages of its own for a place in a slab, which is smaller by less than a page:
 * its store has less then, and has lost nothing. */
static void write_and_compare(uint32_t store, uint64_t key, uint64_t bytes)
{
	uint64_t before[STORES], moved_before = moved(); /* live bytes */

	for (uint32_t i = 0; i < STORES; i++)
		before[i] = room_counter(&w, i, SHM_SC_live_bytes);
	int32_t status = room_set(&w, store, key, bytes);
	CHECK(status == 0 || status == HC_E_FULL);
	if (t_random_below(16) == 0)
		room_turn(&w);
	if (t_random_below(500) == 0)
		room_tick(&w);
	for (uint32_t i = 0; i < STORES; i++) {
		uint64_t now = room_places(&w, i);
		uint64_t promised = shm_load_rlx(&w.e->ctl->store[i].guaranteed_bytes);
		if (i != store && room_counter(&w, i, SHM_SC_live_bytes) < before[i] &&
			now + (moved() - moved_before) * SHM_PAGE < promised)
			t_fail(__FILE__, __LINE__,
				"store %u lost something, has %llu bytes, and is guaranteed %llu: "
				"store %u wrote",
				i, (unsigned long long)now, (unsigned long long)promised, store);
	}
}

TEST_LIMIT(no_write_takes_another_store_below_its_guarantee, 120)
{
	static const uint64_t guaranteed[STORES] = {5 << 20, 4 << 20, 0, 3 << 20};
	uint64_t refused = 0;

	room_new(&w, POOL_MIB * ROOM_MIB, STORES);
	set_thresholds(88, 92, 95, 98);
	for (uint32_t i = 0; i < STORES; i++)
		set_store(i, guaranteed[i], 0, 0);
	for (uint32_t phase = 0; phase < 8; phase++) {
		uint32_t eager = phase % STORES; /* writes most, and so fills the pool */
		for (int n = 0; n < 20000; n++) {
			uint32_t store = t_random_below(4) ? eager
			                                   : (uint32_t)t_random_below(STORES);
			uint64_t key = t_random_below(200000);
			write_and_compare(store, key, size_of(store, phase));
			(void)room_touch(&w, store, t_random_below(200000));
		}
		room_check(&w);
		refused += room_counter(&w, eager, SHM_SC_set_refused);
	}
	for (uint32_t i = 0; i < STORES; i++)
		CHECK(room_counter(&w, i, SHM_SC_evicted) > 100);
	printf("  refused: %llu of 160000, moved: %llu\n", (unsigned long long)refused,
		(unsigned long long)moved());
	room_free(&w);
}

TEST(a_store_gets_what_it_is_guaranteed_however_full_the_pool_is)
{
	room_new(&w, POOL_MIB * ROOM_MIB, 2);
	set_store(1, 6 << 20, 0, 0);
	for (uint64_t key = 0; key < 100000; key++)
		CHECK_EQ(room_set(&w, 0, key, 300), 0);
	CHECK_EQ(room_counter(&w, 1, SHM_SC_entries), 0);
	for (uint64_t key = 0; room_places(&w, 1) < 6 << 20; key++) {
		CHECK(key < 100000);
		CHECK_EQ(room_set(&w, 1, key, 1000), 0);
	}
	CHECK_EQ(room_counter(&w, 1, SHM_SC_evicted), 0);
	room_check(&w);
	room_free(&w);
}

/* ------------------------------------------------------------ a store's own limits */

TEST(a_store_never_has_more_than_its_limits)
{
	room_new(&w, POOL_MIB * ROOM_MIB, 3);
	set_store(1, 0, 1 << 20, 0);
	set_store(2, 0, 0, 1000);
	for (int n = 0; n < 100000; n++) {
		uint64_t key = t_random_below(5000);
		uint32_t store = 1 + (uint32_t)t_random_below(2);
		CHECK_EQ(room_set(&w, store, key, random_size(8, 60000)), 0);
		CHECK(room_places(&w, 1) <= 1 << 20);
		CHECK(room_counter(&w, 2, SHM_SC_entries) <= 1000);
	}
	CHECK(room_counter(&w, 1, SHM_SC_evicted_limit) > 1000);
	CHECK(room_counter(&w, 2, SHM_SC_evicted_limit) > 1000);
	room_check(&w);
	/* A limit that is lowered while they run is met in the background. */
	set_store(1, 0, 100 << 10, 0);
	set_store(2, 0, 0, 7);
	CHECK(eng_pressure_turn(w.e)); /* not all at once */
	room_turn(&w);
	CHECK(room_places(&w, 1) <= 100 << 10);
	CHECK(room_counter(&w, 2, SHM_SC_entries) <= 7);
	room_check(&w);
	room_free(&w);
}

/* ------------------------------------------------------------ thresholds */

TEST(each_threshold_begins_its_kind_and_all_end_at_the_end)
{
	room_new(&w, POOL_MIB * ROOM_MIB, 2);
	const shm_u64 *counter = w.e->ctl->pool[ROOM_POOL].counter;
	set_thresholds(75, 85, 90, 95);
	uint64_t key = 0;
	for (; in_use() < 84.9; key++) {
		CHECK_EQ(room_set(&w, 0, key, 300), 0);
		if (key % 64 == 0)
			CHECK(!eng_pressure_turn(w.e));
	}
	CHECK_EQ(shm_load_rlx(&counter[SHM_PC_pressures]), 0);
	for (; in_use() < 86; key++)
		CHECK_EQ(room_set(&w, 0, key, 300), 0);
	CHECK(eng_pressure_turn(w.e));
	CHECK_EQ(shm_load_rlx(&counter[SHM_PC_pressure]), SHM_PRESSURE_LOW);
	room_turn(&w);
	CHECK_EQ(shm_load_rlx(&counter[SHM_PC_pressure]), SHM_PRESSURE_END);
	CHECK(in_use() < 75.1 && in_use() > 74);
	CHECK_EQ(shm_load_rlx(&counter[SHM_PC_pressures]), 1);
	for (; in_use() < 91; key++)
		CHECK_EQ(room_set(&w, 0, key, 300), 0);
	CHECK(eng_pressure_turn(w.e));
	CHECK_EQ(shm_load_rlx(&counter[SHM_PC_pressure]), SHM_PRESSURE_HIGH);
	/* The background does not get its turn: the writes hold the line themselves. */
	uint64_t evicted = shm_load_rlx(&counter[SHM_PC_evicted_entries]);
	for (int n = 0; n < 30000; n++) {
		CHECK_EQ(room_set(&w, 0, key++, 300), 0);
		CHECK(in_use() < 95.5);
	}
	CHECK(shm_load_rlx(&counter[SHM_PC_evicted_entries]) > evicted + 10000);
	CHECK_EQ(shm_load_rlx(&counter[SHM_PC_pressure]), SHM_PRESSURE_FULL);
	room_turn(&w);
	CHECK(in_use() < 75.1);
	room_check(&w);
	room_free(&w);
}

/* What is read stays, and what comes new is not kept for it, as long as the pressure lasts. */
TEST(under_pressure_a_new_key_has_to_be_worth_its_victim)
{
	enum { HOT = 20000 };

	room_new(&w, POOL_MIB * ROOM_MIB, 1);
	set_thresholds(20, 60, 90, 95);
	uint64_t hot = 0;
	for (; in_use() < 61 && hot < HOT; hot++)
		CHECK_EQ(room_set(&w, 0, hot, 500), 0);
	for (int round = 0; round < 3; round++)
		for (uint64_t key = 0; key < hot; key++)
			CHECK(room_touch(&w, 0, key));
	CHECK(eng_pressure_turn(w.e));
	uint64_t kept = 0;
	for (uint64_t key = HOT; key < HOT + 1000; key++) {
		CHECK_EQ(room_set(&w, 0, key, 500), 0); /* quietly */
		kept += room_find(&w, 0, key) != 0;
		for (uint64_t k = 0; k < hot; k += 97)
			(void)room_touch(&w, 0, k);
	}
	CHECK(kept < 1000);
	CHECK_EQ(room_counter(&w, 0, SHM_SC_not_admitted), 1000 - kept);
	/* What is there can be overwritten, and what an eviction has just taken comes back. */
	uint64_t there = 0;
	while (!room_find(&w, 0, there))
		there++;
	CHECK_EQ(room_set(&w, 0, there, 100), 0);
	CHECK_EQ(shm_lens_value(shm_pool_item(&w.p->w, room_find(&w, 0, there))->lens), 100);
	room_check(&w);
	room_free(&w);
}

/* ------------------------------------------------------------ reasons */

/* Nothing of a store has gone for another reason than this. */
static void check_only(uint32_t store, enum shm_store_counter reason)
{
	CHECK(room_counter(&w, store, reason) > 0);
	CHECK_EQ(room_counter(&w, store, reason), room_counter(&w, store, SHM_SC_evicted));
}

TEST(each_eviction_has_its_reason)
{
	room_new(&w, POOL_MIB * ROOM_MIB, 3);
	set_store(1, 0, 0, 100);
	for (uint64_t key = 0; key < 500; key++)
		CHECK_EQ(room_set(&w, 1, key, 300), 0);
	check_only(1, SHM_SC_evicted_limit);
	CHECK_EQ(room_counter(&w, 1, SHM_SC_evicted), 400);
	for (uint64_t key = 0; key < 60000; key++)
		CHECK_EQ(room_set(&w, 0, key, 300), 0);
	check_only(0, SHM_SC_evicted_full);
	/* Whoever has its guarantee takes from who has more, and who gives did not want the room. */
	uint64_t own = room_counter(&w, 0, SHM_SC_evicted_full);
	set_store(2, 4 << 20, 0, 0);
	for (uint64_t key = 0; key < 5000; key++)
		CHECK_EQ(room_set(&w, 2, key, 300), 0);
	CHECK_EQ(room_counter(&w, 2, SHM_SC_evicted), 0);
	CHECK_EQ(room_counter(&w, 0, SHM_SC_evicted_full), own);
	CHECK(room_counter(&w, 0, SHM_SC_evicted_given) > 1000);
	uint64_t before = room_counter(&w, 0, SHM_SC_evicted);
	set_thresholds(50, 60, 70, 80);
	room_turn(&w);
	CHECK(room_counter(&w, 0, SHM_SC_evicted_pressure) > 1000);
	CHECK_EQ(room_counter(&w, 0, SHM_SC_evicted_pressure),
		room_counter(&w, 0, SHM_SC_evicted) - before);
	CHECK_EQ(room_counter(&w, 1, SHM_SC_evicted_limit), 400);
	room_check(&w);
	room_free(&w);
}

/* ------------------------------------------------------------ moving */

/* A pool full of small entries that are all worth something: a large one costs its own size of them,
 * and what stands where it goes is not lost, but elsewhere. */
TEST(what_is_in_the_way_of_a_large_value_moves)
{
	const shm_u64 *counter;

	room_new(&w, POOL_MIB * ROOM_MIB, 2);
	counter = w.e->ctl->pool[ROOM_POOL].counter;
	set_store(0, 5 << 20, 0, 0);
	for (uint64_t key = 0; room_places(&w, 0) < 4 << 20; key++)
		CHECK_EQ(room_set(&w, 0, key, random_size(100, 500)), 0);
	uint64_t guarded = room_counter(&w, 0, SHM_SC_entries);
	for (uint64_t key = 0; key < 60000; key++)
		CHECK_EQ(room_set(&w, 1, key, 300), 0);
	for (uint64_t key = 0; key < 200; key++)
		CHECK_EQ(room_set(&w, 1, 100000 + key, random_size(150 << 10, 900 << 10)), 0);
	CHECK_EQ(room_counter(&w, 0, SHM_SC_entries), guarded);
	CHECK(shm_load_rlx(&counter[SHM_PC_moved_entries]) > 100);
	room_check(&w);
	room_free(&w);
}

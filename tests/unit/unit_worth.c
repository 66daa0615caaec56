/* unit_worth.c - does memory go to the store to which it is worth more, and does it stay there?
 *
 * Stores of one pool are read as caches are: what is not there is fetched and written.  One kind of reader
 * asks for keys of a set that is larger than what its store has, so more memory would be more hits; another
 * one never asks twice for the same.  The clock is the test's.
 */
#include "room_world.h"

enum {
	STORES = 2,
	POOL_MIB = 8,
	BYTES = 500,
	PLACE = 600,     /* about what an entry takes */
	PER_TICK = 1000, /* reads of each store */
	A = 0,
	B = 1,
};

/* What a store is asked for. */
enum kind {
	READ_SET,   /* a set of keys, each as likely as another */
	READ_ONCE,  /* always new ones */
	WRITE_LOOP, /* the same keys written in turn, and nobody reads them */
};

static struct room w;
static uint64_t missed[STORES]; /* reads of this tick */
static uint64_t next_key;
static uint64_t taken[STORES]; /* entries that the store lost to writes of the other one */

static void set_thresholds(uint32_t end, uint32_t low, uint32_t high, uint32_t full)
{
	shm_u32 *ppm = w.e->ctl->pool[ROOM_POOL].pressure_ppm;

	shm_store32_rlx(&ppm[SHM_PRESSURE_END], end * 10000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_LOW], low * 10000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_HIGH], high * 10000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_FULL], full * 10000);
}

static void begin(const char *policy)
{
	room_new(&w, POOL_MIB * ROOM_MIB, STORES);
	w.config->heartbeat_ns = ENG_NS_PER_S / 2;
	for (uint32_t i = 0; i < STORES; i++) {
		struct config_store *c = &w.config->store[i];
		struct eng_store *s = &w.e->store[i];
		s->pol->ops->free(s->pol);
		(void)snprintf(c->policy, sizeof c->policy, "%s", policy);
		CHECK_EQ(eng_store_policy(w.e, c, &s->pol), 0);
	}
	memset(taken, 0, sizeof taken);
	next_key = 1 << 30;
}

static void end(void)
{
	room_check(&w);
	room_free(&w);
}

/* As eng_recent.c would say. */
static void tick(void)
{
	for (uint32_t i = 0; i < STORES; i++) {
		shm_store_rlx(&w.e->ctl->store[i].counter[SHM_SC_misses_10s], missed[i] * 20);
		missed[i] = 0;
	}
	room_tick(&w);
}

static void write_one(uint32_t store, uint64_t key)
{
	uint64_t evicted = room_counter(&w, 1 - store, SHM_SC_evicted);

	CHECK_EQ(room_set(&w, store, key, BYTES), 0);
	taken[1 - store] += room_counter(&w, 1 - store, SHM_SC_evicted) - evicted;
}

static void ask(uint32_t store, enum kind kind, uint64_t n_keys)
{
	uint64_t key = kind == READ_SET ? t_random_below(n_keys) : next_key++;

	if (kind == WRITE_LOOP) {
		write_one(store, key % n_keys);
		return;
	}
	if (room_touch(&w, store, key))
		return;
	missed[store]++;
	write_one(store, key);
}

/* So many ticks of both stores' life. */
static void live(uint32_t ticks, enum kind a, uint64_t n_a, enum kind b, uint64_t n_b)
{
	for (uint32_t t = 0; t < ticks; t++) {
		for (uint32_t i = 0; i < PER_TICK; i++) {
			ask(A, a, n_a);
			ask(B, b, n_b);
			if (i % 16 == 0)
				room_turn(&w);
		}
		tick();
	}
}

static double mib(uint32_t store) { return (double)room_places(&w, store) / (double)ROOM_MIB; }

static void say(const char *when)
{
	printf("  %-24s %4.1f and %4.1f MiB, lost to the other: %llu and %llu\n", when, mib(A),
		mib(B), (unsigned long long)taken[A], (unsigned long long)taken[B]);
}

/* How many keys take so many tenths of a MiB. */
static uint64_t keys(uint32_t tenths) { return tenths * ROOM_MIB / 10 / PLACE; }

TEST_LIMIT(a_store_with_hits_behind_its_tail_takes_memory_from_one_without, 120)
{
	static const char *const policies[] = {"s3-fifo", "lru", "w-tinylfu"};

	for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
		begin(policies[i]);
		live(20, READ_ONCE, 0, READ_ONCE, 0);
		printf("  %s\n", policies[i]);
		live(80, READ_SET, keys(55), READ_ONCE, 0);
		say("hits for the first");
		CHECK(mib(A) > 5.3);
		live(80, READ_ONCE, 0, READ_SET, keys(55));
		say("hits for the second");
		CHECK(mib(B) > 5.3 && mib(A) < 3);
		/* It has what it wants, and nothing moves any more. */
		memset(taken, 0, sizeof taken);
		live(40, READ_ONCE, 0, READ_SET, keys(55));
		CHECK(taken[A] + taken[B] < 40 * PER_TICK / 50);
		end();
	}
}

/* The thresholds are as they are unless somebody sets them: all eviction happens in the background. */
TEST_LIMIT(in_the_background_memory_goes_the_same_way, 120)
{
	begin("s3-fifo");
	set_thresholds(75, 85, 90, 95);
	live(40, READ_SET, keys(60), READ_SET, keys(60));
	say("equal");
	CHECK(mib(A) > 2.5 && mib(B) > 2.5);
	live(80, READ_SET, keys(50), READ_ONCE, 0);
	say("hits for the first");
	CHECK(mib(A) > 4.2 && mib(B) < 2.5);
	live(80, READ_ONCE, 0, READ_SET, keys(50));
	say("hits for the second");
	CHECK(mib(B) > 4.2 && mib(A) < 2.5);
	CHECK_EQ(taken[A] + taken[B], 0);
	end();
}

TEST_LIMIT(between_equals_memory_does_not_go_to_and_fro, 120)
{
	static const char *const policies[] = {"s3-fifo", "lru"};

	for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
		begin(policies[i]);
		live(60, READ_SET, keys(60), READ_SET, keys(60));
		memset(taken, 0, sizeof taken);
		uint64_t before = room_counter(&w, A, SHM_SC_evicted) +
		                  room_counter(&w, B, SHM_SC_evicted);
		for (int n = 0; n < 20; n++) {
			live(10, READ_SET, keys(60), READ_SET, keys(60));
			CHECK(mib(A) > 2 && mib(B) > 2);
		}
		uint64_t evicted = room_counter(&w, A, SHM_SC_evicted) +
		                   room_counter(&w, B, SHM_SC_evicted) - before;
		say(policies[i]);
		printf("  of %llu evictions\n", (unsigned long long)evicted);
		CHECK(evicted > 10000);
		CHECK(taken[A] + taken[B] < evicted / 10);
		end();
	}
}

TEST_LIMIT(what_is_written_again_and_again_and_never_read_is_worth_nothing, 120)
{
	begin("s3-fifo");
	live(20, READ_ONCE, 0, READ_ONCE, 0);
	live(80, READ_SET, keys(70), WRITE_LOOP, keys(50));
	say("the second only writes");
	CHECK(mib(A) > 5.8);
	end();
}

/* However much more memory is worth to another one. */
TEST_LIMIT(what_is_guaranteed_stays_whatever_it_is_worth, 120)
{
	const uint64_t guaranteed = 3 * ROOM_MIB, batch = ROOM_MIB / 8;

	begin("s3-fifo");
	shm_store_rlx(&w.e->ctl->store[B].guaranteed_bytes, guaranteed);
	live(40, READ_ONCE, 0, READ_ONCE, 0);
	for (int n = 0; n < 80; n++) {
		live(1, READ_SET, keys(70), READ_ONCE, 0);
		CHECK(room_places(&w, B) + batch > guaranteed);
	}
	say("the second has a promise");
	CHECK(mib(A) > 4);
	CHECK(taken[B] > 0);
	end();
}

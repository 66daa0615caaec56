/* unit_recent.c - what was counted in the last second, ten and sixty: against the list of all reads. */
#include <string.h>
#include <sys/mman.h>
#include "../kit/t.h"
#include "../../daemon/eng.h"
#include "journal.h"

enum { STORES = 3, SESSIONS = 5, TICK_MS = 500, MAX_S = 200 };

static struct eng *e;
static struct shm_control *ctl;
static uint64_t ids;
static uint64_t done[STORES][MAX_S + 1][2]; /* hits and misses, by second */
static uint64_t total[STORES][2];

static struct shm_block *block_of(uint32_t session, uint32_t i)
{
	return (struct shm_block *)(uintptr_t)(e->session[session].seg + 1) + i;
}

static void session_add(uint32_t i)
{
	struct eng_session *s = &e->session[i];
	struct shm_client *seg = calloc(3, sizeof *seg); /* two blocks */

	CHECK(seg);
	shm_store32_rlx(&seg->blocks_used, 2);
	*s = (struct eng_session){
		.slot = i, .id = ++ids, .memfd = -1, .seg = seg, .n_blocks = 2, .e = e};
	e->scan_slot[e->n_scan++] = i;
}

static void world_begin(void)
{
	e = calloc(1, sizeof *e);
	ctl = calloc(1, sizeof *ctl);
	CHECK(e && ctl);
	e->ctl = ctl;
	e->now_ns = 77 * ENG_NS_PER_S;
	e->session = calloc(SESSIONS, sizeof *e->session);
	e->scan_slot = calloc(SESSIONS, sizeof *e->scan_slot);
	e->journal = calloc(1, shm_journal_bytes(SESSIONS));
	CHECK(e->session && e->scan_slot && e->journal);
	e->n_sessions = SESSIONS;
	for (uint32_t i = 0; i < SESSIONS; i++)
		session_add(i);
	for (uint32_t i = 0; i < STORES; i++)
		e->store[i] = (struct eng_store){.id = i + 1, .idx = i, .entry = &ctl->store[i]};
}

static void world_end(void)
{
	for (uint32_t i = 0; i < SESSIONS; i++)
		free((void *)(uintptr_t)e->session[i].seg);
	free(e->session);
	free(e->scan_slot);
	free(e->journal);
	free(ctl);
	free(e);
}

/* A tick and all turns behind it. */
static void tick(void)
{
	e->now_ns += TICK_MS * 1000000ull;
	eng_recent_tick(e);
	while (eng_recent_turn(e))
		;
}

static void read_one(uint32_t session, uint32_t store, int what, uint32_t second)
{
	struct shm_store_reads *r = &block_of(session, session % 2)->store[store];

	shm_count(what ? &r->misses : &r->hits, 1);
	done[store][second][what]++;
	total[store][what]++;
}

/* As eng_session_end() does: its counts go to the totals, and it is not looked at any more. */
static void session_ends(uint32_t session)
{
	eng_fold(&e->session[session]);
	uint32_t at = 0;
	while (e->scan_slot[at] != session)
		at++;
	e->scan_slot[at] = e->scan_slot[--e->n_scan];
	eng_recent_again(e);
	free((void *)(uintptr_t)e->session[session].seg);
	session_add(session);
}

static uint64_t gauge(uint32_t store, enum shm_store_counter c)
{
	return shm_load_rlx(&ctl->store[store].counter[c]);
}

static uint64_t sum(uint32_t store, int what, uint32_t second, uint32_t seconds)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < seconds && i <= second; i++)
		n += done[store][second - i][what];
	return n;
}

static void check_gauges(uint32_t second)
{
	static const struct {
		enum shm_store_counter gauge;
		int what;
		uint32_t seconds;
	} gauges[] = {{SHM_SC_hits_1s, 0, 1}, {SHM_SC_misses_1s, 1, 1}, {SHM_SC_hits_10s, 0, 10},
		{SHM_SC_misses_10s, 1, 10}, {SHM_SC_hits_60s, 0, 60}, {SHM_SC_misses_60s, 1, 60}};

	for (uint32_t i = 0; i < STORES; i++)
		for (size_t g = 0; g < sizeof gauges / sizeof *gauges; g++)
			CHECK_EQ(gauge(i, gauges[g].gauge),
				sum(i, gauges[g].what, second, gauges[g].seconds));
}

TEST(each_window_holds_what_was_read_in_it)
{
	world_begin();
	tick(); /* the first sample is the one before all others */
	for (uint32_t second = 0; second < MAX_S; second++) {
		for (uint64_t n = t_random_below(200); n > 0; n--)
			read_one((uint32_t)t_random_below(SESSIONS),
				(uint32_t)t_random_below(STORES), t_random_below(3) == 0, second);
		if (t_random_below(4) == 0)
			session_ends((uint32_t)t_random_below(SESSIONS));
		tick();
		tick();
		check_gauges(second);
	}
	world_end();
}

TEST(a_session_that_ends_in_the_middle_of_a_sample_is_counted_once)
{
	world_begin();
	tick();
	for (uint32_t second = 0; second < 30; second++) {
		for (int n = 0; n < 50; n++)
			read_one((uint32_t)t_random_below(SESSIONS), 1, 0, second);
		e->now_ns += ENG_NS_PER_S;
		eng_recent_tick(e);
		/* One turn has got as far as the third session. */
		uint32_t n_scan = e->n_scan;
		e->n_scan = 3;
		for (uint32_t i = 0; i < 3; i++) {
			const struct eng_session *s = &e->session[e->scan_slot[i]];
			struct eng_reads r;
			eng_fold_reads(s, 2, 1, &r);
			e->recent.store[1].hits += r.hits;
		}
		e->recent.pos = 3;
		e->n_scan = n_scan;
		session_ends(e->scan_slot[second % 3]);
		while (eng_recent_turn(e))
			;
		check_gauges(second);
	}
	world_end();
}

TEST(who_counts_downwards_counts_as_nothing)
{
	world_begin();
	tick();
	read_one(0, 0, 0, 0);
	shm_store_rlx(&block_of(1, 1)->store[0].hits, UINT64_MAX);
	tick();
	tick();
	CHECK_EQ(gauge(0, SHM_SC_hits_1s), (1ull << 48) + 1);
	CHECK_EQ(gauge(1, SHM_SC_hits_1s), 0);
	shm_store_rlx(&block_of(1, 1)->store[0].hits, 0);
	tick();
	tick();
	CHECK_EQ(gauge(0, SHM_SC_hits_1s), 0);
	CHECK_EQ(gauge(0, SHM_SC_hits_10s), 1);
	world_end();
}

TEST(another_store_at_the_same_place_begins_with_nothing)
{
	world_begin();
	tick();
	for (uint32_t s = 0; s < SESSIONS; s++)
		read_one(s, 2, 0, 0);
	tick();
	tick();
	CHECK_EQ(gauge(2, SHM_SC_hits_60s), SESSIONS);
	for (int i = 0; i < SHM_COUNTERS_MAX; i++)
		shm_store_rlx(&ctl->store[2].counter[i], 0);
	eng_fold_forget(e, 2);
	eng_recent_store_begins(e, 2);
	read_one(1, 2, 0, 1);
	tick();
	tick();
	CHECK_EQ(gauge(2, SHM_SC_hits_1s), 1);
	CHECK_EQ(gauge(2, SHM_SC_hits_60s), 1);
	world_end();
}

/* Heartbeats further apart than a window: it is as long as they are. */
TEST(slow_heartbeats_make_long_windows)
{
	world_begin();
	tick();
	for (int i = 0; i < 20; i++) {
		read_one(0, 0, 0, 0);
		e->now_ns += 7 * ENG_NS_PER_S;
		tick();
		CHECK_EQ(gauge(0, SHM_SC_hits_1s), 1);
		CHECK_EQ(gauge(0, SHM_SC_hits_10s), i ? 2 : 1);
	}
	CHECK_EQ(gauge(0, SHM_SC_hits_60s), 8);
	world_end();
}

/* unit_purge.c - is each step of a purge bounded, does it reach everything, and do policy and counts stay right? */
#include <string.h>
#include "../../daemon/eng.h"
#include "../kit/t_pool.h"

enum { N_KEYS = 20000, POOL_BYTES = 16 << 20 };

static struct t_pool t;
static struct eng e;
static struct config config;
static struct eng_pool *p;
static struct eng_store *s;
static uint64_t request, last_off;

/* An engine without a loop, on the pool of the kit. */
static void begin(bool scrub)
{
	t_pool_new(&t, &(struct t_pool_opts){.pool_bytes = POOL_BYTES, .scrub = scrub});
	CHECK_EQ(t_pool_start(&t), 0);
	config.store[0].id = shm_load_rlx(&t.ctl->store[T_POOL_STORE].id);
	(void)snprintf(config.store[0].policy, sizeof config.store[0].policy, "s3-fifo");
	config.store[0].pool_idx = T_POOL_IDX;
	config.n_stores = 1;
	memset(&e, 0, sizeof e);
	e.config = &config;
	e.ctl = t.ctl;
	e.journal = t.journal;
	e.may_barrier = !t.opts.full_fence;
	e.now_ns = 1;
	p = &e.pool[T_POOL_IDX];
	*p = (struct eng_pool){.w = t.w, .base = t.base, .bytes = t.bytes, .e = &e};
	p->limbo_cap_bytes = POOL_BYTES;
	p->large_bytes = t.w.hdr->cls[t.w.hdr->n_classes - 1].item_bytes;
	CHECK_EQ(eng_store_open(&e), 0);
	s = &e.store[T_POOL_STORE];
	request = 0;
}

static void end(void)
{
	s->pol->ops->free(s->pol);
	wheel_fini(&s->wheel);
	pol_ghost_fini(&s->ghost);
	shm_pinset_fini(&e.pins);
	free(e.places);
	t.w = p->w;
	t_pool_free(&t);
}

static struct shm_req next_req(void)
{
	return (struct shm_req){.session = 0,
		.verb = WIRE_SET,
		.session_id = shm_load_rlx(
			&((struct shm_journal_session *)(t.journal + 1))->session_id),
		.request = ++request};
}

/* What op_set does.  False: no room. */
static bool set(uint32_t key, uint64_t bytes)
{
	static uint8_t value[1 << 20];
	uint8_t name[T_KEY_BYTES_MAX];
	struct shm_changed ch;
	struct shm_set in = {.value = value, .value_bytes = bytes, .now_ms = 1};
	struct shm_req req = next_req();

	t_pool_key(&t, key, name, &in.key);
	for (uint32_t i = 0; i < ENG_ROOM_TRIES; i++) {
		int r = shm_pool_set(&p->w, e.journal, &req, &in, &ch);
		last_off = ch.off;
		if (r == 0)
			return eng_store_got(p, s, &ch, 1) == 0;
		CHECK_EQ(r, POOL_FULL);
		(void)eng_room_make(p, s, ch.place_bytes, i);
	}
	return false;
}

static void clear(void)
{
	struct shm_req req = next_req();
	struct shm_changed ch;

	req.verb = WIRE_CLEAR;
	shm_pool_clear(&p->w, e.journal, &req, T_POOL_STORE, 0, &ch);
	eng_store_cleared(p, s);
}

static uint64_t count_of(enum shm_store_counter i) { return shm_load_rlx(&s->entry->counter[i]); }

/* Policy, store and pool know the same entries. */
static void check_counts(uint64_t live, uint64_t is_void)
{
	struct pol_stats st;

	s->pol->ops->stats(s->pol, &st);
	CHECK_EQ(s->pol->ops->verify(s->pol), 0);
	CHECK_EQ(count_of(SHM_SC_entries), live);
	CHECK_EQ(count_of(SHM_SC_void_entries), is_void);
	CHECK_EQ(p->n_void, is_void);
	CHECK_EQ(st.entries, live + is_void);
	CHECK_EQ(p->w.n_entries, live + is_void);
	if (live == 0)
		CHECK_EQ(count_of(SHM_SC_live_bytes), 0);
}

TEST(a_step_is_bounded_and_the_steps_reach_everything)
{
	uint64_t before = N_KEYS;
	bool more = true;
	uint32_t steps = 0;

	begin(false);
	for (uint32_t k = 0; k < N_KEYS; k++)
		CHECK(set(k, 8));
	check_counts(N_KEYS, 0);
	clear();
	check_counts(0, N_KEYS);
	while (more) {
		uint64_t swept = p->w.limbo.n;
		uint32_t n = eng_purge_step(p, &more);
		CHECK(n <= ENG_VOID_ENTRIES);
		CHECK_EQ(p->w.limbo.n, swept + n);
		check_counts(0, before - n);
		before -= n;
		CHECK(++steps <= N_KEYS);
	}
	CHECK_EQ(before, 0);
	/* Not by more steps than the bounds explain: a step ends early, or has looked at its chains. */
	uint64_t chains = 1ull << p->w.cur.log2_buckets;
	CHECK(steps <= chains / ENG_VOID_CHAINS + N_KEYS / ENG_VOID_ENTRIES + 2);
	CHECK(steps >= N_KEYS / ENG_VOID_ENTRIES);
	CHECK_EQ(count_of(SHM_SC_evicted), 0);
	end();
}

/* Clears and sets between the steps, while the index grows: what is set after the last clear stays. */
TEST(clears_and_sets_come_between_the_steps)
{
	uint64_t live = 0;
	uint32_t key = 0;
	bool more;

	begin(false);
	for (int round = 0; round < 300; round++) {
		for (uint64_t i = t_random_below(600); i > 0; i--, live++)
			CHECK(set(key++ % 60000, 8));
		if (t_random_below(4) == 0) {
			clear();
			live = 0;
		}
		if (p->n_void)
			(void)eng_purge_step(p, &more);
		check_counts(live, p->n_void);
	}
	CHECK(key < 60000 * 2);
	clear();
	for (int i = 0; p->n_void && i < 10000; i++)
		(void)eng_purge_step(p, &more);
	check_counts(0, 0);
	end();
}

/* Large entries end a step by their bytes, and those of a scrubbed pool sooner. */
TEST(a_step_ends_by_its_bytes)
{
	begin(true);
	for (uint32_t k = 0; k < 12; k++)
		CHECK(set(k, 1 << 20));
	clear();
	for (uint64_t left = 12; left > 0;) {
		bool more = false;
		uint32_t n = eng_purge_step(p, &more);
		CHECK(n <= 2); /* of 1 MiB and a little: the second one is over the bound */
		left -= n;
		CHECK_EQ(more, left > 0);
		check_counts(0, left);
		p->purge_bytes = 0;
	}
	end();
}

TEST(room_is_made_of_void_entries_before_anything_that_lives_goes)
{
	uint32_t old = 0, key = 100000;

	begin(false);
	while (count_of(SHM_SC_evicted) == 0) {
		CHECK(set(old++, 1000));
		for (int i = 0; i < 3; i++) /* to the policy they are worth more than any new one */
			s->pol->ops->touch(s->pol, *shm_alloc_note(p->w.alloc, last_off), 1);
	}
	clear();
	uint64_t evicted = count_of(SHM_SC_evicted), is_void = p->n_void;
	for (uint64_t i = 0; i < is_void * 3 / 4; i++)
		CHECK(set(key++, 1000));
	CHECK_EQ(count_of(SHM_SC_evicted), evicted);
	CHECK_EQ(count_of(SHM_SC_entries), is_void * 3 / 4);
	CHECK(p->n_void < is_void / 2);
	end();
}

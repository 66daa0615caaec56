/* unit_pol_cost - what does a set cost the engine, policy by policy, and in a pool with a change feed?  Counted by
 * bench/policies.
 *
 * An engine without sockets (room_world.h), a store at its limit: each set is of a new key and evicts an
 * entry, and between two sets one that was set a short time ago is hit.  POL_COST=POLICY runs cost_loop() SETS times;
 * by itself the test runs all policies for a few sets, so that it does not rot.
 */
#include "room_world.h"

enum { LIMIT = 32768, SETS = 4000, FEW = 300, LATELY = 1000 };

static struct room w;
static uint64_t feed_bytes; /* of the pool that is made; 0: no feed */

/* What bench/policies counts the instructions of. */
__attribute__((noinline)) static void cost_loop(uint64_t from, int n)
{
	for (int i = 0; i < n; i++) {
		uint64_t key = from + (uint64_t)i;
		CHECK_EQ(room_set(&w, 0, key, 100), 0);
		(void)room_touch(&w, 0, key - key * 7 % LATELY);
	}
}

static void run_policy(const char *name, int n)
{
	room_new(&w, 16 * ROOM_MIB, 1);
	room_stop(&w);
	(void)snprintf(w.config->store[0].policy, sizeof w.config->store[0].policy, "%s", name);
	w.e->ctl->pool[ROOM_POOL].feed_bytes = feed_bytes;
	room_begin(&w);
	CHECK_EQ(w.p->w.feed.f != NULL, feed_bytes != 0);
	shm_store_rlx(&w.e->ctl->store[0].limit_entries, LIMIT);
	for (uint64_t key = 1; key <= LIMIT + FEW; key++)
		CHECK_EQ(room_set(&w, 0, key, 100), 0);
	cost_loop(LIMIT + FEW + 1, n);
	CHECK(room_counter(&w, 0, SHM_SC_entries) <= LIMIT);
	room_check(&w);
	room_free(&w);
}

TEST(a_set_of_each_policy)
{
	const char *one = getenv("POL_COST");

	feed_bytes = getenv("POL_COST_FEED") ? SHM_FEED_BYTES_MIN : 0;
	if (one) {
		run_policy(one, SETS);
		return;
	}
	for (const struct pol_ops *const *o = pol_all(); *o; o++)
		if (!(*o)->keeps)
			run_policy((*o)->name, FEW);
	feed_bytes = SHM_FEED_BYTES_MIN;
	run_policy("fifo", FEW);
}

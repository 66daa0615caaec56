/* unit_alloc_hole.c - memory that the system gets back, and regions that come later: are they what the
 * allocator says, and does everything else go on around them? */
#include "alloc_world.h"

TEST(what_is_no_whole_unit_of_free_pages_is_no_hole)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB};
	uint64_t off, n;

	world_make(&w, bytes, 1);
	CHECK_EQ(shm_alloc_hole_make(w.a, 0, 2 * MIB, &off, &n), ALLOC_FULL);
	CHECK_EQ(shm_alloc_hole_make(w.a, 2 * MIB - 1, 2 * MIB, &off, &n), ALLOC_FULL);
	CHECK_EQ(shm_alloc_hole_find(w.a, 4 * MIB, 2 * MIB, &off, &n), ALLOC_FULL);
	CHECK_EQ(shm_alloc_hole_make(w.a, 4 * MIB, 2 * MIB, &off, &n), 0);
	CHECK_EQ(off, 2 * MIB); /* the first one has the page table */
	CHECK_EQ(n, 2 * MIB);
	CHECK_EQ(shm_alloc_hole_make(w.a, 4 * MIB, 2 * MIB, &off, &n), ALLOC_FULL);
	while (take(&w, 100000, false))
		;
	for (uint32_t i = 0; i < w.n_things; i++)
		CHECK(w.thing[i].off + w.thing[i].place_bytes <= 2 * MIB);
	check_accounts(&w);
	CHECK_EQ(shm_alloc_hole_find(w.a, 3 * MIB, 2 * MIB, &off, &n), 0);
	CHECK_EQ(n, 2 * MIB);
	CHECK_EQ(shm_alloc_hole_fill(w.a, off, n), 0);
	CHECK(take(&w, 1900000, false));
	check_accounts(&w);
	give_all(&w);
	world_end(&w);
}

/* Everything at random, and each word of the page table as a successor would read it. */
TEST_LIMIT(random_operations_with_holes_agree_with_a_model, 120)
{
	struct world w, next;
	const uint64_t bytes[] = {8 * MIB, 4 * MIB};
	uint64_t n_made = 0, n_filled = 0;

	world_make(&w, bytes, 2);
	for (int i = 0; i < 60000; i++) {
		random_step(&w, 100000);
		if (i % 10 == 0) {
			bool make = t_random_below(2);
			bool done = hole_step(&w, SHM_PAGE << t_random_below(7), make);
			n_made += done && make;
			n_filled += done && !make;
		}
		if (i % 500 == 0)
			check_accounts(&w);
		if (i % 5000)
			continue;
		struct shm_alloc_stats before, after;
		shm_alloc_stats(w.a, &before);
		world_copy(&next, &w);
		CHECK_EQ(shm_alloc_new(next.base, next.region, next.n_regions, false, &next.a), 0);
		for (uint32_t k = 0; k < w.n_things; k++)
			CHECK_EQ(shm_alloc_claim(next.a, w.thing[k].off, w.thing[k].bytes), 0);
		CHECK_EQ(shm_alloc_adopt_end(next.a), 0);
		CHECK_EQ(shm_alloc_verify(next.a), 0);
		shm_alloc_stats(next.a, &after);
		CHECK_EQ(after.hole_bytes, before.hole_bytes);
		CHECK_EQ(after.taken_bytes, before.taken_bytes);
		world_end(&next);
	}
	CHECK(n_made > 500 && n_filled > 500);
	uint64_t off, n;
	while (shm_alloc_hole_find(w.a, w.bytes, SHM_PAGE, &off, &n) == 0) {
		CHECK_EQ(shm_alloc_hole_fill(w.a, off, n), 0);
		mark_hole(&w, off, n, IN_HOLE, 0);
	}
	give_all(&w);
	world_end(&w);
}

TEST(regions_are_added_to_a_pool_in_use)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB, 6 * MIB, 4 * MIB};
	struct shm_region wrong;

	world_map(&w, bytes, 3);
	CHECK_EQ(shm_alloc_new(w.base, w.region, 1, true, &w.a), 0);
	wrong = w.region[2];
	CHECK_EQ(shm_alloc_add_region(w.a, w.base, &wrong), -EINVAL);
	wrong = w.region[1];
	wrong.bytes += SHM_UNIT;
	CHECK_EQ(shm_alloc_add_region(w.a, w.base, &wrong), -EINVAL);
	while (take(&w, random_size(ITEM_MIN, 3000), false))
		;
	for (uint32_t i = 1; i < 3; i++) {
		uint32_t n = w.n_things;
		CHECK(!take(&w, 2 * MIB, false));
		CHECK_EQ(shm_alloc_add_region(w.a, w.base, &w.region[i]), 0);
		CHECK_EQ(shm_alloc_verify(w.a), 0);
		CHECK(take(&w, 2 * MIB, false));
		while (take(&w, random_size(ITEM_MIN, 3000), false))
			;
		CHECK(w.n_things > n + 500);
	}
	for (int i = 0; i < 20000; i++)
		random_step(&w, 100000);
	check_accounts(&w);
	give_all(&w);
	world_end(&w);
}

/* unit_alloc - does the allocator keep alloc.h's promises?
 *
 * Planted bugs (shm/step.h) that this file must catch, each by the test named:
 *
 *   21  alloc.c       an offset inside a place counts as its start
 *                     hostile_offsets_name_nothing
 *   22  alloc_run.c   the end of a joined free run is not mapped to it
 *                     random_operations_agree_with_a_model
 *   24  alloc_room.c  a slab is named for compaction that has nowhere to go
 *                     compaction_makes_room
 *   25  alloc_slab.c  the note of a place is not cleared when it is taken
 *                     notes_are_zero_at_first_and_everyone_s_own
 *   26  alloc_slab.c  the tail of a new slab is not counted
 *                     random_operations_agree_with_a_model
 */
#include "alloc_world.h"
#include <malloc.h>

/* ------------------------------------------------------------ what must be refused */

TEST(bad_regions_and_classes_are_refused)
{
	struct world w;
	struct shm_alloc *a = NULL;
	const uint64_t bytes[] = {4 * MIB, 4 * MIB};

	world_map(&w, bytes, 2);
	const struct shm_region good[2] = {w.region[0], w.region[1]};
	CHECK_EQ(shm_alloc_new(w.base, w.region, 0, true, &a), -EINVAL);
	CHECK_EQ(shm_alloc_new(w.base, w.region, SHM_REGIONS_MAX + 1, true, &a), -EINVAL);
	w.region[0].base_off = SHM_PAGE;
	CHECK_EQ(shm_alloc_new(w.base, w.region, 1, true, &a), -EINVAL);
	w.region[0] = good[0];
	w.region[1].base_off += SHM_PAGE; /* a gap */
	CHECK_EQ(shm_alloc_new(w.base, w.region, 2, true, &a), -EINVAL);
	w.region[1].base_off -= 2 * SHM_PAGE; /* an overlap */
	CHECK_EQ(shm_alloc_new(w.base, w.region, 2, true, &a), -EINVAL);
	w.region[1] = good[1];
	w.region[1].bytes += SHM_UNIT;
	CHECK_EQ(shm_alloc_new(w.base, w.region, 2, true, &a), -EINVAL);
	w.region[1].bytes = 2 * SHM_PAGE; /* no page but its header and its table */
	CHECK_EQ(shm_alloc_new(w.base, w.region, 2, true, &a), -EINVAL);
	w.region[1].bytes = 1ull << 43; /* more pages than a number of them can hold */
	CHECK_EQ(shm_alloc_new(w.base, w.region, 2, true, &a), -EINVAL);

	struct shm_pool *p = pool_of(&w);
	struct shm_class c = p->cls[3];
	uint32_t n = p->n_classes;
	const struct shm_class bad[] = {{c.item_bytes + 1, c.slab_pages, c.n_items},
		{p->cls[2].item_bytes, c.slab_pages, c.n_items}, {c.item_bytes, 0, c.n_items},
		{c.item_bytes, 256, c.n_items}, {c.item_bytes, c.slab_pages, 0},
		{c.item_bytes, c.slab_pages, (uint16_t)(c.n_items + 1)},
		{0, c.slab_pages, c.n_items}, {1 << 18, c.slab_pages, c.n_items}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		p->cls[3] = bad[i];
		CHECK_EQ(shm_alloc_new(w.base, good, 2, true, &a), -EINVAL);
	}
	p->cls[3] = c;
	p->n_classes = 0;
	CHECK_EQ(shm_alloc_new(w.base, good, 2, true, &a), -EINVAL);
	p->n_classes = SHM_CLASSES_MAX + 1;
	CHECK_EQ(shm_alloc_new(w.base, good, 2, true, &a), -EINVAL);
	CHECK(a == NULL);
	p->n_classes = n;
	CHECK_EQ(shm_alloc_new(w.base, good, 2, true, &w.a), 0);
	world_end(&w);
}

TEST(what_cannot_fit_is_full_and_changes_nothing)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB, 4 * MIB};
	struct shm_alloc_stats before, after;

	world_make(&w, bytes, 2);
	shm_alloc_stats(w.a, &before);
	const uint64_t absurd[] = {UINT64_MAX, UINT64_MAX - SHM_PAGE, 1ull << 44, 8 * MIB,
		before.largest_run_bytes + 1};
	for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
		CHECK(!take(&w, absurd[i], false));
		CHECK(!take(&w, absurd[i], true));
	}
	shm_alloc_stats(w.a, &after);
	CHECK_EQ(memcmp(&before, &after, sizeof before), 0);
	check_accounts(&w);
	CHECK(take(&w, before.largest_run_bytes, false));
	CHECK(take(&w, before.largest_run_bytes, true)); /* the other region */
	CHECK(!take(&w, ITEM_MIN, false));
	give_all(&w);
	world_end(&w);
}

static struct world dying;
static void give_twice(void)
{
	shm_alloc_give(dying.a, dying.thing[0].off);
	shm_alloc_give(dying.a, dying.thing[0].off);
}
static void give_inside(void) { shm_alloc_give(dying.a, dying.thing[0].off + SHM_UNIT); }
static void give_beyond(void) { shm_alloc_give(dying.a, dying.bytes); }
static void give_header(void) { shm_alloc_give(dying.a, 0); }
static void note_table(void) { (void)shm_alloc_note(dying.a, dying.thing[1].off); }
static void size_of_free(void) { (void)shm_alloc_place_bytes(dying.a, dying.bytes - SHM_PAGE); }
static void take_nothing(void)
{
	uint64_t off, place;

	(void)shm_alloc_take(dying.a, 0, &off, &place);
}
static void claim_later(void) { (void)shm_alloc_claim(dying.a, dying.thing[0].off, 1); }

TEST(the_engine_s_own_mistakes_are_fatal)
{
	static void (*const mistake[])(void) = {give_twice, give_inside, give_beyond, give_header,
		note_table, size_of_free, take_nothing, claim_later};
	const uint64_t bytes[] = {4 * MIB};

	world_make(&dying, bytes, 1);
	CHECK(take(&dying, 300, false) && take(&dying, 300, true));
	for (size_t i = 0; i < sizeof mistake / sizeof *mistake; i++) {
		int st = status_of(mistake[i]);
		CHECK(WIFSIGNALED(st));
		CHECK_EQ(WTERMSIG(st), SIGABRT);
	}
	give_all(&dying);
	world_end(&dying);
}

TEST(hostile_offsets_name_nothing)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB, 4 * MIB};

	world_make(&w, bytes, 2);
	for (int i = 0; i < 4000; i++)
		random_step(&w, 60000);
	uint8_t *start = calloc(w.bytes / SHM_UNIT, 1);
	CHECK(start);
	for (uint32_t i = 0; i < w.n_things; i++)
		start[w.thing[i].off / SHM_UNIT] = !w.thing[i].table;
	for (uint64_t off = 0; off < w.bytes; off++)
		CHECK_EQ(
			shm_alloc_is_taken(w.a, off), off % SHM_UNIT == 0 && start[off / SHM_UNIT]);
	for (int i = 0; i < 1000000; i++) {
		uint64_t off = t_random() >> t_random_below(64);
		if (off >= w.bytes)
			CHECK(!shm_alloc_is_taken(w.a, off));
	}
	CHECK(!shm_alloc_is_taken(w.a, w.bytes) && !shm_alloc_is_taken(w.a, UINT64_MAX));
	free(start);
	world_end(&w);
}

/* ------------------------------------------------------------ take and give */

TEST(notes_are_zero_at_first_and_everyone_s_own)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB};

	world_make(&w, bytes, 1);
	for (int round = 0; round < 3; round++) {
		while (take(&w, random_size(ITEM_MIN, 60000), false)) {
			uint64_t off = w.thing[w.n_things - 1].off;
			CHECK_EQ(*shm_alloc_note(w.a, off), 0);
			*shm_alloc_note(w.a, off) = (uint32_t)(off / SHM_UNIT);
		}
		for (uint32_t i = 0; i < w.n_things; i++)
			CHECK_EQ(*shm_alloc_note(w.a, w.thing[i].off), w.thing[i].off / SHM_UNIT);
		for (uint32_t i = w.n_things; i > 0; i -= i < 3 ? 1 : 3)
			give(&w, i - 1);
	}
	world_end(&w);
}

static void random_operations(const uint64_t *bytes, uint32_t n, uint64_t item_max, int steps)
{
	struct world w;

	world_make(&w, bytes, n);
	for (int i = 0; i < steps; i++) {
		random_step(&w, item_max);
		if (i % 64 == 0)
			check_accounts(&w);
	}
	give_all(&w);
	world_end(&w);
}

TEST(random_operations_agree_with_a_model)
{
	const uint64_t tiny[] = {4 * MIB}, some[] = {4 * MIB, 6 * MIB, 4 * MIB},
		       large[] = {64 * MIB};

	random_operations(tiny, 1, 1000, 20000);
	random_operations(tiny, 1, 500000, 20000);
	random_operations(some, 3, 300000, 20000);
	random_operations(large, 1, 1500000, 8000);
}

TEST(a_run_of_just_the_right_length_is_found)
{
	struct world w;
	const uint64_t bytes[] = {16 * MIB};
	struct shm_alloc_stats st;

	world_make(&w, bytes, 1);
	for (int i = 0; i < 200; i++) {
		for (int k = 0; k < 40; k++)
			random_step(&w, 1000000);
		shm_alloc_stats(w.a, &st);
		if (st.largest_run_bytes)
			CHECK(take(&w, st.largest_run_bytes, true));
	}
	world_end(&w);
}

/* ------------------------------------------------------------ sizes and waste */

TEST(classes_are_close_and_their_slabs_waste_little)
{
	const uint64_t pools[] = {4, 8, 16, 32, 64, 100, 256, 1024, 4096, 65536};

	for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
		struct shm_class cls[SHM_CLASSES_MAX];
		uint32_t n = shm_alloc_classes(cls, pools[i] * MIB);
		CHECK(n > 0 && n <= SHM_CLASSES_MAX);
		CHECK(cls[n - 1].item_bytes >= (pools[i] < 64 ? 12000 : 120000));
		for (uint32_t k = 0; k < n; k++) {
			uint64_t slab = cls[k].slab_pages * (uint64_t)SHM_PAGE;
			uint64_t tail = slab - (uint64_t)cls[k].n_items * cls[k].item_bytes;
			uint64_t step = k ? cls[k].item_bytes - cls[k - 1].item_bytes : 0;
			CHECK(cls[k].item_bytes % SHM_UNIT == 0);
			CHECK_EQ(cls[k].n_items, slab / cls[k].item_bytes);
			CHECK(slab * 64 <= pools[i] * MIB);
			CHECK(tail * 1000 < slab * 16);
			if (pools[i] >= 64 && k)
				CHECK(step <= SHM_UNIT || step * 100 <= cls[k].item_bytes * 9);
		}
	}
}

/* Fills the pool once with this mix.  Prints and bounds the waste. */
static void waste_of(const char *mix, uint64_t lo, uint64_t hi, bool uniform)
{
	struct world w;
	const uint64_t bytes[] = {256 * MIB};
	struct shm_alloc_stats st;
	uint64_t asked = 0, size;

	world_make(&w, bytes, 1);
	do {
		size = uniform ? lo + t_random_below(hi - lo) : random_size(lo, hi);
		asked += size;
	} while (take(&w, size, false));
	asked -= size;
	shm_alloc_stats(w.a, &st);
	double rounding = 100.0 * (double)(st.taken_bytes - asked) / (double)st.taken_bytes;
	double tail = 100.0 * (double)st.tail_bytes / (double)st.total_bytes;
	double unused = 100.0 * (double)(st.free_place_bytes + st.free_page_bytes) /
	                (double)st.total_bytes;
	printf("     %-22s rounding %.2f %%, tails %.2f %%, free when first full %.2f %%\n", mix,
		rounding, tail, unused);
	CHECK(rounding < 4.0);
	CHECK(tail < 1.6);
	CHECK(unused < 4.0);
	world_end(&w);
}

TEST(rounding_and_tails_stay_in_their_bounds)
{
	waste_of("200..100000 by doublings", 200, 100000, false);
	waste_of("200..100000 uniform", 200, 100000, true);
	waste_of("200..2000 by doublings", 200, 2000, false);
	waste_of("20000..400000 uniform", 20000, 400000, true);
}

TEST(private_memory_for_an_item_is_small)
{
	struct world w;
	const uint64_t bytes[] = {1024 * (uint64_t)MIB};
	uint64_t off, place, n = 0, before;

	world_make(&w, bytes, 1);
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	while (n < 1000000 && shm_alloc_take(w.a, 300, &off, &place) == 0)
		n++;
	uint64_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
	world_end(&w);
	if (before == 0)
		SKIP("the C library's allocator is replaced");
	CHECK_EQ(n, 1000000);
	printf("     %.2f bytes for an item of 300\n", (double)used / (double)n);
	CHECK(used > 4 * n && used < 6 * n);
}

/* ------------------------------------------------------------ making room */

/* Fills with sizes in [lo, hi] and gives all but one of `keep` back, at random. */
static void fill_and_thin(struct world *w, uint64_t lo, uint64_t hi, uint64_t keep)
{
	while (take(w, random_size(lo, hi), false))
		;
	for (uint32_t i = w->n_things; i > 0; i--)
		if (t_random_below(keep) != 0)
			give(w, i - 1);
}

static uint64_t free_pages(const struct world *w)
{
	struct shm_alloc_stats st;

	shm_alloc_stats(w->a, &st);
	return st.free_page_bytes;
}

/* Moves all that compact named to other places.  They come from no page that was free. */
static void move_all(struct world *w, const uint64_t *off, uint32_t n)
{
	uint64_t free_bytes = free_pages(w);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = find(w, off[i]);
		struct thing t = w->thing[k];
		CHECK(take(w, t.bytes, false));
		for (uint32_t j = 0; j < n; j++)
			CHECK(w->thing[w->n_things - 1].off != off[j]);
		CHECK_EQ(free_pages(w), free_bytes);
		give(w, k);
	}
	CHECK(free_pages(w) > free_bytes);
}

TEST(compaction_makes_room)
{
	enum { MAX = 2048 };
	struct world w;
	const uint64_t bytes[] = {16 * MIB};
	uint64_t off[MAX];
	uint32_t n, rounds = 0;

	world_make(&w, bytes, 1);
	fill_and_thin(&w, 200, 4000, 4);
	CHECK(take(&w, 9000, false)); /* a slab with one place in use, the only one of its class */
	check_accounts(&w);
	CHECK_EQ(shm_alloc_compact(w.a, 0, off, 0), 0);
	while ((n = shm_alloc_compact(w.a, 0, off, MAX)) > 0) {
		CHECK(n <= MAX && rounds++ < 4096);
		CHECK_EQ(shm_alloc_verify(w.a), 0);
		move_all(&w, off, n);
		check_accounts(&w);
	}
	struct shm_alloc_stats st;
	shm_alloc_stats(w.a, &st);
	printf("     %u slabs emptied; then %.1f %% in free pages, %.1f %% in free places\n",
		rounds, 100.0 * (double)st.free_page_bytes / (double)st.total_bytes,
		100.0 * (double)st.free_place_bytes / (double)st.total_bytes);
	CHECK(rounds > 100);
	CHECK(st.free_page_bytes * 2 > st.total_bytes);
	CHECK(st.free_place_bytes * 25 < st.total_bytes);
	give_all(&w);
	world_end(&w);
}

TEST(compaction_spares_the_class_that_wants_room)
{
	enum { MAX = 2048 };
	struct world w;
	const uint64_t bytes[] = {16 * MIB};
	uint64_t off[MAX];

	world_make(&w, bytes, 1);
	fill_and_thin(&w, 1000, 1000, 3);
	CHECK_EQ(shm_alloc_compact(w.a, 1000, off, MAX), 0);
	uint32_t n = shm_alloc_compact(w.a, 5000, off, MAX);
	CHECK(n > 0);
	shm_alloc_compact_stop(w.a);
	check_accounts(&w);
	give_all(&w);
	world_end(&w);
}

/* What compact names now: this many places, the first of them this one. */
static void check_named(struct world *w, uint32_t n, uint64_t first)
{
	uint64_t off[64];

	CHECK_EQ(shm_alloc_compact(w->a, 0, off, 64), n);
	if (n)
		CHECK_EQ(off[0], first);
}

TEST(a_slab_that_was_not_emptied_waits_for_a_give)
{
	enum { SLABS = 3 };
	const uint32_t keep[SLABS] = {2, 3, 4};
	uint64_t first[SLABS];
	const uint64_t bytes[] = {4 * MIB};
	struct world w;
	uint32_t n = 0;

	world_make(&w, bytes, 1);
	for (const struct shm_class *c = pool_of(&w)->cls; n == 0; c++)
		n = c->item_bytes >= 300 ? c->n_items : 0;
	CHECK(n > 4);
	for (uint32_t i = 0; i < SLABS * n; i++)
		CHECK(take(&w, 300, false));
	for (uint32_t s = SLABS; s-- > 0;) {
		first[s] = w.thing[s * n].off;
		for (uint32_t i = n; i > keep[s]; i--)
			give(&w, s * n + i - 1);
	}
	check_named(&w, keep[0], first[0]);
	check_named(&w, keep[1], first[1]); /* somebody pins what is in the first */
	check_named(&w, keep[2], first[2]);
	check_named(&w, 0, 0);
	give(&w, find(&w, first[1]));
	check_named(&w, keep[1] - 1, first[1] + shm_alloc_place_bytes(w.a, w.thing[0].off));
	check_named(&w, 0, 0);
	check_accounts(&w);
	give_all(&w);
	world_end(&w);
}

/* Empties windows for `bytes` until one take works; how many windows it took. */
static int empty_windows(struct world *w, uint64_t bytes, uint64_t *off, uint32_t max)
{
	uint64_t cursor = 0;
	uint32_t n = 0;

	for (int i = 0; i < 64; i++) {
		n = shm_alloc_window(w->a, bytes, &cursor, off, max);
		if (n || cursor == 0)
			break;
	}
	CHECK(n > 0 && n <= max);
	check_accounts(w);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = find(w, off[i]);
		CHECK(!w->thing[k].table);
		give(w, k);
		/* somebody else's take does not spoil it */
		if (take(w, 500, false))
			CHECK_EQ(shm_alloc_verify(w->a), 0);
	}
	shm_alloc_compact_stop(w->a);
	check_accounts(w);
	return take(w, bytes, false);
}

TEST(a_window_makes_room_for_a_run)
{
	enum { MAX = 1 << 16 };
	struct world w;
	const uint64_t bytes[] = {16 * MIB, 16 * MIB}, want[] = {200000, 1000000, 3000000, 30000};
	uint64_t *off = calloc(MAX, sizeof *off), cursor = 0;

	CHECK(off);
	world_make(&w, bytes, 2);
	for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
		for (int i = 0; i < 5; i++)
			(void)take(&w, 5000, true);
		fill_and_thin(&w, 200, 100000, 2);
		while (take(&w, want[k], false))
			;
		CHECK(w.taken_bytes <
			w.bytes * 9 / 10); /* there would be room, but not in one piece */
		CHECK(empty_windows(&w, want[k], off, MAX));
		give_all(&w);
	}
	fill_and_thin(&w, 200, 300, 2);
	CHECK_EQ(shm_alloc_window(w.a, 3000000, &cursor, off, 3),
		0); /* more than 3 in all of them */
	CHECK_EQ(shm_alloc_window(w.a, 20 * MIB, &cursor, off, MAX), 0); /* no region is so long */
	check_accounts(&w);
	free(off);
	world_end(&w);
}

/* Takes as many as there are. */
static uint32_t take_all(struct world *w, uint64_t pages)
{
	uint32_t n = 0;

	while (take(w, pages * SHM_PAGE, false))
		n++;
	return n;
}

TEST(free_pages_between_runs_are_joined)
{
	enum { RUN = 40, GAP = 26, JOINS = 12, MAX = 64 };
	struct world w;
	struct shm_alloc_cursors at = {0};
	const uint64_t bytes[] = {16 * MIB};
	uint64_t off[MAX];

	world_make(&w, bytes, 1);
	while (take(&w, RUN * SHM_PAGE, false) && take(&w, GAP * SHM_PAGE, false))
		;
	for (uint32_t i = w.n_things; i > 0; i--)
		if (w.thing[i - 1].bytes == GAP * SHM_PAGE)
			give(&w, i - 1);
	CHECK(!take(&w, (RUN + GAP) * SHM_PAGE, false));
	CHECK_EQ(shm_alloc_join(w.a, &at, 16 * MIB, off, MAX), 0); /* no run has another place */
	give(&w, 0);
	CHECK_EQ(shm_alloc_join(w.a, &at, RUN * SHM_PAGE - 1, off, MAX), 0);
	CHECK_EQ(shm_alloc_join(w.a, &at, 16 * MIB, off, 0), 0);
	for (int i = 0; i < JOINS; i++) {
		CHECK_EQ(shm_alloc_join(w.a, &at, 16 * MIB, off, MAX), 1);
		CHECK_EQ(shm_alloc_verify(w.a), 0);
		CHECK(take(&w, RUN * SHM_PAGE, false));
		CHECK(w.thing[w.n_things - 1].off != off[0]);
		give(&w, find(&w, off[0]));
		shm_alloc_compact_stop(w.a);
		check_accounts(&w);
	}
	CHECK(take_all(&w, RUN + GAP) >= JOINS / 3);
	check_accounts(&w);
	give_all(&w);
	world_end(&w);
}

TEST(a_take_that_finds_nothing_else_opens_what_was_closed)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB};
	uint64_t off[64], cursor = 0;

	world_make(&w, bytes, 1);
	while (take(&w, 400000, false))
		;
	uint32_t n = shm_alloc_window(w.a, 400000, &cursor, off, 64);
	CHECK_EQ(n, 1);
	give(&w, find(&w, off[0]));
	check_accounts(&w);
	CHECK(take(&w, 400000, false));
	check_accounts(&w);
	world_end(&w);
}

#ifdef HC_STEPS
TEST_LIMIT(planted_bugs_are_caught, 120)
{
	static const struct catch c[] = {{21, hostile_offsets_name_nothing},
		{22, random_operations_agree_with_a_model}, {24, compaction_makes_room},
		{25, notes_are_zero_at_first_and_everyone_s_own},
		{26, random_operations_agree_with_a_model}};

	check_catches(c, sizeof c / sizeof *c);
}
#endif

/* unit_alloc_adopt - what a new engine's allocator makes of the page table that it finds.
 *
 * Planted bugs (shm/step.h) that this file must catch, each by the test named:
 *
 *   20  alloc_run.c    a run's head descriptor is stored before its other pages
 *                      every_step_leaves_a_table_that_adoption_takes
 *   23  alloc_adopt.c  a run's CONT words are not looked at
 *                      a_damaged_run_is_given_up_and_nothing_else
 */
#include "alloc_world.h"
#include "../kit/t_step.h"

/* Claims a thing of the predecessor's. */
static int claim(struct world *w, const struct thing *t)
{
	return t->table ? shm_alloc_claim(w->a, t->off, t->bytes)
	                : shm_alloc_claim_item(w->a, t->off, t->bytes);
}

static void adopt(struct world *w, const struct world *from)
{
	world_copy(w, from);
	CHECK_EQ(shm_alloc_new(w->base, w->region, w->n_regions, false, &w->a), 0);
}

/* Claims it in the model too. */
static void claim_marked(struct world *w, const struct thing *t)
{
	CHECK_EQ(claim(w, t), 0);
	w->thing[w->n_things] = *t;
	w->thing[w->n_things].place_bytes = shm_alloc_place_bytes(w->a, t->off);
	mark(w, &w->thing[w->n_things++], 0, 1);
}

/* A pool in use: two regions, items of all kinds, tables. */
static void world_in_use(struct world *w)
{
	const uint64_t bytes[] = {6 * MIB, 4 * MIB};

	world_make(w, bytes, 2);
	for (int i = 0; i < 3000; i++)
		random_step(w, 200000);
	(void)take(w, 1000, true);
	check_accounts(w);
}

TEST(bad_claims_are_answered)
{
	struct world old, w;

	world_in_use(&old);
	uint32_t i = 0, table = 0, large = 0;
	while (old.thing[i].table || old.thing[i].place_bytes % SHM_PAGE == 0)
		i++;
	while (!old.thing[table].table)
		table++;
	while (old.thing[large].table || old.thing[large].bytes < 150000)
		large++;
	adopt(&w, &old);
	uint64_t off = old.thing[i].off, place = old.thing[i].place_bytes;
	CHECK_EQ(shm_alloc_claim(w.a, off, 0), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, off, place + 1), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, off, UINT64_MAX), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, off + 1, 90), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, off + SHM_UNIT, 90), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, 0, 90), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, SHM_PAGE, 90), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, w.bytes, 90), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, UINT64_MAX, 90), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, old.thing[large].off, 1 << 20), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim(w.a, old.thing[large].off + SHM_PAGE, 90), ALLOC_BAD);
	CHECK_EQ(shm_alloc_claim_item(w.a, old.thing[table].off, 90), ALLOC_BAD);
	for (uint32_t k = 0; k < old.n_things; k++) {
		claim_marked(&w, &old.thing[k]);
		CHECK_EQ(shm_alloc_claim(w.a, old.thing[k].off, 1), ALLOC_BAD); /* a second time */
	}
	for (int n = 0; n < 200000; n++) {
		uint64_t any = t_random() >> t_random_below(64);
		if (any >= w.bytes || any % SHM_UNIT || !w.used[any / SHM_UNIT])
			continue;
		CHECK_EQ(shm_alloc_claim(w.a, any, 1), ALLOC_BAD);
	}
	CHECK_EQ(shm_alloc_adopt_end(w.a), 0);
	check_accounts(&w);
	world_end(&w);
	world_end(&old);
}

TEST(what_is_claimed_is_taken_and_the_rest_is_free)
{
	for (uint64_t keep = 1; keep <= 5; keep++) {
		struct world old, w;
		world_in_use(&old);
		adopt(&w, &old);
		for (uint32_t i = 0; i < old.n_things; i++)
			if (t_random_below(keep) == 0)
				claim_marked(&w, &old.thing[i]);
		CHECK_EQ(shm_alloc_adopt_end(w.a), 0);
		check_accounts(&w);
		for (uint32_t i = 0; i < old.n_things; i++) {
			const struct thing *t = &old.thing[i];
			if (!t->table)
				CHECK_EQ(
					shm_alloc_is_taken(w.a, t->off), w.used[t->off / SHM_UNIT]);
			if (shm_alloc_is_taken(w.a, t->off))
				CHECK_EQ(*shm_alloc_note(w.a, t->off), 0);
		}
		for (int i = 0; i < 3000; i++) {
			random_step(&w, 200000);
			if (i % 64 == 0)
				check_accounts(&w);
		}
		give_all(&w);
		world_end(&w);
		world_end(&old);
	}
}

TEST(a_region_that_was_never_formatted_becomes_free)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB};

	world_map(&w, bytes, 1);
	CHECK_EQ(shm_alloc_new(w.base, w.region, 1, false, &w.a), 0);
	CHECK_EQ(shm_alloc_adopt_end(w.a), 4 * MIB - meta_bytes(4 * MIB));
	check_accounts(&w);
	while (take(&w, 3000, false))
		;
	give_all(&w);
	world_end(&w);
}

static shm_u64 *word_of(const struct world *w, uint64_t page)
{
	uint32_t r = 0;

	while (r + 1 < w->n_regions && page * SHM_PAGE >= w->region[r + 1].base_off)
		r++;
	return &table_of(w, r)[page - w->region[r].base_off / SHM_PAGE].word;
}

/* The pages of the run in which this thing lies, as its head says. */
static uint64_t run_of(const struct world *w, const struct thing *t, uint64_t *ret_first)
{
	uint64_t page = t->off / SHM_PAGE, word = shm_load_rlx(word_of(w, page));

	if (shm_page_kind(word) == SHM_PAGE_CONT)
		page -= shm_page_run(word);
	*ret_first = page;
	return shm_page_run(shm_load_rlx(word_of(w, page)));
}

TEST(a_damaged_run_is_given_up_and_nothing_else)
{
	struct world old, w;

	world_in_use(&old);
	for (int round = 0; round < 50; round++) {
		uint64_t first, pages;
		const struct thing *t;
		do {
			t = &old.thing[t_random_below(old.n_things)];
			pages = run_of(&old, t, &first);
		} while (pages < 2);
		world_copy(&w, &old);
		shm_u64 *word = word_of(&w, first + 1 + t_random_below(pages - 1));
		uint64_t was = shm_load_rlx(word);
		while (shm_load_rlx(word) == was)
			shm_store_rlx(word,
				t_random_below(2) ? was ^ 1ull << t_random_below(64) : t_random());
		CHECK_EQ(shm_alloc_new(w.base, w.region, w.n_regions, false, &w.a), 0);
		for (uint32_t i = 0; i < old.n_things; i++) {
			uint64_t at = old.thing[i].off / SHM_PAGE;
			if (at >= first && at < first + pages)
				CHECK_EQ(claim(&w, &old.thing[i]), ALLOC_BAD);
			else
				claim_marked(&w, &old.thing[i]);
		}
		/* less than all: the damaged word may by chance be the head of a run of one page */
		uint64_t given_up = shm_alloc_adopt_end(w.a);
		CHECK(given_up > 0 && given_up <= pages * SHM_PAGE);
		check_accounts(&w);
		give_all(&w);
		world_end(&w);
	}
	world_end(&old);
}

/* Scribbles over n descriptors. */
static void scribble(struct world *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		shm_u64 *word = word_of(w, t_random_below(w->bytes / SHM_PAGE));
		uint64_t was = shm_load_rlx(word);
		uint64_t other = shm_load_rlx(word_of(w, t_random_below(w->bytes / SHM_PAGE)));
		switch (t_random_below(4)) {
		case 0:
			shm_store_rlx(word, was ^ 1ull << t_random_below(64));
			break;
		case 1:
			shm_store_rlx(word, t_random());
			break;
		case 2:
			shm_store_rlx(word, other);
			break;
		default:
			shm_store_rlx(word, shm_page_make(t_random_below(7), t_random_below(200),
						    t_random_below(3000)));
		}
	}
}

TEST(scribbled_tables_are_repaired)
{
	struct world old, w;
	uint64_t given_up = 0, refused = 0, kept = 0;

	world_in_use(&old);
	for (int round = 0; round < 300; round++) {
		world_copy(&w, &old);
		scribble(&w, 1ull << t_random_below(12));
		CHECK_EQ(shm_alloc_new(w.base, w.region, w.n_regions, false, &w.a), 0);
		for (uint32_t i = 0; i < old.n_things; i++) {
			if (t_random_below(3) == 0)
				continue;
			if (claim(&w, &old.thing[i]) != 0) {
				refused++;
				continue;
			}
			struct thing t = old.thing[i];
			t.place_bytes = shm_alloc_place_bytes(w.a, t.off);
			mark(&w, &t, 0, 1);
			w.thing[w.n_things++] = t;
			kept++;
		}
		given_up += shm_alloc_adopt_end(w.a);
		check_accounts(&w);
		for (int i = 0; i < 100; i++)
			random_step(&w, 200000);
		check_accounts(&w);
		give_all(&w);
		world_end(&w);
	}
	CHECK(given_up > 0 && refused > 0 && kept > 0);
	world_end(&old);
}

#ifdef HC_STEPS
/* At each mark: what a SIGKILL here would leave is taken over by another allocator, whose own
 * death at each of its marks leaves something that a third takes over. */
static struct {
	const struct world *w; /* the one that dies */
	const struct thing *thing;
	uint32_t n_things; /* these must survive */
	int depth;
	struct t_steps seen;
} death;

static void survive(void)
{
	struct world w;

	adopt(&w, death.w);
	for (uint32_t i = 0; i < death.n_things; i++)
		claim_marked(&w, &death.thing[i]);
	const struct world *before = death.w;
	death.w = &w;
	death.depth++;
	CHECK_EQ(shm_alloc_adopt_end(w.a), 0);
	death.depth--;
	death.w = before;
	check_accounts(&w);
	world_end(&w);
}

static void die_here(const char *name)
{
	int i = 0;

	if (death.depth > 1)
		return;
	while (i < death.seen.n && strcmp(death.seen.name[i], name) != 0)
		i++;
	if (i == death.seen.n)
		(void)snprintf(death.seen.name[death.seen.n++], T_STEP_BYTES, "%s", name);
	if (death.depth == 0 || t_random_below(50) == 0)
		survive();
}

static void begin_dying(const struct world *w)
{
	death.w = w;
	death.thing = w->thing;
	death.n_things = w->n_things;
	shm_step_hook = die_here;
}

TEST_LIMIT(every_step_leaves_a_table_that_adoption_takes, 120)
{
	struct world w;
	const uint64_t bytes[] = {4 * MIB, 4 * MIB, 4 * MIB};

	world_map(&w, bytes, 3);
	w.n_regions = 2;
	w.bytes -= bytes[2];
	CHECK_EQ(shm_alloc_new(w.base, w.region, 2, true, &w.a), 0);
	for (int i = 0; i < 600; i++) {
		uint32_t k = w.n_things ? (uint32_t)t_random_below(w.n_things) : 0;
		bool giving = w.n_things && t_random_below(5) < 2;
		if (i == 300) {
			w.n_regions = 3;
			w.bytes += bytes[2];
			begin_dying(&w);
			CHECK_EQ(shm_alloc_add_region(w.a, w.base, &w.region[2]), 0);
		} else if (i % 8 == 7) {
			begin_dying(&w);
			(void)hole_step(&w, 16 * SHM_PAGE, t_random_below(2));
		} else if (giving) { /* no slot names it any more */
			struct thing t = w.thing[k];
			w.thing[k] = w.thing[--w.n_things];
			mark(&w, &t, 1, 0);
			begin_dying(&w);
			shm_alloc_give(w.a, t.off);
		} else {
			begin_dying(&w);
			(void)take(&w, random_size(ITEM_MIN, 300000), t_random_below(20) == 0);
		}
		shm_step_hook = NULL;
		check_accounts(&w);
	}
	CHECK(death.seen.n >= 6);
	for (int i = 0; i < death.seen.n; i++)
		t_step_killed(death.seen.name[i]);
	world_end(&w);
}

TEST_LIMIT(planted_bugs_are_caught, 120)
{
	static const struct catch c[] = {{20, every_step_leaves_a_table_that_adoption_takes},
		{23, a_damaged_run_is_given_up_and_nothing_else}};

	check_catches(c, sizeof c / sizeof *c);
}
#endif

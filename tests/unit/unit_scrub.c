/* unit_scrub.c - a scrubbed pool: what is gone cannot be read, what is pinned still can, and what
 * that costs. */
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"

enum { POOL = 4 << 20, SMALL = 300, LARGE = 700000, SECRET = 64 };

static struct t_pool p;
static uint8_t secret[SECRET];

static void open_pool(bool scrub)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL, .scrub = scrub});
	CHECK_EQ(t_pool_start(&p), 0);
}

static void close_pool(void)
{
	t_pool_stop(&p);
	t_pool_free(&p);
}

/* A key with a value whose last bytes are the secret that is looked for. */
static void set_secret(uint32_t key, uint64_t bytes)
{
	CHECK_EQ(t_pool_set(&p, key, 1, bytes), 0);
	const struct shm_item *it = shm_pool_item(&p.w, t_pool_find(&p, key));
	const uint8_t *value = (const uint8_t *)it + shm_item_value_off(shm_lens_key(it->lens));
	memcpy(secret, value + bytes - SECRET, SECRET);
}

static bool is_readable(void) { return memmem(p.base, p.bytes, secret, SECRET) != NULL; }

TEST(nothing_of_an_entry_is_left_once_its_memory_is_free)
{
	for (int scrub = 0; scrub < 2; scrub++) {
		open_pool(scrub);
		for (uint64_t bytes = SMALL; bytes <= LARGE; bytes += LARGE - SMALL) {
			set_secret(7, bytes);
			CHECK_EQ(t_pool_delete(&p, 7), 0);
			CHECK(is_readable()); /* until nobody can be reading it */
			CHECK(t_pool_sweep(&p) >= bytes);
			CHECK_EQ(is_readable(), !scrub);
		}
		if (scrub)
			t_pool_check_scrubbed(&p);
		close_pool();
	}
}

TEST(an_overwritten_value_goes_too)
{
	open_pool(true);
	set_secret(7, SMALL);
	CHECK_EQ(t_pool_set(&p, 7, 2, SMALL), 0);
	(void)t_pool_sweep(&p);
	CHECK(!is_readable());
	close_pool();
}

TEST(what_is_pinned_is_overwritten_only_when_it_is_released)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_found f;
	struct shm_key k;

	open_pool(true);
	set_secret(7, SMALL);
	struct shm_reader r = t_pool_reader(&p, 1, 0);
	struct shm_map m = t_pool_map(&p);
	t_pool_key(&p, 7, bytes, &k);
	CHECK_EQ(shm_read_find(&r, &m, &k, SHM_PIN_VIEW, &f), 0);
	CHECK_EQ(t_pool_delete(&p, 7), 0);
	(void)t_pool_sweep(&p);
	CHECK(t_value_version(7, f.value, f.value_bytes) == 1);
	shm_read_unpin(r.block, SHM_PIN_VIEW);
	(void)t_pool_sweep(&p);
	CHECK(!is_readable());
	close_pool();
}

TEST(what_a_dead_engine_left_is_overwritten_by_the_next)
{
	open_pool(true);
	for (uint64_t bytes = SMALL; bytes <= LARGE; bytes += LARGE - SMALL) {
		set_secret(7, bytes);
		CHECK_EQ(t_pool_delete(&p, 7), 0);
		t_pool_stop(&p); /* with it goes the list of what waits */
		CHECK(is_readable());
		CHECK_EQ(t_pool_start(&p), 0);
		CHECK(!is_readable());
		t_pool_check_scrubbed(&p);
	}
	close_pool();
}

TEST(free_memory_holds_zeroes_whatever_happened)
{
	open_pool(true);
	for (int i = 0; i < 3000; i++) {
		uint32_t key = (uint32_t)t_random_below(200);
		switch (t_random_below(8)) {
		case 0:
			(void)t_pool_delete(&p, key);
			break;
		case 1:
			(void)t_pool_sweep(&p);
			t_pool_check_scrubbed(&p);
			break;
		default:
			CHECK_EQ(t_pool_set(&p, key, (uint64_t)i + 1,
					 8 + t_random_below(t_random_below(30) ? 4000 : 400000)),
				0);
		}
	}
	t_pool_check(&p);
	t_pool_fsck(&p);
	close_pool();
}

/* Nanoseconds of one overwrite, sweeps included. */
static double overwrite_ns(uint64_t value_bytes)
{
	enum { ROUNDS = 40, KEYS = 64 };
	uint64_t begin_ns = t_now_ns();

	for (uint64_t i = 1; i <= ROUNDS; i++) {
		for (uint32_t key = 0; key < KEYS; key++)
			CHECK_EQ(t_pool_set(&p, key, i, value_bytes), 0);
		(void)t_pool_sweep(&p);
	}
	return (double)(t_now_ns() - begin_ns) / (ROUNDS * KEYS);
}

/* The same work in both kinds of pools, in turn, the ratio of the best of each is printed. */
TEST(what_it_costs_is_a_part_of_the_write)
{
	enum { TURNS = 9 };
	static const uint64_t sizes[] = {256, 4096, 32768};

	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		double best[2] = {1e18, 1e18};
		for (int turn = 0; turn < 2 * TURNS; turn++) {
			open_pool(turn % 2);
			double ns = overwrite_ns(sizes[s]);
			best[turn % 2] = ns < best[turn % 2] ? ns : best[turn % 2];
			close_pool();
		}
		fprintf(stderr, "  values of %5llu bytes: %.0f ns a write, scrubbed %.0f: x %.2f\n",
			(unsigned long long)sizes[s], best[0], best[1], best[1] / best[0]);
		CHECK(best[1] <
			4 * best[0]); /* a bound for a busy machine; about 1.1 when it is not */
	}
}

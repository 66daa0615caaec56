/* unit_wal_sim.c - does the log keep what it has said, whatever the disk and whoever dies?
 *
 * Many seeded lives of a log on a simulated disk (tests/kit/t_disk.h), each with crashes of all kinds; after each one the
 * oracle of wal_world.h is asked.  T_WAL_RUNS: how many lives, in place of RUNS; tools/walsim repeats one by its seed. */
#include "wal_world.h"

enum { RUNS = 150, STEPS = 600 };

enum faults { NO_FAULTS = 0, ERRORS = 1, SHORT = 2, POWER = 4, DEATHS = 8, FULL = 16, ALL = 31 };

static uint64_t n_seen[8]; /* that each rare thing has happened: rule 5 of tests/README.md */

static void on_trouble(struct world *x)
{
	/* The owner says that it goes on through a new segment, when all writes have come back. */
	while (wal_n_writes(x->wal))
		CHECK(t_disk_turn(&x->disk));
	CHECK(wal_failed(x->wal) < 0);
	CHECK_EQ(world_append(x), WAL_POISONED);
	x->disk.full = false;
	CHECK_EQ(wal_recover(x->wal), 0);
	x->failing = false;
	x->n_recovered++;
	world_give(x);
	(void)wal_submit(x->wal);
}

static void close_and_open(struct world *x)
{
	struct wal_read_result got;
	struct wal_status status;

	while (!wal_failed(x->wal) && wal_close(x->wal) == WAL_NOT_YET) {
		world_give(x);
		if (wal_submit(x->wal) == WAL_NO_SEGMENT)
			world_checkpoint(x);
		(void)t_disk_turn(&x->disk);
	}
	while (wal_n_writes(x->wal))
		CHECK(t_disk_turn(&x->disk));
	if (wal_failed(x->wal))
		return;
	wal_status(x->wal, &status);
	wal_free(x->wal);
	x->wal = NULL;
	CHECK_EQ(world_check(x, &got), x->n);
	CHECK(!got.torn || status.n_frames == 0);
	world_files_are_free(x);
	got.end.lsn = got.end.lsn > x->said ? got.end.lsn : x->said; /* of the checkpoint */
	x->next_number = got.next_number > x->next_number ? got.next_number : x->next_number;
	struct wal_opts o = world_opts(x);
	CHECK_EQ(wal_new(&o, &got.end, &x->wal), 0);
	x->n_closed++;
	world_give(x);
}

static void step(struct world *x, unsigned faults)
{
	uint64_t what = world_below(x, 1000);

	if (what < 500)
		world_set(x);
	else if (what < 700)
		(void)wal_submit(x->wal);
	else if (what < 950)
		(void)t_disk_turn(&x->disk);
	else if (what < 970)
		world_checkpoint(x);
	else if (what < 975)
		(void)t_disk_land(&x->disk);
	else if (what < 980 && (faults & DEATHS)) {
		if (world_below(x, 2) && !x->failing)
			(void)world_append(x); /* dies in the middle of a mutation */
		free(x->wal);
		world_adopt(x);
	} else if (what < 984 && (faults & POWER)) {
		if (world_below(x, 2) && !x->failing)
			(void)world_append(x);
		world_power_off(x);
	} else if (what < 986 && (faults & FULL)) {
		x->disk.full = true;
	} else if (what == 999) {
		close_and_open(x);
	}
	if (x->failing)
		on_trouble(x);
	world_give(x);
}

static void live(uint64_t seed, unsigned faults)
{
	struct world *x = world_new(seed);

	x->disk.fail_of_1000 = faults & ERRORS ? 10 : 0;
	x->disk.short_of_1000 = faults & SHORT ? 10 : 0;
	for (int i = 0; i < STEPS; i++)
		step(x, faults);
	x->disk.full = false;
	x->disk.fail_of_1000 = x->disk.short_of_1000 = 0;
	world_power_off(x);
	n_seen[0] += x->n_cuts;
	n_seen[1] += x->n_adopted;
	n_seen[2] += x->n_kept;
	n_seen[3] += x->n_dropped;
	n_seen[4] += x->n_recovered;
	n_seen[5] += x->n_recycled;
	n_seen[6] += x->n_closed;
	n_seen[7] += x->n_undone;
	world_end(x);
}

static void lives(unsigned faults, uint64_t runs)
{
	const char *more = getenv("T_WAL_RUNS"), *one = getenv("T_WAL_SEED");

	runs = more ? strtoull(more, NULL, 10) : runs;
	if (one) {
		live(strtoull(one, NULL, 0), faults);
		return;
	}
	for (uint64_t i = 0; i < runs; i++) {
		uint64_t seed = t_random();
		if (more) /* else the seed of the whole test repeats it */
			printf("T_WAL_SEED=%#llx\n", (unsigned long long)seed);
		live(seed, faults);
	}
}

TEST(all_that_is_acknowledged_outlives_a_loss_of_power) { lives(POWER, RUNS); }

TEST(a_new_engine_loses_nothing_of_what_its_dead_one_had_staged) { lives(DEATHS, RUNS); }

TEST(a_failed_write_is_never_called_good) { lives(ERRORS | POWER, RUNS); }

TEST(a_short_write_is_a_failed_one) { lives(SHORT | POWER, RUNS); }

TEST(a_log_that_was_closed_is_read_whole)
{
	lives(NO_FAULTS, RUNS / 4);
	if (!getenv("T_WAL_SEED"))
		CHECK(n_seen[6] > 0);
}

TEST(everything_at_once)
{
	lives(ALL, 2 * RUNS);
	for (int i = 0; i < 8 && !getenv("T_WAL_SEED"); i++)
		CHECK(n_seen[i] > 0);
}

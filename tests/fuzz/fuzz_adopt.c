/* fuzz_adopt.c - the next engine, and the checker, on what a dead engine left: any damage.
 *
 * The checker reads it all and names what it finds.  The engine takes it over, dropping what is
 * damaged, or refuses by name; what it took over it can work with, and its accounts add up. */
#include <errno.h>
#include "fsck.h"
#include "fuzz_damage.h"

static void found(void *arg, const struct shm_fsck_finding *f)
{
	uint32_t *n = arg;

	CHECK(f->invariant > 0 && f->text[0] && memchr(f->text, 0, sizeof f->text));
	(*n)++;
}

/* What the checker counts is what it reports. */
static void check(void)
{
	struct shm_fsck_stats stats;
	uint32_t n = 0, said;

	said = shm_fsck_control(p.ctl, sizeof *p.ctl, found, &n);
	said += shm_fsck_pool(p.ctl, T_POOL_IDX, p.base, p.bytes, found, &n, &stats);
	CHECK_EQ(n, said);
}

/* Overwrites, new entries, deletes. */
static void work(void)
{
	for (uint32_t i = 0; i < 2 * KEYS; i += 3) {
		int r = t_pool_set(&p, i, 2, 8 + i * 29);
		CHECK(r == 0 || r == POOL_FULL);
		if (r == 0)
			CHECK(t_pool_find(&p, i) != 0);
		if (i % 2)
			(void)t_pool_delete(&p, i + 1);
	}
	(void)t_pool_sweep(&p);
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	damage_begin(data, bytes);
	while (damage_coming.left)
		damage_change(&damage_coming);
	check();
	int r = t_pool_start(&p);
	CHECK(r == 0 || r == -EBADMSG);
	if (r == 0) {
		t_pool_check(&p);
		work();
		t_pool_check(&p);
		t_pool_stop(&p);
	}
	return FUZZ_ANY;
}

FUZZ_TESTS(3000)

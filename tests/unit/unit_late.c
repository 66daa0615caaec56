/* unit_late.c - memory that is put by goes back in parts, and all of it. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../../daemon/late.h"

enum { MIB = 1 << 20, LARGE_MIB = 24, SMALL = 98304, N_SMALL = 500 };

static void *made(size_t bytes)
{
	void *p = malloc(bytes);

	CHECK(p);
	memset(p, 'x', bytes);
	return p;
}

TEST(who_has_not_begun_gives_back_at_once)
{
	late_free(made(MIB), MIB);
	late_free(NULL, 0);
	CHECK(!late_step());
}

TEST(each_step_gives_back_a_part)
{
	uint32_t steps = 1, most = LARGE_MIB + N_SMALL * SMALL / MIB;

	late_begin();
	for (int i = 0; i < N_SMALL; i++)
		late_free(made(SMALL), SMALL);
	late_free(made(LARGE_MIB * MIB), LARGE_MIB * (size_t)MIB);
	late_free(NULL, 100);
	late_free(made(8), 8); /* too small to be put by */
	while (late_step())
		CHECK(++steps <= 2 * most);
	CHECK(steps >= most / 2);
	late_end();
}

/* Its pages are gone before the block is. */
TEST(pages_go_with_the_steps)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = LARGE_MIB * (size_t)MIB;
	uint8_t *p = made(bytes), there[LARGE_MIB * MIB / 4096 + 1];
	uint8_t *from = (uint8_t *)(((uintptr_t)p + page - 1) & ~(uintptr_t)(page - 1));
	uint64_t before = bytes / page;

	late_begin();
	late_free(p, bytes);
	for (int i = 0; i < LARGE_MIB / 2; i++) {
		uint64_t n = 0;
		CHECK(late_step());
		CHECK_EQ(mincore(from, bytes - page, there), 0);
		for (size_t k = 0; k < (bytes - page) / page; k++)
			n += there[k] & 1;
		CHECK(n < before && before - n <= 2 * (LATE_STEP_BYTES / page) + 2);
		before = n;
	}
	late_end();
	late_free(made(MIB), MIB); /* at once, again */
	CHECK(!late_step());
}

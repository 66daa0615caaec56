/* race_feed.c - is what a reader of the feed copies right, whatever the writer does between its loads?
 *
 * At each mark of a reader the writer appends some entries, up to several times the ring; at each mark of the writer a
 * reader takes what it can.  (Both at once, in threads: tests/stress/stress_feed.c.)
 */
#include <errno.h>
#include "../unit/feed_world.h"
#include "../../shm/step.h"

enum { ROUNDS = 3000 };

static struct shm_feed_reader r;
static uint64_t n_written, n_inside, n_lapped, seen, missed;

/* Takes all there is.  Each entry is right, and none is taken twice or lost without a word. */
static void take_all(struct shm_feed_reader *reader, uint64_t *n_seen, uint64_t *n_missed)
{
	uint8_t key[SHM_FEED_KEY_MAX];
	struct shm_feed_entry e;
	uint64_t lost = 0;
	int c;

	while ((c = shm_feed_next(reader, &e, key, &lost)) != FEED_EMPTY) {
		CHECK(c == 0 || c == FEED_LAPPED);
		if (c == FEED_LAPPED) {
			*n_missed += lost;
			n_lapped++;
			continue;
		}
		++*n_seen;
		feed_check(&e, key, *n_seen + *n_missed);
	}
}

static void writer_between(const char *name)
{
	if (strcmp(name, "feed:head-copied") != 0 && strcmp(name, "feed:key-copied") != 0)
		return;
	if (t_random_below(3))
		return;
	shm_step_hook = NULL; /* once a round: else it would be ahead for ever */
	for (uint64_t i = t_random_below(3000); i > 0; i--)
		feed_put(++n_written);
	n_inside++;
}

TEST(a_writer_between_the_loads_of_a_reader)
{
	feed_new(FEED);
	feed_reader(&r);
	for (int i = 0; i < ROUNDS; i++) {
		feed_put(++n_written);
		shm_step_hook = writer_between;
		take_all(&r, &seen, &missed);
		shm_step_hook = NULL;
	}
	CHECK_EQ(seen + missed, n_written);
	CHECK(n_inside > 100 && n_lapped > 100);
	free(mem);
}

static void reader_between(const char *name)
{
	(void)name;
	shm_step_hook = NULL;
	take_all(&r, &seen, &missed);
	CHECK(seen + missed == n_written || seen + missed == n_written - 1);
	shm_step_hook = reader_between;
}

TEST(a_reader_between_the_stores_of_a_writer)
{
	feed_new(FEED);
	feed_reader(&r);
	for (int i = 0; i < ROUNDS; i++) {
		shm_step_hook = t_random_below(10) ? NULL : reader_between;
		feed_put(++n_written);
	}
	shm_step_hook = NULL;
	take_all(&r, &seen, &missed);
	CHECK_EQ(seen + missed, n_written);
	CHECK(missed == 0);
	free(mem);
}

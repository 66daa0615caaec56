/* stress_feed.c - do real threads agree on a change feed, also under the thread sanitizer?
 *
 * One writes entries that follow from their numbers, as fast as it can; others read behind it, are overtaken, and look at every
 * byte.  The sanitizer knows no fences (rule P28 has two): that they are where they have to be is for tests/race and the
 * model; here it sees that no plain access races.
 */
#include <pthread.h>
#include "../unit/feed_world.h"

enum { THREADS = 3, ENTRIES = 150000 };

static void *write_all(void *arg)
{
	(void)arg;
	for (uint64_t n = 1; n <= ENTRIES; n++)
		feed_put(n);
	return NULL;
}

static void *read_all(void *arg)
{
	uint8_t key[SHM_FEED_KEY_MAX];
	struct shm_feed_reader *mine = arg;
	struct shm_feed_entry e;
	uint64_t n = 0, lost = 0;

	while (n < ENTRIES) {
		int c = shm_feed_next(mine, &e, key, &lost);
		CHECK(c == 0 || c == FEED_LAPPED || c == FEED_EMPTY);
		if (c == 0)
			feed_check(&e, key, ++n);
		else if (c == FEED_LAPPED)
			n += lost;
	}
	return NULL;
}

TEST(readers_and_a_writer_at_once)
{
	struct shm_feed_reader mine[THREADS];
	pthread_t t[THREADS + 1];

	feed_new(FEED);
	for (int i = 0; i < THREADS; i++) {
		feed_reader(&mine[i]);
		CHECK_EQ(pthread_create(&t[i], NULL, read_all, &mine[i]), 0);
	}
	CHECK_EQ(pthread_create(&t[THREADS], NULL, write_all, NULL), 0);
	for (int i = 0; i <= THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	free(mem);
}

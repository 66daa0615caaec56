/* feed_world.h - a change feed by itself, whose entries follow from their numbers; for the tests of it. */
#ifndef HC_TESTS_FEED_WORLD_H
#define HC_TESTS_FEED_WORLD_H
#include <string.h>
#include "../kit/t.h"
#include "../../shm/atomic.h"
#include "../../shm/feed.h"
#include "../../shm/feed_read.h"

enum { FEED = SHM_FEED_BYTES_MIN };

static struct shm_pool *mem; /* a header, and the feed behind it */
static struct shm_wfeed w;

static void feed_attach(void)
{
	CHECK_EQ(shm_feed_attach(&w, (uint8_t *)mem, sizeof *mem + mem->feed_bytes, mem, 1), 0);
}

static void feed_new(uint64_t bytes)
{
	mem = calloc(1, sizeof *mem + bytes);
	CHECK(mem);
	shm_feed_format((struct shm_feed *)(mem + 1), bytes, 1);
	mem->feed_bytes = bytes;
	shm_store_rlx(&mem->feed_off, sizeof *mem);
	feed_attach();
}

/* Stands at the end. */
static void feed_reader(struct shm_feed_reader *r)
{
	uint64_t lost;

	CHECK_EQ(shm_feed_find((uint8_t *)mem, sizeof *mem + mem->feed_bytes, r), 0);
	CHECK_EQ(shm_feed_seek(r, FEED_FROM_END, &lost), 0);
}

/* Entry n: everything in it follows from n. */
static uint64_t key_bytes_of(uint64_t n) { return 1 + n * 7 % 41 + (n % 97 == 0 ? 5000 : 0); }

static void feed_put(uint64_t n)
{
	uint8_t bytes[8192];
	struct shm_feed_news news = {.what = SHM_FEED_SET + n % 6,
		.why = (uint32_t)(n % SHM_FEED_WHYS),
		.lsn = n * 3,
		.version = n * 5,
		.store_id = n * 7,
		.hash = n * 11,
		.lens = shm_lens_make(key_bytes_of(n), n * 13),
		.key = bytes};

	for (uint64_t i = 0; i < key_bytes_of(n); i++)
		bytes[i] = (uint8_t)(n + i);
	w.time_ns = n * 17;
	shm_feed_append(&w, &news);
}

static void feed_check(const struct shm_feed_entry *e, const uint8_t *key, uint64_t n)
{
	uint64_t kept = shm_feed_kept(key_bytes_of(n));

	CHECK_EQ(e->sequence, n);
	CHECK_EQ(shm_feed_what(e->shape), SHM_FEED_SET + n % 6);
	CHECK_EQ(shm_feed_why(e->shape), n % SHM_FEED_WHYS);
	CHECK(e->lsn == n * 3 && e->version == n * 5 && e->store_id == n * 7 && e->hash == n * 11);
	CHECK(e->time_ns == n * 17 && e->lens == shm_lens_make(key_bytes_of(n), n * 13));
	CHECK_EQ(shm_feed_words(e->shape), SHM_FEED_WORDS + (kept + 7) / 8);
	for (uint64_t i = 0; i < kept; i++)
		CHECK_EQ(key[i], (uint8_t)(n + i));
}

#endif

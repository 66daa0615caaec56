/* unit_feed.c - does the change feed say all that happened, once, and does its reader know what it missed? */
#include <errno.h>
#include "../kit/t_pool.h"
#include "feed_world.h"
#include "../../shm/key.h"

enum { POOL = 4 << 20, LAPS = 40, KEYS = 64 };

static struct t_pool p;
static struct shm_feed_reader r;
static struct shm_feed_entry e;
static uint8_t key[SHM_FEED_KEY_MAX];
static uint64_t lost;

static void begin(void)
{
	feed_new(FEED);
	feed_reader(&r);
}

static int next(void) { return shm_feed_next(&r, &e, key, &lost); }

TEST(each_entry_is_read_as_written_wherever_the_ring_ends)
{
	uint64_t ends[SHM_FEED_ENTRY_MAX] = {0}, n = 0;

	begin();
	while (w.head < (uint64_t)LAPS * 25 * w.n_words) {
		uint64_t at = w.head % w.n_words;
		feed_put(++n);
		CHECK_EQ(next(), 0);
		feed_check(&e, key, n);
		if (at + shm_feed_words(e.shape) > w.n_words)
			ends[w.n_words - at]++;
		CHECK_EQ(next(), FEED_EMPTY);
	}
	for (int i = 1; i < 13; i++) /* an entry was cut behind each of its first words */
		CHECK(ends[i] > 0);
	free(mem);
}

TEST(who_is_overtaken_learns_how_many_are_gone_and_goes_on_at_the_oldest)
{
	uint64_t n = 0, missed = 0, seen = 0;

	begin();
	for (int round = 0; round < 200; round++) {
		uint64_t many = t_random_below(3000);
		for (uint64_t i = 0; i < many; i++)
			feed_put(++n);
		for (int c; (c = next()) != FEED_EMPTY;) {
			CHECK(c == 0 || c == FEED_LAPPED);
			if (c == FEED_LAPPED) {
				CHECK(lost > 0);
				missed += lost;
				continue;
			}
			seen++;
			CHECK_EQ(seen + missed, e.sequence);
			feed_check(&e, key, e.sequence);
		}
		CHECK_EQ(seen + missed, n);
	}
	CHECK(missed > 0 && seen > 0);
	free(mem);
}

TEST(a_reader_begins_at_the_end_the_oldest_or_a_number)
{
	uint64_t n = 0, oldest;

	begin();
	CHECK_EQ(r.sequence, 1);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_OLDEST, &lost), 0);
	CHECK_EQ(next(), FEED_EMPTY);
	CHECK_EQ(shm_feed_seek(&r, 1, &lost), 0);
	CHECK_EQ(shm_feed_seek(&r, 2, &lost), FEED_AHEAD);
	for (int i = 0; i < 5000; i++)
		feed_put(++n);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_END, &lost), 0);
	CHECK_EQ(r.sequence, n + 1);
	CHECK_EQ(next(), FEED_EMPTY);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_OLDEST, &lost), 0);
	CHECK_EQ(next(), 0);
	oldest = e.sequence;
	CHECK(oldest > 1 && oldest < n);
	for (uint64_t from = oldest; from <= n; from += 7) {
		CHECK_EQ(shm_feed_seek(&r, from, &lost), 0);
		CHECK_EQ(next(), 0);
		feed_check(&e, key, from);
	}
	CHECK_EQ(shm_feed_seek(&r, n + 1, &lost), 0);
	CHECK_EQ(next(), FEED_EMPTY);
	CHECK_EQ(shm_feed_seek(&r, oldest - 3, &lost), FEED_LAPPED);
	CHECK_EQ(lost, 3);
	CHECK_EQ(next(), 0);
	feed_check(&e, key, oldest);
	CHECK_EQ(shm_feed_seek(&r, n + 2, &lost), FEED_AHEAD);
	free(mem);
}

TEST(a_new_engine_goes_on_where_its_predecessor_ended)
{
	uint64_t n = 0;

	begin();
	for (int i = 0; i < 3000; i++) {
		feed_put(++n);
		if (n % 3 == 0) /* it died before it had noted the number */
			shm_store_rlx(&w.f->next_sequence, n);
		feed_attach();
		CHECK(!w.was_damaged);
		CHECK_EQ(w.next_sequence, n + 1);
		CHECK_EQ(next(), 0);
		feed_check(&e, key, n);
	}
	free(mem);
}

/* Whatever stands there, nobody reads outside, loops or takes one entry for two; and who was reading is told. */
TEST(damage_is_named_and_cut_off)
{
	uint64_t n = 0, n_bad = 0, n_cut = 0;

	for (int round = 0; round < 400; round++) {
		begin();
		n = 0;
		for (uint64_t i = t_random_below(4000); i > 0; i--)
			feed_put(++n);
		CHECK_EQ(shm_feed_seek(&r, FEED_FROM_OLDEST, &lost), 0);
		uint64_t *word = (uint64_t *)(mem + 1), at = t_random_below(w.n_words + 16);
		if (round % 4 == 0)
			at = t_random_below(16); /* of its header */
		word[at] = round % 3 ? t_random() : word[at] + t_random_below(100) - 50;
		uint64_t last = 0;
		for (uint64_t i = 0; i <= n + 1; i++) {
			int c = next();
			n_bad += c == -EBADMSG;
			if (c < 0 || c == FEED_EMPTY)
				break;
			CHECK(c == FEED_LAPPED || (e.sequence > last && e.sequence <= n));
			last = c == 0 ? e.sequence : last;
		}
		int c = shm_feed_attach(&w, (uint8_t *)mem, sizeof *mem + FEED, mem, 1);
		CHECK(c == 0 || c == -EBADMSG);
		if (c == 0 && w.was_damaged) {
			n_cut++;
			CHECK(w.head == w.tail);
			feed_attach();
			CHECK(!w.was_damaged);
			feed_put(w.next_sequence);
			feed_attach();
			CHECK(!w.was_damaged);
		}
		free(mem);
	}
	CHECK(n_bad > 20 && n_cut > 20);
}

/* Its numbers may be damaged too: what comes is above all that was, so nobody takes a new entry for an old one. */
TEST(numbers_go_on_above_all_that_there_were)
{
	begin();
	for (uint64_t n = 1; n <= 1000; n++)
		feed_put(n);
	shm_store_rlx(&w.f->next_sequence, 7);
	shm_store_rlx(&w.ring[0], 5);
	CHECK_EQ(
		shm_feed_attach(&w, (uint8_t *)mem, sizeof *mem + FEED, mem, shm_feed_first(3)), 0);
	CHECK(w.was_damaged);
	CHECK_EQ(w.next_sequence, shm_feed_first(3));
	CHECK(w.next_sequence > 1000);
	feed_put(1);
	CHECK_EQ(shm_feed_seek(&r, 900, &lost), FEED_LAPPED);
	CHECK_EQ(lost, shm_feed_first(3) - 900);
	free(mem);
}

TEST(who_reads_while_damage_is_cut_off_learns_that_something_is_missing)
{
	begin();
	for (uint64_t n = 1; n <= 10; n++)
		feed_put(n);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(next(), 0);
	shm_store_rlx(&w.ring[0], 5);
	feed_attach();
	CHECK(w.was_damaged);
	CHECK_EQ(next(), FEED_EMPTY);
	feed_put(w.next_sequence);
	CHECK_EQ(next(), FEED_LAPPED); /* a number is missing */
	CHECK_EQ(lost, 1);
	CHECK_EQ(next(), 0);
	CHECK_EQ(e.sequence, 12);
	free(mem);
}

TEST(a_feed_that_cannot_be_one_is_named)
{
	begin();
	const uint64_t all = sizeof *mem + FEED;
	CHECK_EQ(shm_feed_find((uint8_t *)mem, all - 1, &r), -ERANGE);
	CHECK_EQ(shm_feed_find((uint8_t *)mem, 100, &r), -ERANGE);
	mem->feed_bytes = FEED - 8;
	CHECK_EQ(shm_feed_find((uint8_t *)mem, all, &r), -EBADMSG);
	CHECK_EQ(shm_feed_attach(&w, (uint8_t *)mem, all, mem, 1), -EBADMSG);
	mem->feed_bytes = UINT64_MAX;
	CHECK_EQ(shm_feed_find((uint8_t *)mem, all, &r), -EBADMSG);
	CHECK_EQ(shm_feed_attach(&w, (uint8_t *)mem, all, mem, 1), -EBADMSG);
	mem->feed_bytes = FEED;
	((struct shm_feed *)(mem + 1))->magic++;
	CHECK_EQ(shm_feed_find((uint8_t *)mem, all, &r), -EBADMSG);
	CHECK_EQ(shm_feed_attach(&w, (uint8_t *)mem, all, mem, 1), -EBADMSG);
	shm_store_rlx(&mem->feed_off, 0);
	CHECK_EQ(shm_feed_find((uint8_t *)mem, all, &r), FEED_IS_NONE);
	CHECK_EQ(shm_feed_attach(&w, (uint8_t *)mem, all, mem, 1), FEED_NONE);
	free(mem);
}

/* ------------------------------------------------------------ a pool's */

static void open_pool(void)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL, .feed_bytes = FEED});
	CHECK_EQ(t_pool_start(&p), 0);
	CHECK_EQ(shm_feed_find(p.base, p.bytes, &r), 0);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_END, &lost), 0);
}

static void close_pool(void)
{
	t_pool_check(&p);
	t_pool_fsck(&p);
	t_pool_stop(&p);
	t_pool_free(&p);
}

/* The next entry is this, about that key. */
static void expect(uint32_t what, uint32_t why, uint32_t k)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key want;

	t_pool_key(&p, k, bytes, &want);
	CHECK_EQ(next(), 0);
	CHECK_EQ(shm_feed_what(e.shape), what);
	CHECK_EQ(shm_feed_why(e.shape), why);
	CHECK_EQ(e.store_id, want.store_id);
	CHECK_EQ(e.hash, want.hash);
	CHECK_EQ(shm_lens_key(e.lens), want.n_bytes);
	CHECK(memcmp(key, bytes, want.n_bytes) == 0);
}

TEST(every_change_is_said_once)
{
	struct shm_changed ch;
	struct shm_key k;
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_req req = {.session = SHM_REQ_ENGINE};

	open_pool();
	CHECK_EQ(t_pool_set(&p, 7, 1, 100), 0);
	expect(SHM_FEED_SET, 0, 7);
	CHECK_EQ(e.version, e.lsn);
	CHECK_EQ(shm_lens_value(e.lens), 100);
	uint64_t version = e.version;
	t_pool_key(&p, 7, bytes, &k);
	CHECK_EQ(shm_pool_touch(&p.w, p.journal, &req, &k, p.now_ns, 1000, &ch), 0);
	expect(SHM_FEED_TOUCH, 0, 7);
	CHECK_EQ(e.version, version);
	CHECK_EQ(t_pool_set(&p, 7, 2, 50), 0);
	expect(SHM_FEED_SET, 0, 7);
	CHECK(e.version > version);
	version = e.version;
	CHECK_EQ(t_pool_delete(&p, 7), 0);
	expect(SHM_FEED_DELETE, 0, 7);
	CHECK(e.version == version && e.lsn > version);
	CHECK_EQ(t_pool_delete(&p, 7), POOL_MISS);
	CHECK_EQ(next(), FEED_EMPTY);
	CHECK_EQ(t_pool_set(&p, 8, 1, 10), 0);
	expect(SHM_FEED_SET, 0, 8);
	CHECK(t_pool_evict(&p));
	expect(SHM_FEED_EVICT, SHM_FEED_FULL, 8);
	CHECK_EQ(t_pool_try(&p, 9, 1, 10, 50, &ch), 0);
	expect(SHM_FEED_SET, 0, 9);
	p.now_ns = 51;
	CHECK_EQ(t_pool_delete(&p, 9), POOL_MISS);
	expect(SHM_FEED_EXPIRE, 0, 9);
	struct shm_incr in = {.set = {.now_ms = 1}, .initial = 5};
	t_pool_key(&p, 10, bytes, &in.set.key);
	int64_t number;
	CHECK_EQ(shm_pool_incr(&p.w, p.journal, &req, &in, &ch, &number), 0);
	expect(SHM_FEED_INCR, 0, 10);
	shm_pool_clear(&p.w, p.journal, &req, T_POOL_STORE, 0, &ch);
	CHECK_EQ(next(), 0);
	CHECK_EQ(shm_feed_what(e.shape), SHM_FEED_CLEAR);
	CHECK(e.store_id == k.store_id && e.lsn == ch.lsn &&
		shm_feed_words(e.shape) == SHM_FEED_WORDS);
	CHECK_EQ(next(), FEED_EMPTY);
	close_pool();
}

/* A full pool, many changes: what the feed says, applied one by one, is what the pool has. */
TEST(who_follows_the_feed_knows_what_the_pool_has)
{
	bool there[KEYS] = {0};
	uint64_t n = 0;

	open_pool();
	for (int i = 0; i < 3000; i++) {
		uint32_t k = (uint32_t)t_random_below(KEYS);
		if (t_random_below(4))
			CHECK_EQ(t_pool_set(&p, k, 1 + (uint32_t)i, 1000 + t_random_below(300000)),
				0);
		else
			(void)t_pool_delete(&p, k);
		while (next() == 0) {
			uint32_t which;
			memcpy(&which, key, sizeof which);
			CHECK(which < KEYS);
			there[which] = shm_feed_what(e.shape) == SHM_FEED_SET;
			CHECK_EQ(e.sequence, ++n);
		}
		for (uint32_t j = 0; j < KEYS; j++)
			CHECK_EQ(there[j], t_pool_find(&p, j) != 0);
		if (i % 500 == 0) {
			t_pool_stop(&p);
			CHECK_EQ(t_pool_start(&p), 0);
		}
	}
	CHECK(p.n_evicted > 100);
	close_pool();
}

TEST(a_pool_without_a_feed_says_so_and_gets_one_when_it_is_wanted)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL});
	CHECK_EQ(t_pool_start(&p), 0);
	CHECK_EQ(t_pool_set(&p, 1, 1, 100), 0);
	CHECK_EQ(shm_feed_find(p.base, p.bytes, &r), FEED_IS_NONE);
	t_pool_check(&p);
	t_pool_stop(&p);
	p.ctl->pool[T_POOL_IDX].feed_bytes = FEED;
	CHECK_EQ(t_pool_start(&p), 0);
	CHECK_EQ(shm_feed_find(p.base, p.bytes, &r), 0);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_OLDEST, &lost), 0);
	CHECK_EQ(t_pool_set(&p, 2, 1, 100), 0);
	expect(SHM_FEED_SET, 0, 2);
	close_pool();
}

/* Of a change that has happened, and whose entry is gone, nothing can be said: but that something is missing. */
TEST(a_change_that_cannot_be_told_is_missed)
{
	struct shm_intent in = {.feed_what = SHM_FEED_SET, .feed_sequence = 4, .new_word = ~0ull};

	begin();
	for (uint64_t n = 1; n <= 3; n++)
		feed_put(n);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(next(), 0);
	CHECK_EQ(shm_feed_complete(&in, 0, (uint8_t *)mem, sizeof *mem + FEED, 1), -EBADMSG);
	feed_attach();
	feed_put(5);
	CHECK_EQ(next(), FEED_LAPPED);
	CHECK_EQ(lost, 1);
	CHECK_EQ(next(), 0);
	free(mem);
}

TEST(the_checker_names_a_damaged_feed)
{
	open_pool();
	for (uint32_t k = 0; k < 100; k++)
		CHECK_EQ(t_pool_set(&p, k, 1, 100), 0);
	shm_store_rlx(&p.w.feed.ring[1], 77);
	uint64_t n = 0;
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_OLDEST, &lost), 0);
	while (next() == 0)
		n++;
	CHECK(n < 100);
	t_pool_stop(&p);
	CHECK_EQ(t_pool_start(&p), 0);
	CHECK(p.w.feed.was_damaged);
	t_pool_fsck(&p);
	CHECK_EQ(t_pool_set(&p, 1, 2, 100), 0);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_OLDEST, &lost), 0);
	expect(SHM_FEED_SET, 0, 1);
	CHECK_EQ(e.sequence, 102);
	close_pool();
}

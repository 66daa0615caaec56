/* fuzz_pool.c - the client's reader of what the engine writes: a damaged pool, also one that changes
 * while it is read.
 *
 * An input is a list of changes of a good pool: some before the look-ups, one more at each mark within
 * them.  Every key is looked for, all are scanned, and the feed is followed from several places.  Whatever the
 * changes are: the answer has a name (found, miss, busy, damaged), what was found lies inside the pool, and no pin is left. */
#include <errno.h>
#include "fuzz_damage.h"
#include "feed_read.h"
#include "read_scan.h"

enum { SCAN_CALLS = 4096, CELL = 5 };

static struct shm_reader reader;
static uint64_t sum; /* of all bytes that were read */

#ifdef HC_STEPS
static void at_mark(const char *name)
{
	(void)name;
	if (damage_coming.left)
		damage_change(&damage_coming);
}
#endif

static void read_all(const uint8_t *bytes, uint64_t n)
{
	CHECK(bytes >= p.base && n <= POOL_BYTES && bytes <= p.base + (POOL_BYTES - n));
	for (uint64_t i = 0; i < n; i++)
		sum += bytes[i];
}

static void look_up(uint32_t key)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_map m = t_pool_map(&p);
	struct shm_found f;
	struct shm_key k;

	t_pool_key(&p, key, bytes, &k);
	shm_read_prefetch_bucket(&m, k.hash);
	shm_read_prefetch_item(&m, shm_read_table_pin(&reader, &m), k.hash);
	int r = shm_read_find(&reader, &m, &k, CELL, &f);
	CHECK(r == 0 || r == READ_MISS || r == READ_BUSY || r == READ_ABSENT || r == -EBADMSG);
	if (r != 0)
		return;
	CHECK_EQ(shm_word_off(f.pin), (const uint8_t *)f.item - p.base);
	read_all(f.value, f.value_bytes);
	CHECK(shm_read_ok(reader.pin_gen, f.gen));
	shm_read_unpin(reader.block, CELL);
}

static int scanned(void *arg, const void *key, uint64_t key_bytes, const struct shm_found *f)
{
	(void)arg;
	read_all(key, key_bytes);
	read_all(f->value, f->value_bytes);
	return 0;
}

static void scan(void)
{
	struct shm_map m = t_pool_map(&p);
	const struct shm_store_entry *s = &p.ctl->store[T_POOL_STORE];
	struct shm_scan what = {.store_id = s->id.v, .epoch = (uint32_t)s->epoch.v, .cell = CELL};
	uint64_t cursor = 0, last = 0;
	int r = 0;

	for (int i = 0; i < SCAN_CALLS && r == 0; i++) {
		r = shm_read_scan(&reader, &m, &what, &cursor, scanned, NULL);
		CHECK(r == 0 || r == SCAN_END || r == SCAN_BUSY || r == -EBADMSG);
		CHECK(r != 0 || cursor > last); /* it goes on, whatever the table says */
		last = cursor;
	}
}

/* To where nothing is left, or to damage: in bounded time, with keys of bounded length. */
static void follow(uint64_t from)
{
	static uint8_t key[SHM_FEED_KEY_MAX];
	struct shm_feed_reader r;
	struct shm_feed_entry e;
	uint64_t lost = 0, last = 0;

	int c = shm_feed_find(p.base, p.bytes, &r);
	CHECK(c == 0 || c == FEED_IS_NONE || c == -EBADMSG || c == -ERANGE);
	if (c == 0)
		c = shm_feed_seek(&r, from, &lost);
	CHECK(c == 0 || c == FEED_IS_NONE || c == FEED_LAPPED || c == FEED_AHEAD || c == -EBADMSG ||
		c == -ERANGE);
	for (uint32_t i = 0; c == 0 || c == FEED_LAPPED; i++) {
		c = shm_feed_next(&r, &e, key, &lost);
		CHECK(c == 0 || c == FEED_EMPTY || c == FEED_LAPPED || c == -EBADMSG);
		CHECK(i < POOL_BYTES); /* it comes to an end */
		if (c != 0)
			continue;
		CHECK(e.sequence > last && shm_feed_what(e.shape) < SHM_FEED_WHATS);
		last = e.sequence;
		read_all(p.base, shm_feed_kept(shm_lens_key(e.lens)));
	}
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	damage_begin(data, bytes);
	reader = t_pool_reader(&p, 0, 0);
#ifdef HC_STEPS
	shm_step_hook = at_mark;
#endif
	for (uint32_t key = 0; key < KEYS + 2; key++)
		look_up(key);
	scan();
	follow(FEED_FROM_OLDEST);
	follow(FEED_FROM_END);
	follow(KEYS / 2);
#ifdef HC_STEPS
	shm_step_hook = NULL;
#endif
	for (int i = 0; i < SHM_BLOCK_PINS; i++)
		CHECK_EQ(shm_load_rlx(&reader.block->pin[i]), 0);
	return FUZZ_ANY;
}

FUZZ_TESTS(6000)

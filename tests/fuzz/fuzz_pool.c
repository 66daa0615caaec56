/* fuzz_pool.c - the client's reader of what the engine writes: a damaged pool, also one that changes
 * while it is read.
 *
 * An input is a list of changes of a good pool: some before the look-ups, one more at each mark within
 * them.  Every key is looked for, and all are scanned.  Whatever the changes are: the answer has a name
 * (found, miss, busy, damaged), what was found lies inside the pool, and no pin is left. */
#include <errno.h>
#include "../kit/t_pool.h"
#include "fuzz.h"
#include "read_scan.h"
#include "step.h"

enum { POOL_BYTES = 256 << 10, KEYS = 24, CHANGE_BYTES = 12, SCAN_CALLS = 4096, SHORT_CELL = 5 };

static struct t_pool good, p;
static struct shm_reader reader;
static struct fuzz_in coming;
static uint64_t off_of[KEYS];
static uint64_t sum; /* of all bytes that were read */

static void world_make(void)
{
	t_pool_new(&good, &(struct t_pool_opts){.pool_bytes = POOL_BYTES, .full_fence = true});
	CHECK_EQ(t_pool_start(&good), 0);
	for (uint32_t i = 0; i < KEYS; i++)
		CHECK_EQ(t_pool_set(&good, i, 1, i == 3 ? 9000 : 8 + i * 11), 0);
	for (uint32_t i = 0; i < KEYS; i++)
		off_of[i] = t_pool_find(&good, i);
	t_pool_stop(&good);
	t_pool_copy(&p, &good);
	reader = t_pool_reader(&p, 1, 0);
	/* Entries whose time is not over yet: then the clock is asked. */
	shm_store_rlx(&((struct shm_item *)(void *)(good.base + off_of[5]))->expiry_ns, UINT64_MAX);
}

/* Where a change is made. */
static shm_u64 *place_of(uint64_t where, uint64_t idx)
{
	uint64_t table = shm_word_off(
		good.base ? ((const struct shm_pool *)(const void *)good.base)->table.v : 0);
	uint64_t off;

	switch (where) {
	case 0: /* anywhere */
		off = idx * 8;
		break;
	case 1: /* the header */
		off = idx * 8 % sizeof(struct shm_pool);
		break;
	case 2: /* the table word */
		off = offsetof(struct shm_pool, table);
		break;
	case 3: /* the table and its buckets */
		off = table + idx * 8 % (128 * sizeof(struct shm_bucket));
		break;
	default: /* an entry */
		off = off_of[idx % KEYS] + (idx >> 8) * 8 % 128;
	}
	return (shm_u64 *)(void *)(p.base + off % (POOL_BYTES - 8));
}

/* Where, how, which word, and a number: 1, 1, 2, 8 bytes. */
static void change(struct fuzz_in *in)
{
	uint64_t where = fuzz_take(in, 1) % 5, how = fuzz_take(in, 1), idx = fuzz_take(in, 2);
	uint64_t v = fuzz_take(in, 8);
	shm_u64 *w = place_of(where, idx);
	uint64_t was = shm_load_rlx(w);

	switch (how % 5) {
	case 0:
		break;
	case 1:
		v ^= was;
		break;
	case 2:
		v += was;
		break;
	case 3: /* keeps the tag or size, and leads to an entry, or near it */
		v = shm_word_make(shm_word_top(was),
			(off_of[v % KEYS] + (v >> 8) * 16) & SHM_WORD_OFF_MASK, v >> 60);
		break;
	default: /* keeps the tag or size, leads anywhere */
		v = shm_word_make(shm_word_top(was), v & SHM_WORD_OFF_MASK, v & 1);
	}
	shm_store_rlx(w, v);
}

#ifdef HC_STEPS
static void at_mark(const char *name)
{
	(void)name;
	if (coming.left)
		change(&coming);
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
	shm_read_prefetch_item(&m, k.hash);
	int r = shm_read_find(&reader, &m, &k, SHORT_CELL, &f);
	CHECK(r == 0 || r == READ_MISS || r == READ_BUSY || r == -EBADMSG);
	if (r != 0)
		return;
	CHECK_EQ(shm_word_off(f.pin), (const uint8_t *)f.item - p.base);
	read_all(f.value, f.value_bytes);
	CHECK(shm_read_ok(reader.pin_gen, f.gen));
	shm_read_unpin(reader.block, SHORT_CELL);
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
	struct shm_scan what = {
		.store_id = s->id.v, .epoch = (uint32_t)s->epoch.v, .cell = SHORT_CELL};
	uint64_t cursor = 0, last = 0;
	int r = 0;

	for (int i = 0; i < SCAN_CALLS && r == 0; i++) {
		r = shm_read_scan(&reader, &m, &what, &cursor, scanned, NULL);
		CHECK(r == 0 || r == SCAN_END || r == SCAN_BUSY || r == -EBADMSG);
		CHECK(r != 0 || cursor > last); /* it goes on, whatever the table says */
		last = cursor;
	}
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	struct fuzz_in in = {data, bytes};

	if (!good.base)
		world_make();
	t_pool_restore(&p, &good);
	for (uint64_t n = fuzz_take(&in, 1); n > 0 && in.left; n--)
		change(&in);
	coming = in;
#ifdef HC_STEPS
	shm_step_hook = at_mark;
#endif
	for (uint32_t key = 0; key < KEYS + 2; key++)
		look_up(key);
	scan();
#ifdef HC_STEPS
	shm_step_hook = NULL;
#endif
	for (int i = 0; i < SHM_BLOCK_PINS; i++)
		CHECK_EQ(shm_load_rlx(&reader.block->pin[i]), 0);
	return FUZZ_ANY;
}

FUZZ_TESTS(6000)

/* fuzz_damage.h - a pool that is damaged as an input says, for the targets that look at such pools.
 *
 * An input is a byte (its lowest bit: at rest, or in the middle of a growth; the others: how many changes
 * are made at once), and changes of 12 bytes: where, how, which word, a number. */
#ifndef HC_FUZZ_DAMAGE_H
#define HC_FUZZ_DAMAGE_H
#include "../kit/t_pool.h"
#include "fuzz.h"
#include "layout/l_journal.h"
#include "step.h"

enum { POOL_BYTES = 320 << 10, KEYS = 24, GROWING_KEYS_MAX = 1000, FEED_FROM = 224 };

static struct t_pool damage_good[2], p; /* as they were; as it is now */
static uint64_t damage_off[2][KEYS];    /* where entries are */
static uint64_t damage_how;             /* which of the two */
static struct fuzz_in damage_coming;    /* the changes that have not been made yet */

static inline void damage_make(struct t_pool *good, bool growing)
{
	uint64_t *off = damage_off[growing];

	t_pool_new(good, &(struct t_pool_opts){.pool_bytes = POOL_BYTES,
				 .full_fence = true,
				 .feed_bytes = SHM_FEED_BYTES_MIN});
	CHECK_EQ(t_pool_start(good), 0);
	for (uint32_t i = 0; i < KEYS; i++)
		CHECK_EQ(t_pool_set(good, i, 1, i == 3 ? 9000 : 8 + i * 11), 0);
	for (uint32_t i = KEYS; growing && !good->w.next.t; i++) {
		CHECK(i < GROWING_KEYS_MAX);
		CHECK_EQ(t_pool_set(good, i, 1, 8), 0);
	}
	for (uint32_t i = 0; i < KEYS; i++)
		off[i] = t_pool_find(good, i);
	/* An entry whose time is not over yet: then the clock is asked. */
	shm_store_rlx(&((struct shm_item *)(void *)(good->base + off[5]))->expiry_ns, UINT64_MAX);
	t_pool_stop(good);
}

/* Where a change is made. */
static inline shm_u64 *damage_place(uint64_t where, uint64_t idx)
{
	const struct shm_pool *pool = (const struct shm_pool *)(void *)damage_good[damage_how].base;
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
		off = shm_word_off(pool->table.v) + idx * 8 % (128 * sizeof(struct shm_bucket));
		break;
	case 4: /* an entry */
		off = damage_off[damage_how][idx % KEYS] + (idx >> 8) * 8 % 128;
		break;
	case 5: /* the page table */
		off = SHM_PAGE + idx * 8 % (POOL_BYTES / SHM_PAGE * 8);
		break;
	case 6: /* a pin */
		return &((struct shm_block *)(void *)(p.client[1] + 1))->pin[idx % SHM_BLOCK_PINS];
	case 8: /* the feed's header, and what was written there */
		off = pool->feed_off.v + idx * 8 % 8192;
		break;
	default: /* what the dead engine was about to do */
		return (shm_u64 *)(void *)&p.journal->intent +
		       idx % (sizeof(struct shm_intent) / 8);
	}
	return (shm_u64 *)(void *)(p.base + off % (POOL_BYTES - 8));
}

static inline void damage_change(struct fuzz_in *in)
{
	uint64_t where = fuzz_take(in, 1), how = fuzz_take(in, 1), idx = fuzz_take(in, 2);
	uint64_t v = fuzz_take(in, 8), entry = damage_off[damage_how][v % KEYS];
	shm_u64 *w = damage_place(where < FEED_FROM ? where % 8 : 8, idx);
	uint64_t was = shm_load_rlx(w);

	switch (how % 6) {
	case 0:
		break;
	case 1:
		v ^= was;
		break;
	case 2:
		v += was;
		break;
	case 3: /* keeps the tag or size, and leads to an entry, or near it */
		v = shm_word_make(
			shm_word_top(was), (entry + (v >> 8) * 16) & SHM_WORD_OFF_MASK, v >> 60);
		break;
	case 4: /* keeps the tag or size, leads anywhere */
		v = shm_word_make(shm_word_top(was), v & SHM_WORD_OFF_MASK, v & 1);
		break;
	default: /* pins an entry */
		v = shm_word_make(p.ctl->pin_gen[1].v, entry, T_POOL_IDX);
	}
	shm_store_rlx(w, v);
}

/* p as this input wants it; damage_coming has the rest. */
static inline void damage_begin(const uint8_t *data, size_t bytes)
{
	damage_coming = (struct fuzz_in){data, bytes};
	if (!damage_good[0].base) {
		damage_make(&damage_good[0], false);
		damage_make(&damage_good[1], true);
		t_pool_copy(&p, &damage_good[0]);
	}
	uint64_t first = fuzz_take(&damage_coming, 1);
	damage_how = first & 1;
	t_pool_restore(&p, &damage_good[damage_how]);
	shm_store32_rlx(&p.client[1]->blocks_used, 1);
	for (uint64_t n = first >> 1; n > 0 && damage_coming.left; n--)
		damage_change(&damage_coming);
}

#endif

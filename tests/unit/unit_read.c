/* unit_read.c - does a look-up stay inside its mapping and keep read.h's promise, whatever the memory
 * holds and whenever the engine changes it?  Guard pages stand on both sides of the pool. */
#include <errno.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"
#include "../../shm/atomic.h"
#include "../../shm/step.h"

enum { POOL_BYTES = 256 << 10, TRIES = 64 };

static struct t_pool p;
static struct shm_reader reader;
static struct shm_map map;

static void begin(void)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL_BYTES});
	CHECK_EQ(t_pool_start(&p), 0);
	reader = t_pool_reader(&p, 0, 0);
	map = t_pool_map(&p);
}

static void end(void) { t_pool_free(&p); }

static void check_no_pins(void)
{
	for (int i = 0; i < SHM_BLOCK_PINS; i++)
		CHECK_EQ(shm_load_rlx(&reader.block->pin[i]), 0);
}

/* A look-up of any key in any memory.  What it finds lies in the mapping; what it does not find
 * leaves no pin. */
static int look(uint32_t key)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_found f;
	struct shm_key k;

	t_pool_key(&p, key, bytes, &k);
	shm_read_prefetch_bucket(&map, k.hash);
	shm_read_prefetch_item(&map, shm_read_table_pin(&reader, &map), k.hash);
	int e = shm_read_find(&reader, &map, &k, SHM_PIN_CALL, &f);
	CHECK(e == 0 || e == READ_MISS || e == READ_BUSY || e == READ_ABSENT || e == -EBADMSG);
	if (e == 0) {
		CHECK(f.value >= p.base && f.value_bytes <= p.bytes);
		CHECK(f.value + f.value_bytes <= p.base + p.bytes);
		CHECK(memcmp(f.item + 1, bytes, k.n_bytes) == 0);
		shm_read_unpin(reader.block, SHM_PIN_CALL);
	}
	check_no_pins();
	return e;
}

static struct shm_bucket *bucket(uint64_t i)
{
	uint64_t off = shm_word_off(shm_load_rlx(&p.w.hdr->table));

	return (struct shm_bucket *)(void *)(p.base + off + sizeof(struct shm_table)) + i;
}

/* The slot that names the key. */
static shm_u64 *slot_of(uint32_t key, uint64_t *ret_bucket)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;
	uint64_t off = t_pool_find(&p, key);

	t_pool_key(&p, key, bytes, &k);
	*ret_bucket = shm_hash_bucket(k.hash, p.w.cur.log2_buckets);
	for (int i = 0; i < SHM_BUCKET_SLOTS; i++)
		if (shm_word_off(shm_load_rlx(&bucket(*ret_bucket)->slot[i])) == off && off)
			return &bucket(*ret_bucket)->slot[i];
	t_fail(__FILE__, __LINE__, "key %u has no slot", key);
}

/* ------------------------------------------------------------ damage, by name */

TEST(table_word_that_leads_out_of_the_mapping)
{
	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, 100), 0);
	uint64_t good = shm_load_rlx(&p.w.hdr->table), off = shm_word_off(good);
	uint64_t bad[] = {0, shm_word_make(6, p.bytes, 0), shm_word_make(6, p.bytes - 16, 0),
		shm_word_make(6, SHM_WORD_OFF_MASK, 0), shm_word_make(37, off, 0),
		shm_word_make(0xffff, off, 0), shm_word_make(36, off, 0),
		shm_word_make(6, p.bytes - 64 - 64 * 64 + 16, 0), ~0ull};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		shm_store_rlx(&p.w.hdr->table, bad[i]);
		CHECK_EQ(look(1), -EBADMSG);
		CHECK_EQ(shm_load_rlx(&reader.block->counter[SHM_BC_damage_seen]), i + 1);
	}
	/* a table that ends where the mapping ends is none */
	memset(p.base + p.bytes - 64 - 64 * 64, 0, 64 + 64 * 64);
	shm_store_rlx(&p.w.hdr->table, shm_word_make(6, p.bytes - 64 - 64 * 64, 0));
	CHECK_EQ(look(1), READ_MISS);
	shm_store_rlx(&p.w.hdr->table, good);
	CHECK_EQ(look(1), 0);
	end();
}

TEST(links_that_lead_out_or_round_in_a_ring)
{
	uint64_t b;

	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, 100), 0);
	shm_u64 *slot = slot_of(1, &b);
	uint64_t word = shm_load_rlx(slot);
	uint64_t self = (uint64_t)((uint8_t *)bucket(b) - p.base);
	uint64_t bad[] = {p.bytes, p.bytes - 48, SHM_WORD_OFF_MASK, self, self + 16, p.bytes - 64};
	shm_store_rlx(slot, 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		memset(p.base + p.bytes - 64, 0, 64);
		shm_store_rlx(&bucket(b)->link, bad[i]);
		CHECK_EQ(look(1), bad[i] == p.bytes - 64 ? READ_MISS : -EBADMSG);
	}
	shm_store_rlx(slot, word); /* what is found before the bad link counts */
	shm_store_rlx(&bucket(b)->link, SHM_WORD_OFF_MASK);
	CHECK_EQ(look(1), 0);
	end();
}

TEST(items_and_lengths_that_lead_out_of_the_mapping)
{
	uint64_t b;

	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, 100), 0);
	shm_u64 *slot = slot_of(1, &b);
	uint64_t word = shm_load_rlx(slot), off = shm_word_off(word), top = shm_word_top(word);
	uint64_t bad_off[] = {p.bytes, SHM_WORD_OFF_MASK, p.bytes - 16, p.bytes - 80};
	for (size_t i = 0; i < sizeof bad_off / sizeof *bad_off; i++) {
		shm_store_rlx(slot, shm_word_make(top, bad_off[i], 0));
		CHECK_EQ(look(1), -EBADMSG);
	}
	shm_store_rlx(slot, word);
	struct shm_item *it = shm_pool_item(&p.w, off);
	uint64_t lens = it->lens, key_bytes = shm_lens_key(lens);
	uint64_t room = p.bytes - off - shm_item_value_off(key_bytes);
	it->lens = shm_lens_make(key_bytes, room + 1);
	CHECK_EQ(look(1), -EBADMSG);
	it->lens = shm_lens_make(key_bytes, SHM_LENS_VALUE_MASK);
	CHECK_EQ(look(1), -EBADMSG);
	it->lens = ~0ull;
	CHECK_EQ(look(1), -EBADMSG);
	it->lens = shm_lens_make(key_bytes, room); /* to the last byte */
	CHECK_EQ(look(1), 0);
	it->lens = shm_lens_make(key_bytes + 1, 10);
	CHECK_EQ(look(1), READ_MISS);
	it->lens = lens;
	/* an item whose header alone fits: its key would be behind the end */
	memcpy(p.base + p.bytes - sizeof *it - 8, it, sizeof *it);
	shm_store_rlx(slot, shm_word_make(top, p.bytes - sizeof *it - 8, 0));
	CHECK_EQ(look(1), -EBADMSG);
	end();
}

TEST(moved_without_a_next_table_ends)
{
	uint64_t b;

	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, 100), 0);
	shm_store_rlx(slot_of(1, &b), SHM_SLOT_MOVED);
	CHECK_EQ(look(1), READ_BUSY);
	CHECK_EQ(shm_load_rlx(&reader.block->counter[SHM_BC_retries]), TRIES);
	struct shm_table *t = (struct shm_table *)(void *)bucket(0) - 1;
	shm_store_rlx(&t->next, shm_load_rlx(&p.w.hdr->table)); /* to itself, for ever */
	CHECK_EQ(look(1), READ_BUSY);
	shm_store_rlx(&t->next, ~15ull);
	CHECK_EQ(look(1), -EBADMSG);
	end();
}

/* ------------------------------------------------------------ damage, at random */

static void random_bytes(uint8_t *at, uint64_t bytes)
{
	uint64_t *w = (uint64_t *)(void *)at;

	for (uint64_t i = 0; i < bytes / 8; i++)
		w[i] = t_random();
}

/* A word that leads somewhere into the mapping, or nearly. */
static uint64_t likely_word(void)
{
	uint64_t off = t_random_below(POOL_BYTES + SHM_PAGE) & ~15ull;

	if (t_random_below(2))
		off &= ~63ull;
	return shm_word_make(t_random_below(8), off, t_random_below(16) ? 0 : SHM_SLOT_MOVED);
}

TEST(pool_of_random_bytes)
{
	begin();
	for (int turn = 0; turn < 200; turn++) {
		random_bytes(p.base, p.bytes);
		if (turn % 2) /* else nothing but the table word is looked at */
			for (uint64_t i = 0; i < p.bytes / 8; i++)
				if (t_random_below(2))
					((uint64_t *)(void *)p.base)[i] = likely_word();
		for (uint32_t key = 0; key < 50; key++) {
			if (turn % 2)
				shm_store_rlx(&p.w.hdr->table,
					shm_word_make(t_random_below(12),
						t_random_below(p.bytes) & ~63ull, 0));
			CHECK(look(key) != 0);
		}
	}
	t_pool_stop(&p);
	end();
}

TEST(pool_with_random_damage)
{
	struct t_pool sound;
	uint64_t hits = 0, misses = 0, damaged = 0;

	begin();
	for (uint32_t key = 0; key < 5 * 64 + 8; key++)
		CHECK_EQ(t_pool_set(&p, key, 1, 16 + key % 300), 0);
	CHECK(p.w.next.t);
	t_pool_stop(&p);
	t_pool_copy(&sound, &p);
	for (int turn = 0; turn < 300; turn++) {
		t_pool_restore(&p, &sound);
		uint64_t area = turn % 2 ? 24 << 10 : p.bytes;
		for (uint64_t i = 0; i < 400; i++) {
			uint64_t *w = (uint64_t *)(void *)p.base + t_random_below(area / 8);
			uint64_t kind = t_random_below(3);
			*w = kind == 0   ? t_random()
			     : kind == 1 ? likely_word()
			                 : *w ^ 1ull << t_random_below(64);
		}
		for (uint32_t key = 0; key < 5 * 64 + 8; key++) {
			int e = look(key);
			hits += e == 0;
			misses += e == READ_MISS;
			damaged += e == -EBADMSG;
		}
	}
	CHECK(hits > 1000 && misses > 1000 && damaged > 1000);
	t_pool_free(&sound);
	end();
}

/* ------------------------------------------------------------ keys */

/* Two keys with one tag in one bucket: both are found, each by its own key. */
TEST(equal_tags_are_told_apart_by_the_key)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key first, k;
	uint32_t other = 1;
	uint64_t v;

	begin();
	p.opts.n_keys = ~0u;
	t_pool_key(&p, 0, bytes, &first);
	do {
		t_pool_key(&p, ++other, bytes, &k);
	} while (shm_hash_tag(k.hash) != shm_hash_tag(first.hash) ||
		 k.hash >> 58 != first.hash >> 58);
	CHECK_EQ(t_pool_set(&p, 0, 1, 100), 0);
	CHECK_EQ(look(other), READ_MISS);
	CHECK_EQ(t_pool_set(&p, other, 2, 100), 0);
	CHECK_EQ(t_pool_get(&p, &reader, 0, &v), 0);
	CHECK_EQ(v, 1);
	CHECK_EQ(t_pool_get(&p, &reader, other, &v), 0);
	CHECK_EQ(v, 2);
	CHECK_EQ(t_pool_delete(&p, 0), 0);
	CHECK_EQ(t_pool_get(&p, &reader, other, &v), 0);
	CHECK_EQ(v, 2);
	end();
}

TEST(same_key_of_another_store_or_epoch_is_absent)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_found f;
	struct shm_key k;

	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, 100), 0);
	t_pool_key(&p, 1, bytes, &k);
	k.store_id++; /* even if the hash were the same */
	CHECK_EQ(shm_read_find(&reader, &map, &k, 1, &f), READ_MISS);
	k.store_id--;
	k.epoch++;
	CHECK_EQ(shm_read_find(&reader, &map, &k, 1, &f), READ_MISS);
	k.epoch--;
	CHECK_EQ(shm_read_find(&reader, &map, &k, 1, &f), 0);
	CHECK_EQ(shm_word_low(f.pin), T_POOL_IDX);
	CHECK_EQ(shm_word_off(f.pin), t_pool_find(&p, 1));
	CHECK_EQ(shm_word_top(f.pin), 100);
	CHECK_EQ(shm_load_rlx(&reader.block->pin[1]), f.pin);
	end();
}

/* ------------------------------------------------------------ an engine at work */

#ifdef HC_STEPS
static const char *hook_at;
static uint64_t hook_n, hook_version;
static void (*hook_do)(void);

static void hook(const char *name)
{
	if (strcmp(name, hook_at) != 0)
		return;
	shm_step_hook = NULL;
	hook_n++;
	hook_do();
	shm_step_hook = hook;
}

static int get_while(const char *at, void (*does)(void), uint64_t *ret_version)
{
	hook_at = at;
	hook_do = does;
	hook_n = 0;
	*ret_version = 0;
	shm_step_hook = hook;
	int e = t_pool_get(&p, &reader, 1, ret_version);
	shm_step_hook = NULL;
	return e;
}

static void overwrite(void) { CHECK_EQ(t_pool_set(&p, 1, ++hook_version, 100), 0); }

TEST(entry_that_changes_at_every_try_is_busy)
{
	uint64_t v;

	begin();
	overwrite();
	CHECK_EQ(get_while("reader:pinned", overwrite, &v), READ_BUSY);
	CHECK_EQ(hook_n, TRIES + 1); /* the simple way comes first */
	CHECK_EQ(shm_load_rlx(&reader.block->counter[SHM_BC_retries]), TRIES);
	check_no_pins();
	CHECK_EQ(t_pool_get(&p, &reader, 1, &v), 0);
	CHECK_EQ(v, hook_version);
	end();
}

static void delete_once(void) { CHECK_EQ(t_pool_delete(&p, 1), hook_n == 1 ? 0 : POOL_MISS); }

TEST(entry_deleted_before_the_second_look_is_a_miss)
{
	uint64_t v;

	begin();
	overwrite();
	CHECK_EQ(get_while("reader:pinned", delete_once, &v), READ_MISS);
	check_no_pins();
	end();
}

TEST(entry_deleted_after_the_second_look_is_found)
{
	uint64_t v;

	begin();
	overwrite();
	CHECK_EQ(get_while("reader:rechecked", delete_once, &v), 0);
	CHECK_EQ(v, 1);
	end();
}

/* The key is there all the time: a pin that was revoked must not make it a miss, nor damage. */
static void overwrite_and_revoke(void)
{
	uint64_t off = t_pool_find(&p, 1);

	if (hook_n > 1)
		return;
	overwrite();
	shm_count(&p.ctl->pin_gen[0], 1);
	CHECK(t_pool_sweep(&p) > 0);
	memset(p.base + off, hook_version & 1 ? 0xff : 0, 88);
}

TEST(revoked_in_the_middle_of_a_look_up_looks_again)
{
	uint64_t v;

	begin();
	for (int i = 0; i < 4; i++) {
		overwrite();
		CHECK_EQ(get_while("reader:rechecked", overwrite_and_revoke, &v), 0);
		CHECK_EQ(v, hook_version);
		CHECK_EQ(hook_n, 2);
		check_no_pins();
	}
	end();
}
#endif

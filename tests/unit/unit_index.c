/* unit_index.c - does the index keep every key: through growth, at every instant of it, for an engine
 * that takes over at any instant, and, as far as it can, in a table that was damaged? */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"
#include "../../shm/atomic.h"
#include "../../shm/index_write.h"
#include "../../shm/step.h"

enum {
	GROW_EARLY_AT = 3 * 64, /* above it, when pages run out */
	GROW_AT = 5 * 64 + 1,
	KEYS_MAX = 8192,
};

static struct t_pool p, q;
static struct shm_reader reader;
static uint64_t version[KEYS_MAX]; /* what each key holds; 0: absent */
static uint32_t n_keys;

static void begin(uint64_t bytes)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = bytes, .n_keys = KEYS_MAX});
	CHECK_EQ(t_pool_start(&p), 0);
	reader = t_pool_reader(&p, 0, 0);
}

static void end(void)
{
	t_pool_check(&p);
	t_pool_fsck(&p);
	t_pool_free(&p);
}

static void put(uint32_t key, uint64_t v)
{
	struct shm_changed c;

	CHECK_EQ(t_pool_try(&p, key, v, 16 + key % 50, 0, &c), 0);
	version[key] = v;
	n_keys = key >= n_keys ? key + 1 : n_keys;
}

static void read_all(struct t_pool *in, const struct shm_reader *r, uint32_t stride)
{
	for (uint32_t key = 0; key < n_keys; key += stride) {
		uint64_t v = 0;
		int e = t_pool_get(in, r, key, &v);
		CHECK(e == 0 || e == READ_MISS);
		CHECK_EQ(v, version[key]);
	}
}

/* ------------------------------------------------------------ growth */

/* Pages that the test takes out of the pool, and gives back one at a time, no two side by side. */
static uint64_t held[1024];
static uint32_t n_held;

static void hold_all_pages(void)
{
	while (shm_alloc_take_table(p.w.alloc, SHM_PAGE, &held[n_held]) == 0)
		CHECK(++n_held < 1024);
}

static bool give_one_page(void)
{
	for (uint32_t i = 0; i < n_held; i++)
		if (held[i] && held[i] / SHM_PAGE % 2) {
			shm_alloc_give(p.w.alloc, held[i]);
			held[i] = 0;
			return true;
		}
	return false;
}

static void give_all_pages(void)
{
	for (uint32_t i = 0; i < n_held; i++)
		if (held[i])
			shm_alloc_give(p.w.alloc, held[i]);
}

TEST(growth_waits_for_room_and_serves_meanwhile)
{
	struct shm_changed c;
	uint32_t key = 0, log2 = INDEX_LOG2_MIN;
	uint64_t bytes = shm_index_bytes(log2 + 1, shm_index_overflow(log2 + 1));

	begin(512 << 10);
	hold_all_pages();
	for (; p.w.n_entries <= GROW_AT && key < KEYS_MAX; key++) {
		int e = t_pool_try(&p, key, 1, 16, 0, &c);
		if (e == POOL_FULL && give_one_page())
			e = t_pool_try(&p, key, 1, 16, 0, &c);
		CHECK(e == 0 || e == POOL_FULL);
		version[key] = e == 0;
		if (p.w.n_entries <= GROW_EARLY_AT)
			CHECK_EQ(shm_pool_grow_wants(&p.w), 0);
	}
	n_keys = key;
	CHECK(p.w.n_entries > GROW_AT);
	CHECK_EQ(shm_pool_grow_wants(&p.w), bytes);
	read_all(&p, &reader, 1);
	CHECK(!shm_pool_grow_step(&p.w, 1));
	CHECK_EQ(shm_pool_grow_wants(&p.w), bytes);
	give_all_pages();
	CHECK(shm_pool_grow_step(&p.w, 1)); /* at once: whoever made room asks for it */
	CHECK_EQ(shm_pool_grow_wants(&p.w), 0);
	while (shm_pool_grow_step(&p.w, 8))
		read_all(&p, &reader, 7);
	CHECK_EQ(p.w.cur.log2_buckets, log2 + 1);
	read_all(&p, &reader, 1);
	end();
}

TEST(keys_are_found_at_every_step_of_several_doublings)
{
	uint64_t grows = 0;

	begin(8 << 20);
	for (uint32_t key = 0; key < 6000; key++) {
		put(key, 1);
		if (p.w.next.t)
			read_all(&p, &reader, 1 + n_keys / 64);
		if (key % 1000 == 0)
			read_all(&p, &reader, 1);
		if (key % 64 == 0)
			t_pool_check(&p);
	}
	grows = shm_load_rlx(&p.ctl->pool[T_POOL_IDX].counter[SHM_PC_index_grows]);
	CHECK(grows >= 4);
	CHECK_EQ(p.w.cur.log2_buckets, INDEX_LOG2_MIN + grows);
	read_all(&p, &reader, 1);
	for (uint32_t key = 0; key < n_keys; key += 2) {
		CHECK_EQ(t_pool_delete(&p, key), 0);
		version[key] = 0;
	}
	read_all(&p, &reader, 1);
	CHECK(t_pool_sweep(&p) > 0); /* old tables too */
	CHECK_EQ(p.w.limbo.n, 0);
	end();
}

/* Changes while chains are on their way: before, after, and in the very chain. */
TEST(changes_during_growth)
{
	begin(1 << 20);
	for (uint32_t key = 0; key < GROW_AT; key++)
		put(key, 1);
	CHECK(shm_pool_grow_step(&p.w, 1));
	for (uint64_t n = 0; p.w.next.t; n++) {
		uint32_t key = (uint32_t)t_random_below(GROW_AT + 50);
		if (t_random_below(2)) {
			put(key, n + 2);
		} else {
			CHECK_EQ(t_pool_delete(&p, key), version[key] ? 0 : POOL_MISS);
			version[key] = 0;
		}
		read_all(&p, &reader, 3);
	}
	read_all(&p, &reader, 1);
	end();
}

/* The overflow buckets that moving needs are kept from new keys. */
TEST(chain_is_full_during_growth_before_moving_lacks_room)
{
	struct shm_changed c;
	uint32_t full = 0;

	begin(1 << 20);
	p.opts.n_keys = 1u << 31;
	for (uint32_t at = 0; p.w.cur.overflow_used < p.w.cur.n_overflow; at++) {
		uint8_t bytes[T_KEY_BYTES_MAX];
		struct shm_key k;
		t_pool_key(&p, at, bytes, &k);
		if (shm_hash_bucket(k.hash, 6) >= 40)
			(void)t_pool_try(&p, at, 1, 16, 0, &c);
	}
	for (uint32_t at = 1u << 20; p.w.n_entries <= GROW_AT && !p.w.next.t; at++)
		(void)t_pool_try(&p, at, 1, 16, 0, &c);
	CHECK(p.w.next.t || shm_pool_grow_step(&p.w, 1));
	for (uint32_t at = 1u << 21; full < 200; at++) {
		uint8_t bytes[T_KEY_BYTES_MAX];
		struct shm_key k;
		t_pool_key(&p, at, bytes, &k);
		if (shm_hash_bucket(k.hash, 6) !=
			0) /* chain 0 has moved: this fills the next table */
			continue;
		int e = t_pool_try(&p, at, 1, 16, 0, &c);
		full += e == POOL_CHAIN_FULL;
		if (p.w.grow_pos > 4 || !p.w.next.t)
			break;
	}
	(void)shm_pool_grow_step(&p.w, 64); /* CHECKs that each slot finds room */
	t_pool_check(&p);
	end();
}

/* ------------------------------------------------------------ every instant */

#ifdef HC_STEPS
static uint32_t hook_key; /* the key that is being changed: old or new */
static uint64_t hook_old, hook_new;
static uint64_t hook_calls, hook_every;

static uint64_t get_some(struct t_pool *in, const struct shm_reader *r, uint32_t key)
{
	uint64_t v = 0;
	int e = t_pool_get(in, r, key, &v);

	CHECK(e == 0 || e == READ_MISS);
	return v;
}

static void read_all_but_one(struct t_pool *in, const struct shm_reader *r, uint32_t stride)
{
	uint64_t v = get_some(in, r, hook_key);

	CHECK(v == hook_old || v == hook_new);
	for (uint32_t key = (uint32_t)t_random_below(stride); key < n_keys; key += stride)
		if (key != hook_key)
			CHECK_EQ(get_some(in, r, key), version[key]);
}

static void on_step_read(const char *name)
{
	(void)name;
	shm_step_hook = NULL;
	read_all_but_one(&p, &reader, 5);
	hook_calls++;
	shm_step_hook = on_step_read;
}

/* A new engine takes a copy of the memory as it is at this instant, and the next change works. */
static void on_step_adopt(const char *name)
{
	struct shm_changed c;

	if (hook_calls++ % hook_every != 0 && strncmp(name, "grow:", 5) == 0)
		return;
	shm_step_hook = NULL;
	t_pool_restore(&q, &p);
	CHECK_EQ(t_pool_start(&q), 0);
	t_pool_check(&q);
	t_pool_fsck(&q);
	struct shm_reader r = t_pool_reader(&q, 0, 0);
	read_all_but_one(&q, &r, 3);
	CHECK_EQ(shm_load_rlx(&q.ctl->counter[SHM_DC_adopt_dropped]), 0);
	CHECK_EQ(t_pool_try(&q, hook_key, 999, 20, 0, &c), 0);
	CHECK_EQ(get_some(&q, &r, hook_key), 999);
	while (shm_pool_grow_step(&q.w, 16))
		;
	CHECK_EQ(get_some(&q, &r, hook_key), 999);
	t_pool_check(&q);
	t_pool_stop(&q);
	shm_step_hook = on_step_adopt;
}

static void change(uint32_t key, uint64_t to, void (*hook)(const char *name))
{
	hook_key = key;
	hook_old = key < n_keys ? version[key] : 0;
	hook_new = to;
	shm_step_hook = hook;
	if (to)
		put(key, to);
	else
		CHECK_EQ(t_pool_delete(&p, key), version[key] ? 0 : POOL_MISS);
	version[key] = to;
	shm_step_hook = NULL;
}

static void all_kinds_of_changes(void (*hook)(const char *name))
{
	for (uint32_t key = 0; key < GROW_AT - 2; key++)
		put(key, 1);
	change(7, 2, hook);           /* an overwrite */
	change(GROW_AT - 2, 1, hook); /* a new key */
	change(8, 0, hook);
	change(8, 0, hook); /* absent */
	change(8, 3, hook);
	for (uint32_t key = GROW_AT - 1; key < GROW_AT + 4; key++)
		change(key, 1, hook); /* growth begins */
	for (uint64_t n = 4; p.w.next.t; n++)
		change((uint32_t)t_random_below(GROW_AT), n % 5 ? n : 0, hook);
	CHECK_EQ(p.w.cur.log2_buckets, 7);
	change(9, 77, hook);
}

TEST(keys_are_found_at_every_mark)
{
	begin(1 << 20);
	all_kinds_of_changes(on_step_read);
	CHECK(hook_calls > 1000);
	end();
}

TEST_LIMIT(engine_adopts_every_state, 120)
{
	begin(256 << 10);
	t_pool_copy(&q, &p);
	hook_every = 2;
	all_kinds_of_changes(on_step_adopt);
	CHECK(hook_calls > 1000);
	t_pool_free(&q);
	end();
}

/* Rule P15: a reader whose call began before its store was cleared may pin an item until the moment
 * that adoption clears its slot; so that is when the pins that count are looked at. */
static struct shm_found adopted;
static struct shm_key adopted_key;

static void pin_while_adopting(const char *name)
{
	struct shm_map m = t_pool_map(&p);

	if (strcmp(name, "adopt:attached") != 0)
		return;
	shm_step_hook = NULL;
	CHECK_EQ(shm_read_find(&reader, &m, &adopted_key, SHM_PIN_VIEW, &adopted), 0);
	hook_calls++;
}

TEST(pin_that_is_set_while_an_engine_adopts_holds)
{
	uint8_t bytes[T_KEY_BYTES_MAX];

	begin(256 << 10);
	for (uint32_t key = 0; key < 20; key++)
		put(key, 1);
	t_pool_key(&p, 7, bytes, &adopted_key);
	t_pool_stop(&p);
	shm_count(&p.ctl->store[T_POOL_STORE].epoch, 1);
	shm_step_hook = pin_while_adopting;
	CHECK_EQ(t_pool_start(&p), 0);
	CHECK_EQ(hook_calls, 1);
	CHECK_EQ(p.w.n_entries, 0);
	CHECK_EQ(p.w.limbo.n, 1);
	for (uint32_t key = 100; key < 2000; key++)
		CHECK_EQ(t_pool_set(&p, key, 2, 16 + key % 50), 0);
	CHECK_EQ(t_value_version(7, adopted.value, adopted.value_bytes), 1);
	end();
}
#endif

/* ------------------------------------------------------------ damage */

static int adopt_copy(void)
{
	if (q.running)
		t_pool_stop(&q);
	return t_pool_start(&q);
}

static uint64_t dropped(void) { return shm_load_rlx(&q.ctl->counter[SHM_DC_adopt_dropped]); }

/* An engine goes on in what it has adopted. */
static void work_on(struct t_pool *in)
{
	for (uint64_t n = 0; n < 400; n++) {
		uint32_t key = (uint32_t)t_random_below(KEYS_MAX);
		int e = t_random_below(3) ? t_pool_set(in, key, 5, 16 + t_random_below(300))
		                          : t_pool_delete(in, key);
		CHECK(e >= 0);
	}
	while (shm_pool_grow_step(&in->w, 32))
		;
	t_pool_check(in);
	struct shm_reader r = t_pool_reader(in, 1, 0);
	struct shm_map m = t_pool_map(in);
	for (uint32_t key = 0; key < n_keys; key += 3) {
		uint8_t bytes[T_KEY_BYTES_MAX];
		struct shm_found f;
		struct shm_key k;
		t_pool_key(in, key, bytes, &k);
		int e = shm_read_find(&r, &m, &k, SHM_PIN_CALL, &f);
		CHECK(e == 0 || e == READ_MISS);
		CHECK(e || memcmp(f.item + 1, bytes, k.n_bytes) == 0);
	}
}

/* A pool of n keys, in the middle of a growth if so. */
static void begin_damage(uint32_t n, bool growing)
{
	begin(512 << 10);
	for (uint32_t key = 0; key < n; key++)
		put(key, 1);
	if (growing)
		CHECK(shm_pool_grow_step(&p.w, 30) || p.w.next.t);
	CHECK_EQ(p.w.next.t != NULL, growing);
	t_pool_copy(&q, &p);
}

static struct shm_table *table_of(struct t_pool *in)
{
	return (struct shm_table *)(void *)(in->base +
					    shm_word_off(shm_load_rlx(&in->w.hdr->table)));
}

static uint64_t survivors(void)
{
	struct shm_reader r = t_pool_reader(&q, 0, 1);
	uint64_t n = 0;

	for (uint32_t key = 0; key < n_keys; key++) {
		uint64_t v = 0;
		int e = t_pool_get(&q, &r, key, &v);
		CHECK(e == 0 || e == READ_MISS);
		CHECK(e != 0 || v == version[key]);
		n += e == 0;
	}
	return n;
}

/* A reader that stands on a retired table may go on to the next one, and from that to the one behind
 * it, whoever the engine is by then. */
TEST(tables_behind_a_pinned_one_stay_for_the_next_engine)
{
	begin(4 << 20);
	for (uint32_t n = 0; n < 3; n++) {
		uint64_t word = shm_load_rlx(&p.w.hdr->table);
		if (n == 0)
			shm_store_rel(&reader.block->pin[SHM_PIN_TABLE],
				shm_word_make(shm_load_rlx(reader.pin_gen), shm_word_off(word),
					T_POOL_IDX));
		for (uint32_t key = n_keys; shm_load_rlx(&p.w.hdr->table) == word; key++)
			put(key, 1);
		(void)t_pool_sweep(&p);
	}
	CHECK_EQ(p.w.limbo.n, 3);
	uint64_t bytes = p.w.limbo.bytes;
	for (int engine = 0; engine < 2; engine++) {
		t_pool_stop(&p);
		CHECK_EQ(t_pool_start(&p), 0);
		t_pool_check(&p);
		CHECK_EQ(p.w.limbo.n, 3);
		CHECK_EQ(p.w.limbo.bytes, bytes);
		CHECK_EQ(t_pool_sweep(&p), 0); /* in their order: the first one is pinned */
	}
	shm_read_unpin(reader.block, SHM_PIN_TABLE);
	CHECK_EQ(t_pool_sweep(&p), bytes);
	read_all(&p, &reader, 1);
	end();
}

TEST(damaged_slots_are_dropped_and_the_rest_survives)
{
	for (int growing = 0; growing < 2; growing++) {
		begin_damage(growing ? GROW_AT : GROW_AT - 5, growing);
		for (int turn = 0; turn < 60; turn++) {
			uint64_t lost = 0;
			t_pool_restore(&q, &p);
			q.w.hdr = (struct shm_pool *)(void *)q.base;
			struct shm_bucket *b = (struct shm_bucket *)(table_of(&q) + 1);
			for (int i = 0; i < 1 + turn; i++) {
				shm_u64 *s = &b[t_random_below(64)]
				                      .slot[t_random_below(SHM_BUCKET_SLOTS)];
				uint64_t word = shm_load_rlx(s);
				uint64_t kind = t_random_below(3);
				uint64_t to = kind == 0   ? t_random() | 2
				              : kind == 1 ? word ^ 1ull << 60
				                          : 3;
				if (word == SHM_SLOT_MOVED && kind == 1)
					continue;
				if ((word >> 2 && word != SHM_SLOT_MOVED) && shm_word_off(word))
					lost += !(word & 2) && word != 3;
				shm_store_rlx(s, to == word ? 3 : to);
			}
			CHECK_EQ(adopt_copy(), 0);
			t_pool_check(&q);
			uint64_t alive = survivors();
			CHECK_EQ(alive, q.w.n_entries);
			CHECK(alive + lost >= n_keys); /* two may have hit one slot */
			CHECK(alive < n_keys || lost == 0);
			CHECK(dropped() >= n_keys - alive);
			work_on(&q);
			t_pool_stop(&q);
		}
		t_pool_free(&q);
		end();
	}
}

TEST(moved_where_nothing_moves_is_cleared)
{
	begin_damage(GROW_AT - 5, false);
	q.w.hdr = (struct shm_pool *)(void *)q.base;
	struct shm_bucket *b = (struct shm_bucket *)(table_of(&q) + 1);
	for (uint32_t i = 0; i < 64; i += 2) { /* would hide whole chains from the next growth */
		shm_store_rlx(&b[i].link, shm_load_rlx(&b[i].link) | SHM_SLOT_MOVED);
		shm_store_rlx(&b[i].slot[6], SHM_SLOT_MOVED);
	}
	CHECK_EQ(adopt_copy(), 0);
	uint64_t alive = survivors();
	CHECK_EQ(dropped(), 32);
	CHECK(alive >= n_keys - 32 && alive == q.w.n_entries);
	work_on(&q);
	t_pool_check(&q);
	t_pool_free(&q);
	end();
}

TEST(two_slots_for_one_item_keep_one)
{
	begin_damage(GROW_AT - 5, false);
	q.w.hdr = (struct shm_pool *)(void *)q.base;
	struct shm_bucket *b = (struct shm_bucket *)(table_of(&q) + 1);
	uint64_t n = 0;
	for (uint32_t i = 0; i < 64; i++)
		if (shm_load_rlx(&b[i].slot[0]) && !shm_load_rlx(&b[i].slot[6])) {
			shm_store_rlx(&b[i].slot[6], shm_load_rlx(&b[i].slot[0]));
			n++;
		}
	CHECK(n > 3);
	CHECK_EQ(adopt_copy(), 0);
	CHECK_EQ(dropped(), n);
	CHECK_EQ(survivors(), n_keys);
	CHECK_EQ(q.w.n_entries, n_keys);
	t_pool_free(&q);
	end();
}

/* A slot that leads to an index table, or into the header: rule I7. */
TEST(slot_that_names_no_item_place_is_dropped)
{
	begin_damage(GROW_AT, true);
	q.w.hdr = (struct shm_pool *)(void *)q.base;
	struct shm_table *t = table_of(&q);
	struct shm_bucket *b = (struct shm_bucket *)(t + 1);
	uint64_t lost = 0;
	for (uint32_t i = 40; i < 44; i++) /* not moved yet */
		lost += shm_word_off(shm_load_rlx(&b[i].slot[0])) != 0;
	struct shm_item *fake = (struct shm_item *)(void *)t; /* passes as an item of this chain */
	shm_store_rlx(&b[40].slot[0], shm_word_make(0, shm_word_off(shm_load_rlx(&t->next)), 0));
	shm_store_rlx(&b[41].slot[0], shm_word_make(shm_hash_tag(fake->hash),
					      shm_word_off(shm_load_rlx(&q.w.hdr->table)), 0));
	shm_store_rlx(&b[42].slot[0], shm_word_make(0, SHM_PAGE, 0));
	shm_store_rlx(&b[43].slot[0], shm_word_make(0, q.bytes - SHM_UNIT, 0));
	CHECK_EQ(adopt_copy(), 0);
	CHECK_EQ(dropped(), 4);
	CHECK_EQ(survivors(), n_keys - lost);
	work_on(&q);
	t_pool_free(&q);
	end();
}

static void damage_header(uint64_t what)
{
	struct shm_pool *h = (struct shm_pool *)(void *)q.base;
	struct shm_table *t = table_of(&q);

	switch (what) {
	case 0:
		h->pool_id++;
		break;
	case 1:
		h->n_classes = 0;
		break;
	case 2:
		h->n_classes = SHM_CLASSES_MAX + 1;
		break;
	case 3:
		h->cls[3].item_bytes = 1;
		break;
	case 4:
		shm_store_rlx(&h->table, shm_load_rlx(&h->table) + 16);
		break;
	case 5:
		shm_store_rlx(
			&h->table, shm_word_make(40, shm_word_off(shm_load_rlx(&h->table)), 0));
		break;
	case 6:
		shm_store_rlx(&h->table, shm_word_make(6, q.bytes - 16, 0));
		break;
	case 7:
		t->magic++;
		break;
	case 8:
		t->log2_buckets++;
		break;
	case 9:
		t->n_overflow *= 1000;
		break;
	case 10:
		shm_store_rlx(&t->next, shm_load_rlx(&h->table));
		break;
	case 11:
		shm_store_rlx(&t->next, shm_word_make(7, 1ull << 40, 0));
		break;
	case 12: /* a link to itself, out of the table, into another chain */
		shm_store_rlx(&((struct shm_bucket *)(t + 1))[3].link,
			shm_word_off(shm_load_rlx(&h->table)));
		break;
	case 13:
		shm_store_rlx(&((struct shm_bucket *)(t + 1))[3].link, SHM_WORD_OFF_MASK);
		break;
	default: {
		struct shm_bucket *b = (struct shm_bucket *)(t + 1);
		uint64_t first = (uint64_t)((uint8_t *)&b[64] - q.base);
		shm_store_rlx(&b[3].link, first);
		shm_store_rlx(&b[4].link, first);
	}
	}
}

/* Class table and links. */
static bool can_be_mended(uint64_t what) { return (what >= 1 && what <= 3) || what >= 12; }

TEST(damaged_links_and_classes_are_mended_and_nothing_is_lost)
{
	for (int growing = 0; growing < 2; growing++) {
		begin_damage(growing ? GROW_AT : GROW_AT - 5, growing);
		for (uint64_t what = 0; what <= 14; what++) {
			if (!can_be_mended(what))
				continue;
			t_pool_restore(&q, &p);
			q.w.hdr = (struct shm_pool *)(void *)q.base;
			damage_header(what);
			CHECK_EQ(adopt_copy(), 0);
			CHECK_EQ(survivors(), n_keys);
			t_pool_check(&q);
			work_on(&q);
			t_pool_stop(&q);
		}
		t_pool_free(&q);
		end();
	}
}

/* Every link of the table at once: each bucket says itself where it belongs. */
TEST(all_links_lost_are_found_again)
{
	begin_damage(GROW_AT - 5, false);
	uint64_t n = 0;
	for (uint64_t kind = 0; kind < 3; kind++) {
		t_pool_restore(&q, &p);
		q.w.hdr = (struct shm_pool *)(void *)q.base;
		struct shm_bucket *b = (struct shm_bucket *)(table_of(&q) + 1);
		uint64_t first = (uint64_t)((uint8_t *)&b[64] - q.base);
		for (uint32_t i = 0; i < 64; i++) {
			if (shm_load_rlx(&b[i].link) == 0)
				continue;
			n++;
			shm_store_rlx(&b[i].link, kind == 0   ? t_random() | SHM_UNIT
						  : kind == 1 ? first
							      : 1ull << 40);
		}
		CHECK_EQ(adopt_copy(), 0);
		CHECK_EQ(survivors(), n_keys);
		t_pool_check(&q);
		work_on(&q);
		t_pool_stop(&q);
	}
	CHECK(n > 3);
	t_pool_free(&q);
	end();
}

TEST(header_damaged_beyond_use_is_refused_by_name)
{
	for (int growing = 0; growing < 2; growing++) {
		begin_damage(growing ? GROW_AT : GROW_AT - 5, growing);
		for (uint64_t what = 0; what <= 14; what++) {
			if (can_be_mended(what))
				continue;
			t_pool_restore(&q, &p);
			q.w.hdr = (struct shm_pool *)(void *)q.base;
			damage_header(what);
			CHECK_EQ(adopt_copy(), -EBADMSG);
		}
		t_pool_restore(&q, &p);
		CHECK_EQ(adopt_copy(), 0); /* undamaged, the same is fine */
		t_pool_free(&q);
		end();
	}
}

/* Random words at random places: an answer, never a crash, never a value of another key. */
TEST_LIMIT(random_damage_anywhere_is_survived, 120)
{
	uint64_t good = 0, bad = 0;

	for (int growing = 0; growing < 2; growing++) {
		begin_damage(growing ? GROW_AT : GROW_AT - 5, growing);
		for (int turn = 0; turn < 400; turn++) {
			t_pool_restore(&q, &p);
			uint64_t area = turn % 2 ? 16384
			                         : q.bytes; /* header, page table, first table */
			for (uint64_t i = 0; i <= t_random_below(200); i++) {
				uint64_t at = t_random_below(area / 8);
				uint64_t *word = (uint64_t *)(void *)q.base + at;
				uint64_t kind = t_random_below(4);
				if (kind < 2)
					*word = kind ? t_random() : 0;
				else
					*word ^= 1ull << t_random_below(64);
			}
			int r = adopt_copy();
			CHECK(r == 0 || r == -EBADMSG);
			good += r == 0;
			bad += r < 0;
			if (r == 0) {
				t_pool_check(&q);
				work_on(&q);
				t_pool_stop(&q);
			}
		}
		t_pool_free(&q);
		end();
	}
	CHECK(good > 20 && bad > 20);
}

/* unit_pool.c - do the changes of a pool keep what pool.h promises?  What must be refused first. */
#include <errno.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"
#include "../../shm/atomic.h"

enum { POOL_BYTES = 1 << 20, VERSION = 1 };

static struct t_pool p;
static struct shm_reader reader;

static void begin_bytes(uint64_t bytes)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = bytes});
	CHECK_EQ(t_pool_start(&p), 0);
	reader = t_pool_reader(&p, 0, 0);
	t_pool_check(&p);
}

static void begin(void) { begin_bytes(POOL_BYTES); }

static void end(void)
{
	t_pool_check(&p);
	t_pool_fsck(&p);
	t_pool_free(&p);
}

static uint64_t version_of(uint32_t key)
{
	uint64_t v = 0;
	int e = t_pool_get(&p, &reader, key, &v);

	CHECK(e == 0 || e == READ_MISS);
	CHECK_EQ(e == 0, t_pool_find(&p, key) != 0);
	return v;
}

/* ------------------------------------------------------------ refusals */

TEST(delete_of_an_absent_key_is_a_miss_and_changes_nothing)
{
	begin();
	uint64_t lsn = shm_load_rlx(&p.ctl->lsn);
	CHECK_EQ(t_pool_delete(&p, 1), POOL_MISS);
	CHECK_EQ(shm_load_rlx(&p.ctl->lsn), lsn);
	CHECK_EQ(p.w.limbo.n, 0);
	end();
}

TEST(unlink_and_move_of_what_no_slot_names_is_a_miss)
{
	struct shm_changed c;
	uint64_t off, to;

	begin();
	CHECK_EQ(t_pool_set(&p, 1, VERSION, 100), 0);
	off = t_pool_find(&p, 1);
	CHECK_EQ(shm_pool_unlink(&p.w, off, &c), 0);
	CHECK_EQ(c.old_off, off);
	CHECK_EQ(shm_pool_unlink(&p.w, off, &c), POOL_MISS);
	CHECK_EQ(shm_pool_move(&p.w, off, &to), POOL_MISS);
	CHECK_EQ(p.w.limbo.n, 1);
	end();
}

/* What all pins hold cannot be used for a set; when they are gone, it can. */
TEST(set_in_a_pool_without_room_changes_nothing)
{
	struct shm_changed c;
	uint32_t n = 0;
	int e;

	begin();
	while ((e = t_pool_try(&p, n, VERSION, 3000, 0, &c)) == 0)
		n++;
	CHECK_EQ(e, POOL_FULL);
	CHECK(n > 200);
	CHECK_EQ(c.off, 0);
	CHECK_EQ(c.old_off, 0);
	CHECK_EQ(p.w.n_entries, n);
	CHECK_EQ(t_pool_try(&p, 0, VERSION + 1, 3000, 0, &c),
		POOL_FULL); /* an overwrite needs room too */
	CHECK_EQ(version_of(0), VERSION);
	t_pool_check(&p);
	CHECK_EQ(t_pool_delete(&p, 0), 0);
	CHECK_EQ(t_pool_try(&p, 0, VERSION + 1, 3000, 0, &c), POOL_FULL); /* in limbo still */
	CHECK(t_pool_sweep(&p) >= 3000);
	CHECK_EQ(t_pool_try(&p, 0, VERSION + 1, 3000, 0, &c), 0);
	CHECK_EQ(version_of(0), VERSION + 1);
	end();
}

/* The n'th key, counted from *at, whose chain is `chain` in a table of 2^log2 buckets. */
static uint32_t next_in_chain(uint32_t *at, uint64_t chain, uint32_t log2)
{
	for (;; (*at)++) {
		uint8_t bytes[T_KEY_BYTES_MAX];
		struct shm_key k;
		t_pool_key(&p, *at, bytes, &k);
		if (shm_hash_bucket(k.hash, log2) == chain)
			return (*at)++;
	}
}

static void fill_chain(uint64_t chain, uint32_t log2, uint32_t room)
{
	struct shm_changed c;
	uint32_t at = 100000, key[300], n = 0;
	int e;

	p.opts.n_keys = 1u << 31;
	do {
		key[n] = next_in_chain(&at, chain, log2);
		e = t_pool_try(&p, key[n], VERSION, 16, 0, &c);
		n += e == 0;
	} while (e == 0 && n < 299);
	CHECK_EQ(e, POOL_CHAIN_FULL);
	CHECK_EQ(n, room);
	CHECK_EQ(version_of(key[n]), 0);
	uint32_t victim;
	memcpy(&victim, shm_pool_item(&p.w, c.old_off) + 1, sizeof victim);
	CHECK_EQ(version_of(victim), VERSION); /* a live one, of this chain */
	for (uint32_t i = 0; i < n; i++)
		CHECK_EQ(version_of(key[i]), VERSION);
	CHECK_EQ(t_pool_try(&p, key[0], VERSION + 1, 16, 0, &c), 0); /* an overwrite has its slot */
	CHECK_EQ(t_pool_try(&p, key[n], VERSION, 16, 0, &c), POOL_CHAIN_FULL);
	CHECK_EQ(t_pool_set(&p, key[n], VERSION, 16), 0); /* that evicts c.old_off */
	CHECK_EQ(version_of(victim), 0);
	CHECK_EQ(version_of(key[n]), VERSION);
	CHECK_EQ(p.n_evicted, 1);
}

TEST(chain_without_overflow_buckets_is_full)
{
	begin();
	fill_chain(5, 6, (1 + 16) * SHM_BUCKET_SLOTS); /* 64 buckets have 16 overflow buckets */
	struct shm_changed c;
	uint32_t at = 500000;
	for (int i = 0; i < SHM_BUCKET_SLOTS; i++) /* other chains have their own bucket still */
		CHECK_EQ(t_pool_try(&p, next_in_chain(&at, 6, 6), VERSION, 16, 0, &c), 0);
	CHECK_EQ(t_pool_try(&p, next_in_chain(&at, 6, 6), VERSION, 16, 0, &c), POOL_CHAIN_FULL);
	end();
}

/* An absent key that would need a slot is told to be absent; nothing has to go for that. */
TEST(a_condition_of_an_absent_key_costs_nothing_in_a_full_chain)
{
	static const struct {
		enum shm_set_mode mode;
		bool old_only;
		int result;
	} cases[] = {{SHM_REPLACE, false, POOL_MISS}, {SHM_IF_VERSION, false, POOL_MISS},
		{SHM_APPEND, false, POOL_MISS}, {SHM_PREPEND, false, POOL_MISS},
		{SHM_SET, true, POOL_NOT_KEPT}, {SHM_ADD, false, POOL_CHAIN_FULL},
		{SHM_SET, false, POOL_CHAIN_FULL}};
	struct shm_req req = {.session = SHM_REQ_ENGINE};
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_changed c;
	uint32_t at = 100000;
	int64_t number;

	begin();
	p.opts.n_keys = 1u << 31;
	while (t_pool_try(&p, next_in_chain(&at, 5, 6), VERSION, 16, 0, &c) == 0)
		;
	uint32_t absent = next_in_chain(&at, 5, 6);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct shm_set set = {.mode = cases[i].mode, .old_only = cases[i].old_only};
		t_pool_key(&p, absent, bytes, &set.key);
		CHECK_EQ(shm_pool_set(&p.w, p.journal, &req, &set, &c), cases[i].result);
	}
	struct shm_incr in = {.must_exist = true};
	t_pool_key(&p, absent, bytes, &in.set.key);
	CHECK_EQ(shm_pool_incr(&p.w, p.journal, &req, &in, &c, &number), POOL_MISS);
	end();
}

TEST(chain_of_the_longest_length_is_full)
{
	begin();
	for (uint32_t key = 0; key <= 5 * 128; key++)
		CHECK_EQ(t_pool_set(&p, key, VERSION, 16), 0);
	CHECK(!shm_pool_grow_step(&p.w, 128));
	CHECK_EQ(p.w.cur.log2_buckets, 8);
	for (uint32_t key = 0; key <= 5 * 128; key++)
		CHECK_EQ(t_pool_delete(&p, key), 0);
	CHECK_EQ(p.w.n_entries, 0);
	CHECK(p.w.cur.n_overflow > SHM_CHAIN_MAX);
	fill_chain(200, 8, SHM_CHAIN_MAX * SHM_BUCKET_SLOTS);
	end();
}

/* ------------------------------------------------------------ what works */

TEST(set_get_overwrite_delete)
{
	struct shm_changed c;

	begin();
	CHECK_EQ(version_of(9), 0);
	CHECK_EQ(t_pool_try(&p, 9, 1, 100, 0, &c), 0);
	CHECK_EQ(c.lsn, 1);
	CHECK_EQ(c.old_off, 0);
	CHECK(c.off != 0 && c.place_bytes >= 100);
	CHECK_EQ(version_of(9), 1);
	const struct shm_item *it = shm_pool_item(&p.w, c.off);
	CHECK_EQ(it->version, 1);
	CHECK_EQ(it->flags, 1);
	CHECK_EQ(it->created_ns, 1);
	uint64_t first = c.off;
	CHECK_EQ(t_pool_try(&p, 9, 2, 5000, 0, &c), 0);
	CHECK_EQ(c.lsn, 2);
	CHECK_EQ(c.old_off, first);
	CHECK(c.off != first);
	it = shm_pool_item(&p.w, c.off);
	CHECK_EQ(it->created_ns, 1); /* the same entry goes on */
	CHECK_EQ(it->modified_ns, 2);
	CHECK_EQ(version_of(9), 2);
	CHECK_EQ(p.w.n_entries, 1);
	CHECK_EQ(p.w.limbo.n, 1);
	CHECK_EQ(t_pool_delete(&p, 9), 0);
	CHECK_EQ(version_of(9), 0);
	CHECK_EQ(t_pool_delete(&p, 9), POOL_MISS);
	CHECK_EQ(p.w.limbo.n, 2);
	(void)t_pool_sweep(&p);
	CHECK_EQ(p.w.limbo.n, 0);
	CHECK_EQ(p.w.n_entries + p.w.live_bytes + p.w.waste_bytes, 0);
	end();
}

TEST(values_of_all_sizes)
{
	begin_bytes(4 << 20);
	for (uint64_t bytes = T_VALUE_BYTES_MIN; bytes < 1 << 20; bytes += 1 + bytes / 7) {
		CHECK_EQ(t_pool_set(&p, 3, VERSION, bytes), 0);
		CHECK_EQ(version_of(3), VERSION);
		t_pool_check(&p);
	}
	end();
}

TEST(empty_value_and_longest_key)
{
	static uint8_t key[SHM_KEY_BYTES_MAX];
	struct shm_req req = {.session = SHM_REQ_ENGINE};
	struct shm_set set = {.key = {.bytes = key, .n_bytes = sizeof key, .epoch = 3}};
	struct shm_map m;
	struct shm_changed c;
	struct shm_found f;

	begin();
	m = t_pool_map(&p);
	set.key.store_id = shm_load_rlx(&p.ctl->store[T_POOL_STORE].id);
	set.key.hash = shm_key_hash(key, sizeof key, p.ctl->hash_seed, set.key.store_id);
	CHECK_EQ(shm_pool_set(&p.w, p.journal, &req, &set, &c), 0);
	CHECK_EQ(shm_read_find(&reader, &m, &set.key, 1, &f), 0);
	CHECK_EQ(f.value_bytes, 0);
	set.key.n_bytes--; /* same hash, another key */
	CHECK_EQ(shm_read_find(&reader, &m, &set.key, 1, &f), READ_MISS);
	CHECK_EQ(shm_load_rlx(&reader.block->pin[1]), 0);
	end();
}

TEST(move_keeps_the_entry_and_its_note)
{
	uint64_t off, to;

	begin_bytes(4 << 20);
	for (uint32_t key = 0; key < 200; key++)
		CHECK_EQ(t_pool_set(&p, key, VERSION, 8 + 37 * key), 0);
	for (uint32_t key = 0; key < 200; key++) {
		off = t_pool_find(&p, key);
		*shm_alloc_note(p.w.alloc, off) = key + 1;
		struct shm_item before = *shm_pool_item(&p.w, off);
		CHECK_EQ(shm_pool_move(&p.w, off, &to), 0);
		CHECK(to != off);
		CHECK_EQ(t_pool_find(&p, key), to);
		CHECK_EQ(*shm_alloc_note(p.w.alloc, to), key + 1);
		CHECK(memcmp(&before, shm_pool_item(&p.w, to), sizeof before) == 0);
		CHECK_EQ(version_of(key), VERSION);
		if (key % 8 == 0)
			(void)t_pool_sweep(&p);
	}
	CHECK_EQ(p.w.n_entries, 200);
	end();
}

/* ------------------------------------------------------------ expiry */

TEST(expired_entry_is_absent_and_goes_at_the_next_change)
{
	struct shm_changed c;
	uint64_t now = t_now_ns();

	begin();
	p.now_ns = now;
	CHECK_EQ(t_pool_try(&p, 1, 1, 100, now - 2000000, &c), 0);
	CHECK_EQ(t_pool_try(&p, 2, 1, 100, now + 3600ull * 1000000000, &c), 0);
	CHECK_EQ(t_pool_get(&p, &reader, 1, &(uint64_t){0}), READ_MISS);
	CHECK_EQ(shm_load_rlx(&reader.block->counter[SHM_BC_expired_seen]), 1);
	CHECK_EQ(version_of(2), 1);
	CHECK_EQ(t_pool_try(&p, 1, 2, 100, 0, &c), 0); /* a new entry: it was not there */
	CHECK(c.old_off != 0);
	CHECK_EQ(shm_pool_item(&p.w, c.off)->created_ns, 2);
	CHECK_EQ(version_of(1), 2);
	CHECK_EQ(t_pool_try(&p, 3, 1, 100, now - 2000000, &c), 0);
	uint64_t lsn = shm_load_rlx(&p.ctl->lsn);
	CHECK_EQ(t_pool_delete(&p, 3), POOL_MISS);
	CHECK_EQ(shm_load_rlx(&p.ctl->lsn), lsn);
	CHECK_EQ(t_pool_find(&p, 3), 0); /* it went */
	CHECK_EQ(p.w.n_entries, 2);
	end();
}

/* A reader whose clock stands elsewhere (a time namespace) uses the offset. */
TEST(expiry_is_in_the_clock_of_the_engine)
{
	struct shm_changed c;
	uint64_t now = t_now_ns(), hour = 3600ull * 1000000000;

	begin();
	CHECK_EQ(t_pool_try(&p, 1, 1, 100, now + hour, &c), 0);
	reader.time_off_ns = (int64_t)(2 * hour);
	CHECK_EQ(t_pool_get(&p, &reader, 1, &(uint64_t){0}), READ_MISS);
	CHECK_EQ(t_pool_try(&p, 1, 2, 100, now - 1000, &c), 0);
	reader.time_off_ns = -(int64_t)hour;
	CHECK_EQ(t_pool_get(&p, &reader, 1, &(uint64_t){0}), 0);
	reader.time_off_ns = 0;
	CHECK(shm_read_now_ns(&reader) <= t_now_ns());
	CHECK(shm_read_now_ns(&reader) >= now);
	end();
}

/* The coarse clock may lag; a moment that is just over is over all the same. */
TEST(expiry_is_exact)
{
	begin();
	for (int i = 0; i < 20000; i++) {
		uint64_t now = t_now_ns();
		CHECK(shm_read_is_over(&reader, now));
		CHECK(!shm_read_is_over(&reader, now + 30000000000));
	}
	end();
}

TEST(clear_is_an_epoch)
{
	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, 100), 0);
	CHECK_EQ(t_pool_set(&p, 2, 1, 100), 0);
	shm_count(&p.ctl->store[T_POOL_STORE].epoch, 1);
	CHECK_EQ(t_pool_get(&p, &reader, 1, &(uint64_t){0}), READ_MISS);
	CHECK_EQ(t_pool_delete(&p, 1), POOL_MISS);
	CHECK_EQ(p.w.n_entries, 1);
	struct shm_changed c;
	CHECK_EQ(t_pool_try(&p, 2, 5, 100, 0, &c), 0);
	CHECK_EQ(shm_pool_item(&p.w, c.off)->created_ns,
		5); /* a new entry in the place of a void one */
	CHECK_EQ(version_of(2), 5);
	CHECK_EQ(p.w.n_entries, 1);
	end();
}

/* ------------------------------------------------------------ pins */

/* Takes all free room, so that freed memory is used again at once. */
static void churn(uint32_t from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		CHECK_EQ(t_pool_set(&p, from + i, VERSION, 100 + i % 700), 0);
}

TEST(pinned_item_is_not_reused_until_it_is_released)
{
	static uint8_t copy[3000];
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_map m;
	struct shm_found f;
	struct shm_key k;

	begin();
	m = t_pool_map(&p);
	CHECK_EQ(t_pool_set(&p, 1, 1, sizeof copy), 0);
	t_pool_key(&p, 1, bytes, &k);
	CHECK_EQ(shm_read_find(&reader, &m, &k, SHM_PIN_VIEW, &f), 0);
	CHECK_EQ(shm_load_rlx(&reader.block->pin[SHM_PIN_TABLE]), 0);
	memcpy(copy, f.value, sizeof copy);
	CHECK_EQ(t_pool_set(&p, 1, 2, sizeof copy), 0);
	churn(10, 5000);
	CHECK(p.n_evicted > 1000);
	CHECK(memcmp(copy, f.value, sizeof copy) == 0);
	CHECK(shm_read_ok(reader.pin_gen, f.gen));
	(void)t_pool_sweep(&p);
	CHECK_EQ(p.w.limbo.n, 1);
	CHECK(p.session[0].pinned_bytes >= sizeof copy);
	CHECK_EQ(p.session[1].pinned_bytes, 0);
	shm_read_unpin(reader.block, SHM_PIN_VIEW);
	(void)t_pool_sweep(&p);
	CHECK_EQ(p.w.limbo.n, 0);
	CHECK_EQ(p.session[0].pinned_bytes, 0);
	churn(10, 5000);
	CHECK(memcmp(copy, f.value, sizeof copy) != 0); /* the test can see a reuse */
	end();
}

TEST(revoked_pin_holds_nothing_and_its_reader_knows)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_reader other;
	struct shm_map m;
	struct shm_found f, g;
	struct shm_key k;

	begin();
	m = t_pool_map(&p);
	other = t_pool_reader(&p, 1, 1);
	CHECK_EQ(t_pool_set(&p, 1, 1, 3000), 0);
	t_pool_key(&p, 1, bytes, &k);
	CHECK_EQ(shm_read_find(&reader, &m, &k, SHM_PIN_VIEW, &f), 0);
	CHECK_EQ(shm_read_find(&other, &m, &k, SHM_PIN_VIEW + 3, &g), 0);
	CHECK_EQ(t_pool_delete(&p, 1), 0);
	CHECK_EQ(t_pool_sweep(&p), 0);
	CHECK_EQ(p.session[0].pinned_bytes, p.session[1].pinned_bytes);
	shm_count(&p.ctl->pin_gen[0], 1);
	CHECK(!shm_read_ok(reader.pin_gen, f.gen));
	CHECK(shm_read_ok(other.pin_gen, g.gen));
	CHECK_EQ(t_pool_sweep(&p), 0);
	CHECK_EQ(p.session[0].pinned_bytes, 0);
	CHECK(p.session[1].pinned_bytes >= 3000);
	shm_count(&p.ctl->pin_gen[1], 1);
	CHECK(t_pool_sweep(&p) >= 3000);
	CHECK_EQ(p.w.limbo.n, 0);
	CHECK_EQ(t_pool_set(&p, 1, 2, 3000), 0); /* new pins are good again */
	CHECK_EQ(shm_read_find(&reader, &m, &k, SHM_PIN_VIEW, &f), 0);
	CHECK(shm_read_ok(reader.pin_gen, f.gen));
	end();
}

/* However many pins a session has on a place, and in whichever order the scan meets
 * them among those of others: it is charged once. */
TEST(session_is_charged_once_for_a_place)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_map m;
	struct shm_found f;
	struct shm_key k;

	begin();
	m = t_pool_map(&p);
	CHECK_EQ(t_pool_set(&p, 1, 1, 3000), 0);
	t_pool_key(&p, 1, bytes, &k);
	for (uint32_t s = 0; s < T_POOL_SESSIONS; s++)
		for (uint32_t b = 0; b < T_POOL_BLOCKS; b++) {
			struct shm_reader r = t_pool_reader(&p, s, b);
			for (uint32_t c = 1; c < SHM_BLOCK_PINS; c++)
				CHECK_EQ(shm_read_find(&r, &m, &k, c, &f), 0);
		}
	CHECK_EQ(t_pool_delete(&p, 1), 0);
	CHECK_EQ(t_pool_sweep(&p), 0);
	for (uint32_t s = 0; s < T_POOL_SESSIONS; s++)
		CHECK_EQ(p.session[s].pinned_bytes, p.w.limbo.bytes);
	end();
}

TEST(incomplete_scan_frees_nothing)
{
	begin();
	CHECK_EQ(t_pool_set(&p, 1, 1, 3000), 0);
	CHECK_EQ(t_pool_delete(&p, 1), 0);
	p.session[1].compiler_fence = true;
	shm_scan_pins(&p.pins, p.ctl, p.session, p.n_sessions, false);
	CHECK(!p.pins.complete); /* sessions rely on a barrier that there was none of */
	CHECK_EQ(shm_pool_sweep(&p.w, &p.pins, p.session), 0);
	CHECK_EQ(p.w.limbo.n, 1);
	for (uint32_t i = 0; i < p.n_sessions; i++)
		p.session[i].compiler_fence = false;
	shm_scan_pins(&p.pins, p.ctl, p.session, p.n_sessions, false);
	CHECK(p.pins.complete);
	CHECK(shm_pool_sweep(&p.w, &p.pins, p.session) >= 3000);
	end();
}

TEST(hostile_pins_and_block_counts_are_only_compared)
{
	begin();
	for (uint32_t s = 0; s < T_POOL_SESSIONS; s++) {
		shm_store32_rlx(&p.client[s]->blocks_used, (uint32_t)t_random());
		struct shm_block *b = (struct shm_block *)(void *)(p.client[s] + 1);
		for (uint32_t i = 0; i < T_POOL_BLOCKS * SHM_BLOCK_PINS; i++)
			shm_store_rlx(&b[i / SHM_BLOCK_PINS].pin[i % SHM_BLOCK_PINS],
				(100ull + s) << 48 | (t_random() & SHM_WORD_OFF_MASK) |
					(t_random() & 15));
	}
	for (uint32_t key = 0; key < 500; key++) {
		CHECK_EQ(t_pool_set(&p, key, 1, 300), 0);
		CHECK_EQ(t_pool_delete(&p, key), 0);
		(void)t_pool_sweep(&p);
	}
	CHECK(p.pins.n > 100);
	t_pool_stop(&p); /* they may hold memory back at an adoption, no more */
	CHECK_EQ(t_pool_start(&p), 0);
	t_pool_check(&p);
	end();
}

/* ------------------------------------------------------------ against a plain model */

enum { MODEL_KEYS = 3000, MODEL_OPS = 100000 };

struct entry {
	uint64_t version;
	uint64_t value_bytes;
};
static struct entry model[MODEL_KEYS];

static void model_evicted(void *arg, uint32_t key, bool done)
{
	(void)arg;
	if (done)
		model[key].version = 0;
}

static void model_compare(uint32_t key) { CHECK_EQ(version_of(key), model[key].version); }

static void model_compare_all(void)
{
	uint64_t n = 0, live = 0;
	uint8_t bytes[T_KEY_BYTES_MAX];

	for (uint32_t key = 0; key < MODEL_KEYS; key++) {
		model_compare(key);
		if (!model[key].version)
			continue;
		n++;
		live += t_key_make(key, bytes) + model[key].value_bytes;
	}
	CHECK_EQ(p.w.n_entries, n);
	CHECK_EQ(p.w.live_bytes, live);
}

static uint64_t random_bytes(void)
{
	uint64_t top = 1ull << (4 + t_random_below(12)); /* 16 bytes to 64 KiB, small ones most */

	return T_VALUE_BYTES_MIN + t_random_below(t_random_below(4) ? 200 : top);
}

static void random_change(uint64_t n)
{
	uint32_t key = (uint32_t)t_random_below(MODEL_KEYS);
	uint64_t what = t_random_below(100), off, bytes;

	if (what < 55) {
		bytes = random_bytes();
		CHECK_EQ(t_pool_set(&p, key, n + 1, bytes), 0);
		model[key] = (struct entry){.version = n + 1, .value_bytes = bytes};
	} else if (what < 75) {
		CHECK_EQ(t_pool_delete(&p, key), model[key].version ? 0 : POOL_MISS);
		model[key].version = 0;
	} else if (what < 85) {
		off = t_pool_find(&p, key);
		int e = off ? shm_pool_move(&p.w, off, &off) : 0;
		CHECK(e == 0 || e == POOL_FULL);
	} else if (what < 90) {
		(void)shm_pool_grow_step(&p.w, (uint32_t)t_random_below(20));
	} else if (what < 92) {
		(void)t_pool_sweep(&p);
	} else if (what < 93) {
		uint32_t cell = (uint32_t)t_random_below(SHM_BLOCK_PINS);
		shm_read_unpin(reader.block, cell);
	}
	model_compare(key);
}

/* Reads that leave their pins behind, in cells 2..31. */
static void pin_some(void)
{
	uint32_t key = (uint32_t)t_random_below(MODEL_KEYS);
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_map m = t_pool_map(&p);
	struct shm_found f;
	struct shm_key k;

	t_pool_key(&p, key, bytes, &k);
	int e = shm_read_find(&reader, &m, &k, 2 + (uint32_t)t_random_below(30), &f);
	CHECK_EQ(e, model[key].version ? 0 : READ_MISS);
}

TEST_LIMIT(random_changes_agree_with_a_plain_model_and_the_accounts_close, 120)
{
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = 1 << 20, .n_regions = 2});
	CHECK_EQ(t_pool_start(&p), 0);
	reader = t_pool_reader(&p, 0, 0);
	p.on_evict = model_evicted;
	for (uint64_t n = 0; n < MODEL_OPS; n++) {
		random_change(n);
		if (n % 50 == 0)
			pin_some();
		if (n % 16 == 0)
			t_pool_check(&p);
		if (n % 4096 == 0)
			model_compare_all();
		if (n % 20000 == 19999) { /* a new engine knows the same */
			t_pool_stop(&p);
			CHECK_EQ(t_pool_start(&p), 0);
			t_pool_check(&p);
			model_compare_all();
		}
	}
	model_compare_all();
	CHECK(p.n_evicted > 100);
	CHECK(p.w.cur.log2_buckets >= 7);
	end();
}

/* unit_apply.c - is what comes from a checkpoint and a log what had been there, and are accounts right? */
#include "../../daemon/eng_apply.h"
#include "room_world.h"

enum { HISTORY_KEYS = 200, HISTORY_LSNS = 4000, VALUE_BYTES = 300, STORES = 2 };

static struct room w;
static struct eng_applied applied;

static void begin(uint64_t bytes)
{
	room_new(&w, bytes, STORES);
	for (uint32_t i = 0; i < STORES; i++)
		w.e->store[i].max_value_bytes = bytes / 4;
	eng_apply_begin(w.e, &applied);
}

static void end(void)
{
	room_check(&w);
	room_free(&w);
}

static uint64_t store_id(uint32_t store) { return w.e->store[store].id; }

static int apply(
	enum eng_apply_kind kind, uint32_t store, uint64_t key, uint64_t lsn, uint64_t value_bytes)
{
	uint8_t bytes[ROOM_KEY_BYTES];
	struct shm_key k = room_key(&w, store, key, bytes);
	struct eng_after a = {.kind = kind,
		.store_id = store_id(store),
		.lsn = lsn,
		.key = kind == ENG_APPLY_CLEAR ? NULL : k.bytes,
		.key_bytes = kind == ENG_APPLY_CLEAR ? 0 : k.n_bytes,
		.value = w.value,
		.value_bytes = value_bytes};

	return eng_apply(w.e, &a, &applied);
}

static uint64_t version_of(uint32_t store, uint64_t key)
{
	uint64_t off = room_find(&w, store, key);

	return off ? shm_pool_item(&w.p->w, off)->version : 0;
}

TEST(what_is_older_changes_nothing)
{
	begin(8 * ROOM_MIB);
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 10, VALUE_BYTES), 0);
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 9, VALUE_BYTES), APPLY_OLDER);
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 10, VALUE_BYTES), APPLY_OLDER);
	CHECK_EQ(apply(ENG_APPLY_DELETE, 0, 1, 10, 0), APPLY_OLDER);
	CHECK_EQ(apply(ENG_APPLY_TOUCH, 0, 1, 9, 0), APPLY_OLDER);
	CHECK_EQ(apply(ENG_APPLY_DELETE, 0, 2, 11, 0), APPLY_OLDER);
	CHECK_EQ(version_of(0, 1), 10);
	CHECK_EQ(applied.older, 5);
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 12, VALUE_BYTES), 0);
	CHECK_EQ(version_of(0, 1), 12);
	CHECK_EQ(apply(ENG_APPLY_DELETE, 0, 1, 13, 0), 0);
	CHECK_EQ(version_of(0, 1), 0);
	eng_apply_end(w.e, &applied);
	CHECK_EQ(shm_load_rlx(&w.e->ctl->lsn), 13);
	end();
}

TEST(store_that_is_gone_is_left_out)
{
	struct eng_after a = {
		.kind = ENG_APPLY_SET, .store_id = 4711, .lsn = 5, .key = "k", .key_bytes = 1};

	begin(8 * ROOM_MIB);
	CHECK_EQ(eng_apply(w.e, &a, &applied), APPLY_NO_STORE);
	CHECK_EQ(applied.no_store, 1);
	CHECK_EQ(applied.max_lsn, 5); /* LSNs go on above it all the same */
	end();
}

TEST(entry_is_as_it_was)
{
	const uint64_t now_ns = eng_wall_ns(), hour_ns = 3600000000000ull;
	struct eng_after a = {.kind = ENG_APPLY_SET,
		.lsn = 77,
		.key = "key of\0bytes",
		.key_bytes = 12,
		.value = "value",
		.value_bytes = 5,
		.flags = 3,
		.ttl_ms = 7200000,
		.hits = 17,
		.marks = SHM_LENS_FRESH,
		.created_ns = now_ns - 3 * hour_ns,
		.modified_ns = now_ns - 2 * hour_ns,
		.expires_ns = now_ns + hour_ns,
		.fresh_until_ns = now_ns + hour_ns / 2,
		.took_ms = 9};
	struct shm_key k = {.bytes = a.key, .n_bytes = 12};

	begin(8 * ROOM_MIB);
	a.used_ns = applied.wall_ns - 1000000;
	a.store_id = k.store_id = store_id(1);
	k.hash = shm_key_hash(a.key, 12, w.e->ctl->hash_seed, k.store_id);
	CHECK_EQ(eng_apply(w.e, &a, &applied), 0);
	const struct shm_item *it = shm_pool_item(&w.p->w, shm_pool_find(&w.p->w, &k));
	CHECK(shm_pool_item_is_whole(it));
	CHECK_EQ(it->version, 77);
	CHECK_EQ(it->created_ns, a.created_ns);
	CHECK_EQ(it->modified_ns, a.modified_ns);
	CHECK_EQ(it->flags, 3);
	CHECK_EQ(it->ttl_ms, 7200000);
	CHECK_EQ(it->lens & SHM_LENS_MARKS, SHM_LENS_FRESH);
	CHECK_EQ(shm_fresh_took_ms(it->stamp), 9);
	uint64_t left_ns = shm_load_rlx(&it->expiry_ns) - applied.now_ns;
	CHECK_EQ(left_ns, a.expires_ns - applied.wall_ns);
	CHECK_EQ(shm_fresh_until_ms(it->stamp),
		(applied.now_ns + a.fresh_until_ns - applied.wall_ns) / 1000000);
	uint64_t access = shm_load_rlx(&it->access);
	CHECK_EQ(access & ((1u << SHM_ACCESS_MS_SHIFT) - 1), 17);
	CHECK_EQ(access >> SHM_ACCESS_MS_SHIFT, (applied.now_ns - 1000000) / 1000000);
	CHECK_EQ(memcmp((const uint8_t *)it + shm_item_value_off(12), "value", 5), 0);
	end();
}

TEST(what_is_over_takes_the_older_one_with_it)
{
	uint8_t bytes[ROOM_KEY_BYTES];
	struct eng_after a = {
		.kind = ENG_APPLY_SET, .lsn = 20, .key = bytes, .key_bytes = sizeof bytes};

	begin(8 * ROOM_MIB);
	(void)room_key(&w, 0, 1, bytes);
	a.store_id = store_id(0);
	a.expires_ns = applied.wall_ns - 1;
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 10, VALUE_BYTES), 0);
	CHECK_EQ(eng_apply(w.e, &a, &applied), APPLY_EXPIRED);
	CHECK_EQ(version_of(0, 1), 0);
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 30, VALUE_BYTES), 0);
	CHECK_EQ(eng_apply(w.e, &a, &applied), APPLY_EXPIRED); /* older: what is newer stays */
	CHECK_EQ(version_of(0, 1), 30);
	a.kind = ENG_APPLY_TOUCH;
	a.lsn = 31;
	CHECK_EQ(eng_apply(w.e, &a, &applied), APPLY_EXPIRED);
	CHECK_EQ(version_of(0, 1), 0);
	end();
}

TEST(pool_that_is_too_small_evicts_and_adds_up)
{
	begin(4 * ROOM_MIB);
	for (uint64_t i = 1; i <= 20000; i++)
		(void)apply(ENG_APPLY_SET, 0, i, i, VALUE_BYTES);
	CHECK(applied.set > 19000);
	CHECK(w.p->w.n_entries < 15000);
	CHECK(w.p->w.n_entries > 5000);
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 30000, 3 * ROOM_MIB), APPLY_NO_ROOM);
	CHECK_EQ(version_of(0, 1), 0);
	eng_apply_end(w.e, &applied);
	end();
}

/* The index is made for them at once: it does not grow any more on the way. */
TEST(index_of_what_is_expected_does_not_grow_again)
{
	const shm_u64 *grows;

	begin(16 * ROOM_MIB);
	grows = &w.p->w.entry->counter[SHM_PC_index_grows];
	shm_pool_expect(&w.p->w, 20000);
	room_check(&w);
	uint64_t before = shm_load_rlx(grows);
	CHECK(before >= 5);
	for (uint64_t i = 1; i <= 20000; i++)
		CHECK_EQ(apply(ENG_APPLY_SET, 0, i, i, 64), 0);
	CHECK_EQ(shm_load_rlx(grows), before);
	shm_pool_expect(&w.p->w, UINT64_MAX); /* as far as there is room */
	CHECK_EQ(apply(ENG_APPLY_SET, 0, 1, 30000, 64), 0);
	end();
}

/* ------------------------------------------------------------ a history */

struct state {
	uint64_t version, expires_ns;
};

static struct record {
	enum eng_apply_kind kind;
	uint32_t store;
	uint64_t key, expires_ns;
} history[HISTORY_LSNS + 1];

static void history_make(uint64_t wall_ns)
{
	for (uint64_t lsn = 1; lsn <= HISTORY_LSNS; lsn++) {
		uint64_t dice = t_random() % 1000;
		history[lsn] = (struct record){.kind = dice < 600   ? ENG_APPLY_SET
		                                       : dice < 800 ? ENG_APPLY_DELETE
		                                       : dice < 995 ? ENG_APPLY_TOUCH
		                                                    : ENG_APPLY_CLEAR,
			.store = (uint32_t)(t_random() % STORES),
			.key = t_random() % HISTORY_KEYS,
			.expires_ns = t_random() % 2 ? 0 : wall_ns + (1 + lsn) * 1000000000000};
	}
}

/* What is there of a key after so many of them. */
static struct state state_at(uint32_t store, uint64_t key, uint64_t lsn)
{
	struct state s = {0};

	for (uint64_t i = 1; i <= lsn; i++) {
		const struct record *r = &history[i];
		if (r->store != store || (r->kind != ENG_APPLY_CLEAR && r->key != key))
			continue;
		if (r->kind == ENG_APPLY_SET)
			s = (struct state){.version = i, .expires_ns = r->expires_ns};
		else if (r->kind != ENG_APPLY_TOUCH)
			s.version = 0;
		else
			s.expires_ns = r->expires_ns;
	}
	return s;
}

static void apply_at(uint32_t store, uint64_t key, uint64_t lsn, const struct record *r)
{
	uint8_t bytes[ROOM_KEY_BYTES];
	struct shm_key k = room_key(&w, store, key, bytes);
	struct eng_after a = {.kind = r->kind,
		.store_id = k.store_id,
		.lsn = lsn,
		.key = bytes,
		.key_bytes = sizeof bytes,
		.value = w.value,
		.value_bytes = 1 + lsn % VALUE_BYTES,
		.expires_ns = r->expires_ns};

	CHECK(eng_apply(w.e, &a, &applied) >= 0);
}

/* Each key as it was at some moment between `begin` and the end: what a scan gives. */
static void load_fuzzy(uint64_t begin)
{
	for (uint32_t store = 0; store < STORES; store++)
		for (uint64_t key = 0; key < HISTORY_KEYS; key++) {
			uint64_t at = begin + t_random() % (HISTORY_LSNS - begin + 1);
			struct state s = state_at(store, key, at);
			if (s.version)
				apply_at(store, key, s.version,
					&(struct record){
						.kind = ENG_APPLY_SET, .expires_ns = s.expires_ns});
		}
}

static void replay(uint64_t begin)
{
	for (uint64_t lsn = begin + 1; lsn <= HISTORY_LSNS; lsn++)
		apply_at(history[lsn].store, history[lsn].key, lsn, &history[lsn]);
}

static void compare(void)
{
	for (uint32_t store = 0; store < STORES; store++)
		for (uint64_t key = 0; key < HISTORY_KEYS; key++) {
			struct state s = state_at(store, key, HISTORY_LSNS);
			CHECK_EQ(version_of(store, key), s.version);
			if (!s.version)
				continue;
			const struct shm_item *it = shm_pool_item(
				&w.p->w, room_find(&w, store, key));
			CHECK_EQ(shm_load_rlx(&it->expiry_ns) != 0, s.expires_ns != 0);
			CHECK_EQ(shm_lens_value(it->lens), 1 + s.version % VALUE_BYTES);
		}
}

TEST(fuzzy_checkpoint_and_log_are_the_end_of_the_history)
{
	for (int round = 0; round < 4; round++) {
		uint64_t from = t_random() % HISTORY_LSNS;
		begin(8 * ROOM_MIB);
		history_make(applied.wall_ns);
		load_fuzzy(from);
		replay(from);
		eng_apply_end(w.e, &applied);
		compare();
		CHECK_EQ(shm_load_rlx(&w.e->ctl->lsn), HISTORY_LSNS);
		eng_apply_begin(w.e, &applied); /* once more, over what is there */
		load_fuzzy(from);
		replay(from);
		eng_apply_end(w.e, &applied);
		compare();
		end();
	}
}

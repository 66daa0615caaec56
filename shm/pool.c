/* pool.c - every change of an entry; see pool.h. */
#include "pool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "atomic.h"
#include "base/check.h"
#include "crc.h"
#include "index_write.h"
#include "step.h"

enum { CHAINS_PER_CHANGE = 4 }; /* growth that rides on each change: done before the next is due */

#define NS_PER_MS 1000000ull
#define ACCESS_SHIFT 20

/* ------------------------------------------------------------ small parts */

void shm_pool_change(struct shm_wpool *w) { shm_count(&w->entry->counter[SHM_PC_changes], 1); }

static uint64_t next_lsn(struct shm_wpool *w)
{
	uint64_t lsn = shm_load_rlx(&w->ctl->lsn) + 1;

	shm_store_rlx(&w->ctl->lsn, lsn);
	return lsn;
}

static uint64_t kv_bytes(const struct shm_item *it)
{
	return shm_lens_key(it->lens) + shm_lens_value(it->lens);
}

static void count_in(struct shm_wpool *w, uint64_t off)
{
	uint64_t kv = kv_bytes(shm_pool_item(w, off));

	w->n_entries++;
	w->live_bytes += kv;
	w->waste_bytes += shm_alloc_place_bytes(w->alloc, off) - kv;
}

/* Unlinked: out of the accounts, into limbo. */
static void retire(struct shm_wpool *w, uint64_t off, struct shm_changed *ret)
{
	const struct shm_item *it = shm_pool_item(w, off);
	uint64_t place = shm_alloc_place_bytes(w->alloc, off), kv = kv_bytes(it);

	CHECK(w->n_entries > 0 && w->live_bytes >= kv);
	w->n_entries--;
	w->live_bytes -= kv;
	w->waste_bytes -= place - kv;
	ret->old_off = off;
	ret->old_kv_bytes = kv;
	ret->old_store_id = it->store_id;
	shm_limbo_add(w, off, place);
	STEP("engine:retired");
}

/* ------------------------------------------------------------ set */

/* Writes the whole item at off.  Nobody sees it yet. */
static void fill(struct shm_wpool *w, uint64_t off, const struct shm_set *set, uint64_t lsn,
	uint64_t created_ns)
{
	struct shm_item *it = shm_pool_item(w, off);
	uint64_t key_bytes = set->key.n_bytes;

	it->created_ns = created_ns;
	it->modified_ns = set->now_wall_ns;
	shm_store_rlx(&it->access, set->now_ms << ACCESS_SHIFT);
	it->ttl_ms = set->ttl_ms;
	it->stamp = set->stamp;
	it->version = lsn;
	it->hash = set->key.hash;
	it->store_id = set->key.store_id;
	it->epoch = set->key.epoch;
	it->flags = set->flags;
	it->lens = shm_lens_make(key_bytes, set->value_bytes);
	shm_store_rlx(&it->expiry_ns, set->expiry_ns);
	memcpy(it + 1, set->key.bytes, key_bytes);
	if (set->value_bytes)
		memcpy((uint8_t *)it + shm_item_value_off(key_bytes), set->value, set->value_bytes);
	it->crc = shm_item_crc(it, key_bytes, set->value_bytes);
}

/* Does the entry that is there count as the same entry, going on? */
static bool goes_on(const struct shm_item *old, const struct shm_set *set)
{
	uint64_t expiry = shm_load_rlx(&old->expiry_ns);

	return old->epoch == set->key.epoch && (!expiry || expiry > set->now_ms * NS_PER_MS);
}

int shm_pool_set(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_set *set, struct shm_changed *ret)
{
	struct shm_ref ref;
	uint64_t off, place, created_ns = set->now_wall_ns;
	bool replaces = false;

	*ret = (struct shm_changed){0};
	if (shm_limbo_reserve(w, 2) != 0)
		return POOL_FULL;
	shm_pool_change(w);
	(void)shm_index_grow(w, CHAINS_PER_CHANGE, false);
	int e = shm_index_seek(w, &set->key, &ref);
	if (e == INDEX_FULL)
		ret->old_off = shm_word_off(ref.word);
	else if (shm_alloc_take(w->alloc, shm_item_bytes(set->key.n_bytes, set->value_bytes), &off,
			 &place) != 0)
		e = -1;
	if (e == INDEX_FULL || e < 0) {
		shm_pool_change(w);
		return e < 0 ? POOL_FULL : POOL_CHAIN_FULL;
	}
	if (ref.word) {
		const struct shm_item *old = shm_pool_item(w, shm_word_off(ref.word));
		replaces = goes_on(old, set);
		created_ns = replaces ? old->created_ns : created_ns;
	}
	uint64_t word = shm_word_make(shm_hash_tag(set->key.hash), off, 0);
	ret->lsn = next_lsn(w);
	ret->off = off;
	ret->place_bytes = place;
	if (!MUTANT(13)) /* 13: the slot names an item that is not yet written */
		fill(w, off, set, ret->lsn, created_ns);
	STEP("set:filled");
	shm_journal_intend(j, req, w->pool_idx, ret->lsn, ref.slot_off, ref.word, word, replaces);
	STEP("set:intended");
	shm_store_rel(ref.slot, word); /* rel:index.slot */
	STEP("set:published");
	if (MUTANT(13))
		fill(w, off, set, ret->lsn, created_ns);
	count_in(w, off);
	if (ref.word)
		retire(w, shm_word_off(ref.word), ret);
	shm_journal_finish(j, req, ret->lsn, 0, replaces);
	shm_pool_change(w);
	return 0;
}

/* ------------------------------------------------------------ removal */

static void unlink_slot(struct shm_wpool *w, const struct shm_ref *ref, struct shm_changed *ret)
{
	shm_store_rel(ref->slot, 0); /* rel:index.slot */
	STEP("delete:published");
	retire(w, shm_word_off(ref->word), ret);
}

int shm_pool_delete(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_key *key, uint64_t now_ns, struct shm_changed *ret)
{
	struct shm_ref ref;

	*ret = (struct shm_changed){0};
	if (shm_limbo_reserve(w, 2) != 0)
		return -ENOMEM;
	shm_pool_change(w);
	(void)shm_index_grow(w, CHAINS_PER_CHANGE, false);
	int e = shm_index_seek(w, key, &ref);
	bool live = false;
	if (e == 0) {
		const struct shm_item *it = shm_pool_item(w, shm_word_off(ref.word));
		uint64_t expiry = shm_load_rlx(&it->expiry_ns);
		live = it->epoch == key->epoch && (!expiry || expiry > now_ns);
		ret->lsn = live ? next_lsn(w) : 0;
		if (live) {
			shm_journal_intend(
				j, req, w->pool_idx, ret->lsn, ref.slot_off, ref.word, 0, 0);
			STEP("delete:intended");
		}
		unlink_slot(w, &ref, ret);
	}
	if (live)
		shm_journal_finish(j, req, ret->lsn, 0, 0);
	shm_pool_change(w);
	return live ? 0 : POOL_MISS;
}

int shm_pool_unlink(struct shm_wpool *w, uint64_t off, struct shm_changed *ret)
{
	struct shm_ref ref;
	int e = POOL_MISS;

	*ret = (struct shm_changed){0};
	if (shm_limbo_reserve(w, 2) != 0)
		return POOL_MISS;
	shm_pool_change(w);
	if (shm_index_seek_off(w, shm_pool_item(w, off)->hash, off, &ref) == 0) {
		unlink_slot(w, &ref, ret);
		e = 0;
	}
	shm_pool_change(w);
	return e;
}

int shm_pool_move(struct shm_wpool *w, uint64_t off, uint64_t *ret_off)
{
	const struct shm_item *it = shm_pool_item(w, off);
	uint64_t bytes = shm_item_bytes(shm_lens_key(it->lens), shm_lens_value(it->lens));
	struct shm_changed gone;
	struct shm_ref ref;
	uint64_t to, place;

	if (shm_limbo_reserve(w, 2) != 0)
		return POOL_FULL;
	shm_pool_change(w);
	int e = shm_index_seek_off(w, it->hash, off, &ref) == 0 ? 0 : POOL_MISS;
	if (e == 0 && shm_alloc_take(w->alloc, bytes, &to, &place) != 0)
		e = POOL_FULL;
	if (e == 0) {
		memcpy(w->base + to, it, bytes);
		*shm_alloc_note(w->alloc, to) = *shm_alloc_note(w->alloc, off);
		*shm_alloc_note(w->alloc, off) = 0;
		STEP("move:copied");
		/* rel:index.slot */
		shm_store_rel(ref.slot, shm_word_make(shm_hash_tag(it->hash), to, 0));
		STEP("move:published");
		count_in(w, to);
		retire(w, off, &gone);
		*ret_off = to;
	}
	shm_pool_change(w);
	return e;
}

bool shm_pool_grow_step(struct shm_wpool *w, uint32_t chains)
{
	shm_pool_change(w);
	w->grow_failed = 0; /* whoever asks for it may have made room */
	bool more = shm_index_grow(w, chains, true);
	shm_pool_change(w);
	return more;
}

/* ------------------------------------------------------------ accounts */

static void gauge(struct shm_wpool *w, enum shm_pool_counter c, uint64_t v)
{
	shm_store_rlx(&w->entry->counter[c], v);
}

void shm_pool_account(struct shm_wpool *w)
{
	struct shm_alloc_stats s;
	uint64_t index = shm_alloc_place_bytes(w->alloc, w->cur.off);

	if (w->next.t)
		index += shm_alloc_place_bytes(w->alloc, w->next.off);
	shm_alloc_stats(w->alloc, &s);
	gauge(w, SHM_PC_limit_bytes, s.total_bytes);
	gauge(w, SHM_PC_live_bytes, w->live_bytes);
	gauge(w, SHM_PC_overhead_bytes, s.meta_bytes + s.tail_bytes + w->waste_bytes + index);
	gauge(w, SHM_PC_free_bytes, s.free_page_bytes + s.free_place_bytes);
	gauge(w, SHM_PC_limbo_bytes, w->limbo.bytes);
	gauge(w, SHM_PC_unusable_bytes, w->unusable_bytes);
	gauge(w, SHM_PC_entries, w->n_entries);
	gauge(w, SHM_PC_index_bytes, index);
	gauge(w, SHM_PC_limbo_entries, w->limbo.n);
	/* rel:pool.accounts: the gauges belong to this number of changes. */
	shm_store_rel(&w->entry->counter[SHM_PC_accounted],
		shm_load_rlx(&w->entry->counter[SHM_PC_changes]));
}

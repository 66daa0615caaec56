/* pool_apply.c - entries that come from disk go into a pool before anybody looks.
 *
 * A checkpoint is fuzzy: it has each entry at whatever version it had when it was met, and the log behind it
 * has all that happened meanwhile.  So what is applied asks one question, whether what is there is older; then neither the order
 * nor doing it twice changes the end.  An entry whose time is over still answers it.
 */
#include "base/check.h"
#include "pool_i.h"
#include "step.h"

enum { EXPECT_CHAINS = 4096 };

static int apply_in_change(
	struct shm_wpool *w, const struct shm_after *after, struct shm_changed *ret)
{
	const struct shm_set *set = &after->set;
	const struct pieces value = {.head = set->value, .head_bytes = set->value_bytes};
	const struct pool_stamps stamps = {.created_ns = after->created_ns,
		.access = after->access,
		.version = after->version};
	struct shm_ref ref;
	uint64_t off;

	if (shm_limbo_reserve(w, 2) != 0)
		return POOL_FULL;
	(void)shm_index_grow(w, POOL_CHAINS_PER_CHANGE, false);
	if (shm_index_seek(w, &set->key, &ref) == INDEX_FULL) {
		ret->old_off = shm_word_off(ref.word);
		return POOL_CHAIN_FULL;
	}
	if (ref.word) {
		const struct shm_item *old = shm_pool_item(w, shm_word_off(ref.word));
		ret->lsn = old->version;
		if (old->epoch == set->key.epoch && old->version >= after->version &&
			!MUTANT(720)) /* 720: what comes later in the file wins */
			return POOL_OLDER;
	}
	uint64_t bytes = shm_item_bytes(set->key.n_bytes, set->value_bytes);
	if (shm_alloc_take(w->alloc, bytes, &off, &ret->place_bytes) != 0) {
		ret->place_bytes = bytes;
		return POOL_FULL;
	}
	pool_fill(w, off, set, &value, &stamps);
	ret->lsn = after->version;
	ret->off = off;
	STEP("apply:filled");
	/* rel:index.slot */
	shm_store_rel(ref.slot, shm_word_make(shm_hash_tag(set->key.hash), off, 0));
	STEP("apply:published");
	pool_count_in(w, off, ret->place_bytes);
	if (ref.word)
		pool_retire(w, shm_word_off(ref.word), ret);
	return 0;
}

int shm_pool_apply(struct shm_wpool *w, const struct shm_after *after, struct shm_changed *ret)
{
	*ret = (struct shm_changed){0};
	shm_pool_change(w);
	int e = apply_in_change(w, after, ret);
	shm_pool_change(w);
	return e;
}

void shm_pool_apply_expiry(struct shm_wpool *w, uint64_t off, uint64_t expiry_ns)
{
	shm_pool_change(w);
	shm_store_rlx(&shm_pool_item(w, off)->expiry_ns, expiry_ns);
	shm_pool_change(w);
}

void shm_pool_expect(struct shm_wpool *w, uint64_t n_entries)
{
	w->n_expected = n_entries;
	for (uint32_t i = INDEX_LOG2_MIN; i <= SHM_LOG2_BUCKETS_MAX; i++) {
		uint32_t was = w->cur.log2_buckets;
		while (shm_pool_grow_step(w, EXPECT_CHAINS))
			;
		if (w->cur.log2_buckets == was)
			break; /* large enough, or there is no room */
	}
	w->n_expected = 0;
}

void shm_pool_ask(const struct shm_wpool *w, uint64_t hash) { shm_index_ask(w, hash); }

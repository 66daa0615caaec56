/* pool_void.c - a store is cleared in one store, and what it left behind is found.
 *
 * What makes the entries void is the epoch (rule P10): they stay in their slots, and no look-up finds
 * them.  The engine unlinks them afterwards, a bounded number at a time; a new engine drops
 * those that are left when it takes the pool over (pool_open.c).
 */
#include <stddef.h>
#include "pool_i.h"
#include "step.h"

void shm_pool_clear(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	uint32_t store_idx, uint64_t answer, struct shm_changed *ret)
{
	shm_u64 *epoch = &w->ctl->store[store_idx].epoch;
	uint64_t old = shm_load_rlx(epoch);
	uint64_t off = (uint64_t)((const uint8_t *)epoch - (const uint8_t *)w->ctl);

	*ret = (struct shm_changed){.lsn = pool_next_lsn(w), .answer = answer};
	if (req->log)
		pool_log_put(&(struct shm_wlog_record){.what = SHM_WLOG_CLEAR,
				     .lsn = ret->lsn,
				     .req = req,
				     .store_id = shm_load_rlx(&w->ctl->store[store_idx].id)},
			ret);
	shm_feed_foretell(&w->feed, j, SHM_FEED_CLEAR, SHM_FEED_NONE);
	if (!MUTANT(100)) /* 100: a clear has no intent */
		shm_journal_intend(j, req, SHM_INTENT_CONTROL, ret->lsn, off, old, old + 1, answer);
	STEP("clear:intended");
	/* Whoever is told of the clear loads it afterwards; whoever is not may load it a moment later. */
	shm_store_rlx(epoch, old + 1);
	STEP("clear:published");
	pool_log_commit(req, ret);
	shm_feed_tell_store(
		&w->feed, SHM_FEED_CLEAR, ret->lsn, shm_load_rlx(&w->ctl->store[store_idx].id));
	shm_journal_finish(j, req, ret->lsn, 0, answer);
}

struct voids {
	struct shm_wpool *w;
	uint64_t store_id, version; /* store_id not 0: entries of it below that */
	uint64_t *off;
	uint32_t n, max;
	bool more; /* than fit */
};

static void add_void(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct voids *v = arg;

	(void)slot;
	(void)chain;
	(void)log2;
	const struct shm_item *it = shm_pool_item(v->w, shm_word_off(word));
	if (v->store_id ? it->store_id != v->store_id || it->version >= v->version
			: pool_is_current(v->w->ctl, it))
		return;
	if (v->n == v->max)
		v->more = true;
	else
		v->off[v->n++] = shm_word_off(word);
}

/* Asks for the words that tell, so that the waits overlap. */
static void ask_ahead(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	const struct shm_wpool *w = arg;

	(void)slot;
	(void)chain;
	(void)log2;
	__builtin_prefetch(&shm_pool_item(w, shm_word_off(word))->store_id);
}

static uint32_t find(struct voids *v, uint64_t *cursor, uint32_t chains)
{
	(void)shm_index_walk_from(v->w, *cursor, chains, ask_ahead, v->w);
	uint64_t next = shm_index_walk_from(v->w, *cursor, chains, add_void, v);

	if (!v->more)
		*cursor = next;
	return v->n;
}

uint32_t shm_pool_find_void(
	struct shm_wpool *w, uint64_t *cursor, uint32_t chains, uint64_t *off, uint32_t max)
{
	struct voids v = {.w = w, .off = off, .max = max};

	return find(&v, cursor, chains);
}

uint32_t shm_pool_find_below(struct shm_wpool *w, uint64_t *cursor, uint32_t chains,
	uint64_t store_id, uint64_t version, uint64_t *off, uint32_t max)
{
	struct voids v = {.w = w, .off = off, .max = max, .store_id = store_id, .version = version};

	return find(&v, cursor, chains);
}

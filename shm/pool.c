/* pool.c - removal, moves and accounts; pool_set.c has what makes entries.  See pool.h. */
#include "pool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "atomic.h"
#include "base/check.h"
#include "pool_i.h"
#include "step.h"

/* ------------------------------------------------------------ small parts */

void shm_pool_change(struct shm_wpool *w) { shm_count(&w->entry->counter[SHM_PC_changes], 1); }

uint64_t pool_next_lsn(struct shm_wpool *w)
{
	uint64_t lsn = shm_load_rlx(&w->ctl->lsn) + 1;

	/* rel:control.lsn: whoever sees it sees what was published before it. */
	shm_store_rel(&w->ctl->lsn, lsn);
	return lsn;
}

static uint64_t kv_bytes(const struct shm_item *it)
{
	return shm_lens_key(it->lens) + shm_lens_value(it->lens);
}

void pool_count_in(struct shm_wpool *w, uint64_t off, uint64_t place_bytes)
{
	uint64_t kv = kv_bytes(shm_pool_item(w, off));

	w->n_entries++;
	w->live_bytes += kv;
	w->waste_bytes += place_bytes - kv;
}

/* Unlinked: out of the accounts, into limbo. */
void pool_retire(struct shm_wpool *w, uint64_t off, struct shm_changed *ret)
{
	const struct shm_item *it = shm_pool_item(w, off);
	uint64_t place = shm_alloc_place_bytes(w->alloc, off), kv = kv_bytes(it);

	CHECK(w->n_entries > 0 && w->live_bytes >= kv);
	w->n_entries--;
	w->live_bytes -= kv;
	w->waste_bytes -= place - kv;
	ret->old_off = off;
	ret->old_kv_bytes = kv;
	ret->old_place_bytes = place;
	ret->old_store_id = it->store_id;
	shm_limbo_add(w, off, place);
	STEP("engine:retired");
}

/* ------------------------------------------------------------ removal */

static void unlink_slot(struct shm_wpool *w, const struct shm_ref *ref, struct shm_changed *ret)
{
	uint64_t off = shm_word_off(ref->word);

	shm_index_clear(w, ref, shm_pool_item(w, off)->hash);
	pool_retire(w, off, ret);
}

/* The engine removes something by itself.  Intended only where the feed has to say so. */
static void unlink_own(struct shm_wpool *w, const struct shm_ref *ref, enum shm_feed_what what,
	enum shm_feed_why why, struct shm_changed *ret)
{
	const struct shm_req engine = {.session = SHM_REQ_ENGINE};
	const struct shm_item *it = shm_pool_item(w, shm_word_off(ref->word));
	uint64_t lsn = shm_load_rlx(&w->ctl->lsn);

	if (!w->feed.f || !w->feed.journal || what == 0) {
		unlink_slot(w, ref, ret);
		if (what)
			shm_feed_tell(&w->feed, what, why, lsn, it);
		return;
	}
	shm_feed_foretell(&w->feed, w->feed.journal, what, why);
	shm_journal_intend(
		w->feed.journal, &engine, w->pool_idx, lsn, ref->slot_off, ref->word, 0, 0);
	STEP("unlink:intended");
	unlink_slot(w, ref, ret);
	shm_feed_tell(&w->feed, what, why, lsn, it);
	shm_journal_finish(w->feed.journal, &engine, lsn, 0, 0);
}

/* What goes when a delete meets something that is no entry any more. */
static enum shm_feed_what gone_by(const struct shm_item *it, const struct shm_key *key)
{
	if (it->epoch != key->epoch)
		return 0; /* void: the feed has said so */
	return pool_is_absent(it) ? SHM_FEED_DELETE : SHM_FEED_EXPIRE;
}

static void log_delete(
	const struct shm_req *req, const struct shm_key *key, uint64_t lsn, struct shm_changed *ret)
{
	pool_log_put(&(struct shm_wlog_record){.what = SHM_WLOG_DELETE,
			     .lsn = lsn,
			     .req = req,
			     .store_id = key->store_id,
			     .key = key->bytes,
			     .key_bytes = key->n_bytes},
		ret);
}

/* A live entry of this version goes by request; what is none any more just goes. */
static int delete_found(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_key *key, const struct shm_ref *ref, bool live, struct shm_changed *ret)
{
	const struct shm_item *it = shm_pool_item(w, shm_word_off(ref->word));

	if (!live) {
		unlink_own(w, ref, gone_by(it, key), SHM_FEED_NONE, ret);
		return POOL_MISS;
	}
	ret->lsn = pool_next_lsn(w);
	if (req->log)
		log_delete(req, key, ret->lsn, ret);
	shm_feed_foretell(&w->feed, j, SHM_FEED_DELETE, SHM_FEED_NONE);
	shm_journal_intend(j, req, w->pool_idx, ret->lsn, ref->slot_off, ref->word, 0, 0);
	STEP("delete:intended");
	unlink_slot(w, ref, ret);
	pool_log_commit(req, ret);
	shm_feed_tell(&w->feed, SHM_FEED_DELETE, SHM_FEED_NONE, ret->lsn, it);
	shm_journal_finish(j, req, ret->lsn, 0, 0);
	return 0;
}

int shm_pool_delete_if(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_key *key, uint64_t version, uint64_t now_ns, struct shm_changed *ret)
{
	struct shm_ref ref;
	int e = POOL_MISS;

	*ret = (struct shm_changed){0};
	if (shm_limbo_reserve(w, 2) != 0)
		return -ENOMEM;
	shm_pool_change(w);
	(void)shm_index_grow(w, POOL_CHAINS_PER_CHANGE, false);
	if (shm_index_seek(w, key, &ref) == 0) {
		const struct shm_item *it = shm_pool_item(w, shm_word_off(ref.word));
		bool live = pool_is_live(it, key->epoch, now_ns) && !pool_is_absent(it);
		if (live && version && it->version != version) {
			ret->lsn = it->version;
			e = POOL_CONFLICT;
		} else {
			e = delete_found(w, j, req, key, &ref, live, ret);
		}
	}
	if (e == POOL_MISS && req->log && !MUTANT(740)) { /* 740: absent is absent */
		log_delete(req, key, pool_next_lsn(w), ret);
		pool_log_commit(req, ret);
	}
	shm_pool_change(w);
	return e;
}

uint64_t shm_pool_find(struct shm_wpool *w, const struct shm_key *key)
{
	struct shm_ref ref;

	if (shm_limbo_reserve(w, 2) != 0)
		return 0;
	shm_pool_change(w); /* a chain may move on the way */
	uint64_t off = shm_index_seek(w, key, &ref) == 0 ? shm_word_off(ref.word) : 0;
	shm_pool_change(w);
	return off;
}

uint64_t shm_pool_version(struct shm_wpool *w, const struct shm_key *key, uint64_t now_ns)
{
	uint64_t off = shm_pool_find(w, key);

	if (off == 0 || !pool_is_live(shm_pool_item(w, off), key->epoch, now_ns))
		return 0;
	return shm_pool_item(w, off)->version;
}

int shm_pool_unlink_as(struct shm_wpool *w, uint64_t off, enum shm_feed_what what,
	enum shm_feed_why why, struct shm_changed *ret)
{
	struct shm_ref ref;
	int e = POOL_MISS;

	*ret = (struct shm_changed){0};
	if (shm_limbo_reserve(w, 2) != 0)
		return POOL_MISS;
	shm_pool_change(w);
	if (shm_index_seek_off(w, shm_pool_item(w, off)->hash, off, &ref) == 0) {
		unlink_own(w, &ref, what, why, ret);
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
		pool_count_in(w, to, place);
		pool_retire(w, off, &gone);
		w->waste_bytes += MUTANT(151); /* 151: a byte too much for each move */
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

	shm_alloc_stats(w->alloc, &s);
	gauge(w, SHM_PC_limit_bytes, s.total_bytes);
	gauge(w, SHM_PC_hole_bytes, s.hole_bytes);
	gauge(w, SHM_PC_live_bytes, w->live_bytes);
	gauge(w, SHM_PC_overhead_bytes,
		s.meta_bytes + s.tail_bytes + w->waste_bytes + w->index_bytes + w->feed_bytes);
	gauge(w, SHM_PC_free_bytes, s.free_page_bytes + s.free_place_bytes);
	gauge(w, SHM_PC_limbo_bytes, w->limbo.bytes);
	gauge(w, SHM_PC_unusable_bytes, w->unusable_bytes);
	gauge(w, SHM_PC_entries, w->n_entries);
	gauge(w, SHM_PC_index_bytes, w->index_bytes);
	gauge(w, SHM_PC_limbo_entries, w->limbo.n);
	gauge(w, SHM_PC_feed_bytes, w->feed_bytes);
	gauge(w, SHM_PC_feed_entries, w->feed.f ? w->feed.next_sequence - 1 : 0);
	/* rel:pool.accounts: the gauges belong to this number of changes. */
	shm_store_rel(&w->entry->counter[SHM_PC_accounted],
		shm_load_rlx(&w->entry->counter[SHM_PC_changes]));
}

/* op_set.c - SET: hc_set -> op_set -> shm_pool_set.
 *
 *   known answer?  -> the journal's (it was applied before)
 *   room?          -> eng_room_make, a bounded number of times
 *   publish        -> shm_pool_set: intent, slot, result
 *   bookkeeping    -> policy and counters of the store
 */
#include "hypercache.h"
#include "op.h"
#include "step.h"

#define OP_TTL_MAX_MS (10ull * 365 * 24 * 3600 * 1000) /* as hypercache.h says */

/* 0; 1: out of range. */
static int set_expiry(
	struct shm_set *set, const struct eng_store *store, uint64_t ttl_ms, uint64_t now_ns)
{
	uint64_t ttl_ns = 0;

	if (ttl_ms == 0) {
		ttl_ns = shm_load_rlx(&store->entry->default_ttl_ns);
		ttl_ms = (ttl_ns + 999999) / 1000000;
	} else if (ttl_ms == HC_TTL_NEVER) {
		ttl_ms = 0;
	} else if (ttl_ms > OP_TTL_MAX_MS) {
		return 1;
	} else {
		ttl_ns = ttl_ms * 1000000;
	}
	set->ttl_ms = ttl_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ttl_ms;
	set->expiry_ns = ttl_ns ? now_ns + ttl_ns : 0;
	return 0;
}

/* Publishes, making room as long as that may help.  0, or a status of hypercache.h. */
static int32_t set_publish(struct eng_pool *p, struct eng_store *store, const struct shm_req *req,
	const struct shm_set *set, struct shm_changed *ret)
{
	uint64_t bytes = shm_item_bytes(set->key.n_bytes, set->value_bytes);

	for (uint32_t i = 0; i < ENG_ROOM_TRIES; i++) {
		int r = shm_pool_set(&p->w, p->e->journal, req, set, ret);
		if (r == 0)
			return 0;
		if (r == POOL_CHAIN_FULL)
			(void)eng_room_unlink(p, ret->old_off);
		else
			(void)eng_room_make(p, store, bytes, i);
	}
	return HC_E_FULL;
}

static int32_t set_check(const struct eng_pool *p, const struct wire_request *r)
{
	if (r->value_bytes > p->max_value_bytes)
		return HC_E_TOO_LARGE;
	if (r->flags > UINT32_MAX)
		return HC_E_INVAL;
	return 0;
}

int op_set(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_store *store;
	struct shm_changed ch = {0};
	struct shm_set set = {0};
	struct shm_req req;
	int r0 = op_begin(e, c, r, a, &req, &store, &set.key);

	if (r0)
		return r0 == OP_BAD ? OP_BAD : 0;
	struct eng_pool *p = &e->pool[store->pool_idx];
	uint64_t now_ns = eng_expiry_clock_ns();
	int32_t status = set_check(p, r);
	set.value = r->value;
	set.value_bytes = r->value_bytes;
	set.flags = (uint32_t)r->flags;
	set.now_wall_ns = eng_wall_ns();
	set.now_ms = (now_ns + 999999) / 1000000;
	if (!status && set_expiry(&set, store, r->ttl_ms, eng_clock_ns()))
		status = HC_E_INVAL;
	if (!status)
		status = set_publish(p, store, &req, &set, &ch);
	e->dirty = true;
	if (status) {
		shm_count(&store->entry->counter[SHM_SC_set_refused], 1);
		if (status == HC_E_FULL)
			shm_count(&p->w.entry->counter[SHM_PC_alloc_failed], 1);
		op_refuse(e, &req, a, status);
		STEP("set:refused");
		return 0;
	}
	a->lsn = ch.lsn;
	a->value = ch.old_off && !eng_store_expired(p, ch.old_off, set.now_ms * 1000000);
	(void)eng_store_got(p, store, &ch, now_ns);
	shm_count(&store->entry->counter[SHM_SC_sets], 1);
	e->sets_since_drain++;
	STEP("set:answered");
	return 0;
}

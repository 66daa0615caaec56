/* op_set.c - SET, and its conditions: hc_set -> op_set -> shm_pool_set.
 *
 *   known answer?  -> the journal's (it was applied before)
 *   room?          -> eng_room_make, a bounded number of times
 *   publish        -> shm_pool_set: condition, intent, slot, result
 *   bookkeeping    -> policy and counters of the store
 *
 * INCR (op_incr.c) is the same but for what it publishes.
 */
#include "eng_probe.h"
#include "hypercache.h"
#include "op.h"
#include "step.h"

#define OP_TTL_MAX_MS (10ull * 365 * 24 * 3600 * 1000) /* as hypercache.h says */

/* What chance takes off a time to live.  splitmix64 (Steele, Lea, Flood 2014): it need not be secret. */
static uint64_t jitter_ns(const struct eng_store *store, uint64_t ttl_ns)
{
	static uint64_t state;
	uint64_t most = ttl_ns / 1000000 * store->jitter_ppm, x;

	if (most == 0 || MUTANT(188)) /* 188: all that was written together expires together */
		return 0;
	x = state += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (x ^ x >> 31) % most;
}

int op_expiry(const struct eng_store *store, uint64_t ttl_ms, uint64_t now_ns, uint32_t *ret_ttl_ms,
	uint64_t *ret_expiry_ns)
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
	*ret_ttl_ms = ttl_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ttl_ms;
	*ret_expiry_ns = ttl_ns ? now_ns + ttl_ns - jitter_ns(store, ttl_ns) : 0;
	return 0;
}

static int32_t publish(struct eng_pool *p, struct eng_store *store, const struct shm_req *req,
	const struct shm_set *set, const struct shm_incr *incr, struct shm_changed *ret)
{
	uint64_t bytes = shm_item_bytes(set->key.n_bytes, set->value_bytes);
	bool keep = incr || set->mode != SHM_SET;
	int64_t number;

	if (eng_pressure_too_large(store, bytes))
		return HC_E_TOO_LARGE;
	if (!eng_pressure_write(p, store, keep ? &set->key : NULL, bytes))
		return HC_E_FULL;
	for (uint32_t i = 0; i < ENG_ROOM_TRIES; i++) {
		int r = incr ? shm_pool_incr(&p->w, p->e->journal, req, incr, ret, &number)
		             : shm_pool_set(&p->w, p->e->journal, req, set, ret);
		if (r == POOL_NOT_KEPT)
			return OP_NOT_KEPT;
		if (r == POOL_CHAIN_FULL) {
			if (!eng_room_chain(p, store, ret->old_off))
				return HC_E_FULL;
			continue;
		}
		if (r != POOL_FULL)
			return op_status(r);
		p->keep_off = keep ? ret->off : 0;
		(void)eng_room_make(p, store, ret->place_bytes ? ret->place_bytes : bytes, i);
		p->keep_off = 0;
	}
	return HC_E_FULL;
}

int32_t op_publish(struct eng_pool *p, struct eng_store *store, const struct shm_req *req,
	const struct shm_set *set, const struct shm_incr *incr, struct shm_changed *ret)
{
	int32_t status = publish(p, store, req, set, incr, ret);

	if (PROBE_ON(publish))
		eng_probe_publish(p, store, set, status, status ? 0 : ret->lsn);
	return status;
}

void op_written(struct eng_pool *p, struct eng_store *store, const struct shm_req *req,
	struct wire_answer *a, int32_t status, const struct shm_changed *ch, uint64_t now_ns)
{
	struct eng *e = p->e;

	e->dirty = true;
	if (status == OP_NOT_KEPT) {
		shm_count(&store->entry->counter[SHM_SC_not_admitted], 1);
		op_refuse_for(e, req, a, HC_OK, ch->lsn);
		return;
	}
	if (status) {
		if (status < 0 && status != HC_E_NOT_NUMBER)
			shm_count(&store->entry->counter[SHM_SC_set_refused], 1);
		if (status == HC_E_FULL) {
			shm_count(&p->w.entry->counter[SHM_PC_alloc_failed], 1);
			shm_count(&store->entry->counter[SHM_SC_refused_full], 1);
		}
		op_refuse_for(e, req, a, status, status > 0 ? ch->lsn : 0);
		return;
	}
	a->lsn = ch->lsn;
	a->value = ch->answer;
	(void)eng_store_got(p, store, ch, now_ns);
	eng_pressure_trim(p, store, ch->place_bytes);
	shm_count(&store->entry->counter[SHM_SC_sets], 1);
	e->sets_since_drain++;
}

static const enum shm_set_mode modes[WIRE_MODES] = {
	[WIRE_MODE_SET] = SHM_SET,
	[WIRE_MODE_ADD] = SHM_ADD,
	[WIRE_MODE_REPLACE] = SHM_REPLACE,
	[WIRE_MODE_IF_VERSION] = SHM_IF_VERSION,
	[WIRE_MODE_IF_NEWER] = SHM_IF_NEWER,
	[WIRE_MODE_APPEND] = SHM_APPEND,
	[WIRE_MODE_PREPEND] = SHM_PREPEND,
};

static int32_t set_check(const struct eng_store *store, const struct wire_request *r)
{
	if (r->value_bytes > store->max_value_bytes)
		return HC_E_TOO_LARGE;
	if (r->flags > UINT32_MAX || r->mode >= WIRE_MODES || r->how > WIRE_ABSENT)
		return HC_E_INVAL;
	if (r->lease && (r->mode != WIRE_MODE_SET || r->version))
		return HC_E_INVAL;
	if (r->how && (r->value_bytes || r->fresh_ms || r->mode >= WIRE_MODE_APPEND))
		return HC_E_INVAL;
	if (r->fresh_ms && (r->stamp || r->mode >= WIRE_MODE_APPEND || r->fresh_ms > OP_TTL_MAX_MS))
		return HC_E_INVAL;
	return 0;
}

/* Whether the lease that the writer shows is his, and what the entry says besides its value.
 * 0 or HC_LEASE_LOST. */
static int32_t set_marks(struct eng_pool *p, const struct eng_session *s,
	const struct wire_request *r, struct shm_set *set)
{
	uint64_t took_ms = 0;

	if (r->lease) {
		uint64_t version = shm_pool_version(&p->w, &set->key, set->now_ms * 1000000);
		if (!eng_lease_holds(p->e, s, &set->key, r->lease, version, &took_ms)) {
			eng_count(p->e, SHM_DC_leases_lost, 1);
			return HC_LEASE_LOST;
		}
		set->old_only = false; /* others wait for it: it is kept, be it for a moment */
	}
	if (r->how & WIRE_ABSENT)
		set->marks |= SHM_LENS_ABSENT;
	if (r->fresh_ms) {
		set->marks |= SHM_LENS_FRESH;
		set->stamp = shm_fresh_make(set->now_ms + r->fresh_ms, took_ms);
	}
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
		return op_begun(r0);
	struct eng_pool *p = &e->pool[store->pool_idx];
	uint64_t now_ns = eng_clock_ns();
	int32_t status = set_check(store, r);
	set.mode = status ? SHM_SET : modes[r->mode];
	/* What a log says is kept is kept: else what the disk has of the key from before would come back. */
	set.old_only = set.mode == SHM_SET && !store->durability &&
	               !eng_pressure_admits(p, store, set.key.hash);
	set.version = r->version;
	set.stamp = r->stamp;
	set.value = r->value;
	set.value_bytes = r->value_bytes;
	set.max_bytes = store->max_value_bytes;
	set.flags = (uint32_t)r->flags;
	set.now_wall_ns = e->batch_wall_ns ? e->batch_wall_ns : eng_wall_ns();
	set.now_ms = (now_ns + 999999) / 1000000;
	if (!status && op_expiry(store, r->ttl_ms, now_ns, &set.ttl_ms, &set.expiry_ns))
		status = HC_E_INVAL;
	if (!status)
		status = set_marks(p, c->session, r, &set);
	/* Before: what is not kept leaves no version that would tell, if the engine dies behind the result. */
	if (!status && !r->lease && set.mode == SHM_SET)
		eng_lease_over(e, &set.key);
	if (!status)
		status = op_publish(p, store, &req, &set, NULL, &ch);
	op_written(p, store, &req, a, status, &ch, now_ns);
	if (status == 0 || status == OP_NOT_KEPT)
		eng_lease_over(e, &set.key);
	if (status)
		STEP("set:refused");
	else
		STEP("set:answered");
	return 0;
}

/* op_lease.c - LEASE: hc_get_or_lease -> op_lease -> eng_lease_take.
 *
 * The asker says which version he has seen.  If the entry has another one now, he is to look before he
 * asks: what he wanted may be there.
 */
#include "hypercache.h"
#include "op.h"
#include "step.h"

int op_lease(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_store *store;
	struct shm_key key;
	struct shm_req req;
	uint64_t token = 0, left_ms = 0;
	int r0 = op_begin(e, c, r, a, &req, &store, &key);

	if (r0)
		return op_begun(r0);
	struct shm_wpool *w = &e->pool[store->pool_idx].w;
	uint64_t version = shm_pool_version(w, &key, eng_clock_ns());
	if (r->ttl_ms == 0 || r->ttl_ms > WIRE_LEASE_MS_MAX) {
		op_refuse(e, &req, a, HC_E_INVAL);
	} else if (version != r->version && !MUTANT(416)) { /* 416: nobody is sent to look */
		op_refuse_for(e, &req, a, HC_CONFLICT, version);
	} else {
		a->status = eng_lease_take(
			e, c->session, store, &key, r, version, &token, &left_ms);
		a->lsn = token;
		a->value = left_ms;
		shm_journal_finish(e->journal, &req, token, a->status, left_ms);
	}
	STEP("lease:answered");
	return 0;
}

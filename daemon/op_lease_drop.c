/* op_lease_drop.c - LEASE_DROP: hc_lease_drop -> op_lease_drop -> eng_lease_over. */
#include "hypercache.h"
#include "op.h"
#include "step.h"

int op_lease_drop(
	struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_store *store;
	struct shm_key key;
	struct shm_req req;
	uint64_t took_ms;
	int r0 = op_begin(e, c, r, a, &req, &store, &key);

	if (r0)
		return op_begun(r0);
	uint64_t version = shm_pool_version(&e->pool[store->pool_idx].w, &key, eng_clock_ns());
	if (!eng_lease_holds(e, c->session, &key, r->lease, version, &took_ms)) {
		op_refuse(e, &req, a, HC_LEASE_LOST);
		return 0;
	}
	eng_lease_over(e, &key);
	STEP("lease:dropped");
	shm_journal_finish(e->journal, &req, 0, 0, 0);
	return 0;
}

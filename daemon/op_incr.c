/* op_incr.c - INCR: hc_incr -> op_incr -> shm_pool_incr.  What it shares with SET is in op_set.c. */
#include "hypercache.h"
#include "op.h"
#include "step.h"

int op_incr(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_store *store;
	struct shm_changed ch = {0};
	struct shm_incr in = {0};
	struct shm_req req;
	int r0 = op_begin(e, c, r, a, &req, &store, &in.set.key);

	if (r0)
		return op_begun(r0);
	struct eng_pool *p = &e->pool[store->pool_idx];
	uint64_t now_ns = eng_clock_ns();
	int32_t status = r->how > (WIRE_WRAP | WIRE_MUST_EXIST) ? HC_E_INVAL : 0;
	in.delta = r->delta;
	in.initial = r->initial;
	in.wrap = r->how & WIRE_WRAP;
	in.must_exist = r->how & WIRE_MUST_EXIST;
	in.set.now_wall_ns = e->batch_wall_ns ? e->batch_wall_ns : eng_wall_ns();
	in.set.now_ms = (now_ns + 999999) / 1000000;
	if (!status && op_expiry(store, r->ttl_ms, now_ns, &in.set.ttl_ms, &in.set.expiry_ns))
		status = HC_E_INVAL;
	if (!status)
		status = op_publish(p, store, &req, &in.set, &in, &ch);
	op_written(p, store, &req, a, status, &ch, now_ns);
	if (status == 0)
		eng_lease_over(e, &in.set.key);
	STEP("incr:answered");
	return 0;
}

/* op_delete.c - DELETE: hc_delete -> op_delete -> shm_pool_delete_if. */
#include "hypercache.h"
#include "op.h"
#include "step.h"

int op_delete(
	struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_store *store;
	struct shm_changed ch = {0};
	struct shm_key key;
	struct shm_req req;
	int r0 = op_begin(e, c, r, a, &req, &store, &key);

	if (r0)
		return op_begun(r0);
	struct eng_pool *p = &e->pool[store->pool_idx];
	uint64_t now_ns = eng_clock_ns();
	/* Before: what somebody computes now may be from before whatever this delete is about. */
	if (r->version == 0 ||
		(e->leases.n_used && shm_pool_version(&p->w, &key, now_ns) == r->version))
		eng_lease_over(e, &key);
	r0 = shm_pool_delete_if(&p->w, e->journal, &req, &key, r->version, now_ns, &ch);
	if (ch.old_off) /* with POOL_MISS: it had expired */
		eng_store_lost(p, &ch, ENG_LOST_DELETED, now_ns);
	e->dirty = true;
	if (r0 == 0) {
		shm_count(&store->entry->counter[SHM_SC_deletes], 1);
		a->lsn = ch.lsn;
	} else { /* below 0: no private memory to note what goes */
		shm_count(&store->entry->counter[SHM_SC_delete_misses], r0 == POOL_MISS);
		op_refuse_for(e, &req, a, op_status(r0), ch.lsn);
	}
	STEP("delete:answered");
	return 0;
}

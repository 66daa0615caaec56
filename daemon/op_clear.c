/* op_clear.c - CLEAR: hc_clear -> op_clear -> shm_pool_clear.
 *
 * One store to the store's epoch, whatever the number of its entries.  eng_purge.c removes them
 * afterwards.
 */
#include "op.h"
#include "step.h"

int op_clear(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_store *store;
	struct shm_changed ch;
	struct shm_req req;
	int r0 = op_begin_store(e, c, r, a, &req, &store);

	if (r0)
		return op_begun(r0);
	struct eng_pool *p = &e->pool[store->pool_idx];
	eng_lease_over_store(e, store->id);
	uint64_t entries = shm_load_rlx(&store->entry->counter[SHM_SC_entries]);
	shm_pool_clear(&p->w, e->journal, &req, store->idx, entries, &ch);
	eng_store_cleared(p, store);
	a->lsn = ch.lsn;
	a->value = ch.answer;
	STEP("clear:answered");
	return 0;
}

/* op_touch.c - TOUCH: hc_touch -> op_touch -> shm_pool_touch.
 *
 * Who asks for more time for an entry uses it: the policy is told.
 */
#include "hypercache.h"
#include "op.h"

int op_touch(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_store *store;
	struct shm_changed ch = {0};
	struct shm_key key;
	struct shm_req req;
	uint64_t expiry_ns;
	uint32_t ttl_ms;
	int r0 = op_begin(e, c, r, a, &req, &store, &key);

	if (r0)
		return op_begun(r0);
	struct eng_pool *p = &e->pool[store->pool_idx];
	uint64_t now_ns = eng_clock_ns();
	if (r->ttl_ms == WIRE_TTL_KEEP) {
		expiry_ns = POOL_EXPIRY_KEEP;
	} else if (op_expiry(store, r->ttl_ms, now_ns, &ttl_ms, &expiry_ns)) {
		op_refuse(e, &req, a, HC_E_INVAL);
		return 0;
	}
	r0 = shm_pool_touch(&p->w, e->journal, &req, &key, now_ns, expiry_ns, &ch);
	e->dirty = true;
	if (r0) {
		op_refuse(e, &req, a, op_status(r0));
		return 0;
	}
	a->lsn = ch.lsn;
	uint32_t note = *shm_alloc_note(p->w.alloc, ch.off);
	if (note != POL_NONE)
		store->pol->ops->touch(store->pol, note, now_ns / 1000000);
	eng_hint_stamp(shm_pool_item(&p->w, ch.off), now_ns / 1000000);
	eng_expiry_set(p, store, ch.off, note);
	return 0;
}

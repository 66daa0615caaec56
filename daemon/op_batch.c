/* op_batch.c - BATCH: many mutations in one frame: hc_mset, hc_submit -> op_batch -> op_set ...
 *
 * Each item is a request with a number of its own, carried out by its own verb's function, in
 * order: so an engine that dies in the middle has applied the first ones, and answers them from the
 * journal when the batch is sent again.
 */
#include "ahead.h"
#include "op.h"
#include "step.h"

static bool batch_fits(const struct eng *e, const struct wire_request *r)
{
	return r->n_items <= op_max_inflight(e) && r->how <= WIRE_QUIET;
}

enum { OP_PLACES_AHEAD = 3 };

/* What an item is about. */
struct ahead {
	const struct eng_store *store; /* NULL: nothing that is known */
	const struct shm_wpool *w;
	const uint32_t *note;
	uint64_t hash, off;
};

/* Asks for the memory of all items, hop by hop. */
static void batch_ahead(struct eng *e, const struct wire_request *r)
{
	struct ahead a[WIRE_BATCH_MAX];

	for (uint32_t i = 0; i < r->n_items; i++) {
		const struct wire_request *it = &r->item[i];
		a[i].store = eng_store_of(e, it->store_idx, it->store_id);
		a[i].off = 0;
		if (!a[i].store)
			continue;
		a[i].w = &e->pool[a[i].store->pool_idx].w;
		a[i].hash = shm_key_hash(it->key, it->key_bytes, e->ctl->hash_seed, a[i].store->id);
		shm_ahead_bucket(a[i].w, a[i].hash);
	}
	for (uint32_t i = 0; i < r->n_items; i++)
		if (a[i].store)
			a[i].off = shm_ahead_item(a[i].w, a[i].hash);
	for (uint32_t i = 0; i < r->n_items; i++)
		a[i].note = a[i].off ? shm_ahead_note(a[i].w, a[i].off) : NULL;
	for (uint32_t i = 0; i < r->n_items; i++)
		if (a[i].note && a[i].store->pol->ops->ahead)
			a[i].store->pol->ops->ahead(a[i].store->pol, *a[i].note);
}

/* Asks for the place of a SET that comes behind `skip` others.  INCR's are small. */
static void place_ahead(struct eng *e, const struct wire_request *it, uint32_t skip)
{
	const struct eng_store *s = eng_store_of(e, it->store_idx, it->store_id);

	if (s && it->verb == WIRE_SET && it->key_bytes)
		shm_ahead_place(&e->pool[s->pool_idx].w,
			shm_item_bytes(it->key_bytes, it->value_bytes), skip);
}

static int batch_run(
	struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	bool quiet = r->how & WIRE_QUIET;

	for (uint32_t i = 0; i < r->n_items; i++) {
		struct wire_answer one;
		if (i + OP_PLACES_AHEAD < r->n_items)
			place_ahead(e, &r->item[i + OP_PLACES_AHEAD], OP_PLACES_AHEAD);
		one.status = 0;
		one.lsn = one.value = 0;
		int r0 = op_table[r->item[i].verb](e, c, &r->item[i], &one);
		if (r0)
			return r0; /* a number that this session cannot have, or no room in the log */
		STEP("batch:item");
		if (one.lsn > a->lsn)
			a->lsn = one.lsn;
		if ((one.status && !MUTANT(505)) || !quiet) /* 505: quiet about failures too */
			a->item[a->n_items++] = (struct wire_item){
				.idx = i, .status = one.status, .lsn = one.lsn, .value = one.value};
	}
	return 0;
}

int op_batch(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	if (!batch_fits(e, r))
		return OP_BAD;
	eng_count(e, SHM_DC_requests, r->n_items - 1);
	a->value = r->n_items;
	batch_ahead(e, r);
	e->batch_wall_ns = eng_wall_ns();
	int status = batch_run(e, c, r, a);
	e->batch_wall_ns = 0;
	return status;
}

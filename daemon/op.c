/* op.c - the table of verbs, and what the mutations have in common. */
#include "op.h"
#include "hypercache.h"
#include "step.h"

#define OP_ENTRY_(name, number) [number] = OP_##name##_FN,
op_fn *const op_table[WIRE_VERB_END] = {WIRE_VERBS(OP_ENTRY_)};

uint32_t op_max_inflight(const struct eng *e)
{
	_Static_assert(SHM_RESULTS >= WIRE_BATCH_MAX, "each item of a batch has a result");
	uint32_t n = e->config->max_inflight;

	return n < SHM_RESULTS ? n : SHM_RESULTS;
}

/* Has this request been answered before?  0: no.  1: yes, *a is what was said then.
 * OP_BAD: its number is used up, but not by this. */
static int op_replay(
	struct eng *e, struct eng_session *s, const struct wire_request *r, struct wire_answer *a)
{
	const struct shm_result *was = shm_journal_find(e->journal, s->slot, s->id, r->request);

	if (!was)
		return r->request <= s->last_request ? OP_BAD : 0;
	if (was->verb != r->verb)
		return OP_BAD;
	a->status = was->status;
	a->lsn = was->lsn;
	a->value = was->value;
	eng_count(e, SHM_DC_requests_replayed, 1);
	if (e->log)
		eng_log_replayed(e, r, was, a);
	return 1;
}

int op_begin_store(struct eng *e, struct eng_conn *c, const struct wire_request *r,
	struct wire_answer *a, struct shm_req *ret_req, struct eng_store **ret_store)
{
	struct eng_session *s = c->session;

	if (r->request == 0)
		return OP_BAD;
	int done = op_replay(e, s, r, a);
	if (done)
		return done;
	*ret_req = (struct shm_req){
		.session = s->slot, .verb = r->verb, .session_id = s->id, .request = r->request};
	struct eng_store *store = eng_store_of(e, r->store_idx, r->store_id);
	int32_t status = 0;
	if (store && store->durability) {
		status = eng_log_admit(e, store, r, ret_req);
		if (status == ENG_LOG_LATER)
			return OP_AGAIN;
	}
	s->last_request = r->request;
	if (!store) {
		op_refuse(e, ret_req, a, HC_E_NO_STORE);
		return 1;
	}
	if (!(s->peer.write_pools >> store->pool_idx & 1) && !MUTANT(81)) { /* 81: anybody may */
		eng_count(e, SHM_DC_requests_denied, 1);
		op_refuse(e, ret_req, a, HC_E_DENIED);
		return 1;
	}
	if (status) {
		op_refuse(e, ret_req, a, status);
		return 1;
	}
	eng_at(e, store->pool_idx);
	*ret_store = store;
	return 0;
}

int op_begin(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a,
	struct shm_req *ret_req, struct eng_store **ret_store, struct shm_key *ret_key)
{
	int done = op_begin_store(e, c, r, a, ret_req, ret_store);

	if (done)
		return done;
	if (r->key_bytes == 0 || r->key_bytes > SHM_KEY_BYTES_MAX) {
		op_refuse(e, ret_req, a, r->key_bytes ? HC_E_TOO_LARGE : HC_E_INVAL);
		return 1;
	}
	const struct eng_store *store = *ret_store;
	*ret_key = (struct shm_key){.bytes = r->key,
		.n_bytes = (uint32_t)r->key_bytes,
		.epoch = (uint32_t)shm_load_rlx(&store->entry->epoch),
		.store_id = store->id,
		.hash = shm_key_hash(r->key, r->key_bytes, e->ctl->hash_seed, store->id)};
	return 0;
}

/* Also what changed nothing is recorded: if this request and a later one of the same
 * key are both repeated after an engine's death, it must not come to life behind it. */
void op_refuse_for(struct eng *e, const struct shm_req *req, struct wire_answer *a, int32_t status,
	uint64_t version)
{
	a->status = status;
	a->lsn = version;
	a->value = 0;
	if (MUTANT(502)) /* 502: the version that was in the way is not recorded */
		version = 0;
	if (!MUTANT(50)) /* 50: a refusal is not recorded */
		shm_journal_finish(e->journal, req, version, status, 0);
}

void op_refuse(struct eng *e, const struct shm_req *req, struct wire_answer *a, int32_t status)
{
	op_refuse_for(e, req, a, status, 0);
}

int32_t op_status(int pool_result)
{
	switch (pool_result) {
	case 0:
		return HC_OK;
	case POOL_MISS:
		return HC_MISS;
	case POOL_EXISTS:
		return HC_EXISTS;
	case POOL_CONFLICT:
		return HC_CONFLICT;
	case POOL_OLDER:
		return HC_OLDER;
	case POOL_TOO_LARGE:
		return HC_E_TOO_LARGE;
	case POOL_NOT_NUMBER:
		return HC_E_NOT_NUMBER;
	default: /* POOL_FULL, and what could not make room for itself */
		return HC_E_FULL;
	}
}

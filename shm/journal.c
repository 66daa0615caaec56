/* journal.c - see journal.h, and layout/l_journal.h for the order of the moments. */
#include "journal.h"
#include <errno.h>
#include <stddef.h>
#include "atomic.h"
#include "base/check.h"
#include "feed.h"
#include "layout/l_word.h"
#include "step.h"

uint64_t shm_journal_bytes(uint32_t n_sessions)
{
	return sizeof(struct shm_journal) +
	       (uint64_t)n_sessions * sizeof(struct shm_journal_session);
}

uint64_t shm_journal_bytes_all(uint32_t n_sessions)
{
	return shm_journal_slow_off(n_sessions) + SHM_SLOWS * sizeof(struct shm_slow);
}

uint64_t shm_journal_slow_off(uint32_t n_sessions)
{
	return shm_journal_bytes(n_sessions) + SHM_LEASES * sizeof(struct shm_lease);
}

uint64_t shm_journal_bytes_staged(uint32_t n_sessions, uint64_t frames_bytes)
{
	return ((shm_journal_bytes_all(n_sessions) + 4095) & ~4095ull) + (frames_bytes & ~4095ull);
}

struct shm_lease *shm_journal_leases(struct shm_journal *j, uint32_t *ret_n)
{
	*ret_n = j->n_leases;
	return j->n_leases ? (struct shm_lease *)(uintptr_t)((uint8_t *)j + j->leases_off) : NULL;
}

static struct shm_journal_session *session_of(const struct shm_journal *j, uint32_t session)
{
	CHECK(session < j->n_sessions);
	return (struct shm_journal_session *)(uintptr_t)(j + 1) + session;
}

const struct shm_result *shm_journal_find(
	const struct shm_journal *j, uint32_t session, uint64_t session_id, uint64_t request)
{
	struct shm_journal_session *s = session_of(j, session);
	const struct shm_result *r = &s->result[request % SHM_RESULTS];

	/* acq:result.request */
	if (shm_load_rlx(&s->session_id) != session_id || shm_load_acq(&r->request) != request)
		return NULL;
	return MUTANT(7) ? NULL : r; /* 7: results are forgotten */
}

void shm_journal_open(struct shm_journal *j, uint32_t session, uint64_t session_id)
{
	struct shm_journal_session *s = session_of(j, session);

	shm_store_rlx(&s->session_id, 0);
	for (uint32_t i = 0; i < SHM_RESULTS; i++)
		shm_store_rlx(&s->result[i].request, 0);
	shm_store_rel(&s->session_id, session_id); /* rel:journal.session */
}

void shm_journal_intend(struct shm_journal *j, const struct shm_req *req, uint32_t pool_idx,
	uint64_t lsn, uint64_t slot_off, uint64_t old_word, uint64_t new_word, uint64_t value)
{
	struct shm_intent *in = &j->intent;

	if (req->session == SHM_REQ_ENGINE && in->feed_sequence == 0)
		return;
	in->session = req->session;
	in->pool_idx = pool_idx;
	in->session_id = req->session_id;
	in->request = req->request;
	in->lsn = lsn;
	in->slot_off = slot_off;
	in->old_word = old_word;
	in->new_word = new_word;
	in->verb = req->verb;
	in->status = 0;
	in->value = value;
	if (!MUTANT(8)) /* 8: no intent */
		/* rel:intent.state: the next engine finds the intent whole. */
		shm_store_rel(&in->state, SHM_INTENT_SET);
}

static void put_result(struct shm_journal *j, const struct shm_req *req, uint64_t lsn,
	int32_t status, uint64_t value)
{
	struct shm_journal_session *s = session_of(j, req->session);
	struct shm_result *r = &s->result[req->request % SHM_RESULTS];

	if (shm_load_rlx(&s->session_id) != req->session_id)
		return; /* the session ended, and its slot is another's */
	shm_store_rlx(&r->request, 0);
	atomic_signal_fence(memory_order_seq_cst); /* never an old number over new fields */
	r->lsn = lsn;
	r->status = status;
	r->verb = req->verb;
	r->value = value;
	/* rel:result.request */
	shm_store_rel(&r->request, req->request);
}

void shm_journal_finish(struct shm_journal *j, const struct shm_req *req, uint64_t lsn,
	int32_t status, uint64_t value)
{
	if (req->session != SHM_REQ_ENGINE) {
		put_result(j, req, lsn, status, value);
		STEP("journal:resulted");
	}
	/* rel:intent.state */
	shm_store_rel(&j->intent.state, SHM_INTENT_NONE);
	STEP("journal:cleared");
}

/* What an intent is about. */
struct subject {
	const shm_u64 *word; /* decides it; NULL: it names none */
	uint64_t store_id;   /* of a clear, a drop */
};

/* Did the engine do it by itself?  That is intended for the feed alone. */
static bool is_own(const struct shm_intent *in)
{
	return in->session == SHM_REQ_ENGINE && in->feed_sequence != 0;
}

static struct subject subject_of(const struct shm_intent *in, const struct shm_control *ctl,
	uint8_t *const *bases, const uint64_t *bytes, uint32_t n_pools)
{
	struct subject none = {0};

	if (in->pool_idx == SHM_INTENT_CONTROL) {
		for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
			const struct shm_store_entry *s = &ctl->store[i];
			if (in->slot_off == (uint64_t)((const char *)&s->epoch - (const char *)ctl))
				return (struct subject){&s->epoch, shm_load_rlx(&s->id)};
			if (is_own(in) && in->slot_off == (uint64_t)((const char *)&s->id -
								     (const char *)ctl))
				return (struct subject){&s->id, in->old_word};
		}
		return none;
	}
	if (in->pool_idx >= n_pools || in->slot_off % 8 || bytes[in->pool_idx] < sizeof(shm_u64) ||
		in->slot_off > bytes[in->pool_idx] - sizeof(shm_u64))
		return none;
	return (struct subject){
		.word = (const shm_u64 *)(const void *)(bases[in->pool_idx] + in->slot_off)};
}

/* It happened: what is left of it is done.  1; -EBADMSG. */
static int complete(struct shm_journal *j, const struct shm_control *ctl, const struct subject *s,
	uint8_t *const *bases, const uint64_t *bytes, uint32_t n_pools)
{
	const struct shm_intent *in = &j->intent;
	int verdict = 1;

	if (in->feed_sequence) {
		uint32_t pool = in->feed_pool;
		if (pool >= n_pools || shm_feed_complete(in, s->store_id, bases[pool], bytes[pool],
					       shm_feed_first(shm_load_rlx(&ctl->engine_gen))) < 0)
			verdict = -EBADMSG;
	}
	if (is_own(in))
		return verdict;
	/* A touch leaves its entry the version that it has: it stands where others have their value. */
	bool touched = in->feed_sequence && in->feed_what == SHM_FEED_TOUCH;
	put_result(j,
		&(struct shm_req){.session = in->session,
			.verb = in->verb,
			.session_id = in->session_id,
			.request = in->request},
		touched ? in->value : in->lsn, in->status, touched ? 0 : in->value);
	return verdict;
}

uint64_t shm_journal_happened(const struct shm_journal *j, const struct shm_control *ctl,
	uint8_t *const *bases, const uint64_t *bytes, uint32_t n_pools)
{
	const struct shm_intent *in = &j->intent;

	/* acq:intent.state */
	if (shm_load_acq(&in->state) != SHM_INTENT_SET || is_own(in))
		return 0;
	struct subject s = subject_of(in, ctl, bases, bytes, n_pools);
	return s.word && shm_load_rlx(s.word) == in->new_word ? in->lsn : 0;
}

int shm_journal_decide(struct shm_journal *j, const struct shm_control *ctl, uint8_t *const *bases,
	const uint64_t *bytes, uint32_t n_pools)
{
	struct shm_intent *in = &j->intent;

	/* acq:intent.state acq:journal.session */
	if (shm_load_acq(&in->state) != SHM_INTENT_SET)
		return 0;
	int verdict = 2;
	struct subject s = subject_of(in, ctl, bases, bytes, n_pools);
	if (!s.word || (in->session >= j->n_sessions && !is_own(in)))
		verdict = -EBADMSG;
	else if (shm_load_rlx(s.word) == in->new_word)
		verdict = complete(j, ctl, &s, bases, bytes, n_pools);
	STEP("journal:decided");
	shm_store_rel(&in->state, SHM_INTENT_NONE); /* rel:intent.state */
	return verdict;
}

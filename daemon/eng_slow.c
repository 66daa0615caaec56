/* eng_slow.c - the slow log: requests that took longer than slowlog_threshold, and where the time went.
 *
 * It costs nobody a look at the clock: a request's begin and end are read for its histogram anyway (eng_conn.c), and
 * room's for its own (eng_room.c).  Only of frames so large that copying them takes far longer than the clock does
 * the stages in between are told apart.
 *
 * How long bytes waited in the socket before this engine received them nobody knows; a turn that was long delays all of the
 * next one, and is in the histogram `turn`.
 */
#include <string.h>
#include "eng.h"
#include "journal.h"
#include "key.h"
#include "step.h"

/* The journal says where it is; an engine goes on with the number of the last one. */
void eng_slow_start(struct eng *e)
{
	struct shm_slow_rec rec;

	e->slow = (struct shm_slow *)(uintptr_t)shm_journal_slow(
		e->journal, e->journal->seg.total_bytes, &e->n_slow);
	for (uint32_t i = 0; e->slow && i < e->n_slow; i++) {
		uint64_t n = shm_slow_get(e->slow, i, &rec);
		if (n > e->slow_last && !MUTANT(846)) /* 846: each engine begins anew */
			e->slow_last = n;
	}
}

/* In eng_room_make(), of the request that is carried out. */
void eng_slow_room(struct eng *e, uint64_t ns)
{
	if (e->room_of_ns != e->mark_ns)
		e->room_ns = 0;
	e->room_of_ns = e->mark_ns; /* when it began: each has its own */
	e->room_ns += ns;
}

static void session_put(const struct eng_conn *c, struct shm_slow_rec *rec)
{
	const struct eng_session *s = c->session;

	rec->uid = c->uid;
	if (!s)
		return;
	rec->session_id = s->id;
	rec->session = s->slot;
	rec->pid = (uint32_t)s->peer.pid;
}

/* What the request names; the fields that its verb does not have hold anything. */
static void what_put(const struct eng *e, const struct wire_request *r, struct shm_slow_rec *rec)
{
	bool key = r->verb == WIRE_SET || r->verb == WIRE_DELETE || r->verb == WIRE_TOUCH ||
	           r->verb == WIRE_INCR || r->verb == WIRE_LEASE || r->verb == WIRE_LEASE_DROP;

	if (key || r->verb == WIRE_CLEAR)
		rec->store_id = r->store_id;
	if (r->verb == WIRE_SET)
		rec->value_bytes = r->value_bytes;
	if (!key || r->key_bytes == 0 || r->key_bytes > SHM_KEY_BYTES_MAX)
		return;
	rec->key_bytes = r->key_bytes;
	rec->hash = shm_key_hash(r->key, r->key_bytes, e->ctl->hash_seed, r->store_id);
	memcpy(rec->key, r->key,
		r->key_bytes < SHM_SLOW_KEY_BYTES ? r->key_bytes : SHM_SLOW_KEY_BYTES);
}

/* What is left for work when all others have theirs. */
static void stages_put(const struct eng *e, const struct eng_conn *c, const struct eng_marks *m,
	struct shm_slow_rec *rec)
{
	uint64_t *ns = rec->stage_ns, begun = m->begun_ns, rest = m->ended_ns - begun;

	ns[SHM_SLOW_wait] = begun > c->in_ns ? begun - c->in_ns : 0;
	ns[SHM_SLOW_room] = e->room_of_ns == begun && !MUTANT(847) ? e->room_ns : 0; /* 847: none */
	if (m->decoded_ns) {
		ns[SHM_SLOW_decode] = m->decoded_ns - begun;
		ns[SHM_SLOW_answer] = m->ended_ns - m->done_ns;
	}
	ns[SHM_SLOW_work] = rest - ns[SHM_SLOW_room] - ns[SHM_SLOW_decode] - ns[SHM_SLOW_answer];
}

void eng_slow_note(struct eng_conn *c, const struct wire_request *r, const struct wire_answer *a,
	const struct eng_marks *m)
{
	struct eng *e = c->e;
	struct shm_slow_rec rec = {.time_ns = eng_wall_ns(),
		.lsn = a->lsn,
		.verb = r->verb,
		.status = a->status,
		.n_items = r->n_items};

	if (!e->slow)
		return;
	session_put(c, &rec);
	what_put(e, r, &rec);
	stages_put(e, c, m, &rec);
	shm_slow_put(e->slow, e->n_slow, ++e->slow_last, &rec);
	eng_count(e, SHM_DC_slow, 1);
}

/* An answer that waited for the log goes now.  What it was about is in an entry of its own if that took long, too:
 * the number of the change says which. */
void eng_slow_late(struct eng_conn *c, const struct eng_late *late)
{
	struct eng *e = c->e;
	uint64_t limit_ns = e->config->slowlog_threshold_ns, waited_ns = e->now_ns - late->since_ns;

	if (limit_ns == 0 || waited_ns < limit_ns || !e->slow)
		return;
	struct shm_slow_rec rec = {.time_ns = eng_wall_ns(), .lsn = late->lsn, .verb = late->verb};
	rec.stage_ns[SHM_SLOW_log] = waited_ns;
	session_put(c, &rec);
	shm_slow_put(e->slow, e->n_slow, ++e->slow_last, &rec);
	eng_count(e, SHM_DC_slow, 1);
}

/* hc_slide.c - stores in which a read gives an entry its time to live again (rule P29).
 *
 * The same goes for uses that a policy has to hear of, session: each entry that is read is told when the last
 * that was told of it is an eighth of the time ago after which it counts as idle.
 *
 * The engine does it when it hears of the read: by a hint, which costs nothing.  It is due when an eighth
 * of the time has gone, and then never left out, and never lost: as long as the engine may not have
 * seen it, nothing is written over it.
 *
 *   hints of a thread   ... seen | slide_head[0] ....... hint_head |      at most SHM_HINTS between the two
 *
 * The engine looks into the rings after each heartbeat.  So what was there when one heartbeat was noticed
 * has been seen when the second one after it is: slide_head[] are the ends of the ring at the last three.
 * While no more fits, other hints are left out, and a read that is due asks over the socket, as hc_touch()
 * does.  It waits for ASK_MS at most, and if there was no answer it does not ask again before the next
 * heartbeat: a read never waits for an engine that hangs or is gone.
 */
#include "hc_read_i.h"
#include "hc_slide.h"
#include "wire.h"
#include "step.h"

enum {
	PARTS = 8,
	ASK_MS = 50, /* a read waits for no longer than this */
};

#define MS_NS 1000000ull

static uint32_t slide_due(const struct hc_thread *th, const struct shm_item *it)
{
	uint64_t expiry = shm_load_rlx(&it->expiry_ns), ttl_ns = it->ttl_ms * MS_NS;
	uint64_t rest_ns = ttl_ns - ttl_ns / PARTS;

	if (expiry == 0 || ttl_ns == 0)
		return 0;
	return expiry <= rest_ns || shm_read_is_over(&th->reader, expiry - rest_ns) ? it->ttl_ms
	                                                                            : 0;
}

uint64_t hc_slide_due(
	const struct hc_thread *th, const struct hc_store *s, const struct shm_item *it)
{
	uint32_t ttl_ms = s->slides ? slide_due(th, it) : 0;

	if (ttl_ms || !s->told_ms || MUTANT(297)) /* 297: uses are told like any hit */
		return ttl_ms;
	uint64_t told_ms = shm_load_rlx(&it->access) >> SHM_ACCESS_MS_SHIFT;
	return shm_read_is_over(&th->reader, (told_ms + s->told_ms) * MS_NS) ? WIRE_TTL_KEEP : 0;
}

/* The hints until slide_head[0] have been seen. */
static void beats_notice(struct hc_thread *th, uint64_t head)
{
	uint64_t beat = shm_load_rlx(&th->hc->ctl->heartbeat_ns);

	if (beat == th->slide_beat)
		return;
	th->slide_beat = beat;
	th->slide_head[0] = th->slide_head[1];
	th->slide_head[1] = th->slide_head[2];
	th->slide_head[2] = head;
	if (th->slide_last <= th->slide_head[0])
		th->slide_last = 0;
}

bool hc_slide_room(struct hc_thread *th, uint64_t head)
{
	beats_notice(th, head);
	return th->slide_last == 0 || head - th->slide_head[0] < SHM_HINTS ||
	       MUTANT(191); /* 191: what the engine has not seen is written over */
}

void hc_slide(struct hc_thread *th, struct hc_store *s, const struct shm_key *k, uint64_t hint,
	uint64_t ttl_ms)
{
	struct shm_block *b = th->reader.block;
	uint64_t head = shm_load_rlx(&b->hint_head);

	if (hc_slide_room(th, head)) {
		if (th->slide_last == 0) /* nothing that is there is a must */
			th->slide_head[0] = th->slide_head[1] = th->slide_head[2] = head;
		th->slide_last = head + 1;
		shm_store_rlx(&b->hint[head % SHM_HINTS], hint);
		shm_store_rel(&b->hint_head, head + 1); /* rel:hint.head */
		return;
	}
	if (th->slide_beat == th->slide_failed)
		return;
	if (hc_touch_within(s, k->bytes, k->n_bytes, ttl_ms, ASK_MS) < 0)
		th->slide_failed = th->slide_beat;
}

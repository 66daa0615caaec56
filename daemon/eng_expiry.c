/* eng_expiry.c - takes away what is over, without being asked: a bounded part in each turn.
 *
 * Readers and writers look at an entry's time for themselves; this is for the memory.  Each store has a
 * timing wheel (wheel.h), whose timers are the policy's nodes.  A timer is a promise to look: an entry that
 * got more time meanwhile without the wheel being told (a read that extends it) is filed again.
 *
 * The work of a tick goes on in the turns behind it, as of the tick's own moment: the touch rings were
 * drained before, so what they extend is not taken away (rule P29).
 */
#include "eng.h"
#include "step.h"

enum { RETRY_MS = 1000 };

static uint64_t ms_of(uint64_t ns) { return ns / 1000000 + (ns % 1000000 != 0); }

void eng_expiry_set(struct eng_pool *p, struct eng_store *s, uint64_t off, uint32_t note)
{
	uint64_t expiry_ns = shm_load_rlx(&shm_pool_item(&p->w, off)->expiry_ns);

	if (note == POL_NONE)
		return;
	if (expiry_ns == 0)
		wheel_drop(&s->wheel, note);
	else if (!MUTANT(201) && wheel_set(&s->wheel, note, ms_of(expiry_ns)) < 0 &&
		 !s->told_wheel) {
		/* 201: nobody looks */
		s->told_wheel = true;
		log_warn("store %s: no memory for timers: what is over goes only when its room is "
			 "wanted",
			s->entry->name);
	}
}

/* An entry is due.  It goes, or is filed again. */
static void expiry_due(struct eng_pool *p, struct eng_store *s, uint32_t note)
{
	uint64_t off = s->pol->ops->where(s->pol, note);

	if (!eng_store_expired(p, off, p->e->now_ns))
		eng_expiry_set(p, s, off, note);
	else if (eng_room_remove(p, off, ENG_LOST_EXPIRED))
		STEP("expiry:unlinked");
	else /* no private memory for limbo: nothing can be unlinked now */
		(void)wheel_set(&s->wheel, note, p->e->now_ns / 1000000 + RETRY_MS);
}

void eng_expiry_tick(struct eng *e)
{
	e->expiry_ms = e->now_ns / 1000000;
	e->expiry_store = 0;
}

static bool expiry_turn(struct eng *e)
{
	uint32_t work = 0;

	for (; e->expiry_store < SHM_STORES_MAX; e->expiry_store++) {
		struct eng_store *s = &e->store[e->expiry_store];
		if (!s->id)
			continue;
		eng_at(e, s->pool_idx);
		for (; work < ENG_EXPIRY_WORK; work++) {
			uint32_t note = POL_NONE;
			int r = wheel_next(&s->wheel, e->expiry_ms, &note);
			if (r < 0)
				break;
			if (r > 0)
				expiry_due(&e->pool[s->pool_idx], s, note);
		}
		if (work == ENG_EXPIRY_WORK)
			return true;
	}
	return false;
}

bool eng_expiry_turn(struct eng *e)
{
	if (e->expiry_store == SHM_STORES_MAX)
		return false; /* all that was due at the last tick is done */
	uint64_t began_ns = eng_clock_ns();
	bool more = expiry_turn(e);
	(void)eng_timed(e, SHM_HG_expiry, began_ns);
	return more;
}

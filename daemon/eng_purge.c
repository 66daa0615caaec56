/* eng_purge.c - gives back what cleared stores have left: a bounded step in each turn.
 *
 *   clear     one store to the epoch: no reader finds the entries any more     op_clear.c
 *   step      the next chains of the index: what is void in them is unlinked
 *   sweep     as for everything that was unlinked                              eng_room.c
 *
 * While there are void entries the loop does not wait, so that the steps follow each other as fast
 * as requests leave time for them.  The policy keeps its node of an entry until the entry is
 * unlinked, so a victim may be a void one; a write that finds no room takes a step before it evicts
 * anything (eng_room.c).
 *
 * Steps go round the index until no void entry is counted.  Nothing of this outlives the engine:
 * the next one drops the void entries that it meets when it takes the pool over.
 */
#include "ahead.h"
#include "eng.h"
#include "step.h"

#define PURGE_SCRUB_BYTES (2ull << 20) /* of a scrubbed pool: they are overwritten too */

static uint64_t step_bytes(const struct eng_pool *p)
{
	return p->w.scrub ? PURGE_SCRUB_BYTES : ENG_VOID_BYTES;
}

bool eng_purge_is_due(const struct eng *e)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (e->pool[i].base && e->pool[i].n_void)
			return true;
	return false;
}

/* Asks for the notes and the policies' nodes of entries, hop by hop (shm/ahead.h). */
static void purge_ahead(struct eng_pool *p, const uint64_t *off, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		(void)shm_ahead_note(&p->w, off[i]);
	for (uint32_t i = 0; i < n; i++) {
		const struct eng_store *s = eng_store_by_id(
			p->e, shm_pool_item(&p->w, off[i])->store_id);
		if (s && s->pol->ops->ahead)
			s->pol->ops->ahead(s->pol, *shm_alloc_note(p->w.alloc, off[i]));
	}
}

uint32_t eng_purge_step(struct eng_pool *p, bool *ret_more)
{
	uint64_t off[ENG_VOID_ENTRIES], cursor = p->purge_cursor;
	uint32_t n = shm_pool_find_void(&p->w, &cursor, ENG_VOID_CHAINS, off, ENG_VOID_ENTRIES);
	uint64_t limit = p->purge_bytes + step_bytes(p);
	uint32_t gone = 0;

	purge_ahead(p, off, n);
	while (gone < n && p->purge_bytes < limit) {
		p->purge_bytes += shm_alloc_place_bytes(p->w.alloc, off[gone]);
		if (!eng_room_remove(p, off[gone], ENG_LOST_DELETED))
			break; /* no private memory for limbo: nothing can be unlinked now */
		gone++;
	}
	STEP("purge:unlinked");
	if (gone == n)
		p->purge_cursor = cursor;
	*ret_more = p->n_void > 0 && (gone == n || p->purge_bytes >= limit);
	return gone;
}

void eng_purge_turn(struct eng *e)
{
	uint64_t began_ns = eng_clock_ns();
	bool more = false;

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		struct eng_pool *p = &e->pool[i];
		bool pool_more = false;
		if (!p->base || !p->n_void || MUTANT(101)) /* 101: what was cleared stays */
			continue;
		eng_at(e, i);
		(void)eng_purge_step(p, &pool_more);
		if (p->purge_bytes >= step_bytes(p) || p->n_void == 0 ||
			p->w.limbo.n >= p->limbo_left + ENG_VOID_LIMBO) {
			p->purge_bytes = 0;
			(void)eng_room_sweep(e);
		}
		more |= pool_more;
	}
	e->purging = more;
	(void)eng_timed(e, SHM_HG_purge, began_ns);
}

/* A step of the index may find nothing: a few of them. */
bool eng_purge_room(struct eng_pool *p)
{
	uint32_t gone = 0;
	bool more = p->n_void > 0 && !MUTANT(102); /* 102: entries that live go first */

	for (int i = 0; i < ENG_VOID_STEPS && more && gone < ENG_VOID_ENTRIES / 2; i++)
		gone += eng_purge_step(p, &more);
	if (gone == 0)
		return false;
	return eng_room_sweep(p->e) > 0;
}

void eng_purge_timed(struct eng *e)
{
	uint64_t ns = eng_clock_ns() - e->now_ns;

	if (ns > shm_load_rlx(&e->ctl->counter[SHM_DC_purge_turn_ns]))
		eng_gauge(e, SHM_DC_purge_turn_ns, ns);
}

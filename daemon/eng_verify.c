/* eng_verify.c - behind an adoption: the checksums of all contents, a part in each turn.
 *
 * Requests are served meanwhile; what is damaged goes as if evicted, counted and loudly.  A value is
 * verified in one go, so a turn takes ENG_VERIFY_BYTES and at most one value more.
 */
#include "eng.h"
#include "step.h"

enum { DAMAGED_MAX = 64 };

static void gauge(struct eng *e)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		n += e->pool[i].base && e->pool[i].w.unverified;
	eng_gauge(e, SHM_DC_unverified, n);
}

void eng_verify_begin(struct eng *e) { gauge(e); }

static void pool_end(struct eng_pool *p)
{
	p->w.unverified = false;
	if (p->n_damaged)
		log_error("pool %s: %llu entries were not as they were written, and are gone: the "
			  "engine "
			  "that died had scribbled over them",
			p->w.entry->name, (unsigned long long)p->n_damaged);
	gauge(p->e);
}

/* True: there is more. */
static bool pool_turn(struct eng_pool *p)
{
	uint64_t off[DAMAGED_MAX];
	uint32_t n = shm_pool_find_damaged(
		&p->w, &p->verify_cursor, ENG_VERIFY_BYTES, off, DAMAGED_MAX);

	for (uint32_t i = 0; i < n; i++) {
		if (MUTANT(344) ||
			!eng_room_remove(p, off[i], ENG_LOST_DELETED)) /* 344: they stay */
			continue;
		p->n_damaged++;
		eng_count(p->e, SHM_DC_adopt_dropped, 1);
		STEP("verify:dropped");
	}
	if (p->verify_cursor || n == DAMAGED_MAX)
		return true;
	pool_end(p);
	return false;
}

bool eng_verify_turn(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		struct eng_pool *p = &e->pool[i];
		if (!p->base || !p->w.unverified)
			continue;
		eng_at(e, i);
		(void)pool_turn(p);
		return true;
	}
	return false;
}

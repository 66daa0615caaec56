/* eng_pressure.c - how full a pool may become, and a store.
 *
 *   in use   0 ......... end ........ low ........ high ........ full ...... all
 *                         |<-- eviction goes on until here        |
 *                                      | in the background, from whoever has most to spare, unless
 *                                      | it is worth clearly less to another
 *                                                   | from whoever it is worth least to
 *                                                                 | by each write, first
 *
 * What has been begun lasts until `end`, so a pool does not stand at a threshold and evict one
 * entry for each that comes.  As long as it lasts a new key is kept only if its policy finds it worth more
 * than the entry that would go for it; a store that has no more than it is guaranteed is not asked.
 *
 * "In use" is all but free pages and places.  For the background what is in limbo counts as free, and
 * what is void (eng_purge.c): it is about to be.  For a write it does not.
 *
 * A store's own limits have nothing to do with the pool's: what is above them goes with the write that
 * went above them, from the store itself.
 */
#include "eng.h"
#include "step.h"

/* What the pool has, without what the system has back. */
static uint64_t size(const struct eng_pool *p) { return shm_alloc_total_bytes(p->w.alloc); }

/* Bytes at which a threshold stands. */
static uint64_t mark(const struct eng_pool *p, enum shm_pressure at)
{
	return size(p) / SHM_PAGE * shm_load32_rlx(&p->w.entry->pressure_ppm[at]) / 1000000 *
	       SHM_PAGE;
}

static uint64_t used(const struct eng_pool *p)
{
	return size(p) - shm_alloc_free_bytes(p->w.alloc);
}

bool eng_pressure_is_full(const struct eng_pool *p)
{
	uint64_t in_use = used(p) + p->write_bytes, soon_free = p->void_bytes;

	if (p->w.limbo.bytes > p->limbo_left_bytes)
		soon_free += p->w.limbo.bytes - p->limbo_left_bytes;
	return in_use >= soon_free && in_use - soon_free >= mark(p, SHM_PRESSURE_FULL);
}

uint64_t eng_pressure_room(const struct eng_pool *p)
{
	uint64_t begins = mark(p, SHM_PRESSURE_LOW);

	return used(p) < begins ? begins - used(p) : 0;
}

static void level_set(struct eng_pool *p, uint32_t level)
{
	if (level == p->pressure)
		return;
	if (p->pressure == SHM_PRESSURE_END)
		shm_count(&p->w.entry->counter[SHM_PC_pressures], 1);
	p->pressure = level;
	shm_store_rlx(&p->w.entry->counter[SHM_PC_pressure], level);
}

/* The highest threshold that is reached; what has been reached before lasts until END. */
static void level_look(struct eng_pool *p, uint64_t in_use)
{
	uint32_t level = SHM_PRESSURE_FULL;

	while (level > SHM_PRESSURE_END && in_use < mark(p, level))
		level--;
	if (level == SHM_PRESSURE_END && p->pressure && in_use > mark(p, SHM_PRESSURE_END))
		level = SHM_PRESSURE_LOW;
	level_set(p, level);
}

/* ------------------------------------------------------------------- a store */

static uint64_t above(const struct eng_store *s, enum shm_store_counter c, const shm_u64 *limit)
{
	uint64_t has = shm_load_rlx(&s->entry->counter[c]), may = shm_load_rlx(limit);

	return may && has > may ? has - may : 0;
}

bool eng_pressure_too_large(const struct eng_store *s, uint64_t bytes)
{
	uint64_t limit = shm_load_rlx(&s->entry->limit_bytes);

	return limit && bytes > limit;
}

void eng_pressure_trim(struct eng_pool *p, struct eng_store *s, uint64_t written)
{
	uint64_t bytes = above(s, SHM_SC_place_bytes, &s->entry->limit_bytes);
	uint64_t entries = above(s, SHM_SC_entries, &s->entry->limit_entries);

	if (MUTANT(156)) /* 156: a store's limits are only shown */
		return;
	if ((entries || bytes) && !MUTANT(241)) /* 241: victims are chosen without the last hits */
		eng_hint_drain(p->e, ENG_HINT_BLOCKS_LIMIT);
	if (entries)
		(void)eng_room_evict_own(p, s, UINT64_MAX, 1);
	bytes = bytes ? above(s, SHM_SC_place_bytes, &s->entry->limit_bytes) : 0;
	if (bytes)
		(void)eng_room_evict_own(p, s, bytes < written ? bytes : written, UINT32_MAX);
}

/* What a reload has put above its limits goes in parts. */
static bool trim_turn(struct eng *e)
{
	bool more = false;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct eng_store *s = &e->store[i];
		if (!s->id)
			continue;
		uint64_t bytes = above(s, SHM_SC_place_bytes, &s->entry->limit_bytes);
		uint64_t entries = above(s, SHM_SC_entries, &s->entry->limit_entries);
		uint32_t most = entries < ENG_PRESSURE_VICTIMS && !bytes ? (uint32_t)entries
		                                                         : ENG_PRESSURE_VICTIMS;
		if (!bytes && !entries)
			continue;
		uint32_t n = eng_room_evict_own(
			&e->pool[s->pool_idx], s, entries ? UINT64_MAX : bytes, most);
		more |= n == ENG_PRESSURE_VICTIMS;
	}
	return more;
}

/* -------------------------------------------------------------------- a pool */

/* Has s entries, and a policy that gives none of them? */
static bool evicts_nothing(struct eng_pool *p, struct eng_store *s)
{
	uint64_t off;

	p->hard = true;
	bool nothing = shm_load_rlx(&s->entry->counter[SHM_SC_entries]) &&
	               eng_store_victim(p, s, &off) != 0;
	p->hard = false;
	return nothing;
}

/* Is s at a limit of its own, and can make no room by itself? */
static bool stands_at_limit(struct eng_pool *p, struct eng_store *s, uint64_t bytes)
{
	uint64_t limit = shm_load_rlx(&s->entry->limit_bytes);
	uint64_t most = shm_load_rlx(&s->entry->limit_entries);

	s->at_limit = (limit && shm_load_rlx(&s->entry->counter[SHM_SC_place_bytes]) + bytes >
					limit) ||
	              (most && shm_load_rlx(&s->entry->counter[SHM_SC_entries]) >= most);
	bool stands = s->at_limit && evicts_nothing(p, s);
	s->at_limit = false;
	return stands;
}

static bool pressure_write(
	struct eng_pool *p, struct eng_store *s, const struct shm_key *from, uint64_t bytes)
{
	if (stands_at_limit(p, s, bytes))
		return false;
	if (used(p) + bytes < mark(p, SHM_PRESSURE_FULL))
		return true;
	level_set(p, SHM_PRESSURE_FULL);
	if (eng_purge_room(p) && used(p) + bytes < mark(p, SHM_PRESSURE_FULL))
		return true;
	if (eng_store_spare(s) && eng_pressure_is_full(p) && evicts_nothing(p, s))
		return false;
	if (p->w.limbo.bytes < bytes + size(p) / ENG_ROOM_SHARE) {
		eng_hint_drain(p->e, ENG_HINT_BLOCKS);
		p->keep_off = from ? shm_pool_find(&p->w, from) : 0;
		(void)eng_room_evict(
			p, s, bytes + size(p) / ENG_ROOM_SHARE, ENG_VICTIMS, ENG_LOST_PRESSURE);
		p->keep_off = 0;
	}
	if (p->w.limbo.n)
		(void)eng_room_sweep(p->e);
	return true;
}

bool eng_pressure_write(
	struct eng_pool *p, struct eng_store *s, const struct shm_key *from, uint64_t bytes)
{
	p->write_bytes = bytes;
	bool may = pressure_write(p, s, from, bytes);
	p->write_bytes = 0;
	return may;
}

bool eng_pressure_admits(struct eng_pool *p, struct eng_store *s, uint64_t hash)
{
	if (p->pressure == SHM_PRESSURE_END || !s->pol->ops->admits || eng_store_spare(s) == 0 ||
		MUTANT(159)) /* 159: every key is */
		return true;
	return s->pol->ops->admits(s->pol, hash, p->e->now_ns / 1000000);
}

/* One pool's part of a turn.  True: it is not at END yet, and something went. */
static bool pool_turn(struct eng_pool *p)
{
	uint64_t in_use = used(p), share = size(p) / ENG_ROOM_SHARE;
	uint64_t soon_free = p->w.limbo.bytes + p->void_bytes;

	in_use -= soon_free < in_use ? soon_free : in_use;
	level_look(p, in_use);
	if (p->pressure == SHM_PRESSURE_END || MUTANT(157)) /* 157: nothing in the background */
		return false;
	uint64_t began_ns = eng_clock_ns();
	eng_hint_drain(p->e, ENG_HINT_BLOCKS); /* what has just been read is to stay */
	uint64_t end = mark(p, SHM_PRESSURE_END);
	uint64_t want = in_use - end < share ? in_use - end : share;
	uint64_t got = eng_room_evict(p, NULL, want, ENG_PRESSURE_VICTIMS, ENG_LOST_PRESSURE);
	if (got == 0)
		return false; /* all that is left is guaranteed: a tick looks again */
	p->e->dirty = true;
	if (p->w.limbo.bytes >= share)
		(void)eng_room_sweep(p->e);
	(void)eng_timed(p->e, SHM_HG_evict, began_ns);
	return true;
}

bool eng_pressure_turn(struct eng *e)
{
	bool more = trim_turn(e);

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (e->pool[i].base) {
			eng_at(e, i);
			more |= pool_turn(&e->pool[i]);
		}
	return more;
}

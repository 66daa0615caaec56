/* eng_room.c - makes room: limbo first, then eviction, compaction, windows.
 *
 *   sweep     what is unlinked and unpinned is free               costs one scan
 *   evict     a batch of the policy's victims, then a sweep
 *   compact   free places of other classes become free pages: the entries of
 *             the emptiest slab move elsewhere, then a sweep
 *   join      free pages that lie apart, in runs too short for a size: what stands between two of
 *             them moves elsewhere, then a sweep
 *   window    for a run of pages: all that stands in a stretch of pages goes,
 *             then a sweep
 *
 *   purge     what cleared stores have left goes before anything that lives (eng_purge.c)
 *
 * Which when: an item that shares its page begins with the policy's victims, whose
 * places are of any class.  If none of them fits, places that are free in other
 * classes are made into pages: at every second attempt, and at all while more than
 * 1/ENG_FRAGMENTED of the pool is free in the wrong classes (so the waste has a bound,
 * and nothing is evicted for room that is there).  From ENG_WINDOW_ATTEMPT on a
 * window makes a slab's pages whatever stands there: only pins can then be in the way.
 * When a size finds no run that is long enough, and more than 1/ENG_GAPS of the pool is in free pages all the
 * same, each batch of victims is followed by some joins: into the room that has just been made there is moved
 * what keeps free pages apart.  It costs about as many bytes as are written meanwhile, and ends.
 * An item with pages of its own alternates between the policy's victims (one large
 * victim is as good as a window) and a window.
 *
 * Whose: the writer's own store, or the one of the pool to which memory is worth clearly less
 * (eng_worth.c); never of a store that would have less than it is guaranteed then, but the writer's
 * own, when nobody has more.  What stands in a window or slab that is emptied moves; it goes only when
 * there is no other place for it, by the same rule.
 * Never: the entry that the change is made from (keep_off), if there is another way.
 *
 * Each attempt is bounded, and so is their number (ENG_ROOM_TRIES): a write that
 * finds no room says so.
 */
#include "eng.h"
#include <stdio.h>
#include <stdlib.h>
#include "probe.h"
#include "step.h"

enum {
	ENG_FRAGMENTED = 128,
	ENG_GAPS = 256,       /* free pages are joined above this part of a pool */
	ENG_KEEP_TOUCHES = 8, /* of an entry that is not to go, when its policy proposes it */
	ENG_WINDOW_ATTEMPT = 5,
	ENG_VOID_ATTEMPTS = 12,
	ENG_WINDOW_BYTES_PER_PLACE = 64,
};

/* --------------------------------------------------------------------- limbo */

static void room_scan(struct eng *e)
{
	shm_scan_pins(&e->pins, e->ctl, e->scan, e->n_scan, e->may_barrier);
	eng_count(e, SHM_DC_barriers, 1);
}

/* Sweeps one pool.  Then e->scan[].pinned_bytes says who holds how much of it. */
static uint64_t room_sweep_pool(struct eng *e, struct eng_pool *p)
{
	for (uint32_t i = 0; i < e->n_scan; i++)
		e->scan[i].pinned_bytes = 0;
	shm_count(&p->w.entry->counter[SHM_PC_scans], 1);
	uint64_t freed = shm_pool_sweep(&p->w, &e->pins, e->scan);
	if (!e->pins.complete && !e->told_incomplete) {
		e->told_incomplete = true;
		log_warn("a living client relies on membarrier, which this engine may not call: "
			 "memory is not reused before it has ended");
	}
	return freed;
}

/* Rule P13: too much held by one client is taken back.  True: pins were revoked. */
static bool room_revoke(struct eng *e, const struct eng_pool *p)
{
	bool revoked = false;

	for (uint32_t i = 0; i < e->n_scan; i++) {
		/* 53: a client may hold all there is */
		if (e->scan[i].pinned_bytes <= p->limbo_cap_bytes || MUTANT(53))
			continue;
		char why[128];
		(void)snprintf(why, sizeof why,
			"it pins %llu bytes that nothing names any more, more than limbo_cap",
			(unsigned long long)e->scan[i].pinned_bytes);
		eng_session_revoke(&e->session[e->scan_slot[i]], why);
		revoked = true;
	}
	return revoked;
}

uint64_t eng_room_sweep(struct eng *e)
{
	uint64_t freed = 0, began_ns = eng_clock_ns();
	bool revoked = false;

	room_scan(e);
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		struct eng_pool *p = &e->pool[i];
		if (!p->base || p->w.limbo.n == 0)
			continue;
		eng_at(e, i);
		freed += room_sweep_pool(e, p);
		revoked |= room_revoke(e, p);
	}
	if (revoked) { /* their pins count no more: look again, once */
		room_scan(e);
		for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
			if (e->pool[i].base && e->pool[i].w.limbo.n)
				freed += room_sweep_pool(e, &e->pool[i]);
	}
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		e->pool[i].limbo_left = e->pool[i].w.limbo.n;
		e->pool[i].limbo_left_bytes = e->pool[i].w.limbo.bytes;
	}
	if (freed) {
		e->dirty = true;
		STEP("room:swept");
	}
	(void)eng_timed(e, SHM_HG_sweep, began_ns);
	return freed;
}

/* ------------------------------------------------------------------ eviction */

static const enum shm_feed_why feed_why[ENG_LOST_N] = {
	[ENG_LOST_LIMIT] = SHM_FEED_LIMIT,
	[ENG_LOST_PRESSURE] = SHM_FEED_PRESSURE,
	[ENG_LOST_FULL] = SHM_FEED_FULL,
	[ENG_LOST_GIVEN] = SHM_FEED_GIVEN,
	[ENG_LOST_ASIDE] = SHM_FEED_ASIDE,
	[ENG_LOST_SHRUNK] = SHM_FEED_SHRUNK,
	[ENG_LOST_INDEX] = SHM_FEED_INDEX,
};

bool eng_room_remove(struct eng_pool *p, uint64_t off, enum eng_lost how)
{
	enum shm_feed_what what = SHM_FEED_EVICT;
	enum shm_feed_why why = feed_why[how];
	struct shm_changed ch;

	if (eng_store_is_void(p, off))
		what = 0; /* the feed has said that the store was cleared or dropped */
	else if (eng_store_expired(p, off, p->e->now_ns))
		what = SHM_FEED_EXPIRE;
	else if (how == ENG_LOST_DELETED)
		why = SHM_FEED_DAMAGED; /* nobody asked for it */
	why = what == SHM_FEED_EVICT ? why : SHM_FEED_NONE;
	if (shm_pool_unlink_as(&p->w, off, what, why, &ch) != 0)
		return false;
	eng_store_lost(p, &ch, how, p->e->now_ns);
	p->e->dirty = true;
	return true;
}

/* May what takes so many bytes of store s go for a write of `writer`, or for nobody's? */
static bool may_take(const struct eng_store *s, const struct eng_store *writer, uint64_t bytes)
{
	if (s->pol->ops->keeps && !MUTANT(240))
		return false;
	/* 154: guarantees are not looked at */
	return s == writer || eng_store_spare(s) >= bytes || MUTANT(154);
}

/* Which of two stores, both above their guarantees, gives first. */
static bool gives_before(
	const struct eng_pool *p, const struct eng_store *a, const struct eng_store *b)
{
	if (p->pressure == SHM_PRESSURE_HIGH && a->worth != b->worth)
		return a->worth < b->worth;
	if (eng_worth_more(a, b) || eng_worth_more(b, a))
		return eng_worth_more(b, a);
	return eng_store_spare(a) > eng_store_spare(b);
}

/* The store that gives for a write of s: one above its guarantee that is not in `tried`.  NULL: none. */
static struct eng_store *giver(struct eng_pool *p, struct eng_store *s, uint64_t tried)
{
	struct eng_store *best = NULL;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct eng_store *a = &p->e->store[i];
		if (!a->id || a->pool_idx != p->w.pool_idx || (tried >> i & 1) ||
			(eng_store_spare(a) == 0 && !MUTANT(154)))
			continue;
		if (!best || gives_before(p, a, best))
			best = a;
	}
	/* A writer makes room for itself, unless memory is worth more to it than to another. */
	if (s && best && !(tried >> s->idx & 1) && eng_store_spare(s) && !eng_worth_more(s, best))
		return s;
	return best;
}

/* Unlinks victims of s.  writer: who may take below the guarantee.  Returns their bytes.  A void victim
 * is nobody's, and is no victim of a store that has to become smaller. */
static uint64_t evict_from(struct eng_pool *p, struct eng_store *s, const struct eng_store *writer,
	uint64_t want, uint32_t *n, uint32_t most, enum eng_lost why)
{
	uint64_t off, got = 0, now_ms = p->e->now_ns / 1000000;
	uint32_t kept = 0, n_void = 0;

	while (*n < most && got < want && n_void < ENG_VOID_ENTRIES) {
		if (eng_store_victim(p, s, &off) != 0)
			break;
		uint64_t bytes = shm_alloc_place_bytes(p->w.alloc, off);
		bool is_void = eng_store_is_void(p, off);
		if (!is_void && !may_take(s, writer, bytes))
			break;
		if (off == p->keep_off &&
			!MUTANT(501)) { /* 501: a value that grows goes for its own room */
			if (kept++ == ENG_KEEP_TOUCHES)
				break;
			s->pol->ops->touch(s->pol, *shm_alloc_note(p->w.alloc, off), now_ms);
			continue;
		}
		if (!eng_room_remove(p, off, why))
			break; /* no private memory for limbo: nothing can be unlinked now */
		n_void += is_void;
		*n += !is_void;
		got += is_void && s == writer ? 0 : bytes;
	}
	return got;
}

uint32_t eng_room_evict_own(struct eng_pool *p, struct eng_store *s, uint64_t want, uint32_t most)
{
	uint32_t n = 0;

	s->at_limit = true;
	(void)evict_from(p, s, s, want, &n, most, ENG_LOST_LIMIT);
	s->at_limit = false;
	return n;
}

/* Of whichever stores have more than they are guaranteed; last of all of s itself. */
static uint64_t evict_round(struct eng_pool *p, struct eng_store *s, uint64_t want, uint32_t *n,
	uint32_t most, enum eng_lost why)
{
	struct eng_store *from;
	uint64_t got = 0, tried = 0;

	while (got < want && *n < most && (from = giver(p, s, tried)) != NULL) {
		bool given = why == ENG_LOST_FULL && from != s && !MUTANT(321); /* 321: his own */
		got += evict_from(p, from, NULL, want - got, n, most, given ? ENG_LOST_GIVEN : why);
		tried |= 1ull << from->idx;
	}
	if (s && got < want) /* nobody has more than he is guaranteed: the writer's own go */
		got += evict_from(p, s, s, want - got, n, most, why);
	return got;
}

uint64_t eng_room_evict(
	struct eng_pool *p, struct eng_store *s, uint64_t want, uint32_t most, enum eng_lost why)
{
	uint32_t n = 0;
	uint64_t got = evict_round(p, s, want, &n, most, why);

	if (got == 0 && eng_pressure_is_full(p)) {
		p->hard = true;
		got = evict_round(p, s, want, &n, most, why);
		p->hard = false;
	}
	if (n)
		STEP("room:evicted");
	return got;
}

static bool room_evict(struct eng_pool *p, struct eng_store *s, uint64_t want)
{
	if (eng_room_evict(p, s, want, ENG_VICTIMS, ENG_LOST_FULL) == 0 &&
		p->w.limbo.bytes <= p->limbo_left_bytes)
		return false;
	(void)eng_room_sweep(p->e);
	return true;
}

/* ---------------------------------------------------------- compaction, runs */

/* Scratch for n offsets.  False: no memory. */
static bool room_places(struct eng *e, uint64_t n)
{
	if (n <= e->n_places)
		return true;
	if (n > UINT32_MAX)
		return false;
	uint64_t *places = realloc(e->places, n * sizeof *places);
	if (!places)
		return false;
	e->places = places;
	e->n_places = (uint32_t)n;
	return true;
}

/* The entry at off goes to another place; there being none it goes for good, if a write of `writer`
 * may take it. */
static void room_move(struct eng_pool *p, const struct eng_store *writer, uint64_t off)
{
	uint64_t to, bytes = shm_alloc_place_bytes(p->w.alloc, off);

	if (*shm_alloc_note(p->w.alloc, off) == POL_NONE)
		return; /* in limbo already, and pinned */
	if (eng_store_is_void(p, off)) {
		(void)eng_room_remove(p, off, ENG_LOST_ASIDE);
		return;
	}
	struct eng_store *s = eng_store_by_id(p->e, shm_pool_item(&p->w, off)->store_id);
	int r = MUTANT(155) ? POOL_FULL : shm_pool_move(&p->w, off, &to); /* 155: nothing moves */
	if (r == 0)
		eng_store_moved(p, off, to);
	else if (r == POOL_FULL && off != p->keep_off && may_take(s, writer, bytes) &&
		 !eng_store_spares(p, s, off))
		(void)eng_room_remove(p, off, ENG_LOST_ASIDE);
}

/* Moves what a compaction or a join has named. */
static void room_empty(struct eng_pool *p, const struct eng_store *writer, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		room_move(p, writer, p->e->places[i]);
	STEP("room:moved");
	(void)eng_room_sweep(p->e);
	shm_alloc_compact_stop(
		p->w.alloc); /* what is pinned stays, and what is around it goes on */
}

static bool room_compact(struct eng_pool *p, const struct eng_store *writer, uint64_t bytes)
{
	struct eng *e = p->e;

	if (!room_places(e, ENG_COMPACT_PLACES))
		return false;
	uint32_t n = shm_alloc_compact(p->w.alloc, bytes, e->places, ENG_COMPACT_PLACES);
	if (n == 0)
		return false;
	room_empty(p, writer, n);
	return true;
}

/* A size has found no room: are many pages free nevertheless?  They lie apart then, each run too short. */
static bool gapped(const struct eng_pool *p, uint64_t bytes)
{
	struct shm_alloc_stats st;

	shm_alloc_stats(p->w.alloc, &st);
	return st.free_page_bytes > p->bytes / ENG_GAPS + bytes;
}

/* Free pages that lie apart become runs that are long enough. */
static void room_join(struct eng_pool *p, const struct eng_store *writer, uint64_t bytes)
{
	uint64_t most = p->bytes / ENG_ROOM_SHARE;

	most = most < ENG_JOIN_BYTES ? most : ENG_JOIN_BYTES;
	most = most < 2 * bytes ? 2 * bytes
	                        : most; /* a neighbour of its own size, with its rounding */
	for (int i = 0; i < ENG_JOIN_STEPS && room_places(p->e, ENG_COMPACT_PLACES); i++) {
		uint32_t n = shm_alloc_join(
			p->w.alloc, &p->join_at, most, p->e->places, ENG_COMPACT_PLACES);
		if (n == 0)
			break;
		room_empty(p, writer, n);
	}
}

static bool room_window(struct eng_pool *p, const struct eng_store *writer, uint64_t bytes)
{
	struct eng *e = p->e;
	uint64_t max = bytes / ENG_WINDOW_BYTES_PER_PLACE + 2 * SHM_PAGE;

	if (!room_places(e, max) || MUTANT(58)) /* 58: no contiguous room is ever made */
		return false;
	uint32_t n = shm_alloc_window(
		p->w.alloc, bytes, &p->window_cursor, e->places, (uint32_t)max);
	if (n == 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (e->places[i] != p->keep_off)
			room_move(p, writer, e->places[i]);
	STEP("room:windowed");
	(void)eng_room_sweep(e);
	shm_alloc_compact_stop(p->w.alloc); /* open for the take that comes now */
	return true;
}

bool eng_room_window(struct eng_pool *p, uint64_t bytes) { return room_window(p, NULL, bytes); }

bool eng_room_compact(struct eng_pool *p) { return room_compact(p, NULL, 0); }

/* Is much free, but not where it is wanted? */
static bool fragmented(const struct eng_pool *p, uint64_t bytes)
{
	struct shm_alloc_stats st;

	shm_alloc_stats(p->w.alloc, &st);
	return st.free_page_bytes + st.free_place_bytes >
	       p->bytes / ENG_FRAGMENTED + ENG_ROOM_FACTOR * bytes;
}

/* What one barrier and one scan are to bring: they cost tens of microseconds where a
 * processor has to be interrupted, an eviction a fraction of one. */
static uint64_t batch_bytes(const struct eng_pool *p, uint64_t bytes)
{
	uint64_t share = p->bytes / ENG_ROOM_SHARE;

	return share > ENG_ROOM_FACTOR * bytes ? share : ENG_ROOM_FACTOR * bytes;
}

static bool room_try(struct eng_pool *p, struct eng_store *s, uint64_t bytes, uint32_t attempt)
{
	bool large = bytes > p->large_bytes, odd = attempt % 2;

	if (attempt == 0) {
		eng_hint_drain(p->e, ENG_HINT_BLOCKS);
		if (p->w.limbo.bytes >= batch_bytes(p, bytes) / 2 && eng_room_sweep(p->e))
			return true;
	}
	if (!odd && attempt < ENG_VOID_ATTEMPTS && eng_purge_room(p))
		return true;
	if (odd && (large || attempt >= ENG_WINDOW_ATTEMPT) && room_window(p, s, bytes))
		return true;
	if (!large && (odd || fragmented(p, bytes)) && room_compact(p, s, bytes))
		return true;
	bool gaps = gapped(p, bytes);
	if (!room_evict(p, s, large ? bytes : batch_bytes(p, bytes)))
		return false;
	if (gaps && !MUTANT(261) && !MUTANT(58)) /* 261: free pages stay apart */
		room_join(p, s, bytes);
	return true;
}

bool eng_room_make(struct eng_pool *p, struct eng_store *s, uint64_t bytes, uint32_t attempt)
{
	uint64_t began_ns = eng_clock_ns();
	p->write_bytes = bytes;
	bool made = room_try(p, s, bytes, attempt);
	p->write_bytes = 0;
	uint64_t ended_ns = eng_timed(p->e, SHM_HG_room, began_ns);
	eng_slow_room(p->e, ended_ns - began_ns);
	PROBE(room__made, s->idx, bytes, attempt, made, ended_ns - began_ns,
		p->e->ctl->seg.daemon_id);
	return made;
}

/* ---------------------------------------------------------------------- time */

void eng_room_turn(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		const struct eng_pool *p = &e->pool[i];
		if (p->base && p->w.limbo.n >= p->limbo_left + ENG_LIMBO_ENTRIES) {
			(void)eng_room_sweep(e);
			return;
		}
	}
}

/* An index that has to grow and finds no run for its table gets one now and then. */
static bool room_grow(struct eng_pool *p)
{
	uint64_t bytes = shm_pool_grow_wants(&p->w);

	uint64_t write_bytes = p->write_bytes;

	if (!bytes)
		return false;
	p->write_bytes = bytes; /* it is written, too: without it nothing can be */
	p->hard = true;
	if (room_window(p, NULL, bytes))
		(void)shm_pool_grow_step(&p->w, ENG_GROW_CHAINS);
	p->hard = false;
	p->write_bytes = write_bytes;
	return p->w.next.t;
}

bool eng_room_chain(struct eng_pool *p, struct eng_store *s, uint64_t off)
{
	if (room_grow(p))
		return true;
	if (!shm_alloc_is_taken(p->w.alloc, off) || *shm_alloc_note(p->w.alloc, off) == POL_NONE)
		return true; /* the window was where it stood: it has moved */
	struct eng_store *of = eng_store_by_id(p->e, shm_pool_item(&p->w, off)->store_id);
	return may_take(of, s, shm_alloc_place_bytes(p->w.alloc, off)) &&
	       !eng_store_spares(p, of, off) && eng_room_remove(p, off, ENG_LOST_INDEX);
}

void eng_room_tick(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (e->pool[i].base) {
			eng_at(e, i);
			(void)room_grow(&e->pool[i]);
		}
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		if (e->pool[i].base && e->pool[i].w.limbo.n) {
			(void)eng_room_sweep(e);
			return;
		}
	}
}

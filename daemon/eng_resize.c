/* eng_resize.c - how large a pool is while it serves: further regions, and memory that the system gets back.
 *
 *   wanted_bytes      what the configuration says               (control segment; the supervisor stores it)
 *   squeeze_bytes     less, while the system is short of memory (memory_pressure)
 *   total_bytes       what the pool has: all regions without holes
 *
 * Smaller, step by step: free pages become a hole (shm_alloc_hole_make), then the file gives their
 * memory back.  When there are no free pages in a row, entries go by the rules of eng_room.c, and what
 * stands in a stretch of pages moves.  Larger: holes get their memory first, and are pages again.
 *
 * No reader is ever sent into a hole: it was free, so no slot named it and no pin that counts (rule P15,
 * the sweep).  Pins that were revoked do not count, and their reader may be reading still (P12): as long
 * as such a session lives, nothing of a pool that it maps is given back.
 *
 * A reader that looks where it was not sent gets the memory back from the system, of a file of small pages
 * (hugetlb kills it).  It is charged with it, and a tick gives it back again.
 */
#include "eng.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "step.h"

enum {
	STEPS_PER_TURN = 4,     /* holes made or filled */
	TRIES_MAX = 256,        /* turns that made free pages, and somebody else took them */
	SMALL_UNIT = 64 << 10,  /* of base pages, given back so many in a row */
	SMALL_ROOM = 512 << 10, /* and emptied */
	SQUEEZE_STEPS =
		16,      /* parts of a pool that the system's pressure takes one after the other */
	CALM_TICKS = 20, /* without pressure, until it gets one back */
	FLOOR_PART = 7,  /* 7/8 of what is left is for entries: the guarantees */
};

static uint64_t total(const struct eng_pool *p) { return shm_alloc_total_bytes(p->w.alloc); }

static uint64_t target(const struct eng_pool *p)
{
	uint64_t wanted = shm_load_rlx(&p->w.entry->wanted_bytes);

	return p->squeeze_bytes && p->squeeze_bytes < wanted ? p->squeeze_bytes : wanted;
}

/* What is given back at a time: whole pages of what backs the pool, which regions begin with. */
static uint64_t unit(const struct eng_pool *p)
{
	uint64_t page = eng_map_page_bytes(&p->w.entry->region[0]);

	return page > SMALL_UNIT ? page : SMALL_UNIT;
}

/* Gives a stretch back to the system, or (keep) gets memory for it.  0 or -errno. */
static int file_punch(const struct eng_pool *p, uint64_t off, uint64_t bytes, bool fill)
{
	uint32_t r = 0, n = p->n_regions;
	const struct shm_region *g = p->w.entry->region;

	while (r + 1 < n && off >= g[r + 1].base_off)
		r++;
	int fd = p->e->h->region_fd[p->w.pool_idx][r];
	int mode = fill ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	if (MUTANT(160) && !fill) /* 160: only said to be given back */
		return 0;
	return fallocate(fd, mode, (off_t)(off - g[r].base_off), (off_t)bytes) == 0 ? 0 : -errno;
}

static void stuck(struct eng_pool *p, const char *why)
{
	if (p->told_bytes != target(p))
		log_warn("pool %s has %llu KiB and is to have %llu: %s", p->w.entry->name,
			(unsigned long long)(total(p) >> 10), (unsigned long long)(target(p) >> 10),
			why);
	p->told_bytes = target(p);
	p->resize_stuck = true;
}

/* Rule P12: revoked memory is never given back while its reader lives. */
static bool may_punch(struct eng_pool *p)
{
	const struct eng *e = p->e;

	for (uint32_t i = 0; i < e->n_scan; i++) {
		const struct eng_session *s = &e->session[e->scan_slot[i]];
		if (s->revoked && (s->peer.read_pools >> p->w.pool_idx & 1)) {
			stuck(p, "a client whose pins were revoked may still read there: it has to "
				 "end first");
			return false;
		}
	}
	return true;
}

/* ---------------------------------------------------------------------- steps */

/* Free pages become a hole.  1: done; 0: no free stretch; -errno. */
static int hole_step(struct eng_pool *p, uint64_t most)
{
	uint64_t off, bytes;

	shm_pool_change(&p->w);
	int r = shm_alloc_hole_make(p->w.alloc, most, unit(p), &off, &bytes);
	shm_pool_change(&p->w);
	if (r != 0)
		return 0;
	STEP("resize:hole");
	r = file_punch(p, off, bytes, false);
	STEP("resize:punched");
	if (r == 0)
		return 1;
	shm_pool_change(&p->w);
	(void)shm_alloc_hole_fill(p->w.alloc, off, bytes); /* as it was */
	shm_pool_change(&p->w);
	return r;
}

/* Makes free pages in a row, at the cost of entries if it must.  False: it cannot. */
static bool make_free(struct eng_pool *p)
{
	uint64_t page = unit(p), row = page > SMALL_UNIT ? 2 * page - SHM_PAGE : SMALL_ROOM;
	uint64_t spare = shm_alloc_free_bytes(p->w.alloc);
	bool done = false;

	if (spare < 2 * row) {
		eng_hint_drain(p->e, ENG_HINT_BLOCKS);
		done = eng_room_evict(
			       p, NULL, 2 * row - spare, ENG_PRESSURE_VICTIMS, ENG_LOST_SHRUNK) > 0;
	}
	if (p->w.limbo.n)
		done |= eng_room_sweep(p->e) > 0;
	/* First what is free but in pieces, then what is in the way. */
	if (p->resize_tries % 4 && eng_room_compact(p))
		return true;
	return eng_room_window(p, row) || done;
}

static bool shrink(struct eng_pool *p, uint64_t too_much)
{
	if (!may_punch(p))
		return false;
	int r = 1;
	for (int i = 0; i < STEPS_PER_TURN && r == 1 && too_much >= unit(p); i++) {
		uint64_t had = total(p);
		r = hole_step(p, too_much);
		too_much -= had - total(p);
	}
	p->e->dirty = true;
	if (r < 0) {
		stuck(p, strerror(-r));
		return false;
	}
	if (r == 1) {
		p->resize_tries = 0;
		return true;
	}
	if (!make_free(p) || p->resize_tries++ == TRIES_MAX) {
		p->resize_tries = 0;
		stuck(p, "all that is left is guaranteed to its stores, or held by readers");
		return false;
	}
	return true;
}

static bool grow(struct eng_pool *p, uint64_t lacking)
{
	uint64_t off, bytes;

	for (int i = 0; i < STEPS_PER_TURN && lacking; i++) {
		if (shm_alloc_hole_find(p->w.alloc, lacking, unit(p), &off, &bytes) != 0)
			return false; /* there are no holes: the rest is a region that is to come */
		int r = file_punch(p, off, bytes, true);
		STEP("resize:filled");
		if (r < 0) {
			stuck(p, strerror(-r));
			return false;
		}
		shm_pool_change(&p->w);
		r = shm_alloc_hole_fill(p->w.alloc, off, bytes);
		shm_pool_change(&p->w);
		if (r != 0)
			return false;
		lacking -= bytes;
	}
	p->e->dirty = true;
	return true;
}

static bool pool_turn(struct eng_pool *p)
{
	uint64_t has = total(p), to = target(p);

	if (p->resize_stuck)
		return false;
	if (has >= to + unit(p))
		return shrink(p, has - to);
	return has + unit(p) <= to && grow(p, to - has);
}

bool eng_resize_turn(struct eng *e)
{
	bool more = false;

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (e->pool[i].base) {
			eng_at(e, i);
			more |= pool_turn(&e->pool[i]);
		}
	return more;
}

/* ---------------------------------------------------------------------- readers */

/* Bytes that readers hold, of entries that live or not: each once, whoever pins it, and be it a liar. */
static uint64_t pinned(const struct eng *e, const struct eng_pool *p)
{
	uint64_t bytes = 0, last = UINT64_MAX;

	for (uint32_t i = 0; i < e->pins.n; i++) {
		uint64_t where = e->pins.pin[i].where;
		if (where == last || shm_word_low(where) != p->w.pool_idx ||
			!shm_alloc_is_taken(p->w.alloc, shm_word_off(where)))
			continue;
		last = where;
		bytes += shm_alloc_place_bytes(p->w.alloc, shm_word_off(where));
	}
	return bytes;
}

bool eng_resize_possible(
	struct eng *e, const struct config *next, uint32_t *ret_pool, uint64_t *ret_bytes)
{
	bool scanned = false;

	for (uint32_t i = 0; i < next->n_pools; i++) {
		const struct eng_pool *p = &e->pool[i];
		uint64_t bytes = next->pool[i].size_bytes;
		if (!p->base || bytes >= e->config->pool[i].size_bytes)
			continue;
		if (!scanned)
			shm_scan_pins(&e->pins, e->ctl, e->scan, e->n_scan, e->may_barrier);
		scanned = true;
		uint64_t held = pinned(e, p) +
		                shm_load_rlx(&p->w.entry->counter[SHM_PC_index_bytes]);
		if (held <= bytes - bytes / SUP_SHRINK_PART || MUTANT(274)) /* 274: let them */
			continue;
		*ret_pool = i;
		*ret_bytes = held;
		return false;
	}
	return true;
}

/* -------------------------------------------------------------------- regions */

void eng_resize_region(struct eng *e, uint32_t pool_idx, uint64_t region_idx, int fd)
{
	struct eng_pool *p = pool_idx < SHM_POOLS_MAX ? &e->pool[pool_idx] : NULL;

	if (p && pool_idx >= e->config->n_pools && region_idx == 0 && fd >= 0) {
		eng_pool_forget(e, pool_idx); /* what came for a change that did not */
		e->h->region_fd[pool_idx][0] = fd;
		return;
	}
	if (!p || !p->base || fd < 0 || region_idx != p->n_regions ||
		region_idx >= SHM_REGIONS_MAX) {
		log_warn("the supervisor sent a region that fits no pool");
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	const struct shm_region *g = &p->w.entry->region[region_idx];
	int r = eng_map_region(g, fd, p->base);
	if (r == 0 && e->config->hardening == CONFIG_HARDENING_STRICT)
		r = fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0 ? 0 : -errno;
	STEP("resize:mapped");
	if (r == 0)
		r = shm_pool_add_region(&p->w, (uint32_t)region_idx);
	if (r < 0) { /* the next engine has it in its heritage */
		log_warn(
			"pool %s: a new region cannot be used: %s", p->w.entry->name, strerror(-r));
		(void)close(fd);
		return;
	}
	e->h->region_fd[pool_idx][region_idx] = fd;
	p->n_regions++;
	p->bytes += g->bytes;
	e->dirty = true;
	STEP("resize:added");
	log_info(
		"pool %s has %llu MiB now", p->w.entry->name, (unsigned long long)(total(p) >> 20));
}

/* ----------------------------------------------------------------------- time */

static void punch_all(struct eng_pool *p)
{
	uint64_t off, bytes, from = 0;

	while (shm_alloc_hole_next(p->w.alloc, from, &off, &bytes)) {
		(void)file_punch(p, off, bytes, false);
		from = off + bytes;
	}
}

void eng_resize_adopted(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (e->pool[i].base)
			punch_all(&e->pool[i]);
}

/* Does the pool's file hold more than the pool has? */
static bool was_touched(const struct eng_pool *p)
{
	uint64_t has = 0;
	struct stat st;

	for (uint32_t r = 0; r < p->n_regions; r++)
		if (fstat(p->e->h->region_fd[p->w.pool_idx][r], &st) == 0)
			has += (uint64_t)st.st_blocks * 512;
	return has > total(p);
}

/* What the guarantees of its stores leave the pool at least. */
static uint64_t floor_of(const struct eng_pool *p)
{
	uint64_t promised = 0;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (p->e->store[i].id && p->e->store[i].pool_idx == p->w.pool_idx)
			promised += shm_load_rlx(&p->e->store[i].entry->guaranteed_bytes);
	return promised + promised / FLOOR_PART;
}

/* One step less, or one more again. */
static void squeeze(struct eng_pool *p, bool more)
{
	uint64_t wanted = shm_load_rlx(&p->w.entry->wanted_bytes), step = wanted / SQUEEZE_STEPS;
	uint64_t is = target(p), least = MUTANT(275) ? 0 : floor_of(p); /* 275: whatever it takes */

	if (least < step)
		least = step;
	if (more) {
		p->squeeze_bytes = is + step < wanted ? is + step : 0;
		return;
	}
	uint64_t to = is > step && is - step > least ? is - step : least;
	if (to >= is)
		return;
	p->squeeze_bytes = to;
	shm_count(&p->w.entry->counter[SHM_PC_squeezes], 1);
}

/* The system's pressure in millionths, as the file of memory_pressure says: "some avg10=1.23 ..." of
 * the kernel, or a number of per cent.  False: it says something else, or there is none. */
static bool pressure_read(struct eng *e, uint64_t *ret_ppm)
{
	char text[256], *at, *end;
	ssize_t n = e->h->pressure_fd < 0 ? 0 : pread(e->h->pressure_fd, text, sizeof text - 1, 0);

	if (n <= 0)
		return false;
	text[n] = 0;
	at = strstr(text, "avg10=");
	at = at ? at + strlen("avg10=") : text;
	double percent = strtod(at, &end);
	if (end == at ||
		(!(percent >= 0 && percent <= 100) && !MUTANT(276))) { /* 276: any number */
		if (!e->told_pressure)
			log_warn(
				"memory_pressure: the file says neither avg10= nor a number of per "
				"cent");
		e->told_pressure = true;
		return false;
	}
	*ret_ppm = (uint64_t)(percent * 10000);
	return true;
}

void eng_resize_tick(struct eng *e)
{
	uint64_t ppm = 0;
	bool known = pressure_read(e, &ppm),
	     high = known && ppm >= e->config->memory_pressure_at_ppm;

	e->calm_ticks = known && ppm > e->config->memory_pressure_at_ppm / 2 ? 0
	                                                                     : e->calm_ticks + 1;
	bool calm = e->calm_ticks >= CALM_TICKS;
	if (calm)
		e->calm_ticks = 0;
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		struct eng_pool *p = &e->pool[i];
		if (!p->base)
			continue;
		p->resize_stuck = false; /* another try */
		if (high && total(p) < target(p) + 2 * unit(p))
			squeeze(p, false);
		else if (calm && p->squeeze_bytes)
			squeeze(p, true);
		if (was_touched(p))
			punch_all(p);
	}
}

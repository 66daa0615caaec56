/* eng_curve.c - how often would each store miss with less memory, and with more?
 *
 * What the engine learns of uses goes to miniatures of the store (pol_curve.h): hints are hits, new keys are
 * misses that were made good, overwrites are no reads.  Each tick the result goes to the control segment, for
 * whoever asks, so that a tool needs no engine.
 *
 * What it does not learn of, and how that is made up for:
 *   - hits of a key that was hit a moment ago leave no hint: they are hits with any memory.  So the misses
 *     are compared with all reads that the clients have counted (eng_recent.c).  The same is assumed of those
 *     that left none because a ring was full, which flatters: `hits_told` says how many were told of.
 *   - a miss whose key is not set then is a miss with any memory: misses counted, less keys inserted
 *   - a key that is written without having been missed is no read: of keys inserted, the part that was missed
 *
 * "The memory" is what the store may take: its own limit; else what it has, and what it could still get before
 * the pool evicts.  Miniatures begin empty, as a store does; a new engine's know what is there.  Counts become
 * half of what they were from time to time, so the curve follows the load.
 *
 * A store that evicts nothing has none.  For auto, the policy chosen is simulated; a change begins anew.
 */
#include "eng.h"
#include <stdlib.h>
#include "pol_auto.h"
#include "pol_curve.h"
#include "step.h"

enum {
	CURVE_KEYS_MIN = 1024,
	CURVE_KEYS_MAX = 16384,
	CURVE_POOL_BYTES = 8192, /* of the pool for each key */
	CURVE_HALF_S = 300,      /* after so long, */
	CURVE_HALF_USES = 10000, /* and so many uses, counts are halved */
};

struct eng_curve {
	struct pol_curve c;
	bool by_entries;             /* each entry counts as one unit of memory */
	uint64_t epoch;              /* of the store's last clear */
	uint64_t half_ns;            /* when counts were last halved */
	uint64_t hits, misses;       /* reads, as the counts */
	bool based;                  /* false: a new engine has not read them yet */
	uint64_t hits_at, misses_at; /* the clients' counts at the last tick */
};

/* The policy to simulate; NULL: none. */
static const struct pol_ops *simulated(const struct eng_store *s)
{
	struct pol_auto_say say;

	if (s->pol->ops->keeps)
		return NULL;
	if (s->pol->ops != &pol_auto)
		return s->pol->ops;
	pol_auto_say(s->pol, &say);
	return pol_find(say.name[say.choice]);
}

void eng_curve_end(struct eng_store *s)
{
	if (!s->curve)
		return;
	pol_curve_fini(&s->curve->c);
	free(s->curve);
	s->curve = NULL;
}

/* The memory that the store may take, in SHM_UNIT; or entries. */
static uint64_t memory_of(const struct eng_pool *p, const struct eng_store *s, bool by_entries)
{
	uint64_t limit = shm_load_rlx(&s->entry->limit_bytes);
	uint64_t has = shm_load_rlx(&s->entry->counter[SHM_SC_place_bytes]);

	if (by_entries)
		return shm_load_rlx(&s->entry->limit_entries);
	return (limit ? limit : has + eng_pressure_room(p)) / SHM_UNIT;
}

static void curve_begin(struct eng_pool *p, struct eng_store *s)
{
	const struct pol_ops *ops = simulated(s);
	uint64_t keys = p->bytes / CURVE_POOL_BYTES;

	keys = keys < CURVE_KEYS_MIN ? CURVE_KEYS_MIN : keys;
	keys = keys > CURVE_KEYS_MAX ? CURVE_KEYS_MAX : keys;
	const struct config_store *is = eng_config_store(p->e->config, s->id);
	struct eng_curve *c = ops && is ? calloc(1, sizeof *c) : NULL;
	if (!c)
		return;
	const struct pol_values values = config_params_values(is);
	if (pol_curve_init(&c->c, ops, ops == s->pol->ops ? &values : NULL, (uint32_t)keys) < 0) {
		free(c);
		return;
	}
	c->by_entries = shm_load_rlx(&s->entry->limit_entries) != 0;
	c->epoch = shm_load_rlx(&s->entry->epoch);
	c->half_ns = p->e->now_ns;
	c->based = p->e->recent.n > 0;
	eng_recent_reads(p->e, s->idx, &c->hits_at, &c->misses_at);
	pol_shadow_resize(&c->c.shadow, memory_of(p, s, c->by_entries), p->e->now_ns / 1000000);
	s->curve = c;
}

void eng_curve_use(struct eng_pool *p, struct eng_store *s, enum pol_shadow_use use, uint64_t off,
	uint64_t now_ms)
{
	const struct shm_item *it = shm_pool_item(&p->w, off);
	uint32_t fp = (uint32_t)(it->hash >> 16);

	shm_count(&s->entry->counter[SHM_SC_hits_told], use == POL_SHADOW_HIT);
	if (!s->what_if)
		return;
	if (!s->curve)
		curve_begin(p, s);
	struct eng_curve *c = s->curve;
	if (!c || MUTANT(316)) /* 316: nobody learns of uses */
		return;
	uint64_t bytes = 0;
	if (pol_shadow_samples(&c->c.shadow, fp))
		bytes = c->by_entries ? SHM_UNIT : shm_alloc_place_bytes(p->w.alloc, off);
	pol_curve_use(&c->c, use, fp, bytes, 1, shm_load_rlx(&it->expiry_ns) / 1000000, now_ms);
}

void eng_curve_gone(struct eng_pool *p, struct eng_store *s, uint64_t off)
{
	uint32_t fp = (uint32_t)(shm_pool_item(&p->w, off)->hash >> 16);

	if (s->curve && pol_shadow_samples(&s->curve->c.shadow, fp))
		pol_shadow_forget(&s->curve->c.shadow, fp);
}

/* ------------------------------------------------------------ what is said */

/* Reads, and what share i would have missed of them, 0..1. */
static double misses_of(const struct eng_curve *c, int i)
{
	const struct pol_shadow_mini *m = &c->c.shadow.mini[i];
	double reads = (double)(c->hits + c->misses), inserts = (double)c->c.inserts;
	double misses = (double)c->misses;
	double made_good = inserts > misses ? misses / inserts
	                                    : 1; /* the part of inserts that was missed */
	double left = misses > inserts ? misses - inserts : 0;
	double missed = (double)m->missed[POL_SHADOW_HIT] + left +
	                (double)m->missed[POL_SHADOW_INSERT] * made_good;

	return reads == 0 ? 0 : missed < reads ? missed / reads : 1;
}

/* A part, 0..1, in 1/65535. */
static uint32_t half(double part) { return (uint32_t)(part * UINT16_MAX + 0.5); }

static void publish(struct eng *e, const struct eng_store *s)
{
	const struct eng_curve *c = s->curve;
	struct shm_curve *to = &e->ctl->curve[s->idx];
	shm_u64 *counter = s->entry->counter;

	for (int i = 0; c && i < SHM_CURVE_SIZES; i += 2) {
		double next = i + 1 < SHM_CURVE_SIZES ? misses_of(c, i + 1)
		                                      : pol_curve_error(&c->c);
		shm_store32_rlx(&to->part[i / 2], half(misses_of(c, i)) | half(next) << 16);
	}
	shm_store32_rlx(&to->rate, c ? c->c.shadow.rate : 0);
	uint64_t units = c ? c->c.shadow.units : 0;
	shm_store_rlx(&counter[SHM_SC_curve_bytes], c && !c->by_entries ? units * SHM_UNIT : 0);
	shm_store_rlx(&counter[SHM_SC_curve_entries], c && c->by_entries ? units : 0);
	shm_store_rlx(&counter[SHM_SC_curve_reads], c ? c->hits + c->misses : 0);
	shm_store_rlx(&counter[SHM_SC_curve_hits], c ? c->hits : 0);
	shm_store_rlx(&counter[SHM_SC_curve_keys], c ? c->c.shadow.n_keys : 0);
	shm_store_rlx(&counter[SHM_SC_curve_own_bytes],
		c ? sizeof *c + pol_shadow_bytes(&c->c.shadow) : 0);
}

static void publish_auto(const struct eng_store *s)
{
	static const enum shm_store_counter misses[POL_AUTO_CANDIDATES] = {
		SHM_SC_auto_w_tinylfu, SHM_SC_auto_s3_fifo, SHM_SC_auto_lru, SHM_SC_auto_lfu};
	shm_u64 *counter = s->entry->counter;
	struct pol_auto_say say;

	if (s->pol->ops != &pol_auto)
		return;
	pol_auto_say(s->pol, &say);
	shm_store_rlx(&counter[SHM_SC_auto_choice], say.choice + 1);
	shm_store_rlx(&counter[SHM_SC_auto_changes], say.switches);
	shm_store_rlx(&counter[SHM_SC_auto_own_bytes], say.shadow_bytes);
	for (int i = 0; i < POL_AUTO_CANDIDATES; i++)
		shm_store_rlx(&counter[misses[i]],
			say.misses[i] < 0 ? 0 : (uint64_t)(say.misses[i] * 1e6 + 0.5));
}

/* ------------------------------------------------------------ time */

/* Adds what clients have read since the last tick.  Who counts downwards counts as nothing. */
static void reads_take(struct eng *e, const struct eng_store *s)
{
	struct eng_curve *c = s->curve;
	uint64_t hits, misses;

	eng_recent_reads(e, s->idx, &hits, &misses);
	if (c->based) {
		c->hits += hits > c->hits_at ? hits - c->hits_at : 0;
		c->misses += misses > c->misses_at ? misses - c->misses_at : 0;
	}
	c->based = e->recent.n > 0;
	c->hits_at = hits;
	c->misses_at = misses;
}

static void curve_tick(struct eng *e, struct eng_store *s)
{
	struct eng_curve *c = s->curve;
	uint64_t epoch = shm_load_rlx(&s->entry->epoch);

	if (!s->what_if || c->c.shadow.mini[0].ops != simulated(s) ||
		c->by_entries != (shm_load_rlx(&s->entry->limit_entries) != 0)) {
		eng_curve_end(s);
		return;
	}
	if (epoch != c->epoch)
		pol_shadow_clear(&c->c.shadow);
	c->epoch = epoch;
	pol_shadow_resize(&c->c.shadow, memory_of(&e->pool[s->pool_idx], s, c->by_entries),
		e->now_ns / 1000000);
	reads_take(e, s);
	if (e->now_ns - c->half_ns > CURVE_HALF_S * ENG_NS_PER_S &&
		c->hits + c->misses > CURVE_HALF_USES) {
		pol_curve_fade(&c->c);
		c->hits /= 2;
		c->misses /= 2;
		c->half_ns = e->now_ns;
	}
}

void eng_curve_tick(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct eng_store *s = &e->store[i];
		if (!s->id || s->dropped)
			continue;
		if (s->curve)
			curve_tick(e, s);
		publish(e, s);
		publish_auto(s);
	}
}

/* eng_worth.c - what more memory would be worth to a store.
 *
 *   evicted for want of room    a fingerprint to the store's ghost queue
 *   written again soon after    regret: with more memory this key would have been there
 *   a tick                      worth = regret for each page that the ghost stands for
 *
 * The ghost stands for as many bytes as the store has, at least for 1/WORTH_COVER of the pool: so much
 * more memory it would have taken to keep what the ghost remembers.  Hits within it are the hits that lie
 * just behind the store's tail, whatever its policy is; the policies' own ghosts serve their own ends.
 *
 * A key that comes back counts only as far as readers have missed something lately (eng_recent.c): who writes
 * the same keys again and again without ever reading them has no use for memory.
 *
 * A sample does: one of WORTH_SAMPLE keys, by its hash.  2 to 4 bytes for each entry that the ghost
 * stands for.  Without memory for them the worth is 0, and others take what is not guaranteed.
 */
#include "eng.h"
#include "step.h"

enum {
	WORTH_SAMPLE = 8, /* one key of so many is remembered */
	WORTH_COVER = 16, /* the ghost stands for this part of the pool at least */
	WORTH_ONE = 1 << 20,
	WORTH_TICKS = 4,  /* worth is the mean of about so many */
	WORTH_LEAST = 64, /* differences below it are chance */
};

/* Neither the bits of the index's buckets nor those of its tags. */
static bool in_sample(uint64_t hash) { return (hash >> 16) % WORTH_SAMPLE == 0; }

static uint32_t fingerprint(uint64_t hash) { return (uint32_t)(hash >> 24); }

void eng_worth_evicted(struct eng_store *s, uint64_t hash)
{
	if (in_sample(hash))
		pol_ghost_add(&s->ghost, fingerprint(hash), s->ghost_limit);
}

void eng_worth_written(struct eng_store *s, uint64_t hash)
{
	if (in_sample(hash) && pol_ghost_take(&s->ghost, fingerprint(hash)))
		s->regret += WORTH_SAMPLE;
}

/* What came back since the last tick, and would have been hits: no more than is missed in a tick, lately. */
static uint64_t regret(const struct eng *e, struct eng_store *s)
{
	uint64_t missed = shm_load_rlx(&s->entry->counter[SHM_SC_misses_10s]), back = s->regret;

	s->regret = 0;
	missed = missed / 10 * (e->config->heartbeat_ns / 1000000) / 1000;
	/* 273: what is only written has its worth too */
	return back < missed || MUTANT(273) ? back : missed;
}

static void weigh(const struct eng *e, struct eng_store *s)
{
	uint64_t has = shm_load_rlx(&s->entry->counter[SHM_SC_place_bytes]);
	uint64_t n = shm_load_rlx(&s->entry->counter[SHM_SC_entries]);
	uint64_t cover = shm_alloc_total_bytes(e->pool[s->pool_idx].w.alloc) / WORTH_COVER;

	if (cover < has)
		cover = has;
	if (n && has)
		s->ghost_limit = cover / (has / n + 1) / WORTH_SAMPLE;
	uint64_t now = regret(e, s) * WORTH_ONE / (cover / SHM_PAGE + 1);
	s->worth = s->worth - s->worth / WORTH_TICKS + now / WORTH_TICKS;
}

void eng_worth_tick(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (e->store[i].id)
			weigh(e, &e->store[i]);
}

bool eng_worth_more(const struct eng_store *a, const struct eng_store *b)
{
	if (MUTANT(270)) /* 270: memory is worth the same to all */
		return false;
	if (MUTANT(271)) /* 271: any difference counts */
		return a->worth > b->worth;
	return a->worth > 2 * b->worth + WORTH_LEAST;
}

/* eng_recent.c - how much of each store's counting was done lately: the last second, ten, sixty.
 *
 *   tick    a second after the last one a sample begins
 *   turn    a part of the sessions is added up                     (reads are counted in their segments)
 *   end     the sums go to a ring, and their differences to the gauges of the store
 *
 * A session that ends in the middle of a sample takes its counts with it, to the totals: the sample begins
 * again, so that nothing is counted twice.  Who counts downwards (only a liar can) counts as nothing.
 *
 * The ring is the engine's own.  A new engine's first sample is the one before all others, so what happened
 * before it is not in the gauges: "the last minute" begins with the engine.
 */
#include "eng.h"
#include <string.h>
#include "step.h"

#define EARLY_NS (ENG_NS_PER_S / 20) /* ticks are never on the nanosecond */

/* X(which, seconds): a gauge WHICH_SECONDSs of the store, from the sums of WHICH. */
#define RECENT_GAUGES(X) \
	X(hits, 1) \
	X(misses, 1) \
	X(hits, 10) \
	X(misses, 10) \
	X(hits, 60) \
	X(misses, 60) \
	X(evicted, 60) \
	X(evicted_limit, 60) \
	X(refused_full, 60)

static const struct {
	enum shm_store_counter gauge;
	enum eng_recent_of of;
	uint32_t seconds;
} gauges[] = {
#define GAUGE_ROW_(which, n) {SHM_SC_##which##_##n##s, ENG_RECENT_##which, n},
	RECENT_GAUGES(GAUGE_ROW_)};

/* The number of the newest sample that is at least so old; the oldest one if there is none. */
static uint64_t sample_before(const struct eng_recent *r, uint64_t ns)
{
	uint64_t now = r->n - 1, first = r->n > ENG_RECENT_SAMPLES ? r->n - ENG_RECENT_SAMPLES : 0;
	uint64_t i = now;

	while (i > first &&
		r->at_ns[now % ENG_RECENT_SAMPLES] - r->at_ns[i % ENG_RECENT_SAMPLES] < ns)
		i--;
	return i % ENG_RECENT_SAMPLES;
}

static void store_publish(struct eng_recent *r, struct eng_store *s)
{
	struct eng_recent_store *rs = &r->store[s->idx];
	const uint64_t *now = rs->sample[(r->n - 1) % ENG_RECENT_SAMPLES];

	for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
		/* 322: windows have no end */
		uint64_t ns = MUTANT(322) ? UINT64_MAX
		                          : gauges[i].seconds * ENG_NS_PER_S - EARLY_NS;
		const uint64_t *then = rs->sample[sample_before(r, ns)];
		uint64_t grown = now[gauges[i].of] - then[gauges[i].of];
		shm_store_rlx(&s->entry->counter[gauges[i].gauge], (int64_t)grown > 0 ? grown : 0);
	}
}

static void store_sample(struct eng_recent *r, const struct eng_store *s, bool first)
{
	struct eng_recent_store *rs = &r->store[s->idx];
	const shm_u64 *c = s->entry->counter;
	uint64_t *to = rs->sample[r->n % ENG_RECENT_SAMPLES];

	to[ENG_RECENT_hits] = rs->hits + shm_load_rlx(&c[SHM_SC_folded_hits]);
	to[ENG_RECENT_misses] = rs->misses + shm_load_rlx(&c[SHM_SC_folded_misses]);
	to[ENG_RECENT_evicted] = shm_load_rlx(&c[SHM_SC_evicted]);
	to[ENG_RECENT_evicted_limit] = shm_load_rlx(&c[SHM_SC_evicted_limit]);
	to[ENG_RECENT_refused_full] = shm_load_rlx(&c[SHM_SC_refused_full]);
	for (uint32_t i = 1; first && i < ENG_RECENT_SAMPLES; i++)
		memcpy(rs->sample[i], rs->sample[0], sizeof rs->sample[0]);
}

/* All sessions are added up. */
static void sample_end(struct eng *e)
{
	struct eng_recent *r = &e->recent;

	r->running = false;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (e->store[i].id)
			store_sample(r, &e->store[i], r->n == 0);
	r->at_ns[r->n % ENG_RECENT_SAMPLES] = r->began_ns;
	r->n++;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (e->store[i].id)
			store_publish(r, &e->store[i]);
}

static void sample_begin(struct eng *e)
{
	e->recent.running = true;
	e->recent.pos = 0;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		e->recent.store[i].hits = e->recent.store[i].misses = 0;
}

void eng_recent_again(struct eng *e)
{
	if (e->recent.running && !MUTANT(323)) /* 323: a sample counts it twice */
		sample_begin(e);
}

void eng_recent_store_begins(struct eng *e, uint32_t i)
{
	eng_recent_again(e); /* what is being added up may be of the former store there */
	memset(&e->recent.store[i], 0, sizeof e->recent.store[i]);
}

void eng_recent_tick(struct eng *e)
{
	struct eng_recent *r = &e->recent;

	if (r->running || (r->n && e->now_ns - r->began_ns < ENG_NS_PER_S - EARLY_NS))
		return;
	r->began_ns = e->now_ns;
	sample_begin(e);
}

void eng_recent_reads(const struct eng *e, uint32_t i, uint64_t *ret_hits, uint64_t *ret_misses)
{
	const struct eng_recent *r = &e->recent;
	const uint64_t *last = r->store[i].sample[(r->n ? r->n - 1 : 0) % ENG_RECENT_SAMPLES];

	*ret_hits = last[ENG_RECENT_hits];
	*ret_misses = last[ENG_RECENT_misses];
}

void eng_recent_start(struct eng *e)
{
	eng_recent_tick(e);
	while (eng_recent_turn(e))
		;
}

bool eng_recent_turn(struct eng *e)
{
	struct eng_recent *r = &e->recent;
	uint32_t looked = 0;

	if (!r->running)
		return false;
	for (; r->pos < e->n_scan && looked < ENG_RECENT_BLOCKS; r->pos++) {
		const struct eng_session *s = &e->session[e->scan_slot[r->pos]];
		uint32_t n = shm_load32_rlx(&s->seg->blocks_used);
		n = n < s->n_blocks ? n : s->n_blocks;
		for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
			struct eng_reads reads;
			if (!e->store[i].id)
				continue;
			eng_fold_reads(s, n, i, &reads);
			r->store[i].hits += reads.hits;
			r->store[i].misses += reads.misses;
		}
		looked += 1 + n;
	}
	if (r->pos >= e->n_scan)
		sample_end(e);
	return r->running;
}

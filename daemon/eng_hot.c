/* eng_hot.c - the most read keys of each store.
 *
 * Readers tell of their hits by hints (eng_hint.c), each of which stands for one or some; what a reader's ring had no room
 * for he counts (hints_left_out), and the hints of the same drain stand for it too.  So the weights of a store
 * add up to about its hits, whoever read them, and topk.h finds the keys that have most.
 *
 * Each second a part fades, half of it in HOT_HALF_S, and what is left is written into the pools (l_pool.h), from where
 * tools take it without asking anybody.  A key is known by its hash, so it stays what it is when it is
 * overwritten, deleted and set again.  A new engine goes on from what the last one has written.
 *
 * What a hostile client can do: claim that it reads a key which it may read as often as a thread that does nothing
 * else could (HOT_READS_MS), with each of its blocks.  It could do so without a lie as well.
 */
#include "eng.h"
#include <math.h>
#include <stdlib.h>
#include "hot.h"
#include "step.h"
#include "topk.h"

enum {
	HOT_HALF_S = 30,
	HOT_READS_MS = 100000, /* of one thread, at most: ten nanoseconds each */
	HOT_HINT_HITS = 8,     /* that one hint may stand for, as in hc_read.c */
};
#define HOT_HITS_MIN 1      /* fewer are forgotten */
#define HOT_HITS_MAX 0x1p48 /* of a store, taken over */

static struct shm_pool *header_of(const struct eng_pool *p)
{
	return (struct shm_pool *)(void *)p->base;
}

uint32_t eng_hot_hits(uint64_t word)
{
	uint64_t hits = shm_word_top(word);

	if (MUTANT(822)) /* 822: what a hint says is believed */
		return hits ? (uint32_t)hits : 1;
	return hits == 0 ? 1 : hits < HOT_HINT_HITS ? (uint32_t)hits : HOT_HINT_HITS;
}

double eng_hot_scale(struct eng_session *s, uint32_t idx, uint64_t hits, uint64_t now_ms)
{
	const struct shm_block *b = (const struct shm_block *)(const void *)(s->seg + 1) + idx;
	uint64_t left_out = shm_load_rlx(&b->counter[SHM_BC_hints_left_out]);
	uint64_t n = left_out - s->hot_left_out[idx], since_ms = now_ms - s->hot_ms[idx];
	uint64_t most = (since_ms < UINT32_MAX ? since_ms : UINT32_MAX) * HOT_READS_MS;

	s->hot_left_out[idx] = left_out;
	s->hot_ms[idx] = now_ms;
	if (n > most && !MUTANT(823)) /* 823: a client may say any number */
		n = most;
	return hits && !MUTANT(824) ? 1 + (double)n / (double)hits : 1; /* 824: only hints count */
}

/* As the last engine has left it. */
static void hot_take_over(struct eng_pool *p, struct eng_store *s)
{
	const struct shm_hot *hot = header_of(p)->hot;
	double hits = (double)shm_load_rlx(&s->entry->counter[SHM_SC_hot_hits]);

	if (hits > HOT_HITS_MAX || MUTANT(827)) /* 827: a new engine knows nothing */
		return;
	s->hot->total = hits;
	double noise = 2e-6 * hits * (double)shm_load_rlx(&s->entry->counter[SHM_SC_hot_noise]);
	s->hot->variance = noise * noise;
	for (uint32_t i = 0; i < SHM_HOT_KEYS; i++) {
		uint32_t over = shm_load32_rlx(&hot[i].over);
		double least = hits * shm_hot_share_of(shm_load32_rlx(&hot[i].share));
		double more = hits * shm_hot_over_of(over);
		if ((over & SHM_HOT_STORE_MASK) == s->idx + 1)
			topk_seed(s->hot, shm_load_rlx(&hot[i].hash), least + more, more);
	}
}

void eng_hot_hit(
	struct eng_pool *p, struct eng_store *s, uint64_t hash, uint32_t hits, double scale)
{
	if (!s->hot) {
		s->hot = calloc(1, sizeof *s->hot);
		if (!s->hot)
			return; /* the next one tries again */
		hot_take_over(p, s);
	}
	topk_add(s->hot, hash, hits, scale);
}

void eng_hot_end(struct eng_store *s)
{
	free(s->hot);
	s->hot = NULL;
}

/* ------------------------------------------------------------ what is said */

static uint64_t ppm(double part) { return (uint64_t)(part * 1e6 + 0.5); }

static void store_numbers(const struct eng_store *s)
{
	shm_u64 *counter = s->entry->counter;
	const struct topk *t = s->hot;

	shm_store_rlx(&counter[SHM_SC_hot_hits], (uint64_t)t->total);
	shm_store_rlx(&counter[SHM_SC_hot_rest], t->total > 0 ? ppm(topk_rest(t) / t->total) : 0);
	shm_store_rlx(&counter[SHM_SC_hot_noise], ppm(topk_noise(t)));
}

/* At most n keys.  How many. */
static uint32_t store_publish(struct shm_hot *to, uint32_t n, const struct eng_store *s)
{
	const struct topk *t = s->hot;
	uint16_t first[SHM_HOT_STORE_KEYS];

	n = topk_first(t, n, first);
	for (uint32_t i = 0; i < n; i++) {
		const struct topk_key *k = &t->key[first[i]];
		shm_store_rlx(&to[i].hash, k->hash);
		shm_store32_rlx(&to[i].share, shm_hot_share((k->count - k->over) / t->total));
		shm_store32_rlx(&to[i].over, shm_hot_over(k->over / t->total, s->idx));
	}
	return n;
}

static bool store_is_of(const struct eng_store *s, uint32_t pool_idx)
{
	return s->id && !s->dropped && s->pool_idx == pool_idx && s->hot && s->hot->total > 0;
}

static void pool_publish(struct eng *e, uint32_t pool_idx)
{
	struct shm_pool *to = header_of(&e->pool[pool_idx]);
	uint32_t n_stores = 0, n = 0;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		n_stores += store_is_of(&e->store[i], pool_idx);
	if (n_stores == 0 && e->pool[pool_idx].n_hot == 0)
		return;
	uint32_t each = n_stores ? SHM_HOT_KEYS / n_stores : 0;
	each = each < SHM_HOT_STORE_KEYS ? each : SHM_HOT_STORE_KEYS;
	shm_hot_begin(to);
	STEP("hot:begun");
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		if (!store_is_of(&e->store[i], pool_idx))
			continue;
		n += store_publish(to->hot + n, each, &e->store[i]);
		store_numbers(&e->store[i]);
	}
	e->pool[pool_idx].n_hot = n;
	for (; n < SHM_HOT_KEYS; n++)
		shm_store32_rlx(&to->hot[n].over, 0);
	shm_hot_end(to);
}

/* ------------------------------------------------------------ time */

static void pool_fade(struct eng *e, uint32_t pool_idx, double part)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct eng_store *s = &e->store[i];
		if (!store_is_of(s, pool_idx))
			continue;
		topk_fade(s->hot, MUTANT(825) ? 1 : part); /* 825: for ever */
		if (s->hot->total >= HOT_HITS_MIN)
			continue;
		s->hot->total = 0;
		store_numbers(s);
		eng_hot_end(s);
	}
}

void eng_hot_tick(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		struct eng_pool *p = &e->pool[i];
		if (!p->base || e->now_ns - p->hot_ns < ENG_NS_PER_S * 9 / 10)
			continue;
		eng_at(e, i);
		if (p->hot_ns)
			pool_fade(e, i, exp2(-(double)(e->now_ns - p->hot_ns) / 1e9 / HOT_HALF_S));
		p->hot_ns = e->now_ns;
		pool_publish(e, i);
		return; /* the next one, at the next tick */
	}
}

/* topk.c - see topk.h. */
#include "topk.h"
#include <math.h>
#include <stdlib.h>
#include "base/check.h"
#include "step.h"

static uint16_t *chain_of(struct topk *t, uint64_t hash)
{
	return &t->cell[(hash >> 20) %
			TOPK_CELLS]; /* low bits are tags, high ones buckets: as good as others */
}

static struct topk_key *find(struct topk *t, uint64_t hash)
{
	for (uint16_t i = *chain_of(t, hash); i; i = t->key[i - 1].next)
		if (t->key[i - 1].hash == hash)
			return &t->key[i - 1];
	return NULL;
}

static void put(struct topk *t, uint32_t pos, uint16_t idx)
{
	t->heap[pos] = idx;
	t->key[idx].pos = (uint16_t)pos;
}

/* Its count has become more. */
static void sink(struct topk *t, struct topk_key *k)
{
	uint16_t idx = t->heap[k->pos];
	uint32_t pos = k->pos;

	for (uint32_t below = 2 * pos + 1; below < t->n; below = 2 * pos + 1) {
		if (below + 1 < t->n &&
			t->key[t->heap[below + 1]].count < t->key[t->heap[below]].count)
			below++;
		if (t->key[t->heap[below]].count >= k->count)
			break;
		put(t, pos, t->heap[below]);
		pos = below;
	}
	put(t, pos, idx);
}

/* A new one at the heap's end. */
static void rise(struct topk *t, struct topk_key *k)
{
	uint16_t idx = t->heap[k->pos];
	uint32_t pos = k->pos;

	for (; pos > 0 && t->key[t->heap[(pos - 1) / 2]].count > k->count; pos = (pos - 1) / 2)
		put(t, pos, t->heap[(pos - 1) / 2]);
	put(t, pos, idx);
}

static void chain_in(struct topk *t, uint16_t idx)
{
	uint16_t *first = chain_of(t, t->key[idx].hash);

	t->key[idx].next = *first;
	*first = (uint16_t)(idx + 1);
}

static void chain_out(struct topk *t, uint16_t idx)
{
	uint16_t *at = chain_of(t, t->key[idx].hash);

	while (*at != idx + 1) {
		CHECK(*at);
		at = &t->key[*at - 1].next;
	}
	*at = t->key[idx].next;
}

static void add_new(struct topk *t, uint64_t hash, double count, double over)
{
	uint16_t idx = (uint16_t)t->n++;

	t->key[idx] = (struct topk_key){.hash = hash, .count = count, .over = over};
	put(t, idx, idx);
	chain_in(t, idx);
	rise(t, &t->key[idx]);
}

void topk_add(struct topk *t, uint64_t hash, uint32_t hits, double scale)
{
	double weight = hits * scale;
	struct topk_key *k = find(t, hash);

	t->total += weight;
	t->variance += hits * scale * (scale - 1);
	if (!k && t->n < TOPK_KEYS) {
		add_new(t, hash, weight, 0);
		return;
	}
	if (!k) {
		k = &t->key[t->heap[0]];
		chain_out(t, t->heap[0]);
		k->hash = hash;
		k->over = MUTANT(821) ? 0 : k->count; /* 821: what it inherits is its own */
		chain_in(t, t->heap[0]);
	}
	k->count += weight;
	sink(t, k);
}

void topk_seed(struct topk *t, uint64_t hash, double count, double over)
{
	if (t->n == TOPK_KEYS || find(t, hash))
		return;
	add_new(t, hash, count, over);
}

void topk_fade(struct topk *t, double part)
{
	t->total *= part;
	t->variance *= part * part;
	for (uint32_t i = 0; i < t->n; i++) {
		t->key[i].count *= part;
		t->key[i].over *= part;
	}
}

struct rank {
	double least;
	uint16_t idx;
};

static int by_least(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;

	return x->least < y->least ? 1 : x->least > y->least ? -1 : (int)x->idx - (int)y->idx;
}

uint32_t topk_first(const struct topk *t, uint32_t n, uint16_t *ret)
{
	struct rank rank[TOPK_KEYS];

	for (uint16_t i = 0; i < t->n; i++)
		rank[i] = (struct rank){.least = t->key[i].count - t->key[i].over, .idx = i};
	qsort(rank, t->n, sizeof *rank, by_least);
	n = n < t->n ? n : t->n;
	for (uint32_t i = 0; i < n; i++)
		ret[i] = rank[i].idx;
	return n;
}

double topk_rest(const struct topk *t) { return t->n == TOPK_KEYS ? t->key[t->heap[0]].count : 0; }

double topk_noise(const struct topk *t)
{
	double noise = t->total > 0 ? 0.5 * sqrt(t->variance) / t->total : 0;

	return noise < 1 ? noise : 1;
}

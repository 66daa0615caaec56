/* pol_shadow.c - see pol_shadow.h.
 *
 * A record's place, times 16, is the offset that all policies are told.
 */
#define _GNU_SOURCE
#include "pol_shadow.h"
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/err.h"
#include "layout/l_base.h"
#include "step.h"

enum {
	KEYS_FIRST = 64,
	RATE_MIN = 1,
};

struct key {
	uint64_t end_ms; /* 0: never */
	uint32_t fp, units;
	uint32_t next;   /* of its chain, or of those that are free; plus 1 */
	uint32_t n_in;   /* miniatures that hold it */
	uint32_t node[]; /* of each miniature; POL_NONE: it does not hold it */
};

static struct key *key_at(const struct pol_shadow *s, uint32_t i)
{
	return (struct key *)(void *)(s->key + (uint64_t)i * s->stride);
}

static uint32_t *head_of(const struct pol_shadow *s, uint32_t fp)
{
	return &s->head[(fp ^ fp >> 15) & (s->n_heads - 1)];
}

void pol_shadow_init(struct pol_shadow *s, uint32_t max_keys)
{
	CHECK(max_keys > 0);
	*s = (struct pol_shadow){
		.rate = POL_SHADOW_RATE_ONE, .max_keys = max_keys, .stride = sizeof(struct key)};
}

int pol_shadow_add(struct pol_shadow *s, const struct pol_ops *ops, const struct pol_values *values,
	double share)
{
	CHECK(s->n_minis < POL_SHADOW_MINIS_MAX && !s->key);
	struct pol_shadow_mini *m = &s->mini[s->n_minis];
	*m = (struct pol_shadow_mini){.ops = ops, .share = share, .limit = UINT64_MAX};
	int r = ops->new (ops, 0, values, &m->pol);
	if (r < 0)
		return err_fwd(r);
	m->pol->pressed = true; /* something has to go, always */
	s->n_minis++;
	s->stride = (uint32_t)(sizeof(struct key) + s->n_minis * sizeof(uint32_t) + 7) & ~7u;
	return 0;
}

void pol_shadow_fini(struct pol_shadow *s)
{
	for (uint32_t i = 0; i < s->n_minis; i++)
		s->mini[i].pol->ops->free(s->mini[i].pol);
	free(s->head);
	free(s->key);
	*s = (struct pol_shadow){0};
}

/* ------------------------------------------------------------ records */

static int heads_grow(struct pol_shadow *s, uint32_t n)
{
	uint32_t *head = calloc(n, sizeof *head);

	if (!head)
		return err_new(-ENOMEM);
	free(s->head);
	s->head = head;
	s->n_heads = n;
	for (uint32_t i = 0; i < s->n_made; i++) {
		struct key *k = key_at(s, i);
		if (k->n_in == 0)
			continue;
		uint32_t *h = head_of(s, k->fp);
		k->next = *h;
		*h = i + 1;
	}
	return 0;
}

/* Room for one more record; at most max_keys are ever used, so this is done some times at all. */
static int keys_grow(struct pol_shadow *s)
{
	uint32_t n = s->n_made ? s->n_made * 2 : KEYS_FIRST;
	uint8_t *key = realloc(s->key, (uint64_t)n * s->stride);

	if (!key)
		return err_new(-ENOMEM);
	s->key = key;
	return err_fwd(heads_grow(s, n));
}

static uint32_t find(const struct pol_shadow *s, uint32_t fp)
{
	uint32_t i = s->head ? *head_of(s, fp) : 0;

	while (i && key_at(s, i - 1)->fp != fp)
		i = key_at(s, i - 1)->next;
	return i;
}

/* A record that is in no miniature yet; its number plus 1, 0: no memory. */
static uint32_t key_new(struct pol_shadow *s, uint32_t fp)
{
	uint32_t i = s->free_key;

	if (i) {
		s->free_key = key_at(s, i - 1)->next;
	} else {
		if ((s->n_made == 0 || s->n_made == s->n_heads) && keys_grow(s) < 0)
			return 0;
		i = ++s->n_made;
	}
	struct key *k = key_at(s, i - 1);
	uint32_t *h = head_of(s, fp);
	memset(k, 0, s->stride);
	k->fp = fp;
	k->next = *h;
	*h = i;
	s->n_keys++;
	return i;
}

/* A record that is in no miniature any more. */
static void key_free(struct pol_shadow *s, uint32_t i)
{
	uint32_t *link = head_of(s, key_at(s, i - 1)->fp);

	while (*link != i)
		link = &key_at(s, *link - 1)->next;
	*link = key_at(s, i - 1)->next;
	key_at(s, i - 1)->next = s->free_key;
	s->free_key = i;
	s->n_keys--;
}

/* ------------------------------------------------------------ miniatures */

static void take_out(struct pol_shadow *s, struct pol_shadow_mini *m, struct key *k, int evicted)
{
	uint32_t *node = &k->node[m - s->mini];

	m->pol->ops->remove(m->pol, *node, evicted);
	*node = POL_NONE;
	m->units -= k->units;
	m->n--;
	k->n_in--;
}

/* Evicts until so many more units fit.  keep: a record that is not freed. */
static void make_room(struct pol_shadow *s, struct pol_shadow_mini *m, uint64_t units,
	uint32_t keep, uint64_t now_ms)
{
	uint64_t off;

	while (m->n && m->units + units > m->limit) {
		if (m->pol->ops->victim(m->pol, now_ms, &off) != 0)
			return;
		uint32_t i = (uint32_t)(off / SHM_UNIT) + 1;
		CHECK(i <= s->n_made);
		take_out(s, m, key_at(s, i - 1), 1);
		if (key_at(s, i - 1)->n_in == 0 && i != keep)
			key_free(s, i);
	}
}

static void forget(struct pol_shadow *s, uint32_t i)
{
	struct key *k = key_at(s, i - 1);

	for (uint32_t n = 0; n < s->n_minis; n++)
		if (k->node[n] != POL_NONE)
			take_out(s, &s->mini[n], k, 0);
	key_free(s, i);
}

/* The record has another size: what does not fit beside it any more goes. */
static void key_resize(struct pol_shadow *s, uint32_t i, uint32_t units, uint64_t now_ms)
{
	struct key *k = key_at(s, i - 1);

	for (uint32_t n = 0; n < s->n_minis; n++) {
		struct pol_shadow_mini *m = &s->mini[n];
		if (k->node[n] == POL_NONE)
			continue;
		m->units = m->units - k->units + units;
		m->pol->ops->replace(m->pol, k->node[n], (i - 1ull) * SHM_UNIT,
			(uint64_t)units * SHM_UNIT, now_ms);
	}
	k->units = units;
	for (uint32_t n = 0; n < s->n_minis; n++)
		if (k->node[n] != POL_NONE)
			make_room(s, &s->mini[n], 0, i, now_ms);
}

static void limit_set(const struct pol_shadow *s, struct pol_shadow_mini *m)
{
	double v = (double)s->units * m->share * s->rate / POL_SHADOW_RATE_ONE;

	if (MUTANT(315)) /* 315: a miniature has all of the memory */
		v = (double)s->units * m->share;
	m->limit = s->units == 0 || v > 1e18 ? UINT64_MAX : v < 1 ? 1 : (uint64_t)(v + 0.5);
}

void pol_shadow_resize(struct pol_shadow *s, uint64_t units, uint64_t now_ms)
{
	s->units = units;
	for (uint32_t n = 0; n < s->n_minis; n++) {
		limit_set(s, &s->mini[n]);
		make_room(s, &s->mini[n], 0, 0, now_ms);
	}
}

/* Half of the keys are not sampled from now on.  So it is done as often as the number of keys doubles. */
static void rate_halve(struct pol_shadow *s, uint64_t now_ms)
{
	if (MUTANT(314)) /* 314: the rate stays, and the table is full */
		return;
	s->rate /= 2;
	for (uint32_t i = 1; i <= s->n_made; i++)
		if (key_at(s, i - 1)->n_in && !pol_shadow_samples(s, key_at(s, i - 1)->fp))
			forget(s, i);
	pol_shadow_resize(s, s->units, now_ms);
}

static void use_one(struct pol_shadow *s, struct pol_shadow_mini *m, enum pol_shadow_use use,
	uint32_t i, uint64_t now_ms)
{
	struct key *k = key_at(s, i - 1);
	uint32_t *node = &k->node[m - s->mini];

	if (*node != POL_NONE) {
		if (use == POL_SHADOW_WRITE)
			m->pol->ops->replace(m->pol, *node, (i - 1ull) * SHM_UNIT,
				(uint64_t)k->units * SHM_UNIT, now_ms);
		else if (use != POL_SHADOW_FILL)
			m->pol->ops->touch(m->pol, *node, now_ms);
		return;
	}
	m->missed[use] += POL_SHADOW_RATE_ONE / s->rate;
	if (k->units > m->limit)
		return;
	make_room(s, m, k->units, i, now_ms);
	if (m->pol->ops->insert(m->pol, (uint64_t)k->fp << 16, (i - 1ull) * SHM_UNIT,
		    (uint64_t)k->units * SHM_UNIT, now_ms, node) < 0)
		return;
	m->units += k->units;
	m->n++;
	k->n_in++;
}

void pol_shadow_use(struct pol_shadow *s, enum pol_shadow_use use, uint32_t fp, uint64_t bytes,
	uint64_t end_ms, uint64_t now_ms)
{
	uint64_t all = bytes / SHM_UNIT + (bytes % SHM_UNIT != 0);
	uint32_t units = all > UINT32_MAX ? UINT32_MAX : (uint32_t)all;
	uint32_t i = find(s, fp);

	if (i && key_at(s, i - 1)->end_ms && key_at(s, i - 1)->end_ms <= now_ms) {
		forget(s, i);
		i = 0;
	}
	s->uses[use] += POL_SHADOW_RATE_ONE / s->rate;
	s->seen++;
	if (!i && s->n_keys >= s->max_keys && s->rate > RATE_MIN) {
		rate_halve(s, now_ms);
		if (!pol_shadow_samples(s, fp))
			return;
	}
	if (!i)
		i = key_new(s, fp);
	if (!i)
		return;
	if (key_at(s, i - 1)->units != units)
		key_resize(s, i, units, now_ms);
	key_at(s, i - 1)->end_ms = end_ms;
	for (uint32_t n = 0; n < s->n_minis; n++)
		use_one(s, &s->mini[n], use, i, now_ms);
	if (key_at(s, i - 1)->n_in == 0)
		key_free(s, i);
}

void pol_shadow_forget(struct pol_shadow *s, uint32_t fp)
{
	uint32_t i = find(s, fp);

	if (i)
		forget(s, i);
}

void pol_shadow_clear(struct pol_shadow *s)
{
	for (uint32_t i = 1; i <= s->n_made; i++)
		if (key_at(s, i - 1)->n_in)
			forget(s, i);
}

bool pol_shadow_holds(const struct pol_shadow *s, uint32_t mini, uint32_t fp)
{
	uint32_t i = find(s, fp);

	return i && key_at(s, i - 1)->node[mini] != POL_NONE;
}

uint64_t pol_shadow_bytes(const struct pol_shadow *s)
{
	uint64_t n = (uint64_t)s->n_heads * (s->stride + sizeof *s->head);

	for (uint32_t i = 0; i < s->n_minis; i++) {
		struct pol_stats st;
		s->mini[i].pol->ops->stats(s->mini[i].pol, &st);
		n += st.private_bytes;
	}
	return n;
}

int pol_shadow_verify(const struct pol_shadow *s)
{
	uint64_t units[POL_SHADOW_MINIS_MAX] = {0}, n_in[POL_SHADOW_MINIS_MAX] = {0}, n_keys = 0;

	for (uint32_t i = 1; i <= s->n_made; i++) {
		const struct key *k = key_at(s, i - 1);
		uint32_t in = 0;
		if (k->n_in == 0)
			continue;
		n_keys++;
		for (uint32_t n = 0; n < s->n_minis; n++) {
			if (k->node[n] == POL_NONE)
				continue;
			in++;
			n_in[n]++;
			units[n] += k->units;
		}
		if (find(s, k->fp) != i || in != k->n_in || !pol_shadow_samples(s, k->fp))
			return 1;
	}
	if (n_keys != s->n_keys || n_keys > s->max_keys)
		return 1;
	for (uint32_t n = 0; n < s->n_minis; n++) {
		const struct pol_shadow_mini *m = &s->mini[n];
		if (m->units != units[n] || m->n != n_in[n] || (m->units > m->limit && m->n > 1))
			return 2;
		if (m->pol->ops->verify(m->pol))
			return 3;
	}
	return 0;
}

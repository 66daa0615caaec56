/* pol_ghost.c - two rings of fingerprints, found by chains through the ring. */
#define _GNU_SOURCE
#include "pol_ghost.h"
#include <stdlib.h>
#include "base/check.h"
#include "base/err.h"
#include "late.h"

enum {
	RING_MIN = 1024,
	RING_MAX = 1 << 30,
	CHAIN_LOAD = 2, /* positions for each chain */
	DROPS_MAX = 64, /* positions dropped in one call; a limit that shrank is reached later */
	TAKEN = -1,     /* next: taken out, in no chain */
};

struct pol_ghost_entry {
	uint32_t fp;
	uint32_t next; /* index of the next older one of the chain, plus 1; 0: none; or TAKEN */
};

static uint32_t *chain_of(const struct pol_ghost_ring *r, uint32_t fp)
{
	return &r->head[fp & (r->n / CHAIN_LOAD - 1)];
}

static int ring_init(struct pol_ghost_ring *r, uint64_t n)
{
	uint32_t size = RING_MIN;

	while (size < n && size < RING_MAX)
		size *= 2;
	struct pol_ghost_entry *entry = malloc(size * sizeof *entry);
	uint32_t *head = calloc(size / CHAIN_LOAD, sizeof *head);

	if (!entry || !head) {
		free(entry);
		free(head);
		return err_new(-ENOMEM);
	}
	*r = (struct pol_ghost_ring){.entry = entry, .head = head, .n = size};
	return 0;
}

static void ring_fini(struct pol_ghost_ring *r)
{
	late_free(r->entry, r->n * sizeof *r->entry);
	late_free(r->head, r->n / CHAIN_LOAD * sizeof *r->head);
	*r = (struct pol_ghost_ring){0};
}

static uint64_t positions(uint64_t limit) { return limit + limit / 2; }

int pol_ghost_init(struct pol_ghost *g, uint64_t n)
{
	*g = (struct pol_ghost){0};
	return err_fwd(ring_init(&g->now, positions(n)));
}

void pol_ghost_fini(struct pol_ghost *g)
{
	ring_fini(&g->now);
	ring_fini(&g->old);
}

/* The link that leads to entry `idx` of its chain. */
static uint32_t *link_to(struct pol_ghost_ring *r, uint32_t idx)
{
	uint32_t *link = chain_of(r, r->entry[idx].fp);

	for (uint32_t i = 0; *link != idx + 1; i++) {
		CHECK(*link && i < r->n);
		link = &r->entry[*link - 1].next;
	}
	return link;
}

static void take_out(struct pol_ghost_ring *r, uint32_t *link)
{
	struct pol_ghost_entry *e = &r->entry[*link - 1];

	*link = e->next;
	e->next = (uint32_t)TAKEN;
	r->n_in--;
}

/* Frees the oldest position, be it a gap. */
static void drop_oldest(struct pol_ghost_ring *r)
{
	uint32_t idx = (uint32_t)(r->begin & (r->n - 1));

	if (r->entry[idx].next != (uint32_t)TAKEN)
		take_out(r, link_to(r, idx));
	r->begin++;
}

/* A new ring for so many; without memory things stay as they are. */
static void grow(struct pol_ghost *g, uint64_t limit)
{
	struct pol_ghost_ring r;

	if (g->now.n == RING_MAX || ring_init(&r, positions(limit)) < 0)
		return;
	ring_fini(&g->old);
	g->old = g->now;
	g->now = r;
}

static uint64_t count(const struct pol_ghost *g) { return (uint64_t)g->now.n_in + g->old.n_in; }

void pol_ghost_add(struct pol_ghost *g, uint32_t fp, uint64_t limit)
{
	struct pol_ghost_ring *r = &g->now;

	if (positions(limit) > r->n)
		grow(g, limit);
	for (int i = 0; i < DROPS_MAX && count(g) && count(g) >= limit; i++)
		drop_oldest(g->old.n_in ? &g->old : r);
	if (!g->old.n_in)
		ring_fini(&g->old);
	if (limit == 0 || r->n == 0)
		return;
	if (r->end - r->begin == r->n)
		drop_oldest(r);
	uint32_t idx = (uint32_t)(r->end++ & (r->n - 1)), *chain = chain_of(r, fp);
	r->entry[idx] = (struct pol_ghost_entry){.fp = fp, .next = *chain};
	*chain = idx + 1;
	r->n_in++;
}

/* The link that leads to the youngest entry of that fingerprint; NULL: there is none. */
static uint32_t *find(const struct pol_ghost_ring *r, uint32_t fp)
{
	if (!r->n)
		return NULL;
	uint32_t *link = chain_of(r, fp);
	for (uint32_t i = 0; *link; i++) {
		CHECK(i < r->n);
		if (r->entry[*link - 1].fp == fp)
			return link;
		link = &r->entry[*link - 1].next;
	}
	return NULL;
}

static bool take(struct pol_ghost_ring *r, uint32_t fp)
{
	uint32_t *link = find(r, fp);

	if (link)
		take_out(r, link);
	return link != NULL;
}

bool pol_ghost_has(const struct pol_ghost *g, uint32_t fp)
{
	return find(&g->now, fp) || find(&g->old, fp);
}

bool pol_ghost_take(struct pol_ghost *g, uint32_t fp)
{
	return (g->now.begin != g->now.end && take(&g->now, fp)) ||
	       (g->old.begin != g->old.end && take(&g->old, fp));
}

uint64_t pol_ghost_bytes(const struct pol_ghost *g)
{
	return ((uint64_t)g->now.n + g->old.n) *
	       (sizeof(struct pol_ghost_entry) + sizeof(uint32_t) / CHAIN_LOAD);
}

static bool ring_verify(const struct pol_ghost_ring *r)
{
	uint64_t n_in = 0, n_chained = 0;

	if (r->end - r->begin > r->n)
		return false;
	for (uint64_t pos = r->begin; pos < r->end; pos++)
		n_in += r->entry[pos & (r->n - 1)].next != (uint32_t)TAKEN;
	for (uint32_t c = 0; c < r->n / CHAIN_LOAD; c++) {
		uint64_t age = 0; /* positions before the youngest */
		for (uint32_t link = r->head[c]; link; link = r->entry[link - 1].next) {
			uint64_t a = (r->end - 1 - (link - 1)) & (r->n - 1);
			if (link > r->n || n_chained++ > n_in || a < age ||
				a >= r->end - r->begin ||
				chain_of(r, r->entry[link - 1].fp) != &r->head[c])
				return false;
			age = a + 1;
		}
	}
	return n_chained == n_in && n_in == r->n_in;
}

bool pol_ghost_verify(const struct pol_ghost *g)
{
	return ring_verify(&g->now) && ring_verify(&g->old);
}

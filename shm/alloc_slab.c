/* alloc_slab.c - slabs, their places, and the table of size classes.
 *
 * A class keeps its slabs that have free places in up to eight lists, by the
 * number of free places; a take uses the lists with the fewest first, so that
 * the others run empty.  A slab whose last place is given back goes back to the
 * free runs at once.
 */
#define _GNU_SOURCE
#include "alloc_i.h"
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "step.h"

enum {
	STEP_PART_LEAST = 18,  /* a class is larger than the one before by at least 1/18, */
	STEP_PART_MOST = 12,   /* and by at most 1/12, where that can be had */
	TAIL_PART = 64,        /* a slab's tail is at most 1/64 of it, likewise */
	TOO_FAR = 1000000,     /* what is beyond these two costs more than all that is not */
	PAGE_COST_LEAST = 500, /* of a page of a slab, in millionths: */
	PAGE_COST_MOST = 5000,
	CLASSES_IN_USE = 40, /* of a mix; each has one slab that is half full */
	SLAB_PAGES_MAX = 255,
	SLAB_PAGES_LEAST = 16,   /* of a large pool: fewer, larger slabs */
	POOL_LEAST_PART = 16384, /* least slab: 1/16384 of the pool */
	POOL_MOST_PART = 128,    /* largest slab: 1/128 of the pool */
	SLAB_PAGES_MOST_MIN = 8,
};

static uint64_t clamp(uint64_t v, uint64_t lo, uint64_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

static uint64_t step_bytes(uint64_t bytes, uint64_t part)
{
	return clamp(bytes / part / SHM_UNIT * SHM_UNIT, SHM_UNIT, CLASS_BYTES_MAX);
}

/* What a class wastes, in millionths: half of the step to it, its slab's tail, and what the pages of its
 * slab cost. */
static uint64_t class_cost(
	uint64_t before_bytes, uint64_t item_bytes, uint64_t pages, uint64_t page_cost)
{
	uint64_t slab = pages * SHM_PAGE;

	return (item_bytes - before_bytes) * 500000 / before_bytes +
	       slab % item_bytes * 1000000 / slab + pages * page_cost;
}

/* Finds the class behind the one of before_bytes: of all places that fit a whole number of times into a
 * slab, and are a step larger, the one that wastes least.  Two places at least: one alone is what a run is
 * for.  false: no slab of these page counts holds two. */
static bool choose_class(
	uint64_t before_bytes, uint64_t lo, uint64_t hi, uint64_t page_cost, struct shm_class *ret)
{
	uint64_t part = MUTANT(161) ? 3 : STEP_PART_LEAST; /* 161: classes are far apart */
	uint64_t least = before_bytes + step_bytes(before_bytes, part);
	uint64_t most = before_bytes + step_bytes(before_bytes, MUTANT(161) ? 2 : STEP_PART_MOST);
	uint64_t best = UINT64_MAX;

	for (uint64_t pages = lo; pages <= hi; pages++) {
		uint64_t bytes = 0, slab = pages * SHM_PAGE;
		for (uint64_t n = slab / least; n >= 2 && bytes <= most; n--) {
			bytes = slab / n / SHM_UNIT * SHM_UNIT;
			uint64_t cost = class_cost(before_bytes, bytes, pages, page_cost);
			cost += bytes > most || slab % bytes * TAIL_PART > slab ? TOO_FAR : 0;
			if (cost >= best)
				continue;
			best = cost;
			*ret = (struct shm_class){.item_bytes = (uint32_t)bytes,
				.slab_pages = (uint16_t)pages,
				.n_items = (uint16_t)n};
		}
	}
	return best != UINT64_MAX;
}

uint32_t shm_alloc_classes(struct shm_class *cls, uint64_t pool_bytes)
{
	uint64_t pages = pool_bytes / SHM_PAGE;
	uint64_t lo = clamp(pages / POOL_LEAST_PART, 1, SLAB_PAGES_LEAST);
	uint64_t hi = clamp(pages / POOL_MOST_PART, SLAB_PAGES_MOST_MIN, SLAB_PAGES_MAX);
	uint64_t page_cost = clamp(
		CLASSES_IN_USE * 500000ull / pages, PAGE_COST_LEAST, PAGE_COST_MOST);
	uint64_t bytes = CLASS_BYTES_MIN - SHM_UNIT;
	uint32_t n = 0;

	while (n < SHM_CLASSES_MAX) {
		if (!choose_class(bytes, lo, hi, page_cost, &cls[n]) ||
			cls[n].item_bytes > CLASS_BYTES_MAX)
			break;
		bytes = cls[n++].item_bytes;
	}
	return n;
}

static bool class_is_right(const struct shm_class *c, uint32_t before_bytes)
{
	uint64_t slab = (uint64_t)c->slab_pages * SHM_PAGE;

	return c->item_bytes % SHM_UNIT == 0 && c->item_bytes > before_bytes &&
	       c->item_bytes <= CLASS_BYTES_MAX && c->slab_pages >= 1 &&
	       c->slab_pages <= SLAB_PAGES_MAX && c->n_items >= 1 &&
	       c->n_items == slab / c->item_bytes;
}

int alloc_class_load(struct shm_alloc *a, const struct shm_class *cls, uint32_t n)
{
	uint32_t unit = 0, before_bytes = CLASS_BYTES_MIN / 2;

	if (n < 1 || n > SHM_CLASSES_MAX)
		return err_new(-EINVAL);
	for (uint32_t i = 0; i < n; i++) {
		struct shm_class s = cls[i];
		struct alloc_class *c = &a->cls[i];
		if (!class_is_right(&s, before_bytes))
			return err_new(-EINVAL);
		before_bytes = s.item_bytes;
		uint64_t units = s.item_bytes / SHM_UNIT;
		c->item_bytes = s.item_bytes;
		c->inverse = (uint32_t)(((1ull << 32) + units - 1) / units);
		c->slab_pages = s.slab_pages;
		c->n_items = s.n_items;
		c->n_words = (uint16_t)((s.n_items + 63) / 64);
		c->tail_bytes = s.slab_pages * SHM_PAGE - s.n_items * s.item_bytes;
		while (s.n_items >> c->shift >= BUCKETS)
			c->shift++;
		while (unit <= units)
			a->class_of[unit++] = (uint8_t)i;
	}
	a->n_classes = n;
	a->class_bytes_max = before_bytes;
	return 0;
}

void alloc_slab_relist(struct shm_alloc *a, uint32_t id)
{
	struct alloc_run *r = alloc_rec(a, id);
	struct alloc_class *c = &a->cls[r->cls];
	uint8_t to = r->n_free && !r->closed ? (uint8_t)(r->n_free >> c->shift) : BUCKET_NONE;

	if (to == r->bucket)
		return;
	if (r->bucket != BUCKET_NONE) {
		if (r->next)
			alloc_rec(a, r->next)->prev = r->prev;
		if (r->prev)
			alloc_rec(a, r->prev)->next = r->next;
		else
			c->head[r->bucket] = r->next;
		if (!c->head[r->bucket])
			c->mask &= (uint8_t) ~(1u << r->bucket);
	}
	r->bucket = to;
	r->prev = r->next = 0;
	if (to == BUCKET_NONE)
		return;
	r->next = c->head[to];
	if (r->next)
		alloc_rec(a, r->next)->prev = id;
	c->head[to] = id;
	c->mask |= (uint8_t)(1u << to);
}

int alloc_slab_init(struct shm_alloc *a, uint32_t id, bool listed)
{
	struct alloc_run *r = alloc_rec(a, id);
	struct alloc_class *c = &a->cls[r->cls];
	size_t bits_bytes = c->n_words * sizeof *r->bits;
	uint64_t *bits = malloc(bits_bytes + c->n_items * sizeof(uint32_t));

	if (!bits)
		return err_new(-ENOMEM);
	memset(bits, 0, bits_bytes);
	if (c->n_items % 64)
		bits[c->n_words - 1] = ~0ull << c->n_items % 64;
	r->bits = bits;
	r->n_free = c->n_items;
	r->hint = 0;
	c->n_free += c->n_items;
	a->st.free_place_bytes += (uint64_t)c->n_items * c->item_bytes;
	if (!MUTANT(26))
		a->st.tail_bytes += c->tail_bytes;
	if (listed)
		alloc_slab_relist(a, id);
	return 0;
}

void alloc_slab_end(struct shm_alloc *a, uint32_t id)
{
	struct alloc_run *r = alloc_rec(a, id);
	struct alloc_class *c = &a->cls[r->cls];

	if (a->hold_slab && alloc_held(a, r)) {
		a->hold_lo = a->hold_hi = 0;
		a->hold_slab = false;
	}
	CHECK(r->n_free == c->n_items);
	r->closed = true; /* for relist: out of its list */
	alloc_slab_relist(a, id);
	c->n_free -= c->n_items;
	a->st.free_place_bytes -= (uint64_t)c->n_items * c->item_bytes;
	a->st.tail_bytes -= c->tail_bytes;
	free(r->bits);
	r->bits = NULL;
	alloc_run_give(a, id);
}

void alloc_slab_claim(struct shm_alloc *a, struct alloc_run *r, uint32_t i)
{
	struct alloc_class *c = &a->cls[r->cls];

	r->bits[i / 64] |= 1ull << i % 64;
	r->n_free--;
	c->n_free--;
	if (!MUTANT(25))
		alloc_notes(a, r)[i] = 0;
	a->st.taken_bytes += c->item_bytes;
	a->st.free_place_bytes -= c->item_bytes;
	a->st.n_taken++;
}

static int slab_new(struct shm_alloc *a, uint32_t cls)
{
	uint32_t id = alloc_run_take(a, a->cls[cls].slab_pages, SHM_PAGE_SLAB, (uint8_t)cls);

	if (!id)
		return ALLOC_FULL;
	if (alloc_slab_init(a, id, true) < 0) {
		alloc_run_give(a, id);
		return ALLOC_FULL;
	}
	return 0;
}

uint64_t shm_alloc_peek(const struct shm_alloc *a, uint64_t bytes, uint32_t skip)
{
	if (bytes == 0 || bytes > a->class_bytes_max)
		return 0;
	const struct alloc_class *c = &a->cls[alloc_class_of(a, bytes)];
	if (!c->mask)
		return 0;
	const struct alloc_run *r = alloc_rec(a, c->head[__builtin_ctz(c->mask)]);
	for (uint32_t w = r->hint; w < c->n_words; w++) {
		uint64_t open = ~r->bits[w];
		for (; open; open &= open - 1, skip--)
			if (skip == 0)
				return alloc_off(r->page) +
				       (w * 64ull + (uint32_t)__builtin_ctzll(open)) *
				               c->item_bytes;
	}
	return 0;
}

int alloc_slab_take(struct shm_alloc *a, uint32_t cls, uint64_t *ret_off)
{
	struct alloc_class *c = &a->cls[cls];

	if (!c->mask && slab_new(a, cls) != 0)
		return ALLOC_FULL;
	uint32_t id = c->head[__builtin_ctz(c->mask)];
	struct alloc_run *r = alloc_rec(a, id);
	uint32_t w = r->hint;

	while (r->bits[w] == ~0ull)
		CHECK(++w < c->n_words);
	uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(~r->bits[w]);
	r->hint = (uint16_t)w;
	alloc_slab_claim(a, r, i);
	alloc_slab_relist(a, id);
	*ret_off = alloc_off(r->page) + (uint64_t)i * c->item_bytes;
	return 0;
}

void alloc_slab_give(struct shm_alloc *a, uint32_t id, uint32_t i)
{
	struct alloc_run *r = alloc_rec(a, id);
	struct alloc_class *c = &a->cls[r->cls];

	r->bits[i / 64] &= ~(1ull << i % 64);
	r->stuck = false;
	if (i / 64 < r->hint)
		r->hint = (uint16_t)(i / 64);
	r->n_free++;
	c->n_free++;
	a->st.taken_bytes -= c->item_bytes;
	a->st.free_place_bytes += c->item_bytes;
	a->st.n_taken--;
	if (r->n_free == c->n_items)
		alloc_slab_end(a, id);
	else
		alloc_slab_relist(a, id);
}

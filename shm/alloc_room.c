/* alloc_room.c - which slab, which window of pages, or what stands between two gaps, is worth emptying.
 *
 * All close what they name: a closed slab or free run is in no list, so takes
 * go elsewhere, and what was given back stays together until it is reopened.  At
 * any time one range of pages is closed at most (hold_lo, hold_hi); free runs
 * that join it make it longer, so that it always begins and ends between runs.
 */
#define _GNU_SOURCE
#include "alloc_i.h"
#include "step.h"

enum {
	COMPACT_LOOKS = 16, /* slabs of a class that are compared */
	WINDOW_LOOKS = 64,  /* windows that are compared */
	JOIN_LOOKS = 512,   /* runs that are looked at for gaps to be joined */
	JOIN_RUNS = 8,      /* used runs between two gaps */
};

static void hold(struct shm_alloc *a, uint32_t lo, uint32_t hi, bool slab)
{
	a->hold_lo = lo;
	a->hold_hi = hi;
	a->hold_slab = slab;
	for (uint32_t page = lo; page < hi;) {
		uint32_t id = a->map[page];
		struct alloc_run *r = alloc_rec(a, id);
		page += r->pages;
		if (r->kind != SHM_PAGE_SLAB && r->kind != SHM_PAGE_FREE)
			continue;
		if (r->kind == SHM_PAGE_FREE)
			alloc_run_unlist(a, id);
		r->closed = true;
		if (r->kind == SHM_PAGE_SLAB)
			alloc_slab_relist(a, id);
	}
}

/* What is left in the range is pinned: see stuck, alloc_i.h. */
void shm_alloc_compact_stop(struct shm_alloc *a)
{
	uint32_t hi = a->hold_hi;

	a->hold_hi = 0;
	for (uint32_t page = a->hold_lo; page < hi;) {
		uint32_t id = a->map[page];
		struct alloc_run *r = alloc_rec(a, id);
		page += r->pages;
		if (r->kind != SHM_PAGE_FREE)
			r->stuck = !MUTANT(30); /* 30: named again and again */
		if (!r->closed)
			continue;
		r->closed = false;
		if (r->kind == SHM_PAGE_FREE)
			alloc_run_list(a, id);
		else
			alloc_slab_relist(a, id);
	}
	a->hold_lo = 0;
	a->hold_slab = false;
}

static uint32_t slab_taken(const struct shm_alloc *a, const struct alloc_run *r)
{
	return a->cls[r->cls].n_items - r->n_free;
}

/* The slab of a class that has the fewest items in it, among some of its emptiest; or 0.
 * One that could not be emptied a moment ago, because readers pin something in it, is
 * passed over until they let go: else it would be named again and again. */
static uint32_t emptiest(const struct shm_alloc *a, const struct alloc_class *c)
{
	uint32_t best = 0;

	if (!c->mask || (c->n_free < c->n_items && !MUTANT(24)))
		return 0; /* the others could not take what is in it */
	uint32_t looks = 0;
	for (int b = BUCKETS - 1; b >= 0 && !best; b--)
		for (uint32_t id = c->head[b]; id && looks < COMPACT_LOOKS; looks++) {
			const struct alloc_run *r = alloc_rec(a, id);
			if (!r->stuck && (!best || r->n_free > alloc_rec(a, best)->n_free))
				best = id;
			id = r->next;
		}
	return best;
}

/* Appends what is taken in the run to off[]; returns how many are there now. */
static uint32_t list_taken(
	const struct shm_alloc *a, const struct alloc_run *r, uint64_t *off, uint32_t n)
{
	const struct alloc_class *c = &a->cls[r->cls];

	if (r->kind == SHM_PAGE_LARGE)
		off[n++] = alloc_off(r->page);
	if (r->kind != SHM_PAGE_SLAB)
		return n;
	for (uint32_t i = 0; i < c->n_items; i++)
		if (r->bits[i / 64] >> i % 64 & 1)
			off[n++] = alloc_off(r->page) + (uint64_t)i * c->item_bytes;
	return n;
}

uint32_t shm_alloc_compact(struct shm_alloc *a, uint64_t want, uint64_t *off, uint32_t max)
{
	uint32_t best = 0;
	uint32_t not_cls = want && want <= a->class_bytes_max ? alloc_class_of(a, want)
	                                                      : SHM_CLASSES_MAX;

	CHECK(!a->adopting);
	shm_alloc_compact_stop(a);
	for (uint32_t k = 0; k < a->n_classes; k++) {
		uint32_t id = k == not_cls ? 0 : emptiest(a, &a->cls[k]);
		if (!id || slab_taken(a, alloc_rec(a, id)) > max)
			continue;
		if (!best || slab_taken(a, alloc_rec(a, id)) < slab_taken(a, alloc_rec(a, best)))
			best = id;
	}
	if (!best)
		return 0;
	const struct alloc_run *r = alloc_rec(a, best);
	hold(a, r->page, r->page + r->pages, true);
	return list_taken(a, r, off, 0);
}

/* A window over whole runs, and what is taken in it. */
struct window {
	uint32_t lo, hi; /* pages */
	uint32_t n_items;
	uint64_t bytes;
};

/* Puts the run at w->hi into the window (sign 1), or takes that at w->lo out (sign -1). */
static void window_count(
	const struct shm_alloc *a, struct window *w, const struct alloc_run *r, int sign)
{
	uint64_t bytes = 0;
	uint32_t n = 0;

	if (r->kind == SHM_PAGE_LARGE) {
		n = 1;
		bytes = alloc_off(r->pages);
	} else if (r->kind == SHM_PAGE_SLAB) {
		n = slab_taken(a, r);
		bytes = (uint64_t)n * a->cls[r->cls].item_bytes;
	}
	if (sign > 0) {
		w->hi += r->pages;
		w->n_items += n;
		w->bytes += bytes;
	} else {
		w->lo += r->pages;
		w->n_items -= n;
		w->bytes -= bytes;
	}
}

/* First page at or after `page` at which a run begins, n_pages at the end.  Bounded by the
 * longest free run: only inside one is map[] not right. */
static uint32_t next_head(const struct shm_alloc *a, uint64_t page)
{
	for (; page < a->n_pages; page++) {
		const struct alloc_run *r = alloc_rec(a, a->map[page]);
		if (r->pages && r->page == page)
			break;
	}
	return (uint32_t)page;
}

/* Slides a window of `pages` from *cursor on and keeps the one with the fewest bytes. */
static struct window slide(
	const struct shm_alloc *a, uint64_t pages, uint64_t *cursor, uint32_t max)
{
	struct window best = {0}, w = {0};
	uint32_t looks = 0;
	uint64_t runs = WINDOW_LOOKS + pages; /* enough for a look, unless tables lie between */

	w.lo = w.hi = next_head(a, *cursor);
	for (; w.hi < a->n_pages && looks < WINDOW_LOOKS && runs > 0; runs--) {
		const struct alloc_run *r = alloc_rec(a, a->map[w.hi]);
		window_count(a, &w, r, 1);
		if (r->kind == SHM_PAGE_META || r->kind == SHM_PAGE_TABLE ||
			r->kind == SHM_PAGE_HOLE || r->stuck)
			w = (struct window){.lo = w.hi, .hi = w.hi};
		while (w.hi - w.lo >= pages) {
			bool fits = w.n_items && w.n_items <= max;
			if (fits && (!best.hi || w.bytes < best.bytes))
				best = w;
			window_count(a, &w, alloc_rec(a, a->map[w.lo]), -1);
			looks++;
		}
	}
	*cursor = w.hi < a->n_pages ? w.lo : 0;
	return best;
}

uint32_t shm_alloc_window(
	struct shm_alloc *a, uint64_t bytes, uint64_t *cursor, uint64_t *off, uint32_t max)
{
	uint64_t pages = alloc_pages(bytes);
	uint32_t n = 0;

	CHECK(bytes > 0 && !a->adopting);
	shm_alloc_compact_stop(a);
	if (bytes <= a->class_bytes_max)
		pages = a->cls[alloc_class_of(a, bytes)].slab_pages;
	struct window w = slide(a, pages, cursor, max);
	if (!w.hi)
		return 0;
	for (uint32_t page = w.lo; page < w.hi;) {
		const struct alloc_run *r = alloc_rec(a, a->map[page]);
		n = list_taken(a, r, off, n);
		page += r->pages;
	}
	hold(a, w.lo, w.hi, false);
	return n;
}

/* ------------------------------------------------------------ gaps */

/* What is asked for. */
struct join {
	uint64_t most_bytes;
	uint32_t max;
};

/* Used runs behind a free one, and before another one if there is one. */
struct between {
	uint32_t lo, hi; /* pages, with the free runs; hi 0: there is nothing */
	uint32_t n_runs;
	uint32_t n_items, free_pages, longest; /* of the free runs */
	uint64_t bytes;                        /* of what is taken in them */
	uint32_t id[JOIN_RUNS];
};

/* Is there a free run of so many pages that is not one of the two at the ends? */
static bool run_elsewhere(const struct shm_alloc *a, const struct between *b, uint64_t pages)
{
	return pages > b->longest && alloc_run_has(a, pages);
}

/* Could all of it be taken in by free places and new slabs elsewhere, or one large item by a free run? */
static bool fits_elsewhere(const struct shm_alloc *a, const struct between *b)
{
	uint32_t n_large = 0;

	if (MUTANT(260)) /* 260: what has no other place is named */
		return true;
	for (uint32_t i = 0; i < b->n_runs; i++) {
		const struct alloc_run *r = alloc_rec(a, b->id[i]);
		const struct alloc_class *c = &a->cls[r->cls];
		if (r->kind == SHM_PAGE_LARGE) {
			if (n_large++ || !run_elsewhere(a, b, r->pages))
				return false;
			continue;
		}
		uint64_t need = 0, own = 0;
		for (uint32_t k = 0; k < b->n_runs; k++) {
			const struct alloc_run *q = alloc_rec(a, b->id[k]);
			if (q->kind != SHM_PAGE_SLAB || q->cls != r->cls)
				continue;
			need += slab_taken(a, q);
			own += q->n_free;
		}
		uint64_t has = c->n_free - own;
		uint64_t slabs = has < need ? (need - has + c->n_items - 1) / c->n_items : 0;
		if (slabs && !run_elsewhere(a, b, slabs * c->slab_pages))
			return false;
	}
	return true;
}

/* Puts the run behind the others.  False: nothing can be joined across it. */
static bool between_add(const struct shm_alloc *a, struct between *b, uint32_t id)
{
	const struct alloc_run *r = alloc_rec(a, id);
	struct window w = {0};

	if ((r->kind != SHM_PAGE_SLAB && r->kind != SHM_PAGE_LARGE) || r->stuck ||
		b->n_runs == JOIN_RUNS)
		return false;
	window_count(a, &w, r, 1);
	b->id[b->n_runs++] = id;
	b->n_items += w.n_items;
	b->bytes += w.bytes;
	return true;
}

static bool may_join(const struct shm_alloc *a, const struct between *b, const struct join *j)
{
	return b->n_runs && b->n_items <= j->max && b->bytes <= j->most_bytes &&
	       fits_elsewhere(a, b);
}

static void between_begin(struct between *b, const struct alloc_run *free)
{
	*b = (struct between){.lo = free->page,
		.hi = free->page + free->pages,
		.free_pages = free->pages,
		.longest = free->pages};
}

/* Of what stands between two free runs: the least bytes for the most free pages. */
static struct between least_between(
	const struct shm_alloc *a, const struct join *j, uint64_t *cursor)
{
	struct between best = {0}, b = {0};
	uint32_t page = next_head(a, *cursor);

	for (uint32_t looks = 0; page < a->n_pages && looks < JOIN_LOOKS; looks++) {
		uint32_t id = a->map[page];
		const struct alloc_run *r = alloc_rec(a, id);
		page += r->pages;
		if (r->kind != SHM_PAGE_FREE) {
			if (b.hi && !between_add(a, &b, id))
				b.hi = 0;
			continue;
		}
		b.free_pages += r->pages;
		b.longest = r->pages > b.longest ? r->pages : b.longest;
		if (b.hi && (!best.hi || b.free_pages * best.bytes > best.free_pages * b.bytes) &&
			may_join(a, &b, j)) {
			best = b;
			best.hi = page;
		}
		between_begin(&b, r);
	}
	*cursor = page < a->n_pages ? page : 0;
	return best;
}

/* What stands behind the next free run.  Its place is taken from its beginning on, so the free pages are
 * behind it then, and the next call moves them further: on to the next free run, which they join. */
static struct between first_behind(
	const struct shm_alloc *a, const struct join *j, uint64_t *cursor)
{
	uint32_t page = next_head(a, *cursor), first = 0;
	struct between b = {0};

	for (uint32_t looks = 0; page < a->n_pages && looks < JOIN_LOOKS; looks++) {
		uint32_t id = a->map[page];
		const struct alloc_run *r = alloc_rec(a, id);
		page += r->pages;
		if (r->kind == SHM_PAGE_FREE) {
			between_begin(&b, r);
			continue;
		}
		if (b.hi && between_add(a, &b, id)) {
			first = first ? first : b.lo;
			if (may_join(a, &b, j)) {
				b.hi = page;
				*cursor = first;
				return b;
			}
		}
		b.hi = 0;
	}
	*cursor = page < a->n_pages ? page : 0;
	return (struct between){0};
}

uint32_t shm_alloc_join(struct shm_alloc *a, struct shm_alloc_cursors *at, uint64_t most_bytes,
	uint64_t *off, uint32_t max)
{
	struct join j = {.most_bytes = most_bytes, .max = max};
	uint32_t n = 0;

	CHECK(!a->adopting);
	shm_alloc_compact_stop(a);
	struct between b = least_between(a, &j, &at->between);
	if (!b.hi)
		b = first_behind(a, &j, &at->behind);
	if (!b.hi)
		return 0;
	for (uint32_t i = 0; i < b.n_runs; i++)
		n = list_taken(a, alloc_rec(a, b.id[i]), off, n);
	hold(a, b.lo, b.hi, false);
	return n;
}

/* alloc_run.c - runs of pages: records, free lists, and page descriptors.
 *
 * Free runs are kept in lists by length, TLSF: below 32 pages one list a length,
 * above 32 lists for each power of two.  A search takes the first run of the
 * first list in which every run is long enough; only if there is none are up to
 * TLSF_SCAN_MAX runs of the list that `pages` itself falls in looked at, so that
 * a run of just the right length is found too.
 *
 * Page descriptors, for a successor after a SIGKILL between any two stores.
 * Whoever walks from head to head, always finds runs that follow one another:
 *
 *   take   1 the rest's head (inside a free run: means nothing yet)  alloc:run-rest
 *          2 the CONT words (the same)                               alloc:run-conts
 *          3 the head: run and rest exist at once                    alloc:run-heads
 *   give   1 the head becomes FREE                                   alloc:give-head
 *          2 the head of all that is joined gets the whole length    alloc:give-joined
 *          3 every other word inside becomes 0
 *
 * Holes (alloc_hole.c) go the same way: a part of a free run is first a free run of its own, and is a
 * hole from the one store of its head on; and back by give.
 *
 * So inside a free run there may be FREE and CONT words with any number, but
 * never the head of another kind; at rest they are all 0.
 */
#define _GNU_SOURCE
#include "alloc_i.h"
#include <stdlib.h>
#include "base/err.h"
#include "step.h"

struct shm_page *alloc_page_at(const struct shm_alloc *a, uint32_t page)
{
	uint32_t i = 0;

	while (i + 1 < a->n_regions && page >= a->region[i + 1].page)
		i++;
	return &a->region[i].table[page - a->region[i].page];
}

void alloc_page_store(struct shm_alloc *a, uint32_t page, enum shm_page_kind kind, uint64_t pages)
{
	shm_store_rlx(&alloc_page_at(a, page)->word, shm_page_make(kind, 0, pages));
	alloc_order();
}

int alloc_rec_reserve(struct shm_alloc *a, uint32_t n)
{
	if (a->n_rec_free >= n)
		return 0;
	uint32_t id = a->n_recs;
	struct alloc_run *c = calloc(1u << REC_SHIFT, sizeof *c);

	if (!c)
		return err_new(-ENOMEM);
	a->chunk[id >> REC_SHIFT] = c;
	a->n_recs += 1u << REC_SHIFT;
	for (uint32_t i = a->n_recs - 1; i >= id && i > 0; i--) /* record 0 is none */
		alloc_rec_free(a, i);
	return 0;
}

uint32_t alloc_rec_new(struct shm_alloc *a)
{
	uint32_t id = a->rec_free;

	CHECK(id);
	a->rec_free = alloc_rec(a, id)->next;
	a->n_rec_free--;
	*alloc_rec(a, id) = (struct alloc_run){.bucket = BUCKET_NONE};
	return id;
}

void alloc_rec_free(struct shm_alloc *a, uint32_t id)
{
	*alloc_rec(a, id) = (struct alloc_run){.next = a->rec_free};
	a->rec_free = id;
	a->n_rec_free++;
}

uint32_t alloc_run_bin(uint64_t pages)
{
	if (pages < TLSF_SECOND)
		return (uint32_t)pages;
	uint32_t log2 = 63 - (uint32_t)__builtin_clzll(pages);
	uint32_t second = (uint32_t)(pages >> (log2 - TLSF_SHIFT)) - TLSF_SECOND;

	return (log2 - TLSF_SHIFT + 1) << TLSF_SHIFT | second;
}

void alloc_run_list(struct shm_alloc *a, uint32_t id)
{
	struct alloc_run *r = alloc_rec(a, id);
	uint32_t bin = alloc_run_bin(r->pages);
	uint32_t f = bin >> TLSF_SHIFT, s = bin & (TLSF_SECOND - 1);

	r->prev = 0;
	r->next = a->list[f][s];
	if (r->next)
		alloc_rec(a, r->next)->prev = id;
	a->list[f][s] = id;
	a->first |= 1u << f;
	a->second[f] |= 1u << s;
}

void alloc_run_unlist(struct shm_alloc *a, uint32_t id)
{
	struct alloc_run *r = alloc_rec(a, id);
	uint32_t bin = alloc_run_bin(r->pages);
	uint32_t f = bin >> TLSF_SHIFT, s = bin & (TLSF_SECOND - 1);

	if (r->next)
		alloc_rec(a, r->next)->prev = r->prev;
	if (r->prev)
		alloc_rec(a, r->prev)->next = r->next;
	else
		a->list[f][s] = r->next;
	if (!a->list[f][s])
		a->second[f] &= ~(1u << s);
	if (!a->second[f])
		a->first &= ~(1u << f);
	r->prev = r->next = 0;
}

/* First run of the first list at or above `bin` that is not empty; 0: none. */
static uint32_t find_above(const struct shm_alloc *a, uint32_t bin)
{
	uint32_t f = bin >> TLSF_SHIFT;

	if (f >= TLSF_FIRST)
		return 0;
	uint32_t seconds = a->second[f] & ~0u << (bin & (TLSF_SECOND - 1));
	if (!seconds) {
		uint32_t firsts = f + 1 < TLSF_FIRST ? a->first & ~0u << (f + 1) : 0;
		if (!firsts)
			return 0;
		f = (uint32_t)__builtin_ctz(firsts);
		seconds = a->second[f];
	}
	return a->list[f][__builtin_ctz(seconds)];
}

static uint32_t find_free(const struct shm_alloc *a, uint64_t pages)
{
	uint32_t bin = alloc_run_bin(pages);
	uint64_t spread = 0; /* list lengths differ by up to this much */

	if (pages >= TLSF_SECOND)
		spread = (1ull << (63 - __builtin_clzll(pages) - TLSF_SHIFT)) - 1;
	uint32_t id = find_above(a, alloc_run_bin(pages + spread));
	if (id || bin >> TLSF_SHIFT >= TLSF_FIRST)
		return id;
	id = a->list[bin >> TLSF_SHIFT][bin & (TLSF_SECOND - 1)];
	for (uint32_t i = 0; id && i < TLSF_SCAN_MAX; i++, id = alloc_rec(a, id)->next)
		if (alloc_rec(a, id)->pages >= pages)
			return id;
	return 0;
}

bool alloc_run_has(const struct shm_alloc *a, uint64_t pages) { return find_free(a, pages) != 0; }

/* What is left behind the first `pages` of run r becomes a free run of its own. */
static void split_rest(struct shm_alloc *a, struct alloc_run *r, uint32_t pages)
{
	if (r->pages == pages)
		return;
	uint32_t id = alloc_rec_new(a);
	struct alloc_run *rest = alloc_rec(a, id);

	rest->kind = SHM_PAGE_FREE;
	rest->page = r->page + pages;
	rest->pages = r->pages - pages;
	r->pages = pages;
	a->map[rest->page] = id;
	a->map[rest->page + rest->pages - 1] = id;
	alloc_run_list(a, id);
	shm_store_rlx(
		&alloc_page_at(a, rest->page)->word, shm_page_make(SHM_PAGE_FREE, 0, rest->pages));
}

uint32_t alloc_run_take(struct shm_alloc *a, uint64_t pages, enum shm_page_kind kind, uint8_t cls)
{
	if (pages > a->n_pages || alloc_rec_reserve(a, 1) < 0)
		return 0;
	uint32_t id = find_free(a, pages);
	if (!id)
		return 0;
	struct alloc_run *r = alloc_rec(a, id);
	struct shm_page *d = alloc_page_at(a, r->page);

	alloc_run_unlist(a, id);
	split_rest(a, r, (uint32_t)pages);
	if (MUTANT(20))
		shm_store_rlx(&d->word, shm_page_make(kind, cls, pages));
	alloc_order();
	STEP("alloc:run-rest");
	for (uint32_t i = 1; i < pages; i++) {
		shm_store_rlx(&d[i].word, shm_page_make(SHM_PAGE_CONT, 0, i));
		a->map[r->page + i] = id;
	}
	alloc_order();
	STEP("alloc:run-conts");
	shm_store_rlx(&d->word, shm_page_make(kind, cls, pages));
	alloc_order();
	STEP("alloc:run-heads");

	a->map[r->page] = id;
	r->kind = (uint8_t)kind;
	r->cls = cls;
	r->bucket = BUCKET_NONE;
	r->closed = false;
	r->stuck = false;
	r->taken = true;
	r->note = 0;
	a->st.free_page_bytes -= alloc_off(r->pages);
	return id;
}

/* The free run that covers `page`, the end of a run or its start; 0: it is not free. */
static uint32_t free_at(const struct shm_alloc *a, uint64_t page)
{
	if (page >= a->n_pages)
		return 0;
	uint32_t id = a->map[page];
	const struct alloc_run *r = alloc_rec(a, id);

	return r->kind == SHM_PAGE_FREE && alloc_covers(r, page) ? id : 0;
}

/* Takes a free neighbour's record away; returns its pages. */
static uint32_t absorb(struct shm_alloc *a, uint32_t id)
{
	struct alloc_run *r = alloc_rec(a, id);
	uint32_t pages = r->pages;

	if (!r->closed)
		alloc_run_unlist(a, id);
	alloc_rec_free(a, id);
	return pages;
}

/* Lists a run that has become free, or holds it back. */
static void list_or_hold(struct shm_alloc *a, uint32_t id)
{
	struct alloc_run *r = alloc_rec(a, id);

	r->closed = alloc_held(a, r);
	if (!r->closed) {
		alloc_run_list(a, id);
		return;
	}
	if (r->page < a->hold_lo)
		a->hold_lo = r->page;
	if (r->page + r->pages > a->hold_hi)
		a->hold_hi = r->page + r->pages;
}

void alloc_run_give(struct shm_alloc *a, uint32_t id)
{
	struct alloc_run *r = alloc_rec(a, id);
	struct shm_page *d = alloc_page_at(a, r->page);
	uint32_t page = r->page, own = r->pages, left = 0, right = 0;
	uint32_t left_id = free_at(a, page - 1ull), right_id = free_at(a, (uint64_t)page + own);

	a->st.free_page_bytes += alloc_off(own);
	shm_store_rlx(&d->word, shm_page_make(SHM_PAGE_FREE, 0, own));
	alloc_order();
	STEP("alloc:give-head");
	if (right_id)
		right = absorb(a, right_id);
	if (left_id)
		left = absorb(a, left_id);
	shm_store_rlx(
		&d[-(ptrdiff_t)left].word, shm_page_make(SHM_PAGE_FREE, 0, left + own + right));
	alloc_order();
	STEP("alloc:give-joined");
	for (uint32_t i = left ? 0 : 1; i < own + (right ? 1 : 0); i++)
		if (shm_load_rlx(&d[i].word))
			shm_store_rlx(&d[i].word, 0);

	*r = (struct alloc_run){.bucket = BUCKET_NONE, .kind = SHM_PAGE_FREE};
	r->page = page - left;
	r->pages = left + own + right;
	a->map[r->page] = id;
	if (!MUTANT(22))
		a->map[r->page + r->pages - 1] = id;
	list_or_hold(a, id);
}

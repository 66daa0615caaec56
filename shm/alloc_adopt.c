/* alloc_adopt.c - taking over the page table of a predecessor.
 *
 * The scan walks each region's page table from head to head and only reads.  A
 * run is accepted if all of its words agree (rule I5); otherwise its pages are
 * given up and the walk goes on behind them: what is damaged costs its own run,
 * and every page is looked at a bounded number of times.
 *
 * A killed predecessor leaves nothing to give up: alloc_run.c says why.  Pages
 * are given up only when somebody scribbled over descriptors, or when the region
 * was never formatted (all words 0).
 *
 * Nothing is written before shm_alloc_adopt_end(), so that a second death leaves
 * the table as it was; after it, every word is as invariant I5 and alloc_run.c
 * want it.
 */
#define _GNU_SOURCE
#include "alloc_i.h"
#include "base/err.h"
#include "step.h"

/* Looks at the run whose head is entry i of the region's table.  Returns the pages that
 * the walk goes on behind; *ret_good: they are a consistent run. */
static uint32_t look(
	const struct shm_alloc *a, const struct alloc_region *g, uint32_t i, bool *ret_good)
{
	uint64_t w = shm_load_rlx(&g->table[i].word);
	uint32_t kind = shm_page_kind(w), cls = shm_page_class(w), n = shm_page_run(w), j = 1;

	*ret_good = false;
	if (w != shm_page_make(kind, kind == SHM_PAGE_SLAB ? cls : 0, n))
		return 1;
	if (kind == SHM_PAGE_FREE || kind == SHM_PAGE_HOLE) {
		for (; j < n && j < g->pages - i; j++) {
			uint32_t k = shm_page_kind(shm_load_rlx(&g->table[i + j].word));
			if (k != kind && k != SHM_PAGE_FREE &&
				(k != SHM_PAGE_CONT || kind == SHM_PAGE_HOLE))
				break;
		}
		*ret_good = j == n;
		return j;
	}
	if (kind != SHM_PAGE_SLAB && kind != SHM_PAGE_LARGE && kind != SHM_PAGE_TABLE)
		return 1;
	if (n < 1 || n > g->pages - i)
		return 1;
	if (kind == SHM_PAGE_SLAB && (cls >= a->n_classes || n != a->cls[cls].slab_pages))
		return 1;
	for (; j < n && !MUTANT(23); j++)
		if (shm_load_rlx(&g->table[i + j].word) != shm_page_make(SHM_PAGE_CONT, 0, j))
			return 1;
	*ret_good = true;
	return n;
}

/* A record for a run that was found.  0; -ENOMEM */
static int add_run(struct shm_alloc *a, uint32_t page, uint32_t pages, uint32_t kind, uint32_t cls)
{
	int r = alloc_rec_reserve(a, 1);

	if (r < 0)
		return err_fwd(r);
	uint32_t id = alloc_rec_new(a);
	struct alloc_run *run = alloc_rec(a, id);
	run->page = page;
	run->pages = pages;
	run->kind = (uint8_t)kind;
	run->cls = (uint8_t)cls;
	a->map[page + pages - 1] = id;
	bool by_ends = kind == ALLOC_PENDING || kind == SHM_PAGE_HOLE;
	for (uint32_t i = 0; i < (by_ends ? 1 : pages); i++)
		a->map[page + i] = id;
	if (kind == SHM_PAGE_HOLE) {
		a->st.hole_bytes += alloc_off(pages);
		a->st.total_bytes -= alloc_off(pages);
	}
	return kind == SHM_PAGE_SLAB ? err_fwd(alloc_slab_init(a, id, false)) : 0;
}

static int scan_region(struct shm_alloc *a, const struct alloc_region *g)
{
	uint32_t pending = 0; /* entries before i that will be one free run */
	bool good;
	int r;

	for (uint32_t i = g->meta_pages, n; i < g->pages; i += n) {
		uint64_t w = shm_load_rlx(&g->table[i].word);
		n = look(a, g, i, &good);
		if (!good)
			a->given_up_bytes += alloc_off(n);
		if (!good || shm_page_kind(w) == SHM_PAGE_FREE) {
			pending += n;
			continue;
		}
		if (pending) {
			r = add_run(a, g->page + i - pending, pending, ALLOC_PENDING, 0);
			if (r < 0)
				return err_fwd(r);
			pending = 0;
		}
		r = add_run(a, g->page + i, n, shm_page_kind(w), shm_page_class(w));
		if (r < 0)
			return err_fwd(r);
	}
	if (!pending)
		return 0;
	return err_fwd(add_run(a, g->page + g->pages - pending, pending, ALLOC_PENDING, 0));
}

int alloc_adopt_scan(struct shm_alloc *a)
{
	for (uint32_t i = 0; i < a->n_regions; i++) {
		int r = scan_region(a, &a->region[i]);
		if (r < 0)
			return err_fwd(r);
	}
	a->adopting = true;
	return 0;
}

/* Claims the large item or table that begins at off, the start of run r or not. */
static int claim_run(struct shm_alloc *a, struct alloc_run *r, uint64_t off, uint64_t bytes)
{
	if (r->kind != SHM_PAGE_LARGE && r->kind != SHM_PAGE_TABLE)
		return ALLOC_BAD;
	if (alloc_off(r->page) != off || r->taken || alloc_pages(bytes) > r->pages)
		return ALLOC_BAD;
	r->taken = true;
	a->st.taken_bytes += alloc_off(r->pages);
	a->st.n_taken++;
	return 0;
}

static int claim(struct shm_alloc *a, uint64_t off, uint64_t bytes, bool item)
{
	uint64_t page = off / SHM_PAGE;

	CHECK(a->adopting);
	if (page >= a->n_pages || bytes == 0)
		return ALLOC_BAD;
	struct alloc_run *r = alloc_rec(a, a->map[page]);
	if (!alloc_covers(r, page) || (item && r->kind == SHM_PAGE_TABLE))
		return ALLOC_BAD;
	if (r->kind != SHM_PAGE_SLAB)
		return claim_run(a, r, off, bytes);
	int i = alloc_slab_place(a, r, off);
	if (i < 0 || bytes > a->cls[r->cls].item_bytes || r->bits[i / 64] >> i % 64 & 1)
		return ALLOC_BAD;
	alloc_slab_claim(a, r, (uint32_t)i);
	return 0;
}

int shm_alloc_claim(struct shm_alloc *a, uint64_t off, uint64_t bytes)
{
	return claim(a, off, bytes, false);
}

int shm_alloc_claim_item(struct shm_alloc *a, uint64_t off, uint64_t bytes)
{
	return claim(a, off, bytes, true);
}

void shm_alloc_ahead_far(const struct shm_alloc *a, uint64_t off)
{
	if (off / SHM_PAGE < a->n_pages)
		__builtin_prefetch(&a->map[off / SHM_PAGE]);
}

void shm_alloc_ahead_near(const struct shm_alloc *a, uint64_t off)
{
	uint64_t page = off / SHM_PAGE;

	if (page >= a->n_pages)
		return;
	const struct alloc_run *r = alloc_rec(a, a->map[page]);
	if (r->kind != SHM_PAGE_SLAB || !alloc_covers(r, page))
		return;
	int i = alloc_slab_place(a, r, off);
	if (i < 0)
		return;
	__builtin_prefetch(&r->bits[i / 64], 1);
	__builtin_prefetch(&alloc_notes(a, r)[i], 1);
}

/* Writes the words of the header's and the page table's own pages where they are not so. */
static void repair_meta(const struct alloc_region *g)
{
	for (uint32_t i = 0; i < g->meta_pages; i++) {
		uint64_t w = shm_page_make(
			i ? SHM_PAGE_CONT : SHM_PAGE_META, 0, i ? i : g->meta_pages);
		if (shm_load_rlx(&g->table[i].word) != w)
			shm_store_rlx(&g->table[i].word, w);
	}
}

/* What a death in the middle of a fill has left inside a hole. */
static void clear_inside(const struct shm_alloc *a, const struct alloc_run *r)
{
	struct shm_page *d = alloc_page_at(a, r->page);

	for (uint32_t i = 1; i < r->pages; i++)
		if (shm_load_rlx(&d[i].word))
			shm_store_rlx(&d[i].word, 0);
}

uint64_t shm_alloc_adopt_end(struct shm_alloc *a)
{
	CHECK(a->adopting);
	for (uint32_t i = 0; i < a->n_regions; i++)
		repair_meta(&a->region[i]);
	for (uint32_t page = 0, pages; page < a->n_pages; page += pages) {
		uint32_t id = a->map[page];
		struct alloc_run *r = alloc_rec(a, id);
		CHECK(r->page == page && r->pages);
		pages = r->pages;
		if (r->kind == SHM_PAGE_META)
			continue;
		if (r->kind == SHM_PAGE_HOLE) {
			clear_inside(a, r);
			continue;
		}
		if (r->kind == SHM_PAGE_SLAB && r->n_free == a->cls[r->cls].n_items)
			alloc_slab_end(a, id);
		else if (r->kind == SHM_PAGE_SLAB)
			alloc_slab_relist(a, id);
		else if (!r->taken)
			alloc_run_give(a, id);
		STEP("alloc:adopt-repair");
	}
	a->adopting = false;
	return a->given_up_bytes;
}

static void walk_slab(
	const struct shm_alloc *a, const struct alloc_run *r, shm_alloc_free_each *each, void *arg)
{
	const struct alloc_class *c = &a->cls[r->cls];

	for (uint32_t i = 0; i < c->n_items; i++)
		if (!(r->bits[i / 64] >> i % 64 & 1))
			each(arg, alloc_off(r->page) + (uint64_t)i * c->item_bytes, c->item_bytes);
}

void shm_alloc_walk_free(const struct shm_alloc *a, shm_alloc_free_each *each, void *arg)
{
	CHECK(!a->adopting);
	for (uint32_t page = 0, pages; page < a->n_pages; page += pages) {
		const struct alloc_run *r = alloc_rec(a, a->map[page]);
		CHECK(r->page == page && r->pages);
		pages = r->pages;
		if (r->kind == SHM_PAGE_FREE)
			each(arg, alloc_off(page), alloc_off(pages));
		else if (r->kind == SHM_PAGE_SLAB)
			walk_slab(a, r, each, arg);
	}
}

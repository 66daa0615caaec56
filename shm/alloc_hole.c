/* alloc_hole.c - pages whose memory the system has back, and regions that come later.
 *
 * A hole is a run of its own kind: nothing is ever taken there, no window goes over it.  Its page
 * descriptors stay where they are, in the page table of its region, which is never a hole.
 *
 * For a successor after a SIGKILL (see alloc_run.c), as always from head to head:
 *
 *   make   1 the head of what is left behind it       (inside a free run: means nothing yet)
 *          2 the hole's head, as that of a free run   (the same)
 *          3 the head of what is left before it: three free runs side by side
 *          4 the hole's head                                               alloc:hole-head
 *   fill   1 the head of the part that is to be filled, a hole still  (inside a hole: nothing yet)
 *          2 the head of what stays a hole: two holes                     alloc:hole-split
 *          3 given back, as any run
 */
#define _GNU_SOURCE
#include "alloc_i.h"
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "step.h"

/* A record for a run that stands in map[] by its ends. */
static uint32_t rec_make(
	struct shm_alloc *a, uint32_t page, uint32_t pages, enum shm_page_kind kind)
{
	uint32_t id = alloc_rec_new(a);
	struct alloc_run *r = alloc_rec(a, id);

	r->page = page;
	r->pages = pages;
	r->kind = (uint8_t)kind;
	a->map[page] = a->map[page + pages - 1] = id;
	return id;
}

/* The stretch of whole units in a free run, at most `most` pages, at its end.  Returns its pages. */
static uint64_t stretch(const struct alloc_run *r, uint64_t most, uint64_t unit, uint64_t *ret_page)
{
	uint64_t hi = (r->page + (uint64_t)r->pages) / unit * unit;
	uint64_t lo = (r->page + unit - 1) / unit * unit;

	if (hi <= lo)
		return 0;
	if (hi - lo > most)
		lo = hi - most;
	*ret_page = lo;
	return hi - lo;
}

/* A free run with at least one whole unit: of the longest ones first. */
static uint32_t find_stretch(const struct shm_alloc *a, uint64_t most, uint64_t unit)
{
	uint64_t page;

	for (int f = TLSF_FIRST - 1; f >= 0; f--)
		for (int s = a->second[f] ? TLSF_SECOND - 1 : -1; s >= 0; s--) {
			uint32_t looks = 0;
			for (uint32_t id = a->list[f][s]; id && looks < TLSF_SCAN_MAX; looks++) {
				if (stretch(alloc_rec(a, id), most, unit, &page))
					return id;
				id = alloc_rec(a, id)->next;
			}
		}
	return 0;
}

int shm_alloc_hole_make(
	struct shm_alloc *a, uint64_t bytes, uint64_t unit, uint64_t *ret_off, uint64_t *ret_bytes)
{
	uint64_t page = 0, unit_pages = unit / SHM_PAGE, most = bytes / unit * unit_pages;

	CHECK(!a->adopting && unit_pages);
	if (!most || alloc_rec_reserve(a, 2) < 0)
		return ALLOC_FULL;
	uint32_t id = find_stretch(a, most, unit_pages);
	if (!id)
		return ALLOC_FULL;
	struct alloc_run *r = alloc_rec(a, id);
	uint32_t n = (uint32_t)stretch(r, most, unit_pages, &page), from = (uint32_t)page;
	uint32_t left = from - r->page, right = r->page + r->pages - from - n;

	alloc_run_unlist(a, id);
	if (right) {
		alloc_run_list(a, rec_make(a, from + n, right, SHM_PAGE_FREE));
		alloc_page_store(a, from + n, SHM_PAGE_FREE, right);
	}
	if (left) {
		alloc_page_store(a, from, SHM_PAGE_FREE, n);
		alloc_page_store(a, r->page, SHM_PAGE_FREE, left);
		r->pages = left;
		a->map[r->page + left - 1] = id;
		alloc_run_list(a, id);
		(void)rec_make(a, from, n, SHM_PAGE_HOLE);
	} else {
		r->pages = n;
		r->kind = SHM_PAGE_HOLE;
		a->map[from + n - 1] = id;
	}
	alloc_page_store(a, from, SHM_PAGE_HOLE, n);
	STEP("alloc:hole-head");
	a->st.free_page_bytes -= alloc_off(n);
	a->st.total_bytes -= alloc_off(n);
	a->st.hole_bytes += alloc_off(n);
	*ret_off = alloc_off(from);
	*ret_bytes = alloc_off(n);
	return 0;
}

bool shm_alloc_hole_next(
	const struct shm_alloc *a, uint64_t from, uint64_t *ret_off, uint64_t *ret_bytes)
{
	for (uint32_t page = 0; page < a->n_pages && a->st.hole_bytes;) {
		const struct alloc_run *r = alloc_rec(a, a->map[page]);
		CHECK(r->page == page && r->pages);
		page += r->pages;
		if (r->kind != SHM_PAGE_HOLE || alloc_off(page) <= from)
			continue;
		*ret_off = alloc_off(r->page);
		*ret_bytes = alloc_off(r->pages);
		return true;
	}
	return false;
}

int shm_alloc_hole_find(const struct shm_alloc *a, uint64_t bytes, uint64_t unit, uint64_t *ret_off,
	uint64_t *ret_bytes)
{
	uint64_t most = bytes / unit * unit, off, has;

	if (!most || !shm_alloc_hole_next(a, 0, &off, &has))
		return ALLOC_FULL;
	*ret_bytes = has < most ? has : most;
	*ret_off = off + has - *ret_bytes;
	return 0;
}

int shm_alloc_hole_fill(struct shm_alloc *a, uint64_t off, uint64_t bytes)
{
	uint32_t page = (uint32_t)(off / SHM_PAGE), n = (uint32_t)(bytes / SHM_PAGE);
	uint64_t hole_off, hole_bytes;

	CHECK(!a->adopting && shm_alloc_hole_next(a, off, &hole_off, &hole_bytes));
	CHECK(n && off >= hole_off && off + bytes == hole_off + hole_bytes);
	if (alloc_rec_reserve(a, 1) < 0)
		return ALLOC_FULL;
	uint32_t id = a->map[hole_off / SHM_PAGE];
	struct alloc_run *r = alloc_rec(a, id);
	if (r->page != page) {
		alloc_page_store(a, page, SHM_PAGE_HOLE, n);
		alloc_page_store(a, r->page, SHM_PAGE_HOLE, page - r->page);
		STEP("alloc:hole-split");
		r->pages = page - r->page;
		a->map[page - 1] = id;
		id = rec_make(a, page, n, SHM_PAGE_HOLE);
	}
	a->st.total_bytes += bytes;
	a->st.hole_bytes -= bytes;
	alloc_run_give(a, id);
	return 0;
}

bool shm_alloc_is_used(const struct shm_alloc *a, uint64_t off)
{
	uint64_t page = off / SHM_PAGE;

	if (page >= a->n_pages)
		return false;
	const struct alloc_run *r = alloc_rec(a, a->map[page]);
	return alloc_covers(r, page) &&
	       (r->kind == SHM_PAGE_SLAB || r->kind == SHM_PAGE_LARGE || r->kind == SHM_PAGE_TABLE);
}

/* ------------------------------------------------------------ regions */

int shm_alloc_add_region(struct shm_alloc *a, void *base, const struct shm_region *region)
{
	struct alloc_region g;
	int r = alloc_region_load(a, base, region, &g);

	CHECK(!a->adopting);
	if (r == 0)
		r = alloc_rec_reserve(a, 2);
	if (r < 0)
		return err_fwd(r);
	uint64_t n_pages = a->n_pages + (uint64_t)g.pages;
	uint64_t had = (a->n_pages >> REC_SHIFT) + 2u, n_chunks = (n_pages >> REC_SHIFT) + 2u;
	uint32_t *map = realloc(a->map, n_pages * sizeof *map);
	if (!map)
		return err_new(-ENOMEM);
	a->map = map;
	struct alloc_run **chunk = realloc(a->chunk, n_chunks * sizeof *chunk);
	if (!chunk)
		return err_new(-ENOMEM);
	a->chunk = chunk;
	memset(chunk + had, 0, (n_chunks - had) * sizeof *chunk);
	memset(map + a->n_pages, 0, g.pages * sizeof *map);
	a->region[a->n_regions++] = g;
	a->n_pages = (uint32_t)n_pages;
	a->st.total_bytes += alloc_off(g.pages);
	CHECK(alloc_region_begin(a, &g) == 0 && alloc_region_format(a, &g) == 0);
	STEP("alloc:region-added");
	return 0;
}

/* alloc.c - making and ending an allocator; take, give and look-ups.
 *
 * Invariants of the private state, as shm_alloc_verify() numbers them:
 *
 *   5    a page descriptor is not what its run's record says, or a word inside a
 *        free run is not 0 (layout/l_pool.h, alloc_run.c)
 *   101  map[]: a run does not begin where the one before it ends, or a page of
 *        a used run is not mapped to it
 *   102  a run: unknown kind, a slab of a wrong length, two free neighbours
 *   103  free lists: a free run is not in the list of its length, or the bits
 *        that say which lists are not empty are wrong
 *   104  a slab's bits, its count of free places or its hint disagree
 *   105  class lists: a slab is not in the list of its count, or a class's sum
 *        of free places is wrong
 *   106  accounts: not what a walk over everything finds, or their sum is not
 *        the total
 *   107  a record is lost or used twice
 */
#define _GNU_SOURCE
#include "alloc_i.h"
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "step.h"

DEFINE_CLEANUP(struct shm_alloc *, shm_alloc_free)

int alloc_region_load(
	struct shm_alloc *a, char *base, const struct shm_region *region, struct alloc_region *ret)
{
	uint64_t pages = region->bytes / SHM_PAGE;
	uint64_t meta_pages = 1 + alloc_pages(pages * sizeof(struct shm_page));

	if (a->n_regions == SHM_REGIONS_MAX || region->base_off != alloc_off(a->n_pages) ||
		region->bytes % SHM_PAGE || pages <= meta_pages || a->n_pages + pages > INT32_MAX)
		return err_new(-EINVAL);
	*ret = (struct alloc_region){.page = a->n_pages,
		.pages = (uint32_t)pages,
		.meta_pages = (uint32_t)meta_pages,
		.table = (struct shm_page *)(base + region->base_off + SHM_PAGE)};
	return 0;
}

/* Checks and copies the regions.  0; -EINVAL */
static int load_regions(
	struct shm_alloc *a, char *base, const struct shm_region *region, uint32_t n)
{
	if (n < 1 || n > SHM_REGIONS_MAX)
		return err_new(-EINVAL);
	for (uint32_t i = 0; i < n; i++) {
		struct alloc_region *g = &a->region[i];
		int r = alloc_region_load(a, base, &region[i], g);
		if (r < 0)
			return err_fwd(r);
		a->n_regions++;
		a->n_pages += g->pages;
		a->st.total_bytes += alloc_off(g->pages);
	}
	return 0;
}

/* A region's header and page table are a run that never changes. */
int alloc_region_begin(struct shm_alloc *a, const struct alloc_region *g)
{
	int r = alloc_rec_reserve(a, 1);

	if (r < 0)
		return err_fwd(r);
	uint32_t id = alloc_rec_new(a);
	*alloc_rec(a, id) = (struct alloc_run){.page = g->page,
		.pages = g->meta_pages,
		.kind = SHM_PAGE_META,
		.bucket = BUCKET_NONE};
	for (uint32_t p = 0; p < g->meta_pages; p++)
		a->map[g->page + p] = id;
	a->st.meta_bytes += alloc_off(g->meta_pages);
	return 0;
}

static int add_meta(struct shm_alloc *a)
{
	for (uint32_t i = 0; i < a->n_regions; i++) {
		int r = alloc_region_begin(a, &a->region[i]);
		if (r < 0)
			return err_fwd(r);
	}
	return 0;
}

/* Writes region g's page table: what it needs itself, and one free run. */
int alloc_region_format(struct shm_alloc *a, const struct alloc_region *g)
{
	int r = alloc_rec_reserve(a, 1);

	if (r < 0)
		return err_fwd(r);
	for (uint32_t i = 0; i < g->pages; i++) {
		uint64_t w = 0;
		if (i == 0)
			w = shm_page_make(SHM_PAGE_META, 0, g->meta_pages);
		else if (i < g->meta_pages)
			w = shm_page_make(SHM_PAGE_CONT, 0, i);
		else if (i == g->meta_pages)
			w = shm_page_make(SHM_PAGE_FREE, 0, g->pages - g->meta_pages);
		shm_store_rlx(&g->table[i].word, w);
	}
	uint32_t id = alloc_rec_new(a);
	struct alloc_run *run = alloc_rec(a, id);
	run->kind = SHM_PAGE_FREE;
	run->page = g->page + g->meta_pages;
	run->pages = g->pages - g->meta_pages;
	a->map[run->page] = id;
	a->map[g->page + g->pages - 1] = id;
	a->st.free_page_bytes += alloc_off(run->pages);
	alloc_run_list(a, id);
	return 0;
}

static int format_all(struct shm_alloc *a)
{
	for (uint32_t i = 0; i < a->n_regions; i++) {
		int r = alloc_region_format(a, &a->region[i]);
		if (r < 0)
			return err_fwd(r);
	}
	return 0;
}

int shm_alloc_new(void *base, const struct shm_region *region, uint32_t n_regions, bool format,
	struct shm_alloc **ret)
{
	_cleanup_(shm_alloc_freep) struct shm_alloc *a = calloc(1, sizeof *a);
	const struct shm_pool *pool = base;

	if (!a)
		return err_new(-ENOMEM);
	int r = load_regions(a, base, region, n_regions);
	if (r < 0)
		return err_fwd(r);
	r = alloc_class_load(a, pool->cls, pool->n_classes);
	if (r < 0)
		return err_fwd(r);
	a->map = calloc(a->n_pages, sizeof *a->map);
	a->chunk = calloc((a->n_pages >> REC_SHIFT) + 2u, sizeof *a->chunk);
	if (!a->map || !a->chunk)
		return err_new(-ENOMEM);
	r = add_meta(a);
	if (r < 0)
		return err_fwd(r);
	r = format ? format_all(a) : alloc_adopt_scan(a);
	if (r < 0)
		return err_fwd(r);
	*ret = steal_ptr(a);
	return 0;
}

void shm_alloc_free(struct shm_alloc *a)
{
	if (!a)
		return;
	for (uint32_t id = 0; id < a->n_recs; id++)
		free(alloc_rec(a, id)->bits);
	for (uint32_t i = 0; i < a->n_recs >> REC_SHIFT; i++)
		free(a->chunk[i]);
	free(a->chunk);
	free(a->map);
	free(a);
}

/* A run of its own for an item or a table.  0 or ALLOC_FULL. */
static int take_run(struct shm_alloc *a, uint64_t bytes, enum shm_page_kind kind, uint64_t *ret_off)
{
	uint32_t id = alloc_run_take(a, alloc_pages(bytes), kind, 0);

	if (!id)
		return ALLOC_FULL;
	a->st.taken_bytes += alloc_off(alloc_rec(a, id)->pages);
	a->st.n_taken++;
	*ret_off = alloc_off(alloc_rec(a, id)->page);
	return 0;
}

/* An item's place: in a slab; in a run where the item is large, or where there is no
 * slab to be had and a run wastes at most an eighth.  0 or ALLOC_FULL. */
static int take_item(struct shm_alloc *a, uint64_t bytes, uint64_t *ret_off)
{
	if (bytes <= a->class_bytes_max) {
		if (alloc_slab_take(a, alloc_class_of(a, bytes), ret_off) == 0)
			return 0;
		if (bytes * 8 < alloc_pages(bytes) * SHM_PAGE * 7)
			return ALLOC_FULL;
	}
	return take_run(a, bytes, SHM_PAGE_LARGE, ret_off);
}

/* Whether room is held back that a take which found none should try again with. */
static bool reopen(struct shm_alloc *a)
{
	if (a->hold_lo == a->hold_hi)
		return false;
	shm_alloc_compact_stop(a);
	return true;
}

int shm_alloc_take(
	struct shm_alloc *a, uint64_t bytes, uint64_t *ret_off, uint64_t *ret_place_bytes)
{
	CHECK(bytes > 0 && !a->adopting);
	if (take_item(a, bytes, ret_off) != 0 && (!reopen(a) || take_item(a, bytes, ret_off) != 0))
		return ALLOC_FULL;
	const struct alloc_run *r = alloc_rec(a, a->map[*ret_off / SHM_PAGE]);
	*ret_place_bytes = r->kind == SHM_PAGE_SLAB ? a->cls[r->cls].item_bytes
	                                            : alloc_off(r->pages);
	return 0;
}

int shm_alloc_take_table(struct shm_alloc *a, uint64_t bytes, uint64_t *ret_off)
{
	CHECK(bytes > 0 && !a->adopting);
	if (take_run(a, bytes, SHM_PAGE_TABLE, ret_off) != 0 &&
		(!reopen(a) || take_run(a, bytes, SHM_PAGE_TABLE, ret_off) != 0))
		return ALLOC_FULL;
	return 0;
}

/* The run in which something that is taken starts at off, 0 if nothing does; in a slab,
 * *ret_i is the place. */
static uint32_t find_taken(const struct shm_alloc *a, uint64_t off, uint32_t *ret_i)
{
	uint64_t page = off / SHM_PAGE;

	if (page >= a->n_pages)
		return 0;
	uint32_t id = a->map[page];
	const struct alloc_run *r = alloc_rec(a, id);
	if (!alloc_covers(r, page))
		return 0;
	if (r->kind == SHM_PAGE_SLAB) {
		int i = alloc_slab_place(a, r, off);
		if (MUTANT(21) && i < 0)
			i = 0;
		if (i < 0 || !(r->bits[i / 64] >> i % 64 & 1))
			return 0;
		*ret_i = (uint32_t)i;
		return id;
	}
	if (r->kind != SHM_PAGE_LARGE && r->kind != SHM_PAGE_TABLE)
		return 0;
	return r->taken && alloc_off(r->page) == off ? id : 0;
}

void shm_alloc_give(struct shm_alloc *a, uint64_t off)
{
	uint32_t i = 0, id = find_taken(a, off, &i);

	CHECK(id && !a->adopting);
	const struct alloc_run *r = alloc_rec(a, id);
	if (r->kind == SHM_PAGE_SLAB) {
		alloc_slab_give(a, id, i);
		return;
	}
	a->st.taken_bytes -= alloc_off(r->pages);
	a->st.n_taken--;
	alloc_run_give(a, id);
}

uint64_t shm_alloc_total_bytes(const struct shm_alloc *a) { return a->st.total_bytes; }

uint64_t shm_alloc_free_bytes(const struct shm_alloc *a)
{
	return a->st.free_page_bytes + a->st.free_place_bytes;
}

bool shm_alloc_is_taken(const struct shm_alloc *a, uint64_t off)
{
	uint32_t i, id = find_taken(a, off, &i);

	return id && alloc_rec(a, id)->kind != SHM_PAGE_TABLE;
}

uint64_t shm_alloc_place_bytes(const struct shm_alloc *a, uint64_t off)
{
	uint32_t i, id = find_taken(a, off, &i);

	CHECK(id);
	const struct alloc_run *r = alloc_rec(a, id);
	return r->kind == SHM_PAGE_SLAB ? a->cls[r->cls].item_bytes : alloc_off(r->pages);
}

uint32_t *shm_alloc_note(struct shm_alloc *a, uint64_t off)
{
	uint32_t i = 0, id = find_taken(a, off, &i);

	CHECK(id);
	struct alloc_run *r = alloc_rec(a, id);
	CHECK(r->kind != SHM_PAGE_TABLE);
	return r->kind == SHM_PAGE_SLAB ? &alloc_notes(a, r)[i] : &r->note;
}

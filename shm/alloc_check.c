/* alloc_check.c - the whole state against itself, and the accounts.
 * The numbers are listed at the top of alloc.c. */
#define _GNU_SOURCE
#include "alloc_i.h"
#include <string.h>

/* What a walk over all runs finds. */
struct found {
	struct shm_alloc_stats st;
	uint32_t n_runs, n_free_listed, n_slabs_listed;
	uint64_t class_free[SHM_CLASSES_MAX];
};

static int check_words(const struct shm_alloc *a, const struct alloc_run *r)
{
	const struct shm_page *d = alloc_page_at(a, r->page);
	uint32_t cls = r->kind == SHM_PAGE_SLAB ? r->cls : 0;

	if (shm_load_rlx(&d->word) != shm_page_make(r->kind, cls, r->pages))
		return 5;
	for (uint32_t i = 1; i < r->pages; i++) {
		bool by_ends = r->kind == SHM_PAGE_FREE || r->kind == SHM_PAGE_HOLE;
		uint64_t w = by_ends ? 0 : shm_page_make(SHM_PAGE_CONT, 0, i);
		if (shm_load_rlx(&d[i].word) != w)
			return 5;
	}
	return 0;
}

static bool is_first(const struct shm_alloc *a, uint32_t id, uint32_t head)
{
	const struct alloc_run *r = alloc_rec(a, id);

	return r->prev ? alloc_rec(a, r->prev)->next == id : head == id;
}

static int check_slab(const struct shm_alloc *a, uint32_t id, struct found *f)
{
	const struct alloc_run *r = alloc_rec(a, id);
	const struct alloc_class *c = &a->cls[r->cls];
	uint32_t n_ones = 0, n_taken = c->n_items - r->n_free;

	if (r->cls >= a->n_classes || r->pages != c->slab_pages)
		return 102;
	for (uint32_t i = 0; i < c->n_words; i++) {
		n_ones += (uint32_t)__builtin_popcountll(r->bits[i]);
		if (i < r->hint && ~r->bits[i])
			return 104;
	}
	if (n_ones != n_taken + c->n_words * 64 - c->n_items || !n_taken)
		return 104;
	uint8_t bucket = r->n_free && !r->closed ? (uint8_t)(r->n_free >> c->shift) : BUCKET_NONE;
	if (r->bucket != bucket)
		return 105;
	if (bucket != BUCKET_NONE) {
		f->n_slabs_listed++;
		if (!(c->mask >> bucket & 1) || !is_first(a, id, c->head[bucket]))
			return 105;
	}
	f->class_free[r->cls] += r->n_free;
	f->st.n_taken += n_taken;
	f->st.taken_bytes += (uint64_t)n_taken * c->item_bytes;
	f->st.free_place_bytes += (uint64_t)r->n_free * c->item_bytes;
	f->st.tail_bytes += c->tail_bytes;
	return 0;
}

static int check_free(const struct shm_alloc *a, uint32_t id, struct found *f)
{
	const struct alloc_run *r = alloc_rec(a, id);
	uint32_t bin = alloc_run_bin(r->pages);
	uint32_t i = bin >> TLSF_SHIFT, j = bin & (TLSF_SECOND - 1);

	f->st.free_page_bytes += alloc_off(r->pages);
	if (r->page + r->pages < a->n_pages &&
		alloc_rec(a, a->map[r->page + r->pages])->kind == SHM_PAGE_FREE)
		return 102;
	if (r->closed)
		return alloc_held(a, r) ? 0 : 103;
	f->n_free_listed++;
	if (!(a->first >> i & 1) || !(a->second[i] >> j & 1) || !is_first(a, id, a->list[i][j]))
		return 103;
	return 0;
}

static int check_run(const struct shm_alloc *a, uint32_t id, struct found *f)
{
	const struct alloc_run *r = alloc_rec(a, id);

	bool by_ends = r->kind == SHM_PAGE_FREE || r->kind == SHM_PAGE_HOLE;

	f->n_runs++;
	for (uint32_t i = 0; i < r->pages && !by_ends; i++)
		if (a->map[r->page + i] != id)
			return 101;
	if (a->map[r->page + r->pages - 1] != id)
		return 101;
	switch (r->kind) {
	case SHM_PAGE_META:
		f->st.meta_bytes += alloc_off(r->pages);
		break;
	case SHM_PAGE_HOLE:
		f->st.hole_bytes += alloc_off(r->pages);
		f->st.total_bytes -= alloc_off(r->pages);
		break;
	case SHM_PAGE_LARGE:
	case SHM_PAGE_TABLE:
		f->st.taken_bytes += alloc_off(r->pages);
		f->st.n_taken++;
		if (!r->taken)
			return 102;
		break;
	case SHM_PAGE_SLAB:
	case SHM_PAGE_FREE: {
		int n = r->kind == SHM_PAGE_SLAB ? check_slab(a, id, f) : check_free(a, id, f);
		if (n)
			return n;
		break;
	}
	default:
		return 102;
	}
	return check_words(a, r);
}

/* The lists hold no more than the walk found, and the bits are right. */
static int check_lists(const struct shm_alloc *a, const struct found *f)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < TLSF_FIRST; i++) {
		if ((a->first >> i & 1) != (a->second[i] != 0))
			return 103;
		for (uint32_t j = 0; j < TLSF_SECOND; j++) {
			if ((a->second[i] >> j & 1) != (a->list[i][j] != 0))
				return 103;
			for (uint32_t id = a->list[i][j]; id; id = alloc_rec(a, id)->next)
				if (n++ >= f->n_free_listed)
					return 103;
		}
	}
	if (n != f->n_free_listed)
		return 103;
	n = 0;
	for (uint32_t k = 0; k < a->n_classes; k++) {
		const struct alloc_class *c = &a->cls[k];
		if (c->n_free != f->class_free[k])
			return 105;
		for (uint32_t b = 0; b < BUCKETS; b++) {
			if ((c->mask >> b & 1) != (c->head[b] != 0))
				return 105;
			for (uint32_t id = c->head[b]; id; id = alloc_rec(a, id)->next)
				if (n++ >= f->n_slabs_listed)
					return 105;
		}
	}
	return n == f->n_slabs_listed ? 0 : 105;
}

int shm_alloc_verify(const struct shm_alloc *a)
{
	struct found f = {.st = {.total_bytes = alloc_off(a->n_pages)}};
	uint32_t page = 0, n_unused = 0;

	while (page < a->n_pages) {
		uint32_t id = a->map[page];
		if (!id || id >= a->n_recs || alloc_rec(a, id)->page != page ||
			!alloc_rec(a, id)->pages)
			return 101;
		int n = check_run(a, id, &f);
		if (n)
			return n;
		page += alloc_rec(a, id)->pages;
	}
	int n = check_lists(a, &f);
	if (n)
		return n;
	if (memcmp(&f.st, &a->st, sizeof f.st) != 0 ||
		a->st.total_bytes != a->st.meta_bytes + a->st.taken_bytes + a->st.tail_bytes +
					     a->st.free_page_bytes + a->st.free_place_bytes)
		return 106;
	for (uint32_t id = a->rec_free; id && n_unused <= a->n_rec_free; n_unused++)
		id = alloc_rec(a, id)->next;
	if (n_unused != a->n_rec_free || f.n_runs + n_unused + 1 != a->n_recs)
		return 107;
	return 0;
}

void shm_alloc_stats(const struct shm_alloc *a, struct shm_alloc_stats *ret)
{
	uint64_t largest = 0;

	if (a->first) { /* the longest free run is in the last list that is not empty */
		uint32_t f = 31 - (uint32_t)__builtin_clz(a->first);
		uint32_t s = 31 - (uint32_t)__builtin_clz(a->second[f]);
		bool exact = f <= 1; /* below 64 pages all runs of a list are of one length */
		for (uint32_t id = a->list[f][s]; id; id = exact ? 0 : alloc_rec(a, id)->next)
			if (alloc_rec(a, id)->pages > largest)
				largest = alloc_rec(a, id)->pages;
	}
	*ret = a->st;
	ret->largest_run_bytes = largest * SHM_PAGE;
}

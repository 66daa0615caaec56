/* alloc_i.h - the private state behind alloc.h, shared by the alloc_*.c files.
 *
 *   alloc.c        making and ending it, the public take, give and look-ups
 *   alloc_run.c    runs of pages: records, free lists, page descriptors
 *   alloc_slab.c   slabs: places of one size class; the class table
 *   alloc_adopt.c  taking over the page table of a predecessor
 *   alloc_hole.c   memory that the system has back, and further regions
 *   alloc_room.c   compaction and windows: which slab or pages to empty
 *   alloc_check.c  shm_alloc_verify() and shm_alloc_stats()
 *
 * One record for each run of pages, whatever it is for.  Records live in chunks
 * that never move; id 0 is none.  map[page] is the id of the run that covers the
 * page; inside a free run only the first and the last page's entries are right,
 * so whoever looks up any page compares with the record's bounds.
 *
 * Private memory: 4 bytes a page (map), 32 bytes a run, and for each slab a bit
 * and a note (4 bytes) for each place; nothing is allocated by take and give but
 * a slab's bits and notes when the slab is made, and a chunk of records.
 */
#ifndef HC_SHM_ALLOC_I_H
#define HC_SHM_ALLOC_I_H

#include <stddef.h>
#include "alloc.h"
#include "atomic.h"
#include "base/check.h"

enum {
	REC_SHIFT = 10, /* records of a chunk: 1 << this */
	TLSF_SHIFT = 5, /* lists of each power of two: 1 << this */
	TLSF_SECOND = 1 << TLSF_SHIFT,
	TLSF_FIRST = 28,
	TLSF_SCAN_MAX = 64,   /* runs of the exact list looked at when no larger list has one */
	CLASS_BYTES_MIN = 96, /* an item's header and one byte of key */
	CLASS_BYTES_MAX = 131072,
	BUCKETS = 8,         /* lists of a class, by how many free places a slab has */
	BUCKET_NONE = 8,     /* in no list: full, closed, or in adoption */
	ALLOC_PENDING = 200, /* kind of a record: becomes free when adoption ends */
};

struct alloc_run {
	uint32_t page, pages; /* pages 0: the record is unused */
	uint32_t prev, next;  /* in the list of its size or bucket; next alone: unused records */
	uint8_t kind;         /* enum shm_page_kind, ALLOC_PENDING */
	uint8_t cls;          /* SLAB */
	uint8_t bucket;       /* SLAB */
	bool closed : 1;      /* SLAB, FREE: in the held range, so in no list */
	bool taken : 1;       /* LARGE, TABLE: false only before it is claimed */
	bool stuck : 1; /* SLAB, LARGE: could not be emptied when compaction or a window named it, and
	                       * nothing in it was given back since: readers pin something in it */
	union {
		uint32_t note; /* LARGE */
		struct {
			uint16_t n_free; /* SLAB: free places */
			uint16_t hint;   /* SLAB: no free place in words below this one */
		};
	};
	uint64_t *bits; /* SLAB: 1 = taken, or beyond the last place; the notes stand behind */
};

struct alloc_class {
	uint32_t item_bytes;
	uint32_t inverse; /* ceil(2^32 / (item_bytes / SHM_UNIT)) */
	uint16_t slab_pages, n_items, n_words;
	uint8_t shift;       /* bucket = n_free >> shift */
	uint8_t mask;        /* buckets that are not empty */
	uint32_t tail_bytes; /* end of a slab that holds no place */
	uint32_t head[BUCKETS];
	uint64_t n_free; /* free places of all its slabs */
};

struct alloc_region {
	uint32_t page, pages; /* first, how many */
	uint32_t meta_pages;  /* header and page table */
	struct shm_page *table;
};

struct shm_alloc {
	uint32_t n_pages, n_regions, n_classes;
	uint32_t class_bytes_max;
	bool adopting;
	bool hold_slab;            /* the held range is one slab: ends when it is empty */
	uint32_t hold_lo, hold_hi; /* pages closed for takes; lo == hi: none */
	uint32_t *map;

	struct alloc_run **chunk; /* directory, complete from the start */
	uint32_t n_recs;          /* records ever made, with record 0 */
	uint32_t rec_free, n_rec_free;

	uint32_t first; /* bit f: second[f] is not 0 */
	uint32_t second[TLSF_FIRST];
	uint32_t list[TLSF_FIRST][TLSF_SECOND];

	uint64_t given_up_bytes;
	struct shm_alloc_stats st; /* but largest_run_bytes */
	struct alloc_region region[SHM_REGIONS_MAX];
	struct alloc_class cls[SHM_CLASSES_MAX];
	uint8_t class_of[CLASS_BYTES_MAX / SHM_UNIT + 1]; /* by size in units */
};

/* Nothing but the order of stores as a successor finds them after a SIGKILL. */
static inline void alloc_order(void) { atomic_signal_fence(memory_order_seq_cst); }

static inline struct alloc_run *alloc_rec(const struct shm_alloc *a, uint32_t id)
{
	return &a->chunk[id >> REC_SHIFT][id & ((1u << REC_SHIFT) - 1)];
}
static inline bool alloc_covers(const struct alloc_run *r, uint64_t page)
{
	return page - r->page < r->pages; /* wraps below r->page: too large then */
}
static inline uint64_t alloc_off(uint32_t page) { return (uint64_t)page * SHM_PAGE; }
static inline uint32_t *alloc_notes(const struct shm_alloc *a, const struct alloc_run *r)
{
	return (uint32_t *)(r->bits + a->cls[r->cls].n_words);
}
/* Pages for so many bytes; more than any pool has when bytes is absurd. */
static inline uint64_t alloc_pages(uint64_t bytes)
{
	return bytes / SHM_PAGE + (bytes % SHM_PAGE != 0);
}
/* Class for `bytes`, which is 1..class_bytes_max. */
static inline uint32_t alloc_class_of(const struct shm_alloc *a, uint64_t bytes)
{
	return a->class_of[(bytes + SHM_UNIT - 1) / SHM_UNIT];
}
static inline bool alloc_held(const struct shm_alloc *a, const struct alloc_run *r)
{
	return r->page < a->hold_hi && r->page + r->pages > a->hold_lo;
}

/* The place that starts at off in slab r: its number, or -1: no place starts there. */
static inline int alloc_slab_place(
	const struct shm_alloc *a, const struct alloc_run *r, uint64_t off)
{
	const struct alloc_class *c = &a->cls[r->cls];
	uint64_t rel = off - alloc_off(r->page);
	uint64_t i = (rel / SHM_UNIT * c->inverse) >> 32;

	return i < c->n_items && i * c->item_bytes == rel ? (int)i : -1;
}

/* alloc.c */
int alloc_region_load(
	struct shm_alloc *a, char *base, const struct shm_region *region, struct alloc_region *ret);
int alloc_region_begin(struct shm_alloc *a, const struct alloc_region *g);  /* 0; -ENOMEM */
int alloc_region_format(struct shm_alloc *a, const struct alloc_region *g); /* 0; -ENOMEM */

/* alloc_run.c */
void alloc_page_store(struct shm_alloc *a, uint32_t page, enum shm_page_kind kind, uint64_t pages);
struct shm_page *alloc_page_at(const struct shm_alloc *a, uint32_t page);
int alloc_rec_reserve(struct shm_alloc *a, uint32_t n); /* 0; -ENOMEM */
uint32_t alloc_rec_new(struct shm_alloc *a);            /* n were reserved */
void alloc_rec_free(struct shm_alloc *a, uint32_t id);
uint32_t alloc_run_bin(uint64_t pages); /* first << TLSF_SHIFT | second */
void alloc_run_list(struct shm_alloc *a, uint32_t id);
void alloc_run_unlist(struct shm_alloc *a, uint32_t id);
/* Takes so many pages out of the free runs; the record's id, or 0: there is no such run. */
uint32_t alloc_run_take(struct shm_alloc *a, uint64_t pages, enum shm_page_kind kind, uint8_t cls);
bool alloc_run_has(const struct shm_alloc *a, uint64_t pages); /* would a take find one? */
/* Makes the run free and joins it with its free neighbours; the record may be gone then. */
void alloc_run_give(struct shm_alloc *a, uint32_t id);

/* alloc_slab.c */
int alloc_class_load(struct shm_alloc *a, const struct shm_class *cls, uint32_t n); /* 0; -EINVAL */
int alloc_slab_init(struct shm_alloc *a, uint32_t id, bool listed);                 /* 0; -ENOMEM */
void alloc_slab_relist(struct shm_alloc *a, uint32_t id);
int alloc_slab_take(struct shm_alloc *a, uint32_t cls, uint64_t *ret_off); /* 0; ALLOC_FULL */
void alloc_slab_claim(struct shm_alloc *a, struct alloc_run *r, uint32_t i);
void alloc_slab_give(struct shm_alloc *a, uint32_t id, uint32_t i);
/* Ends a slab that is empty: its pages become a free run. */
void alloc_slab_end(struct shm_alloc *a, uint32_t id);

/* alloc_adopt.c */
int alloc_adopt_scan(struct shm_alloc *a); /* 0; -ENOMEM */

#endif

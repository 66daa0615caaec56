/* alloc.h - places for items and runs of pages, in one pool.  Engine only.
 *
 *   pool pages -> runs -> slabs of one size class -> places
 *                      -> one large item, or one index table
 *
 * Shared memory holds the page descriptors alone (layout/l_pool.h); free lists,
 * taken bits and notes are private memory, made anew by an adopting engine.
 *
 * Runs: two-level segregated fit over page counts (TLSF; Masmano, Ripoll,
 * Crespo, Real, 2004): take and give are O(1), neighbours coalesce.
 * Places: each class keeps its slabs with free places in a list, fullest first
 * as far as that is cheap, so that empty slabs appear and go back to the runs.
 * Classes are 6 to 8 % apart, multiples of SHM_UNIT; sizes and the page counts of their
 * slabs are chosen together, so that places fill a slab and slabs are short: rounding and
 * tails together cost under 3 % of what real sizes take.
 * Items larger than the largest class take a run of pages.
 *
 * A place that was taken is given back only by shm_alloc_give(): the caller has
 * proved that nobody pins it.
 *
 * Whenever the engine is killed, the page table it leaves is consistent: a head
 * descriptor is stored after everything that it promises (alloc_run.c).
 *
 * Private memory: 4 bytes a page, 32 bytes a run, 4 bytes and a bit a place.
 * take and give ask the system for memory only when a slab is made (its bits and
 * notes); there being none counts as ALLOC_FULL.
 *
 * One thread.  Not fork-safe.  CHECKs its own private state; a page descriptor
 * that was damaged by a predecessor is refused by name during adoption.
 */
#ifndef HC_SHM_ALLOC_H
#define HC_SHM_ALLOC_H

#include <stdbool.h>
#include "layout/l_pool.h"
#include "layout/l_control.h"

struct shm_alloc;

enum { ALLOC_FULL = 1, ALLOC_BAD = 2 };

/* Bytes, each counted on its own as things happen (not one as the rest of the others):
 *   total = taken + free + tail + meta                                     */
struct shm_alloc_stats {
	uint64_t total_bytes;       /* all regions but what is a hole */
	uint64_t meta_bytes;        /* headers and page tables */
	uint64_t taken_bytes;       /* places and runs in use, at their full (rounded) size */
	uint64_t free_page_bytes;   /* pages in free runs */
	uint64_t free_place_bytes;  /* free places in slabs */
	uint64_t hole_bytes;        /* given back to the system */
	uint64_t tail_bytes;        /* ends of slabs that hold no place */
	uint64_t largest_run_bytes; /* largest free run that a take can have now */
	uint64_t n_taken;           /* places and runs in use */
};

/* Fills cls[] (room for SHM_CLASSES_MAX) of a pool header that is being formatted; returns how
 * many.  pool_bytes: size of the pool (small pools get smaller slabs, and so a smaller largest
 * class: 16 KiB in one of 4 MiB, 128 KiB from 64 MiB on). */
uint32_t shm_alloc_classes(struct shm_class *cls, uint64_t pool_bytes);

/* A new allocator over the pool mapped at base with these regions.  The class
 * table stands in the pool header (it is copied: the shared one is not trusted
 * later), so format it first.  region[] is copied; region[0].base_off is 0.  format: writes
 * fresh page tables (all data pages one free run per region); else: adoption begins, see
 * below, and nothing is written yet.  0, -ENOMEM, -EINVAL (regions, or a class table that
 * contradicts itself). */
int shm_alloc_new(void *base, const struct shm_region *region, uint32_t n_regions, bool format,
	struct shm_alloc **ret);
void shm_alloc_free(struct shm_alloc *a);

/* Adoption: after shm_alloc_new(format = false) every run is taken from the page
 * table as far as it is consistent (rule I5), and nothing in it is in use.
 *   claim       the item or table at byte offset off, `bytes` long (unrounded), is in use.
 *               0; ALLOC_BAD: not a place of a slab, not a run's start, too long for it, or
 *               claimed already: the caller drops what named it.  What is pinned but named
 *               by no slot (limbo, rule P15) is claimed with bytes = 1.
 *   claim_item  the same, but refuses an index table's run: what a slot names is never
 *               there (rule I7), and a table has no note.
 *   end         what was not claimed becomes free; returns the bytes of all pages that had
 *               to be given up because descriptors contradicted each other (0 after a
 *               mere kill), and repairs them.
 * Until the end only claims, is_taken, place_bytes and note may be called. */
int shm_alloc_claim(struct shm_alloc *a, uint64_t off, uint64_t bytes);
int shm_alloc_claim_item(struct shm_alloc *a, uint64_t off, uint64_t bytes);
uint64_t shm_alloc_adopt_end(struct shm_alloc *a);

/* A further region behind the others: formats its page table, all of it is free then.  Its base_off is
 * where the others end, and its memory is mapped there.  0, -ENOMEM, -EINVAL: nothing changed. */
int shm_alloc_add_region(struct shm_alloc *a, void *base, const struct shm_region *region);

/* Holes: free pages whose memory the system gets back (rule P30).
 *   make    takes up to `bytes` of one free run out of use, whole stretches of `unit` bytes at
 *           multiples of it (a page of what backs the pool).  0 and where; ALLOC_FULL: no free run has
 *           such a stretch.  Only then the caller gives the memory back: whoever dies in between
 *           leaves a hole with memory, which the next one gives back (shm_alloc_hole_next).
 *   find    names up to `bytes` of a hole's end, in whole units.  0 or ALLOC_FULL: there is none.
 *           The caller gets memory for it, and then
 *   fill    makes it free pages again; or does nothing, and it stays a hole.
 *   next    the first hole that ends behind *off: true, its offset and bytes. */
int shm_alloc_hole_make(
	struct shm_alloc *a, uint64_t bytes, uint64_t unit, uint64_t *ret_off, uint64_t *ret_bytes);
int shm_alloc_hole_find(const struct shm_alloc *a, uint64_t bytes, uint64_t unit, uint64_t *ret_off,
	uint64_t *ret_bytes);
int shm_alloc_hole_fill(struct shm_alloc *a, uint64_t off, uint64_t bytes);
bool shm_alloc_hole_next(
	const struct shm_alloc *a, uint64_t from, uint64_t *ret_off, uint64_t *ret_bytes);
/* Is the page of this byte (any number) part of a slab, of a large item's run or of a table's, so that
 * there is memory?  Also during adoption, about what a damaged word names. */
bool shm_alloc_is_used(const struct shm_alloc *a, uint64_t off);

/* Ask for private memory that a claim of the place at off (any number) will touch: what leads to it, and, when
 * that is there, its bit and note. */
void shm_alloc_ahead_far(const struct shm_alloc *a, uint64_t off);
void shm_alloc_ahead_near(const struct shm_alloc *a, uint64_t off);

/* Names all that is free, after adoption: byte offset and length of each run of pages and each place.
 * Takes time with the size of the pool. */
typedef void shm_alloc_free_each(void *arg, uint64_t off, uint64_t bytes);
void shm_alloc_walk_free(const struct shm_alloc *a, shm_alloc_free_each *each, void *arg);

/* Takes room for an item of `bytes`.  *ret_off: byte offset in the pool,
 * *ret_place_bytes: what it really takes.  0, or ALLOC_FULL: nothing is taken (but what
 * compact or window had closed is open again).  The memory's old content is not cleared. */
int shm_alloc_take(
	struct shm_alloc *a, uint64_t bytes, uint64_t *ret_off, uint64_t *ret_place_bytes);
/* The place that the take after the next `skip` takes of this size may well get, 0: it cannot be said.
 * A hint, for who wants its memory to be near (ahead.h); nothing is changed. */
uint64_t shm_alloc_peek(const struct shm_alloc *a, uint64_t bytes, uint32_t skip);
/* Takes a run for an index table.  0 or ALLOC_FULL. */
int shm_alloc_take_table(struct shm_alloc *a, uint64_t bytes, uint64_t *ret_off);
/* Gives back the place or run that starts at off.  CHECKs that it was taken. */
void shm_alloc_give(struct shm_alloc *a, uint64_t off);

/* Is `off` (from a hostile client: any number) the start of a place or large run
 * that is taken?  Touches private memory only. */
bool shm_alloc_is_taken(const struct shm_alloc *a, uint64_t off);
/* Full size of the taken place or run (a table's too) at off.  CHECKs that it is taken. */
uint64_t shm_alloc_place_bytes(const struct shm_alloc *a, uint64_t off);

/* A 32-bit word of private memory for each taken place or large run (0 at take): the
 * engine keeps the policy's node in it.  Valid until the place is given back.  CHECKs that
 * off is taken and no table. */
uint32_t *shm_alloc_note(struct shm_alloc *a, uint64_t off);

/* Compaction.  Names a slab that is worth emptying so that its pages can be used
 * by others: a class whose free places (elsewhere than in that slab) could take
 * all that is left in it, the one with the fewest items in it first.  `want`
 * (a size in bytes, or 0): not a slab of the class that `want` falls in, nor one in which
 * the last compaction had to leave something, before anything in it is given back.  Fills
 * off[] with the taken places' offsets; returns how many (0: there is no such
 * slab; a slab has at most `max`, others are passed over).  The caller moves each:
 * take of the same size goes elsewhere, because the slab is closed for takes until
 * it is empty, shm_alloc_compact_stop(), the next compact or window, or a take that
 * finds no other room. */
uint32_t shm_alloc_compact(struct shm_alloc *a, uint64_t want, uint64_t *off, uint32_t max);

/* Contiguous room.  Names a window of pages that, when all in it is given back,
 * can take an item of `bytes` (its slab, if it is not large): fills off[] with what
 * is taken in it (places and large runs; windows that contain an index table or a
 * header are passed over; windows with more than `max` too), fewest bytes in use
 * among a bounded number of candidates that begin at *cursor (a page; begin with
 * 0), which moves on, and is 0 again when the pool's end was reached.  Returns how
 * many, or 0.  What is in the window, also what becomes free there, is closed for
 * takes until shm_alloc_compact_stop() or what else ends a compaction: so empty it,
 * then take. */
uint32_t shm_alloc_window(
	struct shm_alloc *a, uint64_t bytes, uint64_t *cursor, uint64_t *off, uint32_t max);

/* Joins free pages that lie apart, in runs that are too short.  Names what stands between two free runs, of a
 * bounded number, the least bytes for the most free pages; or, there being nothing, what stands behind a free
 * run, which moves that on towards the next one.  Only what fits into free places and runs elsewhere, and is at
 * most `most_bytes` and `max` places.  Fills off[], returns how many, or 0.  What is named, and the free runs
 * beside it, is closed for takes as with a window.  The cursors begin with 0. */
struct shm_alloc_cursors {
	uint64_t between, behind; /* pages */
};
uint32_t shm_alloc_join(struct shm_alloc *a, struct shm_alloc_cursors *at, uint64_t most_bytes,
	uint64_t *off, uint32_t max);

/* Opens again what compact, window or join closed; nothing if there is nothing. */
void shm_alloc_compact_stop(struct shm_alloc *a);

void shm_alloc_stats(const struct shm_alloc *a, struct shm_alloc_stats *ret);
uint64_t shm_alloc_total_bytes(const struct shm_alloc *a);
uint64_t shm_alloc_free_bytes(const struct shm_alloc *a); /* free pages and free places */

/* Walks the page table and all private lists; 0, or the number of the first broken invariant:
 * 5 (layout/l_pool.h), or 101.. (alloc.c lists them).  For tests and the checker; not during
 * adoption.  Takes time with the number of pages. */
int shm_alloc_verify(const struct shm_alloc *a);

#endif

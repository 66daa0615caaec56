/* index_write.h - changes of the index (layout/l_table.h).  Engine only; called by pool.c.
 *
 * Who may call what at the same time: the engine's one thread, all of it; any
 * number of readers look on.
 */
#ifndef HC_SHM_INDEX_WRITE_H
#define HC_SHM_INDEX_WRITE_H

#include "pool.h"
#include "layout/l_table.h"

/* A slot of the table in which a key lives, or would. */
struct shm_ref {
	shm_u64 *slot;
	uint64_t slot_off; /* bytes in the pool */
	uint64_t word;     /* what it holds; 0: free */
};

enum { INDEX_MISS = 1, INDEX_FULL = 2 };

#define INDEX_LOG2_MIN 6 /* buckets of a new pool's table: 64 */

/* Bytes of a table; overflow buckets that belong to it (a quarter of the others). */
uint64_t shm_index_bytes(uint32_t log2_buckets, uint64_t n_overflow);
uint64_t shm_index_overflow(uint32_t log2_buckets);

/* A zeroed table in its own run.  0 or ALLOC_FULL. */
int shm_index_create(struct shm_wpool *w, uint32_t log2_buckets, struct shm_wtable *ret);

/* Opens what a table word names; checks it against the run and rule I9.  0 or -EBADMSG. */
int shm_index_attach(struct shm_wpool *w, uint64_t word, struct shm_wtable *ret);

/* Finds key for a change; moves its chain first if the index grows (rule P6).
 * 0: *ret is its slot.  INDEX_MISS: *ret is a free slot for it.  INDEX_FULL: it is
 * absent and no slot can be had; *ret is some live slot of its chain. */
int shm_index_seek(struct shm_wpool *w, const struct shm_key *key, struct shm_ref *ret);

/* The slot that names the item at off, whose hash is given.  0 or INDEX_MISS. */
int shm_index_seek_off(struct shm_wpool *w, uint64_t hash, uint64_t off, struct shm_ref *ret);

/* Clears the slot that a seek of this hash has found: the entry is gone in this one store.  Gives an
 * overflow bucket back that became empty by it.  STEPs delete:published, index:unlinked. */
void shm_index_clear(struct shm_wpool *w, const struct shm_ref *ref, uint64_t hash);

/* Begins a growth when one is due and there is room for it, and moves up to
 * `chains` chains; true while more is to be moved.  After a failure it looks for
 * room again only now and then, or `now`. */
bool shm_index_grow(struct shm_wpool *w, uint32_t chains, bool now);

/* Asks for the memory in which a key of this hash will be sought, so that the waits for several overlap. */
void shm_index_ask(const struct shm_wpool *w, uint64_t hash);

/* After an engine's death.  check: are the links sound (rule I10), how many overflow buckets are
 * used?  Clears what is no slot word at all (rule I12).  0, -EBADMSG, -ENOMEM.  finish: completes
 * half-moved chains; the items that slots name must have been checked.  0, -EBADMSG: the next table
 * lacks room for what is still to move.  Slots lost to damage are added to *dropped. */
int shm_index_check(struct shm_wpool *w, uint64_t *dropped);
/* Damaged links of a table whose `linked` is there are replaced (index_mend.c), and counted in *dropped.  0; -ENOMEM. */
int shm_index_mend(struct shm_wpool *w, struct shm_wtable *t, uint64_t *dropped);
int shm_index_finish(struct shm_wpool *w, uint64_t *dropped);

/* Calls f for each slot that names an item, in cur and next; f may clear the slot. */
typedef void shm_index_each(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2);
void shm_index_walk(struct shm_wpool *w, shm_index_each *f, void *arg);
/* The same, in about the order of the items' offsets, if there is memory to sort by it (index_order.c).  For
 * each slot far(arg, word) is called before f, and near(arg, word) in between: they ask for memory and
 * change nothing.  f may change no slot but its own. */
typedef void shm_index_ahead(void *arg, uint64_t word);
void shm_index_walk_order(struct shm_wpool *w, shm_index_ahead *far, shm_index_ahead *near,
	shm_index_each *f, void *arg);
/* As shm_index_walk for up to `chains` chains from the one of hash prefix `cursor` on, wherever they
 * have moved.  Returns the cursor behind them, 0 at the end. */
uint64_t shm_index_walk_from(
	struct shm_wpool *w, uint64_t cursor, uint32_t chains, shm_index_each *f, void *arg);

#endif

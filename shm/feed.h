/* feed.h - writing a pool's change feed (layout/l_feed.h).  Engine only.
 *
 *   shm_feed_format    an empty one in fresh memory
 *   shm_feed_attach    takes hold of one that is there; damage is cut off
 *   shm_feed_append    one entry more; what is oldest goes for it
 *
 * A change of an entry goes through shm_feed_foretell() before its intent, and shm_feed_tell() behind its publish;
 * both do nothing in a pool without a feed.  A new engine completes what was foretold and not told
 * (shm_feed_complete, by shm_journal_decide).
 *
 * Who may call what: one thread, the engine, all of it.  Any number of readers look on (feed_read.h).
 */
#ifndef HC_SHM_FEED_H
#define HC_SHM_FEED_H

#include <stdbool.h>
#include "layout/l_feed.h"
#include "layout/l_item.h"
#include "layout/l_journal.h"
#include "layout/l_pool.h"

/* The engine's hold on a feed. */
struct shm_wfeed {
	struct shm_feed *f; /* NULL: the pool keeps none */
	shm_u64 *ring;
	struct shm_journal *journal; /* where changes without a request are intended */
	uint64_t n_words, head, tail;
	uint64_t head_idx, tail_idx; /* in ring[] */
	uint64_t next_sequence;
	uint64_t time_ns; /* CLOCK_REALTIME of the entries from now on: the engine sets it */
	uint64_t woken;   /* head, when readers were woken last */
	uint32_t pool_idx;
	bool was_damaged; /* shm_feed_attach found less than a whole one */
};

/* What one entry says. */
struct shm_feed_news {
	uint32_t what, why; /* enum shm_feed_what, shm_feed_why */
	uint64_t lsn, version, store_id, hash;
	uint64_t lens;   /* as of an item; CLEAR, DROP: 0 */
	const void *key; /* of which it takes what it keeps */
};

/* Writes an empty feed of so many bytes (SHM_FEED_BYTES_MIN ..) to its place, whose content does not matter.
 * first: the number of its first entry. */
void shm_feed_format(struct shm_feed *f, uint64_t bytes, uint64_t first);

enum { FEED_NONE = 1 };
/* Takes hold of the feed at hdr->feed_off of the pool mapped at base.
 * 0; FEED_NONE: there is none; -EBADMSG: its place or its header is damaged beyond use.  Entries that do not follow
 * each other are cut off (ret->was_damaged): readers find that something is missing.  first: as of shm_feed_first(). */
int shm_feed_attach(struct shm_wfeed *ret, uint8_t *base, uint64_t pool_bytes,
	const struct shm_pool *hdr, uint64_t first);

/* A number above all that engines before this one have given: a feed that is made anew, or cut off, goes on there, so that who
 * goes on at an old number finds that it is gone. */
enum { SHM_FEED_GEN_SHIFT = 40 }; /* entries that one engine may write */
static inline uint64_t shm_feed_first(uint64_t engine_gen)
{
	return engine_gen > 1 ? (engine_gen << SHM_FEED_GEN_SHIFT) + 1 : 1;
}

/* Leaves n numbers out: as many entries have gone of which nothing can be said.  Readers are told when the next entry
 * comes. */
void shm_feed_skip(struct shm_wfeed *w, uint64_t n);

/* Appends one entry.  STEPs feed:tail, feed:written, feed:published. */
void shm_feed_append(struct shm_wfeed *w, const struct shm_feed_news *n);

/* Writes into the intent of j, which is not SET, what the feed will say about the change that comes. */
void shm_feed_foretell(const struct shm_wfeed *w, struct shm_journal *j, enum shm_feed_what what,
	enum shm_feed_why why);
/* Says it: about an item that is there, or was until now. */
void shm_feed_tell(struct shm_wfeed *w, enum shm_feed_what what, enum shm_feed_why why,
	uint64_t lsn, const struct shm_item *it);

/* The same about a store: CLEAR, DROP. */
void shm_feed_tell_store(
	struct shm_wfeed *w, enum shm_feed_what what, uint64_t lsn, uint64_t store_id);

/* For a new engine: what the intent has foretold, and has happened, is said if it was not.  pool: of in->feed_pool,
 * mapped at base, first as above.  0, or -EBADMSG: damaged, nothing was said, and a number left out. */
int shm_feed_complete(const struct shm_intent *in, uint64_t store_id, uint8_t *base,
	uint64_t pool_bytes, uint64_t first);

#endif

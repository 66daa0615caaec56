/* feed_read.h - reading a pool's change feed (layout/l_feed.h), from memory that may be hostile or damaged.
 *
 *   shm_feed_find      where the feed is; a position to begin with
 *   shm_feed_next      the entry there, copied; or why not
 *
 * Nothing here waits, and nothing is written: any number of processes and threads, each with a position of its own.
 */
#ifndef HC_SHM_FEED_READ_H
#define HC_SHM_FEED_READ_H

#include <stdbool.h>
#include "layout/l_feed.h"
#include "layout/l_pool.h"

/* Conditions of what follows; below 0: -EBADMSG, damage. */
enum {
	FEED_IS_NONE = 1, /* the pool keeps no feed */
	FEED_EMPTY = 2,   /* nothing new */
	FEED_LAPPED = 3,  /* entries were overwritten before they were read */
	FEED_AHEAD = 4,   /* there is no such number yet */
};

/* A reader's place. */
struct shm_feed_reader {
	const struct shm_feed *f;
	const shm_u64 *ring;
	uint64_t n_words;
	uint64_t pos;      /* where the next entry begins */
	uint64_t sequence; /* and its number */
};

/* The feed of a pool, of which `bytes` are mapped at base.  0, FEED_IS_NONE, -EBADMSG; -ERANGE: it lies behind
 * what is mapped. */
int shm_feed_find(const uint8_t *base, uint64_t bytes, struct shm_feed_reader *ret);

/* Goes to the entry of this number, or to one of these.  0; FEED_LAPPED: it is gone, *ret_lost are, and r stands at the
 * oldest one; FEED_AHEAD; -EBADMSG.  Goes from entry to entry: takes time with the size of the feed. */
#define FEED_FROM_OLDEST 0ull
#define FEED_FROM_END UINT64_MAX /* what comes from now on */
int shm_feed_seek(struct shm_feed_reader *r, uint64_t sequence, uint64_t *ret_lost);

/* Copies the next entry: its eight words, and of its key what it keeps, into key[SHM_FEED_KEY_MAX]; r moves on.
 * 0; FEED_EMPTY; FEED_LAPPED: *ret_lost entries are gone, r stands at the oldest one; -EBADMSG. */
int shm_feed_next(
	struct shm_feed_reader *r, struct shm_feed_entry *ret, uint8_t *key, uint64_t *ret_lost);

/* The word to wait at, and what it held when the last call found nothing (its low half). */
const uint32_t *shm_feed_futex(const struct shm_feed_reader *r);

#endif

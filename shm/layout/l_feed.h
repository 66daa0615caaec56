/* l_feed.h - a pool's change feed: what was mutated, in order.
 *
 *   | head, tail | word ring ...
 *
 * The place is part of layout 1 (shm_pool.feed_off); an engine that keeps no
 * feed leaves feed_off 0, and a reader then answers "this pool has no feed".
 *
 * Producer (rule P28): store `tail` past what it will overwrite; release fence;
 * write the words (relaxed); store `head` (release).  Reader: load `head`
 * (acquire), copy, acquire fence, load `tail`: an entry behind it was lapped.
 * Waiting: FUTEX_WAIT on head's low 32 bits.
 *
 * Entry n stands at word[(n * SHM_FEED_WORDS) % n_words].
 */
#ifndef HC_LAYOUT_FEED_H
#define HC_LAYOUT_FEED_H

#include "l_base.h"

#define SHM_FEED_WORDS 8 /* words of one entry: sequence, lsn, store id, hash, what, item, 2 reserved */

struct shm_feed {
	shm_u64 head;     /* [W: eng; R: all] entries ever written; futex word in its low half */
	uint64_t pad0[7]; /* [W: none] */
	shm_u64 tail;     /* [W: eng; R: all] entries below may be gone */
	uint64_t n_words; /* [W: eng before feed_off; R: all] words behind this header */
	uint64_t pad1[6]; /* [W: none] */
};
SHM_SIZE(shm_feed, 128);
SHM_AT(shm_feed, head, 0);
SHM_AT(shm_feed, tail, 64);
SHM_AT(shm_feed, n_words, 72);

#endif

/* pol_ghost.h - a ghost queue: fingerprints of what was evicted lately.
 *
 * A first-in first-out queue of the last `limit` evictions that have not come back,
 * where `limit` may be another number at each add.  take finds a fingerprint and
 * takes it out.  Of two that are equal the younger is found.  Fingerprints are 32
 * bits of the hash: among a million of them one look-up in 4000 finds another
 * key's, which costs a better queue only.
 *
 *   ring    fp, next   |  ...  | oldest ... youngest |  ...  |
 *   head    by fp's low bits -> youngest of its chain -> older -> ...
 *
 * What is taken out leaves a gap until it is the oldest.  A ring has 1.5 to 3
 * times `limit` positions; when gaps have used them up, the oldest goes early.
 * When `limit` outgrows the ring, a new ring takes all further ones, and the old
 * one is only looked up in until its last is too old: nothing is copied.
 *
 * Private memory: 10 bytes a position, so 15 to 30 bytes for each of the largest
 * `limit` so far, and half of that again after growing.  One thread.
 */
#ifndef HC_DAEMON_POL_GHOST_H
#define HC_DAEMON_POL_GHOST_H

#include <stdbool.h>
#include <stdint.h>

struct pol_ghost_ring {
	struct pol_ghost_entry *entry;
	uint32_t *head;      /* index of a chain's youngest, plus 1; 0: empty */
	uint64_t begin, end; /* positions, free-running */
	uint32_t n;          /* entries, a power of two; 0: there is no ring */
	uint32_t n_in;       /* positions that are no gaps */
};

struct pol_ghost {
	struct pol_ghost_ring now, old;
};

/* An empty queue, for a limit of about n at first.  0 or -ENOMEM.  All zeroes are an empty one too, which gets
 * its memory with the first add. */
int pol_ghost_init(struct pol_ghost *g, uint64_t n);
void pol_ghost_fini(struct pol_ghost *g);

/* Adds an eviction; the queue holds the last `limit` then, fewer where there is no memory. */
void pol_ghost_add(struct pol_ghost *g, uint32_t fp, uint64_t limit);
/* Is it in the queue?  Takes it out then. */
bool pol_ghost_take(struct pol_ghost *g, uint32_t fp);

/* The same, and leaves it there. */
bool pol_ghost_has(const struct pol_ghost *g, uint32_t fp);

uint64_t pol_ghost_bytes(const struct pol_ghost *g);
/* true: every chain holds the positions that belong to it, youngest first. */
bool pol_ghost_verify(const struct pol_ghost *g);

#endif

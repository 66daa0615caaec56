/* ahead.h - memory that changes are about to touch, asked for beforehand.  Engine only.
 *
 * A change of a random key waits for memory at each hop: its bucket, the item that the bucket names, the
 * allocator's note of that item's place, the policy's node.  When many changes are known
 * at once, each hop is asked for all of them before the next one is looked at, and the waits
 * overlap (group prefetching: Chen, Ailamaki, Gibbons, Mowry, "Improving Hash Join Performance through
 * Prefetching", ICDE 2004).
 *
 * Nothing is changed, and nothing of it is relied on: a change finds its entry anew.
 */
#ifndef HC_SHM_AHEAD_H
#define HC_SHM_AHEAD_H

#include "pool.h"

/* Asks for the bucket of a hash. */
void shm_ahead_bucket(const struct shm_wpool *w, uint64_t hash);

/* Reads the bucket, and asks for the item that is probably the key's.  Its offset; 0: none. */
uint64_t shm_ahead_item(const struct shm_wpool *w, uint64_t hash);

/* Asks for the note of the place at that offset, and returns where it is. */
const uint32_t *shm_ahead_note(const struct shm_wpool *w, uint64_t off);

/* Asks for the place of an item that will be made behind `skip` others. */
void shm_ahead_place(const struct shm_wpool *w, uint64_t item_bytes, uint32_t skip);

#endif

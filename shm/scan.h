/* scan.h - which items do living readers pin?  The engine's side of the pins.
 *
 * The order that makes reuse safe (rules P2, P6):
 *
 *   engine   change the slot ... shm_scan_pins: barrier, then load every pin
 *   reader   store the pin, (compiler barrier), load the slot again
 *
 * membarrier(GLOBAL_EXPEDITED) makes every registered thread pass a full fence:
 * either the reader's second look comes after the engine's change and sees it,
 * or the reader's pin comes before the barrier and the scan sees it.  A client
 * that uses full fences needs one of the engine's too.
 */
#ifndef HC_SHM_SCAN_H
#define HC_SHM_SCAN_H

#include <stdbool.h>
#include "barrier.h"
#include "layout/l_client.h"
#include "layout/l_control.h"

/* A session as the scan sees it.  The engine owns the array. */
struct shm_scan_session {
	const struct shm_client *seg; /* mapped read-only; hostile content */
	uint32_t n_blocks;            /* blocks that the mapping really holds */
	uint32_t slot;                /* index of pin_gen[] */
	bool compiler_fence;          /* it relies on membarrier */
	uint32_t hidden_pools; /* bit i: it was not given pool i, and cannot pin anything there */
	uint64_t pinned_bytes; /* out: limbo bytes that only its pins hold (largest pool) */
};

struct shm_pin {
	uint64_t where;   /* pin word without its generation: offset | pool */
	uint32_t session; /* index in the array of sessions */
};

struct shm_pinset {
	struct shm_pin *pin; /* ascending by where */
	uint32_t n, cap;
	bool complete; /* false: the barrier may not be called, or memory ran out: nothing may be reused */
};

/* Barrier, then collects the pins of all sessions that carry their current
 * generation.  may_barrier: false when membarrier is not allowed: then only
 * sessions with full fences can be judged.  Cost: one system call and 256 bytes
 * per block that was ever used.  STEPs engine:barrier, engine:scanned. */
void shm_scan_pins(struct shm_pinset *set, const struct shm_control *ctl,
	struct shm_scan_session *sessions, uint32_t n, bool may_barrier);
void shm_pinset_fini(struct shm_pinset *set);

/* First pin with this place, or NULL. */
const struct shm_pin *shm_pinset_find(
	const struct shm_pinset *set, uint32_t pool_idx, uint64_t off);

#endif

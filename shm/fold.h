/* fold.h - the counts of an ended session go to the totals, and whoever adds up sees them once.
 *
 *   engine   folds odd | totals raised | the session's segment marked | folds even        eng_fold.c
 *   tool     folds even, totals and unmarked sessions added up, folds the same: it is right; else again
 *
 * The engine may die in between: then `folds` is odd until the next one has finished it.
 */
#ifndef HC_SHM_FOLD_H
#define HC_SHM_FOLD_H

#include <stdbool.h>
#include "atomic.h"
#include "layout/l_control.h"

static inline void shm_fold_begin(struct shm_control *c)
{
	shm_u64 *folds = &c->counter[SHM_DC_folds];

	shm_store_rlx(folds, shm_load_rlx(folds) | 1); /* odd already: a dead engine's */
	shm_reuse_begins();
}

static inline void shm_fold_end(struct shm_control *c)
{
	shm_u64 *folds = &c->counter[SHM_DC_folds];

	shm_store_rel(folds, shm_load_rlx(folds) + 1); /* rel:fold.totals */
}

/* Before somebody adds up. */
static inline uint64_t shm_fold_look(const struct shm_control *c)
{
	return shm_load_acq(&c->counter[SHM_DC_folds]); /* acq:fold.totals */
}

/* Behind it: was it the same all the time? */
static inline bool shm_fold_same(const struct shm_control *c, uint64_t looked)
{
	shm_copy_over();
	return looked % 2 == 0 && shm_load_rlx(&c->counter[SHM_DC_folds]) == looked;
}

#endif

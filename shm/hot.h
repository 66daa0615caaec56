/* hot.h - the hot keys of a pool are written, and whoever reads them sees those of one moment.
 *
 *   engine   hot_changes odd | shm_pool.hot | hot_changes even                    eng_hot.c
 *   tool     hot_changes even, hot copied, hot_changes the same: it is right; else again
 *
 * The engine may die in between: then `hot_changes` is odd until the next one has written them.
 */
#ifndef HC_SHM_HOT_H
#define HC_SHM_HOT_H

#include <stdbool.h>
#include "atomic.h"
#include "layout/l_pool.h"

static inline void shm_hot_begin(struct shm_pool *p)
{
	shm_store_rlx(&p->hot_changes,
		shm_load_rlx(&p->hot_changes) | 1); /* odd already: a dead engine's */
	shm_reuse_begins();
}

static inline void shm_hot_end(struct shm_pool *p)
{
	shm_store_rel(&p->hot_changes, shm_load_rlx(&p->hot_changes) + 1); /* rel:hot.keys */
}

/* Before somebody copies them. */
static inline uint64_t shm_hot_look(const struct shm_pool *p)
{
	return shm_load_acq(&p->hot_changes); /* acq:hot.keys */
}

/* Behind it: were they the same all the time? */
static inline bool shm_hot_same(const struct shm_pool *p, uint64_t looked)
{
	shm_copy_over();
	return looked % 2 == 0 && shm_load_rlx(&p->hot_changes) == looked;
}

/* A part, 0..1, as it stands there; and back. */
static inline uint32_t shm_hot_share(double part)
{
	return part < 1 ? (uint32_t)(part * 0x1p32) : UINT32_MAX;
}
static inline uint32_t shm_hot_over(double part, uint32_t store_idx)
{
	/* rounded up: it is a bound */
	uint32_t most = UINT32_MAX >> SHM_HOT_OVER_SHIFT;
	uint32_t over = part < 1 ? (uint32_t)(part * 0x1p24) + 1 : most;

	return (over < most ? over : most) << SHM_HOT_OVER_SHIFT | (store_idx + 1);
}
static inline double shm_hot_share_of(uint32_t share) { return share * 0x1p-32; }
static inline double shm_hot_over_of(uint32_t over)
{
	return (over >> SHM_HOT_OVER_SHIFT) * 0x1p-24;
}

#endif

/* sup_control.h - writes the first bytes of the segments.
 *
 * The supervisor formats the control segment with its directory of pools and
 * stores, the journal's header and each region's segment header, once for the life
 * of the memory; the first engine formats the rest of a pool.  magic goes last.
 *
 * Caller: the supervisor, on fresh segments (all zero) that nobody else has.
 */
#ifndef HC_DAEMON_SUP_CONTROL_H
#define HC_DAEMON_SUP_CONTROL_H

#include "config.h"
#include "layout/l_control.h"
#include "layout/l_journal.h"
#include "sup_segment.h"

/* Fills c (sizeof *c zeroes), the memory of `self`, from the configuration and what the pools got
 * (region[i][0] is the memory of config->pool[i]).  Gives each store of the configuration its id, ascending.
 * 0, or -errno: no random numbers. */
int sup_control_format(struct shm_control *c, struct config *config, const struct sup_segment *self,
	const struct sup_segment region[][SHM_REGIONS_MAX]);

/* Fills an unused entry of the directory for a pool whose region 0 is s; and gives it its id, from which on
 * it is there for everybody.  The engine does the second too, when it takes a pool that comes later. */
void sup_control_pool_put(
	struct shm_pool_entry *e, const struct config_pool *p, const struct sup_segment *s);
void sup_control_pool_enter(struct shm_pool_entry *e, uint64_t id);

/* Fills an unused entry of the directory, all of whose bytes but the id's are its own to change; the id goes
 * last.  The engine calls it too, for stores that come later. */
void sup_control_store_put(struct shm_store_entry *e, const struct config_store *s);

/* Stores what a reload may change into the entries of the first n_pools pools, and of the stores, which it
 * finds by their ids: thresholds, times to live, guarantees, limits.  Each is one word, which the engine loads when it needs it; nothing
 * has to be told to it. */
void sup_control_update(struct shm_control *c, const struct config *config);

/* What this build knows that the one before may not have known: its version, names of counters. */
void sup_control_take(struct shm_control *c);

/* Fills the header of the journal that belongs to c. */
void sup_control_journal_format(
	struct shm_journal *j, const struct shm_control *c, const struct sup_segment *s);

/* Fills the segment header of a region of pool `pool_idx`. */
void sup_control_pool_format(struct shm_segment *seg, const struct shm_control *c,
	uint32_t pool_idx, uint32_t region_idx, const struct sup_segment *s);

/* What was written at the beginning and never changes, made as it was: the directory's from a copy, a
 * header anew.  Bytes that differed; 0: all was right. */
uint64_t sup_control_mend(struct shm_control *c, const struct shm_control *born);
uint64_t sup_control_journal_mend(
	struct shm_journal *j, const struct shm_control *c, const struct sup_segment *s);
uint64_t sup_control_pool_mend(struct shm_segment *seg, const struct shm_control *c,
	uint32_t pool_idx, uint32_t region_idx, const struct sup_segment *s);

#endif

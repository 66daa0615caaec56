/* pol_days.h - entries ordered by a time, any of which may come: a ring of lists, one for each stretch of time ("day").
 *
 *            first                                                  last
 *   ... | all that is older too | day | day |  ......  | day | ... what comes next
 *
 * An entry goes into the list of its day, as its newest.  So entries that come in the order of their
 * times are in that order exactly, and others are at most one day off.  When a day comes for which the ring
 * has no place, the first days are joined: two lists become one, nothing is looked through.  A map of bits
 * finds the oldest day that is not empty.
 *
 * Every call is O(1), amortised; one that comes after a long silence joins POL_DAYS lists at most.
 *
 * Invariants, as pol_days_verify numbers them: 1 and 2 of pol_node.h; 5: an entry is in its day's list, and
 * bits are set for lists that are not empty, and no others.
 */
#ifndef HC_DAEMON_POL_DAYS_H
#define HC_DAEMON_POL_DAYS_H

#include "pol_node.h"

enum { POL_DAYS = 2048 }; /* a power of two, a multiple of 64 */

struct pol_days {
	struct pol_list day[POL_DAYS]; /* [number % POL_DAYS] */
	uint64_t used[POL_DAYS / 64];
	uint64_t first; /* number of the oldest day of the ring */
	uint64_t day_ms;
	uint64_t n, units;
};

/* day_ms at least 1. */
void pol_days_init(struct pol_days *d, uint64_t day_ms);
void pol_days_push(struct pol_days *d, struct pol_nodes *t, uint32_t i, uint64_t time_ms);
/* time_ms: as it was pushed. */
void pol_days_pull(struct pol_days *d, struct pol_nodes *t, uint32_t i, uint64_t time_ms);
void pol_days_resize(
	struct pol_days *d, struct pol_nodes *t, uint32_t i, uint64_t time_ms, uint64_t bytes);
uint32_t pol_days_oldest(const struct pol_days *d); /* 0: there is none */
/* 0, or the number of a broken invariant.  time_of: what was pushed with the node. */
int pol_days_verify(const struct pol_days *d, const struct pol_nodes *t,
	uint64_t (*time_of)(const void *arg, uint32_t i), const void *arg);

#endif

/* pol_curve.h - the curve of misses over memory: how often a store would miss with less and with more.
 *
 * Miniatures of POL_CURVE_SIZES shares of the memory (pol_shadow.h), all with the store's own policy.  What they
 * missed is compared with all uses that were told, not with those that were sampled: the difference is taken
 * for uses that hit in any size (the adjustment of SHARDS-adj: Waldspurger and others, FAST 2015), because what a sample
 * sees too few of are a few very popular keys.  For the same reason uses may be told in sums: a key that is used again
 * at once is hit whatever the size.
 *
 * Counts fade by halves, when the caller says so.  One thread.
 */
#ifndef HC_DAEMON_POL_CURVE_H
#define HC_DAEMON_POL_CURVE_H

#include "pol_shadow.h"

enum { POL_CURVE_SIZES = 9, POL_CURVE_ONE = 4 };

/* Shares of the memory, ascending; [POL_CURVE_ONE] is 1. */
extern const double pol_curve_share[POL_CURVE_SIZES];

struct pol_curve {
	struct pol_shadow shadow;
	uint64_t hits, inserts; /* that were told, of all keys */
};

/* values: of the policy's parameters, NULL: the defaults.  0, or -ENOMEM. */
int pol_curve_init(struct pol_curve *c, const struct pol_ops *ops, const struct pol_values *values,
	uint32_t max_keys);
void pol_curve_fini(struct pol_curve *c);

/* A use.  n: that many of this kind in a row; of an INSERT, 1.  The rest as of pol_shadow_use(). */
static inline void pol_curve_use(struct pol_curve *c, enum pol_shadow_use use, uint32_t fp,
	uint64_t bytes, uint64_t n, uint64_t end_ms, uint64_t now_ms)
{
	c->hits += use == POL_SHADOW_HIT ? n : 0;
	c->inserts += use == POL_SHADOW_INSERT;
	if (pol_shadow_samples(&c->shadow, fp))
		pol_shadow_use(&c->shadow, use, fp, bytes, end_ms, now_ms);
}

/* All counts become half of what they are. */
void pol_curve_fade(struct pol_curve *c);

/* What part of the uses share i would have missed, 0..1; -1: none were told. */
double pol_curve_misses(const struct pol_curve *c, int i);
/* One standard deviation of that, for the keys that are not in the sample; 0: all are. */
double pol_curve_error(const struct pol_curve *c);

#endif

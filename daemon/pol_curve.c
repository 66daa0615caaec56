/* pol_curve.c - see pol_curve.h. */
#include "pol_curve.h"
#include <math.h>
#include "base/err.h"
#include "step.h"

const double pol_curve_share[POL_CURVE_SIZES] = {0.25, 0.375, 0.5, 0.75, 1, 1.5, 2, 3, 4};

int pol_curve_init(struct pol_curve *c, const struct pol_ops *ops, const struct pol_values *values,
	uint32_t max_keys)
{
	int r = 0;

	*c = (struct pol_curve){.hits = 0};
	pol_shadow_init(&c->shadow, max_keys);
	for (int i = 0; i < POL_CURVE_SIZES && r == 0; i++)
		r = pol_shadow_add(&c->shadow, ops, values, pol_curve_share[i]);
	if (r < 0)
		pol_curve_fini(c);
	return err_fwd(r);
}

void pol_curve_fini(struct pol_curve *c) { pol_shadow_fini(&c->shadow); }

void pol_curve_fade(struct pol_curve *c)
{
	c->hits /= 2;
	c->inserts /= 2;
	for (int use = 0; use < POL_SHADOW_USES; use++) {
		c->shadow.uses[use] /= 2;
		for (int i = 0; i < POL_CURVE_SIZES; i++)
			c->shadow.mini[i].missed[use] /= 2;
	}
}

double pol_curve_misses(const struct pol_curve *c, int i)
{
	const struct pol_shadow_mini *m = &c->shadow.mini[i];
	double told = (double)(c->hits + c->inserts);
	if (MUTANT(317)) /* 317: what the sample has too few of is forgotten */
		told = (double)(c->shadow.uses[POL_SHADOW_HIT] + c->shadow.uses[POL_SHADOW_INSERT]);
	double missed = (double)(m->missed[POL_SHADOW_HIT] + m->missed[POL_SHADOW_INSERT]);

	return told == 0 ? -1 : missed < told ? missed / told : 1;
}

double pol_curve_error(const struct pol_curve *c)
{
	double rate = (double)c->shadow.rate / POL_SHADOW_RATE_ONE;

	return c->shadow.n_keys ? 0.5 * sqrt((1 - rate) / c->shadow.n_keys) : 0;
}

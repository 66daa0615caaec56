/* config_memory.c - thresholds, guarantees and limits: what contradicts what. */
#include <string.h>
#include "config.h"
#include "config_value.h"
#include "../shm/step.h"

enum { SHARE_OF = 8 }; /* guarantees may be all of the pool but one part of so many */

#define LIMBO_OVERHEAD_BYTES (UINT64_C(128) << 10) /* the longest key, header, rounding to pages */

static int thresholds_check(const struct config *c, uint32_t i, struct config_fault *ret)
{
	const struct config_pool *p = &c->pool[i];
	const struct {
		int key;
		uint32_t ppm;
	} t[] = {
		{CONFIG_KEY_pool_pressure_end, p->pressure_end_ppm},
		{CONFIG_KEY_pool_pressure_low, p->pressure_low_ppm},
		{CONFIG_KEY_pool_pressure_high, p->pressure_high_ppm},
		{CONFIG_KEY_pool_pressure_full, p->pressure_full_ppm},
	};

	for (size_t k = 1; k < sizeof t / sizeof *t; k++)
		if (t[k].ppm <= t[k - 1].ppm && !MUTANT(153)) /* 153: in any order */
			return config_fault_set(ret, t[k].key, i,
				"%.4g%% is not above %s, which is %.4g%%; use thresholds in the "
				"order pressure_end, pressure_low, pressure_high, pressure_full",
				t[k].ppm / 1e4, config_keys[t[k - 1].key].name, t[k - 1].ppm / 1e4);
	return 0;
}

/* A store against itself, and its guarantee with those before it against its pool. */
static int store_check(
	const struct config *c, uint32_t i, uint64_t *promised_bytes, struct config_fault *ret)
{
	const struct config_store *s = &c->store[i];
	uint32_t pool_idx = config_pool_find(c, s->pool);
	const struct config_pool *p = &c->pool[pool_idx];
	uint64_t most = p->size_bytes - p->size_bytes / SHARE_OF, left;
	char have[CONFIG_NUMBER_BYTES], want[CONFIG_NUMBER_BYTES];

	(void)config_bytes_format(s->guaranteed_bytes, have);
	if (s->limit_bytes != CONFIG_AUTO && s->guaranteed_bytes > s->limit_bytes)
		return config_fault_set(ret, CONFIG_KEY_store_guaranteed, i,
			"%s is more than limit allows; use at most %s", have,
			config_bytes_format(s->limit_bytes, want));
	left = most - promised_bytes[pool_idx];
	if (s->guaranteed_bytes > left)
		return config_fault_set(ret, CONFIG_KEY_store_guaranteed, i,
			"%s is more than pool %s can promise: seven eighths of its size, of which "
			"%s are left by the stores before; use at most that, or a larger pool",
			have, p->name, config_bytes_format(left, want));
	promised_bytes[pool_idx] += s->guaranteed_bytes;
	return 0;
}

int config_memory_check(const struct config *c, struct config_fault *ret)
{
	uint64_t promised_bytes[CONFIG_POOLS_MAX] = {0};
	int r = 0;

	for (uint32_t i = 0; i < c->n_pools && r == 0; i++)
		r = thresholds_check(c, i, ret);
	for (uint32_t i = 0; i < c->n_stores && r == 0; i++)
		r = store_check(c, i, promised_bytes, ret);
	return r;
}

/* One overwritten value that somebody still reads is no reason to revoke. */
uint64_t config_limbo_cap_auto(const struct config_pool *p)
{
	uint64_t share = p->size_bytes / 8, one = p->max_value_bytes + LIMBO_OVERHEAD_BYTES;

	return share > one ? share : one;
}

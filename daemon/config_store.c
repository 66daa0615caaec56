/* config_store.c - what a store's type brings, and how large and how old its entries may get. */
#include <string.h>
#include "config_value.h"
#include "../shm/step.h"

enum { SLIDE_BEATS = 16 }; /* heartbeats in a time to live that slides: 4 in each quarter */

#define MINUTE_NS UINT64_C(60000000000)

/* By enum config_type. */
static const struct {
	uint64_t ttl_ns; /* 0: entries do not expire */
	const char *policy;
} types[] = {
	[CONFIG_TYPE_GENERAL] = {0, "s3-fifo"},
	[CONFIG_TYPE_SESSION] = {30 * MINUTE_NS, "session"},
	[CONFIG_TYPE_TTL] = {10 * MINUTE_NS, "s3-fifo"},
};

const char *config_store_policy(const struct config_store *s)
{
	if (strcmp(s->policy, "default") != 0)
		return s->policy;
	return types[MUTANT(298) ? CONFIG_TYPE_GENERAL : s->type].policy; /* 298: one for all */
}

/* Key, head and frame of a record of the log. */
#define RECORD_OVERHEAD_BYTES (UINT64_C(128) << 10)

/* The largest value: the pool's, and half of what the store may take; of a durable one also what the log takes. */
static uint64_t value_most(const struct config *c, const struct config_store *s)
{
	uint64_t log = c->wal_staging_bytes / 4 - RECORD_OVERHEAD_BYTES;
	uint64_t pool = c->pool[config_pool_find(c, s->pool)].max_value_bytes;
	uint64_t own = s->limit_bytes == CONFIG_AUTO ? CONFIG_AUTO : s->limit_bytes / 2;

	if (s->durability != CONFIG_DURABILITY_NONE && log < own &&
		!MUTANT(747)) /* 747: any value */
		own = log;
	return pool < own ? pool : own;
}

int config_store_check(const struct config *c, uint32_t i, struct config_fault *ret)
{
	const struct config_store *s = &c->store[i];
	char have[CONFIG_NUMBER_BYTES], want[CONFIG_NUMBER_BYTES];
	uint64_t most = value_most(c, s);

	if (config_params_check(c, i, ret))
		return 1;
	if (types[s->type].ttl_ns && s->ttl_ns == 0)
		return config_fault_set(ret, CONFIG_KEY_store_ttl, i,
			"0 is for ever, and a store of this type lets everything expire; use a "
			"time, "
			"or type: general");
	if (s->sliding && s->ttl_ns != CONFIG_AUTO && s->ttl_ns != 0 &&
		s->ttl_ns / SLIDE_BEATS < c->heartbeat_ns)
		return config_fault_set(ret, CONFIG_KEY_store_ttl, i,
			"the time is too short for sliding: the engine hears of reads with each "
			"heartbeat, and %d of them have to fit; use more, or a shorter heartbeat",
			SLIDE_BEATS);
	if (s->max_value_bytes == CONFIG_AUTO || s->max_value_bytes <= most)
		return 0;
	return config_fault_set(ret, CONFIG_KEY_store_max_value, i,
		"%s is more than its pool accepts, or half of its limit%s; use at most %s",
		config_bytes_format(s->max_value_bytes, have),
		s->durability ? ", or a quarter of wal_staging" : "",
		config_bytes_format(most, want));
}

void config_store_fill(const struct config *c, struct config_store *s)
{
	if (s->ttl_ns == CONFIG_AUTO && !MUTANT(187)) /* 187: a type brings nothing */
		s->ttl_ns = types[s->type].ttl_ns;
	if (s->ttl_ns == CONFIG_AUTO)
		s->ttl_ns = 0;
	if (s->max_value_bytes == CONFIG_AUTO)
		s->max_value_bytes = value_most(c, s);
	config_params_fill(s);
}

/* pol.c - the eviction policies that are built in. */
#define _GNU_SOURCE
#include "pol.h"
#include <stddef.h>
#include <string.h>
#include "pol_auto.h"
#include "pol_lfu.h"
#include "pol_module.h"
#include "pol_queue.h"
#include "pol_s3fifo.h"
#include "pol_session.h"
#include "pol_tinylfu.h"

static const struct pol_ops *const all[] = {
	&pol_s3fifo,
	&pol_lru,
	&pol_sieve,
	&pol_tinylfu,
	&pol_lfu,
	&pol_fifo,
	&pol_ttl,
	&pol_auto,
	&pol_session,
	NULL,
};

const struct pol_ops *pol_find(const char *name)
{
	for (const struct pol_ops *const *ops = all; *ops; ops++)
		if (strcmp((*ops)->name, name) == 0)
			return *ops;
	return pol_module_find(name);
}

const struct pol_ops *const *pol_all(void) { return all; }

struct pol_values pol_defaults(const struct pol_ops *ops)
{
	struct pol_values v = {{0}};

	for (uint32_t i = 0; i < ops->n_params; i++)
		v.v[i] = ops->params[i].def;
	return v;
}

/* sim.h - a cache that holds nothing, to see what a policy would do: the policies' own code,
 * without daemon and memory.  A request that misses inserts.  One thread.
 */
#ifndef HC_TOOLS_SIM_H
#define HC_TOOLS_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include "../daemon/pol.h"

struct sim;

struct sim_result {
	uint64_t requests, misses;
	uint64_t request_bytes, miss_bytes; /* of the values, as the trace has them */
	uint64_t objects;                   /* different ones that were asked for */
	uint64_t entries, units;            /* that are in it now */
	uint64_t refused;                   /* larger than the whole cache */
	uint64_t policy_bytes;              /* private memory of the policy */
};

/* A cache of so many units: objects if by_bytes is false, else units of 16 bytes.  limit at least 1.
 * 0 and *ret, or -ENOMEM. */
int sim_new(const struct pol_ops *ops, uint64_t limit, bool by_bytes, struct sim **ret);
void sim_free(struct sim *s); /* may be NULL */
/* One request: 0 a hit, 1 a miss, -ENOMEM.  value_bytes: ignored if not by_bytes. */
int sim_request(struct sim *s, uint64_t object, uint32_t value_bytes, uint64_t time_s);
void sim_result(const struct sim *s, struct sim_result *ret);
/* 0, or what the policy's verify says. */
int sim_verify(const struct sim *s);

#endif

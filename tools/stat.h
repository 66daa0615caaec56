/* stat.h - what `hypercache stat` and the metrics process both say of a daemon's memory.
 *
 * Counters are named by the descriptions in the control segment (cli_stat.c).
 */
#ifndef HC_TOOLS_STAT_H
#define HC_TOOLS_STAT_H

#include "atomic.h"
#include "cli.h"
#include "hypercache_admin.h"

static inline uint64_t stat_counter(const struct hypercache_admin *a, uint32_t i)
{
	return shm_load_rlx(&a->ctl->counter[i]);
}

static inline bool stat_pool_used(const struct hypercache_admin *a, uint32_t i)
{
	return shm_load_acq(&a->ctl->pool[i].id) != 0; /* acq:entry.id */
}

static inline bool stat_store_used(const struct hypercache_admin *a, uint32_t i)
{
	return shm_load_acq(&a->ctl->store[i].id) != 0; /* acq:entry.id */
}

/* The windows of hypercache_reads_lately(). */
enum { STAT_WINDOWS = 3 };
extern const uint32_t stat_windows_s[STAT_WINDOWS];

const char *stat_backing_name(uint32_t backing);
/* The word of the configuration (key io) for how it waits; "" before it has said so. */
const char *stat_loop_name(const struct hypercache_admin *a);
uint64_t stat_up_ns(const struct hypercache_admin *a);
void stat_version_text(uint32_t v, char to[CLI_TEXT_BYTES]);

/* Calls `each` for the described counters of a scope, with a printable name, in their order. */
typedef void stat_counter_each(
	void *arg, const char *name, uint64_t v, const struct shm_counter_desc *d);
void stat_counters_each(const struct hypercache_admin *a, enum shm_counter_scope scope,
	const shm_u64 *counter, stat_counter_each *each, void *arg);

/* The policy that auto has chosen. */
const char *stat_auto_choice(const struct shm_store_entry *e);

/* All of `stat --json`, and one store of it. */
void stat_json(const struct hypercache_admin *a, FILE *to);
void stat_store_json(const struct hypercache_admin *a, struct json *j, uint32_t idx);

#endif

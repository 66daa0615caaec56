/* cli_stat.c - the daemon, its pools and stores, from shared memory alone.
 *
 * Counters are named by the descriptions in the control segment, not by this program's tables, so
 * that it shows those of a later daemon too.  The few that it adds up or puts into tables it
 * knows by their place, which never changes (l_counters.h).
 */
#include <inttypes.h>
#include <string.h>
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "cli.h"
#include "health.h"
#include "hypercache_admin.h"
#include "stat.h"

enum { LABEL_COLUMNS = 20 };

/* -------------------------------------------------------------------- daemon */

static void daemon_print(const struct hypercache_admin *a)
{
	char version[CLI_TEXT_BYTES], up[CLI_TEXT_BYTES], age[CLI_TEXT_BYTES] = "none yet";
	char socket[ADMIN_PATH_BYTES];

	stat_version_text(a->ctl->version, version);
	printf("%-*s%s, process %d, up %s\n", LABEL_COLUMNS, "daemon", version,
		a->answer.daemon_pid, cli_time(stat_up_ns(a), up));
	printf("%-*s%s\n", LABEL_COLUMNS, "socket",
		cli_text(a->answer.socket, sizeof a->answer.socket, socket, sizeof socket));
	if (hypercache_has_beaten(a))
		(void)cli_time(hypercache_heartbeat_age_ns(a), age);
	printf("%-*s%s", LABEL_COLUMNS, "engine", hypercache_engine_state(a));
	if (a->answer.engine_pid)
		printf(", process %d", a->answer.engine_pid);
	printf(", generation %" PRIu64 ", %u restarts", shm_load_rlx(&a->ctl->engine_gen),
		a->answer.engine_restarts);
	if (a->answer.crashes)
		printf(" (%u crashes in a row)", a->answer.crashes);
	if (*stat_loop_name(a))
		printf(", waits with %s", stat_loop_name(a));
	printf("\n%-*s%s%s\n", LABEL_COLUMNS, "last heartbeat", age,
		hypercache_has_beaten(a) ? " ago" : "");
	printf("%-*s%" PRIu64 "\n", LABEL_COLUMNS, "LSN", shm_load_rlx(&a->ctl->lsn));
	printf("%-*s%" PRIu64 " of at most %u, each with %u threads that may read\n", LABEL_COLUMNS,
		"sessions", stat_counter(a, SHM_DC_sessions), a->ctl->n_sessions, a->ctl->n_blocks);
}

/* --------------------------------------------------------------------- pools */

static void part_print(const char *sign, const char *name, uint64_t bytes, uint64_t limit)
{
	char size[CLI_TEXT_BYTES];

	printf("  %s %-*s%12s  %5.1f %%\n", sign, LABEL_COLUMNS - 4, name, cli_size(bytes, size),
		limit ? 100.0 * (double)bytes / (double)limit : 0.0);
}

static void pool_print(const struct hypercache_admin *a, uint32_t idx)
{
	static const struct {
		const char *sign, *name;
		enum shm_pool_counter counter;
	} parts[] = {
		{" ", "limit", SHM_PC_limit_bytes},
		{"=", "live", SHM_PC_live_bytes},
		{"+", "overhead", SHM_PC_overhead_bytes},
		{"+", "free", SHM_PC_free_bytes},
		{"+", "limbo", SHM_PC_limbo_bytes},
		{"+", "unusable", SHM_PC_unusable_bytes},
	};
	const struct shm_pool_entry *e = &a->ctl->pool[idx];
	char name[SHM_NAME_BYTES], why[sizeof e->backing_why];
	uint64_t n[SHM_PC_N];

	for (int i = 0; i < SHM_PC_N; i++)
		n[i] = shm_load_rlx(&e->counter[i]);
	printf("\npool %s\n", cli_text(e->name, sizeof e->name, name, sizeof name));
	printf("  %s\n", cli_text(e->backing_why, sizeof e->backing_why, why, sizeof why));
	printf("  read: %s, write: %s%s\n", a->pool[idx].read, a->pool[idx].write,
		e->flags & SHM_POOL_SCRUB ? ", scrubbed" : "");
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		part_print(
			parts[i].sign, parts[i].name, n[parts[i].counter], n[SHM_PC_limit_bytes]);
	printf("    %-*s%12" PRIu64 "  evicted %" PRIu64 ", refused %" PRIu64 "\n",
		LABEL_COLUMNS - 4, "entries", n[SHM_PC_entries], n[SHM_PC_evicted_entries],
		n[SHM_PC_alloc_failed]);
}

/* -------------------------------------------------------------------- stores */

/* "98.76 %", or "-". */
static const char *ratio_text(struct hypercache_reads r, char to[CLI_TEXT_BYTES])
{
	double ratio = hypercache_hit_ratio(r);

	(void)snprintf(to, CLI_TEXT_BYTES, ratio < 0 ? "-" : "%.2f %%", 100 * ratio);
	return to;
}

/* Those that are not well, and why. */
static void health_print(const struct hypercache_admin *a)
{
	char name[SHM_NAME_BYTES], why[HYPERCACHE_HEALTH_WHY_BYTES];
	enum hypercache_health h = hypercache_health_engine(a, why);

	if (h != HYPERCACHE_OK) {
		printf("\n%s: %s\n", hypercache_health_word(h), why);
		return;
	}
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &a->ctl->store[i];
		if (!stat_store_used(a, i))
			continue;
		h = hypercache_health_store(a, i, why);
		if (h != HYPERCACHE_OK)
			printf("\nstore %s, %s: %s\n",
				cli_text(e->name, sizeof e->name, name, sizeof name),
				hypercache_health_word(h), why);
	}
}

/* One store's health and hit ratios, a line each. */
static void store_lines_print(const struct hypercache_admin *a, uint32_t i)
{
	char why[HYPERCACHE_HEALTH_WHY_BYTES], text[CLI_TEXT_BYTES];
	enum hypercache_health h = hypercache_health_store(a, i, why);

	printf("\n%-*s%s%s%s\n", LABEL_COLUMNS, "health", hypercache_health_word(h),
		*why ? ": " : "", why);
	for (int k = 0; k <= STAT_WINDOWS; k++) {
		struct hypercache_reads r = k < STAT_WINDOWS ? hypercache_reads_lately(
								       a, i, stat_windows_s[k])
		                                             : hypercache_reads(a, i);
		char label[CLI_TEXT_BYTES] = "hit ratio, all";
		if (k < STAT_WINDOWS)
			(void)snprintf(
				label, sizeof label, "hit ratio, %" PRIu32 " s", stat_windows_s[k]);
		printf("%-*s%s of %" PRIu64 " reads\n", LABEL_COLUMNS, label, ratio_text(r, text),
			r.hits + r.misses);
	}
}

/* only: a directory entry; SHM_STORES_MAX: all. */
static void stores_print(const struct hypercache_admin *a, uint32_t only)
{
	printf("\n%-16s %-10s %10s %11s %10s %10s %10s %12s %12s %8s %7s  %s\n", "store", "pool",
		"entries", "bytes", "sets", "evicted", "expired", "hits", "misses", "ratio", "10 s",
		"health");
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &a->ctl->store[i];
		char name[SHM_NAME_BYTES], pool[SHM_NAME_BYTES] = "?", size[CLI_TEXT_BYTES];
		char all[CLI_TEXT_BYTES], lately[CLI_TEXT_BYTES], why[HYPERCACHE_HEALTH_WHY_BYTES];
		if (!stat_store_used(a, i) || (only < SHM_STORES_MAX && i != only))
			continue;
		struct hypercache_reads sum = hypercache_reads(a, i);
		if (e->pool_idx < SHM_POOLS_MAX)
			(void)cli_text(
				a->ctl->pool[e->pool_idx].name, SHM_NAME_BYTES, pool, sizeof pool);
		printf("%-16s %-10s %10" PRIu64 " %11s %10" PRIu64 " %10" PRIu64 " %10" PRIu64
		       " %12" PRIu64 " %12" PRIu64 " %8s %7s  %s\n",
			cli_text(e->name, sizeof e->name, name, sizeof name), pool,
			shm_load_rlx(&e->counter[SHM_SC_entries]),
			cli_size(shm_load_rlx(&e->counter[SHM_SC_live_bytes]), size),
			shm_load_rlx(&e->counter[SHM_SC_sets]),
			shm_load_rlx(&e->counter[SHM_SC_evicted]),
			shm_load_rlx(&e->counter[SHM_SC_expired]), sum.hits, sum.misses,
			ratio_text(sum, all), ratio_text(hypercache_reads_lately(a, i, 10), lately),
			hypercache_health_word(hypercache_health_store(a, i, why)));
	}
}

/* ------------------------------------------------------------------ counters */

static void counter_print(void *arg, const char *name, uint64_t v, const struct shm_counter_desc *d)
{
	char unit[sizeof d->unit], meaning[sizeof d->meaning];

	(void)arg;
	printf("  %-20s %16" PRIu64 " %-11s %s\n", name, v,
		cli_text(d->unit, sizeof d->unit, unit, sizeof unit),
		cli_text(d->meaning, sizeof d->meaning, meaning, sizeof meaning));
}

static void store_counters_print(const struct hypercache_admin *a, uint32_t i)
{
	const struct shm_store_entry *e = &a->ctl->store[i];
	char name[SHM_NAME_BYTES];

	printf("\ncounters of store %s\n", cli_text(e->name, sizeof e->name, name, sizeof name));
	stat_counters_each(a, SHM_SCOPE_STORE, e->counter, counter_print, NULL);
}

static void counters_print(const struct hypercache_admin *a)
{
	char name[SHM_NAME_BYTES];

	printf("\ncounters of the daemon\n");
	stat_counters_each(a, SHM_SCOPE_DAEMON, a->ctl->counter, counter_print, NULL);
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		const struct shm_pool_entry *e = &a->ctl->pool[i];
		if (!stat_pool_used(a, i))
			continue;
		printf("\ncounters of pool %s\n",
			cli_text(e->name, sizeof e->name, name, sizeof name));
		stat_counters_each(a, SHM_SCOPE_POOL, e->counter, counter_print, NULL);
	}
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (stat_store_used(a, i))
			store_counters_print(a, i);
}

/* --store: that one alone. */
static int store_stat(const struct cli *c, const struct hypercache_admin *a)
{
	struct json j = {.to = stdout};
	uint32_t i = 0;

	while (i < SHM_STORES_MAX &&
		(!stat_store_used(a, i) || strncmp(a->ctl->store[i].name, c->store,
						   sizeof a->ctl->store[i].name) != 0))
		i++;
	if (i == SHM_STORES_MAX)
		return cli_fail(c, CLI_FAILED,
			"there is no store \"%s\": `hypercache store list` lists those that exist",
			c->store);
	if (c->json) {
		stat_store_json(a, &j, i);
		json_finish(&j);
	} else {
		stores_print(a, i);
		store_lines_print(a, i);
		cli_auto_print(&a->ctl->store[i]);
		store_counters_print(a, i);
	}
	return CLI_DONE;
}

int cli_stat(const struct cli *c)
{
	struct hypercache_admin a;
	int status;

	if (c->latency && c->store_given)
		return cli_fail(c, CLI_USAGE,
			"--latency is about the engine, which serves all stores: leave --store "
			"out");
	if (c->watch && (c->latency || c->verbose))
		return cli_fail(c, CLI_USAGE, "-w goes with --store, --json and --count alone");
	if (c->count && !c->watch)
		return cli_fail(c, CLI_USAGE, "--count is about -w");
	if (c->watch)
		return cli_watch(c);
	status = cli_admin_open(c, &a);
	if (status)
		return status;
	if (c->latency) {
		cli_latency(c, &a);
	} else if (c->store_given) {
		status = store_stat(c, &a);
	} else if (c->json) {
		stat_json(&a, stdout);
	} else {
		daemon_print(&a);
		for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
			if (stat_pool_used(&a, i))
				pool_print(&a, i);
		stores_print(&a, SHM_STORES_MAX);
		health_print(&a);
		if (c->verbose)
			counters_print(&a);
	}
	hypercache_admin_close(&a);
	return cli_end(c, status);
}

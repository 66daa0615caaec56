/* stat_json.c - see stat.h. */
#include "stat.h"
#include <inttypes.h>
#include <string.h>
#include "../daemon/sup_host.h"
#include "health.h"

const uint32_t stat_windows_s[STAT_WINDOWS] = {1, 10, 60};

const char *stat_backing_name(uint32_t backing)
{
	static const char *const names[] = {"?", "huge-1g", "huge-2m", "thp", "base"};
	return names[backing <= SHM_BACK_BASE ? backing : 0];
}

const char *stat_loop_name(const struct hypercache_admin *a)
{
	static const char *const words[] = {"", "io_uring", "io_uring-plain", "epoll"};
	uint64_t kind = stat_counter(a, SHM_DC_loop);

	return kind < sizeof words / sizeof *words ? words[kind] : "another loop";
}

uint64_t stat_up_ns(const struct hypercache_admin *a)
{
	uint64_t now = sup_host_real_ns();

	return now > a->ctl->started_ns ? now - a->ctl->started_ns : 0;
}

void stat_version_text(uint32_t v, char to[CLI_TEXT_BYTES])
{
	(void)snprintf(to, CLI_TEXT_BYTES, "%u.%u.%u", v >> 16, v >> 8 & 0xff, v & 0xff);
}

void stat_counters_each(const struct hypercache_admin *a, enum shm_counter_scope scope,
	const shm_u64 *counter, stat_counter_each *each, void *arg)
{
	for (int i = 0; i < SHM_DESCS_MAX && a->ctl->desc[i].scope; i++) {
		const struct shm_counter_desc *d = &a->ctl->desc[i];
		char name[sizeof d->name];
		if (d->scope == scope && d->index < SHM_COUNTERS_MAX)
			each(arg, cli_text(d->name, sizeof d->name, name, sizeof name),
				shm_load_rlx(&counter[d->index]), d);
	}
}

/* ---------------------------------------------------------------------- JSON */

static void counter_json(void *arg, const char *name, uint64_t v, const struct shm_counter_desc *d)
{
	(void)d;
	json_u64(arg, name, v);
}

static void counters_json(const struct hypercache_admin *a, struct json *j,
	enum shm_counter_scope scope, const shm_u64 *counter)
{
	json_begin(j, "counters", '{');
	stat_counters_each(a, scope, counter, counter_json, j);
	json_end(j, '}');
}

static void health_json(
	struct json *j, enum hypercache_health h, const char why[HYPERCACHE_HEALTH_WHY_BYTES])
{
	json_string(j, "health", hypercache_health_word(h));
	json_string(j, "health_why", why);
}

static void daemon_json(const struct hypercache_admin *a, struct json *j)
{
	char version[CLI_TEXT_BYTES], why[HYPERCACHE_HEALTH_WHY_BYTES];

	stat_version_text(a->ctl->version, version);
	json_begin(j, "daemon", '{');
	json_string(j, "version", version);
	json_i64(j, "pid", a->answer.daemon_pid);
	json_hex(j, "id", a->ctl->seg.daemon_id);
	json_string(j, "socket", a->answer.socket);
	json_double(j, "up_s", (double)stat_up_ns(a) / 1e9);
	json_u64(j, "sessions_max", a->ctl->n_sessions);
	json_u64(j, "threads_per_client", a->ctl->n_blocks);
	counters_json(a, j, SHM_SCOPE_DAEMON, a->ctl->counter);
	json_end(j, '}');
	json_begin(j, "engine", '{');
	json_string(j, "state", hypercache_engine_state(a));
	json_i64(j, "pid", a->answer.engine_pid);
	json_u64(j, "generation", shm_load_rlx(&a->ctl->engine_gen));
	json_u64(j, "restarts", a->answer.engine_restarts);
	json_u64(j, "crashes_in_a_row", a->answer.crashes);
	if (hypercache_has_beaten(a))
		json_double(j, "heartbeat_age_s", (double)hypercache_heartbeat_age_ns(a) / 1e9);
	json_u64(j, "lsn", shm_load_rlx(&a->ctl->lsn));
	json_string(j, "io", stat_loop_name(a));
	health_json(j, hypercache_health_engine(a, why), why);
	json_end(j, '}');
}

static void pool_json(const struct hypercache_admin *a, struct json *j, uint32_t idx)
{
	const struct shm_pool_entry *e = &a->ctl->pool[idx];
	char name[SHM_NAME_BYTES], why[sizeof e->backing_why];

	json_begin(j, NULL, '{');
	json_string(j, "name", cli_text(e->name, sizeof e->name, name, sizeof name));
	json_u64(j, "id", shm_load_rlx(&e->id));
	json_string(j, "backing", stat_backing_name(e->region[0].backing));
	json_string(
		j, "backing_why", cli_text(e->backing_why, sizeof e->backing_why, why, sizeof why));
	json_u64(j, "max_value_bytes", shm_load_rlx(&e->max_value_bytes));
	if (a->pool_fd[idx][0] >= 0) { /* the rights come with it */
		json_string(j, "read", a->pool[idx].read);
		json_string(j, "write", a->pool[idx].write);
	}
	json_bool(j, "scrub", (e->flags & SHM_POOL_SCRUB) != 0);
	counters_json(a, j, SHM_SCOPE_POOL, e->counter);
	json_end(j, '}');
}

void stat_store_json(const struct hypercache_admin *a, struct json *j, uint32_t idx)
{
	const struct shm_store_entry *e = &a->ctl->store[idx];
	char name[SHM_NAME_BYTES], policy[SHM_NAME_BYTES], why[HYPERCACHE_HEALTH_WHY_BYTES];
	struct hypercache_reads sum = hypercache_reads(a, idx);

	json_begin(j, NULL, '{');
	json_string(j, "name", cli_text(e->name, sizeof e->name, name, sizeof name));
	json_u64(j, "id", shm_load_rlx(&e->id));
	json_u64(j, "pool_idx", e->pool_idx);
	json_string(j, "policy", cli_text(e->policy, sizeof e->policy, policy, sizeof policy));
	cli_auto_json(e, j);
	json_u64(j, "default_ttl_ms", shm_load_rlx(&e->default_ttl_ns) / 1000000);
	json_u64(j, "hits", sum.hits);
	json_u64(j, "misses", sum.misses);
	json_u64(j, "hit_bytes", sum.hit_bytes);
	if (hypercache_hit_ratio(sum) >= 0)
		json_double(j, "hit_ratio", hypercache_hit_ratio(sum));
	for (int k = 0; k < STAT_WINDOWS; k++) {
		char label[CLI_TEXT_BYTES];
		double lately = hypercache_hit_ratio(
			hypercache_reads_lately(a, idx, stat_windows_s[k]));
		(void)snprintf(label, sizeof label, "hit_ratio_%" PRIu32 "s", stat_windows_s[k]);
		if (lately >= 0)
			json_double(j, label, lately);
	}
	health_json(j, hypercache_health_store(a, idx, why), why);
	counters_json(a, j, SHM_SCOPE_STORE, e->counter);
	json_end(j, '}');
}

void stat_json(const struct hypercache_admin *a, FILE *to)
{
	struct json j = {.to = to};

	json_begin(&j, NULL, '{');
	daemon_json(a, &j);
	json_begin(&j, "pools", '[');
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (stat_pool_used(a, i))
			pool_json(a, &j, i);
	json_end(&j, ']');
	json_begin(&j, "stores", '[');
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (stat_store_used(a, i))
			stat_store_json(a, &j, i);
	json_end(&j, ']');
	json_end(&j, '}');
	json_finish(&j);
}

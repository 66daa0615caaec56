/* health.c - the state of engine and stores, judged from what they have left in shared memory. */
#include "health.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "cli.h"
#include "fold.h"
#include "step.h"

/* Without a heartbeat for so long the engine hangs: so many of them, and at least so long. */
enum { SILENT_TICKS = 10, SILENT_S_LEAST = 5 };
/* Additions that sessions which end may spoil; a dead engine may have left one half done. */
enum { FOLD_TRIES = 1000 };
#define NS_PER_S UINT64_C(1000000000)

/* --------------------------------------------------------------------- reads */

static struct hypercache_reads reads_sum(const struct hypercache_admin *a, uint32_t store_idx)
{
	const shm_u64 *c = a->ctl->store[store_idx].counter;
	struct hypercache_reads sum = {
		.hits = shm_load_rlx(&c[SHM_SC_folded_hits]),
		.misses = shm_load_rlx(&c[SHM_SC_folded_misses]),
		.hit_bytes = shm_load_rlx(&c[SHM_SC_folded_hit_bytes]),
	};

	for (uint32_t i = 0; i < a->n_sessions; i++) {
		if (hypercache_admin_is_folded(&a->session[i]) &&
			!MUTANT(327)) /* 327: nobody looks */
			continue;
		struct hypercache_reads r = hypercache_admin_reads(&a->session[i], store_idx);
		sum.hits += r.hits;
		sum.misses += r.misses;
		sum.hit_bytes += r.hit_bytes;
	}
	return sum;
}

struct hypercache_reads hypercache_reads(const struct hypercache_admin *a, uint32_t store_idx)
{
	struct hypercache_reads sum;
	uint64_t looked;
	int tries = 0;

	do {
		looked = shm_fold_look(a->ctl);
		sum = reads_sum(a, store_idx);
	} while (!shm_fold_same(a->ctl, looked) && ++tries < FOLD_TRIES);
	return sum;
}

struct hypercache_reads hypercache_reads_lately(
	const struct hypercache_admin *a, uint32_t store_idx, uint32_t seconds)
{
	const shm_u64 *c = a->ctl->store[store_idx].counter;
	enum shm_store_counter hits = seconds == 1    ? SHM_SC_hits_1s
	                              : seconds == 10 ? SHM_SC_hits_10s
	                                              : SHM_SC_hits_60s;

	return (struct hypercache_reads){
		.hits = shm_load_rlx(&c[hits]), .misses = shm_load_rlx(&c[hits + 1])};
}
SHM_ASSERT(SHM_SC_misses_1s == SHM_SC_hits_1s + 1 && SHM_SC_misses_10s == SHM_SC_hits_10s + 1 &&
	   SHM_SC_misses_60s == SHM_SC_hits_60s + 1);

double hypercache_hit_ratio(struct hypercache_reads r)
{
	return r.hits + r.misses ? (double)r.hits / (double)(r.hits + r.misses) : -1;
}

/* -------------------------------------------------------------------- engine */

/* Does the kernel say that somebody stopped the engine (SIGSTOP, a debugger)?  False too where its
 * number means another process or none: in another pid namespace. */
static bool engine_stopped(int32_t pid)
{
	char path[32], line[512];
	const char *end;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = pid > 0 ? fopen(path, "re") : NULL;
	if (!f)
		return false;
	bool read = fgets(line, sizeof line, f) != NULL;
	(void)fclose(f);
	end = read ? strstr(line, "(hypercached-eng) ") : NULL;
	if (!end)
		return false;
	end += strlen("(hypercached-eng) ");
	return *end == 'T' || *end == 't';
}

const char *hypercache_engine_state(const struct hypercache_admin *a)
{
	uint32_t word = shm_load32_rlx(&a->ctl->eng_word);

	if (engine_stopped(a->answer.engine_pid))
		return "stopped by a signal";
	if (a->answer.engine == ADMIN_ENGINE_STOPPING)
		return "stopping";
	if (a->answer.engine == ADMIN_ENGINE_WAITING)
		return "dead";
	if (word == 0 || (word & SHM_FUTEX_OWNER_DIED))
		return "starting";
	switch (shm_load_rlx(&a->ctl->state)) {
	case SHM_ENGINE_ADOPTING:
		return "adopting";
	case SHM_ENGINE_SERVING:
		return "serving";
	case SHM_ENGINE_ENDED:
		return "ended";
	default:
		return "starting";
	}
}

uint64_t hypercache_heartbeat_age_ns(const struct hypercache_admin *a)
{
	int64_t now = (int64_t)sup_host_mono_ns() - sup_host_time_off_ns();
	int64_t then = (int64_t)shm_load_rlx(&a->ctl->heartbeat_ns) - (int64_t)a->ctl->time_off_ns;

	return now > then ? (uint64_t)(now - then) : 0;
}

bool hypercache_has_beaten(const struct hypercache_admin *a)
{
	return shm_load_rlx(&a->ctl->heartbeat_ns) != 0;
}

/* -------------------------------------------------------------------- health */

const char *hypercache_health_word(enum hypercache_health h)
{
#define HEALTH_WORD_(constant, word, meaning) word,
	static const char *const words[] = {HYPERCACHE_HEALTHS(HEALTH_WORD_)};
	return words[h];
}

__attribute__((format(printf, 3, 4))) static enum hypercache_health say(
	char why[HYPERCACHE_HEALTH_WHY_BYTES], enum hypercache_health h, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, HYPERCACHE_HEALTH_WHY_BYTES, format, args);
	va_end(args);
	return h;
}

enum hypercache_health hypercache_health_engine(
	const struct hypercache_admin *a, char why[HYPERCACHE_HEALTH_WHY_BYTES])
{
	const char *state = hypercache_engine_state(a);
	uint64_t limit_ns = SILENT_TICKS * shm_load_rlx(&a->ctl->counter[SHM_DC_tick_ns]);
	uint64_t age_ns = hypercache_heartbeat_age_ns(a);
	char text[CLI_TEXT_BYTES];

	*why = 0;
	if (limit_ns < SILENT_S_LEAST * NS_PER_S)
		limit_ns = SILENT_S_LEAST * NS_PER_S;
	if (strcmp(state, "serving") != 0)
		return say(why, HYPERCACHE_DEGRADED,
			"the engine is not serving (%s): reads go on, writes wait", state);
	if (age_ns > limit_ns)
		return say(why, HYPERCACHE_DEGRADED,
			"the engine has given no sign of life for %s: reads go on, writes wait",
			cli_time(age_ns, text));
	return HYPERCACHE_OK;
}

/* What of it is wrong with the pool itself, and what is short there. */
static enum hypercache_health pool_health(
	const struct shm_pool_entry *e, char why[HYPERCACHE_HEALTH_WHY_BYTES])
{
	static const char *const levels[] = {"", "entries are evicted in the background",
		"entries of all its stores are evicted", "each write evicts first"};
	static const char *const names[] = {"end", "low", "high", "full"};
	char name[SHM_NAME_BYTES], size[CLI_TEXT_BYTES], wanted[CLI_TEXT_BYTES];
	uint64_t limit = shm_load_rlx(&e->counter[SHM_PC_limit_bytes]);
	uint64_t used = limit - shm_load_rlx(&e->counter[SHM_PC_free_bytes]);
	uint64_t lost = shm_load_rlx(&e->counter[SHM_PC_unusable_bytes]);
	uint64_t level = shm_load_rlx(&e->counter[SHM_PC_pressure]);
	uint64_t wants = shm_load_rlx(&e->wanted_bytes);

	(void)cli_text(e->name, sizeof e->name, name, sizeof name);
	if (lost)
		return say(why, HYPERCACHE_DEGRADED,
			"pool %s has lost %s to damage, until the daemon is started anew", name,
			cli_size(lost, size));
	if (level && level < SHM_PRESSURES)
		return say(why, HYPERCACHE_PRESSURE,
			"pool %s is full to %.1f %% and has reached pressure_%s: %s, down to %.1f "
			"%%",
			name, limit ? 100.0 * (double)used / (double)limit : 0.0, names[level],
			levels[level], shm_load32_rlx(&e->pressure_ppm[SHM_PRESSURE_END]) / 1e4);
	if (limit < wants && shm_load_rlx(&e->counter[SHM_PC_squeezes]))
		return say(why, HYPERCACHE_PRESSURE,
			"pool %s has %s of %s, because the system is short of memory", name,
			cli_size(limit, size), cli_size(wants, wanted));
	return HYPERCACHE_OK;
}

enum hypercache_health hypercache_health_store(
	const struct hypercache_admin *a, uint32_t store_idx, char why[HYPERCACHE_HEALTH_WHY_BYTES])
{
	const struct shm_store_entry *e = &a->ctl->store[store_idx];
	uint64_t refused = shm_load_rlx(&e->counter[SHM_SC_refused_full_60s]);
	uint64_t limited = shm_load_rlx(&e->counter[SHM_SC_evicted_limit_60s]);
	char pool_why[HYPERCACHE_HEALTH_WHY_BYTES];
	enum hypercache_health pool = HYPERCACHE_OK, h = hypercache_health_engine(a, why);

	if (h != HYPERCACHE_OK || MUTANT(324)) /* 324: all is well as long as the engine serves */
		return h;
	*pool_why = 0;
	if (e->pool_idx < SHM_POOLS_MAX)
		pool = pool_health(&a->ctl->pool[e->pool_idx], pool_why);
	if (pool == HYPERCACHE_DEGRADED)
		return say(why, pool, "%s", pool_why);
	if (refused)
		return say(why, HYPERCACHE_DEGRADED,
			"%" PRIu64
			" writes of the last minute were refused: there was no room, and "
			"nothing that may be evicted",
			refused);
	if (pool == HYPERCACHE_PRESSURE)
		return say(why, pool, "%s", pool_why);
	if (limited)
		return say(why, HYPERCACHE_PRESSURE,
			"it is at its own limit: %" PRIu64
			" of its entries were evicted for that in the last minute",
			limited);
	return HYPERCACHE_OK;
}

/* health.h - is the engine there, is a store well?  Judged from shared memory alone.
 *
 * Whoever shows it (stat, the metrics) asks here, so all say the same.  Nothing of it is remembered: the
 * answer is about now and the last minute, and can be asked for while the engine hangs or is dead.
 */
#ifndef HC_TOOLS_HEALTH_H
#define HC_TOOLS_HEALTH_H

#include <stdbool.h>
#include "hypercache_admin.h"

/* Reads of one store: those of living sessions, and those of all that have ended.  Exact, however
 * many end meanwhile; only while an engine is dead that died at that very moment, it may be too high. */
struct hypercache_reads hypercache_reads(const struct hypercache_admin *a, uint32_t store_idx);
/* Hits and misses of about the last 1, 10 or 60 seconds, as the engine adds them up once a second. */
struct hypercache_reads hypercache_reads_lately(
	const struct hypercache_admin *a, uint32_t store_idx, uint32_t seconds);
/* Hits of all reads, 0..1; negative: there were none. */
double hypercache_hit_ratio(struct hypercache_reads r);

/* In a few words what the engine does, from its own word and state, and from its parent: "serving",
 * "starting", "adopting", "dead", "stopping", "ended", "stopped by a signal". */
const char *hypercache_engine_state(const struct hypercache_admin *a);
bool hypercache_has_beaten(const struct hypercache_admin *a);
/* Age of the engine's last turn, ns, whatever time namespace we are in; 0 if it is ahead of us. */
uint64_t hypercache_heartbeat_age_ns(const struct hypercache_admin *a);

/* X(CONSTANT, word, meaning) */
#define HYPERCACHE_HEALTHS(X) \
	X(OK, "ok", "nothing is wrong, and nothing is short") \
	X(PRESSURE, "pressure", "memory is short: entries go before their time") \
	X(DEGRADED, "degraded", \
		"something does not work as it should: writes, or a part of the memory")
#define HEALTH_ENUM_(constant, word, meaning) HYPERCACHE_##constant,
enum hypercache_health { HYPERCACHE_HEALTHS(HEALTH_ENUM_) };
#undef HEALTH_ENUM_

enum { HYPERCACHE_HEALTH_WHY_BYTES = 256 };

const char *hypercache_health_word(enum hypercache_health h);

/* Of the engine alone: OK or DEGRADED.  why: the reason in words, printable; "" if OK. */
enum hypercache_health hypercache_health_engine(
	const struct hypercache_admin *a, char why[HYPERCACHE_HEALTH_WHY_BYTES]);

/* Of a used store, with what it depends on: engine and pool.  The worst, with the first reason for it. */
enum hypercache_health hypercache_health_store(const struct hypercache_admin *a, uint32_t store_idx,
	char why[HYPERCACHE_HEALTH_WHY_BYTES]);

#endif

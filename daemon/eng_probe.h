/* eng_probe.h - probes whose arguments have to be put together (probe.h): called where a tracer is attached. */
#ifndef HC_DAEMON_ENG_PROBE_H
#define HC_DAEMON_ENG_PROBE_H

#include "eng.h"
#include "probe.h"

/* The entry at off, which s has lost: evicted (how: enum eng_lost), or expired. */
void eng_probe_lost(struct eng_pool *p, const struct eng_store *s, uint64_t off, enum eng_lost how,
	bool expired, uint64_t now_ns);
/* A SET or INCR of s came to this status; version 0: no entry was written. */
void eng_probe_publish(const struct eng_pool *p, const struct eng_store *s,
	const struct shm_set *set, int32_t status, uint64_t version);

#endif

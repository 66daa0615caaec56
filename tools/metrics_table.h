/* metrics_table.h - what the page of metrics has beside the counters of shm/layout/l_counters.h.
 *
 * Each line: X(scope, name, unit, kind, meaning), as there; scope says which labels a sample has:
 *
 *   daemon   none                          pool     pool
 *   store    store, pool                   client   slot, pid, uid, name
 *
 * Kinds as there, and I: always 1, what it says is in further labels.
 *
 * What a row is called on the page (metrics_page.c makes it, so that a table's unit and a page's cannot
 * differ):
 *
 *   hypercache_ [scope_] name [_unit] [_total]
 *
 *   unit     ns and ms become seconds, ppm ratio, each with its suffix; bytes stands in the name already
 *   _total   of kind C
 */
#ifndef HC_TOOLS_METRICS_TABLE_H
#define HC_TOOLS_METRICS_TABLE_H

#define HYPERCACHE_METRICS(X) \
	X(daemon, up, "flag", G, \
		"1: the daemon's memory could be looked at; 0: no supervisor answers, or there " \
		"is none") \
	X(daemon, build, "build", I, "the version of the daemon") \
	X(daemon, start_time, "s", G, "when the memory was made, in seconds since 1970") \
	X(daemon, engine_serving, "flag", G, \
		"1: the engine takes requests; else reads go on, and writes wait") \
	X(daemon, engine_healthy, "flag", G, "1: it serves, and gives signs of life") \
	X(daemon, engine_state, "state", I, "what the engine does, in a word") \
	X(daemon, engine_heartbeat_age, "ns", G, "age of the engine's last sign of life") \
	X(daemon, engine_generation, "starts", G, "counts the engines of this memory") \
	X(daemon, engine_crashes_in_a_row, "crashes", G, \
		"crashes of the engine since one last served for a while") \
	X(daemon, lsn, "changes", C, "changes of entries, of all stores") \
	X(daemon, sessions_max, "sessions", G, "living sessions that there may be") \
	X(pool, backing, "backing", I, \
		"what kind of memory was got: huge-1g, huge-2m, thp or base") \
	X(pool, wanted_bytes, "bytes", G, "the size that it is to have; it goes there in steps") \
	X(store, hits, "reads", C, "look-ups that found a live entry, of all sessions ever") \
	X(store, misses, "reads", C, "look-ups that did not") \
	X(store, hit_bytes, "bytes", C, "of values found") \
	X(store, health, "level", G, \
		"0 ok, 1 pressure, 2 degraded; /readyz has the reason in words") \
	X(store, guaranteed_bytes, "bytes", G, "places that no other store's writes take from it") \
	X(store, limit_bytes, "bytes", G, "places that it may take; 0: as the pool has") \
	X(store, limit_entries, "entries", G, "entries that it may have; 0: as many as fit") \
	X(client, hits, "reads", C, \
		"look-ups of a living session that found a live entry, as it says itself") \
	X(client, misses, "reads", C, "its look-ups that did not, as it says itself") \
	X(client, hit_bytes, "bytes", C, "of values that it found, as it says itself") \
	X(client, pins, "pins", G, "entries and tables that it keeps from being reused") \
	X(client, view_pins, "pins", G, "of pins: of views") \
	X(client, age, "ns", G, "since its session was opened")

/* Families of histograms, one sample for each row of SHM_HISTOGRAM_COUNTERS: a verb's name (libclient/wire.h)
 * belongs to the first, what is in ms to the third, all others to the second.  X(name, label, unit, meaning) */
#define HYPERCACHE_METRICS_HISTOGRAMS(X) \
	X(request_duration, verb, "ns", "how long the engine worked at requests, by verb") \
	X(work_duration, work, "ns", "how long the engine's other work took") \
	X(entry_age, of, "ms", "how old entries were when something happened to them")

#endif

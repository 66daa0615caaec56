/* l_counters.h - every counter, gauge and histogram, defined once.
 *
 * Each line: X(name, unit, kind, meaning).  From these tables come the indexes
 * below, the descriptions in the control segment (so that a tool needs only the
 * memory to name them), `hypercache stat` and the documents.
 *
 * kind: C counts up for ever (a restarted engine goes on from where it stands),
 *       G is a gauge,
 *       H is a histogram, whose counts go on like C.
 * Arrays have room for SHM_COUNTERS_MAX words; a new counter is appended, never
 * inserted: the position is the layout.
 */
#ifndef HC_LAYOUT_COUNTERS_H
#define HC_LAYOUT_COUNTERS_H

#include "l_base.h"

#define SHM_COUNTERS_MAX 64
#define SHM_HISTS_MAX 32
#define SHM_HIST_BUCKETS 256

/* [W: eng, relaxed; R: all] in shm_control.counter[] */
#define SHM_DAEMON_COUNTERS(X) \
	X(requests, "requests", C, "requests decoded, of any verb") \
	X(requests_bad, "requests", C, "requests refused because they were malformed or not allowed") \
	X(requests_replayed, "requests", C, "requests answered from the journal: they had been applied before") \
	X(sessions, "sessions", G, "living sessions") \
	X(sessions_opened, "sessions", C, "sessions opened") \
	X(sessions_dead, "sessions", C, "sessions ended by the death of their process") \
	X(connections, "connections", G, "open connections") \
	X(connections_refused, "connections", C, "connections refused or dropped because a limit was reached") \
	X(barriers, "calls", C, "membarrier calls and full-fence scans before reuse of memory") \
	X(hints, "hints", C, "touch hints drained from the clients' rings") \
	X(hints_lost, "hints", C, "touch hints overwritten before they were drained") \
	X(hints_bad, "hints", C, "touch hints that named nothing") \
	X(revocations, "revocations", C, "times that a client's pins were revoked because it held too much") \
	X(engine_starts, "starts", C, "engines started on this memory") \
	X(adopt_dropped, "entries", C, "entries that an adopting engine dropped because they were damaged") \
	X(loop, "kind", G, "the engine waits with: 1 io_uring, 2 io_uring-plain, 3 epoll") \
	X(requests_denied, "requests", C, "requests refused because their user may not do that") \
	X(purge_turn_ns, "ns", G, "longest turn of the loop while cleared entries were removed") \
	X(tick_ns, "ns", G, "time between two heartbeats, as configured") \
	X(unverified, "pools", G, "adopted, their checksums not yet all looked at") \
	X(folds, "changes", C, "begun and ended additions of a session to the totals") \
	X(folded_retries, "times", C, "retries of sessions that have ended") \
	X(folded_views, "calls", C, "views of sessions that have ended") \
	X(folded_expired_seen, "reads", C, "expired_seen of sessions that have ended") \
	X(folded_damage_seen, "times", C, "damage_seen of sessions that have ended") \
	X(folded_hints_left_out, "hints", C, "hints_left_out of sessions that have ended") \
	X(leases, "leases", G, "leases held: values that some process computes") \
	X(leases_granted, "leases", C, "leases given") \
	X(leases_waited, "requests", C, "requests told to wait for another's lease") \
	X(leases_passed, "leases", C, "leases that ended by their holder's death, silence or time") \
	X(leases_lost, "requests", C, "writes refused: their lease was over") \
	X(slow, "requests", C, "requests that came into the slow log") \
	X(folded_requests, "requests", C, "requests of sessions that have ended") \
	X(log_state, "state", G, "log of durable stores: 0 none, 1 good, 2 no room on disk, 3 failed") \
	X(log_lsn, "LSN", G, "of the last change that was logged") \
	X(log_durable_lsn, "LSN", G, "changes up to it are on disk") \
	X(log_lag_ns, "ns", G, "how long the oldest change that is not on disk has waited") \
	X(log_staged_bytes, "bytes", G, "of staging, taken by what is not on disk") \
	X(log_segment, "number", G, "of the file of the log that is written") \
	X(log_segment_bytes, "bytes", G, "of it, written") \
	X(log_reserve, "files", G, "of the log, made and not begun") \
	X(log_bytes, "bytes", G, "written to the log by this engine") \
	X(log_frames, "writes", G, "of it: frames, each one write") \
	X(log_records, "changes", G, "of it: records") \
	X(log_failures, "times", C, "that a write of the log has failed")

/* [W: eng, relaxed; R: all] in shm_pool_entry.counter[].  limit = live + overhead + free +
 * limbo + unusable, each counted on its own. */
#define SHM_POOL_COUNTERS(X) \
	X(limit_bytes, "bytes", G, "size of the pool") \
	X(live_bytes, "bytes", G, "keys and values of live entries") \
	X(overhead_bytes, "bytes", G, "headers, rounding, slab tails, index, page table") \
	X(free_bytes, "bytes", G, "pages of no use at the moment, and free places in slabs") \
	X(limbo_bytes, "bytes", G, "unlinked, not yet proved to be unpinned") \
	X(unusable_bytes, "bytes", G, "lost to damage or alignment until the next cold start") \
	X(entries, "entries", G, "live entries") \
	X(index_bytes, "bytes", G, "of overhead: index tables") \
	X(index_grows, "times", C, "index growths begun") \
	X(limbo_entries, "entries", G, "unlinked items and tables waiting for reuse") \
	X(scans, "scans", C, "pin scans made to empty the limbo list") \
	X(evicted_entries, "entries", C, "entries evicted to make room") \
	X(alloc_failed, "requests", C, "allocations refused because no room could be made") \
	X(changes, "changes", C, "begun and ended changes of the pool: odd while one is under way") \
	X(accounted, "changes", G, "value of `changes` that the gauges above belong to") \
	X(pressure, "level", G, "0 none, 1 low, 2 high, 3 full; until its end is reached") \
	X(pressures, "times", C, "times that eviction in the background was begun") \
	X(moved_entries, "entries", C, "entries moved to other places to make room") \
	X(hole_bytes, "bytes", G, "of the regions: given back to the system, not in limit_bytes") \
	X(squeezes, "times", C, "steps smaller because the system was short of memory") \
	X(emptied, "times", C, "started empty because engines crashed at it again and again") \
	X(feed_bytes, "bytes", G, "of overhead: the change feed") \
	X(feed_entries, "entries", C, "entries of the change feed, ever")

/* [W: eng, relaxed; R: all] in shm_store_entry.counter[].  Hits and misses are
 * counted by the readers themselves (l_client.h); those of dead sessions are
 * folded into the folded_ words here.  What ends in _1s, _10s or _60s is how much
 * a number has grown in about so many seconds (eng_recent.c). */
#define SHM_STORE_COUNTERS(X) \
	X(entries, "entries", G, "live entries") \
	X(live_bytes, "bytes", G, "keys and values of live entries") \
	X(sets, "requests", C, "entries written") \
	X(deletes, "requests", C, "entries deleted by request") \
	X(delete_misses, "requests", C, "deletes of absent keys") \
	X(evicted, "entries", C, "entries evicted to make room") \
	X(expired, "entries", C, "entries removed because their time was over") \
	X(folded_hits, "reads", C, "hits counted by sessions that have ended") \
	X(folded_misses, "reads", C, "misses counted by sessions that have ended") \
	X(set_refused, "requests", C, "writes refused: no room, or larger than allowed") \
	X(place_bytes, "bytes", G, "places of live entries: what guaranteed and limit are about") \
	X(evicted_limit, "entries", C, "of evicted: because the store was above its own limit") \
	X(not_admitted, "requests", C, "new keys not kept, under pressure: worth less than the victim") \
	X(cleared, "entries", C, "entries that clears made void") \
	X(void_entries, "entries", G, "of them, those that still take memory") \
	X(evicted_pressure, "entries", C, "of evicted: because the pool had reached a threshold") \
	X(evicted_full, "entries", C, "of evicted: no room for a write of this store") \
	X(evicted_given, "entries", C, "of evicted: no room for a write of another store") \
	X(evicted_aside, "entries", C, "of evicted: stood where pages in a row were needed") \
	X(evicted_shrunk, "entries", C, "of evicted: because the pool was made smaller") \
	X(evicted_index, "entries", C, "of evicted: no place in the index or the policy") \
	X(refused_full, "requests", C, "of set_refused: there was no room") \
	X(hits_1s, "reads", G, "hits of the last second, or between two heartbeats") \
	X(misses_1s, "reads", G, "misses of the same time") \
	X(hits_10s, "reads", G, "hits of the last 10 seconds") \
	X(misses_10s, "reads", G, "misses of the last 10 seconds") \
	X(hits_60s, "reads", G, "hits of the last minute") \
	X(misses_60s, "reads", G, "misses of the last minute") \
	X(evicted_60s, "entries", G, "evicted in the last minute") \
	X(evicted_limit_60s, "entries", G, "evicted_limit of the last minute") \
	X(refused_full_60s, "requests", G, "refused_full of the last minute") \
	X(folded_hit_bytes, "bytes", C, "of values found by sessions that have ended") \
	X(hits_told, "hits", C, "hits that left a hint, which the engine has read") \
	X(curve_bytes, "bytes", G, "memory that 1 of the curve stands for; 0: see curve_entries") \
	X(curve_entries, "entries", G, "the same, where max_entries is the limit") \
	X(curve_reads, "reads", G, "reads that the curve is of, fading") \
	X(curve_hits, "reads", G, "of them, hits") \
	X(curve_keys, "keys", G, "of the sample that the curve is made from") \
	X(curve_own_bytes, "bytes", G, "private memory of the engine for the curve") \
	X(auto_choice, "policy", G, "auto: 1 w-tinylfu, 2 s3-fifo, 3 lru, 4 lfu") \
	X(auto_changes, "times", C, "auto: times that another policy was chosen") \
	X(auto_own_bytes, "bytes", G, "auto: private memory of the engine for the choice") \
	X(auto_w_tinylfu, "ppm", G, "auto: misses, lately, had it been w-tinylfu") \
	X(auto_s3_fifo, "ppm", G, "auto: the same of s3-fifo") \
	X(auto_lru, "ppm", G, "auto: the same of lru") \
	X(auto_lfu, "ppm", G, "auto: the same of lfu") \
	X(hot_hits, "hits", G, "hits that the hot keys are of, fading") \
	X(hot_rest, "ppm", G, "of them, that a key which is not among the hot ones has at most") \
	X(hot_noise, "ppm", G, "one standard deviation of a share of 1/2, from the sampling")

/* Each of these has a folded_ one of the daemon, for sessions that have ended.
 * [W: cli, relaxed; R: eng, tools] in shm_block.counter[]: one thread's own.  Hits, misses and
 * bytes stand per store in shm_block.store[]; their sums are not counted again. */
#define SHM_BLOCK_COUNTERS(X) \
	X(retries, "times", C, "a slot or table changed under a look-up, which began again") \
	X(views, "calls", C, "views taken") \
	X(expired_seen, "reads", C, "misses because the entry found had expired") \
	X(damage_seen, "times", C, "look-ups that met damage in shared memory") \
	X(hints_left_out, "hints", C, "hits that left no hint, because the ring of hints was full") \
	X(requests, "requests", C, "requests made of the engine; in the session's first block alone")

/* [W: eng, relaxed; R: all] in shm_control.hist[]: how long each took.  First the requests, by verb. */
#define SHM_HISTOGRAM_COUNTERS(X) \
	X(hello, "ns", H, "HELLO, until it is answered or waits for the supervisor") \
	X(ping, "ns", H, "PING") \
	X(set, "ns", H, "SET, in a frame of its own") \
	X(delete, "ns", H, "DELETE, in a frame of its own") \
	X(bye, "ns", H, "BYE") \
	X(touch, "ns", H, "TOUCH, in a frame of its own") \
	X(incr, "ns", H, "INCR, in a frame of its own") \
	X(clear, "ns", H, "CLEAR, until it is answered") \
	X(batch, "ns", H, "BATCH: all its items together") \
	X(lease, "ns", H, "LEASE, until it is answered or waits for its holder") \
	X(lease_drop, "ns", H, "LEASE_DROP") \
	X(turn, "ns", H, "turns of the engine's loop") \
	X(room, "ns", H, "attempts to make room for a write") \
	X(evict, "ns", H, "evictions in the background: a pool's part of a turn") \
	X(sweep, "ns", H, "scans of the pins, and the reuse of what nobody pins") \
	X(expiry, "ns", H, "removals of what is over: a part of a turn") \
	X(purge, "ns", H, "removals of what was cleared: a part of a turn") \
	X(adopt, "ns", H, "an engine's start, until it serves") \
	X(evicted_age, "ms", H, "of entries that were evicted: since they were written")

#define X_HIST_(n, u, k, m) SHM_HG_##n,
#define X_DAEMON_(n, u, k, m) SHM_DC_##n,
#define X_POOL_(n, u, k, m) SHM_PC_##n,
#define X_STORE_(n, u, k, m) SHM_SC_##n,
#define X_BLOCK_(n, u, k, m) SHM_BC_##n,
enum shm_daemon_counter { SHM_DAEMON_COUNTERS(X_DAEMON_) SHM_DC_N };
enum shm_pool_counter { SHM_POOL_COUNTERS(X_POOL_) SHM_PC_N };
enum shm_store_counter { SHM_STORE_COUNTERS(X_STORE_) SHM_SC_N };
enum shm_block_counter { SHM_BLOCK_COUNTERS(X_BLOCK_) SHM_BC_N };
enum shm_histogram { SHM_HISTOGRAM_COUNTERS(X_HIST_) SHM_HG_N };
#undef X_HIST_
#undef X_DAEMON_
#undef X_POOL_
#undef X_STORE_
#undef X_BLOCK_

/* log_state */
enum shm_log_state { SHM_LOG_NONE = 0, SHM_LOG_GOOD = 1, SHM_LOG_FULL = 2, SHM_LOG_FAILED = 3 };

enum shm_counter_scope {
	SHM_SCOPE_DAEMON = 1,
	SHM_SCOPE_POOL = 2,
	SHM_SCOPE_STORE = 3,
	SHM_SCOPE_BLOCK = 4,
	SHM_SCOPE_HIST = 5, /* shm_control.hist[] */
};
enum shm_counter_kind {
	SHM_COUNTER_C = 1,
	SHM_COUNTER_G = 2,
	SHM_COUNTER_H = 3,
};

/* Log-linear buckets (shm/hist.h).  What was counted is the sum of the buckets. */
struct shm_hist {
	shm_u64 sum; /* [W: eng; R: all] of all values */
	shm_u64 max; /* [W: eng; R: all] the largest one, ever */
	uint64_t pad0[6]; /* [W: none] */
	shm_u64 bucket[SHM_HIST_BUCKETS]; /* [W: eng; R: all] how many values were in each */
};
SHM_SIZE(shm_hist, 2112);
SHM_AT(shm_hist, sum, 0);
SHM_AT(shm_hist, max, 8);
SHM_AT(shm_hist, bucket, 64);

/* One counter's description, in shm_control.desc[]. */
struct shm_counter_desc {
	char name[32];    /* [W: sup at create; R: all] as in the tables above */
	char unit[12];    /* [W: sup at create; R: all] what one count is */
	uint16_t scope;   /* [W: sup at create; R: all] enum shm_counter_scope; 0: end of the list */
	uint16_t kind;    /* [W: sup at create; R: all] enum shm_counter_kind */
	uint32_t index;   /* [W: sup at create; R: all] position in the counter array of its scope */
	uint32_t pad0;    /* [W: none] */
	char meaning[72]; /* [W: sup at create; R: all] a line for people */
};
SHM_SIZE(shm_counter_desc, 128);
SHM_AT(shm_counter_desc, name, 0);
SHM_AT(shm_counter_desc, unit, 32);
SHM_AT(shm_counter_desc, scope, 44);
SHM_AT(shm_counter_desc, kind, 46);
SHM_AT(shm_counter_desc, index, 48);
SHM_AT(shm_counter_desc, meaning, 56);

#endif

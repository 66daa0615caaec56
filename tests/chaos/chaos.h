/* chaos.h - what the director of the chaos test and its workers share: the ledger, and values that tell
 * whose they are.
 *
 * The ledger is memory that outlives each worker.  It says of every key what was acknowledged, and what
 * is under way: a word is stored before its mutation is sent, and moves to `acked` when the answer came.
 * So whoever reads a value, at any moment, knows which versions it may have:
 *
 *     acked before the look-up  <=  version found  <=  max(pending, acked) after it
 *
 * and a successor of a worker that was killed finds one of two: what was acknowledged, or what was under way.
 */
#ifndef HC_CHAOS_H
#define HC_CHAOS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "hypercache.h"

enum {
	WORKERS = 4,
	KEYS = 48,      /* of each worker in each store */
	LEASE_KEYS = 4, /* for all to compute */
	WORDS_MAX = 400,
	LIMIT_MS = 30000,
	CLEARER = 0, /* the worker that the third store belongs to */
};

/* sure: nothing goes by itself; loose: evicted and expired; cleared: as sure, cleared from time to time. */
enum { SURE, LOOSE, CLEARED, STORES };

/* A version, and whether the key is deleted by it. */
#define DELETED 1ull
#define VERSION_OF(word) ((word) >> 1)

struct entry {
	uint64_t acked, pending; /* version << 1 | DELETED; 0: none */
};

enum order { RUN, END };

struct worker {
	struct entry key[STORES][KEYS];
	uint64_t sum, sum_pending,
		delta;    /* of the worker's own number, and what is added to it each time */
	uint64_t added;   /* of the number that all add to */
	uint64_t maybe;   /* ... and what it added when it was killed, perhaps */
	uint64_t adding;  /* 1: it is adding */
	uint64_t version; /* the last one that was used */
	uint64_t clear_pending;
	uint64_t beat_ns;      /* when it did something last */
	uint64_t opened, life; /* it has a session; which process of this worker it is */
	uint64_t dying;        /* it is about to be killed: what it holds is not its own any more */
	uint64_t reads, writes, hits, leases, waits, views, revoked, refused;
	uint64_t read_max_ns, write_max_ns;
};

enum { READS, WRITES, PROBES };

/* How available the cache was to one process that only reads, and to one that only writes (chaos_probe.c). */
struct probe {
	uint64_t opened;
	uint64_t slices, good; /* of time */
	uint64_t gap_ns;       /* the longest time without an operation that ended well */
	uint64_t failed;       /* operations */
};

struct ledger {
	struct worker worker[WORKERS];
	struct probe probe[PROBES];
	uint64_t holder[LEASE_KEYS];        /* life << 8 | worker + 1 of who computes it */
	uint64_t lease_version[LEASE_KEYS]; /* the last one that was filled */
	uint64_t order;                     /* enum order */
	uint64_t seed;
};

static inline uint64_t look(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}
static inline void note(uint64_t *word, uint64_t v) { __atomic_store_n(word, v, __ATOMIC_SEQ_CST); }

/* A session with the three stores. */
struct session {
	struct hc *hc;
	struct hc_store *s[STORES];
};
void session_begin(struct session *c, const struct t_daemon *d, const char *name);

struct key {
	uint32_t store, worker, idx;
};
size_t key_name(struct key k, char *to);

/* A value of that version: words that all follow from key and version.  Returns bytes. */
size_t value_make(struct key k, uint64_t version, uint64_t *to);
/* Its version, after all of it was compared; fails the test if it is not whole, or another key's. */
uint64_t value_check(struct key k, const uint64_t *value, size_t bytes);

/* What was found (r: HC_OK or HC_MISS) of a key, between two looks at the ledger. */
void found_check(
	struct key k, int r, uint64_t version, uint64_t acked_before, const struct entry *e);

/* chaos_worker.c: until it is told to end, or killed. */
_Noreturn void worker_run(const struct t_daemon *d, struct ledger *l, uint32_t me);

/* chaos_probe.c: until it is told to end. */
_Noreturn void probe_run(const struct t_daemon *d, struct ledger *l, bool writes);

#endif

/* dpkg_worker.h - one of dpkg_reader's processes: look-ups without end, and what it counts.
 *
 * The counts lie in memory that the parent and its workers share (an anonymous mapping made before
 * the fork).  Each worker writes its own struct alone; the parent reads while it runs.
 *
 *   reads = hits + misses + busy        of look-ups that were asked for
 *   misses = not there + out of date
 *   source_reads = misses + checks      each goes to the source file
 */
#ifndef HC_EXAMPLE_DPKG_WORKER_H
#define HC_EXAMPLE_DPKG_WORKER_H

#include <stdatomic.h>
#include <stdint.h>
#include "dpkg_source.h"

/* A number with one writer, that another process may look at. */
typedef _Atomic uint64_t worker_count; /* bare: the public header has no atomics, and needs none */

static inline uint64_t worker_get(const worker_count *c)
{
	return atomic_load_explicit(c, memory_order_relaxed); /* bare: a number alone */
}
static inline void worker_set(worker_count *c, uint64_t n)
{
	atomic_store_explicit(c, n, memory_order_relaxed); /* bare: a number alone */
}
static inline void worker_add(worker_count *c, uint64_t n) { worker_set(c, worker_get(c) + n); }

/* X(name, meaning) */
#define WORKER_COUNTS(X) \
	X(reads, "look-ups") \
	X(hits, "found, up to date, read in place") \
	X(misses, "not there, or out of date") \
	X(outdated, "of the misses: the source's file has changed since the entry was set") \
	X(busy, "the look-up found an entry that changed at every try") \
	X(revoked, "of the hits: the daemon took the view back while it was read") \
	X(sets, "entries put into the cache") \
	X(sets_failed, "sets that the daemon refused or did not answer") \
	X(source_reads, "records and files fetched from the source") \
	X(source_ns, "time of these") \
	X(record_reads, "of the source reads: package records") \
	X(record_ns, "time of these") \
	X(checks, "hits whose bytes were compared with the source's, fetched again") \
	X(summed, "hits whose bytes were all summed up and compared with the catalogue's sum") \
	X(changed, "source reads that found another file than at the start") \
	X(wrong_bytes, "bytes that were not the source's") \
	X(timed, "hits whose time was taken") \
	X(timed_ns, "time of these")

enum { WORKER_NS_MAX = 4096 };

struct worker_counts {
#define WORKER_FIELD_(name, meaning) worker_count name;
	WORKER_COUNTS(WORKER_FIELD_)
#undef WORKER_FIELD_
	worker_count error; /* enum hc_error that ended the worker, as a positive number; 0: none */
	worker_count set_error; /* of the last set that failed; the same */
	worker_count
		ns[WORKER_NS_MAX]; /* timed hits by their ns; the last one: that long or longer */
} __attribute__((aligned(64)));

/* What parent and workers share. */
struct worker_shared {
	worker_count stop; /* parent: 1 ends the workers */
	struct worker_counts worker[];
};

struct worker_job {
	struct source *source;
	const char *socket; /* NULL: the library's default */
	const char *store;
	const struct worker_alias *popularity;
	struct worker_shared *shared;
	uint32_t number; /* 0.. : index in shared->worker[] */
	uint64_t seed;
};

/* Draws of a Zipf distribution in constant time: the alias method (Walker 1977; Vose 1991). */
struct worker_alias {
	uint32_t n;
	struct {
		uint32_t split; /* below: this entry, else `other`; in 2^-32 */
		uint32_t self, other;
	} column[];
};

/* Popularity of n entries, the k-th most popular one in proportion to 1/k^s; which entry is how
 * popular is mixed by `seed`.  NULL: no memory.  For free(). */
struct worker_alias *worker_alias_new(uint32_t n, double s, uint64_t seed);

/* The life of a worker, in a forked child.  Returns its exit status: 0, or 1 with `error` set. */
int worker_run(const struct worker_job *job);

#endif

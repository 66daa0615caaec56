/* bench_fit.h - entries of sizes as they are found in the world, and who holds as many as he can.
 *
 * The i-th entry has the key data_key(i) and a value whose size is one of a list, drawn by i.  Every subject
 * gets the same entries in the same order, several times as many as fit; then each key is asked for.
 */
#ifndef HC_BENCH_FIT_H
#define HC_BENCH_FIT_H

#include "bench_data.h"

enum { FIT_BATCH_BYTES = 4 << 20 };

struct fit {
	uint64_t limit_bytes;
	const uint32_t *size; /* bytes of values, each at least 1 */
	uint32_t n_sizes;
	const uint8_t *value; /* as many bytes as the largest */
	const char *bindir;   /* of hypercached and hypercache */
};

/* Bytes of the i-th value. */
uint32_t fit_bytes(const struct fit *f, uint64_t i);

struct fit_held {
	uint64_t entries, bytes; /* of keys and values */
};

struct fit_subject {
	const char *word;
	/* NULL, or why it is not there. */
	const char *(*begin)(const struct fit *f);
	/* Sets the entries first .. first + n - 1: at most BATCH_MAX, and FIT_BATCH_BYTES if more than one. */
	void (*put)(uint64_t first, uint64_t n);
	/* Adds those of first .. first + n - 1 that are there; n at most BATCH_MAX. */
	void (*look)(uint64_t first, uint64_t n, struct fit_held *held);
	/* Bytes of memory that the system has given it. */
	uint64_t (*memory)(void);
	/* What it says itself about its memory, as one JSON object. */
	void (*say)(void);
	void (*end)(void);
};

/* With eviction only when the pool is full, and as the configuration's defaults are. */
extern const struct fit_subject fit_hc, fit_hc_default;
#ifdef HAVE_HIREDIS
extern const struct fit_subject fit_redis;
#endif
#ifdef HAVE_MEMCACHED
extern const struct fit_subject fit_memcached;
#endif

/* A line of /proc/PID/status such as "VmRSS:", in bytes; 0: there is none. */
uint64_t fit_status_bytes(int pid, const char *name);

#endif

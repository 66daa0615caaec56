/* bench_subject.h - who is measured: the cache, the limit, and the peers.
 *
 * A subject holds all entries of struct data.  Each of its kinds is one way to use it: it is given keys in
 * the order of their use, and answers the sum of the words of the values that it has read or that were
 * acknowledged (bench_data.h).
 *
 *   begin ── fill ── join ── kind.run ... ── leave ── end
 *                      └ once for each worker: the first process, a second one, a thread
 *
 * A subject that is not there (no library, no server, not for this cell) says why in begin, and is left
 * out.  Any other failure ends the program: a measurement of what failed is none.
 */
#ifndef HC_BENCH_SUBJECT_H
#define HC_BENCH_SUBJECT_H

#include "bench_data.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SUBJECT_TEXT_BYTES = 256, PIDS_MAX = 8 };

/* What one worker brings along. */
struct work {
	uint8_t *buf;    /* BATCH_MAX values, or as many as fit into BUF_BYTES_MAX; at least one */
	uint8_t *values; /* as many, to be written: each wants its word set */
	size_t batch_max;
	size_t value_bytes;
};

struct setup {
	struct data data;
	const char *bindir; /* of hypercached */
	const char *socket; /* of one that runs already; NULL: an own one is started */
	const char *folder; /* for files of a peer; empty */
	bool huge, full_fence;
	bool marks; /* the program was started to be looked into: see bench_cell.c */
};

enum kind_flags {
	KIND_WRITES = 1,
	KIND_WAITS = 2,     /* for another process: wall time, not this thread's */
	KIND_GET = 4,       /* what the subject does for a read of a mix */
	KIND_SET = 8,       /* what it does for a write of it */
	KIND_IN_PLACE = 16, /* costs the same for all sizes of values */
	KIND_NEXT = 32,     /* to be measured as a chain too, each look-up after the other */
};

struct kind {
	const char *word, *name; /* as in JSON; for people */
	unsigned batch;          /* keys of one call */
	unsigned share;          /* one of so many draws is used: for what is slow */
	unsigned flags;
	uint64_t (*run)(void *session, const struct work *w, const uint8_t *key, size_t n);
};

/* Whose session: the program's own; of a second thread of it; of a second process. */
enum join { JOIN_MAIN, JOIN_THREAD, JOIN_PROCESS };

struct subject {
	const char *word;
	const struct kind *kinds;
	size_t n_kinds;
	bool second; /* may have a second worker */
	/* NULL, or why it is not there. */
	const char *(*begin)(const struct setup *setup);
	void (*fill)(void);
	void *(*join)(enum join how);
	void (*leave)(void *session);
	void (*end)(void);
	/* NULL, or waits until it has done in the background what its kinds left to do: others run next. */
	void (*settle)(void);
	/* Processes that serve it, at most PIDS_MAX; their number. */
	size_t (*pids)(int ret[PIDS_MAX]);
};

/* All of them, in the order of the tables. */
extern const struct subject subject_limit, subject_hc;
#ifdef HAVE_ABSL
extern const struct subject subject_absl, subject_absl16;
#endif
#ifdef HAVE_LMDB
extern const struct subject subject_lmdb;
#endif
#ifdef HAVE_SQLITE
extern const struct subject subject_sqlite;
#endif
#ifdef HAVE_ROCKSDB
extern const struct subject subject_rocksdb;
#endif
#ifdef HAVE_HIREDIS
extern const struct subject subject_redis;
#endif
#ifdef HAVE_MEMCACHED
extern const struct subject subject_memcached;
#endif

/* What the pool or the table really lies in, known after fill: KiB of a page, and how the daemon calls it. */
extern unsigned hc_page_kb;
extern bool hc_page_thp;
extern char hc_backing[16];

/* Says that what failed for whom, and ends the program. */
__attribute__((noreturn)) void subject_fail(const char *who, const char *what);

/* "/run/x.sock 123" of an environment variable that tools/bench-peers sets.  False: not set. */
bool subject_peer(const char *variable, char ret_socket[SUBJECT_TEXT_BYTES], int *ret_pid);

#ifdef __cplusplus
}
#endif
#endif

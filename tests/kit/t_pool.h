/* t_pool.h - a whole cache in one process, without a daemon: control, journal, client segments and
 * one pool in memory that forked children share, an engine and any number of readers.
 *
 *	struct t_pool p;
 *	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = 1 << 20});
 *	t_pool_start(&p);                        the engine: formats, or adopts what is there
 *	CHECK_EQ(t_pool_set(&p, 7, 1, 100), 0);  key 7, version 1, 100 bytes; evicts if it must
 *	struct shm_reader r = t_pool_reader(&p, 0, 0);
 *	CHECK_EQ(t_pool_get(&p, &r, 7, &version), 0);
 *	t_pool_stop(&p);                         forgets all private memory, as a death does
 *	t_pool_free(&p);
 *
 * All of it is one mapping without an address in it (t_pool_copy makes a second one of it):
 *
 *	| control | journal | clients | guard page | pool | guard page |
 *
 * Keys and values are made from numbers.  Every byte of a value depends on key, version and length,
 * so a value that is not one whole version of its key is found out (t_value_version).
 *
 * Eviction knows no policy: the keys that were set, oldest first.
 *
 * Threads: the engine's functions from one thread; each struct shm_reader from one.
 */
#ifndef HC_T_POOL_H
#define HC_T_POOL_H
#include "../../shm/pool.h"
#include "../../shm/read.h"
#include "t.h"

enum {
	T_POOL_SESSIONS = 4,
	T_POOL_BLOCKS = 2,
	T_POOL_STORE = 0, /* index of the store that keys are in */
	T_POOL_IDX = 1,   /* of the pool: not 0, so that a forgotten pool number shows */
	T_KEY_BYTES_MAX = 64,
	T_VALUE_BYTES_MIN = 8,
};

struct t_pool_opts {
	uint64_t pool_bytes; /* of each region */
	uint32_t n_regions;  /* 0: one */
	uint32_t n_keys;     /* t_pool_set takes keys below it; 0: 65536 */
	bool full_fence;     /* readers and engine use no membarrier */
	bool scrub;          /* SHM_POOL_SCRUB */
	uint64_t feed_bytes; /* of a change feed; 0: none */
};

struct t_pool {
	uint8_t *mem; /* the mapping */
	uint64_t mem_bytes;
	struct shm_control *ctl;
	struct shm_journal *journal;
	struct shm_client *client[T_POOL_SESSIONS];
	uint8_t *base; /* of the pool */
	uint64_t bytes;
	struct t_pool_opts opts;

	/* The engine's: */
	struct shm_wpool w;
	struct shm_pinset pins;
	struct shm_scan_session session[T_POOL_SESSIONS];
	uint32_t n_sessions;
	bool running;
	uint64_t request[T_POOL_SESSIONS]; /* last number used */
	int decided;                       /* what shm_journal_decide said at the start */
	uint64_t now_ns;                   /* the engine's clock, set by the test */
	uint32_t *fifo;                    /* keys in the order of their sets, for eviction */
	uint64_t fifo_head, fifo_tail, fifo_cap;
	uint64_t n_evicted;
	void (*on_evict)(void *arg, uint32_t key, bool done); /* before and after an eviction */
	void (*on_free)(
		void *arg, uint64_t off, uint64_t bytes); /* after a sweep gave a place back */
	void *arg;
};

void t_pool_new(struct t_pool *p, const struct t_pool_opts *opts);
/* A second mapping with the same bytes; no engine runs on it. */
void t_pool_copy(struct t_pool *ret, const struct t_pool *p);
/* Copies the bytes of one into the other, which t_pool_copy made of it. */
void t_pool_restore(struct t_pool *to, const struct t_pool *from);
void t_pool_free(struct t_pool *p);

/* What a new engine does: scan the pins, decide the intent, take hold of the pool.  Returns what
 * shm_pool_open does. */
int t_pool_start(struct t_pool *p);
void t_pool_stop(struct t_pool *p);

/* Keys and values as bytes.  t_key_make returns the length. */
uint32_t t_key_make(uint32_t key, uint8_t *ret);
void t_value_make(uint32_t key, uint64_t version, void *ret, uint64_t bytes);
/* The version whose whole value this is; 0: it is no value of this key. */
uint64_t t_value_version(uint32_t key, const void *value, uint64_t bytes);
/* Fills in a struct shm_key; `bytes` has room for T_KEY_BYTES_MAX and lives as long. */
void t_pool_key(const struct t_pool *p, uint32_t key, uint8_t *bytes, struct shm_key *ret);

/* The engine's changes, as request after request of session 0.  try and delete: as shm_pool_set and
 * shm_pool_delete.  set makes room if it must; POOL_FULL: there was nothing left to evict. */
int t_pool_try(struct t_pool *p, uint32_t key, uint64_t version, uint64_t value_bytes,
	uint64_t expiry_ns, struct shm_changed *ret);
int t_pool_set(struct t_pool *p, uint32_t key, uint64_t version, uint64_t value_bytes);
int t_pool_delete(struct t_pool *p, uint32_t key);
/* Evicts the key that was set first.  false: none is left. */
bool t_pool_evict(struct t_pool *p);
/* Scan and sweep.  Returns bytes freed. */
uint64_t t_pool_sweep(struct t_pool *p);
/* The offset of the key's item, 0: absent.  The engine's look-up. */
uint64_t t_pool_find(struct t_pool *p, uint32_t key);

/* A reader with a block of a session; look-up with copy and check of the bytes: 0 and *ret_version,
 * READ_MISS, READ_BUSY, -EBADMSG; a value that is none of the key's fails the test. */
struct shm_reader t_pool_reader(struct t_pool *p, uint32_t session, uint32_t block);
struct shm_map t_pool_map(const struct t_pool *p);
int t_pool_get(struct t_pool *p, const struct shm_reader *r, uint32_t key, uint64_t *ret_version);

/* Everything that can be compared at rest: limit = live + overhead + free + limbo + unusable, the
 * allocator's own invariants. */
void t_pool_check(struct t_pool *p);
/* All that is free holds zeroes: a scrubbed pool. */
void t_pool_check_scrubbed(struct t_pool *p);
/* The checker finds nothing, checksums included. */
void t_pool_fsck(struct t_pool *p);

#endif

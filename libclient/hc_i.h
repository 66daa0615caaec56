/* hc_i.h - what a session and a store consist of.  Internal to libclient.
 *
 *   hc ── ctl        control segment, read-only          shared memory
 *    │    pool[]     pools handed to us, read-only       shared memory
 *    │    seg        our own segment, writable           shared memory, not in forked children
 *    │    conn       the socket and what is unanswered   under `lock`
 *    │    async      what nobody waits for               under its own lock; hc_async.h
 *    │    threads    reading blocks and who has them     hc_read.c
 *    └─── store[]    what hc_store() gave out            under `store_lock`
 *
 * Owner: the program, from hc_open() to hc_close().  Plain fields do not change in
 * between, but for those named as under a lock.
 *
 * Errors: inside, -errno (err.h).  hc_border() turns that into enum hc_error at the
 * public calls, and nowhere else.
 */
#ifndef HC_I_H
#define HC_I_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "hypercache.h"
#include "hc_conn.h"
#include "layout/l_client.h"
#include "layout/l_control.h"
#include "layout/l_pool.h"

struct hc_threads;   /* hc_read.c */
struct hc_operation; /* hc_async.h */

/* Operations that nobody waits for; hc_async.h says how they go.  All under `lock` but for queued and used,
 * which are read without it. */
struct hc_async {
	pthread_mutex_t lock;
	struct hc_operation *op; /* [n_ops]; NULL before the first submit */
	uint32_t n_ops, n_under_way;
	uint32_t free_first, done_first, done_last;
	uint32_t way_first, way_last; /* under way, in the order of submit */
	uint64_t serial;
	uint64_t bound_ns;              /* no time limit is before */
	uint64_t n_succeeded, n_failed; /* quiet ones, since hc_flush told */
	struct hc_queued {
		uint32_t op; /* index; HC_NO_OP: given up */
		uint32_t bytes;
	} * queue; /* a ring [n_ops] */
	uint32_t queue_begin, n_queue;
	struct wire_buf items; /* the bytes of what is queued */
	shm_u32 queued, used;  /* n_queue; 1: there was a submit */
	struct hc_slot {
		struct hc_async *async;
		struct hc_operation *op; /* NULL: nobody's, or given up */
	} slot[HC_WINDOW_MAX];

	int epoll_fd, event_fd, timer_fd; /* -1: not made yet */
	bool given;                       /* epoll_fd was asked for */
	bool todo;      /* hc_poll has something to do, that no socket and no time tells */
	bool skipped;   /* a poll found the connection in use */
	bool signalled; /* event_fd is readable */
	uint32_t n_waiters;
	uint64_t attempt_ns; /* when to connect again; 0: no need */
	uint64_t timer_ns;   /* what timer_fd is set to; 0: nothing */
};

/* A pool as this process sees it: region r lies at base + region[r].base_off. */
struct hc_pool {
	const uint8_t *base;     /* NULL: not mapped */
	shm_u64 bytes;           /* mapped, contiguous from region 0; grows with map_lock held */
	uint32_t n_regions;      /* under map_lock */
	uint64_t retry_ns;       /* under map_lock: no more is asked for before */
	int retry_error;         /* under map_lock: why not, of a pool that is not mapped */
	uint64_t reserved_bytes; /* address space set aside from base */
	uint32_t pool_idx;
	bool mapped;
};

#define HC_NO_SERIAL (~0ull) /* no session's */

/* What each read needs of the session, gathered here: a look-up is short. */
struct hc_store {
	struct hc *hc;
	struct hc_pool *pool; /* mapped */
	const struct shm_store_entry *entry;
	const uint32_t *fork_word; /* hc->fork_word */
	uint64_t serial;           /* of hc->threads */
	uint64_t plain_serial;     /* the same; HC_NO_SERIAL: reads do more than the simplest */
	uint64_t seed;             /* of the hash of its keys */
	uint64_t id;               /* when it was opened (rule P10) */
	bool slides;               /* a read gives an entry its time again (hc_slide.h) */
	uint32_t told_ms;      /* uses have to be told when the last is so old; 0: they need not */
	uint32_t idx;          /* in shm_control.store[] */
	uint32_t reads_off;    /* bytes from a thread's block to its struct shm_store_reads */
	bool stale_fails;      /* reads fail when the whole daemon is gone */
	struct hc_store *next; /* an earlier store of the same index, kept for those who hold it */
};

struct hc {
	const struct shm_control *ctl;
	uint64_t ctl_bytes;
	struct shm_client *seg;
	uint64_t seg_bytes;
	uint32_t n_blocks;
	uint32_t slot; /* index of ctl->pin_gen[] */
	uint64_t session_id;
	bool full_fence;
	uint32_t stale_policy; /* enum hc_stale */
	int64_t time_off_ns;   /* engine's CLOCK_MONOTONIC minus ours */
	const uint32_t *
		fork_word; /* a page of its own, wiped in a forked child: 1 in the owner, 0 there */
	struct hc_pool pool[SHM_POOLS_MAX];
	struct hc_threads *threads;

	pthread_mutex_t map_lock;   /* regions that come later; held while asking for them */
	pthread_mutex_t store_lock; /* store[]; never held across a system call */
	struct hc_store *store[SHM_STORES_MAX];    /* NULL: not opened yet */
	struct hc_store store_mem[SHM_STORES_MAX]; /* where the first store of each index lives */

	pthread_mutex_t lock; /* conn: one mutation at a time */
	uint64_t timeout_ns;
	struct hc_conn conn;
	uint32_t submit_max, submit_bytes; /* limits of async */
	size_t frame_max;                  /* of the first HELLO */
	struct hc_async async;
};

/* True in a forked child, which may use no handle of its parent (rule P20). */
static inline bool hc_forked(const struct hc *hc)
{
	return __builtin_expect(*hc->fork_word == 0, 0);
}

/* The reading side's own state, made when all is mapped.  NULL: no memory. */
struct hc_threads *hc_threads_new(struct hc *hc);
/* What threads know the session by. */
uint64_t hc_threads_serial(const struct hc_threads *t);
/* NULL is allowed.  Also called in a forked child, where hc->seg must not be touched. */
void hc_threads_free(struct hc_threads *t);

/* Copies an options struct that begins with its size (`from` of the program, `to` as this library
 * knows it): what the program's is shorter reads as zero.  0; -EINVAL: no size, or something set that
 * this library does not know. */
int hc_opts_take(void *to, size_t to_bytes, const void *from);

/* hc_map.c: maps what HELLO's answer brought, after checking it; fills ctl, seg, pool[] and what is
 * read from them.  The descriptors stay the caller's.  What was mapped when it fails is undone by
 * hc_unmap().  0; -EPROTO: not what it should be; -EPROTONOSUPPORT: another layout; -ENOMEM; -errno. */
int hc_map(struct hc *hc, const struct hc_handed *h);
/* A pool that was not handed over when the session began: it came since, or could not be read then.  0;
 * -EPERM: it may not be read; -errno. */
int hc_map_late(struct hc *hc, uint32_t pool_idx);

/* A read was led beyond what is mapped of p: maps what has been added to the pool since.  1: there is
 * more now, look again; 0: there is no more, so it was damage; -ETIMEDOUT: there is more, and the engine
 * does not hand it out now; -errno.  Makes system calls; waits for at most a second. */
int hc_map_more(struct hc *hc, struct hc_pool *p);
/* Unmaps whatever is mapped; in a forked child leaves alone what that did not inherit. */
void hc_unmap(struct hc *hc);

/* -errno as enum hc_error; sets errno to it for HC_E_SYSTEM.  0 stays 0. */
int hc_border(int r);

#endif

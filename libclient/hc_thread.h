/* hc_thread.h - which thread reads with which block.  Internal to libclient.
 *
 * Each thread that reads has a block of the session's segment to itself (rule P11):
 * its pins, its counters, its ring of hints.  It claims one at its first read
 * and gives it back when it ends; a block whose views are still held is not
 * claimed again before they are released.
 *
 *   struct hc_threads  one per session: the blocks and who has them
 *   struct hc_thread   one per block: private to the thread that owns it
 *   hc_held (TLS)      which blocks this thread has, for which sessions
 *
 * A session is known to a thread by its serial number, not by its address, so that
 * a thread that outlives a session cannot mistake a new one for it.
 */
#ifndef HC_THREAD_H
#define HC_THREAD_H

#include "hc_i.h"
#include "read.h"

enum {
	HC_HITS = 16, /* hits whose hints are given together */
	HC_HINTS =
		2 * HC_HITS +
		1, /* which are so many at most: each may make another cell of the filter known */
	HC_HITS_KEPT = 32, /* more: one that is taken back has written over none of the last 16 */
	HC_HITS_FULL = 64, /* hits after which a ring that was full is looked at again */
	HC_FILTER = 64,    /* items whose hint was given lately */
	HC_FILTER_SHIFT = 32 - 6,
	HC_HELD_MAX = 16, /* sessions that one thread reads from */
};

/* Of a thread's reads, which are told to tracers (hc_probe.h). */
struct hc_sampler {
	uint64_t every;     /* one of so many, as it was looked up last; 0: never yet */
	uint64_t left;      /* reads until the next that is told of, behind those of n_hits */
	uint64_t mget_left; /* the same of calls of hc_mget */
	uint64_t random;    /* state of a generator; 0: not used yet */
	bool held;          /* reads are parts of a call that is told of: not counted */
};

/* [owner: the thread that claimed it, until it ends or the session is closed] */
struct hc_thread {
	_Alignas(SHM_LINE) struct shm_reader reader; /* no line of it is another thread's as well */
	struct hc *hc;
	const uint32_t *fork_word;  /* hc->fork_word */
	shm_u64 *view_cell;         /* which one to look at first for a view */
	uint64_t n_hits;            /* noted since hints were given last */
	uint64_t hits_until;        /* so many, and hints are given; 0 at first */
	uint64_t hit[HC_HITS_KEPT]; /* the last ones' pin words */
	uint64_t hint_from;         /* the ring's end when the engine was last seen to drain */
	uint64_t hints_drained;     /* by what it was seen: hints_room() */
	uint64_t n_given;           /* hits that hints were given for, or would have been */
	uint64_t filter
		[HC_FILTER]; /* hit lately: word, hits << 48 but for those that a hint has told of by number; by hash of the place */
	/* hc_slide.c: behind the last hint that must not be lost, 0 if there is none; the ends of the
	 * ring at the last three heartbeats; the last heartbeat, and the one without an answer */
	uint64_t slide_last, slide_head[3], slide_beat, slide_failed;
	struct hc_sampler sampler;
	bool owned; /* by a thread; under registry_lock */
};

struct hc_threads {
	struct hc *hc;
	uint64_t serial;
	struct hc_threads *next; /* in `sessions` */
	uint32_t n;
	struct hc_thread thread[];
};

/* What this thread holds: looked at in every read, so kept small and first-hit. */
#define HC_ARMED (1ull << 63)
struct hc_held {
	uint64_t
		serial; /* with HC_ARMED: of a session all the same, but reads take the long way (hc_probe.h) */
	struct hc_thread *thread;
};
extern _Thread_local struct hc_held hc_held[HC_HELD_MAX];

/* A thread's first read of a session: one mutex, once.  0, HC_E_THREADS, HC_E_NO_MEMORY. */
int hc_thread_claim(struct hc_threads *t, struct hc_thread **ret);

/* This thread's block of the session of this serial.  0, or as hc_thread_claim. */
static inline int hc_thread_of(struct hc *hc, uint64_t serial, struct hc_thread **ret)
{
	if (__builtin_expect(hc_held[0].serial == serial, 1)) {
		*ret = hc_held[0].thread;
		return 0;
	}
	if (hc_held[0].serial == (serial | HC_ARMED)) {
		*ret = hc_held[0].thread;
		return 0;
	}
	for (int i = 1; i < HC_HELD_MAX; i++) {
		if ((hc_held[i].serial & ~HC_ARMED) != serial)
			continue;
		struct hc_held h = hc_held[i];
		hc_held[i] = hc_held[0];
		hc_held[0] = h;
		*ret = h.thread;
		return 0;
	}
	struct hc_thread *claimed = NULL; /* so that *ret may stay in a register */
	int r = hc_thread_claim(hc->threads, &claimed);
	*ret = claimed;
	return r;
}

#endif

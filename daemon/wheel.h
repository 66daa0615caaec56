/* wheel.h - a hierarchical timing wheel: which entries are due?  (Varghese, Lauck, "Hashed and
 * hierarchical timing wheels", 1987.)
 *
 *   level 0   64 slots of one tick each       | | |x| | ... |
 *   level 1   64 slots of 64 ticks            | |x| | | ... |     its slot, when due, is dealt out
 *   ...                                                           to the levels below
 *   level 5   64 slots of 2^30 ticks
 *
 * It knows a timer by a number that the caller hands out (a policy's node).  A timer stands on the
 * level of the highest six bits in which its time differs from the wheel's: so a slot is in the future
 * of its level, and nothing ever wraps.  A map of bits for each level leads to the next slot that is not
 * empty, over any stretch of time.
 *
 * Every call is O(1), but for the growth of the table.  A timer is dealt out at most five times in its
 * life.  It is never due early; late by a tick, and by as much as the caller does not ask.
 *
 * Private memory: 16 bytes for each number up to the largest that had a timer, in chunks of 4096.  One
 * thread.
 */
#ifndef HC_DAEMON_WHEEL_H
#define HC_DAEMON_WHEEL_H

#include <stdint.h>

enum {
	WHEEL_TICK_MS = 16,
	WHEEL_LEVELS = 6, /* 2^36 ticks: 34 years */
	WHEEL_SLOTS = 64,
};

struct wheel_timer;

struct wheel {
	struct wheel_timer **chunk;
	uint32_t n_chunks;
	uint64_t now; /* ticks: everything before it has been asked for */
	uint64_t used[WHEEL_LEVELS];
	uint32_t first[WHEEL_LEVELS][WHEEL_SLOTS];
	uint64_t n;
};

/* A wheel whose time is now_ms, without a timer.  All zero is a wheel too, at time 0. */
void wheel_init(struct wheel *w, uint64_t now_ms);
void wheel_fini(struct wheel *w);

/* The timer of this number, 1 or more, is due at due_ms now, whenever it was before.  Beyond 30 years
 * counts as that.  0, or -ENOMEM: it has no timer. */
int wheel_set(struct wheel *w, uint32_t number, uint64_t due_ms);
/* It has no timer from now on; it may have had none. */
void wheel_drop(struct wheel *w, uint32_t number);

/* One piece of work: 1 and *ret, a timer that is due and is no more; 0: something was dealt out, ask
 * again; -1: nothing is due at now_ms. */
int wheel_next(struct wheel *w, uint64_t now_ms, uint32_t *ret);

uint64_t wheel_bytes(const struct wheel *w); /* private memory */
/* 0, or the line of wheel.c that found something wrong. */
int wheel_verify(const struct wheel *w);

#endif

/* wheel.c - see wheel.h. */
#define _GNU_SOURCE
#include "wheel.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/err.h"
#include "late.h"
#include "step.h"

enum {
	SLOT_BITS = 6,
	CHUNK_SHIFT = 12,
	CHUNK_TIMERS = 1 << CHUNK_SHIFT,
	NOWHERE = 0,
};

#define TICKS_MAX ((1ull << (SLOT_BITS * WHEEL_LEVELS)) - 1)
#define TICKS_FAR (TICKS_MAX - TICKS_MAX / 8) /* 30 years ahead of a wheel that is as old */

struct wheel_timer {
	uint32_t prev, next; /* in its slot; 0: none */
	uint32_t due_low;    /* ticks, the low 32 bits */
	uint16_t at;         /* level * WHEEL_SLOTS + slot + 1; NOWHERE */
	uint16_t due_high;
};

_Static_assert(sizeof(struct wheel_timer) == 16, "wheel.h says how much memory");

static struct wheel_timer *timer_of(const struct wheel *w, uint32_t number)
{
	return &w->chunk[number >> CHUNK_SHIFT][number & (CHUNK_TIMERS - 1)];
}

static bool has_timer(const struct wheel *w, uint32_t number)
{
	uint32_t k = number >> CHUNK_SHIFT;

	return k < w->n_chunks && w->chunk[k] && timer_of(w, number)->at != NOWHERE;
}

static uint64_t due_of(const struct wheel_timer *t)
{
	return (uint64_t)t->due_high << 32 | t->due_low;
}

void wheel_init(struct wheel *w, uint64_t now_ms)
{
	*w = (struct wheel){.now = now_ms / WHEEL_TICK_MS};
}

void wheel_fini(struct wheel *w)
{
	for (uint32_t k = 0; k < w->n_chunks; k++)
		late_free(w->chunk[k], CHUNK_TIMERS * sizeof **w->chunk);
	free(w->chunk);
	*w = (struct wheel){0};
}

static int chunk_make(struct wheel *w, uint32_t k)
{
	if (k >= w->n_chunks) {
		uint32_t n = k + 1 > w->n_chunks * 2 ? k + 1 : w->n_chunks * 2;
		struct wheel_timer **chunk = realloc(w->chunk, n * sizeof *chunk);
		if (!chunk)
			return err_new(-ENOMEM);
		memset(chunk + w->n_chunks, 0, (n - w->n_chunks) * sizeof *chunk);
		w->chunk = chunk;
		w->n_chunks = n;
	}
	if (!w->chunk[k])
		w->chunk[k] = calloc(CHUNK_TIMERS, sizeof **w->chunk);
	return w->chunk[k] ? 0 : err_new(-ENOMEM);
}

static void link_timer(struct wheel *w, uint32_t number, uint64_t due)
{
	struct wheel_timer *t = timer_of(w, number);
	uint64_t differ = due ^ w->now;
	int level = differ ? (63 - __builtin_clzll(differ)) / SLOT_BITS : 0;
	int slot = (int)(due >> (level * SLOT_BITS)) & (WHEEL_SLOTS - 1);

	*t = (struct wheel_timer){.next = w->first[level][slot],
		.due_low = (uint32_t)due,
		.due_high = (uint16_t)(due >> 32),
		.at = (uint16_t)(level * WHEEL_SLOTS + slot + 1)};
	if (t->next)
		timer_of(w, t->next)->prev = number;
	w->first[level][slot] = number;
	w->used[level] |= 1ull << slot;
	w->n++;
}

static void unlink_timer(struct wheel *w, uint32_t number)
{
	struct wheel_timer *t = timer_of(w, number);
	int level = (t->at - 1) / WHEEL_SLOTS, slot = (t->at - 1) % WHEEL_SLOTS;

	if (t->next)
		timer_of(w, t->next)->prev = t->prev;
	if (t->prev)
		timer_of(w, t->prev)->next = t->next;
	else
		w->first[level][slot] = t->next;
	if (!w->first[level][slot])
		w->used[level] &= ~(1ull << slot);
	t->at = NOWHERE;
	w->n--;
}

int wheel_set(struct wheel *w, uint32_t number, uint64_t due_ms)
{
	uint64_t due = due_ms / WHEEL_TICK_MS + (due_ms % WHEEL_TICK_MS != 0);

	CHECK(number > 0);
	int r = chunk_make(w, number >> CHUNK_SHIFT);
	if (r < 0)
		return err_fwd(r);
	if (timer_of(w, number)->at != NOWHERE)
		unlink_timer(w, number);
	if (due > TICKS_FAR)
		due = TICKS_FAR;
	link_timer(w, number, due > w->now ? due : w->now);
	return 0;
}

void wheel_drop(struct wheel *w, uint32_t number)
{
	if (has_timer(w, number))
		unlink_timer(w, number);
}

/* The slot to look at first: of what has been dealt out in part, the highest; else the next that is not
 * empty.  False: there is no timer at all. */
static bool next_slot(const struct wheel *w, int *ret_level, int *ret_slot)
{
	for (int level = WHEEL_LEVELS - 1; level > 0; level--) {
		int slot = (int)(w->now >> (level * SLOT_BITS)) & (WHEEL_SLOTS - 1);
		if (w->used[level] >> slot & 1) {
			*ret_level = level, *ret_slot = slot;
			return true;
		}
	}
	for (int level = 0; level < WHEEL_LEVELS; level++) {
		int slot = (int)(w->now >> (level * SLOT_BITS)) & (WHEEL_SLOTS - 1);
		uint64_t ahead = w->used[level] >> slot << slot;
		if (ahead) {
			*ret_level = level, *ret_slot = __builtin_ctzll(ahead);
			return true;
		}
	}
	return false;
}

int wheel_next(struct wheel *w, uint64_t now_ms, uint32_t *ret)
{
	uint64_t now = now_ms / WHEEL_TICK_MS;
	int level, slot;

	if (!next_slot(w, &level, &slot)) {
		w->now = now > w->now ? now : w->now;
		return -1;
	}
	int shift = level * SLOT_BITS;
	uint64_t begin = (w->now >> shift >> SLOT_BITS << SLOT_BITS | (uint64_t)slot) << shift;
	if (begin > now) {
		w->now = now > w->now ? now : w->now;
		return -1;
	}
	w->now = begin > w->now ? begin : w->now;
	uint32_t number = w->first[level][slot];
	uint64_t due = due_of(timer_of(w, number));
	unlink_timer(w, number);
	if (level == 0 || due <= w->now || MUTANT(200)) { /* 200: a slot is due as a whole */
		*ret = number;
		return 1;
	}
	link_timer(w, number, due);
	return 0;
}

uint64_t wheel_bytes(const struct wheel *w)
{
	uint64_t bytes = w->n_chunks * sizeof *w->chunk;

	for (uint32_t k = 0; k < w->n_chunks; k++)
		bytes += w->chunk[k] ? CHUNK_TIMERS * sizeof **w->chunk : 0;
	return bytes;
}

/* One slot: every timer in it is linked both ways, knows where it is, and is due within it.  0, or a line. */
static int verify_slot(const struct wheel *w, int level, int slot, uint64_t *n)
{
	uint32_t before = 0;

	if ((w->first[level][slot] != 0) != (w->used[level] >> slot & 1))
		return __LINE__;
	for (uint32_t i = w->first[level][slot]; i; i = timer_of(w, i)->next) {
		const struct wheel_timer *t = timer_of(w, i);
		if ((*n)++ > w->n)
			return __LINE__;
		if (t->prev != before || t->at != level * WHEEL_SLOTS + slot + 1)
			return __LINE__;
		if (due_of(t) >= w->now &&
			((due_of(t) >> (level * SLOT_BITS)) & (WHEEL_SLOTS - 1)) != (uint64_t)slot)
			return __LINE__;
		before = i;
	}
	return 0;
}

int wheel_verify(const struct wheel *w)
{
	uint64_t n = 0;

	for (int level = 0; level < WHEEL_LEVELS; level++)
		for (int slot = 0; slot < WHEEL_SLOTS; slot++) {
			int line = verify_slot(w, level, slot, &n);
			if (line)
				return line;
		}
	return n == w->n ? 0 : __LINE__;
}

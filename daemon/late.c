/* late.c - see late.h.
 *
 *   top -> | next | bytes | ... no longer wanted ... |     the last that came goes first: it is likely to be the
 *                                                        highest of the heap
 *
 * A block's pages are given back by madvise(2), from its end on; free() has little left to do then.
 */
#define _GNU_SOURCE
#include "late.h"
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "step.h"

enum { PAGE = 4096 }; /* the smallest there is: of larger ones less is given back before free() */

struct late {
	struct late *next;
	size_t bytes; /* that may still have memory */
};

static struct late *top;
static bool late;

void late_begin(void) { late = true; }

void late_free(void *block, size_t bytes)
{
	struct late *b = block;

	if (!late || !b || bytes < sizeof *b || MUTANT(277)) { /* 277: all at once */
		free(block);
		return;
	}
	*b = (struct late){.next = top, .bytes = bytes};
	top = b;
}

/* The pages of b's last LATE_STEP_BYTES, but not the one with its words.  What they were. */
static size_t cut(struct late *b)
{
	uintptr_t begin = (uintptr_t)b, end = begin + b->bytes;
	uintptr_t least = (begin + sizeof *b + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
	uintptr_t from = b->bytes > LATE_STEP_BYTES ? end - LATE_STEP_BYTES : begin;

	from = from < least ? least : from & ~(uintptr_t)(PAGE - 1);
	end &= ~(uintptr_t)(PAGE - 1);
	if (from < end)
		(void)madvise((void *)from, end - from, MADV_DONTNEED);
	size_t was = b->bytes;
	b->bytes = from < end ? from - begin : 0;
	return was - b->bytes;
}

bool late_step(void)
{
	size_t given = 0;

	while (top && given < LATE_STEP_BYTES) {
		struct late *b = top;
		given += cut(b);
		if (b->bytes > PAGE + sizeof *b)
			continue;
		top = b->next;
		free(b);
	}
	return top != NULL;
}

void late_end(void)
{
	late = false;
	while (late_step())
		;
}

/* limbo.c - memory that no slot names any more, until no pin names it either.
 *
 * Entries are (place, size) pairs in private memory; an engine's death loses the
 * list, and the next engine finds the same places again as "named by no slot"
 * (rule P15).  Tables wait here like items (rule P7).
 *
 * In a scrubbed pool a place is overwritten between the scan and its becoming free: not
 * earlier, somebody may still read it; not later, it might be in use again.  So free memory holds
 * zeroes.  What a dead engine leaves is neither named nor free in any list: the next
 * one overwrites all that is free when it has taken the pool over (pool_open.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "pool.h"
#include "step.h"

int shm_limbo_reserve(struct shm_wpool *w, uint32_t n)
{
	struct shm_limbo *l = &w->limbo;

	if (l->cap - l->n >= n)
		return 0;
	uint32_t cap = l->cap ? l->cap * 2 : 256;
	while (cap - l->n < n)
		cap *= 2;
	struct shm_limbo_entry *e = realloc(l->entry, cap * sizeof *e);
	if (!e)
		return -ENOMEM;
	l->entry = e;
	l->cap = cap;
	return 0;
}

void shm_limbo_add(struct shm_wpool *w, uint64_t off, uint64_t bytes)
{
	struct shm_limbo *l = &w->limbo;

	CHECK(l->n < l->cap);
	if (MUTANT(11)) { /* 11: unlinked memory is free at once */
		shm_alloc_give(w->alloc, off);
		return;
	}
	l->entry[l->n++] = (struct shm_limbo_entry){.off = off, .bytes = bytes};
	l->bytes += bytes;
}

void shm_limbo_add_table(struct shm_wpool *w, uint64_t off, uint64_t bytes)
{
	uint32_t at = w->limbo.n;

	shm_limbo_add(w, off, bytes);
	if (w->limbo.n > at)
		w->limbo.entry[at].table = true;
}

/* Adds the place's bytes to every session that pins it.  A session's pins of one
 * place stand side by side: count it once. */
static void charge(const struct shm_pinset *pins, const struct shm_pin *first, uint64_t bytes,
	struct shm_scan_session *sessions)
{
	for (const struct shm_pin *p = first; p < pins->pin + pins->n && p->where == first->where;
		p++)
		if (p == first || p->session != p[-1].session)
			sessions[p->session].pinned_bytes += bytes;
}

void shm_limbo_scrub(struct shm_wpool *w, uint64_t off, uint64_t bytes)
{
	if (!w->scrub)
		return;
	memset(w->base + off, 0, bytes);
	STEP("engine:scrubbed");
}

uint64_t shm_pool_sweep(
	struct shm_wpool *w, const struct shm_pinset *pins, struct shm_scan_session *sessions)
{
	struct shm_limbo *l = &w->limbo;
	uint64_t freed = 0;
	bool table_kept = false;
	uint32_t kept = 0;

	if (!pins->complete || l->n == 0)
		return 0;
	shm_pool_change(w);
	for (uint32_t i = 0; i < l->n; i++) {
		struct shm_limbo_entry e = l->entry[i];
		const struct shm_pin *p = shm_pinset_find(pins, w->pool_idx, e.off);
		if (p && !MUTANT(12)) /* 12: pins are not looked at */
			charge(pins, p, e.bytes, sessions);
		else
			p = NULL;
		/* Whoever pins a table may follow `next` from it: tables go in their order (rule P7). */
		if (p || (e.table && table_kept)) {
			table_kept |= e.table;
			l->entry[kept++] = e;
			continue;
		}
		if (!MUTANT(86)) /* 86: memory of a scrubbed pool is free as it is */
			shm_limbo_scrub(w, e.off, e.bytes);
		shm_alloc_give(w->alloc, e.off);
		STEP("engine:freed");
		freed += e.bytes;
	}
	l->n = kept;
	l->bytes -= freed;
	shm_pool_change(w);
	return freed;
}

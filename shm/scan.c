/* scan.c - see scan.h. */
#include "scan.h"
#include <stdlib.h>
#include "atomic.h"
#include "step.h"

static bool add(struct shm_pinset *set, uint64_t where, uint32_t session)
{
	if (set->n == set->cap) {
		uint32_t cap = set->cap ? set->cap * 2 : 256;
		struct shm_pin *p = realloc(set->pin, cap * sizeof *p);
		if (!p)
			return false;
		set->pin = p;
		set->cap = cap;
	}
	set->pin[set->n++] = (struct shm_pin){.where = where, .session = session};
	return true;
}

/* Every cell is read once, and only compared from then on (rule P14). */
static bool add_session(struct shm_pinset *set, const struct shm_control *ctl,
	const struct shm_scan_session *s, uint32_t idx)
{
	const struct shm_block *block = (const struct shm_block *)(const void *)(s->seg + 1);
	/* acq:client.blocks: the barrier has made it visible; the pins are loaded after it. */
	uint32_t used = shm_load32_acq(&s->seg->blocks_used);
	uint64_t gen = shm_load_rlx(&ctl->pin_gen[s->slot]) & 0xffff;

	if (used > s->n_blocks && !MUTANT(140)) /* 140: the number of blocks is believed */
		used = s->n_blocks;
	for (uint32_t b = 0; b < used; b++) {
		for (uint32_t i = 0; i < SHM_BLOCK_PINS; i++) {
			/* acq:pin.word */
			uint64_t pin = shm_load_acq(&block[b].pin[i]);
			if (shm_word_off(pin) == 0 || shm_word_top(pin) != gen ||
				(s->hidden_pools >> shm_word_low(pin) & 1))
				continue;
			if (!add(set, pin & (SHM_WORD_OFF_MASK | SHM_WORD_LOW_MASK), idx))
				return false;
		}
	}
	return true;
}

/* By place, and by session within it: limbo.c charges a session once for a place. */
static int by_where(const void *a, const void *b)
{
	const struct shm_pin *x = a, *y = b;

	if (x->where != y->where)
		return x->where < y->where ? -1 : 1;
	return x->session < y->session ? -1 : x->session > y->session;
}

void shm_scan_pins(struct shm_pinset *set, const struct shm_control *ctl,
	struct shm_scan_session *sessions, uint32_t n, bool may_barrier)
{
	set->n = 0;
	set->complete = true;
	if (!MUTANT(6)) {                                  /* 6: the engine forgets the barrier */
		atomic_thread_fence(memory_order_seq_cst); /* for readers with full fences */
		if (may_barrier && shm_barrier() != 0)
			may_barrier = false;
	}
	STEP("engine:barrier");
	for (uint32_t i = 0; i < n; i++) {
		sessions[i].pinned_bytes = 0;
		if (sessions[i].compiler_fence && !may_barrier)
			set->complete = false; /* rule P17: what it pins cannot be known */
		if (!add_session(set, ctl, &sessions[i], i))
			set->complete = false;
	}
	if (set->n)
		qsort(set->pin, set->n, sizeof *set->pin, by_where);
	STEP("engine:scanned");
}

void shm_pinset_fini(struct shm_pinset *set)
{
	free(set->pin);
	*set = (struct shm_pinset){0};
}

const struct shm_pin *shm_pinset_find(const struct shm_pinset *set, uint32_t pool_idx, uint64_t off)
{
	uint64_t where = off | pool_idx;
	uint32_t lo = 0, hi = set->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (set->pin[mid].where < where)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < set->n && set->pin[lo].where == where ? &set->pin[lo] : NULL;
}

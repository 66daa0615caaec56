/* index_order.c - all slots of the index, in the order of what they name.
 *
 * The index is in the order of hashes: items that its slots name follow each other in no order, so that
 * looking at each waits for memory and, worse, for the address translation of another page (150 ns on
 * a small virtual machine, whatever is asked for ahead).  So slots are dealt out first, to parts of the pool
 * that are small enough for the translations of one to be at hand: two walks of the index, which
 * is read in its own order, and 16 bytes for each slot for as long as it lasts.  (A radix join's partitioning:
 * Manegold, Boncz, Kersten, "Optimizing Main-Memory Join on Modern Hardware", 2002.)
 */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include "atomic.h"
#include "index_write.h"
#include "layout/l_table.h"

enum { PARTS_MAX = 1024, PART_SHIFT_MIN = 22, AHEAD = 16 };
#define CHAINS_MAX (UINT64_C(1) << 31)
#define SLOTS_MAX (UINT64_C(1) << 32)

struct entry {
	uint64_t word;
	uint32_t slot;  /* in words behind its table's beginning */
	uint32_t chain; /* top bit: of the next table */
};

struct order {
	struct shm_wpool *w;
	uint32_t shift; /* part = offset >> shift */
	uint64_t n;
	uint64_t at[PARTS_MAX + 1]; /* where a part's next entry goes; at first: how many it has */
	uint64_t end[PARTS_MAX];
	struct entry *entry;
};

static uint32_t part_of(const struct order *o, uint64_t word)
{
	uint64_t off = shm_word_off(word);

	return off < o->w->bytes ? (uint32_t)(off >> o->shift) : 0;
}

static void count(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct order *o = arg;

	(void)slot;
	(void)chain;
	(void)log2;
	o->at[part_of(o, word)]++;
	o->n++;
}

static void deal(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct order *o = arg;
	uint32_t part = part_of(o, word);
	bool next = o->w->next.t && log2 != o->w->cur.log2_buckets;
	const struct shm_table *t = next ? o->w->next.t : o->w->cur.t;

	if (o->at[part] < o->end[part])
		o->entry[o->at[part]++] = (struct entry){.word = word,
			.slot = (uint32_t)(slot - (shm_u64 *)(uintptr_t)t),
			.chain = (uint32_t)chain | (uint32_t)next << 31};
}

static bool fits(const struct shm_wtable *t)
{
	return !t->t || (UINT64_C(1) << t->log2_buckets <= CHAINS_MAX / 2 &&
				shm_index_bytes(t->log2_buckets, t->n_overflow) / sizeof(shm_u64) <
					SLOTS_MAX);
}

/* Counts, and makes room for them.  False: there is none. */
static bool prepare(struct order *o)
{
	uint64_t sum = 0;

	o->shift = PART_SHIFT_MIN;
	while (o->w->bytes >> o->shift >= PARTS_MAX)
		o->shift++;
	if (!fits(&o->w->cur) || !fits(&o->w->next))
		return false;
	shm_index_walk(o->w, count, o);
	for (uint32_t i = 0; i < PARTS_MAX; i++) {
		uint64_t n = o->at[i];
		o->at[i] = sum;
		sum += n;
		o->end[i] = sum;
	}
	if (o->n == 0)
		return false;
	void *m = mmap(NULL, o->n * sizeof *o->entry, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return false;
	(void)madvise(m, o->n * sizeof *o->entry, MADV_HUGEPAGE); /* fewer faults */
	o->entry = m;
	shm_index_walk(o->w, deal, o);
	return true;
}

void shm_index_walk_order(struct shm_wpool *w, shm_index_ahead *far, shm_index_ahead *near,
	shm_index_each *f, void *arg)
{
	struct order o = {.w = w};

	if (!prepare(&o)) {
		shm_index_walk(w, f, arg);
		return;
	}
	for (uint64_t i = 0; i < o.n + 2 * AHEAD; i++) {
		if (i < o.n)
			far(arg, o.entry[i].word);
		if (i >= AHEAD && i < o.n + AHEAD)
			near(arg, o.entry[i - AHEAD].word);
		if (i < 2 * AHEAD)
			continue;
		const struct entry *e = &o.entry[i - 2 * AHEAD];
		const struct shm_wtable *t = e->chain >> 31 ? &w->next : &w->cur;
		f(arg, (shm_u64 *)(void *)t->t + e->slot, e->word, e->chain & (CHAINS_MAX - 1),
			t->log2_buckets);
	}
	(void)munmap(o.entry, o.n * sizeof *o.entry);
}

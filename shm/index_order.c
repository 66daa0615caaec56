/* index_order.c - all slots of the index, in the order of what they name.
 *
 * The index is in the order of hashes: items that its slots name follow each other in no order, so that
 * looking at each waits for memory and, worse, for the address translation of another page (150 ns on
 * a small virtual machine, whatever is asked for ahead).  So slots are dealt out first, to parts of the pool
 * that are small enough for the translations of one to be at hand: a walk of the index, which
 * is read in its own order, and 16 bytes for each entry for as long as it lasts.  (A radix join's partitioning:
 * Manegold, Boncz, Kersten, "Optimizing Main-Memory Join on Modern Hardware", 2002.)
 */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include "atomic.h"
#include "base/check.h"
#include "index_write.h"
#include "layout/l_table.h"

enum { PARTS_MAX = 1024, PART_SHIFT_MIN = 22, AHEAD = 16, CHUNK = 255 };
#define CHAINS_MAX (UINT64_C(1) << 31)
#define SLOTS_MAX (UINT64_C(1) << 32)

struct entry {
	uint64_t word;
	uint32_t slot;  /* in words behind its table's beginning */
	uint32_t chain; /* top bit: of the next table */
};

struct chunk {
	struct chunk *next;
	uint64_t n;
	struct entry entry[CHUNK];
};

struct order {
	struct shm_wpool *w;
	uint32_t shift; /* part = offset >> shift */
	struct chunk *chunk;
	uint64_t n_chunks, max_chunks; /* used; that there is room for */
	struct chunk *part[PARTS_MAX]; /* the one that was begun last comes first */
};

static void deal(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct order *o = arg;
	uint64_t off = shm_word_off(word);
	struct chunk **part = &o->part[off < o->w->bytes ? off >> o->shift : 0], *c = *part;
	bool next = o->w->next.t && log2 != o->w->cur.log2_buckets;
	const struct shm_table *t = next ? o->w->next.t : o->w->cur.t;

	if (!c || c->n == CHUNK) {
		CHECK(o->n_chunks < o->max_chunks);
		c = &o->chunk[o->n_chunks++];
		c->next = *part;
		*part = c;
	}
	c->entry[c->n++] = (struct entry){.word = word,
		.slot = (uint32_t)(slot - (shm_u64 *)(uintptr_t)t),
		.chain = (uint32_t)chain | (uint32_t)next << 31};
}

/* Slots of a table, 0 if there is none; UINT64_MAX: more than an entry can name. */
static uint64_t slots_of(const struct shm_wtable *t)
{
	if (!t->t)
		return 0;
	uint64_t n = shm_index_bytes(t->log2_buckets, t->n_overflow) / sizeof(shm_u64);
	return UINT64_C(1) << t->log2_buckets < CHAINS_MAX && n < SLOTS_MAX ? n : UINT64_MAX;
}

/* Deals all slots out.  False: there is no memory for that. */
static bool prepare(struct order *o)
{
	uint64_t cur = slots_of(&o->w->cur), next = slots_of(&o->w->next);

	if (cur == UINT64_MAX || next == UINT64_MAX)
		return false;
	o->shift = PART_SHIFT_MIN;
	while (o->w->bytes >> o->shift >= PARTS_MAX)
		o->shift++;
	/* Address space for a full index; memory comes as it is used. */
	o->max_chunks = (cur + next) / CHUNK + PARTS_MAX;
	void *m = mmap(NULL, o->max_chunks * sizeof *o->chunk, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED)
		return false;
	(void)madvise(m, o->max_chunks * sizeof *o->chunk, MADV_HUGEPAGE); /* fewer faults */
	o->chunk = m;
	shm_index_walk(o->w, deal, o);
	return true;
}

static void walk_part(const struct order *o, const struct chunk *c, shm_index_ahead *far,
	shm_index_ahead *near, shm_index_each *f, void *arg)
{
	for (uint64_t i = 0; i < c->n + 2 * AHEAD; i++) {
		if (i < c->n)
			far(arg, c->entry[i].word);
		if (i >= AHEAD && i < c->n + AHEAD)
			near(arg, c->entry[i - AHEAD].word);
		if (i < 2 * AHEAD)
			continue;
		const struct entry *e = &c->entry[i - 2 * AHEAD];
		const struct shm_wtable *t = e->chain >> 31 ? &o->w->next : &o->w->cur;
		f(arg, (shm_u64 *)(void *)t->t + e->slot, e->word, e->chain & (CHAINS_MAX - 1),
			t->log2_buckets);
	}
}

void shm_index_walk_order(struct shm_wpool *w, shm_index_ahead *far, shm_index_ahead *near,
	shm_index_each *f, void *arg)
{
	struct order o = {.w = w};

	if (!prepare(&o)) {
		shm_index_walk(w, f, arg);
		return;
	}
	for (uint32_t i = 0; i < PARTS_MAX; i++)
		for (const struct chunk *c = o.part[i]; c; c = c->next)
			walk_part(&o, c, far, near, f, arg);
	(void)munmap(o.chunk, o.max_chunks * sizeof *o.chunk);
}

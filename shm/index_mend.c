/* index_mend.c - damaged links of an adopted index: what hangs on them is found again by what it says itself.
 *
 * An overflow bucket holds entries of one chain, and each entry says by its hash which one: if one of them is whole, by its
 * checksum too, the bucket belongs there.  So a link that leads to another chain's bucket, to one that is linked already, or
 * nowhere is damaged; and a bucket to which no link leads, and whose chain has a damaged link, is hung there again.  Entries of
 * a bucket in which none is whole go with it.
 *
 * The buckets that are found are linked to each other first, and the damaged link is replaced last, by one store: an engine
 * that dies before leaves a damaged link, and the next one begins again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "pool_i.h"

/* A chain that was cut. */
struct cut {
	uint64_t chain, head; /* head: the first bucket that was found for it; 0: none */
	shm_u64 *link;
	uint32_t n; /* buckets of the chain */
	bool moved;
};

struct mend {
	struct shm_wpool *w;
	struct shm_wtable *t;
	struct cut *cut; /* by chain, ascending */
	uint64_t n_cut, cap;
};

static struct shm_bucket *bucket_at(const struct shm_wtable *t, uint64_t idx)
{
	return (struct shm_bucket *)(t->t + 1) + idx;
}

static uint64_t n_buckets(const struct shm_wtable *t) { return 1ull << t->log2_buckets; }

/* Does a whole item stand there?  All of its pages are looked at before it is read (rule P30). */
static bool item_is_proved(const struct shm_wpool *w, uint64_t word)
{
	uint64_t off = shm_word_off(word);

	if (shm_word_low(word) != 0 || off < sizeof(struct shm_pool) ||
		off > w->bytes - sizeof(struct shm_item) || !shm_alloc_is_used(w->alloc, off) ||
		!shm_alloc_is_used(w->alloc, off + sizeof(struct shm_item) - 1))
		return false;
	const struct shm_item *it = shm_pool_item(w, off);
	uint64_t bytes = shm_item_bytes(shm_lens_key(it->lens), shm_lens_value(it->lens));
	if (bytes > w->bytes - off || shm_hash_tag(it->hash) != shm_word_top(word) ||
		it->store_id == 0)
		return false;
	for (uint64_t at = off / SHM_PAGE; at <= (off + bytes - 1) / SHM_PAGE; at++)
		if (!shm_alloc_is_used(w->alloc, at * SHM_PAGE))
			return false;
	return shm_pool_item_is_whole(it);
}

/* The chain to which a bucket belongs, by its first whole entry; false: it has none. */
static bool chain_of(const struct mend *m, const struct shm_bucket *b, uint64_t *ret)
{
	for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
		uint64_t word = shm_load_rlx(&b->slot[i]);
		if (shm_word_off(word) == 0 || (word & SHM_SLOT_MOVED) ||
			!item_is_proved(m->w, word))
			continue;
		*ret = shm_hash_bucket(
			shm_pool_item(m->w, shm_word_off(word))->hash, m->t->log2_buckets);
		return true;
	}
	return false;
}

static uint64_t overflow_off(const struct mend *m, uint64_t idx)
{
	return (uint64_t)((const uint8_t *)bucket_at(m->t, n_buckets(m->t) + idx) - m->w->base);
}

/* The overflow bucket that a link leads to, which may be the chain's; false: damaged. */
static bool link_is_right(const struct mend *m, uint64_t off, uint64_t chain, uint64_t *ret_idx)
{
	uint64_t first = overflow_off(m, 0), idx = (off - first) / sizeof(struct shm_bucket), of;

	if (off < first || (off - first) % sizeof(struct shm_bucket) || idx >= m->t->n_overflow ||
		m->t->linked[idx])
		return false;
	*ret_idx = idx;
	return !chain_of(m, bucket_at(m->t, n_buckets(m->t) + idx), &of) || of == chain;
}

static int cut_add(struct mend *m, uint64_t chain, struct shm_bucket *b, uint32_t n)
{
	if (m->n_cut == m->cap) {
		uint64_t cap = m->cap ? 2 * m->cap : 64;
		struct cut *more = realloc(m->cut, cap * sizeof *more);
		if (!more)
			return -ENOMEM;
		m->cut = more;
		m->cap = cap;
	}
	m->cut[m->n_cut++] = (struct cut){.chain = chain,
		.link = &b->link,
		.n = n,
		.moved = m->t == &m->w->cur && m->w->next.t &&
	                 shm_load_rlx(&b->slot[0]) == SHM_SLOT_MOVED};
	return 0;
}

static int walk(struct mend *m, uint64_t chain)
{
	struct shm_bucket *b = bucket_at(m->t, chain);
	uint64_t off, idx;

	for (uint32_t n = 1; (off = shm_word_off(shm_load_rlx(&b->link))) != 0; n++) {
		if (n >= SHM_CHAIN_MAX || !link_is_right(m, off, chain, &idx))
			return cut_add(m, chain, b, n);
		m->t->linked[idx] = 1;
		m->t->overflow_used++;
		b = bucket_at(m->t, n_buckets(m->t) + idx);
	}
	return 0;
}

static int by_chain(const void *a, const void *b)
{
	const struct cut *x = a, *y = b;

	return (x->chain > y->chain) - (x->chain < y->chain);
}

/* A bucket that no link leads to: is it missed somewhere? */
static void hang_up(struct mend *m, uint64_t idx)
{
	struct shm_bucket *b = bucket_at(m->t, n_buckets(m->t) + idx);
	struct cut want;

	if (m->t->linked[idx] || !chain_of(m, b, &want.chain))
		return;
	struct cut *c = bsearch(&want, m->cut, m->n_cut, sizeof *c, by_chain);
	if (!c || c->n >= SHM_CHAIN_MAX)
		return;
	shm_store_rel(&b->link, c->head); /* rel:index.slot */
	c->head = overflow_off(m, idx);
	c->n++;
	m->t->linked[idx] = 1;
	m->t->overflow_used++;
}

int shm_index_mend(struct shm_wpool *w, struct shm_wtable *t, uint64_t *dropped)
{
	struct mend m = {.w = w, .t = t};
	int r = 0;

	memset(t->linked, 0, t->n_overflow);
	t->overflow_used = 0;
	for (uint64_t c = 0; c < n_buckets(t) && r == 0; c++)
		r = walk(&m, c);
	for (uint64_t i = 0; i < t->n_overflow && r == 0 && !MUTANT(808);
		i++) /* 808: they are lost */
		hang_up(&m, i);
	for (uint64_t i = 0; i < m.n_cut && r == 0; i++) {
		shm_feed_skip(&w->feed, 1); /* nobody knows what may be lost with it */
		++*dropped;
		/* rel:index.slot: the buckets found are linked to each other. */
		shm_store_rel(m.cut[i].link, m.cut[i].head | (m.cut[i].moved ? SHM_SLOT_MOVED : 0));
	}
	free(m.cut);
	return r;
}

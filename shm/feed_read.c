/* feed_read.c - see feed_read.h.
 *
 * What is copied counts only if `tail`, loaded behind it, has not passed it (rule P28); so it is looked at first, and
 * what does not make sense is damage only if nothing was overwritten.
 */
#include "feed_read.h"
#include <errno.h>
#include <string.h>
#include "atomic.h"
#include "layout/l_item.h"
#include "step.h"

enum { OLDEST_TRIES = 64 }; /* of a writer that is faster than we: the next call tries again */

int shm_feed_find(const uint8_t *base, uint64_t bytes, struct shm_feed_reader *ret)
{
	const struct shm_pool *hdr = (const struct shm_pool *)(const void *)base;

	if (bytes < sizeof *hdr)
		return -ERANGE;
	uint64_t off = shm_load_acq(&hdr->feed_off); /* acq:feed.off */
	/* Read once: whoever damages them meanwhile, what was compared is what is used. */
	uint64_t size = shm_load_once(&hdr->feed_bytes);
	if (off == 0)
		return FEED_IS_NONE;
	if (off % SHM_PAGE || off < sizeof *hdr || size < SHM_FEED_BYTES_MIN || size > 1ull << 46 ||
		off > 1ull << 46)
		return -EBADMSG;
	if (size > bytes || off > bytes - size)
		return -ERANGE;
	const struct shm_feed *f = (const struct shm_feed *)(const void *)(base + off);
	uint64_t n_words = shm_load_once(&f->n_words);
	if (shm_load_once(&f->magic) != SHM_FEED_MAGIC ||
		n_words != (size - sizeof *f) / sizeof(shm_u64))
		return -EBADMSG;
	*ret = (struct shm_feed_reader){
		.f = f, .ring = (const shm_u64 *)(const void *)(f + 1), .n_words = n_words};
	return 0;
}

static uint64_t word_at(const struct shm_feed_reader *r, uint64_t pos)
{
	return shm_load_rlx(&r->ring[pos % r->n_words]);
}

/* Has what stands at pos been given up since it was copied? */
static bool overtaken(const struct shm_feed_reader *r, uint64_t pos)
{
	shm_copy_over(); /* acq:feed.tail */
	return (int64_t)(shm_load_rlx(&r->f->tail) - pos) > 0 &&
	       !MUTANT(373); /* 373: what was overwritten meanwhile counts */
}

/* Copies the words before the key of the entry at pos.  0; FEED_EMPTY; FEED_LAPPED; -EBADMSG. */
static int copy_head(const struct shm_feed_reader *r, uint64_t pos, struct shm_feed_entry *ret)
{
	uint64_t head = shm_load_acq(&r->f->head); /* acq:feed.head */
	uint64_t *to = &ret->shape, words[SHM_FEED_WORDS];

	if (head == pos)
		return FEED_EMPTY;
	for (uint32_t i = 0; i < SHM_FEED_WORDS; i++)
		words[i] = word_at(r, pos + i);
	STEP("feed:head-copied");
	if (overtaken(r, pos))
		return FEED_LAPPED;
	memcpy(to, words, sizeof words);
	uint32_t what = shm_feed_what(ret->shape);
	uint64_t n = shm_feed_words(ret->shape);
	if ((int64_t)(head - pos) < 0 || head - pos > r->n_words ||
		(uint32_t)ret->shape != (uint32_t)pos || what == 0 || what >= SHM_FEED_WHATS ||
		n != shm_feed_words_of(what, shm_lens_key(ret->lens)) || n > head - pos ||
		ret->sequence == 0 || ret->sequence > shm_load_rlx(&r->f->next_sequence))
		return -EBADMSG;
	return 0;
}

enum { COPY_GAP = 100 }; /* numbers were left out: damage was cut off here, or cost entries */

static int copy_entry(const struct shm_feed_reader *r, struct shm_feed_entry *ret, uint8_t *key)
{
	int e = copy_head(r, r->pos, ret);

	if (e)
		return e;
	uint64_t n = shm_feed_words(ret->shape);
	for (uint64_t i = SHM_FEED_WORDS; i < n; i++) {
		uint64_t word = word_at(r, r->pos + i);
		memcpy(key + (i - SHM_FEED_WORDS) * sizeof word, &word, sizeof word);
	}
	STEP("feed:key-copied");
	if (n > SHM_FEED_WORDS && overtaken(r, r->pos))
		return FEED_LAPPED;
	if (ret->sequence > r->sequence)
		return COPY_GAP;
	return ret->sequence == r->sequence ? 0 : -EBADMSG;
}

/* Goes to the oldest entry.  0; FEED_EMPTY: there is none now, or none long enough; -EBADMSG. */
static int go_oldest(struct shm_feed_reader *r)
{
	struct shm_feed_entry e;
	int c = FEED_LAPPED;

	for (int i = 0; i < OLDEST_TRIES && c == FEED_LAPPED; i++) {
		uint64_t pos = shm_load_acq(&r->f->tail); /* acq:feed.oldest */
		c = copy_head(r, pos, &e);
		if (c == 0 || c == FEED_EMPTY)
			r->pos = pos;
		if (c == 0)
			r->sequence = e.sequence;
	}
	return c == FEED_LAPPED ? FEED_EMPTY : c;
}

int shm_feed_next(
	struct shm_feed_reader *r, struct shm_feed_entry *ret, uint8_t *key, uint64_t *ret_lost)
{
	uint64_t wanted = r->sequence;
	int c = copy_entry(r, ret, key);

	if (c == COPY_GAP) { /* it stays there: the next call takes it */
		*ret_lost = ret->sequence - wanted;
		r->sequence = ret->sequence;
		return FEED_LAPPED;
	}
	if (c == FEED_LAPPED) { /* how many are gone?  The number of the oldest one says it */
		c = go_oldest(r);
		if (c != 0)
			return c; /* none there, or too fast for us: the next call says it */
		if (r->sequence < wanted)
			return -EBADMSG;
		*ret_lost = r->sequence - wanted;
		return FEED_LAPPED;
	}
	if (c != 0)
		return c;
	r->pos += shm_feed_words(ret->shape);
	r->sequence = ret->sequence + 1;
	return 0;
}

/* ------------------------------------------------------------ a place to begin */

/* A feed without an entry.  True: it was, all the time, and r stands at its beginning. */
static bool begin_empty(struct shm_feed_reader *r)
{
	uint64_t head = shm_load_acq(&r->f->head); /* acq:feed.head */

	r->pos = head;
	r->sequence = shm_load_rlx(&r->f->next_sequence);
	shm_copy_over(); /* acq:feed.tail */
	return shm_load_rlx(&r->f->tail) == head && shm_load_rlx(&r->f->head) == head;
}

/* To the entry with this number, or behind the last one if that comes first.  0, FEED_EMPTY (a writer that
 * is faster than we all the time), -EBADMSG. */
static int walk_to(struct shm_feed_reader *r, uint64_t sequence)
{
	struct shm_feed_entry e;

	for (uint64_t n = 0; n < r->n_words && r->sequence < sequence; n++) {
		int c = copy_head(r, r->pos, &e);
		if (c == FEED_EMPTY)
			return 0;
		if (c == FEED_LAPPED) {
			c = go_oldest(r);
		} else if (c == 0) {
			r->pos += shm_feed_words(e.shape);
			r->sequence = e.sequence + 1;
		}
		if (c != 0)
			return c;
	}
	return r->sequence >= sequence ? 0 : FEED_EMPTY;
}

int shm_feed_seek(struct shm_feed_reader *r, uint64_t sequence, uint64_t *ret_lost)
{
	int c = FEED_EMPTY;

	for (int i = 0; i < OLDEST_TRIES && c == FEED_EMPTY; i++) {
		c = go_oldest(r);
		if (c == FEED_EMPTY && begin_empty(r))
			c = 0;
		else if (c == 0 && sequence != FEED_FROM_OLDEST)
			c = walk_to(r, sequence);
	}
	if (c != 0)
		return c < 0 ? c : -EBADMSG; /* no feed is written that fast */
	if (sequence == FEED_FROM_OLDEST || sequence == FEED_FROM_END || sequence == r->sequence)
		return 0;
	if (sequence > r->sequence)
		return FEED_AHEAD;
	*ret_lost = r->sequence - sequence;
	return FEED_LAPPED;
}

const uint32_t *shm_feed_futex(const struct shm_feed_reader *r)
{
	return (const uint32_t *)(const void *)&r->f->head; /* little-endian: l_base.h */
}

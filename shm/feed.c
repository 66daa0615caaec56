/* feed.c - see feed.h, and layout/l_feed.h for the order of the stores (rule P28). */
#include "feed.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "atomic.h"
#include "base/check.h"
#include "layout/l_word.h"
#include "step.h"

#define POSITION_MAX (1ull << 62) /* words and numbers of a feed that is right */

/* ------------------------------------------------------------ taking hold */

void shm_feed_format(struct shm_feed *f, uint64_t bytes, uint64_t first)
{
	CHECK(bytes >= SHM_FEED_BYTES_MIN);
	memset(f, 0, sizeof *f);
	f->n_words = (bytes - sizeof *f) / sizeof(shm_u64);
	f->magic = SHM_FEED_MAGIC;
	shm_store_rlx(&f->next_sequence, first);
}

/* Is it a whole entry that stands at pos? */
static bool entry_is_whole(
	const struct shm_wfeed *w, uint64_t pos, uint64_t *ret_words, uint64_t *ret_sequence)
{
	const uint64_t shape = shm_load_rlx(&w->ring[pos % w->n_words]);
	const uint64_t lens = shm_load_rlx(&w->ring[(pos + 7) % w->n_words]);

	*ret_words = shm_feed_words(shape);
	*ret_sequence = shm_load_rlx(&w->ring[(pos + 1) % w->n_words]);
	return (uint32_t)shape == (uint32_t)pos &&
	       *ret_words == shm_feed_words_of(shm_feed_what(shape), shm_lens_key(lens)) &&
	       *ret_words <= w->head - pos;
}

/* Goes from entry to entry.  False: they do not lead to head; *ret_last: the highest number met. */
static bool entries_are_whole(const struct shm_wfeed *w, uint64_t *ret_last)
{
	uint64_t words, sequence;

	if (w->head - w->tail > w->n_words)
		return false;
	for (uint64_t pos = w->tail; pos != w->head; pos += words) {
		if (!entry_is_whole(w, pos, &words, &sequence) || sequence <= *ret_last ||
			sequence > w->next_sequence)
			return false;
		*ret_last = sequence;
	}
	return true;
}

/* Nothing of what is there counts: a number is left out, so that every reader finds that it missed something.  Its
 * numbers may have been written over like the rest: so they go on above all that there were. */
static void cut_off(struct shm_wfeed *w, uint64_t last, uint64_t first)
{
	if (last + 1 > w->next_sequence)
		w->next_sequence = last + 1;
	w->next_sequence++;
	if (first > w->next_sequence &&
		!MUTANT(803)) /* 803: what is written in the feed is trusted */
		w->next_sequence = first;
	w->head = w->tail = w->head > w->tail ? w->head : w->tail;
	shm_store_rlx(&w->f->next_sequence, w->next_sequence);
	shm_store_rel(&w->f->tail, w->tail); /* rel:feed.oldest */
	shm_reuse_begins();                  /* rel:feed.tail */
	shm_store_rel(&w->f->head, w->head); /* rel:feed.head */
	w->was_damaged = true;
}

int shm_feed_attach(struct shm_wfeed *ret, uint8_t *base, uint64_t pool_bytes,
	const struct shm_pool *hdr, uint64_t first)
{
	uint64_t off = shm_load_rlx(&hdr->feed_off), bytes = hdr->feed_bytes, last = 0;

	*ret = (struct shm_wfeed){0};
	if (off == 0)
		return FEED_NONE;
	if (off % SHM_PAGE || off < sizeof *hdr || bytes < SHM_FEED_BYTES_MIN ||
		bytes > pool_bytes || off > pool_bytes - bytes)
		return -EBADMSG;
	struct shm_feed *f = (struct shm_feed *)(void *)(base + off);
	if (f->magic != SHM_FEED_MAGIC || f->n_words != (bytes - sizeof *f) / sizeof(shm_u64))
		return -EBADMSG;
	*ret = (struct shm_wfeed){.f = f,
		.ring = (shm_u64 *)(void *)(f + 1),
		.n_words = f->n_words,
		.head = shm_load_rlx(&f->head),
		.tail = shm_load_rlx(&f->tail),
		.next_sequence = shm_load_rlx(&f->next_sequence)};
	if (ret->head > POSITION_MAX || ret->tail > POSITION_MAX ||
		ret->next_sequence > POSITION_MAX)
		return -EBADMSG; /* no feed comes there */
	if (!entries_are_whole(ret, &last))
		cut_off(ret, last, first);
	else if (last >= ret->next_sequence) {
		ret->next_sequence = last + 1;
		shm_store_rlx(&f->next_sequence,
			ret->next_sequence); /* what follows is not ahead of it */
	}
	ret->head_idx = ret->head % ret->n_words;
	ret->tail_idx = ret->tail % ret->n_words;
	return 0;
}

void shm_feed_skip(struct shm_wfeed *w, uint64_t n)
{
	if (!w->f)
		return;
	w->next_sequence += n;
	shm_store_rlx(&w->f->next_sequence, w->next_sequence);
}

/* ------------------------------------------------------------ writing */

/* Takes as many of the oldest entries away as n words need. */
static void make_room(struct shm_wfeed *w, uint64_t n)
{
	if (w->head + n - w->tail <= w->n_words)
		return;
	do {
		uint32_t words = shm_feed_words(shm_load_rlx(&w->ring[w->tail_idx]));
		CHECK(words >= SHM_FEED_WORDS && words <= w->head - w->tail);
		w->tail += words;
		w->tail_idx += words;
		if (w->tail_idx >= w->n_words)
			w->tail_idx -= w->n_words;
	} while (w->head + n - w->tail > w->n_words);
	if (!MUTANT(370)) /* 370: what is overwritten is not given up before */
		/* rel:feed.oldest: whoever goes to the oldest entry finds it below head */
		shm_store_rel(&w->f->tail, w->tail);
	STEP("feed:tail");
	shm_reuse_begins(); /* rel:feed.tail: whoever copies a word of the new entry finds tail past the old one */
}

static void put(struct shm_wfeed *w, uint64_t word)
{
	shm_store_rlx(&w->ring[w->head_idx++], word);
	if (w->head_idx == w->n_words)
		w->head_idx = 0;
}

static void put_key(struct shm_wfeed *w, const uint8_t *key, uint64_t bytes)
{
	uint64_t word;

	for (; bytes >= sizeof word; key += sizeof word, bytes -= sizeof word) {
		memcpy(&word, key, sizeof word);
		put(w, word);
	}
	if (bytes == 0)
		return;
	word = 0;
	memcpy(&word, key, bytes);
	put(w, word);
}

void shm_feed_append(struct shm_wfeed *w, const struct shm_feed_news *n)
{
	bool keyed = n->what < SHM_FEED_CLEAR;
	uint64_t kept = keyed ? shm_feed_kept(shm_lens_key(n->lens)) : 0;
	uint64_t words = SHM_FEED_WORDS + (kept + 7) / 8;

	make_room(w, words);
	put(w, shm_feed_shape(words, n->what, n->why, w->head));
	put(w, w->next_sequence);
	put(w, n->lsn);
	put(w, n->version);
	put(w, n->store_id);
	put(w, w->time_ns);
	put(w, n->hash);
	put(w, n->lens);
	put_key(w, n->key, kept);
	STEP("feed:written");
	w->head += words;
	w->next_sequence++;
	shm_store_rel(&w->f->head, w->head); /* rel:feed.head: the entry is whole */
	STEP("feed:published");
	shm_store_rlx(&w->f->next_sequence, w->next_sequence);
}

/* ------------------------------------------------------------ exactly once */

void shm_feed_foretell(const struct shm_wfeed *w, struct shm_journal *j, enum shm_feed_what what,
	enum shm_feed_why why)
{
	struct shm_intent *in = &j->intent;

	in->feed_sequence = w->f && !MUTANT(371) ? w->next_sequence
	                                         : 0; /* 371: nothing is foretold */
	if (!w->f)
		return;
	in->feed_time_ns = w->time_ns;
	in->feed_pool = w->pool_idx;
	in->feed_what = (uint16_t)what;
	in->feed_why = (uint16_t)why;
}

static void news_of(struct shm_feed_news *n, uint32_t what, uint32_t why, uint64_t lsn,
	const struct shm_item *it)
{
	*n = (struct shm_feed_news){.what = what,
		.why = why,
		.lsn = lsn,
		.version = it->version,
		.store_id = it->store_id,
		.hash = it->hash,
		.lens = it->lens,
		.key = it + 1};
}

void shm_feed_tell(struct shm_wfeed *w, enum shm_feed_what what, enum shm_feed_why why,
	uint64_t lsn, const struct shm_item *it)
{
	struct shm_feed_news n;

	if (!w->f)
		return;
	news_of(&n, what, why, lsn, it);
	shm_feed_append(w, &n);
}

void shm_feed_tell_store(
	struct shm_wfeed *w, enum shm_feed_what what, uint64_t lsn, uint64_t store_id)
{
	if (w->f)
		shm_feed_append(
			w, &(struct shm_feed_news){.what = what, .lsn = lsn, .store_id = store_id});
}

/* The item that an intent is about; NULL: it leads out of the pool. */
static const struct shm_item *item_of(
	const struct shm_intent *in, const uint8_t *base, uint64_t bytes)
{
	uint64_t off = shm_word_off(in->feed_what <= SHM_FEED_INCR ? in->new_word : in->old_word);

	if (in->feed_what == SHM_FEED_TOUCH)
		off = in->slot_off - offsetof(struct shm_item, expiry_ns);
	if (off < sizeof(struct shm_pool) || off > bytes - sizeof(struct shm_item))
		return NULL;
	const struct shm_item *it = (const struct shm_item *)(const void *)(base + off);
	return shm_item_bytes(shm_lens_key(it->lens), 0) <= bytes - off ? it : NULL;
}

int shm_feed_complete(const struct shm_intent *in, uint64_t store_id, uint8_t *base,
	uint64_t pool_bytes, uint64_t first)
{
	const struct shm_pool *hdr = (const struct shm_pool *)(const void *)base;
	struct shm_feed_news n = {.what = in->feed_what, .lsn = in->lsn, .store_id = store_id};
	struct shm_wfeed w;

	if (in->feed_what == 0 || in->feed_what >= SHM_FEED_WHATS || pool_bytes < sizeof *hdr)
		return -EBADMSG;
	int r = shm_feed_attach(&w, base, pool_bytes, hdr, first);
	if (r != 0)
		return r < 0 ? r : -EBADMSG;
	if (w.next_sequence > in->feed_sequence && !MUTANT(372)) /* 372: it is said again */
		return 0;
	w.time_ns = in->feed_time_ns;
	if (in->feed_what < SHM_FEED_CLEAR) {
		const struct shm_item *it = item_of(in, base, pool_bytes);
		if (!it) {
			if (!MUTANT(804)) /* 804: what cannot be said is not missed */
				shm_feed_skip(&w, 1);
			return -EBADMSG;
		}
		news_of(&n, in->feed_what, in->feed_why, in->lsn, it);
	}
	shm_feed_append(&w, &n);
	return 0;
}

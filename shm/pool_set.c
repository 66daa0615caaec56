/* pool_set.c - what makes or changes an entry: set and its conditions, numbers, touch.
 *
 * A condition is decided by the word that the slot holds, in the same change that
 * publishes: there is one writer, so nothing comes in between.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "crc.h"
#include "pool_i.h"
#include "step.h"

#define NS_PER_MS 1000000ull

enum { NUMBER_BYTES = 24, NUMBER_DIGITS_MAX = 20 };

/* Everything about one publish that is known before it begins. */
struct publish {
	struct shm_wpool *w;
	struct shm_journal *j;
	const struct shm_req *req;
	struct shm_set set; /* what the new item has; value is in `value` */
	struct pieces value;
	struct shm_ref ref;
	bool live;   /* what the slot names now is an entry */
	bool absent; /* ... is one that says that there is none */
	uint64_t created_ns;
	uint64_t answer; /* value of the result */
	enum shm_feed_what what;
};

void pool_fill(const struct shm_wpool *w, uint64_t off, const struct shm_set *set,
	const struct pieces *v, const struct pool_stamps *stamps)
{
	uint64_t key_bytes = set->key.n_bytes;
	struct shm_item it = {
		.created_ns = stamps->created_ns,
		.modified_ns = set->now_wall_ns,
		.ttl_ms = set->ttl_ms,
		.stamp = set->stamp,
		.version = stamps->version,
		.hash = set->key.hash,
		.store_id = set->key.store_id,
		.epoch = set->key.epoch,
		.flags = set->flags,
		.lens = shm_lens_make(key_bytes, v->head_bytes + v->tail_bytes) | set->marks,
	};

	shm_store_rlx(&it.access, stamps->access);
	shm_store_rlx(&it.expiry_ns, set->expiry_ns);
	it.crc = shm_item_crc_of(
		&it, set->key.bytes, v->head, v->head_bytes, v->tail, v->tail_bytes);
	uint8_t *to = w->base + off, *value = to + shm_item_value_off(key_bytes);
	memcpy(to, &it, sizeof it);
	memcpy(to + sizeof it, set->key.bytes, key_bytes);
	if (v->head_bytes)
		memcpy(value, v->head, v->head_bytes);
	if (v->tail_bytes)
		memcpy(value + v->head_bytes, v->tail, v->tail_bytes);
}

static void fill(const struct publish *p, uint64_t off, uint64_t lsn)
{
	const struct pool_stamps stamps = {.created_ns = p->created_ns,
		.access = p->set.now_ms << SHM_ACCESS_MS_SHIFT,
		.version = lsn};

	pool_fill(p->w, off, &p->set, &p->value, &stamps);
}

/* Makes the item, intends, publishes in one store, retires the old, records.  0 or POOL_FULL. */
static int publish(struct publish *p, struct shm_changed *ret)
{
	struct shm_wpool *w = p->w;
	uint64_t off, value_bytes = p->value.head_bytes + p->value.tail_bytes;
	uint64_t bytes = shm_item_bytes(p->set.key.n_bytes, value_bytes);

	if (shm_alloc_take(w->alloc, bytes, &off, &ret->place_bytes) != 0) {
		ret->place_bytes = bytes;
		ret->off = p->live ? shm_word_off(p->ref.word) : 0;
		return POOL_FULL;
	}
	uint64_t word = shm_word_make(shm_hash_tag(p->set.key.hash), off, 0);
	ret->lsn = pool_next_lsn(w);
	ret->off = off;
	ret->answer = p->answer;
	if (!MUTANT(13)) /* 13: the slot names an item that is not yet written */
		fill(p, off, ret->lsn);
	STEP("set:filled");
	if (p->req->log)
		pool_log_put(&(struct shm_wlog_record){.what = SHM_WLOG_SET,
				     .lsn = ret->lsn,
				     .req = p->req,
				     .store_id = p->set.key.store_id,
				     .item = shm_pool_item(w, off)},
			ret);
	shm_feed_foretell(&w->feed, p->j, p->what, SHM_FEED_NONE);
	shm_journal_intend(
		p->j, p->req, w->pool_idx, ret->lsn, p->ref.slot_off, p->ref.word, word, p->answer);
	STEP("set:intended");
	shm_store_rel(p->ref.slot, word); /* rel:index.slot */
	STEP("set:published");
	pool_log_commit(p->req, ret);
	if (MUTANT(13))
		fill(p, off, ret->lsn);
	pool_count_in(w, off, ret->place_bytes);
	if (p->ref.word)
		pool_retire(w, shm_word_off(p->ref.word), ret);
	shm_feed_tell(&w->feed, p->what, SHM_FEED_NONE, ret->lsn, shm_pool_item(w, off));
	shm_journal_finish(p->j, p->req, ret->lsn, 0, p->answer);
	return 0;
}

/* Begins a change: grows the index a little, finds the key's slot.  0: p->ref, and *ret_old is the
 * live entry there or NULL; POOL_CHAIN_FULL, POOL_FULL. */
static int begin(struct publish *p, struct shm_changed *ret, const struct shm_item **ret_old)
{
	const struct shm_item *old = NULL;

	*ret = (struct shm_changed){0};
	*ret_old = NULL;
	if (shm_limbo_reserve(p->w, 2) != 0)
		return POOL_FULL;
	(void)shm_index_grow(p->w, POOL_CHAINS_PER_CHANGE, false);
	if (shm_index_seek(p->w, &p->set.key, &p->ref) == INDEX_FULL) {
		ret->old_off = shm_word_off(p->ref.word);
		return POOL_CHAIN_FULL;
	}
	if (p->ref.word)
		old = shm_pool_item(p->w, shm_word_off(p->ref.word));
	if (old && pool_is_live(old, p->set.key.epoch, p->set.now_ms * NS_PER_MS) &&
		(!p->w->unverified || shm_pool_item_is_whole(old)))
		*ret_old = old;
	if (*ret_old && pool_is_absent(old)) { /* a condition finds nothing */
		p->absent = true;
		*ret_old = NULL;
	}
	p->live = *ret_old != NULL;
	p->created_ns = p->live ? old->created_ns : p->set.now_wall_ns;
	return 0;
}

/* ------------------------------------------------------------ conditions */

static uint64_t stamp_of(const struct shm_item *it)
{
	return it->lens & SHM_LENS_FRESH ? 0 : it->stamp;
}

/* 0: it may be written; else what the caller is told. */
static int judge(const struct shm_set *set, const struct shm_item *old)
{
	switch (set->mode) {
	case SHM_ADD:
		return old ? POOL_EXISTS : 0;
	case SHM_REPLACE:
		return old ? 0 : POOL_MISS;
	case SHM_IF_NEWER:
		return old && stamp_of(old) >= set->stamp + MUTANT(504) /* 504: equal stamps win */
		               ? POOL_OLDER
		               : 0;
	case SHM_IF_VERSION:
		if (!old)
			return POOL_MISS;
		return old->version == set->version ? 0 : POOL_CONFLICT;
	case SHM_APPEND:
	case SHM_PREPEND:
		if (!old)
			return POOL_MISS;
		return set->version && old->version != set->version ? POOL_CONFLICT : 0;
	default:
		return 0;
	}
}

static const uint8_t *value_of(const struct shm_item *it)
{
	return (const uint8_t *)it + shm_item_value_off(shm_lens_key(it->lens));
}

/* What a changed entry keeps. */
static void keep_of(struct publish *p, const struct shm_item *old)
{
	p->set.flags = old->flags;
	p->set.ttl_ms = old->ttl_ms;
	p->set.stamp = old->stamp;
	p->set.marks = old->lens & SHM_LENS_MARKS;
	p->set.expiry_ns = shm_load_rlx(&old->expiry_ns);
}

/* A joined value: the entry keeps what else it has.  0 or POOL_TOO_LARGE. */
static int join(struct publish *p, const struct shm_item *old)
{
	uint64_t old_bytes = shm_lens_value(old->lens);
	struct pieces add = p->value, had = {.head = value_of(old), .head_bytes = old_bytes};
	bool after = p->set.mode == SHM_APPEND;

	if (add.head_bytes > p->set.max_bytes || old_bytes > p->set.max_bytes - add.head_bytes)
		return POOL_TOO_LARGE;
	p->value = (struct pieces){
		.head = after ? had.head : add.head,
		.head_bytes = after ? had.head_bytes : add.head_bytes,
		.tail = after ? add.head : had.head,
		.tail_bytes = after ? add.head_bytes : had.head_bytes,
	};
	keep_of(p, old);
	return 0;
}

static int set_in_change(struct publish *p, struct shm_changed *ret)
{
	const struct shm_item *old;
	int e = begin(p, ret, &old);

	if (e != 0 && e != POOL_CHAIN_FULL)
		return e;
	/* A key without a slot is an absent one: no entry has to go for a condition that fails.
	 * 158: it goes first */
	int r = e != 0 && MUTANT(158) ? 0 : judge(&p->set, old);
	e = r ? r : e;
	if (!old && !p->absent && p->set.old_only && (e == 0 || e == POOL_CHAIN_FULL)) {
		ret->lsn = pool_next_lsn(p->w);
		return POOL_NOT_KEPT;
	}
	if (e == 0 && (p->set.mode == SHM_APPEND || p->set.mode == SHM_PREPEND))
		e = join(p, old);
	if (e != 0) {
		ret->lsn = old ? old->version : 0;
		return e;
	}
	p->answer = p->live;
	return publish(p, ret);
}

int shm_pool_set(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_set *set, struct shm_changed *ret)
{
	struct publish p = {.w = w,
		.j = j,
		.req = req,
		.set = *set,
		.what = SHM_FEED_SET,
		.value = {.head = set->value, .head_bytes = set->value_bytes}};

	shm_pool_change(w);
	int e = set_in_change(&p, ret);
	shm_pool_change(w);
	return e;
}

/* ------------------------------------------------------------ numbers */

/* The whole value as a decimal number.  0 or POOL_NOT_NUMBER. */
static int parse(const struct shm_item *it, int64_t *ret)
{
	uint64_t n = shm_lens_value(it->lens);
	char text[NUMBER_BYTES], *end;

	if (n == 0 || n > NUMBER_DIGITS_MAX)
		return POOL_NOT_NUMBER;
	memcpy(text, value_of(it), n);
	text[n] = 0;
	if ((text[0] < '0' || text[0] > '9') && text[0] != '-')
		return POOL_NOT_NUMBER; /* strtoll would take spaces and signs */
	errno = 0;
	*ret = strtoll(text, &end, 10);
	return errno == 0 && end == text + n ? 0 : POOL_NOT_NUMBER;
}

static int64_t sum(int64_t a, int64_t b, bool wrap)
{
	int64_t r;

	if (!__builtin_add_overflow(a, b, &r) || wrap || MUTANT(503)) /* 503: numbers always wrap */
		return r; /* the builtin's result is the wrapped one */
	return b < 0 ? INT64_MIN : INT64_MAX;
}

static int incr_in_change(
	struct publish *p, const struct shm_incr *in, struct shm_changed *ret, int64_t *ret_number)
{
	const struct shm_item *old;
	char text[NUMBER_BYTES];
	int64_t number = in->initial;
	int e = begin(p, ret, &old);

	if ((e == 0 || e == POOL_CHAIN_FULL) && !old && in->must_exist)
		e = POOL_MISS;
	if (e == 0 && old) {
		e = parse(old, &number);
		number = e == 0 ? sum(number, in->delta, in->wrap) : 0;
		keep_of(p, old);
	}
	if (e != 0)
		return e;
	int n = snprintf(text, sizeof text, "%lld", (long long)number);
	p->value = (struct pieces){.head = text, .head_bytes = (uint64_t)n};
	p->answer = (uint64_t)number;
	*ret_number = number;
	return publish(p, ret);
}

int shm_pool_incr(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_incr *in, struct shm_changed *ret, int64_t *ret_number)
{
	struct publish p = {.w = w, .j = j, .req = req, .set = in->set, .what = SHM_FEED_INCR};

	shm_pool_change(w);
	int e = incr_in_change(&p, in, ret, ret_number);
	shm_pool_change(w);
	return e;
}

/* ------------------------------------------------------------ touch */

/* Done again after a death it does the same: only the feed needs an intent. */
static void touch(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_key *key, struct shm_item *it, uint64_t expiry_ns, struct shm_changed *ret)
{
	/* Of a logged one the record has a number of its own; the entry keeps its version. */
	uint64_t lsn = req->log ? pool_next_lsn(w) : shm_load_rlx(&w->ctl->lsn);

	if (req->log)
		pool_log_put(&(struct shm_wlog_record){.what = SHM_WLOG_TOUCH,
				     .lsn = lsn,
				     .req = req,
				     .store_id = key->store_id,
				     .key = key->bytes,
				     .key_bytes = key->n_bytes,
				     .version = it->version,
				     .expiry_ns = expiry_ns},
			ret);
	if (w->feed.f) {
		shm_feed_foretell(&w->feed, j, SHM_FEED_TOUCH, SHM_FEED_NONE);
		shm_journal_intend(j, req, w->pool_idx, lsn,
			(uint64_t)((const uint8_t *)&it->expiry_ns - w->base),
			shm_load_rlx(&it->expiry_ns), expiry_ns, it->version);
		STEP("touch:intended");
	}
	/* One of the two words of an item that may change (rule P1). */
	shm_store_rlx(&it->expiry_ns, expiry_ns);
	pool_log_commit(req, ret);
	shm_feed_tell(&w->feed, SHM_FEED_TOUCH, SHM_FEED_NONE, lsn, it);
}

int shm_pool_touch(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_key *key, uint64_t now_ns, uint64_t expiry_ns, struct shm_changed *ret)
{
	struct shm_ref ref;
	int e = POOL_MISS;

	*ret = (struct shm_changed){0};
	shm_pool_change(w);
	if (shm_index_seek(w, key, &ref) == 0) {
		struct shm_item *it = shm_pool_item(w, shm_word_off(ref.word));
		if (pool_is_live(it, key->epoch, now_ns) && !pool_is_absent(it)) {
			ret->lsn = it->version;
			ret->off = shm_word_off(ref.word);
			if (expiry_ns != POOL_EXPIRY_KEEP)
				touch(w, j, req, key, it, expiry_ns, ret);
			STEP("touch:stored");
			shm_journal_finish(j, req, ret->lsn, 0, 0);
			e = 0;
		}
	}
	shm_pool_change(w);
	return e;
}

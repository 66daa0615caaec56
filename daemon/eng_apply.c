/* eng_apply.c - after-images of a checkpoint or of the log go into the pools, before the engine serves.
 *
 *   store known?   -> else it is left out
 *   time over?     -> then what it replaced is gone, and so is it
 *   room           -> as for a set; a pool that is too small evicts
 *   shm_pool_apply -> over older versions only
 *   bookkeeping    -> policy, wheel, counters, as after a set; the policy is told when it was used last
 *
 * A clear only notes below which version its store is void: eng_apply_end takes those entries out, in one walk however
 * many clears there were.
 */
#include "eng_apply.h"
#include "base/check.h"

enum {
	APPLY_CLOCK_EACH = 1024, /* entries for which one look at the clocks is good enough */
	APPLY_CHAINS = 4096,
	APPLY_VICTIMS = 512,
};
#define APPLY_MS 1000000ull

static void look_at_clocks(struct eng *e, struct eng_applied *to)
{
	to->wall_ns = eng_wall_ns();
	to->now_ns = e->now_ns = eng_clock_ns();
	to->clock_left = APPLY_CLOCK_EACH;
	shm_store_rlx(&e->ctl->heartbeat_ns, to->now_ns);
}

void eng_apply_begin(struct eng *e, struct eng_applied *to)
{
	*to = (struct eng_applied){0};
	look_at_clocks(e, to);
}

/* A wall time as one of the engine's clock; what was before it began is 1. */
static uint64_t mono_ns(const struct eng_applied *to, uint64_t wall_ns)
{
	if (wall_ns >= to->wall_ns)
		return to->now_ns + (wall_ns - to->wall_ns);
	uint64_t ago = to->wall_ns - wall_ns;
	return to->now_ns > ago ? to->now_ns - ago : 1;
}

static struct eng_store *store_of(struct eng *e, struct eng_applied *to, uint64_t id)
{
	if (!to->last || to->last->id != id || to->last->dropped)
		to->last = eng_store_by_id(e, id);
	return to->last && !to->last->dropped ? to->last : NULL;
}

/* What is there of that key goes, if it is older.  True: something went. */
static bool drop_older(struct eng_pool *p, const struct shm_key *key, uint64_t lsn)
{
	uint64_t off = shm_pool_find(&p->w, key);
	struct shm_changed ch;

	if (off == 0 || shm_pool_item(&p->w, off)->version >= lsn ||
		shm_pool_unlink_as(&p->w, off, 0, SHM_FEED_NONE, &ch) != 0)
		return false;
	eng_store_lost(p, &ch, ENG_LOST_DELETED, p->e->now_ns);
	return true;
}

static void set_of(const struct eng_after *a, const struct eng_applied *to,
	const struct shm_key *key, struct shm_after *ret)
{
	uint64_t modified_ns = a->modified_ns ? a->modified_ns : to->wall_ns;
	uint64_t used_ms = mono_ns(to, a->used_ns ? a->used_ns : modified_ns) / APPLY_MS;

	*ret = (struct shm_after){.version = a->lsn,
		.created_ns = a->created_ns ? a->created_ns : modified_ns,
		.access = used_ms << SHM_ACCESS_MS_SHIFT |
	                  (a->hits & ((1u << SHM_ACCESS_MS_SHIFT) - 1)),
		.set = {.key = *key,
			.value = a->value,
			.value_bytes = a->value_bytes,
			.flags = a->flags,
			.ttl_ms = a->ttl_ms,
			.expiry_ns = a->expires_ns ? mono_ns(to, a->expires_ns) : 0,
			.now_wall_ns = modified_ns,
			.now_ms = to->now_ns / APPLY_MS,
			.stamp = a->stamp,
			.marks = a->marks & SHM_LENS_MARKS}};
	if (a->marks & SHM_LENS_FRESH)
		ret->set.stamp = shm_fresh_make(
			mono_ns(to, a->fresh_until_ns) / APPLY_MS, a->took_ms);
}

/* Room is made as op_publish makes it.  As shm_pool_apply; POOL_FULL: there is none. */
static int publish(struct eng_pool *p, struct eng_store *s, const struct shm_after *after,
	struct shm_changed *ret)
{
	uint64_t bytes = shm_item_bytes(after->set.key.n_bytes, after->set.value_bytes);

	if (after->set.value_bytes > s->max_value_bytes || eng_pressure_too_large(s, bytes) ||
		!eng_pressure_write(p, s, NULL, bytes))
		return POOL_FULL;
	for (uint32_t i = 0; i < ENG_ROOM_TRIES; i++) {
		int r = shm_pool_apply(&p->w, after, ret);
		if (r == POOL_CHAIN_FULL) {
			if (!eng_room_chain(p, s, ret->old_off))
				return POOL_FULL;
			continue;
		}
		if (r != POOL_FULL)
			return r;
		(void)eng_room_make(p, s, ret->place_bytes ? ret->place_bytes : bytes, i);
	}
	return POOL_FULL;
}

static int apply_set(struct eng_pool *p, struct eng_store *s, const struct eng_after *a,
	const struct shm_key *key, struct eng_applied *to)
{
	struct shm_changed ch = {0};
	struct shm_after after;

	if (a->lsn < to->cleared_below[s->idx]) {
		to->older++;
		return APPLY_OLDER;
	}
	if (a->expires_ns && a->expires_ns <= to->wall_ns) {
		(void)drop_older(p, key, a->lsn);
		to->expired++;
		return APPLY_EXPIRED;
	}
	set_of(a, to, key, &after);
	int r = publish(p, s, &after, &ch);
	if (r == POOL_OLDER) {
		to->older++;
		return APPLY_OLDER;
	}
	if (r != 0) {
		(void)drop_older(p, key, a->lsn); /* nobody is to read what it replaced */
		to->no_room++;
		return APPLY_NO_ROOM;
	}
	to->set++;
	to->bytes += a->key_bytes + a->value_bytes;
	r = eng_store_got(p, s, &ch, to->now_ns);
	if (r == 0) {
		eng_store_restore(p, s, ch.off);
		eng_pressure_trim(p, s, ch.place_bytes);
	}
	return 0; /* without memory for the policy it was evicted, and logged */
}

static int apply_touch(struct eng_pool *p, struct eng_store *s, const struct eng_after *a,
	const struct shm_key *key, struct eng_applied *to)
{
	uint64_t off = shm_pool_find(&p->w, key);

	if (off == 0 || shm_pool_item(&p->w, off)->version > a->lsn) {
		to->older++;
		return APPLY_OLDER;
	}
	if (a->expires_ns && a->expires_ns <= to->wall_ns) {
		(void)drop_older(p, key, a->lsn + 1);
		to->expired++;
		return APPLY_EXPIRED;
	}
	shm_pool_apply_expiry(&p->w, off, a->expires_ns ? mono_ns(to, a->expires_ns) : 0);
	eng_expiry_set(p, s, off, *shm_alloc_note(p->w.alloc, off));
	to->touched++;
	return 0;
}

int eng_apply(struct eng *e, const struct eng_after *a, struct eng_applied *to)
{
	struct eng_store *s = store_of(e, to, a->store_id);

	to->max_lsn = a->lsn > to->max_lsn ? a->lsn : to->max_lsn;
	if (to->clock_left-- == 0)
		look_at_clocks(e, to);
	if (!s) {
		to->no_store++;
		return APPLY_NO_STORE;
	}
	struct eng_pool *p = &e->pool[s->pool_idx];
	if (a->kind == ENG_APPLY_CLEAR) {
		if (a->lsn > to->cleared_below[s->idx])
			to->cleared_below[s->idx] = a->lsn;
		to->cleared++;
		return 0;
	}
	CHECK(a->key_bytes >= 1 && a->key_bytes <= SHM_KEY_BYTES_MAX);
	const struct shm_key key = {.bytes = a->key,
		.n_bytes = (uint32_t)a->key_bytes,
		.epoch = (uint32_t)shm_load_rlx(&s->entry->epoch),
		.store_id = s->id,
		.hash = shm_key_hash(a->key, a->key_bytes, e->ctl->hash_seed, s->id)};
	int r = 0;
	e->dirty = true;
	if (a->kind == ENG_APPLY_SET) {
		r = apply_set(p, s, a, &key, to);
	} else if (a->kind == ENG_APPLY_TOUCH) {
		r = apply_touch(p, s, a, &key, to);
	} else if (drop_older(p, &key, a->lsn)) {
		to->deleted++;
	} else {
		to->older++;
		r = APPLY_OLDER;
	}
	if (p->w.limbo.n >= ENG_LIMBO_ENTRIES)
		(void)eng_room_sweep(e);
	return r;
}

void eng_apply_ask(struct eng *e, const struct eng_after *a, struct eng_applied *to)
{
	const struct eng_store *s = store_of(e, to, a->store_id);

	if (s && a->key_bytes)
		shm_pool_ask(&e->pool[s->pool_idx].w,
			shm_key_hash(a->key, a->key_bytes, e->ctl->hash_seed, s->id));
}

static void end_store(struct eng *e, struct eng_store *s, uint64_t version, struct eng_applied *to)
{
	struct eng_pool *p = &e->pool[s->pool_idx];
	uint64_t off[APPLY_VICTIMS], cursor = 0;
	struct shm_changed ch;

	do {
		uint32_t n = shm_pool_find_below(
			&p->w, &cursor, APPLY_CHAINS, s->id, version, off, APPLY_VICTIMS);
		for (uint32_t i = 0; i < n; i++)
			if (shm_pool_unlink_as(&p->w, off[i], 0, SHM_FEED_NONE, &ch) == 0)
				eng_store_lost(p, &ch, ENG_LOST_DELETED, e->now_ns);
		if (p->w.limbo.n >= ENG_LIMBO_ENTRIES)
			(void)eng_room_sweep(e);
		look_at_clocks(e, to);
	} while (cursor);
}

void eng_apply_end(struct eng *e, struct eng_applied *to)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (to->cleared_below[i] && e->store[i].id && !e->store[i].dropped)
			end_store(e, &e->store[i], to->cleared_below[i], to);
	if (to->max_lsn > shm_load_rlx(&e->ctl->lsn) && !MUTANT(721)) /* 721: LSNs begin below */
		shm_store_rlx(&e->ctl->lsn, to->max_lsn);
}

/* eng_store.c - stores and pools as the engine keeps them: who evicts what, and counters.
 *
 * Every live entry has a node in the policy of its store; the node's number is
 * the note of the entry's place (shm_alloc_note).  A note of 0 means: not live, in
 * limbo.  So a hostile hint that names a place in limbo touches nothing.
 *
 * Gauges (entries, live bytes) are counted anew by an adopting engine; the
 * counters that only grow go on from where they stand.
 */
#include "eng.h"
#include <errno.h>
#include "base/check.h"
#include "base/err.h"
#include "eng_probe.h"
#include "step.h"

enum { CHANGE_BEAT = 4096 }; /* entries that go over to another policy between two signs of life */

static void store_add(struct eng_store *s, uint64_t entries, uint64_t kv_bytes, uint64_t places)
{
	shm_count(&s->entry->counter[SHM_SC_entries], entries);
	shm_count(&s->entry->counter[SHM_SC_live_bytes], kv_bytes);
	shm_count(&s->entry->counter[SHM_SC_place_bytes], places);
}

int eng_store_policy(struct eng *e, const struct config_store *s, struct pol **ret)
{
	/* 239: the configuration's policy is not asked for */
	const struct pol_ops *ops = pol_find(MUTANT(239) ? "fifo" : s->policy);

	if (!ops)
		return err_new(-EINVAL);
	const struct pol_values values = config_params_values(s);
	return err_fwd(ops->new (ops, e->pool[s->pool_idx].bytes, &values, ret));
}

void eng_store_add(struct eng *e, uint32_t i, struct pol *pol)
{
	struct shm_store_entry *se = &e->ctl->store[i];

	e->store[i] = (struct eng_store){.id = shm_load_rlx(&se->id),
		.idx = i,
		.pool_idx = se->pool_idx,
		.pol = pol,
		.entry = se};
	eng_recent_store_begins(e, i);
	wheel_init(&e->store[i].wheel, e->now_ns / 1000000);
	shm_store_rlx(&se->counter[SHM_SC_entries], 0);
	shm_store_rlx(&se->counter[SHM_SC_live_bytes], 0);
	shm_store_rlx(&se->counter[SHM_SC_place_bytes], 0);
	shm_store_rlx(&se->counter[SHM_SC_void_entries], 0); /* adoption drops them */
}

static int store_open_one(struct eng *e, uint32_t i)
{
	struct shm_store_entry *se = &e->ctl->store[i];
	struct pol *pol;
	/* acq:entry.id */
	uint64_t id = shm_load_acq(&se->id);

	if (id == 0)
		return 0;
	const struct config_store *s = eng_config_store(e->config, id);
	if (se->pool_idx >= SHM_POOLS_MAX || !e->pool[se->pool_idx].base || !s ||
		s->pool_idx != se->pool_idx)
		return err_new(-EBADMSG);
	int r = eng_store_policy(e, s, &pol);
	if (r == -EINVAL)
		log_error("store %s: there is no eviction policy %s", s->name, s->policy);
	if (r < 0)
		return err_fwd(r);
	eng_store_add(e, i, pol);
	return 0;
}

int eng_store_open(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		int r = store_open_one(e, i);
		if (r < 0)
			return err_fwd(r);
	}
	return 0;
}

struct eng_store *eng_store_of(struct eng *e, uint64_t idx, uint64_t id)
{
	if (idx >= SHM_STORES_MAX || id == 0 || e->store[idx].id != id || e->store[idx].dropped)
		return NULL;
	return &e->store[idx];
}

struct eng_store *eng_store_by_id(struct eng *e, uint64_t id)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX && id; i++)
		if (e->store[i].id == id)
			return &e->store[i];
	return NULL;
}

void eng_store_drop(struct eng *e, struct eng_store *s)
{
	if (s->durability)
		eng_log_dropped(e, s);
	s->dropped = true;
	e->dropping = true;
	shm_count(&s->entry->epoch, 1);
	eng_store_cleared(&e->pool[s->pool_idx], s);
}

void eng_store_forget(struct eng *e)
{
	e->dropping = false;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct eng_store *s = &e->store[i];
		if (!s->dropped)
			continue;
		if (shm_load_rlx(&s->entry->counter[SHM_SC_void_entries])) {
			e->dropping = true;
			continue;
		}
		shm_store_rlx(&e->ctl->dropped_id[i], 0);
		s->pol->ops->free(s->pol);
		wheel_fini(&s->wheel);
		pol_ghost_fini(&s->ghost);
		eng_curve_end(s);
		eng_hot_end(s);
		*s = (struct eng_store){.id = 0};
		STEP("store:forgotten");
	}
}

bool eng_store_expired(const struct eng_pool *p, uint64_t off, uint64_t now_ns)
{
	uint64_t expiry = shm_load_rlx(&shm_pool_item(&p->w, off)->expiry_ns);

	return expiry && expiry <= now_ns;
}

static uint64_t kv_bytes(const struct shm_item *it)
{
	return shm_lens_key(it->lens) + shm_lens_value(it->lens);
}

static bool store_is_void(const struct eng_pool *p, const struct eng_store *s, uint64_t off)
{
	uint32_t now = (uint32_t)shm_load_rlx(&s->entry->epoch);

	return shm_pool_item(&p->w, off)->epoch != now && !MUTANT(103); /* 103: all count as live */
}

bool eng_store_is_void(const struct eng_pool *p, uint64_t off)
{
	const struct eng_store *s;

	if (p->n_void == 0)
		return false;
	s = eng_store_by_id(p->e, shm_pool_item(&p->w, off)->store_id);
	return s && store_is_void(p, s, off);
}

void eng_store_cleared(struct eng_pool *p, struct eng_store *s)
{
	shm_u64 *counter = s->entry->counter;
	uint64_t entries = shm_load_rlx(&counter[SHM_SC_entries]);

	shm_count(&counter[SHM_SC_cleared], entries);
	shm_count(&counter[SHM_SC_void_entries], entries);
	shm_store_rlx(&counter[SHM_SC_entries], 0);
	shm_store_rlx(&counter[SHM_SC_live_bytes], 0);
	p->n_void += entries;
	p->void_bytes += shm_load_rlx(&counter[SHM_SC_place_bytes]);
	shm_store_rlx(&counter[SHM_SC_place_bytes], 0);
	p->e->purging |= entries > 0;
}

/* An entry of s has left the counts that it was in.  True: it was a void one. */
static bool store_take(struct eng_pool *p, struct eng_store *s, const struct shm_changed *ch)
{
	uint64_t place_bytes = ch->old_place_bytes;

	if (!store_is_void(p, s, ch->old_off)) {
		store_add(s, -(uint64_t)1, -ch->old_kv_bytes, -place_bytes);
		return false;
	}
	CHECK(p->n_void > 0 && p->void_bytes >= place_bytes);
	p->n_void--;
	p->void_bytes -= place_bytes;
	shm_count(&s->entry->counter[SHM_SC_void_entries], -(uint64_t)1);
	return true;
}

static const enum shm_store_counter evicted_by[ENG_LOST_N] = {
	[ENG_LOST_LIMIT] = SHM_SC_evicted_limit,
	[ENG_LOST_PRESSURE] = SHM_SC_evicted_pressure,
	[ENG_LOST_FULL] = SHM_SC_evicted_full,
	[ENG_LOST_GIVEN] = SHM_SC_evicted_given,
	[ENG_LOST_ASIDE] = SHM_SC_evicted_aside,
	[ENG_LOST_SHRUNK] = SHM_SC_evicted_shrunk,
	[ENG_LOST_INDEX] = SHM_SC_evicted_index,
};

/* How long ago the entry at off was written; what lies in the future is now. */
static void evicted_age(const struct eng_pool *p, uint64_t off)
{
	uint64_t now_ns = eng_wall_ns(), was_ns = shm_pool_item(&p->w, off)->modified_ns;

	shm_hist_add(&p->e->ctl->hist[SHM_HG_evicted_age], now_ns > was_ns && !MUTANT(831)
								   ? (now_ns - was_ns) / 1000000
								   : 0); /* 831: none has an age */
}

void eng_store_lost(
	struct eng_pool *p, const struct shm_changed *ch, enum eng_lost how, uint64_t now_ns)
{
	struct eng_store *s = eng_store_by_id(p->e, ch->old_store_id);
	uint32_t *note = shm_alloc_note(p->w.alloc, ch->old_off);
	bool expired = eng_store_expired(p, ch->old_off, now_ns);

	CHECK(s != NULL); /* adoption drops entries of no store */
	bool was_void = store_take(p, s, ch);
	bool evicted = how >= ENG_LOST_LIMIT && !expired && !was_void;
	if (*note != POL_NONE) {
		wheel_drop(&s->wheel, *note);
		s->pol->ops->remove(s->pol, *note, evicted);
	}
	if (!evicted)
		eng_curve_gone(p, s, ch->old_off);
	*note = POL_NONE;
	if (was_void)
		return;
	if ((expired && PROBE_ON(expire)) || (evicted && PROBE_ON(evict)))
		eng_probe_lost(p, s, ch->old_off, how, expired, now_ns);
	if (expired) {
		shm_count(&s->entry->counter[SHM_SC_expired], 1);
	} else if (how >= ENG_LOST_LIMIT) {
		if (how != ENG_LOST_LIMIT) /* more of the pool would not have helped */
			eng_worth_evicted(s, shm_pool_item(&p->w, ch->old_off)->hash);
		if (s->durability)
			eng_log_evicted(p->e, s, shm_pool_item(&p->w, ch->old_off));
		shm_count(&s->entry->counter[SHM_SC_evicted], 1);
		if (!MUTANT(320)) /* 320: nobody asks why */
			shm_count(&s->entry->counter[evicted_by[how]], 1);
		shm_count(&p->w.entry->counter[SHM_PC_evicted_entries], 1);
		evicted_age(p, ch->old_off);
	}
}

/* CLOCK_REALTIME of the past as ms of the engine's clock; what lies in the future is now. */
static uint64_t past_ms(const struct eng *e, uint64_t wall_ns, uint64_t wall_now_ns)
{
	uint64_t ago_ms = wall_now_ns > wall_ns ? (wall_now_ns - wall_ns) / 1000000 : 0;
	uint64_t now_ms = e->now_ns / 1000000;

	return now_ms > ago_ms ? now_ms - ago_ms : 0;
}

void eng_store_restore(const struct eng_pool *p, const struct eng_store *s, uint64_t off)
{
	const struct shm_item *it = shm_pool_item(&p->w, off);
	uint32_t node = *shm_alloc_note(p->w.alloc, off);
	uint64_t now_ms = p->e->now_ns / 1000000,
		 used_ms = shm_load_rlx(&it->access) >> SHM_ACCESS_MS_SHIFT;

	if (!s->pol->ops->restore || node == POL_NONE)
		return;
	uint64_t wall_ns = eng_wall_ns(), written_ms = past_ms(p->e, it->modified_ns, wall_ns);
	if (used_ms < written_ms || used_ms > now_ms)
		used_ms = written_ms;
	s->pol->ops->restore(s->pol, node, past_ms(p->e, it->created_ns, wall_ns), used_ms);
}

/* Gives the entry at off to the policy, to the wheel, and as this use to the curve.  0 or -ENOMEM. */
static int store_insert(struct eng_pool *p, struct eng_store *s, uint64_t off, uint64_t place_bytes,
	enum pol_shadow_use use, uint64_t now_ms)
{
	uint32_t node = POL_NONE;
	int r = s->pol->ops->insert(
		s->pol, shm_pool_item(&p->w, off)->hash, off, place_bytes, now_ms, &node);

	if (r < 0)
		return err_fwd(r);
	*shm_alloc_note(p->w.alloc, off) = node;
	eng_expiry_set(p, s, off, node);
	eng_curve_use(p, s, use, off, now_ms);
	return 0;
}

/* The policy's node goes from the old place to the new one (pol.h).  False: there was none. */
static bool store_replace(
	struct eng_pool *p, struct eng_store *s, const struct shm_changed *ch, uint64_t now_ms)
{
	uint32_t *old = shm_alloc_note(p->w.alloc, ch->old_off), node = *old;

	if (node == POL_NONE)
		return false;
	*old = POL_NONE;
	*shm_alloc_note(p->w.alloc, ch->off) = node;
	s->pol->ops->replace(s->pol, node, ch->off, ch->place_bytes, now_ms);
	eng_expiry_set(p, s, ch->off, node);
	eng_curve_use(p, s, POL_SHADOW_WRITE, ch->off, now_ms);
	return true;
}

int eng_store_got(
	struct eng_pool *p, struct eng_store *s, const struct shm_changed *ch, uint64_t now_ns)
{
	store_add(s, 1, kv_bytes(shm_pool_item(&p->w, ch->off)), ch->place_bytes);
	if (ch->old_off && store_is_void(p, s, ch->old_off)) {
		eng_store_lost(p, ch, ENG_LOST_DELETED, now_ns); /* nothing of it goes on */
	} else if (ch->old_off) {
		bool over = eng_store_expired(p, ch->old_off, now_ns);
		(void)store_take(p, s, ch);
		if (over)
			shm_count(&s->entry->counter[SHM_SC_expired], 1);
		if (store_replace(p, s, ch, now_ns / 1000000)) {
			if (over) /* it begins anew */
				eng_store_restore(p, s, ch->off);
			return 0;
		}
	} else {
		eng_worth_written(s, shm_pool_item(&p->w, ch->off)->hash);
	}
	int r = store_insert(p, s, ch->off, ch->place_bytes, POL_SHADOW_INSERT, now_ns / 1000000);
	if (r < 0) {
		/* Nothing could ever evict it: it goes at once, as a cache may. */
		log_warn(
			"store %s: no memory for the policy; an entry was evicted", s->entry->name);
		(void)eng_room_remove(p, ch->off, ENG_LOST_INDEX);
	}
	return r;
}

int eng_store_victim(struct eng_pool *p, struct eng_store *s, uint64_t *ret_off)
{
	/* 296: what is spared goes like the rest */
	s->pol->pressed = s->at_limit || (p->hard && eng_pressure_is_full(p)) || MUTANT(296);
	int r = s->pol->ops->victim(s->pol, p->e->now_ns / 1000000, ret_off);
	if (s->pol->odd && !s->told_odd) {
		s->told_odd = true;
		log_warn("store %s: policy %s proposes what is no entry: what came first goes "
			 "instead",
			s->entry->name, s->pol->ops->name);
	}
	return r;
}

bool eng_store_spares(struct eng_pool *p, struct eng_store *s, uint64_t off)
{
	uint32_t note = *shm_alloc_note(p->w.alloc, off);

	if (!s->pol->ops->spared || note == POL_NONE)
		return false;
	s->pol->pressed = s->at_limit || (p->hard && eng_pressure_is_full(p));
	return s->pol->ops->spared(s->pol, note, p->e->now_ns / 1000000);
}

/* The entry of s at off leaves `old` and comes to s->pol. */
static void store_go_over(struct eng_pool *p, struct eng_store *s, struct pol *old, uint64_t off)
{
	uint32_t *note = shm_alloc_note(p->w.alloc, off);
	uint64_t place_bytes = shm_alloc_place_bytes(p->w.alloc, off);

	CHECK(*note != POL_NONE);
	old->ops->remove(old, *note, 0);
	*note = POL_NONE;
	STEP("store:going-over");
	if (store_insert(p, s, off, place_bytes, POL_SHADOW_FILL, p->e->now_ns / 1000000) == 0) {
		eng_store_restore(p, s, off);
		return;
	}
	log_warn("store %s: no memory for the policy; an entry was evicted", s->entry->name);
	(void)eng_room_remove(p, off, ENG_LOST_INDEX);
}

void eng_store_change(struct eng *e, struct eng_store *s, struct pol *pol)
{
	struct eng_pool *p = &e->pool[s->pool_idx];
	struct pol *old = s->pol;
	struct wheel was = s->wheel; /* its numbers are the old policy's nodes */
	uint64_t off, n = 0;

	s->pol = pol;
	eng_curve_end(s);
	wheel_init(&s->wheel, e->now_ns / 1000000);
	old->pressed = true;
	while ((old->ops->first ? old->ops->first : old->ops->victim)(
		       old, e->now_ns / 1000000, &off) == 0) {
		store_go_over(p, s, old, off);
		if (++n % CHANGE_BEAT == 0) /* it is long, but no hang */
			shm_store_rlx(&e->ctl->heartbeat_ns, eng_clock_ns());
	}
	old->ops->free(old);
	wheel_fini(&was);
}

void eng_store_moved(struct eng_pool *p, uint64_t off, uint64_t to)
{
	struct eng_store *s = eng_store_by_id(p->e, shm_pool_item(&p->w, to)->store_id);
	uint32_t note = *shm_alloc_note(p->w.alloc, to);
	uint64_t had = shm_alloc_place_bytes(p->w.alloc, off);
	uint64_t has = shm_alloc_place_bytes(p->w.alloc, to);

	CHECK(s != NULL && note != POL_NONE);
	if (has == had)
		s->pol->ops->moved(s->pol, note, to);
	else /* it had pages of its own for want of a slab, or has them now */
		s->pol->ops->replace(s->pol, note, to, has, p->e->now_ns / 1000000);
	store_add(s, 0, 0, has - had);
	shm_count(&p->w.entry->counter[SHM_PC_moved_entries], 1);
}

uint64_t eng_store_spare(const struct eng_store *s)
{
	uint64_t has = shm_load_rlx(&s->entry->counter[SHM_SC_place_bytes]);
	uint64_t guaranteed = shm_load_rlx(&s->entry->guaranteed_bytes);

	return has > guaranteed ? has - guaranteed : 0;
}

void eng_store_adopted(void *arg, uint64_t off, const struct shm_item *item)
{
	struct eng_pool *p = arg;
	if (!item) {
		shm_store_rlx(&p->e->ctl->heartbeat_ns, eng_clock_ns());
		return;
	}
	struct eng_store *s = eng_store_by_id(p->e, item->store_id);

	CHECK(s != NULL);
	uint64_t place_bytes = shm_alloc_place_bytes(p->w.alloc, off);
	store_add(s, 1, kv_bytes(item), place_bytes);
	int r = store_insert(p, s, off, place_bytes, POL_SHADOW_FILL, p->e->now_ns / 1000000);
	if (r == 0)
		eng_store_restore(p, s, off);
	else
		p->adopt_error =
			r; /* the engine ends: an entry that nobody can evict is not served */
}

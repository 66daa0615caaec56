/* eng_config.c - a new configuration, taken over whole; and the directory of stores.
 *
 *   what can fail   free places in the directory, policies for new stores, stores in use, new pools
 *   TAKEN           from here on whoever comes after this engine has the new one too
 *   what cannot     values; dropped stores leave the directory; new ones enter it
 *   DONE
 *
 * A store is who has its id: the supervisor gives ids and never gives one twice (rule P10).  So the
 * directory can be compared with the configuration, and an engine that starts makes the one what
 * the other says, wherever its predecessor died.
 *
 * A dropped store leaves the directory at once: reads and writes answer HC_E_NO_STORE.  Its entries are
 * void and go as those of a cleared one do (eng_purge.c); until the last has gone its place in the directory stays
 * empty, and names the id for the checker.
 */
#include <errno.h>
#include <string.h>
#include "admin.h"
#include "base/check.h"
#include "base/err.h"
#include "config_value.h"
#include "eng.h"
#include "step.h"
#include "sup_control.h"

const struct config_store *eng_config_store(const struct config *c, uint64_t id)
{
	for (uint32_t i = 0; i < c->n_stores; i++)
		if (c->store[i].id == id)
			return &c->store[i];
	return NULL;
}

/* A free place of the directory that is not in `taken`; SHM_STORES_MAX: none.  Those that were
 * free for longest come first: who read the old name there has gone on. */
static uint32_t free_place(struct eng *e, uint64_t taken)
{
	for (uint32_t n = 0; n < SHM_STORES_MAX; n++) {
		uint32_t i = (e->store_next + n) % SHM_STORES_MAX;
		if (shm_load_rlx(&e->ctl->store[i].id) == 0 && e->store[i].id == 0 &&
			!(taken >> i & 1)) {
			e->store_next = i + 1;
			return i;
		}
	}
	return SHM_STORES_MAX;
}

static void place_empty(struct eng *e, uint32_t i)
{
	struct shm_store_entry *se = &e->ctl->store[i];

	shm_store_rlx(&e->ctl->dropped_id[i], shm_load_rlx(&se->id));
	shm_store_rlx(&se->guaranteed_bytes, 0);
	shm_store_rel(&se->id, 0); /* rel:entry.id */
	STEP("config:dropped");
}

/* Who still reads what stood here sees the id gone before the first word of the new. */
static void place_fill(struct eng *e, uint32_t i, const struct config_store *s)
{
	struct shm_store_entry *se = &e->ctl->store[i];

	shm_reuse_begins(); /* rel:entry.reuse */
	shm_store_rlx(&se->epoch, 0);
	for (uint32_t n = 0; n < SHM_COUNTERS_MAX; n++)
		shm_store_rlx(&se->counter[n], 0);
	if (!MUTANT(184)) /* 184: what was read of the former store counts for this one */
		eng_fold_forget(e, i);
	memset(se->name, 0, sizeof se->name);
	memset(se->policy, 0, sizeof se->policy);
	sup_control_store_put(se, s);
	STEP("config:created");
}

/* Whose entry it is the id says; what else never changes is made as it was.  True: something was not. */
static bool place_mend(struct shm_store_entry *se, const struct config_store *s)
{
	if (MUTANT(771) || /* 771: what a dying engine wrote there stays */
		(se->pool_idx == s->pool_idx && se->type == s->type &&
			memcmp(se->name, s->name, sizeof se->name) == 0))
		return false;
	SHM_ASSERT(sizeof se->name == sizeof s->name);
	memcpy(se->name, s->name, sizeof se->name);
	se->pool_idx = s->pool_idx;
	se->type = s->type;
	return true;
}

void eng_config_start(struct eng *e)
{
	if (MUTANT(185)) /* 185: the directory stays as a dead engine left it */
		return;
	uint64_t there = 0; /* bit i: the configuration's store i has a place */
	uint32_t n_mended = 0;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		uint64_t id = shm_load_rlx(&e->ctl->store[i].id);
		const struct config_store *s = id ? eng_config_store(e->config, id) : NULL;
		if (s) {
			there |= UINT64_C(1) << (s - e->config->store);
			n_mended += place_mend(&e->ctl->store[i], s);
		} else if (id) {
			eng_feed_drop(e, i, place_empty);
		}
	}
	if (n_mended)
		log_error("what the directory says of %u stores was not as it was made: an engine "
			  "scribbled over it; it is as before",
			n_mended);
	sup_control_update(e->ctl, e->config);
	for (uint32_t k = 0; k < e->config->n_stores; k++) {
		if (there >> k & 1)
			continue;
		uint32_t i = free_place(e, 0);
		CHECK(i < SHM_STORES_MAX); /* there are as many places as stores can be */
		place_fill(e, i, &e->config->store[k]);
	}
}

void eng_config_adopted(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		shm_store_rlx(&e->ctl->dropped_id[i], 0);
}

/* ------------------------------------------------------------- while it runs */

/* What new stores need, by their index in the configuration. */
struct prepared {
	uint32_t n;
	struct {
		const struct config_store *s;
		uint32_t place;
		struct pol *pol;
	} store[CONFIG_STORES_MAX];
	uint32_t n_changes;
	struct {
		struct eng_store *s;
		struct pol *pol;
	} change[CONFIG_STORES_MAX]; /* other policies, or other parameters */
};

static void answer(struct eng *e, const struct sup_msg *m)
{
	e->config_answer = *m;
	e->config_unsent = eng_sup_send_msg(e, m) < 0;
}

void eng_config_tick(struct eng *e)
{
	if (e->config_unsent)
		answer(e, &e->config_answer);
}

static bool has_other_policy(const struct config *was, const struct config_store *is)
{
	const struct config_store *s = eng_config_store(was, is->id);

	return s &&
	       (strcmp(s->policy, is->policy) != 0 ||
		       memcmp(&s->policy_params, &is->policy_params, sizeof s->policy_params) != 0);
}

/* 0, or why not: enum admin_refusal. */
static int prepare(struct eng *e, const struct config *next, struct prepared *p)
{
	uint64_t taken = 0;

	for (uint32_t i = 0; i < next->n_stores; i++) {
		const struct config_store *s = &next->store[i];
		struct eng_store *there = eng_store_by_id(e, s->id);
		struct config_fault f;
		if (there && !has_other_policy(e->config, s))
			continue;
		if (config_params_check(next, i, &f)) { /* of a module; else it has been seen */
			log_error("store %s: %s: %s", s->name, f.key->name, f.why);
			return ADMIN_R_CONFIG;
		}
		if (there) {
			p->change[p->n_changes].s = there;
			if (eng_store_policy(e, s, &p->change[p->n_changes].pol) < 0)
				return ADMIN_R_NO_MEMORY;
			p->n_changes++;
			continue;
		}
		p->store[p->n].s = s;
		p->store[p->n].place = free_place(e, taken);
		if (p->store[p->n].place == SHM_STORES_MAX)
			return ADMIN_R_FULL;
		taken |= UINT64_C(1) << p->store[p->n].place;
		if (eng_store_policy(e, s, &p->store[p->n].pol) < 0)
			return ADMIN_R_NO_MEMORY;
		p->n++;
	}
	return 0;
}

static void prepared_free(struct prepared *p)
{
	for (uint32_t i = 0; i < p->n; i++)
		p->store[i].pol->ops->free(p->store[i].pol);
	for (uint32_t i = 0; i < p->n_changes; i++)
		p->change[i].pol->ops->free(p->change[i].pol);
}

/* The first store that would go and holds entries, or NULL. */
static const struct eng_store *in_use(const struct eng *e, const struct config *next)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct eng_store *s = &e->store[i];
		if (s->id && !s->dropped && !eng_config_store(next, s->id) &&
			shm_load_rlx(&s->entry->counter[SHM_SC_entries]) &&
			!MUTANT(180)) /* 180: whatever it holds, a store may go */
			return s;
	}
	return NULL;
}

void eng_config_stores(struct eng *e)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct eng_store *s = &e->store[i];
		const struct config_store *is = s->id ? eng_config_store(e->config, s->id) : NULL;
		if (!is)
			continue;
		s->max_value_bytes = is->max_value_bytes;
		s->jitter_ppm = is->ttl_jitter_ppm;
		s->what_if = is->what_if;
		s->durability = e->log ? is->durability : CONFIG_DURABILITY_NONE;
		s->loss_window_ns = is->loss_window_ns;
		s->log_id = eng_log_id(is->name);
	}
}

/* The pools that come.  0, or why not. */
static int pools_begin(struct eng *e, const struct sup_config_msg *m)
{
	uint32_t n = e->config->n_pools;

	for (uint32_t i = n; i < m->config.n_pools; i++) {
		int r = eng_pool_begin(e, &m->config, i, m->msg.pool_id + i - n);
		if (r < 0) {
			(void)log_fail(
				r, "pool %s cannot be taken into use", m->config.pool[i].name);
			return ADMIN_R_NO_MEMORY;
		}
	}
	return 0;
}

static void pools_forget(struct eng *e, const struct config *next)
{
	for (uint32_t i = e->config->n_pools; i < next->n_pools; i++)
		eng_pool_forget(e, i);
}

/* Cannot fail; one turn of the engine: no request sees a half of it. */
static void apply(struct eng *e, const struct sup_config_msg *m, const struct prepared *p)
{
	const struct config *next = &m->config;

	for (uint32_t i = e->config->n_pools; i < next->n_pools; i++)
		sup_control_pool_enter(&e->ctl->pool[i], m->msg.pool_id + i - e->config->n_pools);
	e->h->config = *next;
	log_set_level(next->log_level);
	for (uint32_t i = 0; i < next->n_pools; i++)
		e->pool[i].limbo_cap_bytes = next->pool[i].limbo_cap_bytes;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct eng_store *s = &e->store[i];
		const struct config_store *is = s->id ? eng_config_store(next, s->id) : NULL;
		if (s->id && !is && !s->dropped) {
			eng_feed_drop(e, i, place_empty);
			eng_store_drop(e, s);
		}
	}
	sup_control_update(e->ctl, next);
	STEP("config:half");
	for (uint32_t i = 0; i < p->n; i++) {
		place_fill(e, p->store[i].place, p->store[i].s);
		eng_store_add(e, p->store[i].place, p->store[i].pol);
	}
	for (uint32_t i = 0; i < p->n_changes && !MUTANT(299);
		i++) /* 299: only said to be changed */
		eng_store_change(e, p->change[i].s, p->change[i].pol);
	eng_config_stores(e);
}

void eng_config_take(struct eng *e, const struct sup_config_msg *m)
{
	struct prepared p = {.n = 0};
	struct sup_msg say = {.kind = SUP_MSG_CONFIG_REFUSED, .id = m->msg.id};
	const struct eng_store *used = m->msg.force ? NULL : in_use(e, &m->config);

	if (used) {
		say.refusal = ADMIN_R_IN_USE;
		say.store_id = used->id;
		say.n = shm_load_rlx(&used->entry->counter[SHM_SC_entries]);
	} else if (!eng_resize_possible(e, &m->config, &say.slot, &say.n)) {
		say.refusal = ADMIN_R_MEMORY;
	} else {
		say.refusal = (uint32_t)prepare(e, &m->config, &p);
		if (!say.refusal)
			say.refusal = (uint32_t)pools_begin(e, m);
	}
	STEP("config:prepared");
	if (!say.refusal) {
		say.kind = SUP_MSG_CONFIG_TAKEN;
		if (eng_sup_send_msg(e, &say) < 0) { /* nobody would know: not now */
			say.kind = SUP_MSG_CONFIG_REFUSED;
			say.refusal = ADMIN_R_NO_MEMORY;
		}
	}
	if (say.refusal) {
		prepared_free(&p);
		pools_forget(e, &m->config);
		answer(e, &say);
		return;
	}
	STEP("config:taken");
	apply(e, m, &p);
	STEP("config:applied");
	say.kind = SUP_MSG_CONFIG_DONE;
	answer(e, &say);
}

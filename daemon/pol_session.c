/* pol_session.c - for sessions: what users leave behind while they come back.
 *
 *   born   -----------------------------------------------------------------------> now
 *             | past its time: first to go  | idle: next, the longest  | oldest | in grace
 *
 * A session begins with its first set; a hit or an overwrite is activity.  Who goes:
 *
 *   1  the oldest, if it began longer than `ttl` ago
 *   2  the one without activity for longest, if that is at least `idle`
 *   3  the oldest, if it began longer than `grace` ago
 *   4  the oldest of all, if the engine says that there is no other way (pol.pressed)
 *
 * So a session is safe for its first moments, when nobody can tell yet whether it will be used, and the
 * memory that a flood of new ones can take has the pool's limit.  No entry is looked through: each question
 * is for the first of one of two orders, by the beginning and by the last activity (pol_days.h).
 *
 * What an engine finds when it takes over has its stamps (restore): within one day of pol_days.h, which is
 * 1/1024 of the longest of the three times, the order of what came before may then be by chance, and what
 * is in grace stays so to the millisecond.
 *
 * Memory: 48 bytes an entry and 100 KiB.  An entry is node i of `born` (word: where it is) and of `used`
 * (word: last activity in ms, times 16; so that any 60 bits fit); the two `extra` are the low and high half
 * of its beginning in ms.
 *
 * Invariants: those of pol_days.h for both orders; 4: both have the same nodes.
 */
#define _GNU_SOURCE
#include "pol_session.h"
#include <stdlib.h>
#include "base/err.h"
#include "pol_days.h"
#include "step.h"

#define MS_NS 1000000ull
#define SECOND_NS 1000000000ull
#define DAY_NS (86400 * SECOND_NS)

enum param { TTL_NS, IDLE_NS, GRACE_NS, N_PARAMS };

static const struct pol_param params[N_PARAMS] = {
	[TTL_NS] = {"ttl", POL_T_DURATION, SECOND_NS, 36500 * DAY_NS, 1800 * SECOND_NS, "",
		"A session that began longer ago is the first to go. When it ends is said by the "
		"ttl of "
		"the store, or of its writer."},
	[IDLE_NS] = {"idle", POL_T_DURATION, SECOND_NS, 36500 * DAY_NS, 600 * SECOND_NS, "",
		"A session without a read or a write for so long is the next to go."},
	[GRACE_NS] = {"grace", POL_T_DURATION, 0, 36500 * DAY_NS, 120 * SECOND_NS, "",
		"A session that began less long ago does not go below pressure_full."},
};

struct session {
	struct pol pol;
	struct pol_nodes born_nodes, used_nodes;
	struct pol_days born, used;
	uint64_t ttl_ms, idle_ms, grace_ms;
	struct pol_stats st;
};

static struct session *self(struct pol *p) { return (struct session *)(void *)p; }
static const struct session *self_const(const struct pol *p)
{
	return (const struct session *)(const void *)p;
}

static uint64_t born_of(const void *s, uint32_t i)
{
	const struct session *me = s;

	return (uint64_t)pol_node(&me->used_nodes, i)->extra << 32 |
	       pol_node(&me->born_nodes, i)->extra;
}

static uint64_t used_of(const void *s, uint32_t i)
{
	return pol_node_off(pol_node(&((const struct session *)s)->used_nodes, i)) / SHM_UNIT;
}

static uint64_t since(uint64_t ms, uint64_t now_ms) { return now_ms > ms ? now_ms - ms : 0; }

static const char *session_check(const struct pol_values *v)
{
	if (v->v[GRACE_NS] > v->v[IDLE_NS])
		return "grace is longer than idle: what is new would be idle; use a shorter grace, "
		       "or a "
		       "longer idle";
	if (v->v[IDLE_NS] > v->v[TTL_NS])
		return "idle is longer than ttl, so nothing would ever be idle; use a shorter "
		       "idle, or a "
		       "longer ttl";
	return NULL;
}

static uint64_t session_told_ns(const struct pol_values *v) { return v->v[IDLE_NS]; }

static int session_new(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
	struct pol **ret)
{
	const struct pol_values v = values ? *values : pol_defaults(ops);
	struct session *s = calloc(1, sizeof *s);

	(void)bytes;
	if (!s)
		return err_new(-ENOMEM);
	s->pol.ops = ops;
	s->ttl_ms = v.v[TTL_NS] / MS_NS;
	s->idle_ms = v.v[IDLE_NS] / MS_NS;
	s->grace_ms = v.v[GRACE_NS] / MS_NS;
	pol_days_init(&s->born, s->ttl_ms / (POL_DAYS / 2) + 1); /* the longest of the three */
	pol_days_init(&s->used, s->ttl_ms / (POL_DAYS / 2) + 1);
	*ret = &s->pol;
	return 0;
}

static void session_free(struct pol *p)
{
	if (!p)
		return;
	pol_nodes_fini(&self(p)->born_nodes);
	pol_nodes_fini(&self(p)->used_nodes);
	free(self(p));
}

/* A node in both, of one number: both are asked for nodes in the same order. */
static int nodes_new(
	struct session *s, uint64_t off, uint64_t bytes, uint64_t now_ms, uint32_t *ret)
{
	uint32_t i, k;
	int r = pol_node_new(&s->born_nodes, off, bytes, (uint32_t)now_ms, &i);

	if (r < 0)
		return err_fwd(r);
	r = pol_node_new(&s->used_nodes, now_ms * SHM_UNIT, bytes, (uint32_t)(now_ms >> 32), &k);
	if (r < 0) {
		pol_node_free(&s->born_nodes, i);
		return err_fwd(r);
	}
	CHECK(i == k);
	*ret = i;
	return 0;
}

static int session_insert(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes,
	uint64_t now_ms, uint32_t *ret_node)
{
	struct session *s = self(p);
	int r = nodes_new(s, off, bytes, now_ms, ret_node);

	(void)hash;
	if (r < 0)
		return err_fwd(r);
	pol_days_push(&s->born, &s->born_nodes, *ret_node, now_ms);
	pol_days_push(&s->used, &s->used_nodes, *ret_node, now_ms);
	s->st.inserts++;
	return 0;
}

static void use(struct session *s, uint32_t i, uint64_t ms)
{
	uint64_t was = used_of(s, i);

	if (ms <= was || MUTANT(292)) /* 292: nobody is ever active */
		return;
	pol_days_pull(&s->used, &s->used_nodes, i, was);
	pol_node_set_off(pol_node(&s->used_nodes, i), ms * SHM_UNIT);
	pol_days_push(&s->used, &s->used_nodes, i, ms);
}

static void session_restore(struct pol *p, uint32_t node, uint64_t born_ms, uint64_t used_ms)
{
	struct session *s = self(p);
	struct pol_node *b = pol_node_used(&s->born_nodes, node);
	struct pol_node *u = pol_node_used(&s->used_nodes, node);

	if (MUTANT(293)) /* 293: what an engine finds is new to it */
		return;
	pol_days_pull(&s->born, &s->born_nodes, node, born_of(s, node));
	pol_days_pull(&s->used, &s->used_nodes, node, used_of(s, node));
	b->extra = (uint32_t)born_ms;
	u->extra = (uint32_t)(born_ms >> 32);
	pol_node_set_off(u, (used_ms > born_ms ? used_ms : born_ms) * SHM_UNIT);
	pol_days_push(&s->born, &s->born_nodes, node, born_ms);
	pol_days_push(&s->used, &s->used_nodes, node, used_of(s, node));
}

static void session_moved(struct pol *p, uint32_t node, uint64_t off)
{
	pol_node_set_off(pol_node_used(&self(p)->born_nodes, node), off);
}

static void session_replace(
	struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct session *s = self(p);

	session_moved(p, node, off);
	pol_days_resize(&s->born, &s->born_nodes, node, born_of(s, node), bytes);
	pol_days_resize(&s->used, &s->used_nodes, node, used_of(s, node), bytes);
	use(s, node, now_ms);
}

static void session_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	struct session *s = self(p);

	(void)pol_node_used(&s->used_nodes, node);
	use(s, node, now_ms);
	s->st.touches++;
}

static uint64_t session_where(const struct pol *p, uint32_t node)
{
	return pol_node_off(pol_node_used(&self_const(p)->born_nodes, node));
}

static void session_ahead(const struct pol *p, uint32_t node)
{
	__builtin_prefetch(pol_node(&self_const(p)->born_nodes, node));
	__builtin_prefetch(pol_node(&self_const(p)->used_nodes, node));
}

static void session_remove(struct pol *p, uint32_t node, int evicted)
{
	struct session *s = self(p);

	(void)evicted;
	(void)pol_node_used(&s->born_nodes, node);
	uint64_t born_ms = born_of(s, node);
	pol_days_pull(&s->born, &s->born_nodes, node, born_ms);
	pol_days_pull(&s->used, &s->used_nodes, node, used_of(s, node));
	pol_node_free(&s->born_nodes, node);
	pol_node_free(&s->used_nodes, node);
	s->st.removes++;
}

/* Who goes next, as the drawing says; POL_NONE: nobody. */
static uint32_t propose(const struct session *s, uint64_t now_ms)
{
	uint32_t oldest = pol_days_oldest(&s->born), idle = pol_days_oldest(&s->used);

	if (!oldest)
		return POL_NONE;
	uint64_t age_ms = since(born_of(s, oldest), now_ms);
	if (age_ms >= s->ttl_ms && !MUTANT(294)) /* 294: the idle go before those past their time */
		return oldest;
	if (since(used_of(s, idle), now_ms) >= s->idle_ms)
		return idle;
	if (age_ms >= s->grace_ms || s->pol.pressed || MUTANT(295)) /* 295: there is no grace */
		return oldest;
	return POL_NONE;
}

static int session_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct session *s = self(p);
	uint32_t i = propose(s, now_ms);

	if (i == POL_NONE)
		return 1;
	*ret_off = pol_node_off(pol_node(&s->born_nodes, i));
	s->st.victims++;
	return 0;
}

static bool session_spared(const struct pol *p, uint32_t node, uint64_t now_ms)
{
	const struct session *s = self_const(p);

	(void)pol_node_used(&s->born_nodes, node);
	return !p->pressed && since(born_of(s, node), now_ms) < s->grace_ms;
}

static void session_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct session *s = self_const(p);

	*ret = s->st;
	ret->entries = s->born.n;
	ret->bytes = s->born.units * SHM_UNIT;
	ret->private_bytes = sizeof *s + pol_nodes_bytes(&s->born_nodes) +
	                     pol_nodes_bytes(&s->used_nodes);
}

static int session_verify(const struct pol *p)
{
	const struct session *s = self_const(p);
	int r = pol_days_verify(&s->born, &s->born_nodes, born_of, s);

	if (r == 0)
		r = pol_days_verify(&s->used, &s->used_nodes, used_of, s);
	if (r == 0)
		r = pol_nodes_verify(&s->born_nodes, s->born.n);
	if (r == 0)
		r = pol_nodes_verify(&s->used_nodes, s->used.n);
	return r ? r : s->born.n == s->used.n && s->born.units == s->used.units ? 0 : 4;
}

const struct pol_ops pol_session = {
	.name = "session",
	.meaning = "who is past its time goes, then who is idle, then the oldest, but nobody who "
		   "is new "
		   "(for sessions)",
	.params = params,
	.n_params = N_PARAMS,
	.check = session_check,
	.told_ns = session_told_ns,
	.new = session_new,
	.free = session_free,
	.insert = session_insert,
	.restore = session_restore,
	.replace = session_replace,
	.touch = session_touch,
	.remove = session_remove,
	.moved = session_moved,
	.where = session_where,
	.ahead = session_ahead,
	.victim = session_victim,
	.spared = session_spared,
	.stats = session_stats,
	.verify = session_verify,
};

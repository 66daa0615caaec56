/* eng_feed.c - the change feed as the engine keeps it: its time, its readers, stores that are dropped.
 *
 * What is said of an entry is said where it changes (shm/pool.c, shm/pool_set.c), in the same change.  Here is what
 * belongs to a turn: entries have the time at which it began, and who waits is woken once at its end: at the futex, and by
 * an answer on a connection of his own, which a poll loop watches (op_hello.c).
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "eng.h"
#include "hypercache.h"
#include "op.h"
#include "step.h"

void eng_feed_opened(struct eng_pool *p)
{
	const struct shm_wfeed *f = &p->w.feed;

	if (f->was_damaged)
		log_warn("pool %s: its change feed was damaged: what it held is cut off, its "
			 "readers "
			 "have to begin anew",
			p->w.entry->name);
	if (!f->f && p->w.entry->feed_bytes)
		log_warn("pool %s: there is no room for its change feed now", p->w.entry->name);
}

void eng_feed_time(struct eng *e)
{
	uint64_t now_ns = 0;

	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		struct shm_wfeed *f = &e->pool[i].w.feed;
		if (!f->f)
			continue;
		now_ns = now_ns ? now_ns : eng_wall_ns();
		f->time_ns = now_ns;
	}
}

static void wake(struct shm_wfeed *f)
{
	f->woken = f->head;
	(void)syscall(SYS_futex, &f->f->head, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ------------------------------------------------------------ poll loops */

int eng_feed_watch(struct eng_conn *c, struct eng_session *s, struct eng_pool *p, uint64_t pos)
{
	struct eng *e = c->e;

	if (!p->w.feed.f)
		return HC_E_NO_FEED;
	if (c->watch_of && c->watch_of != s)
		return HC_E_REFUSED;
	if (!c->watch_of) {
		if ((s->n_watches >= ENG_FEED_WATCHES &&
			    !MUTANT(801)) || /* 801: as many as it likes */
			e->n_watches >= e->config->max_clients)
			return HC_E_REFUSED;
		c->watch_of = s;
		s->n_watches++;
		e->n_watches++;
	}
	if (p->w.feed.head != pos &&
		!MUTANT(800)) /* 800: what has come meanwhile is not looked at */
		return 1;
	c->watch_pool = (uint32_t)(p - e->pool);
	c->watching = true;
	TAILQ_INSERT_TAIL(&p->watch, c, watch);
	p->n_watch++;
	STEP("feed:watched");
	return 0;
}

static void watch_over(struct eng_conn *c)
{
	struct eng_pool *p = &c->e->pool[c->watch_pool];

	TAILQ_REMOVE(&p->watch, c, watch);
	p->n_watch--;
	c->watching = false;
}

void eng_feed_unwatch(struct eng_conn *c)
{
	if (c->watching)
		watch_over(c);
	if (!c->watch_of)
		return;
	c->watch_of->n_watches--;
	c->e->n_watches--;
	c->watch_of = NULL;
}

void eng_feed_unwatch_all(struct eng_session *s)
{
	struct eng *e = s->e;

	for (uint32_t i = 0; i < e->n_conns && s->n_watches; i++)
		if (e->conn[i]->watch_of == s)
			eng_conn_drop(e->conn[i]);
}

/* Those who waited when it moved, a part of them: who asks again meanwhile stands behind them. */
static bool tell(struct eng_pool *p)
{
	for (uint32_t n = 0; n < ENG_FEED_TELLS && p->n_tell && p->n_watch; n++) {
		struct eng_conn *c = TAILQ_FIRST(&p->watch);
		p->n_tell--;
		watch_over(c);
		STEP("feed:tells");
		op_hello_fed(c);
	}
	if (p->n_watch == 0)
		p->n_tell = 0;
	return p->n_tell > 0;
}

bool eng_feed_turn(struct eng *e)
{
	bool more = false;

	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		struct eng_pool *p = &e->pool[i];
		struct shm_wfeed *f = &p->w.feed;
		if (f->f && f->woken != f->head && !MUTANT(374)) { /* 374: nobody is woken */
			wake(f);
			p->n_tell = p->n_watch;
		}
		more |= p->n_tell && tell(p);
	}
	return more;
}

void eng_feed_serve(struct eng *e)
{
	for (uint32_t i = 0; i < e->config->n_pools; i++)
		if (e->pool[i].w.feed.f)
			wake(&e->pool[i].w.feed);
}

/* The feed of a pool, also before it is open: then *own is it. */
static struct shm_wfeed *feed_of(struct eng_pool *p, uint32_t pool_idx, struct shm_wfeed *own)
{
	if (p->w.alloc)
		return &p->w.feed;
	*own = (struct shm_wfeed){.f = NULL};
	if (p->base && shm_feed_attach(own, p->base, p->bytes, (const void *)p->base,
			       shm_feed_first(shm_load_rlx(&p->e->ctl->engine_gen))) != 0)
		own->f = NULL;
	own->pool_idx = pool_idx;
	own->time_ns = eng_wall_ns();
	return own;
}

void eng_feed_drop(struct eng *e, uint32_t i, void (*empty)(struct eng *e, uint32_t i))
{
	const struct shm_req engine = {.session = SHM_REQ_ENGINE};
	struct shm_store_entry *se = &e->ctl->store[i];
	uint64_t id = shm_load_rlx(&se->id), lsn = shm_load_rlx(&e->ctl->lsn) + 1;
	uint32_t pool_idx = se->pool_idx % SHM_POOLS_MAX;
	struct shm_wfeed own, *f = feed_of(&e->pool[pool_idx], pool_idx, &own);

	if (!f->f) {
		empty(e, i);
		return;
	}
	shm_store_rlx(&e->ctl->lsn, lsn);
	shm_feed_foretell(f, e->journal, SHM_FEED_DROP, SHM_FEED_NONE);
	shm_journal_intend(e->journal, &engine, SHM_INTENT_CONTROL, lsn,
		(uint64_t)((const uint8_t *)&se->id - (const uint8_t *)e->ctl), id, 0, 0);
	STEP("drop:intended");
	empty(e, i);
	shm_feed_tell_store(f, SHM_FEED_DROP, lsn, id);
	shm_journal_finish(e->journal, &engine, lsn, 0, 0);
}

/* eng_log.c - the log of durable stores, from the engine's side: what goes into it, and who waits for it.
 *
 *   op_begin_store   eng_log_admit: is there room for the record, may this store be written at all
 *   shm_pool_*       put -> wal_append, before the intent; commit -> wal_settle, behind the publish (shm/wlog.h)
 *   conn_answer      an answer of a `sync` store waits in `late` for answer_lsn
 *   end of the turn  eng_log_turn -> wal_submit: one write for all that came
 *   the disk says so -> log_durable -> eng_conn_durable: answers leave
 *
 * A write that fails: log_failed.  Who waits loses his connection, repeats, and is told HC_E_NOT_DURABLE by what the journal
 * says; new changes are refused with HC_E_LOG.  As soon as there is another segment everything that is not durable
 * goes there (wal_recover): never again to where it failed.
 *
 * Times in the log are those of the wall clock: the engine's own starts anew with each machine.
 */
#include "eng.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>
#include "base/check.h"
#include "base/err.h"
#include "eng_log.h"
#include "hypercache.h"

enum {
	LOG_AHEAD = 2,          /* segments in reserve, beside the one that is written */
	LOG_SPARE_BYTES = 1024, /* of staging, that evictions leave to drops */
	LOG_NUMBER_BYTES = 24,  /* the longest value of an INCR */
};

uint64_t eng_log_id(const char *store_name)
{
	return XXH3_64bits(store_name, strlen(store_name)) | 1;
}

/* ---------------------------------------------------------------------- times */

/* The engine's CLOCK_MONOTONIC as wall time; 0: never, in both. */
static uint64_t wall_of(const struct eng_log *l, uint64_t mono_ns)
{
	return mono_ns ? mono_ns + l->wall_off_ns : 0;
}

static void clocks_look(struct eng_log *l) { l->wall_off_ns = eng_wall_ns() - eng_clock_ns(); }

/* How long the oldest record that is not durable has waited. */
static uint64_t lag_ns(const struct eng_log *l)
{
	return l->n_ages ? l->e->now_ns - l->age[0].ns : 0;
}

/* Records are told apart by the millisecond; when there are too many groups the last ones are one. */
static void age_add(struct eng_log *l, uint64_t lsn)
{
	struct eng_log_age *last = l->n_ages ? &l->age[l->n_ages - 1] : NULL;

	if (last && (l->n_ages == ENG_LOG_AGES || l->e->now_ns - last->ns < 1000000)) {
		last->lsn = lsn;
		return;
	}
	l->age[l->n_ages++] = (struct eng_log_age){.lsn = lsn, .ns = l->e->now_ns};
}

static void age_drop(struct eng_log *l, uint64_t lsn)
{
	uint32_t n = 0;

	while (n < l->n_ages && l->age[n].lsn <= lsn)
		n++;
	l->n_ages -= n;
	memmove(l->age, l->age + n, l->n_ages * sizeof *l->age);
}

/* -------------------------------------------------------------------- records */

static void log_append(struct eng_log *l, const struct wal_change *c)
{
	int r = wal_append(l->w, c);

	CHECK(r == 0); /* eng_log_admit saw to the room */
	age_add(l, c->lsn);
	/* Before it is published: whoever has seen the change finds its LSN here (sup_checkpoint.c). */
	eng_gauge(l->e, SHM_DC_log_lsn, c->lsn);
}

static void set_fill(const struct eng_log *l, const struct shm_item *it, struct wal_change *c)
{
	uint64_t key_bytes = shm_lens_key(it->lens);

	c->kind = WAL_SET;
	c->flags = it->flags;
	c->ttl_ms = it->ttl_ms;
	c->created_ns = it->created_ns;
	c->modified_ns = it->modified_ns;
	c->expiry_ns = wall_of(l, shm_load_rlx(&it->expiry_ns));
	c->stamp = it->stamp;
	if (it->lens & SHM_LENS_ABSENT)
		c->marks |= WAL_ABSENT;
	if (it->lens & SHM_LENS_FRESH) {
		c->marks |= WAL_FRESH;
		c->stamp = wall_of(l, shm_fresh_until_ms(it->stamp) * 1000000);
		c->took_ms = (uint32_t)shm_fresh_took_ms(it->stamp);
	}
	c->key = it + 1;
	c->key_bytes = (uint32_t)key_bytes;
	c->head = (const uint8_t *)it + shm_item_value_off(key_bytes);
	c->head_bytes = shm_lens_value(it->lens);
}

static void log_put(struct shm_wlog *hook, const struct shm_wlog_record *r)
{
	static const uint16_t kinds[] = {[SHM_WLOG_SET] = WAL_SET,
		[SHM_WLOG_DELETE] = WAL_DELETE,
		[SHM_WLOG_TOUCH] = WAL_TOUCH,
		[SHM_WLOG_CLEAR] = WAL_CLEAR};
	struct eng_log *l = (struct eng_log *)(void *)hook;
	const struct eng_store *s = eng_store_by_id(l->e, r->store_id);
	struct wal_change c = {.kind = kinds[r->what],
		.lsn = r->lsn,
		.store_id = s->log_id,
		.session_id = r->req->session_id,
		.request = r->req->request,
		.key = r->key,
		.key_bytes = r->key_bytes,
		.stamp = r->version,
		.expiry_ns = wall_of(l, r->expiry_ns)};

	if (r->item) {
		c.stamp = 0;
		set_fill(l, r->item, &c);
	}
	log_append(l, &c);
	if (l->sync && !MUTANT(742)) /* 742: nobody waits for the disk */
		l->e->answer_lsn = r->lsn;
}

static void log_commit(struct shm_wlog *hook, uint64_t lsn)
{
	struct eng_log *l = (struct eng_log *)(void *)hook;

	(void)lsn;
	wal_settle(l->w);
}

/* The engine's own: no intent, and nobody waits. */
static void log_own(struct eng_log *l, struct wal_change *c)
{
	shm_u64 *lsn = &l->e->ctl->lsn;

	c->lsn = shm_load_rlx(lsn) + 1;
	shm_store_rlx(lsn, c->lsn);
	log_append(l, c);
	wal_settle(l->w);
}

void eng_log_evicted(struct eng *e, const struct eng_store *s, const struct shm_item *it)
{
	struct eng_log *l = e->log;
	struct wal_change c = {.kind = WAL_EVICT,
		.store_id = s->log_id,
		.key = it + 1,
		.key_bytes = (uint32_t)shm_lens_key(it->lens)};

	/* The record of the change that it made room for has to fit behind it. */
	if (wal_room(l->w, c.key_bytes, l->admitted_bytes + LOG_SPARE_BYTES) != 0)
		return;
	log_own(l, &c);
}

void eng_log_dropped(struct eng *e, const struct eng_store *s)
{
	struct eng_log *l = e->log;
	struct wal_change c = {.kind = WAL_DROP, .store_id = s->log_id};

	if (wal_room(l->w, 0, 0) == 0)
		log_own(l, &c);
	else
		log_error("store %s is dropped, and the log cannot be told: its entries will be "
			  "there "
			  "again if a later daemon has a durable store of this name; drop it again "
			  "then",
			s->entry->name);
}

/* ---------------------------------------------------------------------- admit */

/* The longest value that the record may have. */
static uint64_t value_most(const struct eng_store *s, const struct wire_request *r)
{
	switch (r->verb) {
	case WIRE_SET:
		return r->mode >= WIRE_MODE_APPEND ? s->max_value_bytes : r->value_bytes;
	case WIRE_INCR:
		return LOG_NUMBER_BYTES;
	default:
		return 0;
	}
}

static bool is_logged(uint32_t verb)
{
	return verb == WIRE_SET || verb == WIRE_INCR || verb == WIRE_DELETE || verb == WIRE_TOUCH ||
	       verb == WIRE_CLEAR;
}

/* There will be no further segment for now.  Would what waits and one more record still fit into those that are there? */
static bool reserve_suffices(const struct eng_log *l, uint64_t record_bytes)
{
	struct wal_status s;

	wal_status(l->w, &s);
	uint64_t room = s.n_unused * l->opts.segment_bytes;
	if (s.segment)
		room += l->opts.segment_bytes - s.segment_block * WAL_BLOCK;
	/* Frames have heads, and do not go on in the next segment. */
	return room >= s.stage_used_bytes + record_bytes + wal_record_max(l->w);
}

static bool disk_is_full(const struct eng_log *l)
{
	return l->why_none == -ENOSPC || l->why_none == -EDQUOT;
}

static int32_t later(struct eng_log *l)
{
	l->stalled = true;
	return ENG_LOG_LATER;
}

int32_t eng_log_admit(
	struct eng *e, const struct eng_store *s, const struct wire_request *r, struct shm_req *req)
{
	struct eng_log *l = e->log;

	if (!is_logged(r->verb))
		return 0;
	if (l->failed)
		return HC_E_LOG;
	uint64_t key_bytes = r->verb == WIRE_CLEAR ? 0 : r->key_bytes;
	uint64_t value_bytes = value_most(s, r);
	int r0 = wal_room(l->w, key_bytes, value_bytes);
	if (r0 == -EMSGSIZE)
		return HC_E_TOO_LARGE;
	if (l->why_none && !reserve_suffices(l, wal_record_bytes(key_bytes, value_bytes)))
		return disk_is_full(l) ? HC_E_LOG_FULL : HC_E_LOG;
	if (r0 != 0)
		return later(l);
	if (s->durability == CONFIG_DURABILITY_ASYNC && lag_ns(l) > s->loss_window_ns &&
		!MUTANT(743)) /* 743: it may be as far behind as it likes */
		return later(l);
	l->sync = s->durability == CONFIG_DURABILITY_SYNC;
	l->admitted_bytes = key_bytes + value_bytes;
	req->log = &l->hook;
	return 0;
}

/* Is it not known when what waits will be on disk? */
static bool is_stuck(const struct eng_log *l)
{
	return l->failed || (l->no_segment && l->why_none);
}

void eng_log_replayed(struct eng *e, const struct wire_request *r, const struct shm_result *was,
	struct wire_answer *a)
{
	const struct eng_store *s = eng_store_of(e, r->store_idx, r->store_id);
	uint64_t last = wal_last_lsn(e->log->w), durable = wal_durable_lsn(e->log->w);
	/* A touch says its entry's version, a delete of nothing says nothing: they wait for all. */
	bool known = was->lsn &&
	             (r->verb == WIRE_SET || r->verb == WIRE_INCR || r->verb == WIRE_CLEAR ||
			     (r->verb == WIRE_DELETE && was->status == 0));

	if (!s || s->durability != CONFIG_DURABILITY_SYNC || !is_logged(r->verb) ||
		was->status < 0 || durable >= last || (known && was->lsn <= durable))
		return;
	if (!is_stuck(e->log)) {
		e->answer_lsn = last > e->answer_lsn ? last : e->answer_lsn;
		return;
	}
	a->status = HC_E_NOT_DURABLE;
	a->lsn = a->value = 0;
}

/* ------------------------------------------------------------------ callbacks */

static void log_durable(void *arg, uint64_t lsn)
{
	struct eng_log *l = arg;

	age_drop(l, lsn);
	STEP("log:durable");
	eng_conn_durable(l->e, lsn);
	l->resume |= l->stalled;
	eng_gauge(l->e, SHM_DC_log_durable_lsn, lsn);
}

static void log_failed(void *arg, int error)
{
	struct eng_log *l = arg;

	l->failed = true;
	l->resume |= l->stalled;
	eng_count(l->e, SHM_DC_log_failures, 1);
	log_error("the log cannot be written: %s. Changes of durable stores are refused (HC_E_LOG) "
		  "until a "
		  "new segment takes what is not on disk; reads and other stores go on",
		strerror(-error));
}

static void log_released(void *arg, const struct wal_segment *s, uint64_t last_lsn)
{
	struct eng_log *l = arg;

	(void)last_lsn;
	eng_loop_close(l->e->loop, s->fd); /* its lock goes with it */
}

void eng_log_segment(struct eng *e, const struct sup_msg *m, int fd)
{
	struct eng_log *l = e->log;

	if (l && fd >= 0) {
		struct wal_segment s = {.number = m->id, .fd = fd};
		l->wanted = l->wanted ? l->wanted - 1 : 0;
		l->why_none = 0;
		l->resume |= l->stalled;
		/* Rule P24: who comes after us waits until this description is closed, by our death too. */
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && wal_segment_give(l->w, &s) == 0)
			return;
		log_error("segment %llu of the log cannot be used", (unsigned long long)m->id);
	}
	if (fd >= 0)
		(void)close(fd);
	else if (l) {
		l->why_none = m->refusal ? -(int)m->refusal : -EIO;
		l->resume |= l->stalled;
	}
}

/* ----------------------------------------------------------------------- life */

void eng_log_init(struct eng *e, struct eng_log *l, void *stage, uint64_t stage_bytes)
{
	l->hook = (struct shm_wlog){.put = log_put, .commit = log_commit};
	l->e = e;
	l->opts = (struct wal_opts){.stage = stage,
		.stage_bytes = stage_bytes & ~(uint64_t)(WAL_BLOCK - 1),
		.segment_bytes = e->config->wal_segment_bytes,
		.ahead = LOG_AHEAD,
		.durable = log_durable,
		.failed = log_failed,
		.released = log_released,
		.arg = l};
	memcpy(l->opts.identity, e->h->log_id, sizeof l->opts.identity);
	clocks_look(l);
}

static void segments_want(struct eng *e)
{
	struct eng_log *l = e->log;
	uint32_t n = wal_segments_wanted(l->w);
	const struct sup_msg m = {.kind = SUP_MSG_LOG_WANT, .n = n};

	if (n != l->wanted && eng_sup_send_msg(e, &m) == 0)
		l->wanted = n;
}

static void log_mend(struct eng_log *l)
{
	if (l->e->now_ns < l->mend_ns || wal_recover(l->w) == 1)
		return;
	l->mend_ns = l->e->now_ns + ENG_NS_PER_S;
	l->failed = false;
	log_warn("the log goes on in another segment, with all that was not on disk");
}

bool eng_log_turn(struct eng *e)
{
	struct eng_log *l = e->log;

	if (l->failed)
		log_mend(l);
	STEP("log:turn");
	l->no_segment = wal_submit(l->w) == WAL_NO_SEGMENT;
	if (is_stuck(l) && e->n_late)
		eng_conn_not_durable(e);
	segments_want(e);
	if (!l->resume)
		return false;
	l->resume = l->stalled = false;
	eng_conn_resume_stalled(e);
	return true;
}

void eng_log_tick(struct eng *e)
{
	struct eng_log *l = e->log;
	struct wal_status s;

	if (!l)
		return;
	clocks_look(l);
	l->resume |= l->stalled; /* a look each heartbeat, whatever it waits for */
	wal_status(l->w, &s);
	eng_gauge(e, SHM_DC_log_lsn, s.last_lsn);
	eng_gauge(e, SHM_DC_log_durable_lsn, s.durable_lsn);
	eng_gauge(e, SHM_DC_log_lag_ns, lag_ns(l));
	eng_gauge(e, SHM_DC_log_segment, s.segment);
	eng_gauge(e, SHM_DC_log_segment_bytes, s.segment_block * WAL_BLOCK);
	eng_gauge(e, SHM_DC_log_staged_bytes, s.stage_used_bytes);
	eng_gauge(e, SHM_DC_log_reserve, s.n_unused);
	eng_gauge(e, SHM_DC_log_bytes, s.n_bytes);
	eng_gauge(e, SHM_DC_log_frames, s.n_frames);
	eng_gauge(e, SHM_DC_log_records, s.n_records);
	eng_gauge(e, SHM_DC_log_state,
		l->failed         ? SHM_LOG_FAILED
		: disk_is_full(l) ? SHM_LOG_FULL
				  : SHM_LOG_GOOD);
}

bool eng_log_is_idle(const struct eng *e)
{
	const struct eng_log *l = e->log;

	return !l || l->failed || l->no_segment ||
	       (wal_n_writes(l->w) == 0 && wal_durable_lsn(l->w) >= wal_last_lsn(l->w));
}

void eng_log_close(struct eng *e)
{
	struct eng_log *l = e->log;

	if (!l)
		return;
	if (l->w && wal_n_writes(l->w) == 0)
		wal_free(l->w);
	wal_io_loop_free(l->io);
	free(l);
	e->log = NULL;
}

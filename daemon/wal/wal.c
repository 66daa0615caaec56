/* wal.c - the writer's handle: new, adopted, forgiven, freed: see wal.h. */
#include "wal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "atomic.h"
#include "base/check.h"
#include "base/err.h"
#include "step.h"
#include "wal_frame.h"
#include "wal_i.h"

static uint64_t clock_now_ns(void)
{
	struct timespec t;

	CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool opts_are_right(const struct wal_opts *o)
{
	static const uint8_t none[WAL_IDENTITY_BYTES];

	return o->stage && (uintptr_t)o->stage % WAL_BLOCK == 0 &&
	       o->stage_bytes % WAL_BLOCK == 0 && o->stage_bytes >= WAL_STAGE_BYTES_MIN &&
	       o->stage_bytes <= WAL_STAGE_BYTES_MAX && o->io &&
	       o->segment_bytes % WAL_BLOCK == 0 && o->segment_bytes >= WAL_SEGMENT_BYTES_MIN &&
	       o->segment_bytes <= WAL_SEGMENT_BYTES_MAX && o->writes_max <= WAL_WRITES_MAX &&
	       o->ahead <= WAL_SEGMENTS_HELD && o->durable && o->failed && o->released &&
	       memcmp(o->identity, none, sizeof none) != 0;
}

/* The frames of staging that are not durable wait to be handed over, all of them, behind the end of the log. */
static void begin_behind_end(struct wal *w)
{
	struct wal_end end;

	wal_stage_end(w->s, &end);
	w->sent = w->head;
	w->sequence = w->durable_sequence = end.sequence;
	w->crc = end.crc;
	w->durable_lsn = w->sent_lsn = end.lsn;
}

static int handle_new(const struct wal_opts *opts, struct wal **ret)
{
	struct wal *w = calloc(1, sizeof *w);

	if (!w)
		return err_new(-ENOMEM);
	w->opts = *opts;
	w->opts.writes_max = opts->writes_max ? opts->writes_max : 2;
	w->opts.ahead = opts->ahead ? opts->ahead : 1;
	w->opts.now_ns = opts->now_ns ? opts->now_ns : clock_now_ns;
	w->s = opts->stage;
	w->now.fd = w->before.fd = -1;
	*ret = w;
	return 0;
}

int wal_new(const struct wal_opts *opts, const struct wal_end *end, struct wal **ret)
{
	struct wal *w;

	if (!opts_are_right(opts))
		return err_new(-EINVAL);
	int r = handle_new(opts, &w);
	if (r < 0)
		return err_fwd(r);
	wal_stage_format(opts, end);
	w->head = w->tail = 1;
	w->highest = end->segment;
	begin_behind_end(w);
	w->last_lsn = w->durable_lsn;
	*ret = w;
	return 0;
}

/* Takes away frames at the end that hold nothing: their engine died when it had opened one. */
static void drop_empty(struct wal *w)
{
	while (w->tail > w->head &&
		shm_load_rlx(&wal_stage_at(w->s, w->tail - 1)->bytes) == WAL_SECTOR)
		w->tail--;
	shm_store_rel(&w->s->tail, w->tail); /* rel:wal.tail */
}

/* Counts what the frames hold.  0; -EBADMSG: one is damaged. */
static int count_frames(struct wal *w, uint32_t *ret_last_bytes, uint64_t *ret_n)
{
	uint64_t lsn = w->durable_lsn;

	*ret_last_bytes = 0;
	*ret_n = 0;
	for (uint64_t n = w->head; n < w->tail; n++) {
		struct wal_stage_sum sum;
		int r = wal_stage_sum(w->s, n, lsn, &sum);
		if (r < 0)
			return err_fwd(r);
		w->count[n % WAL_STAGE_FRAMES] = (struct wal_count){
			sum.first_lsn, sum.last_lsn, sum.n_records, w->opts.now_ns()};
		lsn = sum.last_lsn;
		*ret_last_bytes = sum.last_bytes;
		*ret_n += sum.n_records;
	}
	w->last_lsn = lsn;
	return 0;
}

int wal_adopt(const struct wal_opts *opts, struct wal **ret, struct wal_adopted *ret_found)
{
	struct wal_adopted found = {0};
	uint32_t last_bytes;
	struct wal *w;

	if (!opts_are_right(opts))
		return err_new(-EINVAL);
	if (wal_stage_check(opts) != 0)
		return WAL_NO_STAGE;
	int r = handle_new(opts, &w);
	if (r < 0)
		return err_fwd(r);
	w->head = shm_load_acq(&w->s->head); /* acq:wal.head */
	w->tail = shm_load_acq(&w->s->tail); /* acq:wal.tail */
	begin_behind_end(w);
	drop_empty(w);
	if (MUTANT(710) && w->tail > w->head) /* 710: the frame that was open is forgotten */
		shm_store_rel(&w->s->tail, --w->tail); /* rel:wal.tail */
	if (count_frames(w, &last_bytes, &found.n_records) < 0) {
		free(w);
		return WAL_NO_STAGE;
	}
	wal_stage_end(w->s, &found.end);
	w->highest = shm_load_rlx(&w->s->begun);
	w->highest = w->highest > found.end.segment ? w->highest : found.end.segment;
	uint64_t unsettled = shm_load_acq(&w->s->unsettled); /* acq:wal.unsettled */
	w->undecided = unsettled && w->tail > w->head && unsettled == w->last_lsn;
	found.durable_lsn = w->durable_lsn;
	found.last_lsn = w->last_lsn;
	found.unsettled_lsn = w->undecided ? unsettled : 0;
	*ret = w;
	*ret_found = found;
	return 0;
}

void wal_adopt_decide(struct wal *w, bool happened)
{
	struct wal_stage_frame *f = wal_stage_at(w->s, w->tail - 1);
	uint32_t last_bytes;
	uint64_t n;

	CHECK(w->undecided);
	CHECK(count_frames(w, &last_bytes, &n) == 0 && last_bytes > 0);
	if (!happened && !MUTANT(711)) { /* 711: what did not happen stays */
		shm_store_rel(&f->bytes, shm_load_rlx(&f->bytes) - last_bytes); /* rel:wal.bytes */
		STEP("wal:undone");
		drop_empty(w);
		CHECK(count_frames(w, &last_bytes, &n) == 0);
	}
	w->undecided = false;
	shm_store_rel(&w->s->unsettled, 0); /* rel:wal.unsettled */
	STEP("wal:decided");
}

static void release_all(struct wal *w, bool unused_too)
{
	wal_release(w, &w->before, w->durable_lsn);
	wal_release(w, &w->now, w->durable_lsn);
	for (; unused_too && w->n_held; w->n_held--)
		wal_release(w, &w->held[w->n_held - 1], 0);
}

void wal_free(struct wal *w)
{
	if (!w)
		return;
	CHECK(wal_n_writes(w) == 0);
	release_all(w, true);
	free(w);
}

int wal_recover(struct wal *w)
{
	if (wal_n_writes(w) > 0)
		return WAL_NOT_YET;
	if (!w->failed)
		return 0;
	release_all(w, false);
	w->n_slots = 0;
	w->slot_begins = false;
	w->block = 0;
	w->failed = 0;
	w->closed = false;
	begin_behind_end(w);
	return 0;
}

/* ------------------------------------------------------------------ segments */

uint32_t wal_segments_wanted(const struct wal *w)
{
	uint32_t want = w->opts.ahead;

	return w->n_held < want ? want - w->n_held : 0;
}

int wal_segment_give(struct wal *w, const struct wal_segment *s)
{
	if (s->fd < 0 ||
		(s->number <= w->highest && !MUTANT(712))) /* 712: a number is used again */
		return err_new(-EINVAL);
	if (w->n_held == WAL_SEGMENTS_HELD)
		return err_new(-ENOSPC);
	w->held[w->n_held++] = *s;
	w->highest = s->number;
	return 0;
}

uint64_t wal_keep_from(const struct wal *w)
{
	struct wal_end end;

	wal_stage_end(w->s, &end);
	return w->now.fd < 0 || w->slot_begins ? end.segment : w->now.number;
}

/* -------------------------------------------------------------------- status */

uint64_t wal_durable_lsn(const struct wal *w) { return w->durable_lsn; }

uint64_t wal_last_lsn(const struct wal *w) { return w->last_lsn; }

int wal_failed(const struct wal *w) { return w->failed; }

void wal_status(const struct wal *w, struct wal_status *ret)
{
	*ret = (struct wal_status){.segment = w->now.fd >= 0 ? w->now.number : 0,
		.segment_block = w->block,
		.segment_bytes = w->opts.segment_bytes,
		.n_unused = w->n_held,
		.n_writes = wal_n_writes(w),
		.durable_lsn = w->durable_lsn,
		.last_lsn = w->last_lsn,
		.stage_bytes = w->s->n_blocks * WAL_BLOCK,
		.n_records = w->n_records,
		.n_frames = w->n_frames,
		.n_bytes = w->n_bytes,
		.n_segments = w->n_segments,
		.n_full = w->n_full,
		.failed = w->failed,
		.no_segment = w->no_segment};
	if (w->head != w->tail)
		ret->oldest_ns = w->count[w->head % WAL_STAGE_FRAMES].opened_ns;
	for (uint64_t n = w->head; n < w->tail; n++)
		ret->stage_used_bytes += (uint64_t)wal_blocks_of(
						 shm_load_rlx(&wal_stage_at(w->s, n)->bytes)) *
		                         WAL_BLOCK;
}

/* wal_submit.c - frames to the disk, in their order, and what comes back: see wal.h.
 *
 *   slots, a queue:   | frame 7 done | begin | frame 8 | ...   at most writes_max
 *                       ^ not durable before all that were started earlier are
 *
 * A segment is full: its successor's begin goes into the queue like any write, and frames follow it at once. */
#include <errno.h>
#include <string.h>
#include "atomic.h"
#include "base/check.h"
#include "base/err.h"
#include "step.h"
#include "wal_frame.h"
#include "wal_i.h"

static void on_done(void *arg, int result);

uint32_t wal_n_writes(const struct wal *w)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WAL_WRITES_MAX; i++)
		n += w->slot[i].write.armed;
	return n;
}

static void start(struct wal *w, uint64_t frame, void *at, uint32_t block)
{
	struct wal_frame *f = at;
	struct wal_slot *slot = &w->slot[(w->first_slot + w->n_slots) % WAL_WRITES_MAX];

	CHECK(w->n_slots < WAL_WRITES_MAX && !slot->write.armed);
	f->previous = w->crc;
	f->sequence = w->sequence + 1;
	if (f->flags & WAL_FRAME_BEGINS)
		w->begin_sequence = f->sequence;
	f->begin_sequence = w->begin_sequence;
	f->durable_sequence = MUTANT(704) ? w->sequence : w->durable_sequence; /* 704: all before */
	f->durable_lsn = w->durable_lsn;
	f->time_ns = w->opts.now_ns();
	wal_frame_seal(at, w->opts.identity, w->now.number, block);
	w->crc = f->crc;
	w->sequence++;
	*slot = (struct wal_slot){.write = {.done = on_done, .arg = slot},
		.w = w,
		.frame = frame,
		.sequence = f->sequence,
		.bytes = f->n_blocks * WAL_BLOCK};
	w->n_slots++;
	w->block = block + f->n_blocks;
	if (frame) {
		struct wal_stage_frame *in_stage = wal_stage_at(w->s, frame);
		in_stage->segment = w->now.number;
		in_stage->block = block;
		in_stage->n_blocks = f->n_blocks;
		in_stage->sequence = f->sequence;
		in_stage->last_lsn = f->last_lsn;
		in_stage->crc = f->crc;
	}
	STEP("wal:sealed");
	wal_io_write(
		w->opts.io, w->now.fd, (uint64_t)block * WAL_BLOCK, at, slot->bytes, &slot->write);
}

/* The one block that is not of the ring: the begin of a segment, the end of the log. */
static struct wal_frame *own_block(struct wal *w, uint32_t flags, uint32_t bytes)
{
	struct wal_frame *f = (void *)((uint8_t *)w->s + WAL_STAGE_BEGIN_OFF);

	CHECK(!w->slot_begins);
	w->slot_begins = true;
	memset(f, 0, WAL_BLOCK);
	f->flags = flags;
	f->bytes = bytes;
	f->last_lsn = w->sent_lsn;
	return f;
}

/* Goes on in the next segment. */
static void begin_segment(struct wal *w)
{
	struct wal_frame *f = own_block(w, WAL_FRAME_BEGINS, WAL_SECTOR + sizeof(struct wal_begin));
	struct wal_begin *b = (struct wal_begin *)((uint8_t *)f + WAL_SECTOR);
	struct wal_end end = {.segment = w->now.number,
		.block = w->block,
		.crc = w->crc,
		.sequence = w->sequence};

	if (w->now.fd < 0) /* the first one of this handle, or after an error */
		wal_stage_end(w->s, &end);
	else
		w->before = w->now;
	w->before_lsn = f->last_lsn;
	*b = (struct wal_begin){.magic = WAL_BEGIN_MAGIC,
		.major = WAL_FORMAT_MAJOR,
		.minor = WAL_FORMAT_MINOR,
		.segment = w->held[0].number,
		.segment_bytes = w->opts.segment_bytes,
		.before_segment = end.segment,
		.before_block = end.block + (MUTANT(705) ? 1 : 0), /* 705: what was cut is not */
		.before_crc = end.crc,
		.before_sequence = end.sequence,
		.before_lsn = f->last_lsn,
		.time_ns = w->opts.now_ns()};
	memcpy(b->identity, w->opts.identity, sizeof b->identity);
	w->now = w->held[0];
	memmove(&w->held[0], &w->held[1], --w->n_held * sizeof w->held[0]);
	w->n_segments++;
	shm_store_rlx(&w->s->begun, w->now.number);
	STEP("wal:begins");
	start(w, 0, f, 0);
}

static void send_frame(struct wal *w)
{
	const struct wal_count *n = &w->count[w->sent % WAL_STAGE_FRAMES];
	struct wal_stage_frame *in_stage = wal_stage_at(w->s, w->sent);
	struct wal_frame *f = (void *)wal_stage_ring(w->s, in_stage->at);

	f->flags = 0;
	f->bytes = (uint32_t)shm_load_rlx(&in_stage->bytes);
	f->first_lsn = n->first_lsn;
	f->last_lsn = n->last_lsn;
	f->n_records = n->n_records;
	w->sent++;
	w->sent_lsn = n->last_lsn;
	start(w, w->sent - 1, f, w->block);
}

int wal_submit(struct wal *w)
{
	CHECK(!w->unsettled && !w->undecided);
	w->no_segment = false;
	while (!w->failed && w->n_slots < w->opts.writes_max && w->sent < w->tail) {
		uint32_t blocks = wal_blocks_of(shm_load_rlx(&wal_stage_at(w->s, w->sent)->bytes));
		if (w->now.fd >= 0 && blocks <= w->opts.segment_bytes / WAL_BLOCK - w->block) {
			send_frame(w);
			continue;
		}
		if (w->slot_begins)
			break; /* the one before is not begun yet */
		w->no_segment = w->n_held == 0;
		if (w->no_segment)
			return WAL_NO_SEGMENT;
		begin_segment(w);
	}
	return 0;
}

void wal_release(struct wal *w, struct wal_segment *s, uint64_t last_lsn)
{
	if (s->fd < 0)
		return;
	struct wal_segment gone = *s;
	s->fd = -1;
	w->opts.released(w->opts.arg, &gone, last_lsn);
}

/* The first of the queue is durable. */
static void pop(struct wal *w)
{
	const struct wal_slot *slot = &w->slot[w->first_slot];

	w->first_slot = (w->first_slot + 1) % WAL_WRITES_MAX;
	w->n_slots--;
	w->durable_sequence = slot->sequence;
	w->n_frames++;
	w->n_bytes += slot->bytes;
	if (slot->frame == 0) {
		w->slot_begins = false;
		wal_release(w, &w->before, w->before_lsn);
		return;
	}
	const struct wal_count *n = &w->count[slot->frame % WAL_STAGE_FRAMES];
	w->durable_lsn = n->last_lsn;
	w->n_records += n->n_records;
	w->head = slot->frame + 1;
	shm_store_rel(&w->s->head, w->head); /* rel:wal.head */
	STEP("wal:durable");
}

static void poison(struct wal *w, int error)
{
	if (w->failed)
		return;
	w->failed = error;
	w->opts.failed(w->opts.arg, error);
}

static void on_done(void *arg, int result)
{
	struct wal_slot *slot = arg;
	struct wal *w = slot->w;
	uint64_t before_lsn = w->durable_lsn;

	CHECK(!w->unsettled);
	STEP("wal:answered");
	slot->done = result == (int)slot->bytes ||
	             (MUTANT(706) && result > 0); /* 706: short is good */
	if (!slot->done && MUTANT(707)) {         /* 707: it is written again, as if that helped */
		slot->write.done = on_done;
		wal_io_write(w->opts.io, w->now.fd,
			(uint64_t)wal_stage_at(w->s, slot->frame)->block * WAL_BLOCK,
			wal_stage_ring(w->s, wal_stage_at(w->s, slot->frame)->at), slot->bytes,
			&slot->write);
		return;
	}
	if (!slot->done) {
		poison(w, result < 0 ? result : -EIO);
		return;
	}
	if (w->failed)
		return;
	while (w->n_slots &&
		(w->slot[w->first_slot].done || MUTANT(708))) /* 708: whichever is done */
		pop(w);
	if (w->durable_lsn > before_lsn)
		w->opts.durable(w->opts.arg,
			MUTANT(709) ? w->last_lsn : w->durable_lsn); /* 709: too much */
	(void)wal_submit(w);
}

int wal_close(struct wal *w)
{
	CHECK(!w->unsettled && !w->undecided);
	if (w->failed)
		return WAL_POISONED;
	if (w->n_slots || w->head != w->tail)
		return WAL_NOT_YET;
	w->closed = true;
	if (w->now.fd < 0 || w->block >= w->opts.segment_bytes / WAL_BLOCK)
		return 0; /* nothing was written, or there is no room to say so */
	start(w, 0, own_block(w, WAL_FRAME_ENDS, WAL_SECTOR), w->block);
	return 0;
}

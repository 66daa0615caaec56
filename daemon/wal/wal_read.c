/* wal_read.c - the log, frame by frame: see wal_read.h.
 *
 *   for each link of the chain: its bytes; for each frame up to the cut, or to the first that is not right
 *   not right: what is behind it says (wal_after.c) whether it was still being written
 */
#include "wal_read.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "step.h"
#include "wal_frame.h"
#include "wal_read_i.h"

struct reader {
	const struct wal_read_opts *o;
	struct wal_read_result *ret;
	struct wal_chain chain;
	struct wal_bytes bytes; /* of the link, if `loaded` */
	bool loaded;
	size_t i;          /* the link */
	uint32_t block;    /* the next one in it */
	uint64_t sequence; /* of the last good frame */
	uint32_t crc;      /* of it */
	uint64_t lsn;      /* of the last good record */
	bool follows; /* the next frame has to follow that one: nothing was passed by between */
	int stopped;  /* what opts.record returned, or -errno */
	uint64_t done_bytes, all_bytes;
};

enum next {
	GO_ON, /* with what is at i, block now */
	OVER,  /* the log ends, or `stopped` says why not */
};

/* Has the log to have a record of this LSN, or does a checkpoint? */
static bool is_needed(const struct wal_read_opts *o, uint64_t lsn)
{
	return lsn > 0 && lsn >= o->from_lsn;
}

static const struct wal_link *link_of(const struct reader *r) { return &r->chain.link[r->i]; }

/* -------------------------------------------------------------------- damage */

static void skip_to(struct reader *r, const struct wal_after *a)
{
	bool same = a->any && a->next_link == r->i;

	r->follows = false;
	r->loaded = r->loaded && same;
	r->i = a->any ? a->next_link : r->chain.n_known;
	r->block = same ? a->next_block : 0;
}

/* Something was there, and not whole; else the log just ends. */
static bool looks_torn(const struct reader *r, enum wal_damage_kind kind, const struct wal_after *a)
{
	const struct wal_link *l = link_of(r);

	if (a->any || kind == WAL_DAMAGE_UNIT || l->cut != UINT32_MAX)
		return true;
	if (!r->loaded || r->block >= r->bytes.n_blocks)
		return false;
	const struct wal_frame *f = (const void *)(r->bytes.at + (uint64_t)r->block * WAL_BLOCK);
	return f->magic == WAL_FRAME_MAGIC && f->segment == l->number && f->block == r->block;
}

static enum next tell(struct reader *r, const struct wal_damage *d, const struct wal_after *a)
{
	r->ret->n_damages++;
	if (r->o->damage)
		r->o->damage(r->o->arg, d);
	if (r->o->choice == WAL_ON_DAMAGE_SKIP) {
		skip_to(r, a);
		return GO_ON;
	}
	if (r->o->choice == WAL_ON_DAMAGE_STOP)
		r->stopped = err_new(-EBADMSG);
	return OVER;
}

/* What should be at i, block is not right; certain: it cannot be a torn tail. */
static enum next broken(struct reader *r, enum wal_damage_kind kind, uint64_t off, bool certain)
{
	const struct wal_link *l = link_of(r);
	uint64_t expected = r->follows ? r->sequence + 1
	                    : l->begun ? l->begin.before_sequence + 1
	                               : 1;
	bool known = is_needed(r->o, r->o->durable_lsn) && r->o->durable_lsn > r->lsn;
	struct wal_after a = {0};

	expected = expected > r->sequence ? expected : r->sequence + 1;
	r->stopped = wal_after_look(&r->chain, r->loaded ? r->i : r->i + 1,
		r->loaded ? &r->bytes : NULL, r->loaded ? r->block + 1 : 0, expected,
		r->ret->n_damages < WAL_LOOKS_MAX, &a);
	if (r->stopped < 0)
		return OVER;
	bool torn = looks_torn(r, kind, &a);
	if (MUTANT(714) ||
		(!certain && !known && a.durable_sequence < expected)) { /* 714: any break */
		r->ret->torn = torn;
		r->ret->torn_frames = a.frames;
		return OVER;
	}
	if (!certain && !torn)
		kind = WAL_DAMAGE_TAIL;
	return tell(r,
		&(struct wal_damage){.kind = kind,
			.segment = l->number,
			.off = off,
			.sequence = expected,
			.last_lsn = r->lsn,
			.next_lsn = a.next_lsn,
			.end_lsn = a.end_lsn,
			.lost_frames = a.next_sequence > expected ? a.next_sequence - expected : 1,
			.after_frames = a.frames,
			.after_records = a.records,
			.error = r->bytes.error},
		&a);
}

/* ------------------------------------------------------------------- records */

/* The records of a frame, those that end at `to` or before.  0, or the offset of one that is not right: *ret_kind.
 * Sets r->stopped if opts.record wants no more. */
static uint32_t read_records(struct reader *r, const uint8_t *at, uint64_t segment,
	uint64_t off_of_frame, uint32_t to, enum wal_damage_kind *ret_kind)
{
	for (uint32_t off = WAL_SECTOR; off < to && !r->stopped;) {
		const struct wal_record *rec = (const struct wal_record *)(at + off);
		if (wal_record_check(at, off, to) < 0 || rec->lsn <= r->lsn) {
			*ret_kind = wal_record_check(at, off, to) < 0 ? WAL_DAMAGE_RECORD
			                                              : WAL_DAMAGE_ORDER;
			return off;
		}
		struct wal_read_record out = {.r = rec,
			.key = rec + 1,
			.value = (const uint8_t *)(rec + 1) + rec->key_bytes,
			.segment = segment,
			.off = off_of_frame + off};
		r->lsn = rec->lsn;
		r->ret->n_records++;
		r->ret->first_lsn = r->ret->first_lsn ? r->ret->first_lsn : rec->lsn;
		r->ret->last_lsn = rec->lsn;
		if (r->o->record && rec->lsn >= r->o->from_lsn)
			r->stopped = r->o->record(r->o->arg, &out);
		off += rec->bytes;
	}
	return 0;
}

/* -------------------------------------------------------------------- frames */

/* A unit is not right.  What is before it in the same frame is, and is kept where the damage is passed by. */
static enum next broken_unit(struct reader *r, const struct wal_frame *f, uint32_t bad)
{
	uint64_t unit = (uint64_t)bad * WAL_BLOCK << f->unit_shift, segment = link_of(r)->number;
	uint64_t off = (uint64_t)r->block * WAL_BLOCK;
	uint32_t to = bad && unit < f->bytes ? (uint32_t)unit : WAL_SECTOR;
	enum wal_damage_kind kind;

	enum next next = broken(r, WAL_DAMAGE_UNIT, off + unit, false);
	if (next == GO_ON)
		(void)read_records(r, (const uint8_t *)f, segment, off, to, &kind);
	return r->stopped ? OVER : next;
}

/* Nothing good follows in this segment, whose cut nobody knows: the begin that would name it is damaged, which the next
 * link will say. */
static bool ends_unnamed(struct reader *r)
{
	struct wal_chain here = r->chain;
	struct wal_after a;

	if (link_of(r)->cut != UINT32_MAX || r->i + 1 == r->chain.n_known)
		return false;
	here.n = r->i + 1;
	r->stopped = wal_after_look(
		&here, r->i, &r->bytes, r->block + 1, r->sequence + 1, true, &a);
	return r->stopped == 0 && !a.any;
}

static void next_link(struct reader *r)
{
	r->i++;
	r->block = 0;
	r->loaded = false;
}

/* The frame at r->block, which ends before block `end`. */
static enum next read_frame(struct reader *r, uint32_t end)
{
	const uint8_t *at = r->bytes.at + (uint64_t)r->block * WAL_BLOCK;
	uint64_t off = (uint64_t)r->block * WAL_BLOCK;
	const struct wal_frame *f = (const void *)at;
	enum wal_damage_kind kind = WAL_DAMAGE_RECORD;

	if (wal_frame_check(f, r->chain.identity, link_of(r)->number, r->block, end - r->block) <
		0) {
		if (!ends_unnamed(r))
			return r->stopped ? OVER : broken(r, WAL_DAMAGE_FRAME, off, false);
		next_link(r);
		return GO_ON;
	}
	if (r->follows ? f->sequence != r->sequence + 1 || f->previous != r->crc
		       : f->sequence <= r->sequence)
		return broken(r, WAL_DAMAGE_CHAIN, off, true);
	uint32_t bad = wal_frame_bad_unit(f, r->chain.identity);
	if (bad != f->n_units)
		return broken_unit(r, f, bad);
	if (!(f->flags & WAL_FRAME_BEGINS)) {
		uint32_t wrong = read_records(r, at, link_of(r)->number, off, f->bytes, &kind);
		if (wrong)
			return broken(r, kind, off + wrong, true);
		if (r->stopped)
			return OVER;
	}
	r->follows = true;
	r->sequence = f->sequence;
	r->crc = f->crc;
	r->lsn = f->last_lsn > r->lsn ? f->last_lsn : r->lsn;
	r->block += f->n_blocks;
	r->ret->n_frames++;
	r->ret->n_bytes += (uint64_t)f->n_blocks * WAL_BLOCK;
	r->ret->closed = (f->flags & WAL_FRAME_ENDS) != 0;
	r->ret->end = (struct wal_end){link_of(r)->number, r->block, r->crc, r->sequence, r->lsn};
	return GO_ON;
}

/* The bytes of the link, from its beginning on. */
static enum next load(struct reader *r)
{
	const struct wal_link *l = link_of(r);

	if (!l->file)
		return broken(r, WAL_DAMAGE_MISSING, 0, true);
	r->stopped = wal_bytes_load(&r->bytes, l->file);
	if (r->stopped < 0)
		return OVER;
	r->loaded = true;
	r->ret->n_segments++;
	r->done_bytes += l->file->bytes;
	if (r->o->progress)
		r->o->progress(r->o->arg, r->done_bytes, r->all_bytes);
	if (r->block == 0 && !l->begun)
		return broken(r,
			r->bytes.error      ? WAL_DAMAGE_READ
			: r->bytes.n_blocks ? WAL_DAMAGE_BEGIN
					    : WAL_DAMAGE_SHORT,
			0, true);
	return GO_ON;
}

/* Behind the last block that there is, or at the cut. */
static enum next read_end(struct reader *r, uint32_t end)
{
	const struct wal_link *l = link_of(r);
	uint64_t off = (uint64_t)end * WAL_BLOCK;
	bool shorter = l->begun && r->bytes.n_blocks < l->begin.segment_bytes / WAL_BLOCK;

	if (end < l->cut && r->bytes.error)
		return broken(r, WAL_DAMAGE_READ, off, true);
	if (end < l->cut && (shorter || l->cut != UINT32_MAX))
		return broken(r, WAL_DAMAGE_SHORT, off, true);
	if (r->i + 1 == r->chain.n_known)
		return broken(r, WAL_DAMAGE_FRAME, off, false);
	if (r->follows && l->cut != UINT32_MAX &&
		(r->sequence != l->cut_sequence || r->crc != l->cut_crc))
		return broken(r, WAL_DAMAGE_CHAIN, off, true);
	next_link(r);
	return GO_ON;
}

/* One step: loads, reads a frame, or goes to the next link. */
static enum next step(struct reader *r)
{
	if (!r->loaded) {
		enum next next = load(r);
		if (next == OVER || !r->loaded || r->block)
			return next;
	}
	uint32_t n = r->bytes.n_blocks, cut = link_of(r)->cut, end = n < cut ? n : cut;
	if (r->block < end)
		return read_frame(r, end);
	return read_end(r, end);
}

static int sync_all(const struct wal_read_opts *o)
{
	for (size_t i = 0; o->sync && i < o->n_files; i++)
		if (!o->files[i].map && fdatasync(o->files[i].fd) != 0)
			return err_new(-errno);
	return 0;
}

/* No begin is right: there is no log yet, or its first begin is torn, or all of it is damaged. */
static void read_nothing(struct reader *r)
{
	struct wal_after a = {0};

	r->i = 0;
	r->stopped = wal_after_look(&r->chain, 0, NULL, 0, 1, true, &a);
	if (r->stopped < 0)
		return;
	r->ret->torn = a.any;
	r->ret->torn_frames = a.frames;
	if (!a.begun && !is_needed(r->o, r->o->durable_lsn))
		return;
	(void)tell(r,
		&(struct wal_damage){.kind = WAL_DAMAGE_BEGIN,
			.segment = a.any ? r->chain.link[a.next_link].number
	                                 : r->ret->next_number - 1,
			.sequence = 1,
			.next_lsn = a.next_lsn,
			.end_lsn = a.end_lsn,
			.lost_frames = a.any ? a.next_sequence - 1 : 1,
			.after_frames = a.frames,
			.after_records = a.records},
		&a);
}

int wal_read(const struct wal_read_opts *opts, struct wal_read_result *ret)
{
	struct reader r = {.o = opts, .ret = ret};

	*ret = (struct wal_read_result){.next_number = 1};
	for (size_t i = 0; i < opts->n_files; i++)
		if (opts->files[i].number >= ret->next_number)
			ret->next_number = opts->files[i].number + 1;
	int x = sync_all(opts);
	if (x == 0)
		x = wal_chain_make(opts, &r.chain);
	if (x < 0)
		return err_fwd(x);
	ret->found = r.chain.found;
	memcpy(ret->identity, r.chain.identity, sizeof ret->identity);
	for (size_t i = 0; i < r.chain.n_known; i++)
		r.all_bytes += r.chain.link[i].file ? r.chain.link[i].file->bytes : 0;
	if (r.chain.n_known) {
		ret->first_segment = r.chain.link[0].number;
		while (r.i < r.chain.n_known && step(&r) == GO_ON && !r.stopped)
			;
	} else {
		read_nothing(&r);
	}
	wal_bytes_free(&r.bytes);
	wal_chain_free(&r.chain);
	return r.stopped < 0 ? err_fwd(r.stopped) : r.stopped;
}

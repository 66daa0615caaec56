/* wal_append.c - records into staging: see wal.h, and wal_stage.h for the order of stores. */
#include <errno.h>
#include <string.h>
#include "atomic.h"
#include "base/check.h"
#include "base/err.h"
#include "crc.h"
#include "step.h"
#include "wal_frame.h"
#include "wal_i.h"

uint32_t wal_frame_blocks_max(const struct wal *w)
{
	uint64_t quarter = w->s->n_blocks / 4, segment = w->opts.segment_bytes / WAL_BLOCK - 1;

	return (uint32_t)(quarter < segment ? quarter : segment);
}

uint64_t wal_record_max(const struct wal *w)
{
	return (uint64_t)wal_frame_blocks_max(w) * WAL_BLOCK - WAL_SECTOR;
}

/* The last frame takes no more if it was handed over. */
static bool has_open(const struct wal *w) { return w->sent < w->tail; }

/* Blocks that are free in one piece for a frame that begins at `at`: up to the ring's end, or to the oldest frame. */
static uint64_t free_from(const struct wal *w, uint64_t at)
{
	uint64_t oldest = wal_stage_at(w->s, w->head)->at;

	return w->head == w->tail || at >= oldest ? w->s->n_blocks - at : oldest - at;
}

static bool fits_open(const struct wal *w, uint64_t bytes)
{
	const struct wal_stage_frame *f = wal_stage_at(w->s, w->tail - 1);
	uint32_t blocks = wal_blocks_of(shm_load_rlx(&f->bytes) + bytes);

	return blocks <= WAL_FRAME_TARGET_BLOCKS && blocks <= wal_frame_blocks_max(w) &&
	       blocks <= free_from(w, f->at);
}

/* Where a new frame of so many blocks can begin; false: nowhere now. */
static bool place_new(const struct wal *w, uint32_t blocks, uint64_t *ret_at)
{
	if (w->tail - w->head >= WAL_STAGE_FRAMES - 1)
		return false;
	if (w->tail == w->head) {
		*ret_at = 0;
		return true;
	}
	const struct wal_stage_frame *last = wal_stage_at(w->s, w->tail - 1);
	uint64_t oldest = wal_stage_at(w->s, w->head)->at;
	uint64_t next = last->at + wal_blocks_of(shm_load_rlx(&last->bytes));
	bool wrapped = next <= oldest;

	if (!wrapped && blocks > w->s->n_blocks - next) {
		next = 0;
		wrapped = true;
	}
	if (wrapped && blocks > oldest - next)
		return false;
	*ret_at = next;
	return true;
}

/* 0: *ret_new, *ret_at say where; WAL_FULL; -EMSGSIZE. */
static int place(const struct wal *w, uint64_t bytes, bool *ret_new, uint64_t *ret_at)
{
	if (bytes > wal_record_max(w))
		return err_new(-EMSGSIZE);
	*ret_new = !has_open(w) || !fits_open(w, bytes);
	if (*ret_new && !place_new(w, wal_blocks_of(WAL_SECTOR + bytes), ret_at))
		return WAL_FULL;
	return 0;
}

static void open_frame(struct wal *w, uint64_t at)
{
	struct wal_stage_frame *f = wal_stage_at(w->s, w->tail);

	if (MUTANT(716)) /* 716: a frame is there before its length and place are */
		shm_store_rel(&w->s->tail, w->tail + 1); /* rel:wal.tail */
	shm_store_rlx(&f->bytes, WAL_SECTOR);
	f->at = at;
	w->count[w->tail % WAL_STAGE_FRAMES] = (struct wal_count){.opened_ns = w->opts.now_ns()};
	w->tail++;
	shm_store_rel(&w->s->tail, w->tail); /* rel:wal.tail */
	STEP("wal:opened");
}

static void put(uint8_t **at, const void *from, uint64_t bytes)
{
	if (bytes)
		memcpy(*at, from, bytes);
	*at += bytes;
}

/* Sums are taken of what the caller gave, not of what was copied: so a copy that went wrong is found. */
static void write_record(struct wal_record *to, const struct wal_change *c, uint64_t bytes)
{
	static const uint8_t zeroes[8];
	struct wal_record r = {.bytes = (uint32_t)bytes,
		.kind = c->kind,
		.marks = c->marks,
		.key_bytes = c->key_bytes,
		.lsn = c->lsn,
		.store_id = c->store_id,
		.session_id = c->session_id,
		.request = c->request,
		.value_bytes = c->head_bytes + c->tail_bytes,
		.expiry_ns = c->expiry_ns,
		.created_ns = c->created_ns,
		.modified_ns = c->modified_ns,
		.stamp = c->stamp,
		.ttl_ms = c->ttl_ms,
		.flags = c->flags,
		.took_ms = c->took_ms};
	uint64_t padding = bytes - sizeof r - r.key_bytes - r.value_bytes;
	uint8_t *at = (uint8_t *)(to + 1);
	uint32_t crc = shm_crc_bytes(0, &r.bytes, sizeof r.bytes);

	crc = shm_crc_bytes(crc, &r.kind, sizeof r - offsetof(struct wal_record, kind));
	crc = shm_crc_bytes(crc, c->key, c->key_bytes);
	crc = shm_crc_bytes(crc, c->head, c->head_bytes);
	crc = shm_crc_bytes(crc, c->tail, c->tail_bytes);
	r.crc = shm_crc_bytes(crc, zeroes, padding);
	*to = r;
	put(&at, c->key, c->key_bytes);
	put(&at, c->head, c->head_bytes);
	put(&at, c->tail, c->tail_bytes);
	put(&at, zeroes, padding);
}

/* Lengths that no memory has are too long, not a small sum of them. */
static uint64_t bytes_of(uint64_t key_bytes, uint64_t head_bytes, uint64_t tail_bytes)
{
	if (head_bytes > WAL_STAGE_BYTES_MAX || tail_bytes > WAL_STAGE_BYTES_MAX)
		return UINT64_MAX;
	return wal_record_bytes(key_bytes, head_bytes + tail_bytes);
}

int wal_append(struct wal *w, const struct wal_change *c)
{
	uint64_t bytes = bytes_of(c->key_bytes, c->head_bytes, c->tail_bytes), at = 0;
	bool new = false;

	CHECK(!w->unsettled && !w->undecided);
	if (w->failed)
		return WAL_POISONED;
	CHECK(!w->closed);
	if (c->lsn <= w->last_lsn || c->key_bytes > WAL_KEY_BYTES_MAX)
		return err_new(-EINVAL);
	int r = place(w, bytes, &new, &at);
	w->n_full += r == WAL_FULL;
	if (r != 0)
		return err_fwd(r);
	if (new)
		open_frame(w, at);
	struct wal_stage_frame *f = wal_stage_at(w->s, w->tail - 1);
	struct wal_count *n = &w->count[(w->tail - 1) % WAL_STAGE_FRAMES];
	uint64_t used = shm_load_rlx(&f->bytes);

	w->unsettled_at = used;
	shm_store_rlx(&w->s->unsettled, c->lsn);
	if (MUTANT(703)) /* 703: the record counts before it is there */
		shm_store_rlx(&f->bytes, used + bytes);
	STEP("wal:begun");
	write_record((struct wal_record *)(wal_stage_ring(w->s, f->at) + used), c, bytes);
	STEP("wal:written");
	shm_store_rel(&f->bytes, used + bytes); /* rel:wal.bytes */
	STEP("wal:appended");
	n->first_lsn = n->first_lsn ? n->first_lsn : c->lsn;
	n->last_lsn = c->lsn;
	n->n_records++;
	w->before_last_lsn = w->last_lsn;
	w->last_lsn = c->lsn;
	w->unsettled = true;
	return 0;
}

void wal_take_back(struct wal *w)
{
	CHECK(w->unsettled);
	struct wal_stage_frame *f = wal_stage_at(w->s, w->tail - 1);
	struct wal_count *n = &w->count[(w->tail - 1) % WAL_STAGE_FRAMES];

	shm_store_rel(&f->bytes, w->unsettled_at); /* rel:wal.bytes */
	STEP("wal:taken-back");
	n->n_records--;
	n->last_lsn = w->last_lsn = w->before_last_lsn;
	if (w->unsettled_at == WAL_SECTOR)
		shm_store_rel(&w->s->tail, --w->tail); /* rel:wal.tail */
	wal_settle(w);
}

void wal_settle(struct wal *w)
{
	CHECK(w->unsettled);
	w->unsettled = false;
	shm_store_rel(&w->s->unsettled, 0); /* rel:wal.unsettled */
	STEP("wal:settled");
}

int wal_room(const struct wal *w, uint64_t key_bytes, uint64_t value_bytes)
{
	uint64_t at = 0;
	bool new = false;

	if (w->failed)
		return WAL_POISONED;
	return err_fwd(place(w, bytes_of(key_bytes, value_bytes, 0), &new, &at));
}

/* Each frame may waste the rest of its last block, and as much as the longest record that did not fit; and so
 * may the ring at its end. */
int wal_room_for(const struct wal *w, uint32_t n, uint64_t bytes_of_all, uint64_t bytes_of_longest)
{
	uint64_t target = (uint64_t)WAL_FRAME_TARGET_BLOCKS * WAL_BLOCK, max = wal_record_max(w);
	uint64_t least = target < max ? target : max;
	uint64_t waste = bytes_of_longest + WAL_SECTOR + WAL_BLOCK;

	if (w->failed)
		return WAL_POISONED;
	if (bytes_of_longest > max || bytes_of_all > w->s->n_blocks * WAL_BLOCK)
		return err_new(-EMSGSIZE);
	uint64_t useful = least > 2 * waste  ? least - waste
	                  : bytes_of_longest ? bytes_of_longest
	                                     : 1;
	uint64_t n_frames = bytes_of_all / useful + 2;
	n_frames = n_frames < n ? n_frames : n;
	uint64_t need = wal_blocks_of(bytes_of_all + (n_frames + 1) * waste);
	if (need > w->s->n_blocks || n_frames >= WAL_STAGE_FRAMES - 1)
		return err_new(-EMSGSIZE);
	uint64_t used = 0;
	if (w->head != w->tail) {
		const struct wal_stage_frame *last = wal_stage_at(w->s, w->tail - 1);
		uint64_t oldest = wal_stage_at(w->s, w->head)->at;
		uint64_t next = last->at + wal_blocks_of(shm_load_rlx(&last->bytes));
		used = next > oldest ? next - oldest : w->s->n_blocks - oldest + next;
	}
	if (w->tail - w->head + n_frames >= WAL_STAGE_FRAMES - 1)
		return WAL_FULL;
	return need <= w->s->n_blocks - used ? 0 : WAL_FULL;
}

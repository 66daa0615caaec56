/* wal_stage.c - see wal_stage.h. */
#include "wal_stage.h"
#include <string.h>
#include "atomic.h"
#include "base/err.h"
#include "step.h"
#include "wal_frame.h"

int wal_stage_sum(
	const struct wal_stage *s, uint64_t n, uint64_t after_lsn, struct wal_stage_sum *ret)
{
	const struct wal_stage_frame *f = &s->frame[n % WAL_STAGE_FRAMES];
	uint32_t bytes = (uint32_t)shm_load_acq(&f->bytes); /* acq:wal.bytes */
	const uint8_t *at = (const uint8_t *)s + WAL_STAGE_RING_OFF + f->at * WAL_BLOCK;
	struct wal_stage_sum sum = {.last_lsn = after_lsn};

	for (uint32_t off = WAL_SECTOR; off < bytes; off += sum.last_bytes) {
		const struct wal_record *r = (const struct wal_record *)(at + off);
		if (wal_record_check(at, off, bytes) < 0 || r->lsn <= sum.last_lsn)
			return err_new(-EBADMSG);
		sum.first_lsn = sum.first_lsn ? sum.first_lsn : r->lsn;
		sum.last_lsn = r->lsn;
		sum.last_bytes = r->bytes;
		sum.n_records++;
	}
	*ret = sum;
	return 0;
}

void wal_stage_format(const struct wal_opts *opts, const struct wal_end *end)
{
	struct wal_stage *s = opts->stage;

	shm_store_rel(&s->magic, 0); /* rel:wal.magic */
	memset((uint8_t *)s + sizeof s->magic, 0, sizeof *s - sizeof s->magic);
	s->major = WAL_FORMAT_MAJOR;
	s->n_frames = WAL_STAGE_FRAMES;
	s->stage_bytes = opts->stage_bytes;
	s->n_blocks = (opts->stage_bytes - WAL_STAGE_RING_OFF) / WAL_BLOCK;
	memcpy(s->identity, opts->identity, sizeof s->identity);
	s->frame[0] = (struct wal_stage_frame){.segment = end->segment,
		.block = end->block,
		.sequence = end->sequence,
		.last_lsn = end->lsn,
		.crc = end->crc};
	shm_store_rel(&s->head, 1);                /* rel:wal.head */
	shm_store_rel(&s->tail, 1);                /* rel:wal.tail */
	shm_store_rel(&s->magic, WAL_STAGE_MAGIC); /* rel:wal.magic */
}

void wal_stage_end(struct wal_stage *s, struct wal_end *ret)
{
	const struct wal_stage_frame *f = wal_stage_at(
		s, shm_load_acq(&s->head) - 1); /* acq:wal.head */

	*ret = (struct wal_end){.segment = f->segment,
		.block = f->block + f->n_blocks,
		.crc = f->crc,
		.sequence = f->sequence,
		.lsn = f->last_lsn};
}

/* The frames lie one behind the other in the ring, and do not overlap. */
static bool frames_fit(struct wal_stage *s, uint64_t head, uint64_t tail)
{
	uint64_t first = wal_stage_at(s, head)->at, next = first;
	bool wrapped = false;

	for (uint64_t n = head; n < tail; n++) {
		const struct wal_stage_frame *f = wal_stage_at(s, n);
		uint64_t bytes = shm_load_acq(&f->bytes); /* acq:wal.bytes */
		uint64_t blocks = (bytes + WAL_BLOCK - 1) / WAL_BLOCK;
		if (bytes < WAL_SECTOR || bytes > s->n_blocks * WAL_BLOCK || f->at >= s->n_blocks ||
			blocks > s->n_blocks - f->at)
			return false;
		if (f->at < next) {
			if (wrapped)
				return false;
			wrapped = true;
		}
		next = f->at + blocks;
		if (wrapped && next > first)
			return false;
	}
	return true;
}

int wal_stage_check(const struct wal_opts *opts)
{
	struct wal_stage *s = opts->stage;

	if (shm_load_acq(&s->magic) != WAL_STAGE_MAGIC || /* acq:wal.magic */
		s->major != WAL_FORMAT_MAJOR || s->n_frames != WAL_STAGE_FRAMES ||
		s->stage_bytes != opts->stage_bytes ||
		s->n_blocks != (opts->stage_bytes - WAL_STAGE_RING_OFF) / WAL_BLOCK ||
		memcmp(s->identity, opts->identity, sizeof s->identity) != 0)
		return WAL_NO_STAGE;
	uint64_t head = shm_load_acq(&s->head); /* acq:wal.head */
	uint64_t tail = shm_load_acq(&s->tail); /* acq:wal.tail */
	if (head < 1 || tail < head || tail - head >= WAL_STAGE_FRAMES)
		return WAL_NO_STAGE;
	return frames_fit(s, head, tail) ? 0 : WAL_NO_STAGE;
}

/* wal_frame.c - see wal_frame.h. */
#include "wal_frame.h"
#include <string.h>
#include "base/err.h"
#include "crc.h"
#include "step.h"

uint32_t wal_crc_seed(const uint8_t *identity, uint64_t segment, uint32_t block)
{
	struct {
		uint8_t identity[WAL_IDENTITY_BYTES];
		uint64_t segment;
		uint64_t block;
	} place = {.segment = segment, .block = block};

	if (MUTANT(701)) /* 701: frames of another log fit */
		return shm_crc_bytes(0, &place.segment, sizeof place.segment);
	memcpy(place.identity, identity, sizeof place.identity);
	return shm_crc_bytes(0, &place, sizeof place);
}

uint32_t wal_record_crc(const struct wal_record *r)
{
	uint32_t crc = shm_crc_bytes(0, &r->bytes, sizeof r->bytes);

	return shm_crc_bytes(crc, &r->kind, r->bytes - offsetof(struct wal_record, kind));
}

static uint32_t sector_crc(const struct wal_frame *f, const uint8_t *identity)
{
	uint32_t crc = wal_crc_seed(identity, f->segment, f->block);

	crc = shm_crc_bytes(crc, &f->magic, sizeof f->magic);
	return shm_crc_bytes(crc, &f->flags, sizeof *f - offsetof(struct wal_frame, flags));
}

static uint32_t unit_crc(const struct wal_frame *f, const uint8_t *identity, uint32_t unit)
{
	uint64_t all = (uint64_t)f->n_blocks * WAL_BLOCK;
	uint64_t from = (uint64_t)unit * WAL_BLOCK << f->unit_shift;
	uint64_t to = from + ((uint64_t)WAL_BLOCK << f->unit_shift);
	uint32_t seed = wal_crc_seed(identity, f->segment, f->block + (unit << f->unit_shift));

	from = unit ? from : WAL_SECTOR;
	to = to < all ? to : all;
	return shm_crc_bytes(seed, (const uint8_t *)f + from, to - from);
}

static uint32_t units_of(uint32_t n_blocks, uint32_t shift)
{
	return (uint32_t)(((uint64_t)n_blocks + (1ull << shift) - 1) >> shift);
}

void wal_frame_seal(void *at, const uint8_t *identity, uint64_t segment, uint32_t block)
{
	struct wal_frame *f = at;
	uint32_t n_blocks = (f->bytes + WAL_BLOCK - 1) / WAL_BLOCK, shift = 0;

	memset((uint8_t *)at + f->bytes, 0, (size_t)n_blocks * WAL_BLOCK - f->bytes);
	while (units_of(n_blocks, shift) > WAL_UNITS_MAX)
		shift++;
	f->magic = WAL_FRAME_MAGIC;
	f->segment = segment;
	f->block = block;
	f->n_blocks = n_blocks;
	f->unit_shift = shift;
	f->n_units = units_of(n_blocks, shift);
	memset(f->unit, 0, sizeof f->unit);
	memset(f->pad0, 0, sizeof f->pad0);
	for (uint32_t i = 0; i < f->n_units; i++)
		f->unit[i] = unit_crc(f, identity, i);
	f->crc = sector_crc(f, identity);
}

int wal_frame_check(const void *at, const uint8_t *identity, uint64_t segment, uint32_t block,
	uint32_t blocks_left)
{
	const struct wal_frame *f = at;

	if (f->magic != WAL_FRAME_MAGIC || f->segment != segment || f->block != block ||
		f->n_blocks == 0 || f->n_blocks > blocks_left || f->unit_shift > 31 ||
		f->n_units == 0 || f->n_units > WAL_UNITS_MAX ||
		f->n_units != units_of(f->n_blocks, f->unit_shift) || f->bytes < WAL_SECTOR ||
		(f->bytes + (uint64_t)WAL_BLOCK - 1) / WAL_BLOCK != f->n_blocks ||
		f->durable_sequence >= f->sequence || f->first_lsn > f->last_lsn)
		return err_new(-EBADMSG);
	if (f->crc != sector_crc(f, identity))
		return err_new(-EBADMSG);
	return 0;
}

uint32_t wal_frame_bad_unit(const void *at, const uint8_t *identity)
{
	const struct wal_frame *f = at;
	uint32_t i = 0;

	if (MUTANT(702)) /* 702: what a frame holds is not looked at */
		return f->n_units;
	while (i < f->n_units && f->unit[i] == unit_crc(f, identity, i))
		i++;
	return i;
}

int wal_record_check(const uint8_t *frame, uint32_t off, uint32_t bytes)
{
	const struct wal_record *r = (const struct wal_record *)(frame + off);

	if (off % 8 || off > bytes || bytes - off < sizeof *r)
		return err_new(-EBADMSG);
	if (r->bytes % 8 || r->bytes < sizeof *r ||
		(r->bytes > bytes - off && !MUTANT(715)) || /* 715: the length is believed */
		r->key_bytes > WAL_KEY_BYTES_MAX || r->value_bytes > r->bytes ||
		wal_record_bytes(r->key_bytes, r->value_bytes) != r->bytes)
		return err_new(-EBADMSG);
	return r->crc == wal_record_crc(r) ? 0 : err_new(-EBADMSG);
}
